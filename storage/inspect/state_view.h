// The state logs of a group as they stand on each replica, block by block.
//
// Runs on: an offline tool's thread.
// Format: docs/formats/manifest.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/block.h"
#include "storage/io/engine.h"

namespace penstock {

struct SeenStateBlock {
    std::uint64_t offset = 0;
    BlockFault fault = BlockFault::none;  // `header` counts if none or payload_damaged
    StateBlockHeader header;
};

// One slot file of one replica: the chain of blocks from its beginning, then what ended it.
struct StateSlotCopy {
    bool present = false;
    std::uint64_t size_bytes = 0;
    std::vector<SeenStateBlock> chain;  // intact, of one generation, each naming the one before
    bool complete = false;              // holds a whole snapshot
    BlockFault ended_by = BlockFault::not_a_block;

    [[nodiscard]] std::uint64_t end_offset() const noexcept;
};

[[nodiscard]] std::string state_name(GroupId group, unsigned slot);
[[nodiscard]] const char* describe(StateKind kind) noexcept;

// Errors: io_failed. A missing file is not one: `present` is false.
[[nodiscard]] Result<StateSlotCopy> read_state_slot(IoEngine& engine, std::uint64_t set_id,
                                                    GroupId group, unsigned replica, unsigned slot);

// What stands at a place of a slot file: whether it is the block with this header CRC.
[[nodiscard]] Result<SeenStateBlock> read_state_block(IoEngine& engine, std::uint64_t set_id,
                                                      GroupId group, unsigned replica,
                                                      unsigned slot, std::uint64_t offset);

}  // namespace penstock
