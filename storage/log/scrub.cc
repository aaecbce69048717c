// Reading back what is stored, and mending it.
//
// The copies of a chunk have the same bytes at the same places. So each is walked from the same
// place on, frame by frame, and one that ends earlier than another is bad there: it gets the other
// one's bytes and is read once more. Only what was verified goes over a place, and only up to where
// the good copy was verified. Where all copies end the records are lost, once all three replicas
// were looked at, several times each; while one of them is away, nothing is said (R8).
#include <algorithm>

#include "storage/log/group_core.h"

namespace penstock {

namespace {

// What is read of one copy at a time: the lane checks it in some tens of microseconds.
constexpr std::uint64_t window_bytes = 256U << 10;
// A frame that begins before the rest of the buffer is in it to its end.
constexpr std::uint64_t frame_room = sizeof(FrameHeader) + frame_payload_max + 2 * block_bytes;
// Of bad copies: so often they are read, and written, before they are given up.
constexpr unsigned confirmations = 2;
constexpr unsigned mends_max = 4;
// The first pass does not begin while a node has just started.
constexpr std::uint64_t first_rest_ns = 60'000'000'000;
constexpr std::uint64_t pass_rest_ns = 1'000'000'000;
// While the group writes more than this, a pass goes on at an eighth of its rate.
constexpr std::uint64_t load_bytes_per_s = 4U << 20;
constexpr std::uint64_t slowed_by = 8;
constexpr std::uint64_t weigh_ns = 100'000'000;
// A read waits so long for a moment without writes.
constexpr std::uint64_t patience_ns = 20'000'000;

ReplicaMask bit_of(unsigned replica) noexcept {
    return static_cast<ReplicaMask>(1U << replica);
}

}  // namespace

// -- When -----------------------------------------------------------------------------------------

// What has to do with fewer copies goes first, and so does what writes wait for.
bool GroupCore::scrub_pauses() const noexcept {
    const bool joins = std::ranges::any_of(
        joining, [](const Joining& one) { return one.step != Joining::Step::none; });
    return joins || refill.active || refill.step != RefillCopy::Step::idle ||
           !replicas.has_quorum() || pressed || disk_full;
}

void GroupCore::weigh_load() noexcept {
    if (now_ns - scrub.load_since_ns < weigh_ns) {
        return;
    }
    const std::uint64_t written = counters.journal_bytes + counters.segment_bytes;
    const double per_s = static_cast<double>(written - scrub.load_bytes) * 1e9 /
                         static_cast<double>(now_ns - scrub.load_since_ns);
    scrub.loaded = per_s > static_cast<double>(load_bytes_per_s);
    scrub.load_since_ns = now_ns;
    scrub.load_bytes = written;
}

bool GroupCore::scrub_must_wait() noexcept {
    weigh_load();
    if (scrub_pauses() || now_ns < scrub.due_ns) {
        return true;
    }
    bool writes = unfinished_writes != 0 || flush.active;
    for (unsigned r = 0; r < replica_count; ++r) {
        writes = writes || journal->outstanding_bytes(r) != 0;
    }
    return writes && now_ns - scrub.due_ns < patience_ns;
}

// When turn() is needed for it although nothing else happens.
std::uint64_t GroupCore::scrub_due_ns() const noexcept {
    if (options.scrub_bytes_per_s == 0 || scrub.in_flight || scrub_pauses()) {
        return UINT64_MAX;
    }
    const std::uint64_t due = scrub.in_pass ? scrub.due_ns : scrub.next_pass_ns;
    // What waits for a quiet moment is looked at with the other timers.
    return due > now_ns ? due : UINT64_MAX;
}

// -- Passes ---------------------------------------------------------------------------------------

void GroupCore::begin_scrub_pass() noexcept {
    scrub.in_pass = true;
    scrub.in_chunk = false;
    scrub.uid = 0;
    scrub.ordinal = 0;
    scrub.pass_began_ns = now_ns;
    scrub.due_ns = now_ns;
    scrub.done_bytes = 0;
    scrub.total_bytes = 0;
    scrub.has_doubts = false;
    for (const auto& [uid, shard] : table.shards()) {
        for (const Chunk& chunk : shard.chunks) {
            const auto holders = static_cast<unsigned>(~chunk.missing & replicas.taking);
            scrub.total_bytes +=
                chunk.end_offset * static_cast<unsigned>(__builtin_popcount(holders));
        }
    }
}

void GroupCore::end_scrub_pass() noexcept {
    scrub.in_pass = false;
    scrub.ended_ms = wall_ms;
    ++counters.scrub_passes;
    scrub.next_pass_ns =
        std::max(scrub.pass_began_ns + options.scrub_interval_ns, now_ns + pass_rest_ns);
}

// The next chunk with something durable in it. False: that was the last.
bool GroupCore::next_scrub_chunk() noexcept {
    const auto& all = table.shards();
    for (auto it = all.lower_bound(scrub.uid); it != all.end(); ++it) {
        const ShardTable& shard = it->second;
        for (const Chunk& chunk : shard.chunks) {
            if ((it->first == scrub.uid && chunk.ordinal < scrub.ordinal) ||
                chunk.end_offset == 0 || (~chunk.missing & replicas.taking) == 0) {
                continue;
            }
            scrub.in_chunk = true;
            scrub.uid = it->first;
            scrub.ordinal = chunk.ordinal;
            scrub.until = chunk.end_offset;
            scrub.end_sequence = chunk.end_sequence;
            begin_stretch(0, chunk.before_sequence);
            return true;
        }
    }
    return false;
}

void GroupCore::begin_stretch(std::uint64_t offset, Sequence last) noexcept {
    scrub.offset = offset;
    scrub.last = last;
    scrub.window = window_bytes;
    scrub.doing = Scrub::Doing::look;
    scrub.holders = 0;
    scrub.looked = 0;
    scrub.unreadable = 0;
    scrub.given_up = 0;
    scrub.confirmed = 0;
    scrub.mended = 0;
    if (offset >= scrub.until) {
        scrub.in_chunk = false;
        ++scrub.ordinal;
    }
}

// Somebody left or came, or the chunk may be gone: what is under way proves nothing any more.
void GroupCore::abandon_scrub() noexcept {
    scrub.is_void = scrub.in_flight;
    scrub.doing = Scrub::Doing::look;
    scrub.holders = 0;
}

// What could not be told while a replica was away can be told when it is back.
bool GroupCore::doubts_can_settle() noexcept {
    if (!scrub.has_doubts || now_ns < scrub.due_ns) {
        return false;
    }
    scrub.due_ns = now_ns + pass_rest_ns;
    return complete_on(0) && complete_on(1) && complete_on(2);
}

// One step: an I/O, or what has to be found out before the next one.
std::size_t GroupCore::scrub_step() noexcept {
    if (options.scrub_bytes_per_s == 0 || recovering || scrub.in_flight) {
        return 0;
    }
    if (!scrub.in_pass) {
        if (scrub.next_pass_ns == 0) {
            scrub.next_pass_ns = now_ns + std::min(options.scrub_interval_ns, first_rest_ns);
        }
        if ((now_ns < scrub.next_pass_ns && !doubts_can_settle()) || scrub_pauses()) {
            return 0;
        }
        begin_scrub_pass();
    }
    if (scrub_must_wait()) {
        return 0;
    }
    if (!scrub.in_chunk && !next_scrub_chunk()) {
        end_scrub_pass();
        return 1;
    }
    ShardTable* shard = table.find(static_cast<ShardUid>(scrub.uid));
    const Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(scrub.ordinal);
    const auto holders =
        static_cast<ReplicaMask>(chunk == nullptr ? 0 : ~chunk->missing & replicas.taking);
    if (holders == 0) {
        scrub.in_chunk = false;
        ++scrub.ordinal;
        return 1;
    }
    if (scrub.holders != holders) {
        begin_stretch(scrub.offset, scrub.last);
        scrub.holders = holders;
    }
    return issue_scrub(*chunk) ? 1 : 0;
}

// -- I/O ------------------------------------------------------------------------------------------

bool GroupCore::issue_scrub(const Chunk& chunk) noexcept {
    const bool takes_turns =
        scrub.doing == Scrub::Doing::look || scrub.doing == Scrub::Doing::search;
    if (takes_turns) {
        scrub.replica = static_cast<unsigned>(
            __builtin_ctz(static_cast<unsigned>(scrub.holders & ~scrub.looked)));
    }
    const std::uint64_t from = align_down(scrub.offset, block_bytes);
    std::byte* data = refill_buffer;
    switch (scrub.doing) {
        case Scrub::Doing::look:
        case Scrub::Doing::source:
            scrub.io_offset = from;
            scrub.io_bytes = std::min(scrub.window, scrub.until - from);
            break;
        case Scrub::Doing::splice:
            data += refill_buffer_bytes - block_bytes;
            scrub.io_offset = align_down(scrub.mend_until, block_bytes);
            scrub.io_bytes = block_bytes;
            break;
        case Scrub::Doing::mend:
            scrub.io_offset = align_down(scrub.looks[scrub.target].offset, block_bytes);
            scrub.io_bytes = align_up(scrub.mend_until, block_bytes) - scrub.io_offset;
            data += scrub.io_offset - from;
            break;
        case Scrub::Doing::search:
            scrub.io_offset = align_down(scrub.search_at, block_bytes);
            scrub.io_bytes = std::min(scrub.until - scrub.io_offset,
                                      std::uint64_t{refill_buffer_bytes - block_bytes});
            break;
    }
    if (!ensure_container_file(scrub.replica, chunk.run.container)) {
        scrub.due_ns = now_ns + weigh_ns;
        return false;
    }
    const bool writes = scrub.doing == Scrub::Doing::mend;
    const Cookie cookie{writes ? OpKind::scrub_write : OpKind::scrub_read,
                        static_cast<std::uint16_t>(value(options.group)), ++scrub.generation, 0,
                        scrub.replica};
    if (!engine.queue({.kind = writes ? IoKind::write_durable : IoKind::read,
                       .file = containers[scrub.replica][chunk.run.container],
                       .offset = container_offset(chunk) + scrub.io_offset,
                       .data = data,
                       .length = scrub.io_bytes,
                       .cookie = cookie.pack()})) {
        return false;
    }
    scrub.in_flight = true;
    scrub.is_void = false;
    scrub.writes = writes;
    const double cost_ns =
        static_cast<double>(scrub.io_bytes) * 1e9 / static_cast<double>(options.scrub_bytes_per_s);
    scrub.due_ns = std::max(scrub.due_ns, now_ns) +
                   static_cast<std::uint64_t>(cost_ns) * (scrub.loaded ? slowed_by : 1);
    return true;
}

void GroupCore::complete_scrub(const Cookie& cookie, std::int64_t result) noexcept {
    if (!scrub.in_flight || cookie.generation != scrub.generation) {
        return;
    }
    scrub.in_flight = false;
    const ShardTable* shard = table.find(static_cast<ShardUid>(scrub.uid));
    if (scrub.is_void || shard == nullptr || (replicas.taking & bit_of(scrub.replica)) == 0) {
        scrub.is_void = false;
        return;
    }
    switch (scrub.doing) {
        case Scrub::Doing::look:
            scrub_looked(result);
            break;
        case Scrub::Doing::source:
            scrub_source_read(result);
            break;
        case Scrub::Doing::splice:
            // If it cannot be read, what the good copy has there is as good as anything.
            if (result == static_cast<std::int64_t>(block_bytes)) {
                const std::uint64_t kept = scrub.mend_until % block_bytes;
                const std::uint64_t at = scrub.mend_until - align_down(scrub.offset, block_bytes);
                std::memcpy(refill_buffer + at,
                            refill_buffer + refill_buffer_bytes - block_bytes + kept,
                            block_bytes - kept);
            }
            scrub.doing = Scrub::Doing::mend;
            break;
        case Scrub::Doing::mend:
            scrub_mended(result);
            break;
        case Scrub::Doing::search:
            scrub_searched(result);
            break;
    }
}

WalkPlace GroupCore::scrub_place(const ShardTable& shard) const noexcept {
    return {.set_id = options.geometry.set_id,
            .shard = scrub.uid,
            .group = value(options.group),
            .offset = scrub.offset,
            .until = scrub.until,
            .last = scrub.last,
            .end_sequence = scrub.end_sequence,
            .lost = shard.lost};
}

// -- Looking --------------------------------------------------------------------------------------

void GroupCore::scrub_looked(std::int64_t result) noexcept {
    const ReplicaMask bit = bit_of(scrub.replica);
    FrameWalk& look = scrub.looks[scrub.replica];
    look = {.offset = scrub.offset, .last = scrub.last, .end = WalkEnd::bad, .need = 0};
    if (result < 0) {
        scrub.unreadable = static_cast<ReplicaMask>(scrub.unreadable | bit);
    } else {
        // A file that was cut short has nothing there.
        const auto have = std::min(static_cast<std::uint64_t>(result), scrub.io_bytes);
        std::memset(refill_buffer + have, 0, scrub.io_bytes - have);
        counters.scrub_read_bytes += have;
        const ShardTable& shard = *table.find(static_cast<ShardUid>(scrub.uid));
        look = walk_frames(scrub_place(shard), {refill_buffer, scrub.io_bytes});
    }
    scrub.looked = static_cast<ReplicaMask>(scrub.looked | bit);
    if (scrub.looked == scrub.holders) {
        judge_stretch();
    }
}

// Every copy was walked as far as it goes.
void GroupCore::judge_stretch() noexcept {
    std::uint64_t most = 0;
    std::uint64_t need = 0;
    unsigned best = replica_count;
    bool is_unknown = false;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((scrub.looked >> r & 1) == 0) {
            continue;
        }
        const FrameWalk& look = scrub.looks[r];
        if (best == replica_count || look.offset > most) {
            most = look.offset;
            best = r;
        }
        need = look.end == WalkEnd::bytes ? std::max(need, look.need) : need;
        is_unknown = is_unknown || look.end == WalkEnd::unknown;
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        const ReplicaMask bit = bit_of(r);
        if ((scrub.looked & ~scrub.given_up & bit) == 0 || scrub.looks[r].offset >= most) {
            continue;
        }
        if (scrub.mended >= mends_max) {
            scrub.given_up = static_cast<ReplicaMask>(scrub.given_up | bit);
            ++counters.scrub_unkept;
            scrub.target = r;
            scrub.mend_until = most;
            tell_scrub(ScrubEvent::Kind::unkept, scrub.looks[r].last + 1,
                       scrub.looks[best].last + 1, most - scrub.looks[r].offset, best);
            continue;
        }
        scrub.target = r;
        scrub.mend_until = most;
        scrub.replica = best;
        scrub.doing = Scrub::Doing::source;
        return;
    }
    if (most > scrub.offset) {
        scrub.done_bytes += (most - scrub.offset) *
                            static_cast<unsigned>(__builtin_popcount(unsigned{scrub.looked}));
        begin_stretch(most, scrub.looks[best].last);
        return;
    }
    scrub.looked = 0;
    if (is_unknown) {  // a newer build's: nothing that this one may judge
        scrub.in_chunk = false;
        ++scrub.ordinal;
        return;
    }
    const std::uint64_t base = align_down(scrub.offset, block_bytes);
    const std::uint64_t wider = std::min(align_up(need, block_bytes), scrub.until - base);
    if (need != 0 && wider > scrub.window && wider <= refill_buffer_bytes - block_bytes) {
        scrub.window = wider;
        return;
    }
    if (scrub.confirmed < confirmations) {
        ++scrub.confirmed;
        return;
    }
    scrub.doing = Scrub::Doing::search;
    scrub.search_at = scrub.offset;
    scrub.found.reset();
}

// -- Mending --------------------------------------------------------------------------------------

// The good copy is in the buffer once more. It is verified again: this is what will be written.
void GroupCore::scrub_source_read(std::int64_t result) noexcept {
    const ShardTable& shard = *table.find(static_cast<ShardUid>(scrub.uid));
    const bool is_whole = result == static_cast<std::int64_t>(scrub.io_bytes);
    if (!is_whole || walk_frames(scrub_place(shard), {refill_buffer, scrub.io_bytes}).offset <
                         scrub.mend_until) {
        begin_stretch(scrub.offset, scrub.last);
        return;
    }
    scrub.doing = scrub.mend_until % block_bytes != 0 ? Scrub::Doing::splice : Scrub::Doing::mend;
    scrub.replica = scrub.target;
}

void GroupCore::scrub_mended(std::int64_t result) noexcept {
    const unsigned target = scrub.target;
    if (result < static_cast<std::int64_t>(scrub.io_bytes)) {
        const bool full = result == -28;
        replica_failed(target, Error{full ? Errc::no_space : Errc::io_failed,
                                     static_cast<std::uint16_t>(result < 0 ? -result : 5), target});
        return;
    }
    const FrameWalk& look = scrub.looks[target];
    const std::uint64_t bytes = scrub.mend_until - look.offset;
    ++counters.scrub_damaged[target];
    counters.scrub_repaired_bytes[target] += bytes;
    unsigned source = target;
    Sequence last = look.last;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((scrub.looked >> r & 1) != 0 && scrub.looks[r].offset == scrub.mend_until) {
            source = r;
            last = scrub.looks[r].last;
        }
    }
    tell_scrub(ScrubEvent::Kind::repaired, look.last + 1, last + 1, bytes, source);
    ++scrub.mended;
    scrub.looked = 0;  // all are read once more
    scrub.unreadable = 0;
    scrub.doing = Scrub::Doing::look;
}

// -- What nobody has ------------------------------------------------------------------------------

void GroupCore::scrub_searched(std::int64_t result) noexcept {
    ShardTable& shard = *table.find(static_cast<ShardUid>(scrub.uid));
    const bool is_last = scrub.io_offset + scrub.io_bytes >= scrub.until;
    const std::uint64_t limit =
        is_last ? scrub.until : scrub.io_offset + scrub.io_bytes - frame_room;
    if (result < 0) {
        scrub.unreadable = static_cast<ReplicaMask>(scrub.unreadable | bit_of(scrub.replica));
    } else {
        const auto have = std::min(static_cast<std::uint64_t>(result), scrub.io_bytes);
        const std::uint64_t from = std::max(scrub.search_at, scrub.offset + frame_alignment);
        const auto found = find_frame(scrub_place(shard), {refill_buffer, have}, scrub.io_offset,
                                      from, scrub.found ? scrub.found->offset : limit);
        scrub.found = found ? found : scrub.found;
    }
    scrub.looked = static_cast<ReplicaMask>(scrub.looked | bit_of(scrub.replica));
    if (scrub.looked != scrub.holders) {
        return;
    }
    scrub.looked = 0;
    if (!scrub.found && !is_last) {
        scrub.search_at = limit;
        return;
    }
    Chunk* chunk = shard.chunk(scrub.ordinal);
    if (chunk == nullptr) {
        scrub.in_chunk = false;
        return;
    }
    pass_over_hole(shard, *chunk);
}

// From scrub.offset to where frames begin again no copy is good.
void GroupCore::pass_over_hole(ShardTable& shard, Chunk& chunk) noexcept {
    const Sequence from = scrub.last + 1;
    const Sequence before = scrub.found ? scrub.found->before : scrub.end_sequence;
    const bool is_known = known_lost(shard.lost, from, before + 1);
    const bool saw_all = scrub.holders == all_replicas && scrub.unreadable == 0;
    scrub.target = scrub.replica;
    scrub.mend_until = scrub.found ? scrub.found->offset : scrub.until;
    const std::uint64_t bytes = scrub.mend_until - scrub.offset;
    if (!is_known && saw_all) {
        // What is known of it already is not told twice.
        Sequence until = before + 1;
        for (const LostRange& range : shard.lost) {
            until = range.from > from ? std::min(until, range.from) : until;
        }
        record(LostRangeEntry{scrub.uid, from, until});
        tell_scrub(ScrubEvent::Kind::lost, from, until, bytes, scrub.replica);
    } else if (!is_known) {
        ++counters.scrub_doubts;
        scrub.has_doubts = scrub.has_doubts || scrub.holders != all_replicas;
        tell_scrub(ScrubEvent::Kind::unresolved, from, before + 1, bytes, scrub.replica);
    }
    // Readers come in behind it. The snapshot that begins now keeps the point.
    if (scrub.found && before >= from && (is_known || saw_all) &&
        shard.add_point(chunk, {scrub.found->offset, before, scrub.found->first_arrival_ms})) {
        state->start_generation();
    }
    scrub.done_bytes += bytes * static_cast<unsigned>(__builtin_popcount(unsigned{scrub.holders}));
    begin_stretch(scrub.mend_until, before);
}

void GroupCore::tell_scrub(ScrubEvent::Kind kind, Sequence from, Sequence until,
                           std::uint64_t bytes, unsigned source) noexcept {
    if (scrub_observer == nullptr) {
        return;
    }
    ShardTable* shard = table.find(static_cast<ShardUid>(scrub.uid));
    const Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(scrub.ordinal);
    if (chunk == nullptr) {
        return;
    }
    scrub_observer(scrub_context, {.kind = kind,
                                   .replica = scrub.target,
                                   .source = source,
                                   .group = options.group,
                                   .shard = static_cast<ShardUid>(scrub.uid),
                                   .from = from,
                                   .until = until,
                                   .container = chunk->run.container,
                                   .offset = container_offset(*chunk) + scrub.mend_until - bytes,
                                   .bytes = bytes});
}

}  // namespace penstock
