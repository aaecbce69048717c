// What is written when: journal blocks, direct writes, moves, flushes, manifest points.
#include <algorithm>
#include <bit>
#include <cmath>

#include "storage/log/group_core.h"
#include "storage/segment/reader.h"

namespace penstock {

namespace {

constexpr unsigned journal_blocks_in_flight_max = 2;
constexpr std::uint64_t flush_after_ns = 5'000'000;
constexpr std::uint64_t flush_bytes = 16U << 20;
// Shards that one turn looks at to relieve memory and journal.
constexpr unsigned relief_steps_max = 64;
// Unfinished writes with which that pauses when memory or journal are nearly full: on three
// replicas of one drive, about as many requests as its queue takes.
constexpr double relief_writes_max = 64;
// Parts of the journal and of the memory in use at which relief begins and is at its strongest.
constexpr double journal_relief_from = 0.25;
constexpr double journal_relief_full = 0.625;
constexpr double memory_relief_from = 0.5;
constexpr double memory_relief_full = 0.75;
constexpr std::uint64_t chunk_grow_ns = 2'000'000'000;
constexpr std::uint64_t chunk_shrink_ns = 60'000'000'000;

}  // namespace

// -- Gathering: from open frames to journal blocks and direct writes ------------------------------

std::size_t GroupCore::gather() noexcept {
    if (dirty == nullptr || !replicas.has_quorum()) {
        return 0;
    }
    const bool journal_due = now_ns - last_journal_ns >= options.linger_ns &&
                             journal->in_flight() < journal_blocks_in_flight_max;
    const auto drive_idle = [&] { return writes_in_flight < options.writes_in_flight_enough; };
    const std::uint64_t threshold_most = std::max<std::uint64_t>(
        options.direct_threshold_bytes,
        pool.size_bytes() / (4 * std::max<std::uint64_t>(waiting_shards, 1)));
    std::uint32_t direct_left = direct_wanted;
    std::size_t work = 0;
    ShardLog* shard = dirty;
    ShardLog* const last = dirty_last;
    dirty = nullptr;
    dirty_last = nullptr;
    bool journal_full = !journal_due;
    // The rest of thousands of shards isn't looked at when nothing can be done for them.
    while (shard != nullptr && (!journal_full || (direct_left != 0 && drive_idle()))) {
        ShardLog* next = shard->dirty_next;
        shard->dirty = false;
        // The busier the drive, the larger the writes that are worth starting, as long as there is
        // memory for so much of every shard.
        const std::uint64_t threshold = std::min(
            std::uint64_t{options.direct_threshold_bytes} << std::min(writes_in_flight, 2U),
            threshold_most);
        if (shard->unsubmitted_bytes >= options.direct_threshold_bytes) {
            --direct_left;
            if (shard->unflushed != 0) {
                flush_wanted = true;  // a direct write may not stand behind unflushed bytes
            } else if (shard->unsubmitted_bytes >= threshold && drive_idle()) {
                go_direct(*shard, true);
                ++work;
            }
        } else if (shard->bulk && shard->committed < shard->submitted) {
            // It could commit no earlier than the direct write before it, which is still under way:
            // meanwhile more gathers for the next one.
        } else if (!journal_full) {
            JournalRing::Block* block = journal->open_block();
            if (block == nullptr ||
                JournalRing::room(*block) < shard->unsubmitted_bytes + 2 * frame_alignment ||
                block->frames.size() + 64 > JournalRing::frames_per_block_max) {
                journal_full = true;
            } else {
                journal_shard(*shard);
                ++work;
            }
        }
        if (shard->unsubmitted_bytes != 0) {
            mark_dirty(*shard);
        }
        shard = next;
    }
    if (shard != nullptr) {
        // Those not looked at come first the next time.
        last->dirty_next = dirty;
        dirty_last = dirty == nullptr ? last : dirty_last;
        dirty = shard;
    }
    if (journal_due) {
        seal_journal_block();
    }
    return work;
}

void GroupCore::seal_journal_block() noexcept {
    JournalRing::Block* block = journal->open_block();
    if (block == nullptr || block->frames.empty()) {
        return;
    }
    // While the ring had no room, frames of the block may have settled in their segments.
    std::erase_if(block->frames, [this](FrameRef ref) {
        return frames.at(ref.slot).generation != ref.generation ||
               frames.at(ref.slot).buffer == nullptr;
    });
    if (block->frames.empty()) {
        block->bytes = sizeof(JournalBlockHeader);
        return;
    }
    journal_no_room = !journal->seal(*block, now_ns);
    if (journal_no_room) {
        if (!points_in_flight && journal->releasable_through() != 0) {
            write_points();
        }
        return;
    }
    last_journal_ns = now_ns;
    ++counters.journal_blocks;
    counters.journal_bytes += block->length;
    for (const FrameRef ref : block->frames) {
        frames.at(ref.slot).journal_block = block->number;
    }
}

// Copies a shard's frames that were not handed out yet into the open block.
void GroupCore::journal_shard(ShardLog& shard) noexcept {
    if (shard.frame_records != 0) {
        seal_frame(shard);
    }
    shard.bulk = false;
    JournalRing::Block& block = *journal->open_block();
    for (FrameMeta* frame = shard.unsubmitted; frame != nullptr; frame = frame->next) {
        PENSTOCK_CHECK(JournalRing::room(block) >= frame->bytes);
        std::memcpy(block.data + block.bytes, frame->buffer->data + frame->offset, frame->bytes);
        block.bytes += frame->bytes;
        block.frames.push_back({frames.slot_of(frame), frame->generation});
        frame->submitted = true;
        shard.submitted = frame->last_sequence();
        ++counters.frames_journaled;
    }
    shard.unsubmitted = nullptr;
    none_unsubmitted(shard);
    // Full buffers go on to the segment; the open one goes on gathering, unless it shall not.
    if (shard.leaves) {
        move_shard(shard);
    } else {
        move_closed(shard);
    }
}

// Everything of the shard that is not in its segment goes there in flushed writes, which commit it.
// `bulk`: because it is much.
void GroupCore::go_direct(ShardLog& shard, bool bulk) noexcept {
    leave_relief(shard);
    close_buffer(shard);
    if (bulk) {
        shard.bulk = true;
        shard.went_direct_ns = now_ns;
    }
    for (FrameMeta* frame = shard.unsubmitted; frame != nullptr; frame = frame->next) {
        frame->submitted = true;
        shard.submitted = frame->last_sequence();
        ++counters.frames_direct;
    }
    shard.unsubmitted = nullptr;
    none_unsubmitted(shard);
    for (FrameBuffer* buffer = shard.buffers; buffer != nullptr; buffer = buffer->next) {
        if (buffer->state == BufferState::closed && !buffer->queued) {
            queue_buffer(*buffer, true);
        }
    }
}

// The shard's buffers go to its segment in plain writes; the journal keeps their frames until a
// flush has covered them. Only buffers whose frames are all handed out, unless nothing may stay.
void GroupCore::move_shard(ShardLog& shard) noexcept {
    if (shard.unsubmitted_bytes == 0) {
        leave_relief(shard);
        close_buffer(shard);
    }
    move_closed(shard);
}

void GroupCore::move_closed(ShardLog& shard) noexcept {
    for (FrameBuffer* buffer = shard.buffers; buffer != nullptr; buffer = buffer->next) {
        if (buffer->state == BufferState::closed && !buffer->queued && buffer->last->submitted) {
            ++shard.unflushed;
            queue_buffer(*buffer, false);
        }
    }
}

void GroupCore::queue_buffer(FrameBuffer& buffer, bool direct) noexcept {
    buffer.direct = direct;
    buffer.queued = true;
    buffer.queue_next = nullptr;
    if (write_queue == nullptr) {
        write_queue = &buffer;
    } else {
        write_queue_last->queue_next = &buffer;
    }
    write_queue_last = &buffer;
    if (direct) {
        ++writes_in_flight;
    }
    ++unfinished_writes;
}

// -- Segment writes -------------------------------------------------------------------------------

// Places queued buffers and hands them to the devices. A shard that waits for a chunk doesn't hold
// up the others; its own order is kept: a shard's buffers are queued in order, and none behind an
// unplaced one.
std::size_t GroupCore::issue_writes() noexcept {
    std::size_t work = 0;
    FrameBuffer* previous = nullptr;
    ++write_pass;
    for (FrameBuffer* buffer = write_queue; buffer != nullptr;) {
        FrameBuffer* next = buffer->queue_next;
        ShardLog& shard = *buffer->shard;
        if (shard.blocked_in_pass != write_pass && place(*buffer)) {
            (previous == nullptr ? write_queue : previous->queue_next) = next;
            if (write_queue_last == buffer) {
                write_queue_last = previous;
            }
            buffer->queued = false;
            buffer->state = BufferState::writing;
            buffer->to_queue = replicas.taking;
            buffer->issued_ns = now_ns;
            writing.push_back(buffers.slot_of(buffer));
            ++work;
        } else {
            shard.blocked_in_pass = write_pass;
            previous = buffer;
        }
        buffer = next;
    }
    writes_in_flight = 0;
    unfinished_writes = 0;
    const auto count = [this](const FrameBuffer& buffer) {
        if (!replicas.is_quorum(buffer.done)) {
            writes_in_flight += buffer.direct ? 1U : 0U;
            ++unfinished_writes;
        }
    };
    for (const std::uint32_t slot : writing) {
        FrameBuffer& buffer = buffers.at(slot);
        if (buffer.to_queue != 0 && !queue_segment_writes(buffer)) {
            break;
        }
        count(buffer);
    }
    for (const FrameBuffer* b = write_queue; b != nullptr; b = b->queue_next) {
        count(*b);
    }
    return work;
}

bool GroupCore::queue_segment_writes(FrameBuffer& buffer) noexcept {
    const Chunk* chunk = buffer.shard->table->chunk(buffer.ordinal);
    PENSTOCK_CHECK(chunk != nullptr);
    for (unsigned r = 0; r < replica_count; ++r) {
        const auto bit = static_cast<ReplicaMask>(1U << r);
        if ((buffer.to_queue & bit) == 0 || (buffer.outstanding & bit) != 0) {
            continue;
        }
        if ((replicas.taking & bit) == 0) {
            buffer.to_queue = static_cast<ReplicaMask>(buffer.to_queue & ~bit);
            continue;
        }
        if (!ensure_container_file(r, chunk->run.container)) {
            buffer.to_queue = static_cast<ReplicaMask>(buffer.to_queue & ~bit);
            replica_failed(r, Error{Errc::io_failed, 5, r});
            continue;
        }
        const Cookie cookie{OpKind::segment_write, static_cast<std::uint16_t>(value(options.group)),
                            buffer.generation, buffers.slot_of(&buffer), r};
        if (!engine.queue({.kind = buffer.direct ? IoKind::write_durable : IoKind::write,
                           .file = containers[r][chunk->run.container],
                           .offset = container_offset(*chunk) + buffer.offset,
                           .data = buffer.data,
                           .length = buffer.length,
                           .cookie = cookie.pack()})) {
            return false;
        }
        buffer.to_queue = static_cast<ReplicaMask>(buffer.to_queue & ~bit);
        buffer.outstanding = static_cast<ReplicaMask>(buffer.outstanding | bit);
        ++segment_outstanding[r];
        if (!buffer.direct) {
            if (unflushed_containers.size() <= chunk->run.container) {
                unflushed_containers.resize(chunk->run.container + 1);
            }
            unflushed_containers[chunk->run.container] = true;
        }
    }
    return true;
}

// Gives the buffer its place in the shard's chunk. False: the next chunk is not there yet.
bool GroupCore::place(FrameBuffer& buffer) noexcept {
    ShardLog& shard = *buffer.shard;
    if (!shard.has_chunk || shard.chunk_offset + buffer.length > shard.chunk_bytes) {
        if (!shard.next_chunk_ready || shard.next_chunk_bytes < buffer.length) {
            if (shard.next_chunk_ready) {  // too small for this record: leave it empty behind
                shard.next_chunk_ready = false;
                shard.next_chunk_asked = false;
            }
            want_chunk(shard, buffer.length, false);
            return false;
        }
        const std::uint64_t lived = now_ns - shard.chunk_taken_ns;
        if (shard.has_chunk && lived < chunk_grow_ns) {
            shard.chunk_units = std::min(shard.chunk_units * 2, options.geometry.chunk_units_max);
        } else if (shard.has_chunk && lived > chunk_shrink_ns) {
            shard.chunk_units = std::max(1U, shard.chunk_units / 2);
        }
        shard.has_chunk = true;
        shard.chunk_ordinal = shard.next_chunk_ordinal;
        shard.chunk_bytes = shard.next_chunk_bytes;
        shard.chunk_offset = 0;
        shard.chunk_taken_ns = now_ns;
        shard.next_chunk_ready = false;
        shard.next_chunk_asked = false;
    }
    buffer.ordinal = shard.chunk_ordinal;
    buffer.offset = shard.chunk_offset;
    buffer.placed = true;
    unplaced_total -= buffer.used;
    shard.chunk_offset += buffer.length;
    if (shard.chunk_offset + 2 * std::uint64_t{buffer.length} > shard.chunk_bytes) {
        want_chunk(shard, buffer.length, true);  // so that nobody waits for it
    }
    return true;
}

// -- Flush and points -----------------------------------------------------------------------------

std::size_t GroupCore::flush_if_due() noexcept {
    if (flush.active || unflushed.empty()) {
        return 0;
    }
    if (!flush_wanted && unflushed_bytes < flush_bytes &&
        now_ns - oldest_unflushed_ns < flush_after_ns) {
        return 0;
    }
    flush_wanted = false;
    flush = FlushRound{};
    flush.active = true;
    flush.ticket = flush_ticket++;
    flush.sent = replicas.taking;
    std::size_t sent = 0;
    for (std::uint32_t container = 0; container < unflushed_containers.size(); ++container) {
        if (!unflushed_containers[container]) {
            continue;
        }
        const std::size_t sent_before = sent;
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((flush.sent >> r & 1) == 0 || containers[r].size() <= container ||
                containers[r][container] == no_file) {
                continue;
            }
            const Cookie cookie{OpKind::segment_flush,
                                static_cast<std::uint16_t>(value(options.group)),
                                static_cast<std::uint16_t>(flush.ticket), container, r};
            if (!engine.queue({.kind = IoKind::flush,
                               .file = containers[r][container],
                               .cookie = cookie.pack()})) {
                // Not sent: the round proves nothing for this replica.
                flush.sent = static_cast<ReplicaMask>(flush.sent & ~(1U << r));
                flush_wanted = true;
                continue;
            }
            ++flush.outstanding[r];
            ++sent;
        }
        counters.segment_flushes += sent != sent_before ? 1U : 0U;
    }
    // Buffers still being written keep their containers marked.
    unflushed_containers.assign(unflushed_containers.size(), false);
    for (const std::uint32_t slot : writing) {
        const FrameBuffer& buffer = buffers.at(slot);
        if (!buffer.direct && buffer.outstanding != 0) {
            unflushed_containers[buffer.shard->table->chunk(buffer.ordinal)->run.container] = true;
        }
    }
    if (flush_wanted) {
        for (const std::uint32_t slot : unflushed) {
            unflushed_containers
                [buffers.at(slot).shard->table->chunk(buffers.at(slot).ordinal)->run.container] =
                    true;
        }
    }
    if (sent == 0) {
        flush.active = false;
    }
    return sent;
}

// Whether points of all shards free a good part of the journal: much of what is used is no longer
// needed.
bool GroupCore::frees_journal() const noexcept {
    return !points_in_flight && journal->used_bytes() > journal->size_bytes() / 8 &&
           journal->used_bytes() - journal->needed_bytes() > journal->size_bytes() / 16;
}

// Writes the settled ends that are worth a manifest entry. When journal space is wanted, all of
// them, and the space is free once the entries are durable (R10).
void GroupCore::write_points() noexcept {
    const std::uint64_t through = points_in_flight ? 0 : journal->releasable_through();
    const bool free_journal =
        through != 0 && (journal_no_room || journal->used_bytes() > journal->size_bytes() / 8);
    for (ShardLog* shard : shard_order) {
        if (shard->settled_since_point == 0 || !(free_journal || shard->point_due) ||
            shard->dropping) {
            continue;
        }
        write_producer_runs(*shard);
        record(PointEntry{.uid = value(shard->uid),
                          .ordinal = shard->settled_ordinal,
                          .offset = shard->settled_offset,
                          .sequence = shard->settled.sequence,
                          .epoch = shard->settled.epoch,
                          .arrival_ms = shard->settled_arrival_ms,
                          .crc = shard->settled.crc,
                          .sealed = 0});
        shard->settled_since_point = 0;
        shard->point_due = false;
    }
    if (free_journal) {
        points_in_flight = true;
        // Changes nothing; it is durable when all points before it are.
        record(EpochStartedEntry{value(options.epoch)}, [this, through] {
            points_in_flight = false;
            journal->free_through(through);
        });
    }
}

// Has a shard's frames leave memory and journal in plain writes, once the journal has all of them.
// What is much, or finds no room in the journal, goes directly; so does everything when there is no
// memory left to wait with (`hurry`): written twice it would come no sooner.
void GroupCore::relieve_shard(ShardLog& shard, bool hurry) noexcept {
    if (shard.buffers == nullptr) {
        leave_relief(shard);
    } else if (shard.unsubmitted_bytes == 0) {
        const FrameBuffer& newest = *shard.buffers_last;
        if (!shard.bulk && newest.state == BufferState::open) {
            // As much as came since the last time, and as much again; bulk keeps its large writes.
            shard.buffer_wish = static_cast<std::uint32_t>(std::bit_ceil(2 * newest.used));
        }
        move_shard(shard);
    } else if (!hurry && !journal_no_room &&
               shard.unsubmitted_bytes < options.direct_threshold_bytes) {
        leaving += shard.leaves ? 0U : 1U;
        shard.leaves = true;
    } else if (shard.unflushed == 0) {
        // A little is bulk in that more gathers while this is under way, but the shard isn't busy
        // (in_bulk()).
        shard.bulk = true;
        go_direct(shard, shard.unsubmitted_bytes >= options.direct_threshold_bytes);
    } else {
        flush_wanted = true;  // a direct write may not stand behind unflushed bytes
    }
}

// Shards stand in the order in which what they hold in memory, and the journal with it, began. What
// is on its way to the segment counts no more.
void GroupCore::enter_relief(ShardLog& shard) noexcept {
    if (shard.in_relief) {
        return;
    }
    shard.in_relief = true;
    shard.relief_next = nullptr;
    shard.relief_previous = relief_last;
    (relief_last == nullptr ? relief : relief_last->relief_next) = &shard;
    relief_last = &shard;
}

void GroupCore::leave_relief(ShardLog& shard) noexcept {
    leaving -= shard.leaves ? 1U : 0U;
    shard.leaves = false;
    if (!shard.in_relief) {
        return;
    }
    shard.in_relief = false;
    (shard.relief_previous == nullptr ? relief : shard.relief_previous->relief_next) =
        shard.relief_next;
    (shard.relief_next == nullptr ? relief_last : shard.relief_next->relief_previous) =
        shard.relief_previous;
}

// How many writes may be unfinished for relief to start more; 0: there is no need. What has to
// leave memory and journal shares the drives with what waits to commit, so that few writes are
// under way while there is room, and many only when it runs out.
std::size_t GroupCore::relief_writes() const noexcept {
    const auto pressure = [](std::uint64_t used, std::uint64_t size, double from, double full) {
        const double part = static_cast<double>(used) / static_cast<double>(size);
        return std::clamp((part - from) / (full - from), 0.0, 1.0);
    };
    // Small frames run out of slots before they run out of bytes.
    const bool slots_short = frames.free_count() < frames.count() / 4 + shards.size();
    if (memory_short || journal_no_room || slots_short) {
        return static_cast<std::size_t>(relief_writes_max);
    }
    const double most = std::max(
        pressure(journal->needed_bytes(), journal->size_bytes(), journal_relief_from,
                 journal_relief_full),
        pressure(pool.used_bytes(), pool.size_bytes(), memory_relief_from, memory_relief_full));
    return static_cast<std::size_t>(std::ceil(relief_writes_max * most * most));
}

// What memory and journal hold goes to the segments steadily, shard after shard, the oldest first.
// Moved all together once nothing was left, the lane would wait for the drive, and then the drive
// for the lane.
std::size_t GroupCore::relieve() noexcept {
    const std::size_t writes_max = replicas.has_quorum() ? relief_writes() : 0;
    pressed = writes_max != 0;
    if (!pressed) {
        return 0;
    }
    // Where writes wait for chunks, what the journal takes commits sooner.
    const bool memory_tight =
        memory_short || static_cast<double>(pool.used_bytes()) >
                            memory_relief_full * static_cast<double>(pool.size_bytes());
    const bool hurry = memory_tight && write_queue == nullptr;
    memory_short = false;
    std::size_t work = 0;
    ShardLog* shard = relief;
    for (unsigned step = 0;
         shard != nullptr && step < relief_steps_max && unfinished_writes + leaving < writes_max;
         ++step) {
        ShardLog* next = shard->relief_next;
        // Once a shard's oldest frames are on their way, moving newer ones would only fill its
        // share with small writes.
        const FrameBuffer* oldest = shard->buffers;
        const bool on_its_way =
            oldest != nullptr && (oldest->queued || oldest->state > BufferState::closed) &&
            pool.share_bytes() != 0 && shard->held_bytes > pool.share_bytes() / 2;
        if (!on_its_way) {
            const std::size_t before = unfinished_writes;
            relieve_shard(*shard, hurry);
            work += unfinished_writes - before;
        }
        shard = next;
    }
    flush_wanted = flush_wanted || unflushed_bytes >= pool.size_bytes() / 32;
    return work;
}

}  // namespace penstock
