#include "storage/inspect/state_view.h"

#include "storage/inspect/file_window.h"

namespace penstock {

namespace {

constexpr std::uint64_t state_block_bytes_max = 256U * 1024;
constexpr std::uint64_t piece_bytes = 1U << 20;

std::uint64_t length_of(const StateBlockHeader& header) noexcept {
    return align_up(sizeof header + header.payload_bytes, block_bytes);
}

}  // namespace

std::uint64_t StateSlotCopy::end_offset() const noexcept {
    return chain.empty() ? 0 : chain.back().offset + length_of(chain.back().header);
}

std::string state_name(GroupId group, unsigned slot) {
    return "state-" + std::to_string(value(group)) + "-" + std::to_string(slot);
}

const char* describe(StateKind kind) noexcept {
    switch (kind) {
        case StateKind::none:
            return "none";
        case StateKind::snapshot:
            return "snapshot";
        case StateKind::snapshot_last:
            return "snapshot, last";
        case StateKind::delta:
            return "delta";
    }
    return "unknown";
}

Result<StateSlotCopy> read_state_slot(IoEngine& engine, std::uint64_t set_id, GroupId group,
                                      unsigned replica, unsigned slot) {
    StateSlotCopy out;
    FileWindow window(engine, piece_bytes + state_block_bytes_max);
    const Status opened = window.open(replica, state_name(group, slot));
    if (!opened) {
        if (opened.error().code == Errc::not_found) {
            return out;
        }
        return std::unexpected(opened.error());
    }
    out.present = true;
    out.size_bytes = window.size_bytes();
    std::uint64_t at = 0;
    while (at < out.size_bytes) {
        SeenStateBlock block;
        block.offset = at;
        block.fault = check_block(window.load(at, state_block_bytes_max, piece_bytes), set_id,
                                  value(group), block.header);
        if (window.error().code != Errc::ok) {
            return std::unexpected(window.error());
        }
        out.ended_by = block.fault;
        if (block.fault != BlockFault::none) {
            break;
        }
        const bool follows =
            block.header.index == out.chain.size() &&
            (out.chain.empty() ? block.header.previous_crc == 0
                               : block.header.previous_crc == out.chain.back().header.header_crc &&
                                     block.header.generation == out.chain.back().header.generation);
        if (!follows) {
            out.ended_by = BlockFault::not_a_block;  // left over from an earlier use of the slot
            break;
        }
        out.complete = out.complete || block.header.kind == StateKind::snapshot_last;
        at += length_of(block.header);
        out.chain.push_back(block);
    }
    return out;
}

Result<SeenStateBlock> read_state_block(IoEngine& engine, std::uint64_t set_id, GroupId group,
                                        unsigned replica, unsigned slot, std::uint64_t offset) {
    SeenStateBlock block;
    block.offset = offset;
    FileWindow window(engine, state_block_bytes_max);
    const Status opened = window.open(replica, state_name(group, slot));
    if (!opened) {
        if (opened.error().code != Errc::not_found) {
            return std::unexpected(opened.error());
        }
        block.fault = BlockFault::truncated;
        return block;
    }
    block.fault = check_block(window.load(offset, state_block_bytes_max, 0), set_id, value(group),
                              block.header);
    if (window.error().code != Errc::ok) {
        return std::unexpected(window.error());
    }
    return block;
}

}  // namespace penstock
