// Reading a state log back: which generation counts, and whether what is missing may exist.
#include <algorithm>

#include "storage/base/check.h"
#include "storage/log/state_log.h"

namespace penstock {

namespace {

struct SlotRead {
    bool complete = false;           // a whole snapshot
    std::uint64_t epoch = 0;
    std::uint64_t generation = 0;
    std::uint64_t blocks = 0;
    ReplicaMask sent_to = 0;
    std::vector<std::byte> stream;
    std::uint64_t snapshot_bytes = 0;
    bool damaged = false;            // a block that was written ended the chain
    bool beyond = false;             // sound blocks of the generation stand behind the damage
    bool any = false;                // the first block was readable: generation is known
};

class SlotParser {
  public:
    SlotParser(IoEngine& engine, FileHandle file, std::uint64_t size, std::uint64_t set_id,
               GroupId group, std::byte* window)
        : engine_(engine), file_(file), size_(size), set_id_(set_id), group_(group), window_(window) {}

    static constexpr std::uint64_t window_bytes = 1U << 20;

    Result<SlotRead> parse() {
        SlotRead out;
        std::uint64_t offset = 0;
        std::uint32_t previous_crc = 0;
        while (offset < size_) {
            PENSTOCK_TRY(bytes, view(offset));
            StateBlockHeader header;
            const BlockFault fault = check_block(bytes, set_id_, value(group_), header);
            if (fault == BlockFault::unknown_version) {
                return fail(Errc::unsupported);
            }
            if (fault != BlockFault::none) {
                out.damaged = fault == BlockFault::header_damaged ||
                              fault == BlockFault::payload_damaged || fault == BlockFault::truncated;
                break;
            }
            if (header.index != out.blocks || header.previous_crc != previous_crc ||
                (out.blocks != 0 && header.generation != out.generation)) {
                break;  // left over from an earlier use of the slot
            }
            take(out, header, bytes);
            previous_crc = header.header_crc;
            offset += align_up(sizeof header + header.payload_bytes, block_bytes);
        }
        if (out.blocks != 0 || out.damaged) {
            PENSTOCK_TRY(beyond, sound_block_beyond(offset, out));
            out.beyond = beyond;
            out.damaged = out.damaged || beyond;
        }
        return out;
    }

  private:
    static void take(SlotRead& out, const StateBlockHeader& header, Bytes bytes) {
        if (out.blocks == 0) {
            out.any = true;
            out.epoch = header.epoch;
            out.generation = header.generation;
        }
        const Bytes payload = bytes.subspan(sizeof header, header.payload_bytes);
        out.stream.insert(out.stream.end(), payload.begin(), payload.end());
        if (header.kind != StateKind::delta) {
            out.snapshot_bytes = out.stream.size();
        }
        out.complete = out.complete || header.kind == StateKind::snapshot_last;
        out.sent_to = header.sent_to;
        ++out.blocks;
    }

    // Bytes from `offset` on, as many as a block can have, or to the end of the file.
    Result<Bytes> view(std::uint64_t offset) {
        const std::uint64_t want = std::min<std::uint64_t>(256U * 1024, size_ - offset);
        if (offset < window_from_ || offset + want > window_from_ + window_have_) {
            const std::uint64_t length = std::min(window_bytes, align_down(size_ - offset, block_bytes));
            if (length == 0) {
                return Bytes{};
            }
            PENSTOCK_TRY(got, run_one(engine_, {.kind = IoKind::read,
                                                .file = file_,
                                                .offset = offset,
                                                .data = window_,
                                                .length = length}));
            window_from_ = offset;
            window_have_ = got;
        }
        return Bytes{window_ + (offset - window_from_),
                     std::min<std::uint64_t>(want, window_from_ + window_have_ - offset)};
    }

    // Blocks are at most 256 KiB, so a successor of a damaged one begins within that many bytes; a
    // few blocks further are looked at too, since several in a row may be damaged.
    Result<bool> sound_block_beyond(std::uint64_t from, SlotRead& out) {
        const std::uint64_t until = std::min(size_, from + (1U << 20));
        for (std::uint64_t at = from; at < until; at += block_bytes) {
            PENSTOCK_TRY(bytes, view(at));
            StateBlockHeader header;
            if (check_block(bytes, set_id_, value(group_), header) != BlockFault::none) {
                continue;
            }
            if (!out.any) {  // the very first block is damaged: this one says whose it was
                out.any = true;
                out.generation = header.generation;
                out.epoch = header.epoch;
                return header.index != 0;
            }
            if (header.generation == out.generation && header.epoch == out.epoch &&
                header.index >= out.blocks) {
                return true;
            }
        }
        return false;
    }

    IoEngine& engine_;
    FileHandle file_;
    std::uint64_t size_;
    std::uint64_t set_id_;
    GroupId group_;
    std::byte* window_;
    std::uint64_t window_from_ = 1;
    std::uint64_t window_have_ = 0;
};

// One slot of one replica; a missing file reads as an empty slot.
Result<SlotRead> read_slot(IoEngine& engine, std::uint64_t set_id, GroupId group, unsigned replica,
                           unsigned slot, std::byte* window) {
    const auto file = engine.open(
        replica, "state-" + std::to_string(value(group)) + "-" + std::to_string(slot),
        OpenMode::read_only);
    if (!file) {
        if (file.error().code == Errc::not_found) {
            return SlotRead{};
        }
        return std::unexpected(file.error());
    }
    auto size = engine.size_bytes(*file);
    Result<SlotRead> read = SlotRead{};
    if (size) {
        read = SlotParser(engine, *file, align_down(*size, block_bytes), set_id, group, window).parse();
    } else {
        read = std::unexpected(size.error());
    }
    engine.close(*file);
    return read;
}

bool newer(const SlotRead& a, const SlotRead& b) noexcept {
    if (a.epoch != b.epoch) {
        return a.epoch > b.epoch;
    }
    if (a.generation != b.generation) {
        return a.generation > b.generation;
    }
    return a.blocks > b.blocks;
}

}  // namespace

Result<StateRead> read_state_log(IoEngine& engine, std::uint64_t set_id, GroupId group,
                                 ReplicaMask readable, ReplicaMask absent, bool accept_loss) {
    std::byte* window = engine.allocate_buffer(SlotParser::window_bytes);
    if (window == nullptr) {
        return fail(Errc::no_memory_room);
    }
    std::array<std::array<SlotRead, 2>, replica_count> slots;
    StateRead out;
    const SlotRead* best = nullptr;
    for (unsigned r = 0; r < replica_count; ++r) {
        for (unsigned slot = 0; slot < 2 && (readable >> r & 1) != 0; ++slot) {
            auto read = read_slot(engine, set_id, group, r, slot, window);
            if (!read) {
                return std::unexpected(Error{read.error().code, read.error().os_errno, r});
            }
            slots[r][slot] = std::move(*read);
            const SlotRead& have = slots[r][slot];
            out.highest_generation = std::max(out.highest_generation, have.generation);
            if (have.complete && (best == nullptr || newer(have, *best))) {
                best = &have;
                out.slot = slot;
            }
        }
    }
    // A generation whose snapshot is damaged everywhere it can be read, though deltas follow it, was
    // in use: falling back to an older one would forget what was committed in it.
    ReplicaMask damaged_newest = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        for (unsigned slot = 0; slot < 2; ++slot) {
            const SlotRead& have = slots[r][slot];
            const bool same = best != nullptr && have.any && have.epoch == best->epoch &&
                              have.generation == best->generation;
            if (same) {
                out.blocks[r] = have.blocks;
                out.damaged[r] = have.damaged;
                if (have.beyond && have.blocks >= best->blocks) {
                    damaged_newest = static_cast<ReplicaMask>(damaged_newest | (1U << r));
                }
            } else if (have.any && have.beyond && (best == nullptr || newer(have, *best))) {
                damaged_newest = static_cast<ReplicaMask>(damaged_newest | (1U << r));
            }
        }
    }
    if (damaged_newest != 0 && !accept_loss) {
        return fail(absent != 0 ? Errc::wait_for_replica : Errc::corrupt, 0, damaged_newest);
    }
    if (best == nullptr) {
        return out;
    }
    // R8: a damaged last block on a replica that was read may have a good, committed copy on a
    // voting one that was not.
    const bool tail_in_doubt = std::any_of(out.damaged.begin(), out.damaged.end(),
                                           [](bool damaged) { return damaged; });
    if (tail_in_doubt && (best->sent_to & absent) != 0 && !accept_loss) {
        for (unsigned r = 0; r < replica_count; ++r) {
            if (out.damaged[r] && out.blocks[r] >= best->blocks) {
                return fail(Errc::wait_for_replica, 0, r);
            }
        }
    }
    out.found = true;
    out.epoch = best->epoch;
    out.generation = best->generation;
    out.sent_to = best->sent_to;
    out.stream = best->stream;
    out.snapshot_bytes = best->snapshot_bytes;
    return out;
}

}  // namespace penstock
