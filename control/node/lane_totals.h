// What the shards of a node's lanes have committed since it began.
//
// Runs on: one thread at a time, that of its LaneCaller.
// Allocates: here; on a lane only when it has come to a quarter more shards, and some hundred,
// since it was asked last. Guarantees: a lane whose last answer is still out is not asked again, so
// that a lane that hangs costs one answer's room, however long it does.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "control/node/lane_caller.h"
#include "storage/log/group.h"

namespace penstock {

class LaneTotals {
public:
    using Shard = ShardGroup::ShardTotals;

    // The caller must outlive it, and its wait_for_all() come before its end.
    LaneTotals(LaneCaller& caller, unsigned lane_count);
    LaneTotals(const LaneTotals&) = delete;
    LaneTotals& operator=(const LaneTotals&) = delete;

    // Of all shards of a lane, as they are now; nothing when it does not answer in time. Valid
    // until that lane is asked again.
    [[nodiscard]] std::optional<std::span<const Shard>> ask(
        unsigned lane, std::chrono::milliseconds timeout = std::chrono::seconds(5));

private:
    LaneCaller& caller_;
    // By lane; each stays where it is, as a lane may write to it late.
    std::vector<std::unique_ptr<std::vector<Shard>>> answers_;
};

}  // namespace penstock
