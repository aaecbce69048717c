// Reading a group's journal back: every sound frame of one epoch, and where damage may hide one.
//
// Runs on: recovery's thread, or an offline tool.
// Format: docs/formats/journal.md. Decisions: docs/log-protocol.md, recovery table.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/block.h"
#include "storage/format/frame.h"
#include "storage/io/engine.h"
#include "storage/replica/geometry.h"

namespace penstock {

struct ScannedFrame {
    FrameHeader header;
    std::vector<std::byte> bytes;  // header included
    ReplicaMask copies = 0;        // replicas with this very frame intact
};

struct ScannedShard {
    std::map<Sequence, ScannedFrame> frames;  // by first sequence
    Sequence committed_through = 0;           // largest that any frame carries
};

// What stands at a place of the ring on one replica.
struct ScannedBlock {
    std::uint64_t number = 0;
    std::uint32_t file = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    ReplicaMask intact = 0;   // replicas where header and all frames are sound
    ReplicaMask damaged = 0;  // replicas where a frame in it is not
    ReplicaMask sent_to = 0;
};

struct JournalScan {
    std::map<std::uint64_t, ScannedShard> shards;
    std::map<std::uint64_t, ScannedBlock> blocks;  // of the epoch, by number
    std::uint64_t highest_block = 0;
    std::uint32_t highest_file = 0;     // holds the highest block
    std::uint64_t durable_through = 0;  // largest that any block carries
    // Blocks that were written (a later one exists, or damage stands at their place) and are intact
    // nowhere that was read.
    std::vector<std::uint64_t> missing;
    bool any_block = false;  // of any epoch
};

// Scans all journal files of `group` on the replicas of `readable` for frames of `epoch` (0: none
// wanted, only any_block) that `wanted` asks for by shard and last sequence.
[[nodiscard]] Result<JournalScan> scan_journal(
    IoEngine& engine, const SetGeometry& geometry, GroupId group, std::uint64_t epoch,
    ReplicaMask readable, const std::function<bool(std::uint64_t shard, Sequence last)>& wanted);

}  // namespace penstock
