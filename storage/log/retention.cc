// Trimming by age, and dropping whole shards.
#include <algorithm>

#include "storage/log/group_core.h"

namespace penstock {

namespace {

// A wall clock that runs apart from the monotonic one by more than this has been stepped.
constexpr std::int64_t leap_ms = 60'000;
// How long it must then run steadily before anything is deleted by its word again.
constexpr std::uint64_t hold_ns = 3'600'000'000'000;

}  // namespace

// Retention stops when the clock leaps (R11): doubt never deletes.
void GroupCore::watch_clock() noexcept {
    const std::int64_t offset = wall_ms - static_cast<std::int64_t>(now_ns / 1'000'000);
    if (!clock_known) {
        clock_known = true;
        clock_offset_ms = offset;
    }
    const std::int64_t drift = offset - clock_offset_ms;
    if (drift > leap_ms || drift < -leap_ms) {
        retention_held = true;
        retention_held_until_ns = now_ns + hold_ns;
        clock_offset_ms = offset;
    } else {
        clock_offset_ms = offset;  // slow drift is the clock's discipline, not a leap
        if (retention_held && now_ns >= retention_held_until_ns) {
            retention_held = false;
        }
    }
}

void GroupCore::apply_retention() noexcept {
    if (retention_held || !replicas.has_quorum()) {
        return;
    }
    for (ShardLog* shard : shard_order) {
        const std::int64_t horizon = wall_ms - shard->table->retention_ms;
        seal_idle_chunk(*shard, horizon);
        std::uint64_t first_kept = 0;
        for (const Chunk& chunk : shard->table->chunks) {
            // Only chunks that nothing is written to any more, whose newest record is too old.
            if (!chunk.sealed || chunk.end_arrival_ms >= horizon) {
                break;
            }
            first_kept = chunk.ordinal + 1;
        }
        // Units with a refill's write on its way must not go to anybody else yet.
        if (first_kept != 0 && refill_in_flight(value(shard->uid), first_kept)) {
            abandon_refill();
            abandon_scrub();
            first_kept = 0;
        }
        if (first_kept != 0) {
            trim_shard(*shard, first_kept);
        }
    }
}

// A quiet shard's last chunk would never be sealed by being full.
void GroupCore::seal_idle_chunk(ShardLog& shard, std::int64_t horizon_ms) noexcept {
    if (shard.buffers != nullptr || !shard.has_chunk || shard.settled_offset == 0 ||
        shard.settled_arrival_ms >= horizon_ms) {
        return;
    }
    write_producer_runs(shard);
    record(PointEntry{.uid = value(shard.uid),
                      .ordinal = shard.settled_ordinal,
                      .offset = shard.settled_offset,
                      .sequence = shard.settled.sequence,
                      .epoch = shard.settled.epoch,
                      .arrival_ms = shard.settled_arrival_ms,
                      .crc = shard.settled.crc,
                      .sealed = 1});
    shard.has_chunk = false;
    shard.settled_ordinal += 1;
    shard.settled_offset = 0;
    shard.settled_since_point = 0;
    shard.point_due = false;
}

// Frees the chunks before `first_ordinal`. The units are taken again only by an entry behind this
// one, so the trim is durable before anything is overwritten.
void GroupCore::trim_shard(ShardLog& shard, std::uint64_t first_ordinal) noexcept {
    Sequence trim = shard.table->trim_sequence;
    for (const Chunk& chunk : shard.table->chunks) {
        if (chunk.ordinal >= first_ordinal) {
            break;
        }
        trim = std::max(trim, chunk.end_sequence + 1);
        ++counters.chunks_freed;
    }
    if (refill.active && refill.uid == value(shard.uid) && refill.ordinal < first_ordinal) {
        abandon_refill();
    }
    record(TrimEntry{value(shard.uid), trim, first_ordinal});
    growth_retry_ns = std::min(growth_retry_ns, now_ns);
    reserve_retry_ns = std::min(reserve_retry_ns, now_ns);
}

// Removes shards that were dropped once nothing of theirs is in flight: their units may be given to
// others, and a late write would land there.
void GroupCore::finish_drops() noexcept {
    for (std::size_t i = 0; i < shard_order.size();) {
        ShardLog& shard = *shard_order[i];
        bool busy = !shard.dropping || shard.next_chunk_asked != shard.next_chunk_ready ||
                    refill_in_flight(value(shard.uid), UINT64_MAX);
        for (const FrameBuffer* buffer = shard.buffers; buffer != nullptr && !busy;
             buffer = buffer->next) {
            busy = buffer->outstanding != 0 || buffer->state == BufferState::written ||
                   (buffer->state == BufferState::writing && buffer->to_queue != 0);
        }
        if (busy) {
            if (shard.dropping) {
                flush_wanted = true;
            }
            ++i;
            continue;
        }
        // What is still in memory is given up with the shard.
        FrameBuffer* queue_last = nullptr;
        for (FrameBuffer** link = &write_queue; *link != nullptr;) {
            if ((*link)->shard == &shard) {
                *link = (*link)->queue_next;
            } else {
                queue_last = *link;
                link = &(*link)->queue_next;
            }
        }
        write_queue_last = queue_last;
        for (FrameMeta* frame = shard.frames; frame != nullptr;) {
            FrameMeta* next = frame->next;
            if (frame->journal_block != 0) {
                journal->release_frame(frame->journal_block);
            }
            frame->buffer = nullptr;
            frames.give(frame);
            frame = next;
        }
        for (FrameBuffer* buffer = shard.buffers; buffer != nullptr;) {
            FrameBuffer* next = buffer->next;
            unplaced_total -= buffer->placed ? 0 : buffer->used;
            std::erase(writing, buffers.slot_of(buffer));
            buffer->orphan = true;
            release_orphan(*buffer);
            buffer = next;
        }
        // What a reader or a slow replica keeps belongs to nobody from now on.
        for (std::uint32_t slot = 0; slot < buffers.count(); ++slot) {
            if (buffers.at(slot).shard == &shard) {
                buffers.at(slot).shard = nullptr;
            }
        }
        producers.forget(shard.uid);
        give_up_share(shard);
        pending_total -= shard.pending_bytes;
        waiting_shards -= shard.buffers != nullptr ? 1 : 0;
        none_unsubmitted(shard);
        leave_relief(shard);
        ShardLog** link = &dirty;
        dirty_last = nullptr;
        while (*link != nullptr) {
            if (*link == &shard) {
                *link = shard.dirty_next;
            } else {
                dirty_last = *link;
                link = &(*link)->dirty_next;
            }
        }
        if (refill.active && refill.uid == value(shard.uid)) {
            abandon_refill();
        }
        CommitWaiter* waiter = shard.drop_waiter;
        const std::uint64_t uid = value(shard.uid);
        shard_order.erase(shard_order.begin() + static_cast<std::ptrdiff_t>(i));
        shards.erase(uid);
        record(DropShardEntry{uid}, [waiter] {
            for (CommitWaiter* w = waiter; w != nullptr;) {
                CommitWaiter* next = w->next;
                w->on_done(*w, Errc::ok);
                w = next;
            }
        });
    }
}

}  // namespace penstock
