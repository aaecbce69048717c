// Start-up of a group: what survived, what is void, and the start of this epoch.
//
// The steps and the decisions are those of docs/log-protocol.md (rules R3, R6, R7, R8).
#include <algorithm>
#include <map>
#include <optional>

#include "storage/base/crc32c.h"
#include "storage/io/io_memory.h"
#include "storage/journal/scan.h"
#include "storage/log/group_core.h"
#include "storage/segment/reader.h"

namespace penstock {

// What recovery knows of a shard: the frames beyond its segment's recorded end, in order.
struct RecoveredShard {
    ShardTable* table = nullptr;
    struct Frame {
        FrameHeader header;
        std::vector<std::byte> bytes;
    };
    std::vector<Frame> frames;
    Sequence committed_through = 0;  // largest any of its frames carries
    std::vector<LostRange> lost;
};

namespace {

constexpr std::uint64_t next_sequence_gap = std::uint64_t{1} << 32;  // R7

// Reads of many small places at once.
class BatchReader {
public:
    struct Read {
        FileHandle file = no_file;
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        std::byte* data = nullptr;
        std::int64_t result = -1;
    };
    static void run(IoEngine& engine, std::span<Read> reads) {
        std::size_t next = 0;
        std::size_t in_flight = 0;
        std::array<IoCompletion, 64> done;
        while (next < reads.size() || in_flight != 0) {
            while (next < reads.size() && in_flight < done.size()) {
                Read& read = reads[next];
                if (read.file == no_file) {
                    ++next;
                    continue;
                }
                if (!engine.queue({.kind = IoKind::read,
                                   .file = read.file,
                                   .offset = read.offset,
                                   .data = read.data,
                                   .length = read.length,
                                   .cookie = next})) {
                    break;
                }
                ++next;
                ++in_flight;
            }
            if (in_flight == 0) {
                continue;
            }
            engine.wait(100'000'000);
            const std::size_t count = engine.reap(done);
            for (std::size_t i = 0; i < count; ++i) {
                reads[done[i].cookie].result = done[i].result;
                --in_flight;
            }
        }
    }
};

bool all_zero(Bytes bytes) noexcept {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// Whether the damaged header at a place may be that of the frame behind `end`. Its magic or its
// checksum says so, or, where both are gone, what it names: an older use of the place, which may
// have left any bytes there, names neither this shard's end nor a shard without one.
bool may_have_followed(FrameFault fault, Bytes bytes, const ShardTable& shard,
                       const ChainEnd& end) noexcept {
    if (fault == FrameFault::header_damaged) {
        return true;
    }
    if (fault != FrameFault::not_a_frame || bytes.size() < sizeof(FrameHeader)) {
        return false;
    }
    const auto header = load<FrameHeader>(bytes.data());
    const bool shard_fits = header.shard == value(shard.uid);
    const bool sequence_fits = header.previous_sequence == end.sequence;
    const bool crc_fits = header.previous_crc == end.crc;
    return end.sequence == 0 ? shard_fits && sequence_fits && crc_fits && header.record_count != 0
                             : shard_fits + sequence_fits + crc_fits >= 2;
}

// Follows one shard's chain from its recorded end through its segment, then through the journal.
class ChainFollower {
public:
    ChainFollower(GroupCore& core, const JournalScan& scan, ReplicaMask readable,
                  ReplicaMask may_hold, bool pass_holes, std::byte* window)
        : core_(core),
          scan_(scan),
          readable_(readable),
          may_hold_(may_hold),
          pass_holes_(pass_holes),
          window_(window) {}

    static constexpr std::uint64_t window_bytes = 17U << 20;  // the largest frame, and a block

    Status follow(RecoveredShard& shard, bool look_in_segment) {
        end_ = shard.table->end;
        doubt_at_.reset();
        strange_at_.reset();
        looked_ = look_in_segment;
        const auto scanned = scan_.shards.find(value(shard.table->uid));
        const ScannedShard* journaled = scanned == scan_.shards.end() ? nullptr : &scanned->second;
        shard.committed_through =
            std::max(journaled == nullptr ? Sequence{0} : journaled->committed_through,
                     shard.table->closed_through());
        resume_ = Place{};
        behind_ = Place{};
        passed_bytes_ = 0;
        // Writes of one shard go their ways independently: a frame that only the journal has may
        // stand between two that only the segment has. So both are followed until neither leads on.
        for (bool look = look_in_segment;;) {
            if (look) {
                PENSTOCK_TRY_VOID(follow_segment(shard));
            }
            if (follow_journal(shard, journaled)) {
                PENSTOCK_TRY(found, find_behind(shard));
                look = found;
                continue;
            }
            PENSTOCK_TRY(went_on, over_hole(shard, journaled));
            if (!went_on) {
                break;
            }
            look = true;
            if (passed_bytes_ != 0) {
                PENSTOCK_TRY(found, find_behind(shard));
                look = found;
            }
        }
        return end_of_chain(shard);
    }

private:
    [[nodiscard]] bool follows(const FrameHeader& header) const noexcept {
        return header.previous_sequence == end_.sequence && header.previous_epoch == end_.epoch &&
               header.previous_crc == end_.crc && header.epoch == core_.table.started_epoch();
    }

    void take(RecoveredShard& shard, const FrameHeader& header, Bytes bytes) {
        shard.committed_through = std::max(shard.committed_through, header.committed_through);
        shard.frames.push_back({header, {bytes.begin(), bytes.end()}});
        end_ = {header.last_sequence(), header.epoch, header.header_crc};
    }

    // Bytes that are no frame may be left from an older use of the place, or be what became of one.
    void note_strange(FrameFault fault, Bytes bytes) {
        if (fault == FrameFault::not_a_frame && !all_zero(bytes)) {
            strange_at_ = end_.sequence;
        }
    }

    // A place in the shard's segment: number of the chunk in its list, and offset.
    struct Place {
        std::size_t chunk = 0;
        std::uint64_t at = 0;
    };

    // Takes what the journal has next.
    bool follow_journal(RecoveredShard& shard, const ScannedShard* journaled) {
        bool taken = false;
        while (journaled != nullptr) {
            const auto next = journaled->frames.upper_bound(end_.sequence);
            if (next == journaled->frames.end() || !follows(next->second.header)) {
                break;
            }
            take_journaled(shard, next->second);
            taken = true;
        }
        return taken;
    }

    void take_journaled(RecoveredShard& shard, const ScannedFrame& frame) {
        take(shard, frame.header, frame.bytes);
        passed_bytes_ += align_up(frame.header.total_bytes(), block_bytes) + block_bytes;
    }

    // Looks for the next frame in the segment behind the places of frames that the journal had.
    Result<bool> find_behind(RecoveredShard& shard) {
        auto& chunks = shard.table->chunks;
        for (std::size_t number = behind_.chunk; number < chunks.size(); ++number) {
            const Chunk& chunk = chunks[number];
            if (chunk.sealed) {
                continue;
            }
            const std::uint64_t begin = align_up(
                number == behind_.chunk ? std::max(behind_.at, chunk.end_offset) : chunk.end_offset,
                block_bytes);
            const std::uint64_t end =
                std::min(begin + passed_bytes_ + block_bytes, core_.chunk_capacity(chunk));
            for (unsigned r = 0; r < replica_count && begin < end; ++r) {
                if ((readable_ >> r & 1) == 0) {
                    continue;
                }
                PENSTOCK_TRY(all,
                             view(r, chunk, begin, end - begin));  // one read for all the looks
                (void)all;
                for (std::uint64_t at = begin; at < end;) {
                    PENSTOCK_TRY(bytes, view(r, chunk, at, sizeof(FrameHeader)));
                    FrameHeader header;
                    const FrameFault fault =
                        check_frame_header(bytes, core_.options.geometry.set_id, header);
                    const bool ours =
                        fault == FrameFault::none && header.shard == value(shard.table->uid);
                    if (may_have_followed(fault, bytes, *shard.table, end_)) {
                        doubt_at_ = end_.sequence;
                    }
                    note_strange(fault, bytes);
                    if (ours && follows(header)) {
                        resume_ = Place{number, at};
                        return true;
                    }
                    // One write carries frames that the journal had, and others behind them.
                    const bool known = ours && header.last_sequence() <= end_.sequence;
                    at = known ? at + header.total_bytes() : align_up(at + 1, block_bytes);
                }
            }
        }
        return false;
    }

    // What stands behind a hole in the segment: the first frame that is whole, and the largest
    // commit point that any of them carries.
    struct Later {
        std::optional<FrameHeader> header;
        Place place;
        std::vector<std::byte> bytes;
        Sequence carried = 0;
        bool any = false;
    };

    // The shard's frames stand in order, but how far a lost one reached is not known. Close behind
    // the hole suffices unless something says that there is more.
    Status look_beyond(const RecoveredShard& shard, bool to_the_end, Later& out) {
        constexpr std::uint64_t piece = 1U << 20;
        const auto& chunks = shard.table->chunks;
        for (std::size_t number = behind_.chunk; number < chunks.size(); ++number) {
            const Chunk& chunk = chunks[number];
            if (chunk.sealed) {
                continue;
            }
            const std::uint64_t capacity = core_.chunk_capacity(chunk);
            const std::uint64_t begin =
                number == behind_.chunk ? std::max(behind_.at, chunk.end_offset) : chunk.end_offset;
            const std::uint64_t end =
                to_the_end ? capacity : std::min(begin + passed_bytes_ + piece, capacity);
            for (unsigned r = 0; r < replica_count; ++r) {
                for (std::uint64_t at = begin; at < end && (readable_ >> r & 1) != 0;) {
                    PENSTOCK_TRY(bytes, view(r, chunk, at, std::min(piece, end - at)));
                    if (bytes.size() < sizeof(FrameHeader)) {
                        break;
                    }
                    PENSTOCK_TRY(passed, look_through(shard, r, Place{number, at}, bytes, out));
                    at += passed;
                }
            }
        }
        return {};
    }

    // Looks for later frames in `bytes`, which stand at `from`, up to the first one or the end.
    // Returns how much of it is done with.
    Result<std::uint64_t> look_through(const RecoveredShard& shard, unsigned replica, Place from,
                                       Bytes bytes, Later& out) {
        std::uint64_t done = 0;
        for (; done + sizeof(FrameHeader) <= bytes.size(); done += frame_alignment) {
            FrameHeader header;
            if (load<std::uint32_t>(bytes.data() + done) != frame_magic ||
                check_frame_header(bytes.subspan(done), core_.options.geometry.set_id, header) !=
                    FrameFault::none ||
                header.shard != value(shard.table->uid) ||
                header.epoch != core_.table.started_epoch()) {
                continue;
            }
            if (header.first_sequence > end_.sequence) {
                const Place place{from.chunk, from.at + done};
                PENSTOCK_TRY_VOID(note_later(shard, replica, place, header, out));
            }
            return done + header.total_bytes();
        }
        // A header may begin in the last bytes.
        return std::max<std::uint64_t>(align_down(done, frame_alignment), frame_alignment);
    }

    Status note_later(const RecoveredShard& shard, unsigned replica, Place place,
                      const FrameHeader& header, Later& out) {
        out.any = true;
        out.carried = std::max(out.carried, header.committed_through);
        if (out.header && out.header->first_sequence <= header.first_sequence) {
            return {};
        }
        PENSTOCK_TRY(
            whole, view(replica, shard.table->chunks[place.chunk], place.at, header.total_bytes()));
        FrameHeader checked;
        if (check_frame(whole, core_.options.geometry.set_id, checked) == FrameFault::none) {
            out.header = checked;
            out.place = place;
            const Bytes frame = whole.subspan(0, sizeof checked + checked.payload_bytes);
            out.bytes.assign(frame.begin(), frame.end());
        }
        return {};
    }

    // Nothing follows. Frames of the shard behind it, in the journal or the segment, may say that
    // records were committed up to or past the hole: those are lost and nothing behind them is cut.
    // Otherwise the log ends here.
    Result<bool> over_hole(RecoveredShard& shard, const ScannedShard* journaled) {
        const ScannedFrame* in_journal = nullptr;
        if (journaled != nullptr) {
            auto it = journaled->frames.upper_bound(end_.sequence);
            in_journal = it == journaled->frames.end() ? nullptr : &it->second;
            for (; it != journaled->frames.end(); ++it) {
                shard.committed_through =
                    std::max(shard.committed_through, it->second.header.committed_through);
            }
        }
        Later in_segment;
        const bool more = shard.committed_through > end_.sequence || doubt_at_ == end_.sequence;
        // A shard with nothing in its segment behind the recorded end is not searched: start-up
        // would take as long as reading a good part of what is stored.
        if (more || looked_ || in_journal != nullptr) {
            PENSTOCK_TRY_VOID(look_beyond(shard, more, in_segment));
        }
        shard.committed_through = std::max(shard.committed_through, in_segment.carried);
        if (in_segment.any && strange_at_ == end_.sequence) {
            doubt_at_ = end_.sequence;
        }
        if (in_segment.header && follows(*in_segment.header)) {
            take_later(shard, in_segment);
            return true;
        }
        if (!pass_holes_) {
            return false;
        }
        if (shard.committed_through <= end_.sequence ||
            (in_journal == nullptr && !in_segment.header)) {
            return false;
        }
        // Records of the hole were committed. An absent replica may hold them.
        if (may_hold_ != 0 && !core_.options.accept_loss) {
            return fail(Errc::wait_for_replica, 0,
                        static_cast<std::uint32_t>(value(shard.table->uid)));
        }
        const bool journal_first =
            in_journal != nullptr && (!in_segment.header || in_journal->header.first_sequence <
                                                                in_segment.header->first_sequence);
        const Sequence from = end_.sequence + 1;
        shard.lost.push_back({from, journal_first ? in_journal->header.first_sequence
                                                  : in_segment.header->first_sequence});
        if (journal_first) {
            take_journaled(shard, *in_journal);
        } else {
            take_later(shard, in_segment);
        }
        return true;
    }

    void take_later(RecoveredShard& shard, const Later& later) {
        take(shard, *later.header, later.bytes);
        behind_ = {later.place.chunk, later.place.at + later.header->total_bytes()};
        resume_ = behind_;
        passed_bytes_ = 0;
    }

    Status end_of_chain(RecoveredShard& shard) {
        if (shard.committed_through > end_.sequence) {
            if (may_hold_ != 0 && !core_.options.accept_loss) {
                return fail(Errc::wait_for_replica, 0,
                            static_cast<std::uint32_t>(value(shard.table->uid)));
            }
            shard.lost.push_back({end_.sequence + 1, shard.committed_through + 1});
        }
        // R8: damaged is not absent. A damaged copy here may be a committed frame's whose other
        // copy is on a voting replica that could not be read. Damage further ahead was the place of
        // a frame that was found elsewhere.
        const bool doubt = doubt_at_ == end_.sequence || !scan_.missing.empty();
        if (doubt && may_hold_ != 0 && !core_.options.accept_loss) {
            return fail(Errc::wait_for_replica, 0,
                        static_cast<std::uint32_t>(value(shard.table->uid)));
        }
        return {};
    }

    // Frames written directly stand behind the recorded end, whole, on a quorum if committed.
    Status follow_segment(RecoveredShard& shard) {
        auto& chunks = shard.table->chunks;
        for (std::size_t number = resume_.chunk; number < chunks.size(); ++number) {
            const Chunk& chunk = chunks[number];
            if (chunk.sealed) {
                continue;
            }
            std::uint64_t at =
                number == resume_.chunk ? std::max(resume_.at, chunk.end_offset) : chunk.end_offset;
            while (at < core_.chunk_capacity(chunk)) {
                const Sequence before = end_.sequence;
                PENSTOCK_TRY(length, take_at(shard, chunk, at));
                if (length != 0) {
                    at += length;
                    if (end_.sequence != before) {
                        behind_ = Place{number, at};
                        passed_bytes_ = 0;
                    }
                    continue;
                }
                // The next write may begin at the next block: each is padded.
                const std::uint64_t aligned = align_up(at, block_bytes);
                if (aligned == at) {
                    break;
                }
                at = aligned;
            }
        }
        return {};
    }

    // Takes the frame at `at` of the chunk if any replica has it intact and it follows. 0: none.
    Result<std::uint64_t> take_at(RecoveredShard& shard, const Chunk& chunk, std::uint64_t at) {
        std::uint64_t known = 0;
        bool damaged = false;
        for (unsigned r = 0; r < replica_count; ++r) {
            // A replica that left lacks part of the chunk; what it has may be the one copy that can
            // be read of a frame that was committed before it left.
            if ((readable_ >> r & 1) == 0) {
                continue;
            }
            PENSTOCK_TRY(bytes, view(r, chunk, at, sizeof(FrameHeader)));
            FrameHeader header;
            FrameFault fault = check_frame_header(bytes, core_.options.geometry.set_id, header);
            if (may_have_followed(fault, bytes, *shard.table, end_)) {
                damaged = true;
                continue;
            }
            note_strange(fault, bytes);
            if (fault != FrameFault::none || header.shard != value(shard.table->uid)) {
                continue;
            }
            if (header.epoch == core_.table.started_epoch() &&
                header.last_sequence() <= end_.sequence) {
                // An earlier, unfinished recovery has moved it already; or it stands on this
                // replica alone, from the place's previous use.
                known = std::max(known, header.total_bytes());
                continue;
            }
            if (!follows(header)) {
                continue;
            }
            PENSTOCK_TRY(whole, view(r, chunk, at, header.total_bytes()));
            fault = check_frame(whole, core_.options.geometry.set_id, header);
            if (fault != FrameFault::none) {
                damaged = true;
                continue;
            }
            take(shard, header, whole.subspan(0, sizeof header + header.payload_bytes));
            looked_ = true;
            return header.total_bytes();
        }
        if (damaged) {
            doubt_at_ = end_.sequence;  // no other replica that was read has it
        }
        return known;
    }

    // `length` bytes of the chunk on a replica, as many as there are.
    Result<Bytes> view(unsigned replica, const Chunk& chunk, std::uint64_t at,
                       std::uint64_t length) {
        if (!core_.ensure_container_file(replica, chunk.run.container)) {
            return Bytes{};
        }
        const std::uint64_t base = core_.container_offset(chunk);
        const std::uint64_t from = align_down(base + at, block_bytes);
        const std::uint64_t skip = base + at - from;
        // Small looks stay small: most shards have nothing behind their end.
        const std::uint64_t want =
            std::min(align_up(skip + length, length > block_bytes ? 1U << 20 : block_bytes),
                     base + core_.chunk_capacity(chunk) - from);
        const FileHandle file = core_.containers[replica][chunk.run.container];
        const bool have = replica == window_replica_ && chunk.run.container == window_container_ &&
                          from >= window_from_ && from + want <= window_from_ + window_have_;
        if (!have) {
            const auto got = run_one(core_.engine, {.kind = IoKind::read,
                                                    .file = file,
                                                    .offset = from,
                                                    .data = window_,
                                                    .length = std::min(want, window_bytes)});
            if (!got) {
                window_replica_ = replica_count;
                return std::unexpected(Error{got.error().code, got.error().os_errno, replica});
            }
            window_replica_ = replica;
            window_container_ = chunk.run.container;
            window_from_ = from;
            window_have_ = *got;
        }
        const std::uint64_t in_window = from - window_from_ + skip;
        if (in_window >= window_have_) {
            return Bytes{};
        }
        return Bytes{window_ + in_window, std::min(length, window_have_ - in_window)};
    }

    GroupCore& core_;
    const JournalScan& scan_;
    ReplicaMask readable_;
    ReplicaMask may_hold_;  // absent replicas that took part in the epoch
    bool pass_holes_;       // false: read-only, the log ends at the first one
    std::byte* window_;
    unsigned window_replica_ = replica_count;
    std::uint32_t window_container_ = 0;
    std::uint64_t window_from_ = 0;
    std::uint64_t window_have_ = 0;
    ChainEnd end_;
    Place resume_;                        // where the segment is followed from
    Place behind_;                        // behind the last frame that was taken from it
    std::uint64_t passed_bytes_ = 0;      // of frames taken from the journal since
    std::optional<Sequence> doubt_at_;    // behind this one a place is damaged
    std::optional<Sequence> strange_at_;  // behind this one a place has bytes of no frame
    bool looked_ = false;                 // something stands in it behind the recorded end
};

// Which shards have, or had, a frame right behind their recorded end on any replica: one small read
// each, many at once, so that start-up does not grow with what is stored. Where nothing was written
// since, replicas have the same bytes there, so a difference is looked into too.
std::vector<bool> probe_ends(GroupCore& core, std::vector<RecoveredShard>& shards,
                             ReplicaMask readable, std::byte* buffer, std::size_t buffer_size) {
    std::vector<bool> found(shards.size(), false);
    std::vector<BatchReader::Read> reads;
    struct What {
        std::size_t shard = 0;
        const Chunk* chunk = nullptr;
        std::uint64_t skip = 0;  // in the block read
        bool whole = true;       // the replica should have what others have
    };
    std::vector<What> what;
    std::map<const Chunk*, std::uint32_t> content;  // CRC of the block on the first replica
    const std::size_t batch = buffer_size / block_bytes;
    const auto flush_batch = [&] {
        BatchReader::run(core.engine, reads);
        for (std::size_t i = 0; i < reads.size(); ++i) {
            const auto& [shard, chunk, skip, whole] = what[i];
            const auto have =
                static_cast<std::uint64_t>(std::max<std::int64_t>(reads[i].result, 0));
            const Bytes bytes{reads[i].data + std::min(skip, have), have - std::min(skip, have)};
            FrameHeader header;
            const FrameFault fault =
                check_frame_header(bytes, core.options.geometry.set_id, header);
            const ShardTable& table = *shards[shard].table;
            const std::uint32_t crc = crc32c(bytes);
            const bool differs = whole && content.emplace(chunk, crc).first->second != crc;
            // A failed read is looked at again, one by one, where its error is told.
            found[shard] = found[shard] || reads[i].result < 0 ||
                           (fault != FrameFault::not_a_frame && fault != FrameFault::truncated) ||
                           may_have_followed(fault, bytes, table, table.end) || differs;
        }
        reads.clear();
        what.clear();
    };
    for (std::size_t i = 0; i < shards.size(); ++i) {
        for (const Chunk& chunk : shards[i].table->chunks) {
            if (chunk.sealed || chunk.end_offset >= core.chunk_capacity(chunk)) {
                continue;
            }
            for (unsigned r = 0; r < replica_count; ++r) {
                if ((readable >> r & 1) == 0 ||
                    !core.ensure_container_file(r, chunk.run.container)) {
                    continue;
                }
                const std::uint64_t at = core.container_offset(chunk) + chunk.end_offset;
                const std::uint64_t from = align_down(at, block_bytes);
                reads.push_back({core.containers[r][chunk.run.container], from, block_bytes,
                                 buffer + reads.size() * block_bytes, -1});
                what.push_back({i, &chunk, at - from, (chunk.missing >> r & 1) == 0});
                if (reads.size() == batch) {
                    flush_batch();
                }
            }
        }
    }
    flush_batch();
    return found;
}

}  // namespace

EpochBegunEntry GroupCore::epoch_begun() const noexcept {
    return {.epoch = value(options.epoch),
            .started_epoch = table.started_epoch(),
            .wall_ms = clock.wall_ms(),
            .taking = replicas.taking,
            // Until this epoch has started, the frames that count are those of the one before.
            .taken_part = table.started_epoch() == value(options.epoch)
                              ? taken_part
                              : static_cast<ReplicaMask>(taken_part | table.taken_part())};
}

Status GroupCore::open_outputs(const StateRead& read, std::uint32_t first_journal_file) {
    journal = std::make_unique<JournalRing>(
        engine, JournalRing::Options{options.group, options.epoch, options.geometry,
                                     first_journal_file, &replicas});
    PENSTOCK_TRY_VOID(journal->allocate_buffers());
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((replicas.taking >> r & 1) != 0) {
            if (const Status opened = journal->open_replica(r); !opened) {
                replica_failed(r, Error{opened.error().code, opened.error().os_errno, r});
                if (!replicas.has_quorum()) {
                    return opened;
                }
            }
        }
    }
    StateLog::Options log;
    log.set_id = options.geometry.set_id;
    log.group = options.group;
    log.epoch = options.epoch;
    log.slot_bytes = options.geometry.manifest_bytes;
    log.replicas = &replicas;
    log.snapshot = [this](StateEntries& out) {
        table.snapshot(epoch_begun(), [&out](Bytes entry) { out.add(entry); });
        snapshot_producers(out);
    };
    log.on_replica_failed = [this](unsigned replica, Error why) { replica_failed(replica, why); };
    PENSTOCK_TRY(opened, StateLog::open(engine, std::move(log), read));
    state = std::move(opened);
    refill_buffer = engine.allocate_buffer(refill_buffer_bytes);
    return refill_buffer == nullptr ? Status(fail(Errc::no_memory_room)) : Status{};
}

// Runs the group's own machinery until `done`; fails when too few replicas are left for it.
Status GroupCore::pump_until(const std::function<bool()>& done) {
    std::array<IoCompletion, 64> completions;
    while (!done()) {
        turn();
        engine.submit();
        std::size_t count = engine.reap(completions);
        if (count == 0) {
            engine.wait(1'000'000);
            count = engine.reap(completions);
        }
        for (std::size_t i = 0; i < count; ++i) {
            complete(completions[i]);
        }
        if (!replicas.has_quorum()) {
            return fail(Errc::not_enough_replicas);
        }
        if ((out_of_room && !reservation.active && !growth.active) || state->out_of_space()) {
            return fail(Errc::no_space);
        }
    }
    return {};
}

// Brings a shard's frames into memory as if they had just been appended, already handed out.
Status GroupCore::adopt(RecoveredShard& recovered) {
    ShardLog& shard = *shards.at(value(recovered.table->uid));
    for (RecoveredShard::Frame& frame : recovered.frames) {
        const auto bytes = static_cast<std::uint32_t>(frame.header.total_bytes());
        FrameBuffer* buffer = shard.buffers_last;
        if (buffer == nullptr || buffer->state != BufferState::open ||
            buffer->used + bytes > buffer->capacity) {
            close_buffer(shard);
            shard.buffer_wish = 256U * 1024;
            while ((buffer = open_buffer(shard, align_up(bytes, block_bytes), false)) == nullptr ||
                   frames.free_count() < 16) {
                if (!replicas.has_quorum()) {
                    return fail(Errc::no_memory_room);
                }
                // Memory is short: what came before goes to its segment first.
                const std::size_t before = pool.used_bytes();
                PENSTOCK_TRY_VOID(pump_until([&] { return pool.used_bytes() < before; }));
            }
        }
        FrameMeta* meta = frames.take();
        PENSTOCK_CHECK(meta != nullptr);
        const std::uint32_t generation = meta->generation + 1;
        *meta = FrameMeta{};
        meta->generation = generation;
        meta->buffer = buffer;
        meta->offset = buffer->used;
        meta->bytes = bytes;
        meta->records = std::max(frame.header.record_count, 1U);
        meta->first_sequence = frame.header.first_sequence;
        meta->opened_ns = now_ns;
        meta->last_arrival_ms = frame.header.last_arrival_ms;
        meta->identity = {frame.header.last_sequence(), frame.header.epoch,
                          frame.header.header_crc};
        meta->submitted = true;
        std::memcpy(buffer->data + buffer->used, frame.bytes.data(), frame.bytes.size());
        std::memset(buffer->data + buffer->used + frame.bytes.size(), 0,
                    bytes - frame.bytes.size());
        buffer->used += bytes;
        shard.pending_bytes += bytes;
        pending_total += bytes;
        unplaced_total += bytes;
        (shard.frames == nullptr ? shard.frames : shard.frames_last->next) = meta;
        shard.frames_last = meta;
        buffer->first = buffer->first == nullptr ? meta : buffer->first;
        buffer->last = meta;
        shard.commit_next = shard.commit_next == nullptr ? meta : shard.commit_next;
        shard.all_next = shard.all_next == nullptr ? meta : shard.all_next;
        shard.chain = meta->identity;
        shard.submitted = meta->last_sequence();
        shard.next_sequence = std::max(shard.next_sequence, shard.submitted + 1);
        shard.last_arrival_ms = std::max(shard.last_arrival_ms, meta->last_arrival_ms);
        note_producers(shard.uid, frame.header, frame.bytes);
        if (replicas.has_quorum() && buffer->used + block_bytes > buffer->capacity) {
            go_direct(shard, true);
        }
        frame.bytes = {};
    }
    if (replicas.has_quorum()) {
        go_direct(shard, true);
    } else {
        close_buffer(shard);
    }
    return {};
}

// Notes where each shard was cut, seals what earlier epochs had open, and starts the epoch.
Status GroupCore::start_epoch() {
    for (ShardLog* shard : shard_order) {
        if (shard->settled_since_point != 0) {
            shard->point_due = true;
        }
    }
    write_points();
    for (auto& [uid, shard] : table.shards()) {
        for (const Chunk& chunk : shard.chunks) {
            if (!chunk.sealed) {
                record(SealChunkEntry{uid, chunk.ordinal});
            }
        }
        record(NextSequenceEntry{
            uid, std::max(shard.end.sequence, shard.next_sequence) + next_sequence_gap});
    }
    bool started = false;
    record(EpochStartedEntry{value(options.epoch)}, [&started] { started = true; });
    // What a slower replica still owes comes back here too: the engine's next user may be another
    // group.
    PENSTOCK_TRY_VOID(pump_until([&] { return started && engine.in_flight() == 0; }));
    for (ShardLog* shard : shard_order) {
        ShardTable& shard_table = *shard->table;
        PENSTOCK_CHECK(shard->buffers == nullptr && shard->commit_next == nullptr);
        shard->next_sequence = shard_table.next_sequence;
        shard->has_chunk = false;
        shard->next_chunk_asked = false;
        shard->next_chunk_ready = false;
        shard->settled_ordinal = shard_table.next_ordinal;
        shard->settled_offset = 0;
        shard->settled_since_point = 0;
        shard->point_due = false;
        shard->buffer_wish = 0;
        shard->bulk = false;
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((replicas.taking >> r & 1) != 0 && !complete_on(r)) {
            joining[r].step = Joining::Step::taking;  // its refill goes on
        }
    }
    return {};
}

// A replica that cannot be read counts as absent while two others are there.
Status GroupCore::recover() {
    ReplicaMask readable = options.voting;
    for (;;) {
        bool reading = true;
        const Status done = recover_from(readable, reading);
        const bool one_less = !done && reading && done.error().code == Errc::io_failed &&
                              __builtin_popcount(readable) > static_cast<int>(quorum_count) &&
                              done.error().detail < replica_count;
        if (!one_less) {
            return done;
        }
        readable = static_cast<ReplicaMask>(readable & ~(1U << done.error().detail));
        table = GroupTable(static_cast<std::uint32_t>(options.geometry.container_bytes /
                                                      options.geometry.chunk_unit_bytes));
    }
}

Status GroupCore::recover_from(ReplicaMask readable, bool& reading) {
    const auto absent = static_cast<ReplicaMask>(all_replicas & ~(readable | options.filling));
    const bool writable = __builtin_popcount(readable) >= static_cast<int>(quorum_count);
    PENSTOCK_TRY(read, read_state_log(engine, options.geometry.set_id, options.group, readable,
                                      absent, options.accept_loss || !writable));
    if (!replay_state(read, [this](bool, Bytes entry) { return table.apply(entry); })) {
        return fail(Errc::corrupt, 0, value(options.group));
    }
    const std::uint64_t counted = table.started_epoch();
    const std::function<bool(std::uint64_t, Sequence)> wanted = [this](std::uint64_t uid,
                                                                       Sequence last) {
        const ShardTable* shard = table.find(static_cast<ShardUid>(uid));
        return shard != nullptr && last > shard->end.sequence;
    };
    PENSTOCK_TRY(scan,
                 scan_journal(engine, options.geometry, options.group, counted, readable, wanted));
    if (!read.found) {
        // A journal or segments without any manifest: metadata is missing, not empty.
        for (unsigned r = 0; r < replica_count; ++r) {
            const bool segments =
                (readable >> r & 1) != 0 &&
                engine.open(r, container_name(value(options.group), 0), OpenMode::read_only)
                    .has_value();
            if (scan.any_block || segments) {
                return fail(Errc::corrupt, 0, value(options.group));
            }
        }
    }

    // -- Each shard's chain ----------------------------------------------------------------------
    const auto may_hold = static_cast<ReplicaMask>(absent & table.taken_part());
    std::vector<RecoveredShard> found;
    for (auto& [uid, shard] : table.shards()) {
        found.push_back({.table = &shard, .frames = {}, .committed_through = 0, .lost = {}});
    }
    // Given back when the chains are followed, unlike the engine's own buffers.
    IoMemory window(ChainFollower::window_bytes, false);
    if (window.data() == nullptr) {
        return fail(Errc::no_memory_room);
    }
    const std::vector<bool> in_segment =
        probe_ends(*this, found, readable, window.data(), ChainFollower::window_bytes);
    ChainFollower follower(*this, scan, readable, writable ? may_hold : ReplicaMask{0}, writable,
                           window.data());
    for (std::size_t i = 0; i < found.size(); ++i) {
        PENSTOCK_TRY_VOID(follower.follow(found[i], in_segment[i]));
    }

    window = IoMemory();

    // -- Outputs of this epoch --------------------------------------------------------------------
    reading = false;
    replicas.counting = readable;
    replicas.taking = writable ? readable : ReplicaMask{0};
    taken_part = static_cast<ReplicaMask>(replicas.taking);
    const std::uint32_t first_file =
        scan.highest_block == 0 ? 0 : (scan.highest_file + 1) % options.geometry.journal_files;
    PENSTOCK_TRY_VOID(open_outputs(read, first_file));
    for (auto& [uid, shard] : table.shards()) {
        add_shard_log(shard);
    }
    restore_producers();
    if (!writable) {
        // Read-only: what is contiguous up to the largest commit point that is known.
        for (RecoveredShard& shard : found) {
            PENSTOCK_TRY_VOID(adopt(shard));
            ShardLog& log = *shards.at(value(shard.table->uid));
            log.committed =
                std::max(log.committed, std::min(shard.committed_through, log.submitted));
        }
        producers.end_restore(steady_ms);
        recovering = false;
        return {};
    }
    state->start_generation();
    PENSTOCK_TRY_VOID(pump_until([this] { return state->idle(); }));
    manifest_written = true;
    for (RecoveredShard& shard : found) {
        for (const LostRange& range : shard.lost) {
            record(LostRangeEntry{value(shard.table->uid), range.from, range.until});
        }
        // The unsealed chunks of earlier epochs get no more writes: fresh ones are taken (R3).
        ShardLog& log = *shards.at(value(shard.table->uid));
        log.settled_ordinal = shard.table->next_ordinal;
        PENSTOCK_TRY_VOID(adopt(shard));
    }
    PENSTOCK_TRY_VOID(pump_until([this] { return pending_total == 0 && state->idle(); }));
    producers.end_restore(steady_ms);
    PENSTOCK_TRY_VOID(start_epoch());
    // The first records need room. Nothing may be in flight behind this: the engine's next user may
    // be another group.
    if (room_units() == 0) {
        reserve_space();
        PENSTOCK_TRY_VOID(pump_until([this] { return engine.in_flight() == 0; }));
    }
    recovering = false;
    return {};
}

}  // namespace penstock
