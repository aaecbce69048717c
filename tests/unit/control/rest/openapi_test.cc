// docs/openapi.json held against the routes, in both directions.
#include "control/rest/openapi.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "control/auth/credentials_page.h"
#include "control/node/pages.h"
#include "control/rest/route.h"

namespace penstock::rest {
namespace {

using nlohmann::json;
using Names = std::set<std::string>;

class OpenApi : public ::testing::Test {
protected:
    OpenApi() : document(json::parse(openapi_json)) {}

    static std::string lower(std::string_view method) {
        std::string text(method);
        std::transform(text.begin(), text.end(), text.begin(),
                       [](char c) { return static_cast<char>(c | 0x20); });
        return text;
    }
    const json& resolved(const json& part) const {
        if (!part.contains("$ref")) {
            return part;
        }
        return document.at(json::json_pointer(part["$ref"].get<std::string>().substr(1)));
    }
    // The described operation; fails, and is an empty object, if there is none.
    json described(std::string_view method, std::string_view path) {
        const std::string key(path);
        const std::string verb = lower(method);
        if (!document["paths"].contains(key) || !document["paths"][key].contains(verb)) {
            ADD_FAILURE() << method << " " << path << " is not in docs/openapi.json";
            return json::object();
        }
        seen.insert(verb + " " + key);
        return document["paths"][key][verb];
    }
    Names parameters(const json& operation, const std::string& where) const {
        Names names;
        for (const json& part : operation.value("parameters", json::array())) {
            const json& parameter = resolved(part);
            if (parameter["in"] == where) {
                names.insert(parameter["name"].get<std::string>());
                EXPECT_EQ(parameter.value("required", false), where == "path");
            }
        }
        return names;
    }
    static Names names_of(std::span<const Field> fields) {
        Names names;
        for (const Field& field : fields) {
            names.insert(std::string(field.name));
        }
        return names;
    }
    void check_body(const Route& route, const json& operation) const {
        if (route.body.empty()) {
            EXPECT_FALSE(operation.contains("requestBody")) << route.path;
            return;
        }
        const json& schema =
            resolved(operation.at("requestBody").at("content").at("application/json").at("schema"));
        Names described;
        for (const auto& [name, type] : schema.at("properties").items()) {
            described.insert(name);
        }
        EXPECT_EQ(described, names_of(route.body)) << route.method << " " << route.path;
        Names required;
        for (const Field& field : route.body) {
            if (field.is_required) {
                required.insert(std::string(field.name));
            }
        }
        EXPECT_EQ(schema.at("required").get<Names>(), required) << route.path;
        EXPECT_EQ(schema.at("additionalProperties"), false) << route.path;
    }

    json document;
    Names seen;
};

TEST_F(OpenApi, EveryRouteIsDescribedAndEverythingDescribedIsARoute) {
    for (const Route& route : routes()) {
        const json operation = described(route.method, route.path);
        ASSERT_FALSE(operation.empty());
        EXPECT_EQ(parameters(operation, "path"), names_of(route.path_fields)) << route.path;
        EXPECT_EQ(parameters(operation, "query"), names_of(route.query)) << route.path;
        EXPECT_TRUE(operation["responses"].contains(std::to_string(route.status))) << route.path;
        const std::string action =
            "kinesis:" +
            std::string(kinesis::operation_names[static_cast<std::size_t>(route.operation)]);
        EXPECT_NE(operation["x-action"].get<std::string>().find(action), std::string::npos)
            << route.method << " " << route.path;
        check_body(route, operation);
    }
    for (const auto& pages : {page_routes(), auth::credential_routes()}) {
        for (const PageRoute& page : pages) {
            const json operation = described(page.method, page.path);
            EXPECT_EQ(operation.value("x-action", ""), page.action) << page.path;
            EXPECT_EQ(operation.contains("security"), page.action.empty()) << page.path;
        }
    }
    for (const auto& [path, methods] : document["paths"].items()) {
        for (const auto& [method, operation] : methods.items()) {
            EXPECT_TRUE(seen.contains(method + " " + path))
                << method << " " << path << " is described and not there";
        }
    }
}

TEST_F(OpenApi, EveryReferenceLeadsSomewhere) {
    const std::function<void(const json&)> check = [&](const json& part) {
        if (part.is_object() && part.contains("$ref")) {
            EXPECT_NO_THROW(static_cast<void>(resolved(part))) << part["$ref"];
        }
        for (const json& inner : part) {
            if (inner.is_structured()) {
                check(inner);
            }
        }
    };
    check(document);
}

std::string read_document(const char* name) {
    const char* root = std::getenv("PENSTOCK_SOURCE_ROOT");
    std::ifstream file(std::filesystem::path(root == nullptr ? "." : root) / "docs" / name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

TEST_F(OpenApi, TheOperatorsPageNamesEveryRoute) {
    const std::string page = read_document("operations/rest.md");
    for (const Route& route : routes()) {
        EXPECT_NE(
            page.find("| `" + std::string(route.method) + " " + std::string(route.path) + "` |"),
            std::string::npos)
            << route.method << " " << route.path << " is not in docs/operations/rest.md";
    }
}

TEST_F(OpenApi, TheProgramHoldsWhatTheDocumentSays) {
    EXPECT_EQ(read_document("openapi.json"), openapi_json);
}

}  // namespace
}  // namespace penstock::rest
