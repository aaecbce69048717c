#include "storage/log/state_log.h"

#include <algorithm>
#include <bit>

#include "storage/base/check.h"
#include "storage/base/crc32c.h"

namespace penstock {

namespace {

constexpr std::size_t payload_max = 256U * 1024 - sizeof(StateBlockHeader);
constexpr std::size_t buffer_bytes = 256U * 1024;
// So many blocks may wait for a slower replica. Those of one that was given up on keep their
// buffers until the drive answers; as many others are enough to go on with.
constexpr std::size_t blocks_waiting_max = 4;
constexpr std::size_t block_count = 2 * blocks_waiting_max;
// The slower replica has so much time then, as for a journal block (refill.cc).
constexpr std::uint64_t patience_ns = 100'000'000;
constexpr std::uint64_t retry_ns = 1'000'000'000;
constexpr int out_of_space_errno = 28;  // ENOSPC
// Memory that is kept for what is not yet in a block; a large snapshot gives its own back.
constexpr std::size_t stream_kept_bytes = 1U << 20;
// Before a generation has begun there is no room in any slot.
constexpr std::uint64_t no_room = UINT64_MAX / 2;
constexpr std::uint32_t fragment_continued = 0x80000000U;

}  // namespace

void StateEntries::add(Bytes entry) {
    // Fragments let an entry be larger than a block; a block may end anywhere in the stream, so
    // they only keep the length field small and checked.
    const auto length = static_cast<std::uint32_t>(entry.size());
    PENSTOCK_CHECK(length < fragment_continued);
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof length + entry.size());
    store(bytes_.data() + at, length);
    if (!entry.empty()) {
        std::memcpy(bytes_.data() + at + sizeof length, entry.data(), entry.size());
    }
}

bool replay_state(const StateRead& read, const std::function<bool(bool, Bytes)>& apply) {
    Bytes rest = read.stream;
    std::uint64_t at = 0;
    while (!rest.empty()) {
        if (rest.size() < sizeof(std::uint32_t)) {
            return true;  // an entry whose last block was not written: never committed
        }
        const auto length = load<std::uint32_t>(rest.data());
        if (length >= fragment_continued) {
            return false;
        }
        if (rest.size() < sizeof length + length) {
            return true;
        }
        if (!apply(at < read.snapshot_bytes, rest.subspan(sizeof length, length))) {
            return false;
        }
        rest = rest.subspan(sizeof length + length);
        at += sizeof length + length;
    }
    return true;
}

// -- Writing ------------------------------------------------------------------------------------

struct StateLog::Block {
    std::byte* data = nullptr;
    std::uint16_t generation = 0;  // of the buffer's use, for cookies
    bool used = false;
    bool settled = false;  // committed, only slow replicas still hold the buffer
    unsigned slot = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint64_t stream_end = 0;
    std::uint64_t cut_ns = 0;
    std::uint64_t state_generation = 0;
    ReplicaMask outstanding = 0;
    ReplicaMask durable = 0;
    ReplicaMask to_queue = 0;
};

StateLog::StateLog(IoEngine& engine, Options options)
    : engine_(engine), options_(std::move(options)) {
    for (auto& replica : files_) {
        replica.fill(no_file);
    }
    slot_bytes_ = options_.slot_bytes;
}

StateLog::~StateLog() {
    for (auto& replica : files_) {
        for (const FileHandle file : replica) {
            if (file != no_file) {
                engine_.close(file);
            }
        }
    }
}

namespace {

std::string slot_name(GroupId group, unsigned slot) {
    return "state-" + std::to_string(value(group)) + "-" + std::to_string(slot);
}

}  // namespace

Status StateLog::reopen(unsigned replica) {
    for (unsigned slot = 0; slot < 2; ++slot) {
        FileHandle& file = files_[replica][slot];
        if (file != no_file) {
            engine_.close(file);
            file = no_file;
        }
        PENSTOCK_TRY(opened, engine_.open(replica, slot_name(options_.group, slot),
                                          OpenMode::create_or_existing));
        file = opened;
    }
    return {};
}

void StateLog::replica_lost(unsigned replica) {
    for (FileHandle& file : files_[replica]) {
        if (file != no_file) {
            engine_.close(file);
            file = no_file;
        }
    }
    settle();
}

Result<std::unique_ptr<StateLog>> StateLog::open(IoEngine& engine, Options options,
                                                 const StateRead& read) {
    std::unique_ptr<StateLog> log(new StateLog(engine, std::move(options)));
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((log->options_.replicas->taking >> r & 1) == 0) {
            continue;
        }
        Status opened = log->reopen(r);
        for (unsigned slot = 0; slot < 2 && opened; ++slot) {
            const auto bytes = engine.size_bytes(log->files_[r][slot]);
            if (!bytes) {
                opened = std::unexpected(bytes.error());
                break;
            }
            log->slot_bytes_ = std::max(log->slot_bytes_, *bytes);
        }
        PENSTOCK_TRY_VOID(log->go_on_without(r, opened));
    }
    // Every slot gets the largest size seen, so that layouts stay alike; on full drives, what all
    // of them have.
    std::uint64_t least = log->slot_bytes_;
    for (unsigned r = 0; r < replica_count; ++r) {
        for (unsigned slot = 0; slot < 2 && (log->options_.replicas->taking >> r & 1) != 0;
             ++slot) {
            const auto bytes = engine.size_bytes(log->files_[r][slot]);
            Status grown = bytes ? Status{} : std::unexpected(bytes.error());
            if (bytes && *bytes < log->slot_bytes_) {
                const auto moved = run_one(engine, {.kind = IoKind::allocate,
                                                    .file = log->files_[r][slot],
                                                    .offset = *bytes,
                                                    .length = log->slot_bytes_ - *bytes});
                if (!moved && moved.error().os_errno == out_of_space_errno &&
                    *bytes >= log->options_.slot_bytes) {
                    least = std::min(least, *bytes);
                } else if (!moved) {
                    grown = std::unexpected(moved.error());
                }
            }
            PENSTOCK_TRY_VOID(log->go_on_without(r, grown));
        }
    }
    log->slot_bytes_ = align_down(least, block_bytes);
    for (std::size_t i = 0; i < block_count; ++i) {
        auto block = std::make_unique<Block>();
        block->data = engine.allocate_buffer(buffer_bytes);
        if (block->data == nullptr) {
            return fail(Errc::no_memory_room);
        }
        log->blocks_.push_back(std::move(block));
    }
    log->generation_ = read.highest_generation;
    log->slot_ = read.found ? read.slot : 1;
    log->offset_ = no_room;
    return log;
}

// A replica that fails while the log is opened is left out while two others are there.
Status StateLog::go_on_without(unsigned replica, const Status& status) {
    if (status) {
        return {};
    }
    options_.on_replica_failed(replica,
                               Error{status.error().code, status.error().os_errno, replica});
    replica_lost(replica);
    return options_.replicas->has_quorum() ? Status{} : status;
}

void StateLog::append(Bytes entry, std::function<void()> done) {
    if (stream_at_ > stream_.size() / 2) {
        // Seldom enough that each byte is moved once at most.
        stream_.erase(stream_.begin(), stream_.begin() + static_cast<std::ptrdiff_t>(stream_at_));
        stream_at_ = 0;
    }
    StateEntries framed;
    framed.add(entry);
    stream_.insert(stream_.end(), framed.bytes().begin(), framed.bytes().end());
    stream_end_ += framed.bytes().size();
    ++entries_;
    if (done) {
        waiters_.push_back({stream_end_, std::move(done)});
    }
}

void StateLog::start_generation() {
    switching_ = true;
}

// The new generation's snapshot holds everything appended so far, so what is not yet in a block is
// dropped and its waiters wait for the snapshot.
void StateLog::begin_switch(std::uint64_t now_ns) {
    StateEntries snapshot;
    options_.snapshot(snapshot);
    const std::uint64_t bytes = snapshot.bytes().size();
    const std::uint64_t wish = align_up(bytes * 3 + (2U << 20), std::uint64_t{1} << 20);
    if (wish > slot_bytes_ && !grow_failed_) {
        grow_slots(wish);
        return;  // tried again when the slots have grown
    }
    grow_failed_ = false;
    // Where entries come on, a generation without room for them would only be followed by another.
    const std::uint64_t behind = offset_ == no_room ? 0 : buffer_bytes;
    const std::uint64_t last = sizeof(StateBlockHeader) + bytes % payload_max;
    if (bytes / payload_max * buffer_bytes + align_up(last, block_bytes) + behind > slot_bytes_) {
        switch_retry_ns_ = now_ns + retry_ns;
        return;
    }
    switch_retry_ns_ = 0;
    switching_ = false;
    const std::uint64_t cut = stream_base_;
    stream_ = snapshot.take();
    stream_at_ = 0;
    stream_base_ = stream_end_;
    stream_end_ = stream_base_ + stream_.size();
    snapshot_end_ = stream_end_;
    for (Waiter& waiter : waiters_) {
        if (waiter.end > cut) {
            waiter.end = snapshot_end_;
        }
    }
    ++generation_;
    durable_blocks_.fill(0);
    index_ = 0;
    previous_crc_ = 0;
    offset_ = 0;
    slot_ ^= 1U;
}

void StateLog::grow_slots(std::uint64_t bytes) {
    grow_to_ = bytes;
    no_space_ = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        for (unsigned slot = 0; slot < 2 && (options_.replicas->taking >> r & 1) != 0; ++slot) {
            const Cookie cookie{OpKind::state_grow,
                                static_cast<std::uint16_t>(value(options_.group)), 0, slot, r};
            if (engine_.queue({.kind = IoKind::allocate,
                               .file = files_[r][slot],
                               .offset = slot_bytes_,
                               .length = bytes - slot_bytes_,
                               .cookie = cookie.pack()})) {
                growing_[slot] = static_cast<ReplicaMask>(growing_[slot] | (1U << r));
            }
        }
    }
}

// Replicas that left are not waited for.
bool StateLog::growing() const noexcept {
    return ((growing_[0] | growing_[1]) & options_.replicas->taking) != 0;
}

// Where one drive is full among good ones, its replica is out until there is room. Where most are,
// the slots stay as they are.
void StateLog::end_growth() {
    const auto full = static_cast<ReplicaMask>(no_space_ & options_.replicas->taking);
    const auto good = static_cast<ReplicaMask>(options_.replicas->taking & ~full);
    grow_failed_ = !options_.replicas->is_quorum(good);
    if (!grow_failed_) {
        slot_bytes_ = grow_to_;
        switch_retry_ns_ = 0;
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((full >> r & 1) != 0) {
                options_.on_replica_failed(r, Error{Errc::no_space, out_of_space_errno, r});
            }
        }
    }
    grow_to_ = 0;
}

bool StateLog::in_snapshot() const noexcept {
    return stream_base_ < snapshot_end_ || index_ == 0;
}

// How much the next block takes. A snapshot ends with a block.
std::uint64_t StateLog::next_payload() const noexcept {
    const std::uint64_t most = in_snapshot() ? snapshot_end_ - stream_base_ : left();
    return std::min<std::uint64_t>({left(), payload_max, most});
}

void StateLog::cut_block(std::uint64_t now_ns) {
    Block* block = nullptr;
    std::uint32_t number = 0;
    for (; number < blocks_.size(); ++number) {
        if (!blocks_[number]->used) {
            block = blocks_[number].get();
            break;
        }
    }
    const bool in_snapshot = this->in_snapshot();
    const std::uint64_t take = next_payload();
    StateBlockHeader header;
    header.kind = !in_snapshot                           ? StateKind::delta
                  : stream_base_ + take == snapshot_end_ ? StateKind::snapshot_last
                                                         : StateKind::snapshot;
    header.sent_to = options_.replicas->taking;
    header.group = value(options_.group);
    header.set_id = options_.set_id;
    header.epoch = value(options_.epoch);
    header.generation = generation_;
    header.index = index_++;
    header.payload_bytes = static_cast<std::uint32_t>(take);
    header.previous_crc = previous_crc_;
    if (take != 0) {
        std::memcpy(block->data + sizeof header, stream_.data() + stream_at_, take);
    }
    header.payload_crc = crc32c({block->data + sizeof header, take});
    seal_header(header, block->data);
    previous_crc_ = header.header_crc;
    const std::uint64_t used = sizeof header + take;
    block->length = align_up(used, block_bytes);
    std::memset(block->data + used, 0, block->length - used);
    stream_at_ += take;
    stream_base_ += take;
    if (left() == 0) {
        stream_at_ = 0;
        stream_.clear();
        if (stream_.capacity() > stream_kept_bytes) {
            stream_ = std::vector<std::byte>();
        }
    }
    block->used = true;
    block->settled = false;
    block->generation++;
    block->slot = slot_;
    block->state_generation = generation_;
    block->offset = offset_;
    block->stream_end = stream_base_;
    block->cut_ns = now_ns;
    block->durable = 0;
    block->outstanding = 0;
    block->to_queue = options_.replicas->taking;
    offset_ += block->length;
    order_.push_back(number);
}

// Whether a replica that is slower than the others has to be waited for.
bool StateLog::waits_for_slow(std::uint64_t now_ns) {
    const ReplicaMask taking = options_.replicas->taking;
    std::size_t waiting = 0;
    ReplicaMask late = 0;
    for (const std::uint32_t number : order_) {
        const Block& block = *blocks_[number];
        waiting += (block.outstanding & taking) != 0 ? 1U : 0U;
        if (late == 0 && now_ns - block.cut_ns > patience_ns) {
            late = static_cast<ReplicaMask>(block.outstanding & taking);
        }
    }
    if (waiting < blocks_waiting_max) {
        return order_.size() >= block_count;
    }
    if (late == 0) {
        return true;
    }
    // The one that was late first. Whether another one may be given up on is asked when that has
    // been left out, since then it may be one of the last two.
    const auto replica = static_cast<unsigned>(std::countr_zero(late));
    options_.on_replica_failed(replica, Error{Errc::unavailable, 0, replica});
    return order_.size() >= block_count;
}

std::size_t StateLog::turn(std::uint64_t now_ns) {
    std::size_t work = 0;
    for (const std::uint32_t number : order_) {
        Block& block = *blocks_[number];
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((block.to_queue >> r & 1) == 0) {
                continue;
            }
            if (files_[r][block.slot] == no_file) {
                block.to_queue = static_cast<ReplicaMask>(block.to_queue & ~(1U << r));
                continue;
            }
            const Cookie cookie{OpKind::state_write,
                                static_cast<std::uint16_t>(value(options_.group)), block.generation,
                                number, r};
            if (!engine_.queue({.kind = IoKind::write_durable,
                                .file = files_[r][block.slot],
                                .offset = block.offset,
                                .data = block.data,
                                .length = block.length,
                                .cookie = cookie.pack()})) {
                return work;
            }
            block.to_queue = static_cast<ReplicaMask>(block.to_queue & ~(1U << r));
            block.outstanding = static_cast<ReplicaMask>(block.outstanding | (1U << r));
            ++work;
        }
    }
    settle();
    if (!options_.replicas->has_quorum()) {
        return work;
    }
    // One block at a time, so that what is committed is always a prefix.
    if (!order_.empty() && !blocks_[order_.back()]->settled) {
        return work;
    }
    if (waits_for_slow(now_ns)) {
        return work;
    }
    if (grow_to_ != 0 && !growing()) {
        end_growth();
    }
    // Until a generation's snapshot is whole, the other slot holds the only generation that can be
    // read.
    const auto may_switch = [&] {
        return grow_to_ == 0 && now_ns >= switch_retry_ns_ && committed_ >= snapshot_end_;
    };
    if (switching_ && may_switch()) {
        begin_switch(now_ns);
    }
    if (left() == 0 && !(generation_ != 0 && index_ == 0 && offset_ == 0)) {
        return work;
    }
    const std::uint64_t next_bytes =
        align_up(next_payload() + sizeof(StateBlockHeader), block_bytes);
    if (offset_ + next_bytes > slot_bytes_) {
        PENSTOCK_CHECK(stream_base_ >= snapshot_end_);  // a snapshot fits: begin_switch saw to it
        if (!may_switch()) {
            return work;
        }
        begin_switch(now_ns);
        return work + 1;
    }
    cut_block(now_ns);
    return work + 1 + turn(now_ns);
}

void StateLog::complete(const Cookie& cookie, std::int64_t result) {
    if (cookie.kind == OpKind::state_grow) {
        const auto bit = static_cast<ReplicaMask>(1U << cookie.replica);
        growing_[cookie.slot] = static_cast<ReplicaMask>(growing_[cookie.slot] & ~bit);
        if (result == -out_of_space_errno) {
            no_space_ = static_cast<ReplicaMask>(no_space_ | bit);
        } else if (result < 0 && (options_.replicas->taking & bit) != 0) {
            options_.on_replica_failed(
                cookie.replica,
                Error{Errc::io_failed, static_cast<std::uint16_t>(-result), cookie.replica});
        }
        return;
    }
    Block& block = *blocks_[cookie.slot];
    PENSTOCK_CHECK(block.used && block.generation == cookie.generation);
    const auto bit = static_cast<ReplicaMask>(1U << cookie.replica);
    block.outstanding = static_cast<ReplicaMask>(block.outstanding & ~bit);
    if (result == static_cast<std::int64_t>(block.length)) {
        if ((options_.replicas->taking & bit) != 0) {
            block.durable = static_cast<ReplicaMask>(block.durable | bit);
            durable_blocks_[cookie.replica] += block.state_generation == generation_ ? 1U : 0U;
        }
    } else if ((options_.replicas->taking & bit) != 0) {
        options_.on_replica_failed(
            cookie.replica,
            Error{Errc::io_failed, static_cast<std::uint16_t>(result < 0 ? -result : 5),
                  cookie.replica});
    }
    settle();
}

void StateLog::settle() {
    for (const std::uint32_t number : order_) {
        Block& block = *blocks_[number];
        if (!block.settled) {
            if (!options_.replicas->is_quorum(block.durable)) {
                break;
            }
            block.settled = true;
            committed_ = block.stream_end;
        }
    }
    // In any order: a replica that left may hold an early block for long.
    std::erase_if(order_, [this](std::uint32_t number) {
        Block& block = *blocks_[number];
        if (!block.settled || block.outstanding != 0 ||
            (block.to_queue & options_.replicas->taking) != 0) {
            return false;
        }
        block.used = false;
        return true;
    });
    while (!waiters_.empty() && waiters_.front().end <= committed_) {
        const auto done = std::move(waiters_.front().done);
        waiters_.pop_front();
        done();
    }
}

bool StateLog::idle() const noexcept {
    return committed_ == stream_end_ && !switching_;
}

bool StateLog::outstanding(unsigned replica) const noexcept {
    return ((growing_[0] | growing_[1]) >> replica & 1) != 0 ||
           std::any_of(order_.begin(), order_.end(), [&](std::uint32_t number) {
               return (blocks_[number]->outstanding >> replica & 1) != 0;
           });
}

bool StateLog::has_in_flight() const noexcept {
    if ((growing_[0] | growing_[1]) != 0) {
        return true;
    }
    return std::any_of(order_.begin(), order_.end(),
                       [this](std::uint32_t number) { return blocks_[number]->outstanding != 0; });
}

}  // namespace penstock
