#include "control/kinesis/stream/reshard.h"

#include <algorithm>
#include <span>

#include "storage/base/check.h"

namespace penstock::kinesis {

namespace {

Hash128 before(const Hash128& hash) noexcept {
    return to_hash(to_uint128(hash) - 1);
}

// A part of the hash space and the shard that has it in a plan under way.
struct Piece {
    HashRange range;
    std::uint32_t number = 0;
};

class EvenPlan {
public:
    explicit EvenPlan(std::uint32_t next_number) : next_(next_number) {}

    // Splits at the middle one of the edges, then each half at its own.
    void split(const Piece& piece, std::span<const Hash128> edges) {
        if (edges.empty()) {
            pieces_.push_back(piece);
            return;
        }
        const std::size_t middle = edges.size() / 2;
        const Piece left = add({piece.range.start, before(edges[middle])}, piece.number, {});
        const Piece right = add({edges[middle], piece.range.end}, piece.number, {});
        split(left, edges.first(middle));
        split(right, edges.subspan(middle + 1));
    }
    // Merges neighbours in pairs until one is left.
    void merge(std::span<const Piece> row) {
        std::vector<Piece> left(row.begin(), row.end());
        while (left.size() > 1) {
            std::vector<Piece> merged;
            for (std::size_t i = 0; i + 1 < left.size(); i += 2) {
                merged.push_back(add({left[i].range.start, left[i + 1].range.end}, left[i].number,
                                     left[i + 1].number));
            }
            if (left.size() % 2 != 0) {
                merged.push_back(left.back());
            }
            left = std::move(merged);
        }
    }
    [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }
    [[nodiscard]] ReshardPlan take() { return std::move(plan_); }

private:
    Piece add(const HashRange& range, std::uint32_t parent,
              std::optional<std::uint32_t> adjacent_parent) {
        plan_.push_back({range, parent, adjacent_parent});
        return {range, next_++};
    }
    std::uint32_t next_;
    std::vector<Piece> pieces_;  // in order
    ReshardPlan plan_;
};

}  // namespace

bool are_neighbours(const HashRange& a, const HashRange& b) noexcept {
    return (a.end != hash_max && to_uint128(a.end) + 1 == to_uint128(b.start)) ||
           (b.end != hash_max && to_uint128(b.end) + 1 == to_uint128(a.start));
}

ReshardPlan plan_split(const Shard& shard, const Hash128& start) {
    PENSTOCK_CHECK(shard.range.start < start && !(shard.range.end < start));
    return {{{shard.range.start, before(start)}, shard.number, {}},
            {{start, shard.range.end}, shard.number, {}}};
}

ReshardPlan plan_merge(const Shard& shard, const Shard& adjacent) {
    PENSTOCK_CHECK(are_neighbours(shard.range, adjacent.range));
    return {{{std::min(shard.range.start, adjacent.range.start),
              std::max(shard.range.end, adjacent.range.end)},
             shard.number,
             adjacent.number}};
}

ReshardPlan scale_evenly(const Stream& stream, std::uint32_t count) {
    std::vector<Piece> old;
    for (const Shard& shard : stream.shards) {
        if (shard.is_open()) {
            old.push_back({shard.range, shard.number});
        }
    }
    std::ranges::sort(old, {}, [](const Piece& piece) { return to_uint128(piece.range.start); });
    const std::vector<HashRange> targets = tile_hash_space(count);
    std::vector<Hash128> edges;
    for (const HashRange& target : targets) {
        edges.push_back(target.start);
    }
    EvenPlan plan(stream.next_shard_number);
    for (const Piece& piece : old) {
        const auto first = std::ranges::upper_bound(edges, piece.range.start);
        const auto last = std::ranges::upper_bound(edges, piece.range.end);
        plan.split(piece, {first, last});
    }
    const std::vector<Piece> pieces = plan.pieces();
    auto at = pieces.begin();
    for (const HashRange& target : targets) {
        const auto end = std::find_if(
            at, pieces.end(), [&](const Piece& piece) { return target.end < piece.range.start; });
        plan.merge({at, end});
        at = end;
    }
    return plan.take();
}

void begin_reshard(Stream& stream, const ReshardPlan& plan, std::uint64_t first_uid,
                   unsigned group_count, std::int64_t now_ms) {
    for (const NewShard& added : plan) {
        const std::uint64_t uid = first_uid++;
        Shard shard;
        shard.uid = static_cast<ShardUid>(uid);
        shard.number = stream.next_shard_number++;
        shard.group = static_cast<GroupId>(1 + uid % group_count);
        shard.range = added.range;
        shard.parent = added.parent;
        shard.adjacent_parent = added.adjacent_parent;
        shard.state = ShardState::creating;
        // Sequence numbers begin with this second, so those of a child are above its parents'.
        shard.created_s = now_ms / 1000;
        for (const auto& parent : {shard.parent, shard.adjacent_parent}) {
            if (parent) {
                shard.created_s = std::max(shard.created_s, stream.shard(*parent)->created_s + 1);
            }
        }
        stream.shards.push_back(shard);
    }
    stream.status = StreamStatus::updating;
}

ReshardParts parts_of_reshard(const Stream& stream) {
    std::set<std::uint32_t> parents;
    for (const Shard& shard : stream.shards) {
        if (shard.state == ShardState::creating || shard.state == ShardState::opening) {
            parents.insert(*shard.parent);
            if (shard.adjacent_parent) {
                parents.insert(*shard.adjacent_parent);
            }
        }
    }
    ReshardParts parts;
    for (std::size_t i = 0; i < stream.shards.size(); ++i) {
        const Shard& shard = stream.shards[i];
        if (parents.contains(shard.number)) {
            parts.ends.push_back(i);
        } else if (shard.state == ShardState::creating || shard.state == ShardState::opening) {
            parts.begins.push_back(i);
            parts.is_switched = parts.is_switched || shard.state == ShardState::opening;
        }
    }
    return parts;
}

void switch_over(Stream& stream) {
    const ReshardParts parts = parts_of_reshard(stream);
    for (const std::size_t i : parts.begins) {
        stream.shards[i].state = ShardState::opening;
    }
    for (const std::size_t i : parts.ends) {
        if (stream.shards[i].state == ShardState::open) {
            stream.shards[i].state = ShardState::closing;
        }
    }
}

void end_reshard(Stream& stream, const std::vector<Sequence>& closing_indexes,
                 std::int64_t boundary_ms) {
    const ReshardParts parts = parts_of_reshard(stream);
    PENSTOCK_CHECK(parts.is_switched && closing_indexes.size() == parts.ends.size());
    for (std::size_t i = 0; i < parts.ends.size(); ++i) {
        Shard& shard = stream.shards[parts.ends[i]];
        if (shard.state == ShardState::creating) {
            shard.opened_ms = boundary_ms;
        }
        shard.state = ShardState::closed;
        shard.closing_index = closing_indexes[i];
        shard.closed_ms = boundary_ms;
    }
    for (const std::size_t i : parts.begins) {
        stream.shards[i].state = ShardState::open;
        stream.shards[i].opened_ms = boundary_ms;
    }
    stream.status = StreamStatus::active;
}

}  // namespace penstock::kinesis
