#include "control/node/lane_totals.h"

namespace penstock {

namespace {

// Room for shards that come between two calls.
constexpr std::size_t shards_more = 256;

Errc collect(Lane& lane, void* argument) {
    auto& shards = *static_cast<std::vector<LaneTotals::Shard>*>(argument);
    for (std::uint32_t group = 1; group <= lane.group_count(); ++group) {
        if (const ShardGroup* own = lane.group(GroupId{group})) {
            own->shard_totals(shards);
        }
    }
    return Errc::ok;
}

}  // namespace

LaneTotals::LaneTotals(LaneCaller& caller, unsigned lane_count) : caller_(caller) {
    for (unsigned lane = 0; lane < lane_count; ++lane) {
        answers_.push_back(std::make_unique<std::vector<Shard>>());
    }
}

std::optional<std::span<const LaneTotals::Shard>> LaneTotals::ask(
    unsigned lane, std::chrono::milliseconds timeout) {
    std::vector<Shard>& shards = *answers_[lane];
    if (caller_.is_out(&shards)) {
        return std::nullopt;
    }
    shards.reserve(shards.size() + shards.size() / 4 + shards_more);
    shards.clear();
    Errc outcome = Errc::ok;
    if (!caller_.call(lane, &collect, &shards, outcome, timeout) || outcome != Errc::ok) {
        return std::nullopt;
    }
    return shards;
}

}  // namespace penstock
