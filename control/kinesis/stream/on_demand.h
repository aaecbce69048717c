// Which shards of ON_DEMAND streams are to be split and merged, from what they committed over time.
//
// Pure: counters and times come in, wishes go out. What is hot and cold, and why nothing swings to
// and fro: docs/on-demand.md.
//
// Runs on: one thread at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "control/kinesis/stream/hash_key.h"
#include "control/kinesis/stream/stream.h"

namespace penstock::kinesis {

struct OnDemandLimits {
    bool automatic = true;                   // shards are split and merged by themselves
    std::uint64_t bytes_per_s = 1U << 20;    // of a shard, keys included: more is hot
    std::uint64_t records_per_s = 1000;      // the same
    std::uint64_t split_after_ms = 5'000;    // of being hot
    std::uint64_t merge_after_ms = 900'000;  // of being cold
    std::uint32_t shards_max = 200;          // open ones of a stream
    friend bool operator==(const OnDemandLimits&, const OnDemandLimits&) = default;

    // How many shards take so much.
    [[nodiscard]] std::uint64_t shards_for(std::uint64_t mibps) const noexcept {
        return ((mibps << 20) + bytes_per_s - 1) / bytes_per_s;
    }
    // What so many shards take.
    [[nodiscard]] std::uint64_t mibps_of(std::uint64_t shards) const noexcept {
        return shards * bytes_per_s >> 20;
    }
};

// A stream is never merged below what CreateStream makes.
inline constexpr std::uint32_t on_demand_shards_min = 4;

// What a shard committed since the node began.
struct ShardLoad {
    ShardUid shard{};
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
};

// Shards by number; at most one of the three has something in it.
struct ShardWishes {
    std::vector<std::uint32_t> splits;                            // hottest first
    std::vector<std::pair<std::uint32_t, std::uint32_t>> merges;  // neighbours
    std::uint32_t scale_to = 0;                                   // for the warm throughput
    std::uint32_t held_by_shards_max = 0;                         // further splits that are due
    [[nodiscard]] bool empty() const noexcept {
        return splits.empty() && merges.empty() && scale_to == 0;
    }
};

class ShardHeat {
public:
    explicit ShardHeat(const OnDemandLimits& limits) : limits_(limits) {}

    // Takes in what shards committed until now. Those of no ON_DEMAND stream are passed over, those
    // that are missing keep what is known of them.
    void look(const StreamTable& streams, std::span<const ShardLoad> loads, std::uint64_t now_ns);
    // Of a stream that is ACTIVE and ON_DEMAND; otherwise nothing.
    [[nodiscard]] ShardWishes wishes(const Stream& stream, std::uint64_t now_ns) const;
    // The shard is not to be split before that time, however hot it is.
    void hold(ShardUid shard, std::uint64_t until_ns);
    [[nodiscard]] std::size_t hot_count() const noexcept;
    // Part of what a shard may take before it is hot.
    [[nodiscard]] double level(ShardUid shard) const noexcept;
    // Of a record of the shard.
    [[nodiscard]] std::uint64_t mean_bytes(ShardUid shard) const noexcept;

private:
    struct State {
        std::uint64_t records = 0;
        std::uint64_t bytes = 0;
        std::uint64_t looked_ns = 0;
        double level = 0;
        std::optional<std::uint64_t> hot_since_ns;
        std::optional<std::uint64_t> cold_since_ns;
        std::uint64_t held_until_ns = 0;
    };
    void take(State& state, const ShardLoad& load, std::uint64_t now_ns) const;

    OnDemandLimits limits_;
    std::map<ShardUid, State> shards_;
};

// A record of a shard: where its key is in the hash space, and what it weighs.
struct KeyWeight {
    Hash128 hash;
    std::uint64_t bytes = 0;
};
// First hash of the upper half when a shard with these newest records is split; nothing when one
// key has so much of them that a split would not help. With few records the middle of the range.
[[nodiscard]] std::optional<Hash128> choose_split(const HashRange& range,
                                                  std::vector<KeyWeight> newest);

enum class OnDemandChange : std::uint8_t { split, merge, warm };
inline constexpr auto on_demand_change_names =
    std::to_array<std::string_view>({"split", "merge", "warm"});
enum class OnDemandHeld : std::uint8_t {
    single_key,
    stream_shards_max,
    node_shards_max,
    updating,
    failed
};
inline constexpr auto on_demand_held_names = std::to_array<std::string_view>(
    {"single_key", "stream_shards_max", "node_shards_max", "updating", "failed"});

struct OnDemandCounters {
    std::array<std::atomic<std::uint64_t>, on_demand_change_names.size()> changes{};
    std::array<std::atomic<std::uint64_t>, on_demand_held_names.size()> held{};
    std::atomic<std::uint64_t> hot_shards{0};
};

}  // namespace penstock::kinesis
