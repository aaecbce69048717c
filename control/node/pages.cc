#include "control/node/pages.h"

namespace penstock {

namespace {

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

bool NodePages::handle(http::HttpExchange& exchange, auth::Gate* gate) const {
    const http::HttpRequest& request = exchange.request();
    if (request.path == "/healthz" || request.path == "/readyz") {
        return parts_.status.handle(exchange, gate == nullptr);
    }
    if (request.path == "/metrics") {
        return !admitted(exchange, gate, {"penstock:GetMetrics", parts_.node_arn}) ||
               parts_.status.handle(exchange);
    }
    if (request.path == "/v1/capture") {
        return !admitted(exchange, gate, {"penstock:Capture", parts_.node_arn}) ||
               parts_.capture.handle(exchange);
    }
    if (request.path == "/v1/replicas" && request.method == "GET") {
        if (admitted(exchange, gate, {"penstock:GetReplicas", parts_.node_arn})) {
            http::HttpResponse response;
            response.content_type = "application/json";
            response.body = parts_.metrics.replicas_json();
            exchange.respond(std::move(response));
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

}  // namespace penstock
