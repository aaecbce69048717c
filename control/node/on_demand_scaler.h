// Splits hot shards of ON_DEMAND streams and merges cold ones: asks the lanes what their shards
// have committed, has ShardHeat judge it, and begins the changes (docs/on-demand.md).
//
// Runs on: its own thread, which waits for lanes and the catalog; requests never wait for it.
// Guarantees: a lane is asked nothing while no stream is ON_DEMAND.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "control/kinesis/records/record_source.h"
#include "control/kinesis/stream/on_demand.h"
#include "control/kinesis/stream/stream_store.h"
#include "control/node/lane_caller.h"
#include "control/node/lane_totals.h"
#include "storage/base/clock.h"

namespace penstock {

class OnDemandScaler {
public:
    struct Options {
        kinesis::OnDemandLimits limits;
        std::function<void(std::string_view line)> log;
        kinesis::RecordSourceFactory records;
        // What shards have committed until now; without it their lanes are asked.
        std::function<std::vector<kinesis::ShardLoad>()> loads = nullptr;
    };
    // All must outlive it; the lanes must answer until stop() has returned.
    OnDemandScaler(ShardService& lanes, kinesis::StreamStore& streams, Clock& clock,
                   Options options);
    ~OnDemandScaler();
    OnDemandScaler(const OnDemandScaler&) = delete;
    OnDemandScaler& operator=(const OnDemandScaler&) = delete;

    void start();
    void stop();
    // One look, and what it leads to. start() has the thread do it time and again.
    void look_once();
    [[nodiscard]] const kinesis::OnDemandCounters& counters() const noexcept { return counters_; }

private:
    void run();
    [[nodiscard]] std::vector<kinesis::ShardLoad> ask_lanes();
    void act(const kinesis::StreamView& view);
    void keep_what_fits(kinesis::ShardWishes& wishes);
    void look_away(const kinesis::Stream& stream, const kinesis::ShardWishes& wishes);
    [[nodiscard]] std::vector<kinesis::NewShard> plan_splits(const kinesis::StreamView& view,
                                                             const kinesis::ShardWishes& wishes,
                                                             std::size_t& count);
    [[nodiscard]] std::vector<kinesis::KeyWeight> newest_keys(const kinesis::StreamView& view,
                                                              const kinesis::Shard& shard);
    void count(kinesis::OnDemandChange change, std::uint64_t n);
    void hold(kinesis::OnDemandHeld reason, std::uint64_t n = 1);

    ShardService& lanes_;
    kinesis::StreamStore& streams_;
    Clock& clock_;
    const Options options_;
    LaneCaller caller_;
    LaneTotals totals_;
    kinesis::ShardHeat heat_;
    std::unique_ptr<kinesis::RecordSource> records_;  // made by the thread that looks
    kinesis::OnDemandCounters counters_;

    std::mutex mutex_;
    std::condition_variable wake_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace penstock
