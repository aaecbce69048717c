// What a node answers over HTTP besides the Kinesis API and REST: health, metrics, the node itself,
// replicas, captures, credentials; and who may ask for which of them.
//
// Runs on: the HTTP threads.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "control/auth/credentials_page.h"
#include "control/auth/gate.h"
#include "control/http/server.h"
#include "control/metrics/registry.h"
#include "control/node/capture.h"
#include "control/node/node_metrics.h"

namespace penstock {

using auth::PageRoute;
// But for those of credentials; HEAD is answered where GET is.
[[nodiscard]] std::span<const PageRoute> page_routes() noexcept;

class NodePages {
public:
    struct Parts {
        metrics::StatusPages& status;
        NodeMetrics& metrics;
        CapturePage& capture;
        auth::CredentialsPage& credentials;
        std::string account;
        std::string region;
        std::string node_arn;  // "arn:aws:penstock:us-east-1:000000000000:node"
    };
    explicit NodePages(Parts parts) : parts_(std::move(parts)) {}

    // Whether one of page_routes() is there.
    [[nodiscard]] static bool has(std::string_view path) noexcept;
    // True when the path was ours; the exchange is then answered. Without a gate whoever asks may
    // have everything. With one, /healthz and /readyz answer anybody, the latter without its
    // reason.
    [[nodiscard]] bool handle(http::HttpExchange& exchange, auth::Gate* gate) const;

private:
    // Of a path that one of page_routes() has.
    void answer(http::HttpExchange& exchange, bool tells_why) const;
    [[nodiscard]] bool admitted(http::HttpExchange& exchange, auth::Gate* gate,
                                const auth::CredentialsPage::Wish& wish) const;

    Parts parts_;
};

}  // namespace penstock
