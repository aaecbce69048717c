// What a group says of itself when somebody asks.
#include <algorithm>

#include "storage/log/group.h"
#include "storage/log/group_core.h"

namespace penstock {

GroupGauges ShardGroup::gauges() const noexcept {
    const GroupCore& core = *core_;
    GroupGauges out;
    out.journal_used_bytes = core.journal->used_bytes();
    out.journal_size_bytes = core.journal->size_bytes();
    out.memory_used_bytes = core.pool.used_bytes();
    out.memory_size_bytes = core.pool.size_bytes();
    out.segment_free_bytes =
        core.table.space().free_units() * core.options.geometry.chunk_unit_bytes;
    out.segment_size_bytes =
        core.table.space().total_units() * core.options.geometry.chunk_unit_bytes;
    out.shards = static_cast<std::uint32_t>(core.shards.size());
    out.producers = core.producers.producer_count();
    out.producer_runs = core.producers.run_count();
    out.taking_writes = core.replicas.taking;
    out.disk_full = core.disk_full;
    out.retention_held = core.retention_held;
    for (const auto& [uid, shard] : core.table.shards()) {
        for (const LostRange& range : shard.lost) {
            out.lost_records += range.until - range.from;
        }
        for (const Chunk& chunk : shard.chunks) {
            for (unsigned r = 0; r < replica_count; ++r) {
                const std::uint64_t lacks = chunk.missing >> r & 1;
                out.missing_chunks[r] += lacks;
                out.missing_bytes[r] += lacks * chunk.end_offset;
                out.stored_bytes[r] += chunk.end_offset;
            }
        }
    }
    if (core.refill.active) {
        std::uint64_t& left = out.missing_bytes[core.refill.target];
        left -= std::min(left, core.refill.offset);
    }
    const Scrub& scrub = core.scrub;
    out.scrub = core.options.scrub_bytes_per_s == 0 ? ScrubState::off
                : !scrub.in_pass                    ? ScrubState::resting
                : core.scrub_pauses()               ? ScrubState::paused
                                                    : ScrubState::running;
    out.scrub_slowed = scrub.in_pass && scrub.loaded;
    out.scrub_done_bytes = scrub.in_pass ? std::min(scrub.done_bytes, scrub.total_bytes) : 0;
    out.scrub_total_bytes = scrub.in_pass ? scrub.total_bytes : 0;
    out.scrub_ended_ms = scrub.ended_ms;
    for (unsigned r = 0; r < replica_count; ++r) {
        if (core.complete_on(r)) {
            out.complete = static_cast<ReplicaMask>(out.complete | (1U << r));
        }
    }
    return out;
}

}  // namespace penstock
