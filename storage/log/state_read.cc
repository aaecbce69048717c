// Reading a state log back: which generation counts, and whether what is missing may exist.
#include <algorithm>
#include <iterator>
#include <memory>

#include "storage/base/check.h"
#include "storage/log/state_log.h"

namespace penstock {

namespace {

// One generation in one slot, put together from every replica that was read: each block is
// committed by two replicas, not always the same two, and stands at the same place on each.
struct SlotRead {
    bool complete = false;  // a whole snapshot
    std::uint64_t epoch = 0;
    std::uint64_t generation = 0;
    unsigned slot = 0;
    std::uint64_t blocks = 0;
    ReplicaMask sent_to = 0;  // of the last block
    std::vector<std::byte> stream;
    std::uint64_t snapshot_bytes = 0;
    std::array<std::uint64_t, replica_count> intact{};  // blocks of the chain that a replica has
    ReplicaMask damaged = 0;                            // replicas with damage where the chain ends
    ReplicaMask beyond = 0;  // replicas with sound blocks of the generation behind its end
};

bool same(const SlotRead& a, std::uint64_t epoch, std::uint64_t generation) noexcept {
    return a.epoch == epoch && a.generation == generation;
}

// A slot file of one replica, read through a window.
class SlotFile {
public:
    static constexpr std::uint64_t window_bytes = 1U << 20;

    SlotFile(IoEngine& engine, unsigned replica, std::byte* window)
        : engine_(engine), replica_(replica), window_(window) {}
    ~SlotFile() {
        if (file_ != no_file) {
            engine_.close(file_);
        }
    }
    SlotFile(const SlotFile&) = delete;
    SlotFile& operator=(const SlotFile&) = delete;

    // A missing file reads as an empty slot.
    Status open(GroupId group, unsigned slot) {
        const auto file = engine_.open(
            replica_, "state-" + std::to_string(value(group)) + "-" + std::to_string(slot),
            OpenMode::read_only);
        if (!file) {
            return file.error().code == Errc::not_found ? Status{} : std::unexpected(file.error());
        }
        file_ = *file;
        PENSTOCK_TRY(size, engine_.size_bytes(file_));
        size_ = align_down(size, block_bytes);
        return {};
    }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    // Bytes from `offset` on, as many as a block can have, or to the end of the file.
    Result<Bytes> view(std::uint64_t offset) {
        if (offset >= size_) {
            return Bytes{};
        }
        const std::uint64_t want = std::min<std::uint64_t>(256U * 1024, size_ - offset);
        if (offset < window_from_ || offset + want > window_from_ + window_have_) {
            const std::uint64_t length = std::min(window_bytes, size_ - offset);
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

private:
    IoEngine& engine_;
    unsigned replica_;
    std::byte* window_;
    FileHandle file_ = no_file;
    std::uint64_t size_ = 0;
    std::uint64_t window_from_ = 1;
    std::uint64_t window_have_ = 0;
};

class SlotParser {
public:
    using Files = std::array<std::unique_ptr<SlotFile>, replica_count>;
    SlotParser(Files& files, std::uint64_t set_id, GroupId group, unsigned slot)
        : files_(files), set_id_(set_id), group_(group), slot_(slot) {}

    // Every generation that any replica has in this slot.
    Result<std::vector<SlotRead>> parse() {
        std::vector<SlotRead> found;
        for (unsigned r = 0; r < replica_count; ++r) {
            if (files_[r] != nullptr) {
                PENSTOCK_TRY_VOID(identify(r, found));
            }
        }
        for (SlotRead& out : found) {
            PENSTOCK_TRY_VOID(follow(out));
        }
        return found;
    }

private:
    Result<BlockFault> look(unsigned replica, std::uint64_t offset, StateBlockHeader& header,
                            Bytes& bytes) {
        auto seen = files_[replica]->view(offset);
        if (!seen) {
            return std::unexpected(Error{seen.error().code, seen.error().os_errno, replica});
        }
        bytes = *seen;
        if (bytes.empty()) {
            return BlockFault::not_a_block;
        }
        const BlockFault fault = check_block(bytes, set_id_, value(group_), header);
        if (fault == BlockFault::unknown_version) {
            return std::unexpected(Error{Errc::unsupported, 0, replica});
        }
        return fault;
    }

    // The generation is that of the first sound block: of index 0, unless that one is damaged.
    Status identify(unsigned replica, std::vector<SlotRead>& found) {
        const std::uint64_t until = std::min<std::uint64_t>(files_[replica]->size(), look_beyond);
        for (std::uint64_t at = 0; at < until; at += block_bytes) {
            StateBlockHeader header;
            Bytes bytes;
            PENSTOCK_TRY(fault, look(replica, at, header, bytes));
            if (fault == BlockFault::not_a_block && at == 0) {
                return {};  // never used
            }
            if (fault != BlockFault::none) {
                continue;
            }
            const bool known = std::any_of(found.begin(), found.end(), [&](const SlotRead& other) {
                return same(other, header.epoch, header.generation);
            });
            if (!known) {
                SlotRead out;
                out.epoch = header.epoch;
                out.generation = header.generation;
                out.slot = slot_;
                found.push_back(std::move(out));
            }
            return {};
        }
        return {};
    }

    Status follow(SlotRead& out) {
        std::uint64_t offset = 0;
        std::uint32_t previous_crc = 0;
        for (bool on = true; on;) {
            on = false;
            std::uint64_t length = 0;
            std::uint32_t crc = 0;
            out.damaged = 0;
            for (unsigned r = 0; r < replica_count; ++r) {
                if (files_[r] == nullptr) {
                    continue;
                }
                StateBlockHeader header;
                Bytes bytes;
                PENSTOCK_TRY(fault, look(r, offset, header, bytes));
                if (fault == BlockFault::header_damaged || fault == BlockFault::payload_damaged ||
                    fault == BlockFault::truncated) {
                    out.damaged = static_cast<ReplicaMask>(out.damaged | (1U << r));
                }
                if (fault != BlockFault::none || !same(out, header.epoch, header.generation) ||
                    header.index != out.blocks || header.previous_crc != previous_crc) {
                    continue;  // left over from an earlier use of the slot
                }
                ++out.intact[r];
                if (!on) {
                    take(out, header, bytes);
                    on = true;
                    length = align_up(sizeof header + header.payload_bytes, block_bytes);
                    crc = header.header_crc;
                }
            }
            out.blocks += on ? 1 : 0;
            offset += length;
            previous_crc = on ? crc : previous_crc;
        }
        return look_behind(out, offset);
    }

    static void take(SlotRead& out, const StateBlockHeader& header, Bytes bytes) {
        const Bytes payload = bytes.subspan(sizeof header, header.payload_bytes);
        out.stream.insert(out.stream.end(), payload.begin(), payload.end());
        if (header.kind != StateKind::delta) {
            out.snapshot_bytes = out.stream.size();
        }
        out.complete = out.complete || header.kind == StateKind::snapshot_last;
        out.sent_to = header.sent_to;
    }

    // Blocks are at most 256 KiB, so a successor of a damaged one begins within that many bytes; a
    // few blocks further are looked at too, since several in a row may be damaged.
    static constexpr std::uint64_t look_beyond = 1U << 20;
    Status look_behind(SlotRead& out, std::uint64_t from) {
        for (unsigned r = 0; r < replica_count; ++r) {
            const std::uint64_t until =
                files_[r] == nullptr ? 0 : std::min(files_[r]->size(), from + look_beyond);
            for (std::uint64_t at = from; at < until; at += block_bytes) {
                StateBlockHeader header;
                Bytes bytes;
                PENSTOCK_TRY(fault, look(r, at, header, bytes));
                if (fault == BlockFault::none && same(out, header.epoch, header.generation) &&
                    header.index >= out.blocks) {
                    out.beyond = static_cast<ReplicaMask>(out.beyond | (1U << r));
                    break;
                }
            }
        }
        return {};
    }

    Files& files_;
    std::uint64_t set_id_;
    GroupId group_;
    unsigned slot_;
};

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
    std::vector<SlotRead> generations;
    std::array<std::byte*, replica_count> windows{};
    for (unsigned r = 0; r < replica_count; ++r) {
        windows[r] =
            (readable >> r & 1) != 0 ? engine.allocate_buffer(SlotFile::window_bytes) : nullptr;
        if ((readable >> r & 1) != 0 && windows[r] == nullptr) {
            return fail(Errc::no_memory_room);
        }
    }
    for (unsigned slot = 0; slot < 2; ++slot) {
        SlotParser::Files files;
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((readable >> r & 1) == 0) {
                continue;
            }
            files[r] = std::make_unique<SlotFile>(engine, r, windows[r]);
            if (const Status opened = files[r]->open(group, slot); !opened) {
                return std::unexpected(Error{opened.error().code, opened.error().os_errno, r});
            }
        }
        PENSTOCK_TRY(found, SlotParser(files, set_id, group, slot).parse());
        std::move(found.begin(), found.end(), std::back_inserter(generations));
    }
    StateRead out;
    const SlotRead* best = nullptr;
    for (const SlotRead& have : generations) {
        out.highest_generation = std::max(out.highest_generation, have.generation);
        if (have.complete && (best == nullptr || newer(have, *best))) {
            best = &have;
        }
    }
    // A generation with sound blocks behind a place that is intact nowhere was in use: what it
    // lacks was committed, and falling back to an older one would forget even more.
    ReplicaMask damaged_newest = 0;
    for (const SlotRead& have : generations) {
        if (best == nullptr || &have == best || newer(have, *best)) {
            damaged_newest = static_cast<ReplicaMask>(damaged_newest | have.beyond);
        }
    }
    if (damaged_newest != 0 && !accept_loss) {
        return fail(absent != 0 ? Errc::wait_for_replica : Errc::corrupt, 0, damaged_newest);
    }
    if (best == nullptr) {
        return out;
    }
    out.slot = best->slot;
    out.blocks = best->intact;
    for (unsigned r = 0; r < replica_count; ++r) {
        out.damaged[r] = (best->damaged >> r & 1) != 0;
    }
    // R8: a damaged last block on a replica that was read may have a good, committed copy on a
    // voting one that was not.
    if (best->damaged != 0 && (best->sent_to & absent) != 0 && !accept_loss) {
        return fail(Errc::wait_for_replica, 0,
                    static_cast<std::uint32_t>(__builtin_ctz(best->damaged)));
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
