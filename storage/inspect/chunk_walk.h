// Walks one shard's chunks on all replicas side by side, verifying every frame of every copy.
//
// Runs on: an offline tool's thread.
// Guarantees: a byte of a chunk before its recorded end is either in a frame that was verified, or
// zero, or in a difference.
// Format: docs/formats/segment.md.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "storage/format/frame.h"
#include "storage/inspect/difference.h"
#include "storage/inspect/file_window.h"
#include "storage/replica/geometry.h"
#include "storage/segment/table.h"

namespace penstock {

// A frame that is in no segment yet as far as the manifest says.
struct PendingFrame {
    FrameHeader header;
    ReplicaMask copies = 0;
    bool in_journal = false;
};
using PendingFrames = std::map<Sequence, PendingFrame>;  // by first sequence

class ChunkWalker {
public:
    ChunkWalker(IoEngine& engine, const SetGeometry& geometry, GroupId group, ReplicaMask readable,
                SetReport& report);
    ~ChunkWalker();
    ChunkWalker(const ChunkWalker&) = delete;
    ChunkWalker& operator=(const ChunkWalker&) = delete;

    // Verifies the shard's chunks up to their recorded ends and fills `out`.
    void walk(const ShardTable& shard, ShardReport& out);
    // Collects the frames of `epoch` behind the recorded ends of chunks that are not sealed.
    void collect_tail(const ShardTable& shard, std::uint64_t epoch, PendingFrames& into);

private:
    // What a replica shows at a place of the chunk.
    struct Copy {
        FrameFault fault = FrameFault::not_a_frame;
        bool stray = false;  // an intact frame that does not belong here
        FrameHeader header;
        [[nodiscard]] bool good() const noexcept { return fault == FrameFault::none && !stray; }
    };
    // Bad frames of one replica next to each other become one difference.
    struct BadRun {
        bool open = false;
        DifferenceKind kind = DifferenceKind::frame;
        std::uint64_t from = 0;
        std::uint64_t until = 0;
        Sequence first = 0;
        Sequence last = 0;
        std::uint64_t frames = 0;
        ReplicaMask good = 0;
        std::string what;
    };

    void walk_chunk(const ShardTable& shard, const Chunk& chunk);
    [[nodiscard]] ReplicaMask open_copies(const Chunk& chunk);
    void ensure(std::uint64_t at, std::uint64_t need);
    [[nodiscard]] Bytes view(unsigned replica, std::uint64_t at) const noexcept;
    void look(std::uint64_t at);
    [[nodiscard]] bool belongs(const FrameHeader& header) const noexcept;
    [[nodiscard]] const Copy* choose() const noexcept;
    void take(const Copy& chosen, std::uint64_t at);
    void check_chain(const FrameHeader& header, std::uint64_t at);
    void add_range(Sequence first, Sequence last);
    [[nodiscard]] std::optional<std::uint64_t> skip_padding(std::uint64_t at);
    [[nodiscard]] std::uint64_t resync(std::uint64_t at);
    [[nodiscard]] std::string describe_copy(unsigned replica, std::uint64_t at) const;
    void mark_bad(unsigned replica, DifferenceKind kind, std::uint64_t at, std::uint64_t bytes,
                  Sequence first, Sequence last, ReplicaMask good, std::string what);
    void flush_bad(unsigned replica);
    [[nodiscard]] bool is_known_lost(Sequence first, Sequence last) const noexcept;
    void lose(Sequence first, Sequence last, std::uint64_t at);
    [[nodiscard]] std::uint64_t take_tail(std::uint64_t at, std::uint64_t epoch, Sequence behind,
                                          PendingFrames& into);
    void finish_shard(const ShardTable& shard);

    IoEngine& engine_;
    const SetGeometry& geometry_;
    GroupId group_;
    ReplicaMask readable_;
    SetReport& report_;
    std::array<std::unique_ptr<FileWindow>, replica_count> windows_;
    std::array<std::uint32_t, replica_count> window_container_{};
    std::set<std::pair<unsigned, std::uint32_t>> unopened_;  // replica, container: told once

    // Of the shard being walked.
    ShardReport* out_ = nullptr;
    std::uint64_t uid_ = 0;
    Sequence end_ = 0;                  // last sequence walked over
    std::optional<ChainEnd> identity_;  // of that frame; nothing after a trim or a loss
    std::array<std::uint64_t, replica_count> lagging_chunks_{};
    // Of the chunk.
    std::string name_;
    ReplicaMask copies_mask_ = 0;
    std::uint64_t base_ = 0;   // of the chunk in its container
    std::uint64_t limit_ = 0;  // its recorded end there
    Sequence chunk_end_ = 0;
    std::array<Copy, replica_count> copies_;
    std::array<BadRun, replica_count> bad_;
};

}  // namespace penstock
