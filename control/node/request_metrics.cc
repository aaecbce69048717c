#include "control/node/request_metrics.h"

#include <algorithm>
#include <string>

#include "control/kinesis/service.h"
#include "control/rest/route.h"
#include "storage/base/check.h"

namespace penstock {

namespace {

using metrics::Kind;
using metrics::Samples;

// Up to the deadline of a put (ServiceOptions::commit_deadline_ms).
constexpr std::array<std::uint64_t, 16> latency_bounds_ns{
    100'000,       200'000,       500'000,        1'000'000,     2'000'000,   5'000'000,
    10'000'000,    20'000'000,    50'000'000,     100'000'000,   200'000'000, 500'000'000,
    1'000'000'000, 2'000'000'000, 10'000'000'000, 30'000'000'000};

[[nodiscard]] std::size_t page(std::string_view name) noexcept {
    const auto at = std::find(http_page_names.begin(), http_page_names.end(), name);
    return kinesis::operation_names.size() + static_cast<std::size_t>(at - http_page_names.begin());
}

}  // namespace

std::size_t http_operation_of(const http::HttpRequest& request) noexcept {
    if (request.path == "/healthz" || request.path == "/readyz" || request.path == "/metrics") {
        return page(request.path.substr(1));
    }
    if (request.path == "/v1/capture") {
        return page("capture");
    }
    if (request.path == "/v1/replicas" && request.method == "GET") {
        return page("replicas");
    }
    if (request.path.starts_with("/v1/credentials")) {
        return page("credentials");
    }
    if (request.path == "/v1/node") {
        return page("node");
    }
    if (request.path == "/v1/openapi.json") {
        return page("openapi");
    }
    const auto operation = request.path.starts_with("/v1/") ? rest::operation_of(request)
                                                            : kinesis::operation_of(request);
    return operation ? static_cast<std::size_t>(*operation) : page("other");
}

std::string_view http_operation_name(std::size_t operation) noexcept {
    const std::size_t kinesis_count = kinesis::operation_names.size();
    return operation < kinesis_count ? kinesis::operation_names[operation]
                                     : http_page_names[operation - kinesis_count];
}

void RequestCounters::begin(http::HttpExchange& exchange) noexcept {
    exchange.observe(*this, http_operation_of(exchange.request()), clock_.monotonic_ns());
}

void RequestCounters::on_answer(std::size_t operation, std::uint64_t begun_ns,
                                int status) noexcept {
    const auto code = static_cast<std::size_t>(status - status_min);
    PENSTOCK_CHECK(code < status_count);  // ours, never a peer's
    answers_[operation][code].add();
    latency_ns_[operation].add(clock_.monotonic_ns() - begun_ns);
}

void add_request_families(metrics::Registry& registry,
                          const std::vector<const RequestCounters*>& threads) {
    registry.add(
        Kind::counter, "penstock_http_requests_total",
        "Requests answered, by operation and HTTP status.", [&threads](Samples& out) {
            for (std::size_t operation = 0; operation < http_operation_count; ++operation) {
                for (std::size_t code = 0; code < RequestCounters::status_count; ++code) {
                    const int status = RequestCounters::status_min + static_cast<int>(code);
                    std::uint64_t sum = 0;
                    for (const RequestCounters* thread : threads) {
                        sum += thread->answers(operation, status);
                    }
                    // Successes are there from the start, so that their first one is an increase.
                    if (sum != 0 || status == 200) {
                        out.add(sum, {{"operation", http_operation_name(operation)},
                                      {"code", std::to_string(status)}});
                    }
                }
            }
        });
    registry.add(
        Kind::histogram, "penstock_http_request_seconds",
        "From the complete request to its answer, before that is sent.", [&threads](Samples& out) {
            for (std::size_t operation = 0; operation < http_operation_count; ++operation) {
                HistogramSnapshot all;
                for (const RequestCounters* thread : threads) {
                    thread->latency_ns(operation).merge_into(all);
                }
                out.add_ns(all, latency_bounds_ns, {{"operation", http_operation_name(operation)}});
            }
        });
}

}  // namespace penstock
