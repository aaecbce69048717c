// How often each operation was asked for over HTTP, what it was answered, and how long that took.
//
// Runs on: a RequestCounters counts on the control thread it belongs to; it is read on any.
// Allocates: nothing after it is made; 220 KiB each, most of it histograms.
// Guarantees: the set of labels is bounded, whatever clients send.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "control/http/server.h"
#include "control/kinesis/input/inputs.h"
#include "control/metrics/registry.h"
#include "dataplane/counter.h"
#include "storage/base/clock.h"
#include "storage/base/histogram.h"

namespace penstock {

// What a request is counted under: the Kinesis operations as their enum has them, whether they were
// asked for as such or over REST, then the pages of the node itself, then everything else.
inline constexpr std::array<std::string_view, 9> http_page_names{
    "healthz", "readyz",      "metrics", "replicas", "capture",
    "node",    "credentials", "openapi", "other"};
inline constexpr std::size_t http_operation_count =
    kinesis::operation_names.size() + http_page_names.size();
[[nodiscard]] std::size_t http_operation_of(const http::HttpRequest& request) noexcept;
[[nodiscard]] std::string_view http_operation_name(std::size_t operation) noexcept;

// The counters of one control thread.
class RequestCounters final : public http::AnswerObserver {
public:
    explicit RequestCounters(Clock& clock) noexcept : clock_(clock) {}

    // The exchange's time begins; its answer will be counted. Must outlive the exchange.
    void begin(http::HttpExchange& exchange) noexcept;
    void on_answer(std::size_t operation, std::uint64_t begun_ns, int status) noexcept override;

    static constexpr int status_min = 100;
    static constexpr std::size_t status_count = 500;

    [[nodiscard]] std::uint64_t answers(std::size_t operation, int status) const noexcept {
        return answers_[operation][static_cast<std::size_t>(status - status_min)].get();
    }
    [[nodiscard]] const Histogram& latency_ns(std::size_t operation) const noexcept {
        return latency_ns_[operation];
    }

private:
    Clock& clock_;
    std::array<std::array<Counter, status_count>, http_operation_count> answers_;
    std::array<Histogram, http_operation_count> latency_ns_;
};

// The families that show the sums over `threads`, which must outlive the registry.
void add_request_families(metrics::Registry& registry,
                          const std::vector<const RequestCounters*>& threads);

}  // namespace penstock
