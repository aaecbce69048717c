#include "control/auth/credentials_page.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <simdjson.h>

#include <algorithm>
#include <array>

#include "control/http/target.h"

namespace penstock::auth {

namespace {

constexpr std::string_view collection = "/v1/credentials";
constexpr std::int64_t keep_old_default_s = 24 * 3600;
constexpr std::int64_t session_life_default_s = 3600;

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void write_text(Writer& writer, const char* key, std::string_view text) {
    writer.Key(key);
    writer.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}

http::HttpResponse json(int status, std::string body) {
    http::HttpResponse response;
    response.status = status;
    response.content_type = "application/json";
    response.body = std::move(body);
    response.body.push_back('\n');  // for people with a terminal
    // What holds a secret is kept nowhere on its way.
    response.headers.emplace_back("Cache-Control", "no-store");
    return response;
}

http::HttpResponse json(int status, const rapidjson::StringBuffer& buffer) {
    return json(status, std::string(buffer.GetString(), buffer.GetSize()));
}

http::HttpResponse failed(const StoreFault& fault) {
    switch (fault.code) {
        case Errc::not_found:
            return json_error(404, "ResourceNotFoundException", fault.why);
        case Errc::already_exists:
            return json_error(409, "ResourceInUseException", fault.why);
        case Errc::no_space:
            return json_error(409, "LimitExceededException", fault.why);
        case Errc::invalid_argument:
            return json_error(400, "InvalidArgumentException", fault.why);
        default:
            return json_error(503, "InternalFailure", fault.why);
    }
}

http::HttpResponse bad(std::string_view why) {
    return json_error(400, "InvalidArgumentException", why);
}

constexpr std::array routes{
    PageRoute{"POST", "/v1/credentials", "penstock:MakeCredential"},
    PageRoute{"GET", "/v1/credentials", "penstock:ListCredentials"},
    PageRoute{"GET", "/v1/credentials/{name}", "penstock:ListCredentials"},
    PageRoute{"DELETE", "/v1/credentials/{name}", "penstock:RevokeCredential"},
    PageRoute{"PUT", "/v1/credentials/{name}/policy", "penstock:SetCredentialPolicy"},
    PageRoute{"POST", "/v1/credentials/{name}/rotate", "penstock:RotateCredential"},
    PageRoute{"POST", "/v1/credentials/{name}/sessions", make_session_action},
};

struct Wanted {
    std::string name;  // empty: none is named
    std::string_view action = "penstock:Unknown";
};
// Nothing when the path is not one of ours.
std::optional<Wanted> read_target(const http::HttpRequest& request) {
    if (request.path != collection && !request.path.starts_with(std::string(collection) + "/")) {
        return std::nullopt;
    }
    Wanted wanted;
    for (const PageRoute& route : routes) {
        const auto parts = http::fit(route.path, request.path);
        if (!parts) {
            continue;
        }
        wanted.name = parts->empty() ? "" : parts->front();
        // The connection sends no body for HEAD.
        if (route.method == (request.method == "HEAD" ? "GET" : request.method)) {
            wanted.action = route.action;
        }
    }
    return wanted;
}

// Reads a small body: an object with the members given, each a number, or a policy as an object or
// as text. What is wrong with it, or nothing.
struct Body {
    std::string name;
    std::string policy;
    std::optional<std::int64_t> number;
};
std::string read_body(std::string_view text, std::string_view number_name, bool takes_name,
                      bool takes_policy, Body& out) {
    if (text.empty()) {
        return {};
    }
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    if (parser.parse(text.data(), text.size()).get(object) != simdjson::SUCCESS) {
        return "the body: expected a JSON object";
    }
    for (const auto& [key, value] : object) {
        std::string_view string;
        if (takes_name && key == "name") {
            if (value.get(string) != simdjson::SUCCESS) {
                return "name: expected a text";
            }
            out.name = string;
        } else if (takes_policy && key == "policy") {
            out.policy = value.get(string) == simdjson::SUCCESS ? std::string(string)
                                                                : simdjson::to_string(value);
        } else if (!number_name.empty() && key == number_name) {
            std::int64_t number = 0;
            if (value.get(number) != simdjson::SUCCESS) {
                return std::string(number_name) + ": expected a whole number of seconds";
            }
            out.number = number;
        } else {
            return "found '" + std::string(key) + "', which is not a member of this request";
        }
    }
    return {};
}

void write_credential(Writer& writer, const Credential& credential) {
    writer.StartObject();
    write_text(writer, "name", credential.name);
    write_text(writer, "arn", credential.arn);
    writer.Key("created_ms");
    writer.Int64(credential.created_ms);
    writer.Key("keys");
    writer.StartArray();
    for (const AccessKey& key : credential.keys) {
        writer.StartObject();
        write_text(writer, "access_key_id", key.id);
        writer.Key("created_ms");
        writer.Int64(key.created_ms);
        if (key.expires_ms != 0) {
            writer.Key("expires_ms");
            writer.Int64(key.expires_ms);
        }
        writer.EndObject();
    }
    writer.EndArray();
    writer.Key("policy");
    // It was parsed when it was taken.
    const std::string& policy = credential.policy->json();
    writer.RawValue(policy.data(), policy.size(), rapidjson::kObjectType);
    writer.EndObject();
}

}  // namespace

http::HttpResponse json_error(int status, std::string_view type, std::string_view message) {
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    write_text(writer, "__type", type);
    // Messages show what was found in a request, which may be any bytes, and cut off anywhere.
    std::string readable;
    if (!simdjson::validate_utf8(message.data(), message.size())) {
        readable = message;
        std::ranges::replace_if(
            readable, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }, '?');
        message = readable;
    }
    write_text(writer, "message", message);
    writer.EndObject();
    return json(status, buffer);
}

CredentialsPage::CredentialsPage(CredentialStore& store, std::string account, std::string region)
    : store_(store), account_(std::move(account)), region_(std::move(region)) {}

std::span<const PageRoute> credential_routes() noexcept {
    return routes;
}

std::optional<CredentialsPage::Wish> CredentialsPage::wish_of(
    const http::HttpRequest& request) const {
    const auto wanted = read_target(request);
    if (!wanted) {
        return std::nullopt;
    }
    Wish wish{wanted->action, "arn:aws:penstock:" + region_ + ":" + account_ + ":credential/"};
    wish.resource += wanted->name.empty() ? "*" : wanted->name;
    return wish;
}

http::HttpResponse CredentialsPage::answer(const http::HttpRequest& request) {
    const auto [name, action] = read_target(request).value_or(Wanted{});
    const std::string_view body = request.body();
    if (action == "penstock:MakeCredential") {
        return make(body);
    }
    if (action == "penstock:ListCredentials") {
        return name.empty() ? list() : show(name);
    }
    if (action == "penstock:SetCredentialPolicy") {
        return set_policy(name, body);
    }
    if (action == "penstock:RotateCredential") {
        return rotate(name, body);
    }
    if (action == make_session_action) {
        return make_session(name, body);
    }
    if (action == "penstock:RevokeCredential") {
        return revoke(name);
    }
    return json_error(405, "UnknownOperationException",
                      "expected GET or POST /v1/credentials, GET or DELETE "
                      "/v1/credentials/{name}, PUT …/policy, POST …/rotate or …/sessions");
}

std::string CredentialsPage::with_key(const CredentialStore::Made& made) const {
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    write_text(writer, "name", made.credential->name);
    write_text(writer, "access_key_id", made.key.id);
    write_text(writer, "secret_access_key", made.key.secret);
    write_text(writer, "region", region_);
    writer.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

http::HttpResponse CredentialsPage::make(std::string_view body) {
    Body wanted;
    if (const std::string wrong = read_body(body, "", true, true, wanted); !wrong.empty()) {
        return bad(wrong);
    }
    const auto made = store_.make(wanted.name, wanted.policy);
    return made ? json(201, with_key(*made)) : failed(made.error());
}

http::HttpResponse CredentialsPage::list() const {
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    writer.Key("credentials");
    writer.StartArray();
    const auto table = store_.table();
    for (const auto& [name, credential] : table->by_name) {
        write_credential(writer, *credential);
    }
    writer.EndArray();
    writer.EndObject();
    return json(200, buffer);
}

http::HttpResponse CredentialsPage::show(std::string_view name) const {
    const auto table = store_.table();
    const auto found = table->by_name.find(name);
    if (found == table->by_name.end()) {
        return json_error(404, "ResourceNotFoundException",
                          "there is no credential '" + std::string(name) + "'");
    }
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    write_credential(writer, *found->second);
    return json(200, buffer);
}

http::HttpResponse CredentialsPage::set_policy(std::string_view name, std::string_view body) {
    const auto changed = store_.set_policy(name, body);
    return changed ? show(name) : failed(changed.error());
}

http::HttpResponse CredentialsPage::rotate(std::string_view name, std::string_view body) {
    Body wanted;
    if (const std::string wrong = read_body(body, "keep_old_s", false, false, wanted);
        !wrong.empty()) {
        return bad(wrong);
    }
    const auto made = store_.rotate(name, wanted.number.value_or(keep_old_default_s));
    return made ? json(200, with_key(*made)) : failed(made.error());
}

http::HttpResponse CredentialsPage::make_session(std::string_view name, std::string_view body) {
    Body wanted;
    if (const std::string wrong = read_body(body, "seconds", false, true, wanted); !wrong.empty()) {
        return bad(wrong);
    }
    const auto made =
        store_.make_session(name, wanted.number.value_or(session_life_default_s), wanted.policy);
    if (!made) {
        return failed(made.error());
    }
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    write_text(writer, "name", name);
    write_text(writer, "access_key_id", made->key_id);
    write_text(writer, "secret_access_key", made->secret);
    write_text(writer, "session_token", made->token);
    writer.Key("expires_ms");
    writer.Int64(made->expires_ms);
    write_text(writer, "region", region_);
    writer.EndObject();
    return json(201, buffer);
}

http::HttpResponse CredentialsPage::revoke(std::string_view name) {
    const auto done = store_.revoke(name);
    return done ? json(200, std::string("{}")) : failed(done.error());
}

}  // namespace penstock::auth
