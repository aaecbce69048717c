// Replicas that leave and come back, and copying what they missed.
#include <algorithm>

#include "storage/log/group_core.h"
#include "storage/segment/reader.h"

namespace penstock {

namespace {

// A write that takes this long makes its replica lagging: nobody waits for it any more.
constexpr std::uint64_t stalled_ns = 1'000'000'000;
// Less while it holds all journal buffers, so that nothing can be committed.
constexpr std::uint64_t starving_ns = 100'000'000;
constexpr std::uint64_t lag_rest_ns = 1'000'000'000;
constexpr std::uint64_t refill_window = 2U << 20;

ReplicaMask bit_of(unsigned replica) noexcept {
    return static_cast<ReplicaMask>(1U << replica);
}

}  // namespace

// -- Leaving --------------------------------------------------------------------------------------

void GroupCore::replica_failed(unsigned replica, Error why) noexcept {
    if ((replicas.taking & bit_of(replica)) == 0) {
        return;
    }
    const bool slow = why.code == Errc::unavailable;
    // The last two are waited for: without one of them nothing could be committed anyway.
    if (slow && !has_spare(replica)) {
        return;
    }
    lagging[replica] = slow;
    if (!slow) {
        replicas.counting = static_cast<ReplicaMask>(replicas.counting & ~bit_of(replica));
    }
    leave(replica);
    if (replica_observer != nullptr) {
        replica_observer(replica_context, replica, why);
    }
}

// Nothing more is sent there. Whoever waited for it alone goes on.
void GroupCore::leave(unsigned replica) noexcept {
    const ReplicaMask bit = bit_of(replica);
    joining[replica] = Joining{};
    if ((replicas.taking & bit) == 0) {
        return;
    }
    replicas.taking = static_cast<ReplicaMask>(replicas.taking & ~bit);
    left_ns[replica] = now_ns;
    if (refill.active && (refill.target == replica || refill.source == replica)) {
        abandon_refill();
    }
    abandon_scrub();
    if (state != nullptr) {
        record(ReplicaLeftEntry{replica});
        state->replica_lost(replica);
    }
    end_flush_round();
    const std::vector<std::uint32_t> in_writing = writing;
    for (const std::uint32_t slot : in_writing) {
        settle_buffer(buffers.at(slot));
    }
    const bool quorum = replicas.has_quorum();
    for (ShardLog* shard : shard_order) {
        if (!quorum) {
            fail_waiters(*shard, Errc::not_enough_replicas, false);
        } else {
            fail_waiters(*shard, Errc::not_enough_replicas, true);
        }
    }
    if (reservation.active && (reservation.outstanding & replicas.taking) == 0) {
        complete_reserve(Cookie{}, 0);
    }
    if (growth.active && (growth.outstanding & replicas.taking) == 0) {
        complete_grow(Cookie{}, 0);
    }
}

bool GroupCore::has_spare(unsigned without) const noexcept {
    ReplicaMask rest = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        // One that is still being refilled is no stand-in for one that is merely slow.
        rest = static_cast<ReplicaMask>(rest | (r != without && complete_on(r) ? bit_of(r) : 0));
    }
    return replicas.is_quorum(rest);
}

// Writes to it, of any kind, that are not answered yet. They may land at any time.
bool GroupCore::has_outstanding(unsigned replica) const noexcept {
    const bool refilling = refill.step != RefillCopy::Step::idle &&
                           (refill.target == replica || refill.source == replica);
    return segment_outstanding[replica] != 0 || journal->outstanding_bytes(replica) != 0 ||
           state->outstanding(replica) || refilling ||
           (scrub.in_flight && scrub.replica == replica);
}

void GroupCore::watch_lag() noexcept {
    // Nobody looked for a while: what is old may have been done long ago.
    const bool looked_away = now_ns - last_lag_look_ns > stalled_ns / 2;
    last_lag_look_ns = now_ns;
    if (looked_away) {
        return;
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        const ReplicaMask bit = bit_of(r);
        std::uint64_t bytes = journal->outstanding_bytes(r);
        std::uint64_t oldest = journal->oldest_outstanding_ns(r);
        for (const std::uint32_t slot : writing) {
            const FrameBuffer& buffer = buffers.at(slot);
            if ((buffer.outstanding & bit) != 0) {
                bytes += buffer.length;
                oldest = std::min(oldest, buffer.issued_ns);
            }
        }
        const std::uint64_t patience = journal->starved() ? starving_ns : stalled_ns;
        const bool stalled = oldest < now_ns && now_ns - oldest > patience;
        if ((replicas.taking & bit) != 0 && (stalled || bytes > options.replica_lag_bytes_max)) {
            replica_failed(r, Error{Errc::unavailable, 0, r});
        }
        if ((replicas.taking & bit) == 0 && lagging[r] && !has_outstanding(r) &&
            joining[r].step == Joining::Step::none && now_ns - left_ns[r] > lag_rest_ns) {
            begin_join(r, true);
        }
        if (joining[r].step == Joining::Step::waiting && !has_outstanding(r)) {
            begin_join(r, joining[r].counts);
        }
    }
}

// -- Coming back ----------------------------------------------------------------------------------

// Opens the replica's files and makes them as long as the others'.
void GroupCore::begin_join(unsigned replica, bool counts) noexcept {
    Joining& join = joining[replica];
    if ((replicas.taking & bit_of(replica)) != 0 || join.step == Joining::Step::files) {
        return;
    }
    lagging[replica] = false;
    join = Joining{};
    join.counts = counts;
    if (has_outstanding(replica)) {
        join.step =
            Joining::Step::waiting;  // a late write would land on what is written from now on
        return;
    }
    join.step = Joining::Step::files;
    join.round = ++grow_round;
    for (FileHandle& file : containers[replica]) {
        if (file != no_file) {
            engine.close(file);
            file = no_file;
        }
    }
    const auto grow = [&](FileHandle file, std::uint64_t have, std::uint64_t want) {
        have = align_down(have, block_bytes);
        if (have >= want) {
            return;
        }
        const Cookie cookie{OpKind::container_grow,
                            static_cast<std::uint16_t>(value(options.group)), join.round, 0,
                            replica};
        if (engine.queue({.kind = IoKind::allocate,
                          .file = file,
                          .offset = have,
                          .length = want - have,
                          .cookie = cookie.pack()})) {
            ++join.outstanding;
        } else {
            join.failed = true;
        }
    };
    std::vector<std::uint64_t> sizes;
    if (!journal->open_existing(replica, sizes) || !state->reopen(replica)) {
        join.failed = true;
    } else {
        for (std::uint32_t file = 0; file < sizes.size(); ++file) {
            grow(journal->file(replica, file), sizes[file], options.geometry.journal_file_bytes);
        }
        for (std::uint32_t container = 0; container < table.space().container_count();
             ++container) {
            if (!table.space().has_container(container)) {
                continue;
            }
            if (!ensure_container_file(replica, container)) {
                join.failed = true;
                continue;
            }
            const auto size = engine.size_bytes(containers[replica][container]);
            if (!size) {
                join.failed = true;
                continue;
            }
            grow(containers[replica][container], *size, options.geometry.container_bytes);
        }
    }
    if (join.outstanding == 0) {
        finish_join(replica);
    }
}

// The files are there: the replica takes writes from now on, and everything that is not in segments
// yet is written there too.
void GroupCore::finish_join(unsigned replica) noexcept {
    Joining& join = joining[replica];
    if (join.step != Joining::Step::files) {
        return;
    }
    if (join.failed) {
        join = Joining{};
        left_ns[replica] = now_ns;
        if (replica_observer != nullptr) {
            replica_observer(replica_context, replica, Error{Errc::io_failed, 0, replica});
        }
        return;
    }
    join.step = Joining::Step::taking;
    const ReplicaMask bit = bit_of(replica);
    // A container added meanwhile has no file of full length here yet: begin again.
    for (std::uint32_t container = 0; container < table.space().container_count(); ++container) {
        if (table.space().has_container(container) && (containers[replica].size() <= container ||
                                                       containers[replica][container] == no_file)) {
            const bool counts = join.counts;
            join = Joining{};
            begin_join(replica, counts);
            return;
        }
    }
    // What the others have promised stays; it is asked for the same.
    for (PromisedContainer& container : promised) {
        container.asked = static_cast<ReplicaMask>(container.asked & ~bit);
        container.on = static_cast<ReplicaMask>(container.on & ~bit);
    }
    reservation.asked = static_cast<ReplicaMask>(reservation.asked & ~bit);
    forget_copies(replica);
    if (!join.counts) {
        record(ReplicaBlankEntry{replica});  // before any chunk of it is read or refilled
    }
    replicas.taking = static_cast<ReplicaMask>(replicas.taking | bit);
    taken_part = static_cast<ReplicaMask>(taken_part | bit);
    if (join.counts) {
        const auto count_it = [this, bit] {
            if ((replicas.taking & bit) != 0) {
                replicas.counting = static_cast<ReplicaMask>(replicas.counting | bit);
                for (ShardLog* shard : shard_order) {
                    advance(*shard);
                }
            }
        };
        // First the manifest says that it took part, so that a start without it knows what it may
        // hold (R8). Where only the two of them are left, nothing can be said without it.
        if (replicas.has_quorum()) {
            record(epoch_begun(), count_it);
        } else {
            count_it();
        }
    }
    // Without a copy of the manifest the replica could not vote: a new generation carries it whole.
    state->start_generation();
    rewrite_pending();
}

// What is in memory is written to the replica again: it may have come back with another disk.
void GroupCore::forget_copies(unsigned replica) noexcept {
    const auto keep = static_cast<ReplicaMask>(~bit_of(replica));
    for (ShardLog* shard : shard_order) {
        for (FrameMeta* frame = shard->frames; frame != nullptr; frame = frame->next) {
            frame->durable = static_cast<ReplicaMask>(frame->durable & keep);
        }
        for (FrameBuffer* buffer = shard->buffers; buffer != nullptr; buffer = buffer->next) {
            buffer->done = static_cast<ReplicaMask>(buffer->done & keep);
            buffer->flushed = static_cast<ReplicaMask>(buffer->flushed & keep);
        }
    }
}

void GroupCore::rewrite_pending() noexcept {
    for (ShardLog* shard : shard_order) {
        close_buffer(*shard);
        for (FrameMeta* frame = shard->unsubmitted; frame != nullptr; frame = frame->next) {
            frame->submitted = true;
            shard->submitted = frame->last_sequence();
        }
        shard->unsubmitted = nullptr;
        none_unsubmitted(*shard);
        for (FrameBuffer* buffer = shard->buffers; buffer != nullptr; buffer = buffer->next) {
            if (buffer->state == BufferState::settled) {
                // Settled behind one that is not: the replica that came back needs it all the same.
                if ((replicas.taking & ~buffer->flushed) == 0) {
                    continue;
                }
                writing.push_back(buffers.slot_of(buffer));
                buffer->state = BufferState::writing;
                buffer->done = buffer->flushed;
                buffer->discount = buffer->outstanding;
                buffer->direct = true;
            }
            if (!buffer->direct && (buffer->queued || buffer->state != BufferState::closed)) {
                --shard->unflushed;
            }
            if (buffer->state == BufferState::written) {
                std::erase(unflushed, buffers.slot_of(buffer));
                unflushed_bytes -= buffer->length;
                writing.push_back(buffers.slot_of(buffer));
                buffer->state = BufferState::writing;
            }
            if (!buffer->placed) {
                if (!buffer->queued) {
                    queue_buffer(*buffer, true);
                }
                buffer->direct = true;
                continue;
            }
            // Written again in its place, flushed, wherever that did not happen yet.
            if (!buffer->direct) {
                buffer->done = buffer->flushed;
                buffer->discount = buffer->outstanding;  // these are not flushed
            }
            buffer->direct = true;
            buffer->to_queue = static_cast<ReplicaMask>(replicas.taking & ~buffer->flushed);
        }
    }
}

bool GroupCore::complete_on(unsigned replica) const noexcept {
    if ((replicas.taking >> replica & 1) == 0 || !state->holds(replica)) {
        return false;
    }
    for (const auto& [uid, shard] : table.shards()) {
        for (const Chunk& chunk : shard.chunks) {
            if ((chunk.missing >> replica & 1) != 0) {
                return false;
            }
        }
    }
    return true;
}

// -- Copying --------------------------------------------------------------------------------------

void GroupCore::abandon_refill() noexcept {
    // The completion of what is in flight finds another generation, and the buffer stays taken
    // until it came.
    refill.active = false;
    if (refill.step == RefillCopy::Step::idle || refill.step == RefillCopy::Step::recording) {
        refill.step = RefillCopy::Step::idle;
    }
}

// Whether a copy into such a chunk of the shard may still land.
bool GroupCore::refill_in_flight(std::uint64_t uid, std::uint64_t before_ordinal) const noexcept {
    const bool mends =
        scrub.in_flight && scrub.writes && scrub.uid == uid && scrub.ordinal < before_ordinal;
    return mends || (refill.step != RefillCopy::Step::idle && refill.uid == uid &&
                     refill.ordinal < before_ordinal);
}

// The chunk with the fewest copies first (R10).
bool GroupCore::pick_refill() noexcept {
    int best_copies = static_cast<int>(replica_count) + 1;
    for (auto& [uid, shard] : table.shards()) {
        for (const Chunk& chunk : shard.chunks) {
            const auto wanted = static_cast<ReplicaMask>(chunk.missing & replicas.taking);
            const auto sources = static_cast<ReplicaMask>(~chunk.missing & replicas.taking);
            if (wanted == 0 ||
                __builtin_popcount(replicas.taking) < static_cast<int>(quorum_count)) {
                continue;
            }
            const int copies = static_cast<int>(replica_count) -
                               __builtin_popcount(static_cast<unsigned>(chunk.missing));
            if (copies >= best_copies) {
                continue;
            }
            best_copies = copies;
            const std::uint16_t generation = refill.generation;
            refill = RefillCopy{};
            refill.generation = generation;
            refill.active = true;
            refill.uid = uid;
            refill.ordinal = chunk.ordinal;
            refill.target = static_cast<unsigned>(__builtin_ctz(wanted));
            refill.source =
                sources == 0 ? refill.target : static_cast<unsigned>(__builtin_ctz(sources));
            refill.window = refill_window;
            refill.last = chunk.before_sequence;
            const ShardLog& log = *shards.at(uid);
            // What settled later was written by writes the target took part in.
            refill.until =
                chunk.ordinal == log.settled_ordinal ? log.settled_offset : chunk.end_offset;
        }
    }
    return best_copies <= static_cast<int>(replica_count);
}

// One step: a piece is read from a good copy, verified, written, and at the end flushed.
std::size_t GroupCore::refill_step() noexcept {
    if (refill.step != RefillCopy::Step::idle || scrub.in_flight) {
        return 0;  // one of them has the buffer
    }
    bool any_away = false;
    for (unsigned r = 0; r < replica_count; ++r) {
        any_away = any_away || joining[r].step == Joining::Step::taking;
    }
    if (!refill.active && (!any_away || !pick_refill())) {
        for (unsigned r = 0; r < replica_count; ++r) {
            if (joining[r].step == Joining::Step::taking) {
                joining[r].step = Joining::Step::none;
            }
        }
        return 0;
    }
    ShardTable* shard = table.find(static_cast<ShardUid>(refill.uid));
    const Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(refill.ordinal);
    if (chunk == nullptr) {
        refill.active = false;
        return 1;
    }
    if (!ensure_container_file(refill.source, chunk->run.container) ||
        !ensure_container_file(refill.target, chunk->run.container)) {
        refill.active = false;
        return 0;
    }
    const bool reading = refill.offset < refill.until;
    const OpKind kind = reading ? OpKind::refill_read : OpKind::refill_flush;
    const unsigned replica = reading ? refill.source : refill.target;
    ++refill.generation;
    const Cookie cookie{kind, static_cast<std::uint16_t>(value(options.group)), refill.generation,
                        0, replica};
    refill.length = std::min(refill.window, refill.until - refill.offset);
    if (!engine.queue({.kind = reading ? IoKind::read : IoKind::flush,
                       .file = containers[replica][chunk->run.container],
                       .offset = reading ? container_offset(*chunk) + refill.offset : 0,
                       .data = reading ? refill_buffer : nullptr,
                       .length = reading ? refill.length : 0,
                       .cookie = cookie.pack()})) {
        return 0;
    }
    refill.step = reading ? RefillCopy::Step::reading : RefillCopy::Step::flushing;
    return 1;
}

void GroupCore::complete_refill(const Cookie& cookie, std::int64_t result) noexcept {
    const RefillCopy::Step step = refill.step;
    refill.step = RefillCopy::Step::idle;
    if (!refill.active) {
        return;
    }
    const auto short_of =
        static_cast<std::int64_t>(step == RefillCopy::Step::flushing ? 0 : refill.length);
    if (result < short_of) {
        const Error why{result == -28 ? Errc::no_space : Errc::io_failed,
                        static_cast<std::uint16_t>(result < 0 ? -result : 5), cookie.replica};
        refill.active = false;
        replica_failed(cookie.replica, why);
        return;
    }
    switch (step) {
        case RefillCopy::Step::reading:
            refill_read_done();
            break;
        case RefillCopy::Step::writing:
            refill.offset += refill.length;
            refill.last = refill.piece_last;
            break;
        case RefillCopy::Step::flushing:
            refill.active = false;
            record(ChunkRefilledEntry{refill.uid, refill.ordinal, refill.target});
            break;
        case RefillCopy::Step::idle:
        case RefillCopy::Step::recording:
            break;
    }
}

// Chooses who is read next: a replica that should have the piece, then any, the target itself last,
// whose copy may be good although it is not known to be. False: all were tried.
bool GroupCore::next_source(const Chunk& chunk) noexcept {
    const auto left = static_cast<ReplicaMask>(replicas.taking & ~refill.tried);
    for (const ReplicaMask choice :
         {static_cast<ReplicaMask>(left & ~chunk.missing & ~bit_of(refill.target)),
          static_cast<ReplicaMask>(left & ~bit_of(refill.target)), left}) {
        if (choice != 0) {
            refill.source = static_cast<unsigned>(__builtin_ctz(choice));
            return true;
        }
    }
    refill.tried = all_replicas;
    return false;
}

// Verifies the piece frame by frame and writes the part that ends where a write began, so that no
// frame is copied unverified. A bad copy is looked for elsewhere; if there is none, its records are
// lost and said to be.
void GroupCore::refill_read_done() noexcept {
    std::uint64_t at = 0;
    std::uint64_t good = 0;  // ends at a block boundary where the next write begins
    bool bad = false;
    Sequence last = refill.last;  // of what was looked at,
    Sequence good_last = last;    // and of what is good
    while (at < refill.length) {
        FrameHeader header;
        const Bytes rest{refill_buffer + at, refill.length - at};
        const FrameFault fault = check_frame(rest, options.geometry.set_id, header);
        // Older frames of the shard may stand in a place that was used before; and what looks like
        // padding may be a frame that the source does not have: the next one must follow.
        const bool follows = fault == FrameFault::none && header.shard == refill.uid &&
                             (refill.relaxed || (last == refill.last && refill.offset == 0)
                                  ? header.previous_sequence >= last
                                  : header.previous_sequence == last);
        if (follows) {
            if (at % block_bytes == 0) {
                good = at;
                good_last = last;
            }
            last = header.last_sequence();
            at += header.total_bytes();
            continue;
        }
        if (fault == FrameFault::not_a_frame && at % block_bytes != 0) {
            at = align_up(at, block_bytes);  // padding behind a write
            continue;
        }
        bad = fault != FrameFault::truncated;
        break;
    }
    // The piece's end is as good as a next frame when nothing follows it.
    if (at >= refill.length && !bad &&
        (good == 0 || refill.offset + refill.length == refill.until)) {
        good = refill.length;
        good_last = last;
    }
    if (good == 0 && !bad && refill.window < refill_buffer_bytes &&
        refill.offset + refill.length < refill.until) {
        refill.window = refill_buffer_bytes;  // a frame larger than the piece
        return;
    }
    ShardTable* shard = table.find(static_cast<ShardUid>(refill.uid));
    const Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(refill.ordinal);
    if (chunk == nullptr) {
        refill.active = false;
        return;
    }
    if (good == 0) {
        refill.tried = static_cast<ReplicaMask>(refill.tried | bit_of(refill.source));
        if (!refill.relaxed && next_source(*chunk)) {
            return;
        }
        refill.tried = refill.relaxed ? refill.tried : ReplicaMask{0};
        refill.relaxed = true;  // records are missing in the chain: what stands behind them counts
        if (next_source(*chunk)) {
            return;
        }
        // No good copy of this piece anywhere that can be read: the target's stays as it is.
        // Readers verify, and are told which records are gone.
        good = std::min<std::uint64_t>(refill.length, block_bytes);
        good_last = refill.last;
        ++counters.unrepaired_pieces;
    }
    const bool nothing_to_write = refill.tried == all_replicas || refill.source == refill.target;
    refill.length = good;
    refill.window = refill_window;
    refill.relaxed = refill.tried == all_replicas;
    refill.tried = 0;
    refill.piece_last = good_last;
    if (nothing_to_write) {
        refill.offset += good;
        refill.last = good_last;
        next_source(*chunk);
        return;
    }
    const Cookie cookie{OpKind::refill_write, static_cast<std::uint16_t>(value(options.group)),
                        ++refill.generation, 0, refill.target};
    if (!engine.queue({.kind = IoKind::write,
                       .file = containers[refill.target][chunk->run.container],
                       .offset = container_offset(*chunk) + refill.offset,
                       .data = refill_buffer,
                       .length = good,
                       .cookie = cookie.pack()})) {
        return;  // read again next turn
    }
    refill.step = RefillCopy::Step::writing;
}

}  // namespace penstock
