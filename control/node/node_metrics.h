// What /metrics, /v1/node and /v1/replicas show of a node, gathered when somebody asks.
//
// Runs on: any control thread; gathers under a lock, at most every few milliseconds.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control/auth/gate.h"
#include "control/kinesis/fan_out/subscription_table.h"
#include "control/kinesis/operations/rate_limits.h"
#include "control/kinesis/stream/on_demand.h"
#include "control/kinesis/stream/shard_quota.h"
#include "control/kinesis/stream/stream_store.h"
#include "control/metrics/registry.h"
#include "control/node/lane_caller.h"
#include "control/node/lane_totals.h"
#include "control/node/request_metrics.h"
#include "control/node/supervisor.h"
#include "dataplane/port/port.h"

namespace penstock {

class NodeMetrics {
public:
    struct Sources {
        LaneSet* lanes = nullptr;
        Supervisor* supervisor = nullptr;
        kinesis::StreamStore* streams = nullptr;
        std::vector<Port*> ports;
        unsigned group_count = 1;
        std::string version;
        std::function<http::ServerCounters()> http;    // empty counters before the server is up
        std::vector<const RequestCounters*> requests;  // one per control thread
        const http::TlsContext* tls = nullptr;         // when TLS is spoken
        const kinesis::FanOutCounters* fan_out = nullptr;
        const kinesis::OnDemandCounters* on_demand = nullptr;
        std::vector<const auth::Gate*> gates;          // the same, where requests are signed
        const kinesis::ShardQuotas* quotas = nullptr;  // where shards have quotas
        const kinesis::RateLimits* rates = nullptr;    // where operations have limits
    };
    explicit NodeMetrics(Sources sources);

    [[nodiscard]] const metrics::Registry& registry() const noexcept { return registry_; }
    // Why the node cannot take writes now; empty when it can.
    [[nodiscard]] std::string not_ready();
    [[nodiscard]] std::string replicas_json();
    // What /v1/node shows.
    [[nodiscard]] std::string node_json(const std::string& account, const std::string& region);
    // To be called before the lanes stop.
    void close();

private:
    struct Group {
        unsigned id = 0;
        GroupCounters counters;
        GroupGauges gauges;
        bool answered = false;
    };
    struct Snapshot {
        std::vector<Group> groups;
        std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> by_stream;  // records, bytes
        struct ShardTotal {
            std::string stream;
            std::uint32_t number = 0;
            std::uint64_t records = 0;
            std::uint64_t bytes = 0;
        };
        std::vector<ShardTotal> shards;  // those of a stream that is there, with records
    };
    // Asks the lanes, unless that was done a moment ago.
    [[nodiscard]] std::shared_ptr<const Snapshot> gather();
    void add_lane_families();
    void add_storage_families();
    void add_http_families();
    void add_part_families();      // part_metrics.cc
    void add_enhanced_families();  // enhanced_metrics.cc
    void add_port_families();
    void add_fan_out_families();    // fan_out_metrics.cc
    void add_key_families();        // key_metrics.cc
    void add_scrub_families();      // scrub_metrics.cc
    void add_on_demand_families();  // on_demand_metrics.cc
    void add(metrics::Kind kind, const char* name, const char* help, metrics::Collector collector);

    Sources sources_;
    metrics::Registry registry_;
    std::mutex mutex_;
    LaneCaller caller_;
    LaneTotals totals_;
    std::shared_ptr<const Snapshot> last_;
    std::chrono::steady_clock::time_point gathered_{};
    // Streams that are gone keep what they had, so that counters never go back.
    std::map<std::uint64_t, std::pair<std::string, std::uint32_t>> stream_of_shard_;  // and number
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> of_gone_shards_;
    std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> last_of_shard_;
    bool closed_ = false;
};

}  // namespace penstock
