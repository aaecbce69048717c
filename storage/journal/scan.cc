#include "storage/journal/scan.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "storage/journal/ring.h"

namespace penstock {

namespace {

class Scanner {
public:
    Scanner(IoEngine& engine, const SetGeometry& geometry, GroupId group, std::uint64_t epoch,
            const std::function<bool(std::uint64_t, Sequence)>& wanted)
        : engine_(engine), geometry_(geometry), group_(group), epoch_(epoch), wanted_(wanted) {}

    Status scan_file(unsigned replica, std::uint32_t number, std::byte* buffer) {
        const auto file = engine_.open(replica, journal_name(group_, number), OpenMode::read_only);
        if (!file) {
            return file.error().code == Errc::not_found ? Status{} : std::unexpected(file.error());
        }
        std::uint64_t have = 0;
        Status status = load(*file, buffer, have);
        engine_.close(*file);
        if (status) {
            scan_bytes(replica, number, {buffer, have});
        }
        return status;
    }

    JournalScan finish() {
        for (const auto& [number, block] : scan_.blocks) {
            if (block.intact == 0 && !overwritten(block)) {
                scan_.missing.push_back(number);
            }
        }
        for (const auto& [number, file, end] : ends_) {
            // Damage right behind a block may be its successor, torn or rotten.
            const bool successor_seen = scan_.blocks.contains(number + 1);
            const std::uint64_t next = place(file, end);
            const std::uint64_t next_file = place((file + 1) % geometry_.journal_files, 0);
            if (!successor_seen && (damaged_.contains(next) || damaged_.contains(next_file))) {
                scan_.missing.push_back(number + 1);
            }
        }
        const auto second = scan_.blocks.find(2);
        if (scan_.blocks.empty() ? !damaged_.empty()
                                 : second != scan_.blocks.end() && !scan_.blocks.contains(1) &&
                                       damaged_.contains(place(second->second.file, 0))) {
            scan_.missing.push_back(1);
        }
        return std::move(scan_);
    }

private:
    [[nodiscard]] std::uint64_t place(std::uint32_t file, std::uint64_t offset) const noexcept {
        return file * geometry_.journal_file_bytes + offset;
    }

    // The whole file, several reads in flight.
    Status load(FileHandle file, std::byte* buffer, std::uint64_t& have) {
        PENSTOCK_TRY(size, engine_.size_bytes(file));
        have = std::min(align_down(size, block_bytes), geometry_.journal_file_bytes);
        constexpr std::uint64_t piece = 1U << 20;
        std::uint64_t next = 0;
        std::size_t in_flight = 0;
        Error error;
        while (next < have || in_flight != 0) {
            while (next < have && in_flight < 8 &&
                   engine_.queue({.kind = IoKind::read,
                                  .file = file,
                                  .offset = next,
                                  .data = buffer + next,
                                  .length = std::min(piece, have - next),
                                  .cookie = std::min(piece, have - next)})) {
                next += piece;
                ++in_flight;
            }
            engine_.wait(100'000'000);
            std::array<IoCompletion, 8> done;
            const std::size_t count = engine_.reap(done);
            for (std::size_t i = 0; i < count; ++i) {
                --in_flight;
                if (done[i].result != static_cast<std::int64_t>(done[i].cookie)) {
                    error = Error{
                        Errc::io_failed,
                        static_cast<std::uint16_t>(done[i].result < 0 ? -done[i].result : 5), 0};
                }
            }
        }
        if (error.code != Errc::ok) {
            return std::unexpected(error);
        }
        return {};
    }

    void scan_bytes(unsigned replica, std::uint32_t file, Bytes bytes) {
        const auto bit = static_cast<ReplicaMask>(1U << replica);
        for (std::uint64_t at = 0; at + block_bytes <= bytes.size();) {
            JournalBlockHeader header;
            const BlockFault fault =
                check_block(bytes.subspan(at), geometry_.set_id, value(group_), header);
            if (fault == BlockFault::header_damaged) {
                damaged_.insert(place(file, at));
            }
            if (fault != BlockFault::none || at + header.used_bytes > bytes.size()) {
                at += block_bytes;
                continue;
            }
            scan_.any_block = true;
            const bool sound =
                header.epoch == epoch_ &&
                take_block(header, file, at, bit, bytes.subspan(at, header.used_bytes));
            // A block that is not sound may have been overwritten in part by a newer one that
            // begins behind its header, so only whole ones are stepped over.
            at += sound ? align_up(header.used_bytes, block_bytes) : block_bytes;
        }
    }

    // Whether the block and all its frames are sound.
    bool take_block(const JournalBlockHeader& header, std::uint32_t file, std::uint64_t offset,
                    ReplicaMask bit, Bytes bytes) {
        ScannedBlock& block = scan_.blocks[header.number];
        block.number = header.number;
        block.file = file;
        block.offset = offset;
        block.length = static_cast<std::uint32_t>(align_up(header.used_bytes, block_bytes));
        block.sent_to = static_cast<ReplicaMask>(block.sent_to | header.sent_to);
        ends_.insert({header.number, file, offset + block.length});
        scan_.durable_through = std::max(scan_.durable_through, header.durable_through);
        if (header.number > scan_.highest_block) {
            scan_.highest_block = header.number;
            scan_.highest_file = file;
        }
        bool sound = true;
        std::uint64_t at = sizeof header;
        for (std::uint32_t i = 0; i < header.frame_count; ++i) {
            FrameHeader frame;
            const FrameFault fault = check_frame(
                bytes.subspan(std::min<std::uint64_t>(at, bytes.size())), geometry_.set_id, frame);
            if (fault == FrameFault::payload_damaged) {
                sound = false;  // its header still says where the next one is
                at += frame.total_bytes();
                continue;
            }
            if (fault != FrameFault::none || frame.epoch != epoch_) {
                sound = false;
                break;
            }
            take_frame(frame, bytes.subspan(at, sizeof frame + frame.payload_bytes), bit);
            at += frame.total_bytes();
        }
        (sound ? block.intact : block.damaged) |= bit;
        return sound;
    }

    // Whether a newer block stands where this one began to: its place had been freed, so nothing in
    // it is missed.
    [[nodiscard]] bool overwritten(const ScannedBlock& old) const {
        for (auto it = scan_.blocks.upper_bound(old.number); it != scan_.blocks.end(); ++it) {
            const ScannedBlock& newer = it->second;
            if (newer.file == old.file && newer.offset < old.offset + old.length &&
                old.offset < newer.offset + newer.length) {
                return true;
            }
        }
        return false;
    }

    void take_frame(const FrameHeader& header, Bytes bytes, ReplicaMask bit) {
        ScannedShard& shard = scan_.shards[header.shard];
        shard.committed_through = std::max(shard.committed_through, header.committed_through);
        if (!wanted_(header.shard, header.last_sequence())) {
            return;
        }
        ScannedFrame& frame = shard.frames[header.first_sequence];
        if (frame.bytes.empty()) {
            frame.header = header;
            frame.bytes.assign(bytes.begin(), bytes.end());
        }
        if (frame.header.header_crc == header.header_crc) {
            frame.copies = static_cast<ReplicaMask>(frame.copies | bit);
        }
    }

    IoEngine& engine_;
    const SetGeometry& geometry_;
    GroupId group_;
    std::uint64_t epoch_;
    const std::function<bool(std::uint64_t, Sequence)>& wanted_;
    JournalScan scan_;
    std::set<std::uint64_t> damaged_;  // places with a block header that fails its checksum
    // Number, file and end of every block seen. A misdirected write has one of its own.
    std::set<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> ends_;
};

}  // namespace

Result<JournalScan> scan_journal(IoEngine& engine, const SetGeometry& geometry, GroupId group,
                                 std::uint64_t epoch, ReplicaMask readable,
                                 const std::function<bool(std::uint64_t, Sequence)>& wanted) {
    std::byte* buffer = engine.allocate_buffer(geometry.journal_file_bytes);
    if (buffer == nullptr) {
        return fail(Errc::no_memory_room);
    }
    Scanner scanner(engine, geometry, group, epoch, wanted);
    for (unsigned r = 0; r < replica_count; ++r) {
        for (std::uint32_t file = 0; file < geometry.journal_files && (readable >> r & 1) != 0;
             ++file) {
            if (const Status scanned = scanner.scan_file(r, file, buffer); !scanned) {
                return std::unexpected(Error{scanned.error().code, scanned.error().os_errno, r});
            }
        }
    }
    return scanner.finish();
}

}  // namespace penstock
