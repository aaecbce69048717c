// Completions, commit points, waiters, and buffers leaving memory.
#include <algorithm>

#include "storage/log/group_core.h"

namespace penstock {

namespace {

ReplicaMask bit_of(unsigned replica) noexcept {
    return static_cast<ReplicaMask>(1U << replica);
}

Error io_error(unsigned replica, std::int64_t result) noexcept {
    const int code = result < 0 ? static_cast<int>(-result) : 5;  // a short write: EIO
    return {code == 28 ? Errc::no_space : Errc::io_failed, static_cast<std::uint16_t>(code),
            replica};
}

}  // namespace

void GroupCore::complete(const IoCompletion& completion) noexcept {
    const Cookie cookie = Cookie::unpack(completion.cookie);
    switch (cookie.kind) {
        case OpKind::none:
            break;
        case OpKind::state_write:
        case OpKind::state_grow:
            state->complete(cookie, completion.result);
            break;
        case OpKind::journal_write:
            complete_journal(cookie, completion.result);
            break;
        case OpKind::segment_write:
            complete_segment(cookie, completion.result);
            break;
        case OpKind::segment_flush:
            complete_flush(cookie, completion.result);
            break;
        case OpKind::container_reserve:
            complete_reserve(cookie, completion.result);
            break;
        case OpKind::container_grow:
            complete_grow(cookie, completion.result);
            break;
        case OpKind::refill_read:
        case OpKind::refill_write:
        case OpKind::refill_flush:
            complete_refill(cookie, completion.result);
            break;
        case OpKind::scrub_read:
        case OpKind::scrub_write:
            complete_scrub(cookie, completion.result);
            break;
    }
}

void GroupCore::complete_journal(const Cookie& cookie, std::int64_t result) noexcept {
    bool failed = false;
    const JournalRing::Block* block = journal->complete(cookie, result, failed);
    if (failed && (replicas.taking & bit_of(cookie.replica)) != 0) {
        replica_failed(cookie.replica, io_error(cookie.replica, result));
    }
    if (block == nullptr) {
        return;
    }
    for (const FrameRef ref : block->frames) {
        FrameMeta& frame = frames.at(ref.slot);
        if (frame.generation != ref.generation || frame.buffer == nullptr) {
            continue;  // in its segment already, and out of memory
        }
        frame.durable = static_cast<ReplicaMask>(frame.durable | bit_of(cookie.replica));
        ShardLog& shard = *frame.buffer->shard;
        if (shard.commit_next == &frame || shard.all_next == &frame) {
            advance(shard);
        }
    }
}

void GroupCore::complete_segment(const Cookie& cookie, std::int64_t result) noexcept {
    FrameBuffer& buffer = buffers.at(cookie.slot);
    PENSTOCK_CHECK(buffer.generation == cookie.generation &&
                   (buffer.shard != nullptr || buffer.orphan));
    const ReplicaMask bit = bit_of(cookie.replica);
    buffer.outstanding = static_cast<ReplicaMask>(buffer.outstanding & ~bit);
    --segment_outstanding[cookie.replica];
    const bool proves = (buffer.discount & bit) == 0;
    buffer.discount = static_cast<ReplicaMask>(buffer.discount & ~bit);
    if (buffer.orphan) {
        release_orphan(buffer);
        return;
    }
    const bool taking = (replicas.taking & bit) != 0;
    if (result == static_cast<std::int64_t>(buffer.length)) {
        if (taking && proves) {
            buffer.done = static_cast<ReplicaMask>(buffer.done | bit);
            if (buffer.direct) {
                buffer.flushed = static_cast<ReplicaMask>(buffer.flushed | bit);
                mark_durable(buffer, bit);
                advance(*buffer.shard);
            }
        }
    } else if (taking) {
        replica_failed(cookie.replica, io_error(cookie.replica, result));
    }
    settle_buffer(buffer);
}

// Looks whether a buffer's write is over, after a completion or after a replica left.
void GroupCore::settle_buffer(FrameBuffer& buffer) noexcept {
    if (buffer.state != BufferState::writing ||
        ((buffer.outstanding | buffer.to_queue) & replicas.taking) != 0) {
        return;
    }
    if (!replicas.is_quorum(buffer.done)) {
        return;  // stays until a replica comes back: rewrite_pending()
    }
    std::erase(writing, buffers.slot_of(&buffer));
    ShardLog& shard = *buffer.shard;
    if (buffer.direct) {
        buffer.state = BufferState::settled;
        pop_settled(shard);
        return;
    }
    buffer.state = BufferState::written;
    buffer.flush_ticket = flush_ticket;
    unflushed.push_back(buffers.slot_of(&buffer));
    unflushed_bytes += buffer.length;
    if (oldest_unflushed_ns == 0) {
        oldest_unflushed_ns = now_ns;
    }
}

void GroupCore::complete_flush(const Cookie& cookie, std::int64_t result) noexcept {
    if (!flush.active || cookie.generation != static_cast<std::uint16_t>(flush.ticket)) {
        return;
    }
    const ReplicaMask bit = bit_of(cookie.replica);
    --flush.outstanding[cookie.replica];
    if (result < 0) {
        flush.failed = static_cast<ReplicaMask>(flush.failed | bit);
        if ((replicas.taking & bit) != 0) {
            // Never retried: the kernel may have dropped what it could not write.
            replica_failed(cookie.replica, io_error(cookie.replica, result));
        }
    }
    end_flush_round();
}

// Ends the round once nobody who takes writes is still flushing, and settles what it covered.
void GroupCore::end_flush_round() noexcept {
    if (!flush.active) {
        return;
    }
    ReplicaMask good = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if (flush.outstanding[r] == 0) {
            good = static_cast<ReplicaMask>(good | bit_of(r));
        } else if ((replicas.taking & bit_of(r)) != 0) {
            return;
        }
    }
    flush.active = false;
    good = static_cast<ReplicaMask>(good & flush.sent & ~flush.failed);
    std::vector<std::uint32_t> covered;
    std::erase_if(unflushed, [&](std::uint32_t slot) {
        FrameBuffer& buffer = buffers.at(slot);
        if (buffer.flush_ticket > flush.ticket) {
            return false;
        }
        buffer.flushed = static_cast<ReplicaMask>(buffer.flushed | (buffer.done & good));
        mark_durable(buffer, buffer.flushed);
        if (!replicas.is_quorum(buffer.flushed) || (replicas.taking & ~buffer.flushed) != 0) {
            return false;  // flushed again, or rewritten when a replica is back
        }
        covered.push_back(slot);
        return true;
    });
    oldest_unflushed_ns = unflushed.empty() ? 0 : now_ns;
    for (const std::uint32_t slot : covered) {
        FrameBuffer& buffer = buffers.at(slot);
        unflushed_bytes -= buffer.length;
        mark_durable(buffer, buffer.flushed);
        ShardLog& shard = *buffer.shard;
        --shard.unflushed;
        buffer.state = BufferState::settled;
        advance(shard);
        pop_settled(shard);
    }
}

void GroupCore::mark_durable(FrameBuffer& buffer, ReplicaMask on) noexcept {
    const FrameMeta* end = buffer.last->next;
    for (FrameMeta* frame = buffer.first; frame != end; frame = frame->next) {
        frame->durable = static_cast<ReplicaMask>(frame->durable | on);
    }
}

// Moves the commit points over every frame that is durable enough and follows a committed one.
void GroupCore::advance(ShardLog& shard) noexcept {
    bool moved = false;
    while (shard.commit_next != nullptr && shard.commit_next->submitted &&
           replicas.is_quorum(shard.commit_next->durable)) {
        FrameMeta& frame = *shard.commit_next;
        shard.committed = frame.last_sequence();
        shard.committed_arrival_ms = frame.last_arrival_ms;
        shard.committed_records += frame.records;
        shard.committed_bytes += frame.data_bytes;
        counters.records_committed += frame.records;
        counters.bytes_committed += frame.data_bytes;
        if (commit_observer != nullptr) {
            const std::uint64_t at = clock.monotonic_ns();
            commit_observer(commit_context, shard.uid, at - frame.opened_ns, frame.records,
                            frame.data_bytes);
        }
        shard.commit_next = frame.next;
        moved = true;
    }
    while (shard.all_next != nullptr && shard.all_next->submitted &&
           (shard.all_next->durable & replicas.counting) == all_replicas) {
        shard.committed_all = shard.all_next->last_sequence();
        shard.all_next = shard.all_next->next;
        moved = true;
    }
    PENSTOCK_CHECK(shard.committed <= shard.submitted && shard.committed_all <= shard.submitted &&
                   shard.submitted < shard.next_sequence);
    if (moved) {
        wake(shard);
    }
}

// Tells every waiter whose position is reached. Levels may be mixed, so the list is walked whole.
void GroupCore::wake(ShardLog& shard) noexcept {
    CommitWaiter** link = &shard.waiters;
    CommitWaiter* kept_last = nullptr;
    const bool all_possible = (replicas.taking & replicas.counting) == all_replicas;
    while (*link != nullptr) {
        CommitWaiter& waiter = **link;
        const bool is_all = waiter.level == AckLevel::all;
        const bool reached = waiter.sequence <= (is_all ? shard.committed_all : shard.committed);
        if (!reached && !(is_all && !all_possible)) {
            kept_last = &waiter;
            link = &waiter.next;
            continue;
        }
        *link = waiter.next;
        waiter.next = nullptr;
        waiter.on_done(waiter, reached ? Errc::ok : Errc::not_enough_replicas);
    }
    shard.waiters_last = kept_last;
}

void GroupCore::fail_waiters(ShardLog& shard, Errc outcome, bool only_all) noexcept {
    CommitWaiter** link = &shard.waiters;
    CommitWaiter* kept_last = nullptr;
    while (*link != nullptr) {
        CommitWaiter& waiter = **link;
        if (only_all && waiter.level != AckLevel::all) {
            kept_last = &waiter;
            link = &waiter.next;
            continue;
        }
        *link = waiter.next;
        waiter.next = nullptr;
        waiter.on_done(waiter, outcome);
    }
    shard.waiters_last = kept_last;
}

// Forgets the buffers at the head of a shard that are durable in its segment.
void GroupCore::pop_settled(ShardLog& shard) noexcept {
    while (shard.buffers != nullptr && shard.buffers->state == BufferState::settled) {
        FrameBuffer& buffer = *shard.buffers;
        PENSTOCK_CHECK(shard.frames == buffer.first &&
                       buffer.last->last_sequence() <= shard.committed);
        // Chunks left behind are full: nothing more is written to them.
        while (shard.settled_ordinal < buffer.ordinal) {
            write_producer_runs(shard);
            record(PointEntry{.uid = value(shard.uid),
                              .ordinal = shard.settled_ordinal,
                              .offset = shard.settled_offset,
                              .sequence = shard.settled.sequence,
                              .epoch = shard.settled.epoch,
                              .arrival_ms = shard.settled_arrival_ms,
                              .crc = shard.settled.crc,
                              .sealed = 1});
            ++shard.settled_ordinal;
            shard.settled_offset = 0;
            shard.settled_since_point = 0;
        }
        PENSTOCK_CHECK(shard.settled_offset == buffer.offset);
        shard.settled_offset = buffer.offset + buffer.length;
        shard.settled = buffer.last->identity;
        shard.settled_arrival_ms = buffer.last->last_arrival_ms;
        shard.settled_since_point += buffer.length;
        if (shard.settled_since_point >= GroupTable::index_distance_bytes) {
            shard.point_due = true;
        }
        ++counters.segment_writes;
        counters.segment_bytes += buffer.length;
        counters.segment_direct_writes += buffer.direct ? 1U : 0U;
        counters.segment_direct_bytes += buffer.direct ? buffer.length : 0U;

        const FrameMeta* end = buffer.last->next;
        for (FrameMeta* frame = buffer.first; frame != end;) {
            FrameMeta* next = frame->next;
            if (frame->journal_block != 0) {
                journal->release_frame(frame->journal_block);
            }
            if (shard.all_next == frame) {
                shard.all_next = next;
            }
            PENSTOCK_CHECK(shard.commit_next != frame && shard.unsubmitted != frame);
            frame->buffer = nullptr;
            frames.give(frame);
            frame = next;
        }
        shard.frames = const_cast<FrameMeta*>(end);
        if (shard.frames == nullptr) {
            shard.frames_last = nullptr;
        }
        shard.buffers = buffer.next;
        if (shard.buffers == nullptr) {
            shard.buffers_last = nullptr;
            --waiting_shards;
        }
        shard.pending_bytes -= buffer.used;
        pending_total -= buffer.used;
        shard.pending_since_ns = shard.buffers == nullptr  ? 0
                                 : shard.frames != nullptr ? shard.frames->opened_ns
                                                           : shard.frame_opened_ns;
        buffer.orphan = true;
        buffer.next = nullptr;
        release_orphan(buffer);
    }
}

void GroupCore::release_orphan(FrameBuffer& buffer) noexcept {
    if (buffer.orphan && buffer.outstanding == 0 && buffer.leases == 0) {
        free_buffer(buffer);
    }
}

void GroupCore::free_buffer(FrameBuffer& buffer) noexcept {
    if (buffer.shard != nullptr) {
        // Only now: what a slow replica or a reader keeps is still taken from the others.
        hold(*buffer.shard, buffer.shard->held_bytes - buffer.capacity);
    }
    pool.give(buffer.data);
    buffer.data = nullptr;
    buffer.shard = nullptr;
    buffer.orphan = false;
    buffers.give(&buffer);
}

}  // namespace penstock
