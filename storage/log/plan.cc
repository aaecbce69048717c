// Where a reader finds the records it asked for.
#include <algorithm>

#include "storage/log/group_core.h"

namespace penstock {

namespace {

// Where a shard's committed records begin and end, and what is asked of them.
struct Position {
    Sequence first = 0;
    std::int64_t timestamp_ms = 0;
};

// First record that can have arrived at or after `timestamp_ms`, by chunk and index point.
Sequence sequence_at(const ShardLog& shard, std::int64_t timestamp_ms) {
    const ShardTable& table = *shard.table;
    if (table.chunks.empty() || timestamp_ms > shard.settled_arrival_ms) {
        return std::max(table.trim_sequence, shard.settled.sequence + 1);
    }
    const auto chunk = std::partition_point(
        table.chunks.begin(), table.chunks.end(),
        [&](const Chunk& c) { return c.end_offset != 0 && c.end_arrival_ms < timestamp_ms; });
    if (chunk == table.chunks.end()) {
        return table.chunks.back().end_sequence + 1;
    }
    Sequence before = chunk->before_sequence;
    for (const IndexPoint& point : chunk->index) {
        if (point.arrival_ms >= timestamp_ms) {
            break;
        }
        before = point.sequence;
    }
    return before + 1;
}

}  // namespace

Status GroupCore::plan_read(ShardUid uid, const ReadStart& start, std::uint32_t max_bytes,
                            ReadPlan& out) noexcept {
    const auto found = shards.find(value(uid));
    if (found == shards.end() || found->second->dropping) {
        return fail(Errc::not_found);
    }
    ShardLog& shard = *found->second;
    ShardTable& shard_table = *shard.table;
    out = ReadPlan{};
    out.group = value(options.group);
    out.shard = value(uid);
    out.trim_sequence = shard_table.trim_sequence;
    out.end_sequence = shard.committed + 1;
    out.newest_arrival_ms = shard.committed_arrival_ms;
    switch (start.from) {
        case ReadFrom::sequence:
            out.first_sequence = start.sequence;
            break;
        case ReadFrom::trim_horizon:
            out.first_sequence = shard_table.trim_sequence;
            break;
        case ReadFrom::latest:
            out.first_sequence = out.end_sequence;
            break;
        case ReadFrom::timestamp:
            out.first_sequence = sequence_at(shard, start.timestamp_ms);
            out.timestamp_ms = start.timestamp_ms;
            break;
    }
    out.first_sequence = std::max(out.first_sequence, shard_table.trim_sequence);
    for (const LostRange& range : shard_table.lost) {
        if (out.first_sequence >= range.from && out.first_sequence < range.until) {
            out.lost_until = range.until;
            return {};
        }
    }
    if (out.first_sequence >= out.end_sequence) {
        return {};
    }

    // -- Segments ------------------------------------------------------------------------------
    std::uint64_t budget = max_bytes;
    std::uint64_t ahead = ReadPlan::ahead_bytes;
    const auto extent_of = [this](const Chunk& in, std::uint64_t from, std::uint64_t length,
                                  Sequence before) {
        ReadExtent extent;
        extent.container = in.run.container;
        extent.replicas = static_cast<ReplicaMask>(all_replicas & ~in.missing);
        if ((extent.replicas & replicas.taking) == 0) {
            extent.replicas = all_replicas;  // parts of it may be there; the reader verifies
        }
        extent.skip = static_cast<std::uint32_t>(from % block_bytes);
        extent.offset = container_offset(in) + from - extent.skip;
        extent.length = length + extent.skip;
        extent.before_sequence = before;
        return extent;
    };
    auto chunk = std::partition_point(
        shard_table.chunks.begin(), shard_table.chunks.end(),
        [&](const Chunk& c) { return c.sealed && c.end_sequence < out.first_sequence; });
    Sequence at = out.first_sequence;
    bool cut = false;
    for (; chunk != shard_table.chunks.end() &&
           out.extent_count + out.ahead_count < ReadPlan::extents_max && ahead != 0;
         ++chunk) {
        // The manifest's points lag behind what has settled in the chunk that is written now.
        const bool current = chunk->ordinal == shard.settled_ordinal;
        const std::uint64_t end = current ? shard.settled_offset : chunk->end_offset;
        const Sequence end_sequence = current ? shard.settled.sequence : chunk->end_sequence;
        if (end == 0 || end_sequence < at) {
            continue;
        }
        std::uint64_t from = 0;
        Sequence before = chunk->before_sequence;
        if (cut || budget == 0) {
            const std::uint64_t length = std::min(end, ahead);
            out.extents[out.extent_count + out.ahead_count++] =
                extent_of(*chunk, 0, length, before);
            ahead -= length;
            cut = true;
            continue;
        }
        std::uint64_t beyond = end;
        for (const IndexPoint& point : chunk->index) {
            if (point.sequence >= at) {
                beyond = std::min(point.offset, end);
                break;
            }
            from = point.offset;
            before = point.sequence;
        }
        // The wanted record begins before the next point, however far that is: a plan always leads
        // on.
        // Behind a lost range a point need not stand where a block begins.
        const std::uint64_t stop = align_up(beyond, block_bytes) + align_up(budget, block_bytes);
        const std::uint64_t want = std::min(end, stop) - from;
        out.extents[out.extent_count++] = extent_of(*chunk, from, want, before);
        budget -= std::min(budget, want);
        at = end_sequence + 1;
        if (from + want == end) {
            continue;
        }
        cut = true;
        if (out.extent_count < ReadPlan::extents_max) {
            const std::uint64_t length = std::min(end - from - want, ahead);
            out.extents[out.extent_count + out.ahead_count++] =
                extent_of(*chunk, from + want, length, before);
            ahead -= length;
        }
    }
    if (cut || budget == 0 ||
        (out.extent_count == ReadPlan::extents_max && chunk != shard_table.chunks.end())) {
        return {};
    }

    // -- Memory --------------------------------------------------------------------------------
    for (FrameMeta* frame = shard.frames; frame != nullptr && budget != 0; frame = frame->next) {
        if (frame->last_sequence() < out.first_sequence) {
            continue;
        }
        if (frame->last_sequence() > shard.committed || out.frame_count == ReadPlan::frames_max ||
            frame->buffer->leases == 0xffff) {
            break;
        }
        ReadFrame& lent = out.frames[out.frame_count++];
        lent.data = frame->buffer->data + frame->offset;
        lent.length = frame->bytes;
        lent.buffer = buffers.slot_of(frame->buffer);
        ++frame->buffer->leases;
        budget -= std::min<std::uint64_t>(budget, frame->bytes);
    }
    return {};
}

}  // namespace penstock
