#include "storage/journal/ring.h"

#include <algorithm>
#include <limits>

#include "storage/base/check.h"

namespace penstock {

std::string journal_name(GroupId group, std::uint32_t file) {
    return "journal-" + std::to_string(value(group)) + "-" + std::to_string(file);
}

JournalRing::JournalRing(IoEngine& engine, Options options)
    : engine_(engine), options_(options), file_(options.first_file) {
    for (auto& files : files_) {
        files.assign(options_.geometry.journal_files, no_file);
    }
}

JournalRing::~JournalRing() {
    for (unsigned r = 0; r < replica_count; ++r) {
        close_replica(r);
    }
}

void JournalRing::close_replica(unsigned replica) noexcept {
    for (FileHandle& file : files_[replica]) {
        if (file != no_file) {
            engine_.close(file);
            file = no_file;
        }
    }
}

Status JournalRing::open_existing(unsigned replica, std::vector<std::uint64_t>& sizes) {
    close_replica(replica);
    sizes.clear();
    for (std::uint32_t number = 0; number < files_[replica].size(); ++number) {
        PENSTOCK_TRY(file, engine_.open(replica, journal_name(options_.group, number),
                                        OpenMode::create_or_existing));
        files_[replica][number] = file;
        PENSTOCK_TRY(size, engine_.size_bytes(file));
        sizes.push_back(size);
    }
    return {};
}

Status JournalRing::open_replica(unsigned replica) {
    std::vector<std::uint64_t> sizes;
    PENSTOCK_TRY_VOID(open_existing(replica, sizes));
    for (std::uint32_t number = 0; number < sizes.size(); ++number) {
        if (sizes[number] < options_.geometry.journal_file_bytes) {
            PENSTOCK_TRY(grown, run_one(engine_, {.kind = IoKind::allocate,
                                                  .file = files_[replica][number],
                                                  .offset = sizes[number],
                                                  .length = options_.geometry.journal_file_bytes -
                                                            sizes[number]}));
            (void)grown;
        }
    }
    return {};
}

Status JournalRing::allocate_buffers() {
    for (std::size_t i = 0; i < buffer_count; ++i) {
        Block block;
        block.data = engine_.allocate_buffer(journal_block_bytes_max);
        if (block.data == nullptr) {
            return fail(Errc::no_memory_room);
        }
        block.frames.reserve(frames_per_block_max);
        blocks_.push_back(std::move(block));
    }
    return {};
}

JournalRing::Block* JournalRing::open_block() noexcept {
    if (open_ == nullptr) {
        for (Block& block : blocks_) {
            if (!block.used) {
                open_ = &block;
                block.used = true;
                block.bytes = sizeof(JournalBlockHeader);
                block.frames.clear();
                break;
            }
        }
    }
    return open_;
}

bool JournalRing::seal(Block& block, std::uint64_t now_ns) noexcept {
    PENSTOCK_CHECK(&block == open_);
    const auto length = static_cast<std::uint32_t>(align_up(block.bytes, block_bytes));
    std::uint32_t file = file_;
    std::uint64_t offset = offset_;
    if (offset + length > options_.geometry.journal_file_bytes) {
        file = (file_ + 1) % options_.geometry.journal_files;
        offset = 0;
        const bool held = std::any_of(records_.begin(), records_.end(),
                                      [&](const Record& record) { return record.file == file; });
        if (held) {
            return false;
        }
    }
    JournalBlockHeader header;
    header.sent_to = options_.replicas->taking;
    header.group = value(options_.group);
    header.set_id = options_.geometry.set_id;
    header.epoch = value(options_.epoch);
    header.number = next_number_;
    header.frame_count = static_cast<std::uint32_t>(block.frames.size());
    header.used_bytes = block.bytes;
    header.durable_through = durable_through_;
    seal_header(header, block.data);
    std::memset(block.data + block.bytes, 0, length - block.bytes);

    block.number = next_number_++;
    block.generation++;
    block.file = file;
    block.offset = offset;
    block.length = length;
    block.outstanding = 0;
    block.durable = 0;
    block.settled = false;
    block.to_queue = options_.replicas->taking;
    block.issued_ns = now_ns;
    file_ = file;
    offset_ = offset + length;
    records_.push_back(
        {block.number, file, offset, length, static_cast<std::uint32_t>(block.frames.size())});
    order_.push_back(static_cast<std::uint32_t>(&block - blocks_.data()));
    open_ = nullptr;
    return true;
}

std::size_t JournalRing::queue_writes(bool& full) noexcept {
    std::size_t queued = 0;
    full = false;
    for (const std::uint32_t slot : order_) {
        Block& block = blocks_[slot];
        for (unsigned r = 0; r < replica_count && block.to_queue != 0; ++r) {
            const auto bit = static_cast<ReplicaMask>(1U << r);
            if ((block.to_queue & bit) == 0) {
                continue;
            }
            if ((options_.replicas->taking & bit) == 0) {
                block.to_queue = static_cast<ReplicaMask>(block.to_queue & ~bit);
                continue;
            }
            const Cookie cookie{OpKind::journal_write,
                                static_cast<std::uint16_t>(value(options_.group)), block.generation,
                                slot, r};
            if (!engine_.queue({.kind = IoKind::write_durable,
                                .file = files_[r][block.file],
                                .offset = block.offset,
                                .data = block.data,
                                .length = block.length,
                                .cookie = cookie.pack()})) {
                full = true;
                return queued;
            }
            block.to_queue = static_cast<ReplicaMask>(block.to_queue & ~bit);
            block.outstanding = static_cast<ReplicaMask>(block.outstanding | bit);
            ++queued;
        }
    }
    settle();
    return queued;
}

JournalRing::Block* JournalRing::complete(const Cookie& cookie, std::int64_t result,
                                          bool& failed) noexcept {
    Block& block = blocks_[cookie.slot];
    PENSTOCK_CHECK(block.used && block.generation == cookie.generation);
    const auto bit = static_cast<ReplicaMask>(1U << cookie.replica);
    block.outstanding = static_cast<ReplicaMask>(block.outstanding & ~bit);
    failed = result != static_cast<std::int64_t>(block.length);
    const bool counts = !failed && (options_.replicas->taking & bit) != 0;
    if (counts) {
        block.durable = static_cast<ReplicaMask>(block.durable | bit);
    }
    return counts ? &block : nullptr;
}

// Run after the group has looked at a completed block: its buffer may be free now.
void JournalRing::settle() noexcept {
    for (const std::uint32_t slot : order_) {
        Block& block = blocks_[slot];
        if (!block.settled) {
            if (!options_.replicas->is_quorum(block.durable)) {
                break;
            }
            block.settled = true;
            durable_through_ = block.number;
        }
    }
    std::erase_if(order_, [this](std::uint32_t slot) {
        Block& block = blocks_[slot];
        // A block that cannot reach a quorum any more is kept by the shards' buffers, which are
        // written again; its own buffer is not needed once nobody writes from it.
        const bool over = block.outstanding == 0 && block.to_queue == 0;
        if (over) {
            block.used = false;
        }
        return over;
    });
}

void JournalRing::release_frame(std::uint64_t number) noexcept {
    if (records_.empty() || number < records_.front().number) {
        return;
    }
    Record& record = records_[number - records_.front().number];
    PENSTOCK_CHECK(record.number == number && record.frames != 0);
    --record.frames;
    while (releasable_ != records_.size() && records_[releasable_].frames == 0) {
        ++releasable_;
    }
}

std::uint64_t JournalRing::releasable_through() const noexcept {
    return releasable_ == 0 ? 0 : records_[releasable_ - 1].number;
}

void JournalRing::free_through(std::uint64_t number) noexcept {
    while (!records_.empty() && records_.front().number <= number) {
        PENSTOCK_CHECK(releasable_ != 0);
        records_.pop_front();
        --releasable_;
    }
}

std::uint64_t JournalRing::bytes_from(std::size_t record) const noexcept {
    if (record == records_.size()) {
        return 0;
    }
    const std::uint64_t file_bytes = options_.geometry.journal_file_bytes;
    const std::uint64_t from = records_[record].file * file_bytes + records_[record].offset;
    const std::uint64_t to = file_ * file_bytes + offset_;
    return to > from ? to - from : size_bytes() - from + to;
}

unsigned JournalRing::in_flight() const noexcept {
    return static_cast<unsigned>(
        std::count_if(order_.begin(), order_.end(),
                      [this](std::uint32_t slot) { return !blocks_[slot].settled; }));
}

bool JournalRing::starved() const noexcept {
    return std::all_of(blocks_.begin(), blocks_.end(), [](const Block& block) {
        return block.used && block.settled && block.outstanding != 0;
    });
}

bool JournalRing::anything_outstanding() const noexcept {
    return std::any_of(order_.begin(), order_.end(),
                       [this](std::uint32_t slot) { return blocks_[slot].outstanding != 0; });
}

std::uint64_t JournalRing::outstanding_bytes(unsigned replica) const noexcept {
    std::uint64_t bytes = 0;
    for (const std::uint32_t slot : order_) {
        bytes += (blocks_[slot].outstanding >> replica & 1) != 0 ? blocks_[slot].length : 0;
    }
    return bytes;
}

std::uint64_t JournalRing::oldest_outstanding_ns(unsigned replica) const noexcept {
    for (const std::uint32_t slot : order_) {
        if ((blocks_[slot].outstanding >> replica & 1) != 0) {
            return blocks_[slot].issued_ns;
        }
    }
    return std::numeric_limits<std::uint64_t>::max();
}

}  // namespace penstock
