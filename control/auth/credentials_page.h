// Credentials as the HTTP interface offers them, for `penstock credentials` and for people with
// curl (docs/operations/credentials.md, docs/openapi.json).
//
// Runs on: the HTTP threads. Blocks on the catalog for what changes something.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "control/auth/credential_store.h"
#include "control/http/server.h"

namespace penstock::auth {

// A page of the node's own, and what a policy has to allow for it.
struct PageRoute {
    std::string_view method;
    std::string_view path;    // "/v1/credentials/{name}"
    std::string_view action;  // "penstock:ListCredentials"; empty: anybody may ask
};
[[nodiscard]] std::span<const PageRoute> credential_routes() noexcept;

class CredentialsPage {
public:
    CredentialsPage(CredentialStore& store, std::string account, std::string region);

    // What a request wants to do, and to what; for policies to judge.
    struct Wish {
        std::string_view action;  // "penstock:RevokeCredential"
        std::string resource;     // "arn:aws:penstock:us-east-1:000000000000:credential/reader"
    };
    // Nothing when the path is not one of these. An unknown method is a wish too.
    [[nodiscard]] std::optional<Wish> wish_of(const http::HttpRequest& request) const;
    // For a request with a wish that was granted.
    [[nodiscard]] http::HttpResponse answer(const http::HttpRequest& request);

private:
    [[nodiscard]] http::HttpResponse make(std::string_view body);
    [[nodiscard]] http::HttpResponse list() const;
    [[nodiscard]] http::HttpResponse show(std::string_view name) const;
    [[nodiscard]] http::HttpResponse set_policy(std::string_view name, std::string_view body);
    [[nodiscard]] http::HttpResponse rotate(std::string_view name, std::string_view body);
    [[nodiscard]] http::HttpResponse make_session(std::string_view name, std::string_view body);
    [[nodiscard]] http::HttpResponse revoke(std::string_view name);
    [[nodiscard]] std::string with_key(const CredentialStore::Made& made) const;

    CredentialStore& store_;
    const std::string account_;
    const std::string region_;
};

// {"__type":"AccessDeniedException","message":"…"}: how REST says no.
[[nodiscard]] http::HttpResponse json_error(int status, std::string_view type,
                                            std::string_view message);

}  // namespace penstock::auth
