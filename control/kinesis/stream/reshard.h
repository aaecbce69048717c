// What becomes of which shard when a stream's shards are split and merged: plans, as pure
// functions.
//
// A plan is the shards that are new, numbered from the stream's next number on. Those that are
// nobody's parent take the place of the old shards that are parents.
//
// Runs on: any thread.
// Guarantees: if the open shards of the stream tile the hash space, they do so with the plan, too;
// a shard has at most two parents and two children, and a parent has the smaller number.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "control/kinesis/stream/stream.h"

namespace penstock::kinesis {

struct NewShard {
    HashRange range;
    std::uint32_t parent = 0;
    std::optional<std::uint32_t> adjacent_parent;
    friend bool operator==(const NewShard&, const NewShard&) = default;
};
using ReshardPlan = std::vector<NewShard>;

// `start` must lie behind the beginning of the shard's range, and in it.
[[nodiscard]] ReshardPlan plan_split(const Shard& shard, const Hash128& start);
// Their ranges must be neighbours, in any order.
[[nodiscard]] ReshardPlan plan_merge(const Shard& shard, const Shard& adjacent);
[[nodiscard]] bool are_neighbours(const HashRange& a, const HashRange& b) noexcept;
// `count` even ranges instead of the shards that are open; empty when they are that already.
[[nodiscard]] ReshardPlan scale_evenly(const Stream& stream, std::uint32_t count);

// Adds the plan's shards to the stream as `creating`, with uids from `first_uid` on, and makes it
// UPDATING.
void begin_reshard(Stream& stream, const ReshardPlan& plan, std::uint64_t first_uid,
                   unsigned group_count, std::int64_t now_ms);

// Of an UPDATING stream: which shards must end, and which take their place. Both by index.
struct ReshardParts {
    std::vector<std::size_t> ends;
    std::vector<std::size_t> begins;
    bool is_switched = false;  // writes go to those that begin
};
[[nodiscard]] ReshardParts parts_of_reshard(const Stream& stream);
// Writes go to the new shards from now on.
void switch_over(Stream& stream);
// Everything is closed and `boundary_ms` lies behind its records; closing indexes are those of
// parts_of_reshard().ends.
void end_reshard(Stream& stream, const std::vector<Sequence>& closing_indexes,
                 std::int64_t boundary_ms);

}  // namespace penstock::kinesis
