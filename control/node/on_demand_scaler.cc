#include "control/node/on_demand_scaler.h"

#include <algorithm>

#include "control/kinesis/stream/reshard.h"
#include "control/kinesis/stream/shard_id.h"
#include "dataplane/wire/partition_hash.h"
#include "storage/base/counted.h"

namespace penstock {

namespace {

using kinesis::OnDemandChange;
using kinesis::OnDemandHeld;

// Looks in the time a shard must be hot, and the least and the most between two of them.
constexpr std::uint64_t looks_per_split = 10;
constexpr std::uint64_t look_ms_min = 100;
constexpr std::uint64_t look_ms_max = 1000;
// What is read of a shard to see how its keys lie.
constexpr std::uint64_t newest_records_max = 1000;
constexpr std::uint64_t newest_bytes_max = 24U << 20;  // two of the largest records
constexpr std::uint64_t newest_bytes_more = 1U << 20;  // frames and keys
// Until a shard is looked at again that could not be split, for one hot key or another reason that
// will not be gone at the next look: finding out where to split reads megabytes of it.
constexpr std::uint64_t held_ns = 60'000'000'000;

}  // namespace

OnDemandScaler::OnDemandScaler(ShardService& lanes, kinesis::StreamStore& streams, Clock& clock,
                               Options options)
    : lanes_(lanes),
      streams_(streams),
      clock_(clock),
      options_(std::move(options)),
      caller_(lanes),
      totals_(caller_, lanes.lane_count()),
      heat_(options_.limits) {}

OnDemandScaler::~OnDemandScaler() {
    stop();
}

void OnDemandScaler::start() {
    if (options_.limits.automatic) {
        thread_ = std::thread([this] { run(); });
    }
}

void OnDemandScaler::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
        caller_.wait_for_all();
    }
}

void OnDemandScaler::run() {
    const std::uint64_t look_ms =
        std::clamp(options_.limits.split_after_ms / looks_per_split, look_ms_min, look_ms_max);
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, std::chrono::milliseconds(look_ms), [this] { return stop_; })) {
        lock.unlock();
        look_once();
        lock.lock();
    }
}

void OnDemandScaler::look_once() {
    if (records_ == nullptr) {
        records_ = options_.records();
    }
    const auto table = streams_.table();
    const bool any = std::ranges::any_of(*table, [](const auto& entry) {
        return entry.second->stream().mode == kinesis::StreamMode::on_demand;
    });
    if (any) {
        const auto loads = ask_lanes();
        heat_.look(*table, loads, clock_.monotonic_ns());
    } else {
        heat_.look(*table, {}, clock_.monotonic_ns());
    }
    counters_.hot_shards.store(heat_.hot_count(), std::memory_order_relaxed);
    for (const auto& [name, view] : *table) {
        act(*view);
    }
}

// Of all shards of the node; shards of a lane that does not answer in time are missing.
std::vector<kinesis::ShardLoad> OnDemandScaler::ask_lanes() {
    if (options_.loads) {
        return options_.loads();
    }
    std::vector<kinesis::ShardLoad> loads;
    for (unsigned lane = 0; lane < lanes_.lane_count(); ++lane) {
        if (const auto totals = totals_.ask(lane)) {
            for (const auto& shard : *totals) {
                loads.push_back({shard.shard, shard.records, shard.bytes});
            }
        }
    }
    return loads;
}

void OnDemandScaler::act(const kinesis::StreamView& view) {
    const kinesis::Stream& stream = view.stream();
    kinesis::ShardWishes wishes = heat_.wishes(stream, clock_.monotonic_ns());
    if (wishes.held_by_shards_max != 0) {
        hold(OnDemandHeld::stream_shards_max, wishes.held_by_shards_max);
    }
    if (wishes.empty()) {
        return;
    }
    std::vector<kinesis::NewShard> plan;
    OnDemandChange kind = OnDemandChange::merge;
    std::size_t changes = wishes.merges.size();
    if (wishes.scale_to != 0) {
        plan = kinesis::scale_evenly(stream, wishes.scale_to);
        kind = OnDemandChange::warm;
        changes = 1;
    } else if (!wishes.splits.empty()) {
        keep_what_fits(wishes);
        plan = plan_splits(view, wishes, changes);
        kind = OnDemandChange::split;
    }
    for (const auto& [lower, upper] : wishes.merges) {
        const auto merged = kinesis::plan_merge(*stream.shard(lower), *stream.shard(upper));
        plan.insert(plan.end(), merged.begin(), merged.end());
    }
    if (plan.empty()) {
        return;
    }
    const std::uint32_t open = stream.open_shard_count();
    // The plan names shards of the stream as it was looked at.
    const Status done = streams_.reshard(
        stream.name, [&](kinesis::Stream& now) -> Result<std::vector<kinesis::NewShard>> {
            if (now.incarnation != stream.incarnation || now.mode != stream.mode ||
                now.next_shard_number != stream.next_shard_number) {
                return fail(Errc::locked);
            }
            return plan;
        });
    if (done) {
        count(kind, changes);
        options_.log("stream " + stream.name + ": " + counted(open, "open shard") + ", " +
                     (kind == OnDemandChange::merge ? "merging " : "splitting ") +
                     (kind == OnDemandChange::warm ? "for its warm throughput"
                      : kind == OnDemandChange::split
                          ? counted(changes, "hot one")
                          : counted(changes, "pair") + " of cold ones"));
        return;
    }
    switch (done.error().code) {
        case Errc::not_found:
            return;
        case Errc::locked:
            return hold(OnDemandHeld::updating);
        case Errc::no_space:
            look_away(stream, wishes);
            return hold(OnDemandHeld::node_shards_max);
        default:
            look_away(stream, wishes);
            return hold(OnDemandHeld::failed);
    }
}

// The hottest, of which each makes one shard more. Looked at before any is read.
void OnDemandScaler::keep_what_fits(kinesis::ShardWishes& wishes) {
    const std::uint32_t open = streams_.open_shard_count();
    const std::size_t room = streams_.shards_max() - std::min(open, streams_.shards_max());
    if (wishes.splits.size() > room) {
        hold(OnDemandHeld::node_shards_max, wishes.splits.size() - room);
        wishes.splits.resize(room);
    }
}

void OnDemandScaler::look_away(const kinesis::Stream& stream, const kinesis::ShardWishes& wishes) {
    for (const std::uint32_t number : wishes.splits) {
        heat_.hold(stream.shard(number)->uid, clock_.monotonic_ns() + held_ns);
    }
}

std::vector<kinesis::NewShard> OnDemandScaler::plan_splits(const kinesis::StreamView& view,
                                                           const kinesis::ShardWishes& wishes,
                                                           std::size_t& count) {
    std::vector<kinesis::NewShard> plan;
    count = 0;
    for (const std::uint32_t number : wishes.splits) {
        const kinesis::Shard& shard = *view.stream().shard(number);
        const auto start = kinesis::choose_split(shard.range, newest_keys(view, shard));
        if (!start) {
            hold(OnDemandHeld::single_key);
            heat_.hold(shard.uid, clock_.monotonic_ns() + held_ns);
            options_.log("stream " + view.stream().name + ": " + kinesis::format_shard_id(number) +
                         " is hot by one partition key; splitting it would not help. Have its "
                         "producers use more keys");
            continue;
        }
        const auto split = kinesis::plan_split(shard, *start);
        plan.insert(plan.end(), split.begin(), split.end());
        ++count;
    }
    return plan;
}

// Where the keys of the shard's newest records lie. Nothing when they do not decide where records
// go, or cannot be read now.
std::vector<kinesis::KeyWeight> OnDemandScaler::newest_keys(const kinesis::StreamView& view,
                                                            const kinesis::Shard& shard) {
    std::vector<kinesis::KeyWeight> keys;
    if (view.stream().distribution == kinesis::Distribution::automatic) {
        return keys;
    }
    const unsigned lane = view.lane_of(shard);
    const auto ask = [&](std::unique_ptr<LaneRequest> request) {
        std::vector<LaneCaller::Ask> asks;
        asks.push_back({lane, std::move(request), false});
        // A lane always answers; what it lends must come back to be given back.
        caller_.run(asks, std::chrono::hours(24));
        while (!asks[0].answered) {  // its inbox is full
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            caller_.run(asks, std::chrono::hours(24));
        }
        return std::move(asks[0].request);
    };
    auto status = std::make_unique<ShardStatusRequest>();
    status->shard = shard.uid;
    const auto told = ask(std::move(status));
    if (told->outcome != Errc::ok) {
        return keys;
    }
    const Sequence end = static_cast<const ShardStatusRequest&>(*told).status.end_sequence;
    const std::uint64_t mean = heat_.mean_bytes(shard.uid) + 1;
    const std::uint64_t count =
        std::clamp<std::uint64_t>(newest_bytes_max / mean, 2, newest_records_max);
    auto wanted = std::make_unique<ReadPlanRequest>();
    wanted->shard = shard.uid;
    wanted->start.from = ReadFrom::sequence;
    wanted->start.sequence = end - std::min<Sequence>(end, count);
    wanted->max_bytes =
        static_cast<std::uint32_t>(std::min(count * mean + newest_bytes_more, newest_bytes_max));
    const auto planned = ask(std::move(wanted));
    if (planned->outcome != Errc::ok) {
        return keys;
    }
    ReadPlan& plan = static_cast<ReadPlanRequest&>(*planned).plan;
    ReadOutcome outcome;
    const Status read = records_->read(
        plan,
        [&](const RecordView& record) {
            if (!record.seal.empty() && !record.has_explicit_hash) {
                return true;  // its key is not in clear
            }
            keys.push_back({record.has_explicit_hash ? record.explicit_hash
                                                     : partition_hash(record.partition_key),
                            record.data.size() + record.partition_key.size()});
            return keys.size() < newest_records_max;
        },
        outcome);
    if (plan.frame_count != 0) {
        auto release = std::make_unique<ReleaseLeaseRequest>();
        release->shard = shard.uid;
        release->plan = &plan;
        const auto released = ask(std::move(release));
    }
    if (!read) {
        keys.clear();
    }
    return keys;
}

void OnDemandScaler::count(OnDemandChange change, std::uint64_t n) {
    counters_.changes[static_cast<std::size_t>(change)].fetch_add(n, std::memory_order_relaxed);
}

void OnDemandScaler::hold(OnDemandHeld reason, std::uint64_t n) {
    counters_.held[static_cast<std::size_t>(reason)].fetch_add(n, std::memory_order_relaxed);
}

}  // namespace penstock
