#include "storage/inspect/chunk_walk.h"

#include <algorithm>

#include "storage/base/counted.h"
#include "storage/segment/reader.h"

namespace penstock {

namespace {

constexpr std::uint64_t piece_bytes = 4U << 20;
constexpr std::uint64_t tail_piece_bytes = 64U << 10;
// The largest frame, wherever in a block it begins, and the block behind it.
constexpr std::uint64_t window_bytes = (16U << 20) + 4 * block_bytes;

bool all_zero(Bytes bytes) noexcept {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

ChunkWalker::ChunkWalker(IoEngine& engine, const SetGeometry& geometry, GroupId group,
                         ReplicaMask readable, SetReport& report)
    : engine_(engine), geometry_(geometry), group_(group), readable_(readable), report_(report) {
    for (auto& window : windows_) {
        window = std::make_unique<FileWindow>(engine, window_bytes);
    }
}

ChunkWalker::~ChunkWalker() = default;

// -- Files and bytes ------------------------------------------------------------------------------

// Opens the chunk's container on each replica that should have a copy.
ReplicaMask ChunkWalker::open_copies(const Chunk& chunk) {
    ReplicaMask open = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((readable_ >> r & 1) == 0 || (chunk.missing >> r & 1) != 0) {
            continue;
        }
        FileWindow& window = *windows_[r];
        if (window.is_open() && window_container_[r] == chunk.run.container) {
            open = static_cast<ReplicaMask>(open | (1U << r));
            continue;
        }
        const Status opened = window.open(r, container_name(value(group_), chunk.run.container));
        if (!opened) {
            if (!unopened_.emplace(r, chunk.run.container).second) {
                continue;
            }
            Difference difference;
            difference.level = DifferenceLevel::damage;
            difference.kind = DifferenceKind::file;
            difference.replica = static_cast<int>(r);
            difference.file = container_name(value(group_), chunk.run.container);
            difference.shard = uid_;
            difference.first = chunk.before_sequence + 1;
            difference.last = chunk.end_sequence;
            difference.what = opened.error().code == Errc::not_found
                                  ? "no such file, and the manifest says that it has a chunk"
                                  : describe(opened.error());
            report_.differences.push_back(std::move(difference));
            continue;
        }
        window_container_[r] = chunk.run.container;
        open = static_cast<ReplicaMask>(open | (1U << r));
    }
    return open;
}

void ChunkWalker::ensure(std::uint64_t at, std::uint64_t need) {
    std::array<FileWindow*, replica_count> open{};
    std::size_t count = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) != 0) {
            open[count++] = windows_[r].get();
        }
    }
    const std::uint64_t from = base_ + at;
    const std::uint64_t until = std::min(from + need, limit_);
    FileWindow::load(engine_, {open.data(), count}, from, until - std::min(from, until),
                     piece_bytes, limit_);
}

// Bytes of the chunk from `at` on, never past its recorded end.
Bytes ChunkWalker::view(unsigned replica, std::uint64_t at) const noexcept {
    const Bytes bytes = windows_[replica]->view(base_ + at);
    return bytes.first(
        std::min<std::uint64_t>(bytes.size(), limit_ - std::min(limit_, base_ + at)));
}

// -- One place ------------------------------------------------------------------------------------

// Reads what each replica has at `at` into copies_.
void ChunkWalker::look(std::uint64_t at) {
    ensure(at, sizeof(FrameHeader));
    std::uint64_t need = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) != 0 &&
            check_frame_header(view(r, at), geometry_.set_id, copies_[r].header) ==
                FrameFault::none) {
            need = std::max(need, copies_[r].header.total_bytes());
        }
    }
    ensure(at, need);
    for (unsigned r = 0; r < replica_count; ++r) {
        Copy& copy = copies_[r];
        if ((copies_mask_ >> r & 1) != 0) {
            copy.fault = check_frame(view(r, at), geometry_.set_id, copy.header);
            const bool legible =
                copy.fault == FrameFault::none || copy.fault == FrameFault::payload_damaged;
            copy.stray = legible && !belongs(copy.header);
        }
    }
}

// Whether a frame may stand here: the shard's, behind what was walked over, inside the chunk.
bool ChunkWalker::belongs(const FrameHeader& header) const noexcept {
    return header.shard == uid_ && header.group == value(group_) &&
           header.previous_sequence >= end_ && header.last_sequence() <= chunk_end_;
}

// The copy that counts: one that follows on exactly before one that leaves a gap.
const ChunkWalker::Copy* ChunkWalker::choose() const noexcept {
    const Copy* found = nullptr;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) == 0 || !copies_[r].good()) {
            continue;
        }
        const FrameHeader& header = copies_[r].header;
        const ChainEnd previous{header.previous_sequence, header.previous_epoch,
                                header.previous_crc};
        if (identity_ ? previous == *identity_ : header.previous_sequence == end_) {
            return &copies_[r];
        }
        found = found == nullptr ? &copies_[r] : found;
    }
    return found;
}

std::string ChunkWalker::describe_copy(unsigned replica, std::uint64_t at) const {
    const Copy& copy = copies_[replica];
    if (copy.stray) {
        return copy.header.shard != uid_
                   ? "a frame of shard " + std::to_string(copy.header.shard) + " stands here"
                   : "a stale frame stands here, records " +
                         std::to_string(copy.header.first_sequence) + ".." +
                         std::to_string(copy.header.last_sequence());
    }
    if (copy.good()) {
        return "another frame than on the other replicas";
    }
    const FileWindow& window = *windows_[replica];
    if (window.error().code != Errc::ok) {
        return describe(window.error());
    }
    if (base_ + at >= window.size_bytes() ||
        (copy.fault == FrameFault::truncated && limit_ > window.size_bytes())) {
        return "the file ends at " + std::to_string(window.size_bytes());
    }
    return describe(copy.fault);
}

void ChunkWalker::take(const Copy& chosen, std::uint64_t at) {
    const FrameHeader header = chosen.header;
    check_chain(header, at);
    ReplicaMask good = 0;
    Bytes payload;
    for (unsigned r = 0; r < replica_count; ++r) {
        // The header's CRC covers the payload's, so equal headers are equal frames.
        if ((copies_mask_ >> r & 1) != 0 && copies_[r].good() &&
            copies_[r].header.header_crc == header.header_crc) {
            good = static_cast<ReplicaMask>(good | (1U << r));
            payload = view(r, at).subspan(sizeof header, header.payload_bytes);
            report_.verified_bytes[r] += header.total_bytes();
        }
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) != 0 && (good >> r & 1) == 0) {
            mark_bad(r, DifferenceKind::frame, at, header.total_bytes(), header.first_sequence,
                     header.last_sequence(), good, describe_copy(r, at));
        }
    }
    if (!records_add_up(header, payload)) {
        mark_bad(static_cast<unsigned>(__builtin_ctz(good)), DifferenceKind::frame, at,
                 header.total_bytes(), header.first_sequence, header.last_sequence(), 0,
                 "checksums hold, but its records do not add up to what the header says");
    }
    ++out_->frames;
    add_range(header.first_sequence, header.first_sequence + header.record_count - 1);
    end_ = header.last_sequence();
    identity_ = ChainEnd{end_, header.epoch, header.header_crc};
}

void ChunkWalker::add_range(Sequence first, Sequence last) {
    if (last < first) {
        return;  // a frame without records
    }
    out_->records += last - first + 1;
    if (!out_->ranges.empty() && out_->ranges.back().last + 1 == first) {
        out_->ranges.back().last = last;
    } else {
        out_->ranges.push_back({first, last});
    }
}

// Compares a frame's predecessor with the one that was walked over.
void ChunkWalker::check_chain(const FrameHeader& header, std::uint64_t at) {
    const ChainEnd previous{header.previous_sequence, header.previous_epoch, header.previous_crc};
    if (header.previous_sequence > end_) {
        lose(end_ + 1, header.previous_sequence, at);
        return;
    }
    std::string what;
    if (identity_ && previous != *identity_) {
        what = "the frame before is not the one that it names: expected epoch " +
               std::to_string(previous.epoch) + " and CRC " + std::to_string(previous.crc) +
               ", found " + std::to_string(identity_->epoch) + " and " +
               std::to_string(identity_->crc);
    } else if (identity_ && identity_->epoch == header.epoch && header.first_sequence != end_ + 1) {
        what = "numbers are skipped within an epoch: expected " + std::to_string(end_ + 1);
    } else if (identity_ && header.epoch < identity_->epoch) {
        what = "epoch " + std::to_string(header.epoch) + " after epoch " +
               std::to_string(identity_->epoch);
    }
    if (!what.empty()) {
        Difference difference;
        difference.level = DifferenceLevel::damage;
        difference.kind = DifferenceKind::chain;
        difference.file = name_;
        difference.offset = base_ + at;
        difference.bytes = header.total_bytes();
        difference.shard = uid_;
        difference.first = header.first_sequence;
        difference.last = header.last_sequence();
        difference.what = std::move(what);
        report_.differences.push_back(std::move(difference));
    }
}

// -- Places without a good frame ------------------------------------------------------------------

// Behind a write zeroes follow up to the next block. The place of the next block if any replica
// shows that, so that the others are damaged here; nothing if a frame should be here.
std::optional<std::uint64_t> ChunkWalker::skip_padding(std::uint64_t at) {
    if (at % block_bytes == 0) {
        return std::nullopt;
    }
    const std::uint64_t next = align_up(at, block_bytes);
    ensure(at, next - at);
    ReplicaMask zero = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        const Bytes bytes = view(r, at);
        if ((copies_mask_ >> r & 1) != 0 && bytes.size() >= next - at &&
            all_zero(bytes.first(next - at))) {
            zero = static_cast<ReplicaMask>(zero | (1U << r));
        }
    }
    if (zero == 0) {
        return std::nullopt;
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) != 0 && (zero >> r & 1) == 0) {
            const bool there = view(r, at).size() >= next - at;
            mark_bad(r, DifferenceKind::padding, at, next - at, 0, 0, zero,
                     there ? "bytes behind a write are not zero" : describe_copy(r, at));
        }
    }
    return next;
}

// No replica has a good frame at `at`: looks for the next one on any of them. Returns its place, or
// the chunk's end. What lies between is bad everywhere; which records that concerns shows when the
// next frame names its predecessor.
std::uint64_t ChunkWalker::resync(std::uint64_t at) {
    const std::uint64_t end = limit_ - base_;
    std::uint64_t next = end;
    std::array<std::string, replica_count> what;
    std::uint64_t step = frame_alignment;
    Sequence first = 0;
    Sequence last = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) == 0) {
            continue;
        }
        what[r] = describe_copy(r, at);
        const Copy& copy = copies_[r];
        if (copy.fault == FrameFault::payload_damaged && !copy.stray) {
            // Its header is sound and says which records are gone and where the next frame is.
            step = std::max(step, copy.header.total_bytes());
            first = copy.header.first_sequence;
            last = copy.header.last_sequence();
        }
    }
    for (std::uint64_t place = at + step; place < end; place += frame_alignment) {
        ensure(place, sizeof(FrameHeader));
        const bool magic = [&] {
            for (unsigned r = 0; r < replica_count; ++r) {
                const Bytes bytes = view(r, place);
                if ((copies_mask_ >> r & 1) != 0 && bytes.size() >= sizeof(FrameHeader) &&
                    load<std::uint32_t>(bytes.data()) == frame_magic) {
                    return true;
                }
            }
            return false;
        }();
        if (!magic) {
            continue;
        }
        look(place);
        if (choose() != nullptr) {
            next = place;
            break;
        }
    }
    // Of records that the manifest says are lost there is nothing to mend.
    const Copy* chosen = next == end ? nullptr : choose();
    const Sequence until = chosen == nullptr ? chunk_end_ : chosen->header.previous_sequence;
    for (unsigned r = 0; r < replica_count && !is_known_lost(end_ + 1, until); ++r) {
        if ((copies_mask_ >> r & 1) != 0) {
            mark_bad(r, DifferenceKind::frame, at, next - at, first, last, 0, std::move(what[r]));
        }
    }
    return next;
}

// -- Differences ----------------------------------------------------------------------------------

void ChunkWalker::mark_bad(unsigned replica, DifferenceKind kind, std::uint64_t at,
                           std::uint64_t bytes, Sequence first, Sequence last, ReplicaMask good,
                           std::string what) {
    BadRun& run = bad_[replica];
    const bool joins = run.open && run.kind == kind && run.good == good && run.what == what &&
                       at >= run.until && at - run.until < block_bytes;
    if (!joins) {
        flush_bad(replica);
        run = BadRun{true, kind, at, at, first, last, 0, good, std::move(what)};
    }
    run.until = at + bytes;
    run.last = std::max(run.last, last);
    ++run.frames;
}

void ChunkWalker::flush_bad(unsigned replica) {
    BadRun& run = bad_[replica];
    if (!run.open) {
        return;
    }
    Difference difference;
    difference.level = DifferenceLevel::damage;
    difference.kind = run.kind;
    difference.replica = static_cast<int>(replica);
    difference.file = name_;
    difference.offset = base_ + run.from;
    difference.bytes = run.until - run.from;
    difference.shard = uid_;
    difference.first = run.first;
    difference.last = run.last;
    difference.good = run.good;
    difference.what = run.what;
    if (run.frames > 1) {
        difference.what += " (" + counted(run.frames, "frame") + ")";
    }
    report_.differences.push_back(std::move(difference));
    run = BadRun{};
}

// Ranges that were lost one after the other may lie side by side.
bool ChunkWalker::is_known_lost(Sequence first, Sequence last) const noexcept {
    for (bool moved = true; moved && first <= last;) {
        const auto range = std::ranges::find_if(out_->lost, [first](const SequenceRange& r) {
            return r.first <= first && first <= r.last;
        });
        moved = range != out_->lost.end();
        first = moved ? range->last + 1 : first;
    }
    return first > last;
}

// Records without a good copy, unless the manifest says already that they are lost.
void ChunkWalker::lose(Sequence first, Sequence last, std::uint64_t at) {
    const bool known = is_known_lost(first, last);
    Difference difference;
    difference.level = known ? DifferenceLevel::note : DifferenceLevel::lost;
    difference.kind = DifferenceKind::records;
    difference.file = name_;
    difference.offset = base_ + at;
    difference.shard = uid_;
    difference.first = first;
    difference.last = last;
    difference.what =
        known ? "lost, as the manifest says" : "no good copy on " + replica_names(copies_mask_);
    report_.differences.push_back(std::move(difference));
}

// -- Chunks ---------------------------------------------------------------------------------------

void ChunkWalker::walk_chunk(const ShardTable& shard, const Chunk& chunk) {
    name_ = container_name(value(group_), chunk.run.container);
    base_ = std::uint64_t{chunk.run.unit} * geometry_.chunk_unit_bytes;
    limit_ = base_ + chunk.end_offset;
    chunk_end_ = chunk.end_sequence;
    for (unsigned r = 0; r < replica_count; ++r) {
        lagging_chunks_[r] += (chunk.missing & readable_) >> r & 1;
    }
    if (chunk.end_offset == 0) {
        return;  // nothing of it counts yet
    }
    copies_mask_ = open_copies(chunk);
    if (chunk.before_sequence != end_) {
        Difference difference;
        difference.level = DifferenceLevel::damage;
        difference.kind = DifferenceKind::manifest;
        difference.shard = value(shard.uid);
        difference.first = chunk.before_sequence + 1;
        difference.last = chunk.end_sequence;
        difference.what = "the chunk before ends at record " + std::to_string(end_);
        report_.differences.push_back(std::move(difference));
    }
    std::uint64_t at = 0;
    while (copies_mask_ != 0 && at < chunk.end_offset) {
        look(at);
        if (const Copy* chosen = choose(); chosen != nullptr) {
            const std::uint64_t length = chosen->header.total_bytes();
            take(*chosen, at);
            at += length;
            continue;
        }
        const auto behind_padding = skip_padding(at);
        at = behind_padding ? *behind_padding : resync(at);
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        flush_bad(r);
    }
    if (end_ < chunk.end_sequence) {
        lose(end_ + 1, chunk.end_sequence, chunk.end_offset);
        end_ = chunk.end_sequence;
        identity_.reset();
    }
    ++report_.chunks;
}

void ChunkWalker::walk(const ShardTable& shard, ShardReport& out) {
    out_ = &out;
    uid_ = value(shard.uid);
    lagging_chunks_ = {};
    out.chunks = shard.chunks.size();
    for (const LostRange& range : shard.lost) {
        out.lost.push_back({range.from, range.until - 1});
    }
    identity_.reset();
    end_ = shard.chunks.empty() ? shard.end.sequence : shard.chunks.front().before_sequence;
    if (end_ == 0) {
        identity_ = ChainEnd{};  // the shard's very first frame follows nothing
    }
    for (const Chunk& chunk : shard.chunks) {
        walk_chunk(shard, chunk);
    }
    finish_shard(shard);
    report_.frames += out.frames;
}

void ChunkWalker::finish_shard(const ShardTable& shard) {
    Difference difference;
    difference.shard = uid_;
    if (end_ != shard.end.sequence || (identity_ && end_ != 0 && *identity_ != shard.end)) {
        difference.level = DifferenceLevel::damage;
        difference.kind = DifferenceKind::chain;
        difference.first = end_;
        difference.last = shard.end.sequence;
        difference.what = "the manifest ends at record " + std::to_string(shard.end.sequence) +
                          " of another frame than the chunks do, which end at " +
                          std::to_string(end_);
        report_.differences.push_back(difference);
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if (lagging_chunks_[r] != 0) {
            difference = Difference{};
            difference.kind = DifferenceKind::lagging;
            difference.replica = static_cast<int>(r);
            difference.shard = uid_;
            difference.what = "lacks " + counted(lagging_chunks_[r], "chunk") +
                              ", which the running node refills";
            report_.differences.push_back(difference);
        }
    }
}

// -- Behind the ends ------------------------------------------------------------------------------

void ChunkWalker::collect_tail(const ShardTable& shard, std::uint64_t epoch, PendingFrames& into) {
    uid_ = value(shard.uid);
    for (const Chunk& chunk : shard.chunks) {
        if (chunk.sealed) {
            continue;
        }
        copies_mask_ = open_copies(chunk);
        base_ = std::uint64_t{chunk.run.unit} * geometry_.chunk_unit_bytes;
        limit_ = base_ + std::uint64_t{chunk.run.units} * geometry_.chunk_unit_bytes;
        for (std::uint64_t at = chunk.end_offset; base_ + at < limit_;) {
            const std::uint64_t length = take_tail(at, epoch, shard.end.sequence, into);
            const std::uint64_t padded = align_up(at, block_bytes);
            if (length == 0 && padded == at) {
                break;
            }
            at = length != 0 ? at + length : padded;
        }
    }
}

// The frame of `epoch` at `at` of the open chunk, wherever it is intact. Returns its length, 0 if
// no replica has one. A replica may have a hole before it: unflushed writes are lost one by one.
std::uint64_t ChunkWalker::take_tail(std::uint64_t at, std::uint64_t epoch, Sequence behind,
                                     PendingFrames& into) {
    std::uint64_t length = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((copies_mask_ >> r & 1) == 0) {
            continue;
        }
        FileWindow& window = *windows_[r];
        FrameHeader header;
        FrameFault fault = check_frame_header(
            window.load(base_ + at, sizeof header, tail_piece_bytes), geometry_.set_id, header);
        if (fault == FrameFault::none) {
            fault = check_frame(window.load(base_ + at, header.total_bytes(), piece_bytes),
                                geometry_.set_id, header);
        }
        if (fault != FrameFault::none || header.shard != uid_ || header.epoch != epoch) {
            continue;
        }
        length = std::max(length, header.total_bytes());
        if (header.last_sequence() <= behind) {
            continue;
        }
        PendingFrame& frame = into[header.first_sequence];
        if (frame.copies == 0) {
            frame.header = header;
            ++report_.tail_frames;
        }
        if (frame.header.header_crc == header.header_crc) {
            frame.copies = static_cast<ReplicaMask>(frame.copies | (1U << r));
        }
    }
    return length;
}

}  // namespace penstock
