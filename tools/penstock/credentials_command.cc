#include "tools/penstock/credentials_command.h"

#include <simdjson.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "tools/penstock/json_text.h"
#include "tools/penstock/node_client.h"

namespace penstock {

namespace {

constexpr std::string_view path = "/v1/credentials";

struct Preset {
    std::string_view name;
    std::string_view actions;  // JSON
    bool of_streams;
};
constexpr std::array presets{
    Preset{"admin", R"("*")", false},
    Preset{"read",
           R"(["kinesis:Describe*","kinesis:Get*","kinesis:List*","kinesis:SubscribeToShard"])",
           true},
    Preset{"write",
           R"(["kinesis:PutRecord","kinesis:PutRecords","kinesis:DescribeStreamSummary",)"
           R"("kinesis:ListShards"])",
           true},
    Preset{"metrics", R"(["penstock:GetMetrics","penstock:GetReplicas"])", false},
};

std::string text_of(const simdjson::dom::object& object, std::string_view key) {
    std::string_view text;
    return object.at_key(key).get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

std::string time_of(const simdjson::dom::object& object, std::string_view key) {
    std::int64_t ms = 0;
    if (object.at_key(key).get(ms) != simdjson::SUCCESS) {
        return "-";
    }
    const time_t seconds = ms / 1000;
    tm parts{};
    gmtime_r(&seconds, &parts);
    std::array<char, 32> text{};
    return {text.data(), strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

struct Request {
    std::string_view method;
    std::string path;
    std::string body;
};

Request request_of(const CredentialsArguments& arguments, const std::string& policy) {
    const std::string named = std::string(path) + "/" + arguments.name;
    switch (arguments.action) {
        case CredentialsAction::make:
            return {"POST", std::string(path),
                    "{\"name\":" + json_text(arguments.name) + ",\"policy\":" + json_text(policy) +
                        "}"};
        case CredentialsAction::list:
            return {"GET", std::string(path), ""};
        case CredentialsAction::show:
            return {"GET", named, ""};
        case CredentialsAction::rotate:
            return {"POST", named + "/rotate",
                    "{\"keep_old_s\":" + std::to_string(arguments.keep_old_s) + "}"};
        case CredentialsAction::revoke:
            return {"DELETE", named, ""};
        case CredentialsAction::policy:
            return {"PUT", named + "/policy", policy};
        case CredentialsAction::session:
            return {"POST", named + "/sessions",
                    "{\"seconds\":" + std::to_string(arguments.seconds) +
                        (policy.empty() ? "" : ",\"policy\":" + json_text(policy)) + "}"};
    }
    return {};
}

// None of the characters that keys, tokens and regions are made of means anything to a shell.
bool is_plain(std::string_view text) {
    return !text.empty() && text.find_first_not_of(
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "+/=_.-") == std::string_view::npos;
}

// False, and nothing is printed, when the lines would not be safe to evaluate: what answered is no
// node then.
bool print_key(const simdjson::dom::object& made, bool env, std::ostream& out, std::ostream& err) {
    const std::string token = text_of(made, "session_token");
    if (env) {
        for (const std::string_view member :
             {"access_key_id", "secret_access_key", "session_token", "region"}) {
            const std::string text = text_of(made, member);
            if (!is_plain(text) && (member != "session_token" || !text.empty())) {
                err << "penstock credentials: --env: the answer's " << member
                    << (text.empty() ? " is missing" : " has a character that none has")
                    << "; expected letters, digits and +/=_.-; look what listens at --http and "
                       "--local-socket\n";
                return false;
            }
        }
        out << "export AWS_ACCESS_KEY_ID=" << text_of(made, "access_key_id") << '\n'
            << "export AWS_SECRET_ACCESS_KEY=" << text_of(made, "secret_access_key") << '\n';
        if (token.empty()) {
            out << "unset AWS_SESSION_TOKEN\n";
        } else {
            out << "export AWS_SESSION_TOKEN=" << token << '\n';
        }
        out << "export AWS_DEFAULT_REGION=" << text_of(made, "region") << '\n';
        return true;
    }
    out << "credential         " << text_of(made, "name") << '\n'
        << "access key id      " << text_of(made, "access_key_id") << '\n'
        << "secret access key  " << text_of(made, "secret_access_key") << '\n';
    if (!token.empty()) {
        out << "session token      " << token << '\n'
            << "ends               " << time_of(made, "expires_ms") << '\n';
    }
    out << "region             " << text_of(made, "region") << '\n'
        << "The secret is shown this once.\n";
    return true;
}

void print_list(const simdjson::dom::array& credentials, std::ostream& out) {
    std::vector<std::array<std::string, 4>> rows{{"CREDENTIAL", "ACCESS KEY ID", "MADE", "ENDS"}};
    for (const simdjson::dom::object credential : credentials) {
        simdjson::dom::array keys;
        if (credential.at_key("keys").get(keys) != simdjson::SUCCESS) {
            continue;
        }
        for (const simdjson::dom::object key : keys) {
            rows.push_back({text_of(credential, "name"), text_of(key, "access_key_id"),
                            time_of(key, "created_ms"), time_of(key, "expires_ms")});
        }
    }
    std::array<std::size_t, 4> widths{};
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], row[i].size());
        }
    }
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            line.append(i + 1 < row.size() ? widths[i] + 2 - row[i].size() : 0, ' ');
        }
        out << line << '\n';
    }
}

}  // namespace

bool takes_streams(std::string_view policy) {
    return std::ranges::any_of(
        presets, [&](const Preset& preset) { return preset.of_streams && preset.name == policy; });
}

bool policy_text(const std::string& word, const std::string& streams, std::string& text,
                 std::string& why) {
    const std::string stream = "arn:aws:kinesis:*:*:stream/" + streams;
    for (const Preset& preset : presets) {
        if (preset.name == word) {
            text = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":" +
                   std::string(preset.actions) + ",\"Resource\":" +
                   (preset.of_streams
                        ? "[" + json_text(stream) + "," + json_text(stream + "/consumer/*") + "]"
                        : std::string("\"*\"")) +
                   "}]}";
            return true;
        }
    }
    std::ifstream file(word, std::ios::binary);
    std::ostringstream content;
    if (!file || !(content << file.rdbuf())) {
        why = "--policy: found '" + word +
              "'; expected admin, read, write, metrics, or a file with a policy";
        return false;
    }
    text = content.str();
    return true;
}

int run_credentials(const CredentialsArguments& arguments, std::ostream& out, std::ostream& err) {
    std::string why;
    std::string policy;
    if (!arguments.policy.empty() &&
        !policy_text(arguments.policy, arguments.streams, policy, why)) {
        err << "penstock credentials: " << why << '\n';
        return 1;
    }
    const Request request = request_of(arguments, policy);
    NodeClient client(arguments.http, 10'000, arguments.local_socket);
    const auto answer = client.ask(request.method, request.path, request.body, why);
    if (!answer) {
        err << "penstock credentials: " << why << '\n';
        return 1;
    }
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    const bool is_object = parser.parse(answer->body).get(object) == simdjson::SUCCESS;
    if (answer->status < 200 || answer->status > 299 || !is_object) {
        std::string message = is_object ? text_of(object, "message") : "";
        if (message.empty()) {
            message = "the node answered " + std::to_string(answer->status);
        }
        if (answer->status == 403) {
            while (message.ends_with('.')) {
                message.pop_back();
            }
            message +=
                "; run this as root or as the node's user on its machine, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a credential that may";
        }
        err << "penstock credentials: " << message << '\n';
        return 1;
    }
    if (arguments.json || arguments.action == CredentialsAction::show) {
        out << answer->body << '\n';
        return 0;
    }
    switch (arguments.action) {
        case CredentialsAction::make:
        case CredentialsAction::rotate:
        case CredentialsAction::session:
            if (!print_key(object, arguments.env, out, err)) {
                return 1;
            }
            break;
        case CredentialsAction::list: {
            simdjson::dom::array credentials;
            if (object.at_key("credentials").get(credentials) == simdjson::SUCCESS) {
                print_list(credentials, out);
            }
            break;
        }
        case CredentialsAction::revoke:
            out << "credential " << arguments.name << ": revoked\n";
            break;
        case CredentialsAction::policy:
            out << "credential " << arguments.name << ": has the new policy\n";
            break;
        case CredentialsAction::show:
            break;
    }
    return 0;
}

}  // namespace penstock
