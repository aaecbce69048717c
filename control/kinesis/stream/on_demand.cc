#include "control/kinesis/stream/on_demand.h"

#include <algorithm>

#include "control/kinesis/stream/reshard.h"

namespace penstock::kinesis {

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;
// Part of a level that comes from the newest look.
constexpr double newest_part = 0.5;
constexpr double hot_above = 1.0;
constexpr double hot_until_below = 0.8;
constexpr double cold_below = 0.125;
// A split that leaves less than this of the bytes on one side does not help.
constexpr std::uint64_t side_percent_min = 10;
// With fewer records it is only looked whether there is more than one key.
constexpr std::size_t newest_records_min = 8;

bool lasted(const std::optional<std::uint64_t>& since_ns, std::uint64_t ms, std::uint64_t now_ns) {
    return since_ns && now_ns - *since_ns >= ms * ns_per_ms;
}

// Above the one, not above the other.
Hash128 between(const Hash128& below, const Hash128& above) {
    const Uint128 low = to_uint128(below);
    return to_hash(low + (to_uint128(above) - low) / 2 + 1);
}

std::vector<const Shard*> open_by_range(const Stream& stream) {
    std::vector<const Shard*> open;
    for (const Shard& shard : stream.shards) {
        if (shard.is_open()) {
            open.push_back(&shard);
        }
    }
    std::ranges::sort(open, {}, [](const Shard* shard) { return to_uint128(shard->range.start); });
    return open;
}

}  // namespace

void ShardHeat::take(State& state, const ShardLoad& load, std::uint64_t now_ns) const {
    const bool first = state.looked_ns == 0;
    if (!first && now_ns > state.looked_ns) {
        // A lane's counters never go back while the node runs.
        const double seconds = static_cast<double>(now_ns - state.looked_ns) / 1e9;
        const auto part = [&](std::uint64_t now, std::uint64_t before, std::uint64_t per_second) {
            return static_cast<double>(now - std::min(now, before)) /
                   (seconds * static_cast<double>(per_second));
        };
        const double newest = std::max(part(load.bytes, state.bytes, limits_.bytes_per_s),
                                       part(load.records, state.records, limits_.records_per_s));
        state.level += (newest - state.level) * newest_part;
    }
    state.records = load.records;
    state.bytes = load.bytes;
    state.looked_ns = now_ns;
    if (state.level > hot_above) {
        state.hot_since_ns = state.hot_since_ns.value_or(now_ns);
    } else if (state.level < hot_until_below) {
        state.hot_since_ns.reset();
    }
    if (state.level < cold_below) {
        state.cold_since_ns = state.cold_since_ns.value_or(now_ns);
    } else {
        state.cold_since_ns.reset();
    }
}

void ShardHeat::look(const StreamTable& streams, std::span<const ShardLoad> loads,
                     std::uint64_t now_ns) {
    std::map<ShardUid, State> kept;
    for (const auto& [name, view] : streams) {
        if (view->stream().mode != StreamMode::on_demand) {
            continue;
        }
        for (const Shard& shard : view->stream().shards) {
            if (shard.state != ShardState::closed) {
                const auto known = shards_.find(shard.uid);
                kept.emplace(shard.uid, known == shards_.end() ? State{} : known->second);
            }
        }
    }
    shards_ = std::move(kept);
    for (const ShardLoad& load : loads) {
        if (const auto found = shards_.find(load.shard); found != shards_.end()) {
            take(found->second, load, now_ns);
        }
    }
}

ShardWishes ShardHeat::wishes(const Stream& stream, std::uint64_t now_ns) const {
    ShardWishes wishes;
    if (!limits_.automatic || stream.mode != StreamMode::on_demand ||
        stream.status != StreamStatus::active) {
        return wishes;
    }
    const std::vector<const Shard*> open = open_by_range(stream);
    const auto state_of = [&](const Shard& shard) {
        const auto found = shards_.find(shard.uid);
        return found == shards_.end() ? nullptr : &found->second;
    };
    const std::uint64_t warm = std::min<std::uint64_t>(
        limits_.shards_for(stream.warm_throughput_mibps), limits_.shards_max);
    if (open.size() < warm) {
        wishes.scale_to = static_cast<std::uint32_t>(warm);
        return wishes;
    }
    std::vector<std::pair<double, std::uint32_t>> hot;
    for (const Shard* shard : open) {
        const State* state = state_of(*shard);
        if (state != nullptr && lasted(state->hot_since_ns, limits_.split_after_ms, now_ns) &&
            state->held_until_ns <= now_ns) {
            hot.emplace_back(state->level, shard->number);
        }
    }
    std::ranges::sort(hot, std::greater<>());
    const std::size_t room =
        limits_.shards_max > open.size() ? limits_.shards_max - open.size() : 0;
    for (const auto& [level, number] : hot) {
        if (wishes.splits.size() < room) {
            wishes.splits.push_back(number);
        } else {
            ++wishes.held_by_shards_max;
        }
    }
    if (!wishes.splits.empty()) {
        return wishes;
    }
    const std::size_t least = std::max<std::size_t>(on_demand_shards_min, warm);
    for (std::size_t i = 0; i + 1 < open.size() && open.size() - wishes.merges.size() > least;
         ++i) {
        const State* lower = state_of(*open[i]);
        const State* upper = state_of(*open[i + 1]);
        if (lower != nullptr && upper != nullptr &&
            lasted(lower->cold_since_ns, limits_.merge_after_ms, now_ns) &&
            lasted(upper->cold_since_ns, limits_.merge_after_ms, now_ns)) {
            wishes.merges.emplace_back(open[i]->number, open[i + 1]->number);
            ++i;
        }
    }
    return wishes;
}

void ShardHeat::hold(ShardUid shard, std::uint64_t until_ns) {
    if (const auto found = shards_.find(shard); found != shards_.end()) {
        found->second.held_until_ns = until_ns;
    }
}

std::size_t ShardHeat::hot_count() const noexcept {
    return static_cast<std::size_t>(std::ranges::count_if(
        shards_, [](const auto& entry) { return entry.second.hot_since_ns.has_value(); }));
}

double ShardHeat::level(ShardUid shard) const noexcept {
    const auto found = shards_.find(shard);
    return found == shards_.end() ? 0 : found->second.level;
}

std::uint64_t ShardHeat::mean_bytes(ShardUid shard) const noexcept {
    const auto found = shards_.find(shard);
    return found == shards_.end()
               ? 0
               : found->second.bytes / std::max<std::uint64_t>(found->second.records, 1);
}

std::optional<Hash128> choose_split(const HashRange& range, std::vector<KeyWeight> newest) {
    if (!(range.start < range.end)) {
        return std::nullopt;
    }
    std::erase_if(newest, [&](const KeyWeight& key) {
        return key.hash < range.start || range.end < key.hash;
    });
    if (newest.size() < newest_records_min) {
        const bool one_key = newest.size() > 1 && std::ranges::all_of(newest, [&](const auto& key) {
                                 return key.hash == newest.front().hash;
                             });
        return one_key ? std::nullopt : std::optional(between(range.start, range.end));
    }
    std::ranges::sort(newest, {}, [](const KeyWeight& key) { return to_uint128(key.hash); });
    std::uint64_t all = 0;
    for (const KeyWeight& key : newest) {
        all += key.bytes;
    }
    std::optional<Hash128> best;
    std::uint64_t best_side = 0;  // the lighter one
    std::uint64_t below = 0;
    for (std::size_t i = 0; i + 1 < newest.size(); ++i) {
        below += newest[i].bytes;
        const std::uint64_t side = std::min(below, all - below);
        if (newest[i].hash != newest[i + 1].hash && side > best_side) {
            best = between(newest[i].hash, newest[i + 1].hash);
            best_side = side;
        }
    }
    return best_side * 100 < all * side_percent_min ? std::nullopt : best;
}

}  // namespace penstock::kinesis
