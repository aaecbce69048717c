// docs/kinesis-parameters.md held against the code: every operation and parameter it names, in a
// wrong type, missing, and beyond each of its constraints.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

using nlohmann::json;

// Set by meson.
const std::filesystem::path source_root = [] {
    const char* root = std::getenv("PENSTOCK_SOURCE_ROOT");
    return root == nullptr ? "." : root;
}();

struct Constraint {
    std::optional<std::int64_t> min;
    std::optional<std::int64_t> max;
    std::string pattern;
    std::vector<std::string> names;
};
struct Parameter {
    std::string path;  // "StreamModeDetails.StreamMode", "Records[].Data"
    std::string type;
    bool is_required = false;
    Constraint own;
    Constraint of_keys;  // of a list's members as well
    Constraint of_values;
};
struct Row {
    std::string operation;
    std::string tests;
    std::vector<Parameter> parameters;
};

std::vector<std::string> split(const std::string& text, const std::string& at) {
    std::vector<std::string> parts;
    std::size_t from = 0;
    for (std::size_t end = 0; (end = text.find(at, from)) != std::string::npos;
         from = end + at.size()) {
        parts.push_back(text.substr(from, end - from));
    }
    parts.push_back(text.substr(from));
    return parts;
}

std::string trimmed(const std::string& text, const std::string& of = " `") {
    const std::size_t first = text.find_first_not_of(of);
    return first == std::string::npos ? ""
                                      : text.substr(first, text.find_last_not_of(of) - first + 1);
}

// "min=1,max=128,pattern=…" with the pattern last.
Constraint read_constraint(std::string text) {
    Constraint out;
    if (const std::size_t at = text.find("pattern="); at != std::string::npos) {
        out.pattern = text.substr(at + 8);
        text.resize(at);
    }
    for (const std::string& part : split(text, ",")) {
        if (part.starts_with("min=")) {
            out.min = std::stoll(part.substr(4));
        } else if (part.starts_with("max=")) {
            out.max = std::stoll(part.substr(4));
        } else if (part.starts_with("enum=")) {
            out.names = split(part.substr(5), "|");
        }
    }
    return out;
}

std::vector<Row> read_table() {
    std::ifstream file(source_root / "docs" / "kinesis-parameters.md");
    EXPECT_TRUE(file);
    std::vector<Row> rows;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("## ")) {
            rows.push_back({line.substr(3), "", {}});
        } else if (line.starts_with("Tests: ")) {
            rows.back().tests = line.substr(7);
        } else if (line.starts_with("| `")) {
            line = std::regex_replace(line, std::regex(R"(\\\|)"), "\x01");
            std::vector<std::string> cells = split(line, "|");
            Parameter parameter;
            parameter.path = trimmed(cells.at(1));
            parameter.type = trimmed(cells.at(2));
            parameter.is_required = !trimmed(cells.at(3)).empty();
            std::string constraints = trimmed(cells.at(4));
            std::replace(constraints.begin(), constraints.end(), '\x01', '|');
            const auto parts = split(constraints, " of ");
            parameter.own = read_constraint(parts[0]);
            if (parts.size() > 1) {
                const auto inner = split(parts[1], " to ");
                parameter.of_keys = read_constraint(inner[0]);
                parameter.of_values = read_constraint(inner.size() > 1 ? inner[1] : "");
            }
            rows.back().parameters.push_back(std::move(parameter));
        }
    }
    return rows;
}

// What Kinesis calls the parameter: "records.1.member.data".
std::string member_of(const std::string& path) {
    std::string out;
    for (std::string part : split(path, ".")) {
        part[0] = static_cast<char>(std::tolower(part[0]));
        const bool is_list = part.ends_with("[]");
        out += (out.empty() ? "" : ".") + (is_list ? part.substr(0, part.size() - 2) : part);
        out += is_list ? ".1.member" : "";
    }
    return out;
}

// The value where the path says, or what stands around it if there is none.
json body_with(const std::string& path, const std::optional<json>& value) {
    const std::size_t dot = path.find('.');
    const std::string first = path.substr(0, dot);
    if (dot == std::string::npos) {
        return value ? json{{first, *value}} : json::object();
    }
    const json inner = body_with(path.substr(dot + 1), value);
    return first.ends_with("[]") ? json{{first.substr(0, first.size() - 2), json::array({inner})}}
                                 : json{{first, inner}};
}

class Parameters : public ApiTest {
protected:
    struct Error {
        std::string type;
        std::string message;
    };
    Error ask(const std::string& operation, const json& body, bool in_cbor) {
        std::string bytes = body.dump();
        if (in_cbor) {
            bytes.clear();
            json::to_cbor(body, bytes);
        }
        Answer answer = wait(send_raw(
            "POST",
            {{"Content-Type", std::string(in_cbor ? cbor_content_type : json_content_type)},
             {"X-Amz-Target", "Kinesis_20131202." + operation}},
            bytes));
        if (in_cbor && !answer.body.empty()) {
            answer.json = json::from_cbor(answer.body, true, false);
        }
        return {answer.type(), answer.message()};
    }
    void breach(const std::string& operation, const Parameter& parameter,
                const std::optional<json>& value, const std::string& constraint) {
        const json body = body_with(parameter.path, value);
        for (const bool in_cbor : {false, true}) {
            if (in_cbor && parameter.type == "blob") {
                continue;  // JSON's base64 would be a text there
            }
            const Error error = ask(operation, body, in_cbor);
            EXPECT_EQ(error.type, "ValidationException") << operation << " " << parameter.path;
            const std::string wanted = " at '" + member_of(parameter.path) +
                                       "' failed to satisfy constraint: " + constraint;
            EXPECT_NE(error.message.find(wanted), std::string::npos)
                << operation << " " << parameter.path << ": " << wanted << "\n"
                << error.message.substr(0, 1000);
            if (!value) {
                EXPECT_NE(error.message.find("Value null" + wanted), std::string::npos);
            }
        }
    }

    void check_lengths(const std::string& operation, const Parameter& parameter) {
        const auto check = [&](std::int64_t length, const std::string& words, std::int64_t bound) {
            const auto size = static_cast<std::size_t>(length);
            json value = std::string(size, 'a');
            if (parameter.type == "blob") {
                value = base64(std::string(size, 'a'));
            } else if (parameter.type == "list of strings") {
                value = std::vector<std::string>(
                    size, parameter.of_keys.names.empty() ? "a" : parameter.of_keys.names[0]);
            } else if (parameter.type == "list of structures") {
                value = std::vector<json>(size, json::object());
            } else if (parameter.type == "map of strings") {
                value = json::object();
                for (std::size_t i = 0; i < size; ++i) {
                    value["k" + std::to_string(i)] = "v";
                }
            }
            breach(
                operation, parameter, value,
                "Member must have length " + words + " than or equal to " + std::to_string(bound));
        };
        if (parameter.own.min.value_or(0) > 0) {
            check(*parameter.own.min - 1, "greater", *parameter.own.min);
        }
        if (parameter.own.max) {
            check(*parameter.own.max + 1, "less", *parameter.own.max);
        }
    }
    void check_values(const std::string& operation, const Parameter& parameter) {
        if (parameter.own.min) {
            breach(operation, parameter, *parameter.own.min - 1,
                   "Member must have value greater than or equal to " +
                       std::to_string(*parameter.own.min));
        }
        if (parameter.own.max) {
            breach(operation, parameter, *parameter.own.max + 1,
                   "Member must have value less than or equal to " +
                       std::to_string(*parameter.own.max));
        }
    }
    void check_parts(const std::string& operation, const Parameter& parameter) {
        const auto between = [](std::int64_t min, std::int64_t max) {
            return "[Member must have length less than or equal to " + std::to_string(max) +
                   ", Member must have length greater than or equal to " + std::to_string(min) +
                   "]";
        };
        const Constraint& keys = parameter.of_keys;
        if (!keys.names.empty()) {
            breach(operation, parameter, json::array({"no such name"}),
                   "Member must satisfy constraint: [Member must satisfy enum value set: [");
        } else if (parameter.type == "list of strings" && keys.max) {
            for (const std::int64_t length : {keys.min.value_or(1) - 1, *keys.max + 1}) {
                breach(operation, parameter,
                       json::array({std::string(static_cast<std::size_t>(length), 'a')}),
                       "Member must satisfy constraint: " + between(*keys.min, *keys.max));
            }
        } else if (parameter.type == "map of strings") {
            for (const std::int64_t length : {*keys.min - 1, *keys.max + 1}) {
                breach(operation, parameter,
                       json{{std::string(static_cast<std::size_t>(length), 'a'), "v"}},
                       "Map keys must satisfy constraint: " + between(*keys.min, *keys.max));
            }
            const std::int64_t longest = *parameter.of_values.max;
            breach(operation, parameter,
                   json{{"k", std::string(static_cast<std::size_t>(longest) + 1, 'a')}},
                   "Map value must satisfy constraint: " + between(0, longest));
        }
    }
    void check_type(const std::string& operation, const Parameter& parameter) {
        const json wrong = parameter.type == "integer" || parameter.type == "long" ||
                                   parameter.type == "boolean" || parameter.type == "timestamp"
                               ? json("x")
                               : json(1);
        for (const bool in_cbor : {false, true}) {
            EXPECT_EQ(ask(operation, body_with(parameter.path, wrong), in_cbor).type,
                      "SerializationException")
                << operation << " does not read " << parameter.path;
        }
    }
    void check(const std::string& operation, const Parameter& parameter) {
        check_type(operation, parameter);
        if (parameter.is_required) {
            breach(operation, parameter, std::nullopt, "Member must not be null");
        }
        parameter.type == "integer" ? check_values(operation, parameter)
                                    : check_lengths(operation, parameter);
        check_parts(operation, parameter);
        if (!parameter.own.pattern.empty()) {
            breach(operation, parameter, "no, not this",
                   "Member must satisfy regular expression pattern: " + parameter.own.pattern);
        }
        if (!parameter.own.names.empty()) {
            breach(operation, parameter, "no such name", "Member must satisfy enum value set: [");
            for (const std::string& name : parameter.own.names) {
                const Error error =
                    ask(operation, body_with(parameter.path, "no such name"), false);
                EXPECT_NE(error.message.find(name), std::string::npos) << operation << name;
            }
        }
    }
};

TEST_F(Parameters, EveryOperationIsInTheTableAndTheTableSaysWhichThereAre) {
    const auto rows = read_table();
    ASSERT_GE(rows.size(), 40U);
    std::set<std::string> named;
    for (const Row& row : rows) {
        named.insert(row.operation);
        const bool exists = find_operation(row.operation).has_value();
        EXPECT_EQ(exists, row.tests != "–") << row.operation << ": tests are '" << row.tests << "'";
        if (!exists) {
            EXPECT_EQ(ask(row.operation, json::object(), false).type, "UnknownOperationException");
            continue;
        }
        for (const std::string& test : split(row.tests, ", ")) {
            EXPECT_TRUE(
                std::filesystem::exists(source_root / "tests/unit/control/kinesis" / test) ||
                std::filesystem::exists(source_root / "tests/integration" / test))
                << row.operation << ": there is no test " << test;
        }
    }
    for (const std::string_view operation : operation_names) {
        EXPECT_TRUE(named.contains(std::string(operation)))
            << operation << " is not in docs/kinesis-parameters.md";
    }
}

TEST_F(Parameters, EveryConstraintIsToldInKinesisWords) {
    for (const Row& row : read_table()) {
        if (!find_operation(row.operation)) {
            continue;
        }
        for (const Parameter& parameter : row.parameters) {
            check(row.operation, parameter);
        }
    }
}

TEST_F(Parameters, EverythingThatIsMissingIsToldTogether) {
    for (const Row& row : read_table()) {
        const auto required = std::count_if(
            row.parameters.begin(), row.parameters.end(), [](const Parameter& parameter) {
                return parameter.is_required && parameter.path.find('.') == std::string::npos;
            });
        if (!find_operation(row.operation) || required == 0) {
            continue;
        }
        EXPECT_TRUE(ask(row.operation, json::object(), false)
                        .message.starts_with(std::to_string(required) + " validation error" +
                                             (required == 1 ? "" : "s") + " detected: Value null"))
            << row.operation;
    }
}

}  // namespace
}  // namespace penstock::kinesis
