#include "control/node/pages.h"

#include <algorithm>
#include <array>

#include "control/rest/openapi.h"

namespace penstock {

namespace {

constexpr std::array routes{
    PageRoute{"GET", "/healthz", ""},
    PageRoute{"GET", "/readyz", ""},
    PageRoute{"GET", "/v1/openapi.json", ""},
    PageRoute{"GET", "/metrics", "penstock:GetMetrics"},
    PageRoute{"GET", "/v1/node", "penstock:GetNode"},
    PageRoute{"GET", "/v1/replicas", "penstock:GetReplicas"},
    PageRoute{"POST", "/v1/capture", "penstock:Capture"},
    PageRoute{"GET", "/v1/capture", "penstock:Capture"},
    PageRoute{"DELETE", "/v1/capture", "penstock:Capture"},
};

// As AWS' REST services answer; the Kinesis API says 400.
constexpr int forbidden_status = 403;

}  // namespace

// Answers the exchange where the answer is no.
bool NodePages::admitted(http::HttpExchange& exchange, auth::Gate* gate,
                         const auth::CredentialsPage::Wish& wish) const {
    if (gate == nullptr) {
        return true;
    }
    const auto caller = gate->check(exchange.request());
    auto refusal = caller ? gate->authorize(*caller, wish.action, wish.resource)
                          : std::optional(caller.error());
    if (refusal) {
        exchange.respond(
            auth::json_error(forbidden_status, refusal->exception(), refusal->message));
    }
    return !refusal;
}

std::span<const PageRoute> page_routes() noexcept {
    return routes;
}

bool NodePages::has(std::string_view path) noexcept {
    return std::any_of(routes.begin(), routes.end(),
                       [&](const PageRoute& route) { return route.path == path; });
}

bool NodePages::handle(http::HttpExchange& exchange, auth::Gate* gate) const {
    const http::HttpRequest& request = exchange.request();
    const auto page = std::find_if(routes.begin(), routes.end(), [&](const PageRoute& route) {
        return route.path == request.path;
    });
    if (page != routes.end()) {
        const bool open = page->action.empty();
        if (open || admitted(exchange, gate, {page->action, parts_.node_arn})) {
            answer(exchange, gate == nullptr);
        }
        return true;
    }
    if (const auto wish = parts_.credentials.wish_of(request)) {
        if (admitted(exchange, gate, *wish)) {
            exchange.respond(parts_.credentials.answer(request));
        }
        return true;
    }
    return false;
}

void NodePages::answer(http::HttpExchange& exchange, bool tells_why) const {
    const http::HttpRequest& request = exchange.request();
    if (parts_.status.handle(exchange, tells_why) || parts_.capture.handle(exchange)) {
        return;
    }
    if (request.method != "GET" && request.method != "HEAD") {
        auto response = auth::json_error(405, "UnknownOperationException",
                                         "Found " + std::string(request.method) + ", expected GET");
        response.headers.emplace_back("Allow", "GET");
        return exchange.respond(std::move(response));
    }
    http::HttpResponse response;
    response.content_type = "application/json";
    if (request.path == "/v1/openapi.json") {
        response.body = rest::openapi_json;
    } else if (request.path == "/v1/node") {
        response.body = parts_.metrics.node_json(parts_.account, parts_.region) + "\n";
    } else {
        response.body = parts_.metrics.replicas_json() + "\n";
    }
    exchange.respond(std::move(response));
}

}  // namespace penstock
