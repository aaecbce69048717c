#include "storage/journal/scan.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "storage/io/io_memory.h"
#include "storage/journal/ring.h"

namespace penstock {

namespace {

class Scanner {
public:
    Scanner(const SetGeometry& geometry, GroupId group, std::uint64_t epoch,
            const std::function<bool(std::uint64_t, Sequence)>& wanted)
        : geometry_(geometry), group_(group), epoch_(epoch), wanted_(wanted) {}

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

    const SetGeometry& geometry_;
    GroupId group_;
    std::uint64_t epoch_;
    const std::function<bool(std::uint64_t, Sequence)>& wanted_;
    JournalScan scan_;
    std::set<std::uint64_t> damaged_;  // places with a block header that fails its checksum
    // Number, file and end of every block seen. A misdirected write has one of its own.
    std::set<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> ends_;
};

// The files of every replica, one of each in memory at a time. While one is looked at the others
// are being read, so that three drives work at once.
class Loader {
public:
    Loader(IoEngine& engine, const SetGeometry& geometry, GroupId group, ReplicaMask readable)
        : engine_(engine), geometry_(geometry), group_(group), readable_(readable) {}
    ~Loader() {
        // The drives write into memory that is about to be freed.
        while (under_way_ != 0) {
            reap();
        }
        for (const Copy& copy : copies_) {
            if (copy.file != no_file) {
                engine_.close(copy.file);
            }
        }
    }
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    // Begins to read a replica's file. One that is absent has no bytes.
    Status begin(unsigned replica, std::uint32_t number) {
        Copy& copy = copies_[replica];
        if (copy.file != no_file) {
            engine_.close(copy.file);
        }
        copy.file = no_file;
        copy.have = copy.next = 0;
        if ((readable_ >> replica & 1) == 0 || number >= geometry_.journal_files) {
            return {};
        }
        if (copy.memory.data() == nullptr) {
            copy.memory = IoMemory(geometry_.journal_file_bytes, false);
            if (copy.memory.data() == nullptr) {
                return fail(Errc::no_memory_room);
            }
        }
        const auto file = engine_.open(replica, journal_name(group_, number), OpenMode::read_only);
        if (!file) {
            return file.error().code == Errc::not_found ? Status{} : std::unexpected(file.error());
        }
        copy.file = *file;
        PENSTOCK_TRY(size, engine_.size_bytes(*file));
        copy.have = std::min(align_down(size, block_bytes), geometry_.journal_file_bytes);
        queue_more();
        engine_.submit();
        return {};
    }

    // Waits for the whole file.
    Result<Bytes> finish(unsigned replica) {
        Copy& copy = copies_[replica];
        while (copy.next < copy.have || copy.under_way != 0) {
            reap();
        }
        if (copy.error.code != Errc::ok) {
            return std::unexpected(copy.error);
        }
        return Bytes{copy.memory.data(), static_cast<std::size_t>(copy.have)};
    }

private:
    static constexpr std::uint64_t piece_bytes = 1U << 20;
    static constexpr unsigned under_way_max = 8;  // of one replica
    static constexpr unsigned length_bits = 32;   // of a cookie; the replica above them

    struct Copy {
        IoMemory memory;
        FileHandle file = no_file;
        std::uint64_t have = 0;
        std::uint64_t next = 0;
        unsigned under_way = 0;
        Error error;
    };

    void queue_more() {
        for (unsigned r = 0; r < replica_count; ++r) {
            Copy& copy = copies_[r];
            while (copy.next < copy.have && copy.under_way < under_way_max) {
                const std::uint64_t length = std::min(piece_bytes, copy.have - copy.next);
                if (!engine_.queue({.kind = IoKind::read,
                                    .file = copy.file,
                                    .offset = copy.next,
                                    .data = copy.memory.data() + copy.next,
                                    .length = length,
                                    .cookie = std::uint64_t{r} << length_bits | length})) {
                    return;
                }
                copy.next += length;
                ++copy.under_way;
                ++under_way_;
            }
        }
    }

    void reap() {
        queue_more();
        engine_.wait(100'000'000);
        std::array<IoCompletion, 32> done;
        const std::size_t count = engine_.reap(done);
        for (std::size_t i = 0; i < count; ++i) {
            Copy& copy = copies_[done[i].cookie >> length_bits];
            const auto length =
                static_cast<std::int64_t>(done[i].cookie & ((std::uint64_t{1} << length_bits) - 1));
            --copy.under_way;
            --under_way_;
            if (done[i].result != length) {
                copy.error =
                    Error{Errc::io_failed,
                          static_cast<std::uint16_t>(done[i].result < 0 ? -done[i].result : 5), 0};
            }
        }
    }

    IoEngine& engine_;
    const SetGeometry& geometry_;
    GroupId group_;
    ReplicaMask readable_;
    std::array<Copy, replica_count> copies_;
    unsigned under_way_ = 0;
};

}  // namespace

Result<JournalScan> scan_journal(IoEngine& engine, const SetGeometry& geometry, GroupId group,
                                 std::uint64_t epoch, ReplicaMask readable,
                                 const std::function<bool(std::uint64_t, Sequence)>& wanted) {
    const auto of_replica = [](const Error& error, unsigned replica) {
        return std::unexpected(Error{error.code, error.os_errno, replica});
    };
    Scanner scanner(geometry, group, epoch, wanted);
    Loader loader(engine, geometry, group, readable);
    for (unsigned r = 0; r < replica_count; ++r) {
        if (const Status begun = loader.begin(r, 0); !begun) {
            return of_replica(begun.error(), r);
        }
    }
    for (std::uint32_t file = 0; file < geometry.journal_files; ++file) {
        for (unsigned r = 0; r < replica_count; ++r) {
            const auto bytes = loader.finish(r);
            if (!bytes) {
                return of_replica(bytes.error(), r);
            }
            scanner.scan_bytes(r, file, *bytes);
            if (const Status begun = loader.begin(r, file + 1); !begun) {
                return of_replica(begun.error(), r);
            }
        }
    }
    return scanner.finish();
}

}  // namespace penstock
