// The journal of one group: a ring of preallocated files, written block by block, the same on every
// replica.
//
// The ring knows places and blocks, not shards: the group fills a block's buffer with frames and
// says when a block's frames are all durable in segments.
//
// Runs on: the lane that owns the group.
// Allocates: at open.
// Guarantees: a place is reused only after release() of every block in it (R10); the first file
// written is one the previous epoch did not have open (R3).
// Format: docs/formats/journal.md.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/block.h"
#include "storage/io/engine.h"
#include "storage/log/cookie.h"
#include "storage/replica/geometry.h"

namespace penstock {

[[nodiscard]] std::string journal_name(GroupId group, std::uint32_t file);

// A frame by its slot in the group's frame table and that slot's generation.
struct FrameRef {
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;
};

class JournalRing {
public:
    struct Options {
        GroupId group{};
        Epoch epoch{};
        SetGeometry geometry;
        std::uint32_t first_file = 0;
        const ReplicaView* replicas = nullptr;
    };
    // A block being filled or written. Buffers are few: none free means wait.
    struct Block {
        std::byte* data = nullptr;
        std::uint16_t generation = 0;
        bool used = false;
        std::uint64_t number = 0;
        std::uint32_t file = 0;
        std::uint64_t offset = 0;
        std::uint32_t bytes = 0;   // used so far
        std::uint32_t length = 0;  // on disk, once sealed
        ReplicaMask outstanding = 0;
        ReplicaMask to_queue = 0;
        ReplicaMask durable = 0;
        bool settled = false;  // durable on a quorum
        std::uint64_t issued_ns = 0;
        std::vector<FrameRef> frames;
    };
    static constexpr std::size_t buffer_count = 8;
    static constexpr std::size_t frames_per_block_max = 8192;

    explicit JournalRing(IoEngine& engine, Options options);
    ~JournalRing();
    JournalRing(const JournalRing&) = delete;
    JournalRing& operator=(const JournalRing&) = delete;

    // Opens the files of a replica and makes them as long as they must be. Blocks; start-up.
    [[nodiscard]] Status open_replica(unsigned replica);
    // Opens them without growing; `missing` gets what allocate requests must add, per file.
    [[nodiscard]] Status open_existing(unsigned replica, std::vector<std::uint64_t>& sizes);
    void close_replica(unsigned replica) noexcept;
    [[nodiscard]] Status allocate_buffers();
    [[nodiscard]] FileHandle file(unsigned replica, std::uint32_t number) const noexcept {
        return files_[replica][number];
    }

    // A buffer to gather frames in, with room for `bytes` more; null if there is none free.
    [[nodiscard]] Block* open_block() noexcept;
    [[nodiscard]] static std::uint32_t room(const Block& block) noexcept {
        return journal_block_bytes_max - block.bytes;
    }
    // Places the open block, seals its header and readies it for queue_writes(). False when the
    // ring has no room for it: nothing changed.
    [[nodiscard]] bool seal(Block& block, std::uint64_t now_ns) noexcept;
    // Queues what is not queued yet. Returns requests queued; `full` tells that the engine is.
    std::size_t queue_writes(bool& full) noexcept;
    // Gives the block for a completion whose write went well and still counts, else null.
    [[nodiscard]] Block* complete(const Cookie& cookie, std::int64_t result, bool& failed) noexcept;
    // The frames of block `number` that were to be kept are one fewer.
    void release_frame(std::uint64_t number) noexcept;
    // Highest block number such that it and all before hold nothing needed any more.
    [[nodiscard]] std::uint64_t releasable_through() const noexcept;
    // Frees the places of blocks up to `number`. Only after the manifest says so durably.
    void free_through(std::uint64_t number) noexcept;

    [[nodiscard]] std::uint64_t used_bytes() const noexcept { return bytes_from(0); }
    // Of those, the ones from the oldest block on that still holds a frame that is needed.
    [[nodiscard]] std::uint64_t needed_bytes() const noexcept { return bytes_from(releasable_); }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept {
        return options_.geometry.journal_file_bytes * options_.geometry.journal_files;
    }
    [[nodiscard]] unsigned in_flight() const noexcept;  // blocks not yet durable on a quorum
    [[nodiscard]] bool anything_outstanding() const noexcept;
    // Every buffer is held by a block that is durable on a quorum: a slow replica stops all
    // writing.
    [[nodiscard]] bool starved() const noexcept;
    [[nodiscard]] std::uint64_t outstanding_bytes(unsigned replica) const noexcept;
    [[nodiscard]] std::uint64_t oldest_outstanding_ns(unsigned replica) const noexcept;

private:
    struct Record {
        std::uint64_t number = 0;
        std::uint32_t file = 0;
        std::uint64_t offset = 0;
        std::uint32_t length = 0;
        std::uint32_t frames = 0;  // still needed
    };
    void settle() noexcept;
    [[nodiscard]] std::uint64_t bytes_from(std::size_t record) const noexcept;

    IoEngine& engine_;
    Options options_;
    std::array<std::vector<FileHandle>, replica_count> files_;
    std::vector<Block> blocks_;
    Block* open_ = nullptr;
    std::deque<std::uint32_t> order_;  // sealed blocks whose buffers are held, oldest first
    std::deque<Record> records_;       // blocks whose places are held, oldest first
    std::size_t releasable_ = 0;       // the first so many of them hold nothing needed
    std::uint64_t next_number_ = 1;
    std::uint64_t durable_through_ = 0;
    std::uint32_t file_ = 0;
    std::uint64_t offset_ = 0;
};

}  // namespace penstock
