// The interface of a shard group, appending, and the order of work in a turn.
#include "storage/log/group.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "storage/base/crc32c.h"
#include "storage/log/group_core.h"

namespace penstock {

namespace {

// Buffers start small, so that thousands of slow shards fit, and follow the shard's flow up to one
// large write; where the sizes come from: docs/decisions/0002-write-sizes.md.
constexpr std::uint32_t buffer_smallest = 16U * 1024;
constexpr std::uint32_t buffer_largest = 512U * 1024;
// What a shard whose frames are journaled is content with when the pool has no larger block free:
// every such shard holds a buffer all the time.
constexpr std::uint32_t buffer_journaled_largest = 64U * 1024;
constexpr std::uint64_t timer_ns = 20'000'000;
// Between two looks for what to relieve of a lane that has nothing else to do.
constexpr std::uint64_t relief_ns = 1'000'000;
// A shard that wrote directly within this time is a busy one: it waits for a buffer that is worth a
// write instead of breaking into its share for a small one.
constexpr std::uint64_t bulk_rest_ns = 100'000'000;
// One shard may not take all memory of its lane; and records that yield leave so much of it, and of
// what a shard may take, to those that don't.
constexpr std::uint64_t shard_part = 4;
// Shards that get records all at once, and find room.
constexpr std::uint64_t shards_ahead = 8;
constexpr std::uint64_t yielding_part = 32;
// Checksums are taken over pieces of this size: still in the nearest cache, and long enough for the
// wide instructions, which cost as much for a record of 100 bytes as for one of 500.
constexpr std::uint32_t crc_piece_bytes = 4096;

// Two frames per smallest buffer is what small records at the commit interval come to.
std::uint32_t buffer_slots(const FramePool& pool) noexcept {
    return static_cast<std::uint32_t>(pool.size_bytes() / buffer_smallest + 64);
}
std::uint32_t frame_slots(const FramePool& pool) noexcept {
    return static_cast<std::uint32_t>(pool.size_bytes() / 4096 + 256);
}

}  // namespace

const char* describe(AppendVerdict verdict) noexcept {
    switch (verdict) {
        case AppendVerdict::accepted:
            return "accepted";
        case AppendVerdict::no_memory:
            return "the lane's buffers are full";
        case AppendVerdict::shard_behind:
            return "the shard has taken its share of the lane's buffers or room";
        case AppendVerdict::no_room:
            return "space on the disks is still being reserved";
        case AppendVerdict::disk_full:
            return "the disks are full";
        case AppendVerdict::no_quorum:
            return "fewer than two replicas take writes";
        case AppendVerdict::needs_all:
            return "level all was asked for and a replica is out";
        case AppendVerdict::unknown_shard:
            return "the shard does not exist";
        case AppendVerdict::shard_closed:
            return "the shard is closed";
        case AppendVerdict::too_large:
            return "the record is too large";
        case AppendVerdict::producer_fenced:
            return "its producer has begun a newer epoch";
        case AppendVerdict::producer_window:
            return "its producer's batch is not remembered any more";
        case AppendVerdict::producers_full:
            return "there are too many producers to remember it";
        case AppendVerdict::count_:
            break;
    }
    return "unknown";
}

GroupCore::GroupCore(const GroupOptions& o, IoEngine& e, Clock& c, FramePool& p)
    : options(o),
      engine(e),
      clock(c),
      pool(p),
      table(static_cast<std::uint32_t>(o.geometry.container_bytes / o.geometry.chunk_unit_bytes)),
      buffers(buffer_slots(p)),
      frames(frame_slots(p)) {
    now_ns = clock.monotonic_ns();
    wall_ms = clock.wall_ms();
    steady_ms = wall_ms;
    steady_offset_ms = wall_ms - static_cast<std::int64_t>(now_ns / 1'000'000);
}

GroupCore::~GroupCore() {
    for (ShardLog* shard : shard_order) {
        give_up_share(*shard);
    }
    for (auto& files : containers) {
        for (const FileHandle file : files) {
            if (file != no_file) {
                engine.close(file);
            }
        }
    }
}

ShardLog* GroupCore::add_shard_log(ShardTable& shard_table) {
    auto log = std::make_unique<ShardLog>();
    log->uid = shard_table.uid;
    log->table = &shard_table;
    log->next_sequence = shard_table.next_sequence;
    log->committed = shard_table.end.sequence;
    log->committed_all = shard_table.end.sequence;
    log->submitted = shard_table.end.sequence;
    log->last_arrival_ms = shard_table.last_arrival_ms;
    log->committed_arrival_ms = shard_table.last_arrival_ms;
    log->chain = shard_table.end;
    log->settled = shard_table.end;
    log->settled_arrival_ms = shard_table.last_arrival_ms;
    log->settled_ordinal = shard_table.next_ordinal;
    log->buffer_wish = buffer_smallest;
    ShardLog* raw = log.get();
    shards.emplace(value(raw->uid), std::move(log));
    shard_order.push_back(raw);
    raw->closing = shard_table.closed;
    raw->has_share = !shard_table.closed;
    if (raw->has_share) {
        pool.add_holder();
    }
    hold(*raw, 0);
    return raw;
}

// -- Appending ------------------------------------------------------------------------------------

AppendVerdict GroupCore::admit(const ShardLog& shard, std::uint64_t bytes, AckLevel level,
                               bool yields) noexcept {
    if (shard.closing) {
        return AppendVerdict::shard_closed;
    }
    if (!replicas.has_quorum()) {
        return AppendVerdict::no_quorum;
    }
    if (level == AckLevel::all && (replicas.taking & replicas.counting) != all_replicas) {
        return AppendVerdict::needs_all;
    }
    if (shard.dropping) {
        return AppendVerdict::unknown_shard;
    }
    const bool over_share = shard.held_bytes + bytes > pool.share_bytes();
    if (!has_room(shard, bytes, over_share ? room_margin : 0)) {
        if (reserve_failed) {
            return AppendVerdict::disk_full;
        }
        space_wanted = true;
        return over_share && has_room(shard, bytes, 0) ? AppendVerdict::shard_behind
                                                       : AppendVerdict::no_room;
    }
    const std::uint64_t most =
        pool.size_bytes() / shard_part - (yields ? pool.size_bytes() / yielding_part : 0);
    if (shard.pending_bytes + bytes > most) {
        return AppendVerdict::shard_behind;
    }
    return AppendVerdict::accepted;
}

AppendVerdict GroupCore::append(ShardLog& shard, const RecordIn& record, AckLevel level,
                                Appended& out) noexcept {
    if (record.data.size() + record.partition_key.size() > max_record_bytes ||
        record.partition_key.size() > max_key_bytes) {
        return AppendVerdict::too_large;
    }
    AppendVerdict verdict = AppendVerdict::accepted;
    out.repeated = false;
    if (record.producer != nullptr) {
        verdict = look_for_repeat(shard, *record.producer, out);
        if (out.repeated || verdict != AppendVerdict::accepted) {
            return verdict;
        }
    }
    const std::uint64_t bytes = record_bytes(record);
    if (bytes > pool.size_bytes() / shard_part) {
        return AppendVerdict::too_large;  // it would be pushed back for ever
    }
    verdict = admit(shard, bytes, level, record.yields);
    if (verdict != AppendVerdict::accepted) {
        return verdict;
    }
    const std::int64_t arrival = std::max(wall_ms, shard.last_arrival_ms);
    FrameBuffer* buffer = shard.buffers_last;
    const bool fits =
        shard.frame_records != 0 && buffer->used + bytes <= buffer->capacity &&
        arrival - shard.frame_first_arrival_ms <= std::numeric_limits<std::uint32_t>::max();
    if (!fits) {
        verdict = open_frame(shard, bytes, record.yields);
        if (verdict != AppendVerdict::accepted) {
            return verdict;
        }
        buffer = shard.buffers_last;
        shard.frame_first_arrival_ms = arrival;
        shard.frame_first = shard.next_sequence;
    }
    std::byte* to = buffer->data + buffer->used;
    encode_record(record, static_cast<std::uint32_t>(arrival - shard.frame_first_arrival_ms), to,
                  {value(shard.uid), shard.next_sequence, arrival});
    buffer->used += static_cast<std::uint32_t>(bytes);
    if (buffer->used - shard.frame_crc_at >= crc_piece_bytes) {
        extend_frame_crc(shard);
    }
    ++shard.frame_records;
    shard.frame_data_bytes += record.data.size() + record.partition_key.size();
    shard.last_arrival_ms = arrival;
    out.sequence = shard.next_sequence++;
    out.arrival_ms = arrival;
    if (record.producer != nullptr) {
        producers.note(shard.uid, *record.producer, out.sequence, arrival, steady_ms);
    }
    add_unsubmitted(shard, bytes);
    shard.pending_bytes += bytes;
    pending_total += bytes;
    unplaced_total += bytes;
    ++counters.records_appended;
    mark_dirty(shard);
    return AppendVerdict::accepted;
}

void GroupCore::mark_dirty(ShardLog& shard) noexcept {
    if (shard.dirty) {
        return;
    }
    shard.dirty = true;
    shard.dirty_next = nullptr;
    if (dirty == nullptr) {
        dirty = &shard;
    } else {
        dirty_last->dirty_next = &shard;
    }
    dirty_last = &shard;
}

void GroupCore::add_unsubmitted(ShardLog& shard, std::uint64_t bytes) noexcept {
    const bool before = shard.unsubmitted_bytes >= options.direct_threshold_bytes;
    shard.unsubmitted_bytes += bytes;
    direct_wanted += !before && shard.unsubmitted_bytes >= options.direct_threshold_bytes ? 1U : 0U;
}

void GroupCore::none_unsubmitted(ShardLog& shard) noexcept {
    direct_wanted -= shard.unsubmitted_bytes >= options.direct_threshold_bytes ? 1U : 0U;
    shard.unsubmitted_bytes = 0;
}

// The largest buffer that suits a shard: with two of it, one that fills and one that is written,
// for every shard that has something in memory now.
std::uint32_t GroupCore::buffer_limit() const noexcept {
    const std::uint64_t part = pool.size_bytes() / (2 * std::max<std::uint64_t>(waiting_shards, 1));
    return static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(std::bit_floor(part), buffer_smallest, buffer_largest));
}

// Notes what a shard holds of the pool's memory, and has the rest of its share kept for it.
void GroupCore::hold(ShardLog& shard, std::uint64_t held_bytes) noexcept {
    shard.held_bytes = held_bytes;
    const std::uint64_t share = pool.share_bytes();
    const std::uint64_t keep = shard.has_share ? share - std::min(held_bytes, share) : 0;
    pool.keep(shard.kept_bytes, keep);
    shard.kept_bytes = keep;
}

void GroupCore::give_up_share(ShardLog& shard) noexcept {
    if (!shard.has_share) {
        return;
    }
    shard.has_share = false;
    pool.keep(shard.kept_bytes, 0);
    shard.kept_bytes = 0;
    pool.remove_holder();
}

// A block for the shard's next buffer: as large as its flow asks for if that leaves the others
// their shares, otherwise from what is left of its own.
std::byte* GroupCore::take_memory(const ShardLog& shard, std::uint64_t at_least, bool yields,
                                  std::uint64_t& capacity) noexcept {
    const std::uint64_t needed = FramePool::rounded(at_least);
    const std::uint64_t wish = std::max(FramePool::rounded(shard.buffer_wish), needed);
    const std::uint64_t modest =
        std::max(std::min<std::uint64_t>(wish, buffer_journaled_largest), needed);
    const std::uint64_t margin = yields ? pool.size_bytes() / yielding_part : 0;
    const auto take_free = [&](std::uint64_t bytes) noexcept {
        capacity = bytes;
        const bool free = recovering || pool.spares(bytes, shard.kept_bytes, margin);
        return free ? pool.take(bytes) : nullptr;
    };
    std::byte* data = take_free(wish);
    // A shard that has nothing in memory gets a smaller one; others wait, or their writes would
    // become ever smaller the more memory is wanted.
    if (data == nullptr && shard.buffers == nullptr && modest < wish) {
        data = take_free(modest);
    }
    const bool busy = in_bulk(shard);
    const std::uint64_t worth = busy ? modest : needed;
    for (std::uint64_t bytes = std::min(wish, std::bit_floor(shard.kept_bytes));
         data == nullptr && bytes >= worth; bytes /= 2) {
        capacity = bytes;
        data = pool.take(bytes);
    }
    // Shares may be smaller than a record.
    if (data == nullptr && shard.buffers == nullptr && !busy && needed > pool.share_bytes()) {
        capacity = needed;
        data = pool.take(needed);
    }
    return data;
}

bool GroupCore::in_bulk(const ShardLog& shard) const noexcept {
    return shard.bulk && now_ns - shard.went_direct_ns < bulk_rest_ns;
}

FrameBuffer* GroupCore::open_buffer(ShardLog& shard, std::uint64_t at_least, bool yields) noexcept {
    if (!recovering) {
        shard.buffer_wish = std::min(shard.buffer_wish, buffer_limit());
    }
    shard.buffer_wish = std::max(shard.buffer_wish, buffer_smallest);
    FrameBuffer* buffer = buffers.take();
    std::uint64_t capacity = 0;
    std::byte* data = buffer == nullptr ? nullptr : take_memory(shard, at_least, yields, capacity);
    if (data == nullptr) {
        if (buffer != nullptr) {
            buffers.give(buffer);
        }
        // Busy shards fill whatever is relieved for them, and relieve themselves.
        memory_short = memory_short || !in_bulk(shard);
        return nullptr;
    }
    hold(shard, shard.held_bytes + capacity);
    const auto generation = static_cast<std::uint16_t>(buffer->generation + 1);
    *buffer = FrameBuffer{};
    buffer->generation = generation;
    buffer->shard = &shard;
    buffer->data = data;
    buffer->capacity = static_cast<std::uint32_t>(capacity);
    if (shard.buffers == nullptr) {
        shard.buffers = buffer;
        ++waiting_shards;
    } else {
        shard.buffers_last->next = buffer;
    }
    shard.buffers_last = buffer;
    enter_relief(shard);
    return buffer;
}

// Ends the open frame, if any, and begins one with room for a record of `bytes`.
AppendVerdict GroupCore::open_frame(ShardLog& shard, std::uint64_t bytes, bool yields) noexcept {
    // Each open frame needs a slot when it is sealed: keep one for every shard.
    if (frames.free_count() < shards.size() + 16) {
        memory_short = true;
        return AppendVerdict::no_memory;
    }
    FrameBuffer* buffer = shard.buffers_last;
    const std::uint64_t needed = sizeof(FrameHeader) + align_up(bytes, frame_alignment);
    if (shard.frame_records != 0) {
        seal_frame(shard);
    }
    if (buffer == nullptr || buffer->state != BufferState::open ||
        buffer->used + needed > buffer->capacity) {
        const bool filled = buffer != nullptr && buffer->state == BufferState::open;
        if (needed > FramePool::largest) {
            return AppendVerdict::no_memory;
        }
        if (filled) {
            // It filled before time closed it: a larger one suits this flow.
            shard.buffer_wish = std::min(shard.buffer_wish * 2, buffer_limit());
            close_buffer(shard);
        }
        buffer = open_buffer(shard, needed, yields);
        if (buffer == nullptr) {
            // Who holds nothing, and was not busy just now, found not even its share.
            return shard.buffers == nullptr && !in_bulk(shard) ? AppendVerdict::no_memory
                                                               : AppendVerdict::shard_behind;
        }
    }
    const std::uint64_t opened = clock.monotonic_ns();
    shard.frame_offset = buffer->used;
    buffer->used += sizeof(FrameHeader);
    shard.frame_crc = 0;
    shard.frame_crc_at = buffer->used;
    shard.frame_data_bytes = 0;
    shard.frame_opened_ns = opened;
    add_unsubmitted(shard, sizeof(FrameHeader));
    shard.pending_bytes += sizeof(FrameHeader);
    pending_total += sizeof(FrameHeader);
    unplaced_total += sizeof(FrameHeader);
    if (shard.pending_since_ns == 0) {
        shard.pending_since_ns = opened;
    }
    return AppendVerdict::accepted;
}

// Takes what was added to the open frame into its checksum.
void GroupCore::extend_frame_crc(ShardLog& shard) noexcept {
    const FrameBuffer& buffer = *shard.buffers_last;
    shard.frame_crc = crc32c_extend(
        shard.frame_crc, {buffer.data + shard.frame_crc_at, buffer.used - shard.frame_crc_at});
    shard.frame_crc_at = buffer.used;
}

void GroupCore::seal_frame(ShardLog& shard) noexcept {
    FrameBuffer* buffer = shard.buffers_last;
    FrameMeta* meta = frames.take();
    PENSTOCK_CHECK(meta != nullptr && shard.frame_records != 0);
    const std::uint32_t payload =
        buffer->used - shard.frame_offset - static_cast<std::uint32_t>(sizeof(FrameHeader));
    extend_frame_crc(shard);
    FrameHeader header;
    header.payload_crc = shard.frame_crc;
    header.payload_bytes = payload;
    header.record_count = shard.frame_records;
    header.shard = value(shard.uid);
    header.epoch = value(options.epoch);
    header.first_sequence = shard.frame_first;
    header.previous_epoch = shard.chain.epoch;
    header.previous_sequence = shard.chain.sequence;
    header.previous_crc = shard.chain.crc;
    header.committed_through = shard.committed;
    header.first_arrival_ms = shard.frame_first_arrival_ms;
    header.last_arrival_ms = shard.last_arrival_ms;
    header.group = value(options.group);
    header.set_id = options.geometry.set_id;
    seal_header(header, buffer->data + shard.frame_offset);

    const std::uint32_t generation = meta->generation + 1;
    *meta = FrameMeta{};
    meta->generation = generation;
    meta->buffer = buffer;
    meta->offset = shard.frame_offset;
    meta->bytes = static_cast<std::uint32_t>(header.total_bytes());
    meta->records = shard.frame_records;
    meta->first_sequence = shard.frame_first;
    meta->opened_ns = shard.frame_opened_ns;
    meta->data_bytes = shard.frame_data_bytes;
    meta->last_arrival_ms = shard.last_arrival_ms;
    meta->identity = {header.last_sequence(), header.epoch, header.header_crc};
    shard.chain = meta->identity;
    shard.frame_records = 0;

    const std::uint32_t end = meta->offset + meta->bytes;
    std::memset(buffer->data + buffer->used, 0, std::min(end, buffer->capacity) - buffer->used);
    add_unsubmitted(shard, end - buffer->used);
    shard.pending_bytes += end - buffer->used;
    pending_total += end - buffer->used;
    unplaced_total += end - buffer->used;
    buffer->used = end;

    if (shard.frames == nullptr) {
        shard.frames = meta;
    } else {
        shard.frames_last->next = meta;
    }
    shard.frames_last = meta;
    if (buffer->first == nullptr) {
        buffer->first = meta;
    }
    buffer->last = meta;
    for (FrameMeta** cursor : {&shard.unsubmitted, &shard.commit_next, &shard.all_next}) {
        if (*cursor == nullptr) {
            *cursor = meta;
        }
    }
}

// Ends the open buffer; it is only read from now on.
void GroupCore::close_buffer(ShardLog& shard) noexcept {
    FrameBuffer* buffer = shard.buffers_last;
    if (buffer == nullptr || buffer->state != BufferState::open) {
        return;
    }
    if (shard.frame_records != 0) {
        seal_frame(shard);
    }
    PENSTOCK_CHECK(buffer->used != 0);
    buffer->length = static_cast<std::uint32_t>(align_up(buffer->used, block_bytes));
    std::memset(buffer->data + buffer->used, 0, buffer->length - buffer->used);
    buffer->state = BufferState::closed;
}

// -- Turn -----------------------------------------------------------------------------------------

std::size_t GroupCore::turn() noexcept {
    now_ns = clock.monotonic_ns();
    wall_ms = clock.wall_ms();
    steady_ms = steady_offset_ms + static_cast<std::int64_t>(now_ns / 1'000'000);
    room_margin = margin_units();
    std::size_t work = 0;
    work += gather();
    work += issue_writes();
    bool full = false;
    work += journal->queue_writes(full);
    work += flush_if_due();
    work += refill_step();
    work += scrub_step();
    work += relieve();
    if (space_wanted) {
        space_wanted = false;
        reserve_space();
    }
    if (frees_journal()) {
        write_points();
    }
    if (now_ns >= next_timer_ns) {
        timers();
    }
    work += state->turn(now_ns);
    return work;
}

void GroupCore::timers() noexcept {
    next_timer_ns = now_ns + timer_ns;
    if (share_told != pool.share_bytes()) {
        share_told = pool.share_bytes();
        for (ShardLog* shard : shard_order) {
            hold(*shard, shard->held_bytes);
        }
    }
    watch_lag();
    refresh_full();
    // What has waited long in memory goes to its segment, so that a quiet node has little to
    // recover.
    constexpr std::uint64_t move_after_ns = 2'000'000'000;
    for (ShardLog* shard : shard_order) {
        if (shard->pending_since_ns != 0 && now_ns - shard->pending_since_ns > move_after_ns &&
            shard->unsubmitted_bytes == 0) {
            shard->buffer_wish = 0;
            move_shard(*shard);
        }
    }
    write_points();
    finish_drops();
    if (now_ns >= next_retention_ns) {
        next_retention_ns = now_ns + 1'000'000'000;
        watch_clock();
        apply_retention();
    }
}

std::uint64_t GroupCore::next_due_ns() const noexcept {
    if (dirty != nullptr) {
        return std::max(now_ns, last_journal_ns + options.linger_ns);
    }
    if (space_wanted) {
        return now_ns;
    }
    if (pressed) {
        return now_ns + relief_ns;
    }
    const bool quiet = pending_total == 0 && state->idle() && !growth.active &&
                       !reservation.active && !flush.active &&
                       refill.step == RefillCopy::Step::idle;
    return std::min(scrub_due_ns(),
                    quiet ? std::max(next_retention_ns, next_timer_ns) : next_timer_ns);
}

bool GroupCore::drain() noexcept {
    bool quiet = state->idle();  // a container that is being made is nobody's yet
    for (ShardLog* shard : shard_order) {
        if (shard->unsubmitted_bytes == 0 && shard->buffers != nullptr) {
            move_shard(*shard);
        }
        quiet = quiet && shard->buffers == nullptr;
    }
    flush_wanted = true;
    if (quiet) {
        for (ShardLog* shard : shard_order) {
            shard->point_due = shard->point_due || shard->settled_since_point != 0;
        }
        write_points();
        quiet = state->idle();
    }
    return quiet;
}

// -- The interface ------------------------------------------------------------------------------

ShardGroup::ShardGroup(std::unique_ptr<GroupCore> core) noexcept : core_(std::move(core)) {}
ShardGroup::~ShardGroup() = default;

Result<std::unique_ptr<ShardGroup>> ShardGroup::recover(const GroupOptions& options,
                                                        IoEngine& engine, Clock& clock,
                                                        FramePool& pool) {
    auto core = std::make_unique<GroupCore>(options, engine, clock, pool);
    PENSTOCK_TRY_VOID(core->recover());
    return std::unique_ptr<ShardGroup>(new ShardGroup(std::move(core)));
}

ShardLog* ShardGroup::find(ShardUid shard) noexcept {
    const auto found = core_->shards.find(value(shard));
    return found == core_->shards.end() || found->second->dropping ? nullptr : found->second.get();
}

AppendVerdict ShardGroup::append(ShardLog& shard, const RecordIn& record, AckLevel level,
                                 Appended& out) noexcept {
    const AppendVerdict verdict = core_->append(shard, record, level, out);
    ++core_->counters.verdicts[static_cast<std::size_t>(verdict)];
    return verdict;
}

void ShardGroup::wait_commit(ShardLog& shard, CommitWaiter& waiter) noexcept {
    waiter.next = nullptr;
    if (shard.waiters == nullptr) {
        shard.waiters = &waiter;
    } else {
        shard.waiters_last->next = &waiter;
    }
    shard.waiters_last = &waiter;
    if (!core_->replicas.has_quorum()) {
        core_->fail_waiters(shard, Errc::not_enough_replicas, false);
    } else {
        core_->wake(shard);
    }
}

bool ShardGroup::cancel_wait(ShardLog& shard, CommitWaiter& waiter) noexcept {
    CommitWaiter* previous = nullptr;
    CommitWaiter** link = &shard.waiters;
    while (*link != nullptr && *link != &waiter) {
        previous = *link;
        link = &previous->next;
    }
    if (*link == nullptr) {
        return false;
    }
    *link = waiter.next;
    if (shard.waiters_last == &waiter) {
        shard.waiters_last = previous;
    }
    waiter.next = nullptr;
    return true;
}

void ShardGroup::complete(const IoCompletion& completion) noexcept {
    core_->complete(completion);
}
std::size_t ShardGroup::turn() noexcept {
    return core_->turn();
}
std::uint64_t ShardGroup::next_due_ns() const noexcept {
    return core_->next_due_ns();
}
bool ShardGroup::drain() noexcept {
    return core_->drain();
}

void ShardGroup::add_shard(ShardUid shard, std::int64_t retention_ms, CommitWaiter& done,
                           std::int64_t first_arrival_ms) noexcept {
    GroupCore& core = *core_;
    CommitWaiter* waiter = &done;
    if (core.shards.contains(value(shard))) {
        // Its entry may still be on its way: an empty change behind it tells.
        core.record(RetentionEntry{value(shard), retention_ms},
                    [waiter] { waiter->on_done(*waiter, Errc::ok); });
        return;
    }
    core.record(
        ShardEntry{
            .uid = value(shard), .last_arrival_ms = first_arrival_ms, .retention_ms = retention_ms},
        [waiter] { waiter->on_done(*waiter, Errc::ok); });
    core.add_shard_log(*core.table.find(shard));
    // A child of a split has its parent's flow at once: room for a few more shards than those that
    // are written to is asked for now, not when their first records are refused for want of it.
    const std::uint64_t soon =
        std::min<std::uint64_t>(core.shards.size(), core.waiting_shards + shards_ahead);
    core.space_wanted = core.space_wanted || core.room_units() < core.needed_units(0, soon);
}

void ShardGroup::drop_shard(ShardUid shard, CommitWaiter& done) noexcept {
    const auto found = core_->shards.find(value(shard));
    if (found == core_->shards.end()) {
        done.on_done(done, Errc::ok);
        return;
    }
    ShardLog& log = *found->second;
    done.next = log.drop_waiter;
    log.drop_waiter = &done;
    log.dropping = true;
    core_->fail_waiters(log, Errc::not_found, false);
    core_->tell_closed(log, Errc::not_found);
    core_->finish_drops();
}

void ShardGroup::close_shard(ShardUid shard, CommitWaiter& done) noexcept {
    ShardLog* log = find(shard);
    if (log == nullptr) {
        done.on_done(done, Errc::not_found);
        return;
    }
    log->closing = true;
    done.next = log->close.tell;
    log->close.tell = &done;
    if (log->close.waits) {
        return;
    }
    // What was appended last: in the open frame, or in the last sealed one.
    const Sequence last = log->frame_records != 0 ? log->next_sequence - 1 : log->chain.sequence;
    log->close.shard = log;
    log->close.core = core_.get();
    log->close.waits = true;
    log->close.sequence = last;
    log->close.level = AckLevel::quorum;
    log->close.on_done = [](CommitWaiter& self, Errc outcome) noexcept {
        const auto& wait = static_cast<CloseWait&>(self);
        outcome == Errc::ok ? wait.core->record_close(*wait.shard)
                            : wait.core->tell_closed(*wait.shard, outcome);
    };
    wait_commit(*log, log->close);
}

// Everything that was appended is committed, and nothing will be: now the end may become durable.
void GroupCore::record_close(ShardLog& shard) noexcept {
    const std::uint64_t uid = value(shard.uid);
    const auto tell = [this, uid] {
        if (const auto found = shards.find(uid); found != shards.end()) {
            tell_closed(*found->second, Errc::ok);
        }
    };
    if (shard.table->closed) {
        // Its entry may still be on its way: an empty change behind it tells.
        record(RetentionEntry{uid, shard.table->retention_ms}, tell);
        return;
    }
    give_up_share(shard);
    record(CloseShardEntry{uid, shard.committed + 1}, tell);
}

void GroupCore::tell_closed(ShardLog& shard, Errc outcome) noexcept {
    shard.close.waits = false;
    CommitWaiter* waiter = std::exchange(shard.close.tell, nullptr);
    while (waiter != nullptr) {
        CommitWaiter* next = std::exchange(waiter->next, nullptr);
        waiter->on_done(*waiter, outcome);
        waiter = next;
    }
}

Status ShardGroup::set_retention(ShardUid shard, std::int64_t retention_ms) noexcept {
    if (find(shard) == nullptr) {
        return fail(Errc::not_found);
    }
    core_->record(RetentionEntry{value(shard), retention_ms});
    return {};
}

Status ShardGroup::plan_read(ShardUid shard, const ReadStart& start, std::uint32_t max_bytes,
                             ReadPlan& out) noexcept {
    return core_->plan_read(shard, start, max_bytes, out);
}

void ShardGroup::release(const ReadPlan& plan) noexcept {
    for (std::uint32_t i = 0; i < plan.frame_count; ++i) {
        FrameBuffer& buffer = core_->buffers.at(plan.frames[i].buffer);
        PENSTOCK_CHECK(buffer.leases != 0);
        --buffer.leases;
        core_->release_orphan(buffer);
    }
}

Status ShardGroup::shard_status(ShardUid shard, ShardStatus& out) noexcept {
    const ShardLog* log = find(shard);
    if (log == nullptr) {
        return fail(Errc::not_found);
    }
    out.trim_sequence = log->table->trim_sequence;
    out.end_sequence = log->committed + 1;
    out.newest_arrival_ms = log->committed_arrival_ms;
    out.last_arrival_ms = log->last_arrival_ms;
    out.pending_bytes = log->pending_bytes;
    out.stored_bytes = 0;
    for (const Chunk& chunk : log->table->chunks) {
        out.stored_bytes += chunk.end_offset;
    }
    return {};
}

void ShardGroup::replica_out(unsigned replica) noexcept {
    core_->lagging[replica] = false;
    core_->leave(replica);
    core_->replicas.counting =
        static_cast<ReplicaMask>(core_->replicas.counting & ~(1U << replica));
    for (ShardLog* shard : core_->shard_order) {
        core_->wake(*shard);
    }
}

void ShardGroup::replica_in(unsigned replica, bool counts) noexcept {
    core_->begin_join(replica, counts);
}

void ShardGroup::replica_counts(unsigned replica) noexcept {
    core_->replicas.counting = static_cast<ReplicaMask>(core_->replicas.counting | (1U << replica));
    for (ShardLog* shard : core_->shard_order) {
        core_->advance(*shard);
    }
}

bool ShardGroup::replica_complete(unsigned replica) const noexcept {
    return core_->complete_on(replica);
}
const GroupCounters& ShardGroup::counters() const noexcept {
    return core_->counters;
}

std::uint64_t ShardGroup::undrained_bytes() const noexcept {
    std::uint64_t bytes = 0;
    for (const ShardLog* shard : core_->shard_order) {
        for (const FrameBuffer* buffer = shard->buffers; buffer != nullptr; buffer = buffer->next) {
            bytes += buffer->used;
        }
    }
    return bytes;
}

void ShardGroup::observe_commits(CommitObserver observer, void* context) noexcept {
    core_->commit_observer = observer;
    core_->commit_context = context;
}

void ShardGroup::observe_replicas(ReplicaObserver observer, void* context) noexcept {
    core_->replica_observer = observer;
    core_->replica_context = context;
}

void ShardGroup::observe_scrub(ScrubObserver observer, void* context) noexcept {
    core_->scrub_observer = observer;
    core_->scrub_context = context;
}

void ShardGroup::shard_totals(std::vector<ShardTotals>& out) const {
    for (const ShardLog* shard : core_->shard_order) {
        out.push_back({shard->uid, shard->committed_records, shard->committed_bytes});
    }
}

void ShardGroup::list_shards(std::span<ShardUid> out, std::size_t& count) const noexcept {
    count = 0;
    for (const auto& [uid, shard] : core_->shards) {
        if (count < out.size() && !shard->dropping) {
            out[count++] = shard->uid;
        }
    }
}

}  // namespace penstock
