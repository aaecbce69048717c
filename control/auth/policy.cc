#include "control/auth/policy.h"

#include <simdjson.h>

#include <algorithm>

#include "control/http/text.h"

namespace penstock::auth {

namespace {

constexpr std::size_t statements_max = 100;
constexpr std::size_t pattern_bytes_max = 2048;

using simdjson::dom::element;

constexpr std::size_t account_digits = 12;
constexpr std::string_view arn_prefix = "arn:aws:iam::";
constexpr std::string_view root_suffix = ":root";
constexpr std::string_view user_prefix = ":user/";

// arn:aws:iam::000000000000:root, or the account's number alone.
bool is_account(std::string_view principal, std::string_view account) noexcept {
    return principal == account ||
           (principal.size() == arn_prefix.size() + account.size() + root_suffix.size() &&
            principal.starts_with(arn_prefix) && principal.ends_with(root_suffix) &&
            principal.substr(arn_prefix.size(), account.size()) == account);
}

// Whether means() can ever be true of it, on a node of some account. There are no roles here, and
// no patterns: AWS takes none either.
bool can_be_meant(std::string_view principal) noexcept {
    if (principal == "*") {
        return true;
    }
    const bool is_arn = principal.starts_with(arn_prefix);
    std::string_view rest = is_arn ? principal.substr(arn_prefix.size()) : principal;
    const std::string_view account = rest.substr(0, account_digits);
    rest.remove_prefix(account.size());
    if (account.size() != account_digits ||
        !std::all_of(account.begin(), account.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        return false;
    }
    if (!is_arn || rest == root_suffix) {
        return is_arn || rest.empty();
    }
    return rest.starts_with(user_prefix) && is_credential_name(rest.substr(user_prefix.size()));
}

}  // namespace

bool is_credential_name(std::string_view name) noexcept {
    return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
        return http::is_letter_or_digit(c) || c == '_' || c == '.' || c == '-';
    });
}

bool matches(std::string_view pattern, std::string_view text, bool ignoring_case) noexcept {
    // The last '*' seen takes one character more each time that what follows does not fit.
    std::size_t p = 0;
    std::size_t t = 0;
    std::size_t star = std::string_view::npos;
    std::size_t star_text = 0;
    while (t < text.size()) {
        const bool same =
            p < pattern.size() && pattern[p] != '*' &&
            (pattern[p] == '?' || pattern[p] == text[t] ||
             (ignoring_case && http::to_lower(pattern[p]) == http::to_lower(text[t])));
        if (same) {
            ++p;
            ++t;
        } else if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            star_text = t;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*') {
        ++p;
    }
    return p == pattern.size();
}

// Reads one document; problem() says what is wrong with it.
class PolicyReader {
public:
    explicit PolicyReader(Policy& out) : out_(out) {}
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

    bool read(std::string_view json) {
        if (json.size() > policy_bytes_max) {
            return refuse("found " + std::to_string(json.size()) + " bytes; at most " +
                          std::to_string(policy_bytes_max) + " are accepted");
        }
        simdjson::dom::parser parser;
        simdjson::dom::object document;
        if (parser.parse(json.data(), json.size()).get(document) != simdjson::SUCCESS) {
            return refuse("expected a JSON object with Version and Statement");
        }
        bool has_statements = false;
        for (const auto& [key, value] : document) {
            std::string_view text;
            if (key == "Version") {
                if (value.get(text) != simdjson::SUCCESS ||
                    (text != "2012-10-17" && text != "2008-10-17")) {
                    return refuse("Version: expected \"2012-10-17\"");
                }
            } else if (key == "Id") {
                if (value.get(text) != simdjson::SUCCESS) {
                    return refuse("Id: expected a text");
                }
            } else if (key == "Statement") {
                has_statements = true;
                if (!read_statements(value)) {
                    return false;
                }
            } else {
                return refuse("found '" + std::string(key) + "'; expected Version and Statement");
            }
        }
        return has_statements || refuse("Statement: not given; expected a list of statements");
    }

private:
    [[nodiscard]] bool is_of_resource() const noexcept {
        return out_.kind_ != Policy::Kind::of_credential;
    }

    bool refuse(std::string problem) {
        problem_ = std::move(problem);
        return false;
    }

    bool read_statements(element value) {
        simdjson::dom::array list;
        if (value.get(list) != simdjson::SUCCESS) {
            return read_statement(value);  // one alone needs no list
        }
        for (const element item : list) {
            if (!read_statement(item)) {
                return false;
            }
        }
        return true;
    }

    bool read_statement(element value) {
        const std::string where = "Statement " + std::to_string(out_.statements_.size() + 1) + ": ";
        if (out_.statements_.size() == statements_max) {
            return refuse("Statement: found more than " + std::to_string(statements_max));
        }
        simdjson::dom::object object;
        if (value.get(object) != simdjson::SUCCESS) {
            return refuse(where + "expected a JSON object");
        }
        Policy::Statement statement;
        bool has_effect = false;
        for (const auto& [key, inner] : object) {
            std::string_view text;
            if (key == "Sid") {
                if (inner.get(text) != simdjson::SUCCESS) {
                    return refuse(where + "Sid: expected a text");
                }
            } else if (key == "Effect") {
                if (inner.get(text) != simdjson::SUCCESS || (text != "Allow" && text != "Deny")) {
                    return refuse(where + "Effect: expected Allow or Deny");
                }
                statement.allows = text == "Allow";
                has_effect = true;
            } else if (key == "Action" || key == "NotAction") {
                statement.not_actions = key == "NotAction";
                if (!read_patterns(where + std::string(key), inner, statement.actions)) {
                    return false;
                }
            } else if (key == "Resource" || key == "NotResource") {
                statement.not_resources = key == "NotResource";
                if (!read_patterns(where + std::string(key), inner, statement.resources)) {
                    return false;
                }
            } else if (key == "Principal" && is_of_resource()) {
                if (!read_principal(where, inner, statement.principals)) {
                    return false;
                }
            } else {
                return refuse(where + "found '" + std::string(key) +
                              "', which is not supported; expected Effect, Action or NotAction, "
                              "Resource or NotResource" +
                              (is_of_resource() ? ", Principal" : ""));
            }
        }
        if (!has_effect || statement.actions.empty() || statement.resources.empty()) {
            return refuse(where + "expected Effect, Action or NotAction, Resource or NotResource");
        }
        if (is_of_resource() && statement.principals.empty()) {
            return refuse(where + "Principal: not given; expected \"*\" or {\"AWS\": [...]}");
        }
        out_.statements_.push_back(std::move(statement));
        return true;
    }

    // A text, or a list of texts; given once.
    bool read_patterns(const std::string& where, element value, std::vector<std::string>& out) {
        if (!out.empty()) {
            return refuse(where + ": found twice, or beside its opposite");
        }
        simdjson::dom::array list;
        if (value.get(list) != simdjson::SUCCESS) {
            return read_pattern(where, value, out);
        }
        for (const element item : list) {
            if (!read_pattern(where, item, out)) {
                return false;
            }
        }
        return !out.empty() || refuse(where + ": found an empty list");
    }

    bool read_pattern(const std::string& where, element value, std::vector<std::string>& out) {
        std::string_view text;
        if (value.get(text) != simdjson::SUCCESS || text.empty() ||
            text.size() > pattern_bytes_max) {
            return refuse(where + ": expected texts of 1 to " + std::to_string(pattern_bytes_max) +
                          " bytes");
        }
        out.emplace_back(text);
        return true;
    }

    bool read_principal(const std::string& where, element value, std::vector<std::string>& out) {
        std::string_view text;
        if (value.get(text) == simdjson::SUCCESS) {
            return text == "*" ? read_patterns(where + "Principal", value, out)
                               : refuse(where + "Principal: expected \"*\" or {\"AWS\": [...]}");
        }
        simdjson::dom::object object;
        if (value.get(object) != simdjson::SUCCESS) {
            return refuse(where + "Principal: expected \"*\" or {\"AWS\": [...]}");
        }
        for (const auto& [key, inner] : object) {
            if (key != "AWS") {
                return refuse(where + "Principal: found '" + std::string(key) +
                              "', which is not supported; expected AWS");
            }
            if (!read_patterns(where + "Principal", inner, out)) {
                return false;
            }
        }
        const auto nobody = std::find_if_not(out.begin(), out.end(), can_be_meant);
        return nobody == out.end() || out_.kind_ == Policy::Kind::of_resource_kept ||
               refuse(where + "Principal: found '" + http::shown(*nobody) +
                      "', which nobody here can be; expected \"*\", an account (its 12 digits, or "
                      "arn:aws:iam::ACCOUNT:root) or arn:aws:iam::ACCOUNT:user/NAME with a "
                      "credential's name");
    }

    Policy& out_;
    std::string problem_;
};

std::expected<Policy, std::string> Policy::parse(std::string_view json, Kind kind) {
    Policy policy;
    policy.kind_ = kind;
    policy.json_ = json;
    PolicyReader reader(policy);
    if (!reader.read(json)) {
        return std::unexpected(reader.problem());
    }
    return policy;
}

bool Policy::Statement::means(const Asker& asker) const noexcept {
    return std::any_of(principals.begin(), principals.end(), [&](const std::string& principal) {
        return principal == "*" || principal == asker.arn ||
               (!allows && is_account(principal, asker.account));
    });
}

bool Policy::Statement::covers(std::string_view action, std::string_view resource,
                               const Asker& asker) const noexcept {
    const auto any = [](const std::vector<std::string>& patterns, std::string_view text,
                        bool ignoring_case) {
        return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
            return matches(pattern, text, ignoring_case);
        });
    };
    return any(actions, action, true) != not_actions &&
           any(resources, resource, false) != not_resources && (principals.empty() || means(asker));
}

Decision Policy::decide(std::string_view action, std::string_view resource,
                        const Asker& asker) const noexcept {
    Decision decision = Decision::none;
    for (const Statement& statement : statements_) {
        if (statement.covers(action, resource, asker)) {
            if (!statement.allows) {
                return Decision::deny;
            }
            decision = Decision::allow;
        }
    }
    return decision;
}

}  // namespace penstock::auth
