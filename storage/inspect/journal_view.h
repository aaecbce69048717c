// The journal of a group as it stands on each replica, block by block.
//
// Runs on: an offline tool's thread.
// Format: docs/formats/journal.md.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/block.h"
#include "storage/format/frame.h"
#include "storage/io/engine.h"
#include "storage/replica/geometry.h"

namespace penstock {

struct SeenJournalFrame {
    FrameHeader header;
    bool intact = false;  // otherwise its header is sound and its payload is not
};

// A place of the ring where a block begins, or where one did.
struct SeenJournalBlock {
    std::uint32_t file = 0;
    std::uint64_t offset = 0;
    BlockFault fault = BlockFault::none;  // of its header; `header` counts only if none
    JournalBlockHeader header;
    std::vector<SeenJournalFrame> frames;
    bool sound = false;  // header and all frames

    [[nodiscard]] std::uint64_t length() const noexcept {
        return align_up(header.used_bytes, block_bytes);
    }
};

// Every place of the group's journal on a replica with a journal block's magic, in file order.
// Missing files hold nothing; `missing_files` counts them.
struct JournalCopy {
    std::vector<SeenJournalBlock> blocks;
    std::uint32_t missing_files = 0;
    std::uint32_t short_files = 0;
};
[[nodiscard]] Result<JournalCopy> read_journal_copy(IoEngine& engine, const SetGeometry& geometry,
                                                    GroupId group, unsigned replica);

}  // namespace penstock
