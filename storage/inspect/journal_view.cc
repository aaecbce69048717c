#include "storage/inspect/journal_view.h"

#include <algorithm>

#include "storage/inspect/file_window.h"
#include "storage/journal/ring.h"

namespace penstock {

namespace {

constexpr std::uint64_t piece_bytes = 4U << 20;

void read_frames(SeenJournalBlock& block, Bytes bytes, std::uint64_t set_id) {
    std::uint64_t at = sizeof(JournalBlockHeader);
    block.sound = true;
    for (std::uint32_t i = 0; i < block.header.frame_count; ++i) {
        SeenJournalFrame frame;
        const Bytes rest = bytes.subspan(std::min<std::uint64_t>(at, bytes.size()));
        const FrameFault fault = check_frame(rest, set_id, frame.header);
        frame.intact = fault == FrameFault::none;
        block.sound = block.sound && frame.intact && frame.header.epoch == block.header.epoch;
        if (fault != FrameFault::none && fault != FrameFault::payload_damaged) {
            return;  // nothing says where the next one begins
        }
        block.frames.push_back(frame);
        at += frame.header.total_bytes();
    }
}

void read_file(FileWindow& window, const SetGeometry& geometry, GroupId group, std::uint32_t file,
               std::vector<SeenJournalBlock>& out) {
    for (std::uint64_t at = 0; at + block_bytes <= window.size_bytes();) {
        const Bytes bytes = window.load(at, journal_block_bytes_max, piece_bytes);
        SeenJournalBlock block;
        block.file = file;
        block.offset = at;
        block.fault = check_block(bytes, geometry.set_id, value(group), block.header);
        at += block_bytes;
        if (block.fault == BlockFault::not_a_block || block.fault == BlockFault::truncated) {
            continue;
        }
        if (block.fault == BlockFault::none && block.header.used_bytes > bytes.size()) {
            block.fault = BlockFault::truncated;
        }
        if (block.fault == BlockFault::none) {
            read_frames(block, bytes.first(block.header.used_bytes), geometry.set_id);
            // Behind the header of a block that is not whole a newer one may have begun.
            at = block.offset + (block.sound ? block.length() : block_bytes);
        }
        out.push_back(std::move(block));
    }
}

}  // namespace

Result<JournalCopy> read_journal_copy(IoEngine& engine, const SetGeometry& geometry, GroupId group,
                                      unsigned replica) {
    JournalCopy out;
    FileWindow window(engine, piece_bytes + journal_block_bytes_max);
    for (std::uint32_t file = 0; file < geometry.journal_files; ++file) {
        const Status opened = window.open(replica, journal_name(group, file));
        if (!opened) {
            if (opened.error().code != Errc::not_found) {
                return std::unexpected(opened.error());
            }
            ++out.missing_files;
            continue;
        }
        out.short_files += window.size_bytes() < geometry.journal_file_bytes ? 1U : 0U;
        read_file(window, geometry, group, file, out.blocks);
        if (window.error().code != Errc::ok) {
            return std::unexpected(window.error());
        }
    }
    return out;
}

}  // namespace penstock
