#include "storage/segment/reader.h"

#include <algorithm>
#include <array>

#include "storage/format/frame.h"
#include "storage/segment/read_ahead.h"

namespace penstock {

struct SegmentReader::Core {
    // Where a shard's next record stands, known from the plan that was read before. Plans begin at
    // an index point, which may be a MiB earlier.
    struct Resume {
        std::uint64_t shard = 0;
        Sequence sequence = 0;  // of the record
        std::uint32_t group = 0;
        std::uint32_t container = 0;
        std::uint64_t offset = 0;  // of its frame in the container
        Sequence expected = 0;     // one more than the last sequence of the frame before
    };
    // As many readers of different shards may take turns before one begins at its index point.
    static constexpr std::size_t resumes_max = 32;

    // What one reader of a long history has read ahead between its plans.
    struct Stream {
        std::unique_ptr<ReadAhead> ahead;
        std::uint64_t used = 0;  // the plan that used it last; 0: nobody has it
    };
    // So many readers of long histories may take turns and each keep what was read for it; with
    // more than that none does.
    static constexpr unsigned streams_max = 12;
    static_assert((streams_max + 1) * ReadAhead::pieces_max <= ContainerFiles::reads_max);

    Core(ContainerFiles& files, std::uint64_t id) : short_plans(files, 0), set_id(id) {
        for (unsigned i = 0; i < streams_max; ++i) {
            streams[i].ahead = std::make_unique<ReadAhead>(files, (i + 1) * ReadAhead::pieces_max);
        }
    }
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    ReadAhead short_plans;  // that end where the shard ends
    std::array<Stream, streams_max> streams;
    std::uint64_t plans = 0;
    ReadAhead* ahead = nullptr;  // of the plan that is being read
    std::uint64_t set_id;
    // Of the plan that is being read.
    Sequence follows_on = 0;     // one more than the last sequence handed out, 0 for none yet
    unsigned first_replica = 0;  // gave the frame before: asked first
    bool leaves_last = false;    // a frame that ends behind the last extent is not wanted

    std::array<Resume, resumes_max> resumes{};
    std::size_t next_resume = 0;

    [[nodiscard]] const Resume* resume_of(const ReadPlan& plan) const {
        if (plan.extent_count == 0) {
            return nullptr;
        }
        const ReadExtent& extent = plan.extents[0];
        for (const Resume& one : resumes) {
            if (one.shard == plan.shard && one.sequence == plan.first_sequence &&
                one.group == plan.group && one.container == extent.container &&
                one.offset > extent.offset && one.offset < extent.offset + extent.length) {
                return &one;
            }
        }
        return nullptr;
    }

    // Chooses where the plan is read to. Returns a stream whose reader comes to the end of its
    // shard with this plan, and gives its memory back.
    Stream* choose_stream(const ReadPlan& plan) {
        ++plans;
        const bool is_long = plan.ahead_count != 0;
        if (const Resume* place = resume_of(plan)) {
            for (Stream& one : streams) {
                if (one.used != 0 && one.ahead->has(plan.group, place->container, place->offset)) {
                    one.used = plans;
                    ahead = one.ahead.get();
                    ahead->follow(plan, true);
                    return is_long ? nullptr : &one;
                }
            }
        }
        // Who comes the first time may come no second time: nothing is read beyond the plan.
        Stream* const oldest = std::ranges::min_element(streams, {}, &Stream::used);
        ahead = is_long ? oldest->ahead.get() : &short_plans;
        oldest->used = is_long ? plans : oldest->used;
        ahead->follow(plan, false);
        return nullptr;
    }

    void remember(const Resume& resume) {
        // A reader's place before is of no use to it any more.
        for (Resume& one : resumes) {
            if (one.shard == resume.shard && one.container == resume.container &&
                one.sequence == resume.sequence) {
                one = resume;
                return;
            }
        }
        resumes[next_resume] = resume;
        next_resume = (next_resume + 1) % resumes_max;
    }

    // `beyond`: it ends behind what the plan covers, and there were records before it.
    enum class Found : std::uint8_t { frame, padding, stale, bad, beyond };

    // How bytes are looked at: where the reader is, in bytes read ahead; there, read anew; or at
    // another replica than the one that is read ahead.
    enum class Look : std::uint8_t { ahead, again, aside };

    Result<Bytes> look_at(Look look, std::uint32_t number, unsigned replica, std::uint64_t at,
                          std::uint64_t length) {
        return look == Look::aside ? ahead->view_aside(replica, number, at, length)
                                   : ahead->view(replica, number, at, length);
    }

    // The frame at `at` of an extent on one replica.
    Found frame_on(const ReadPlan& plan, std::uint32_t number, unsigned replica, std::uint64_t at,
                   Sequence expected, Look look, FrameHeader& header, Bytes& payload) {
        const ReadExtent& extent = plan.extents[number];
        if (look == Look::again) {
            ahead->forget();
        }
        auto head = look_at(look, number, replica, at, sizeof(FrameHeader));
        if (!head) {
            return Found::bad;
        }
        FrameFault fault = check_frame_header(*head, set_id, header);
        if (fault == FrameFault::not_a_frame && (extent.offset + at) % block_bytes != 0) {
            return Found::padding;
        }
        if (fault != FrameFault::none) {
            return Found::bad;
        }
        // A plan begins at a frame whose predecessor was not asked for; from there the chain is
        // followed. What is missing in it before what is asked for is none of the plan's matter: a
        // lost range may lie there.
        const bool is_before =
            header.previous_sequence < std::max<Sequence>(plan.first_sequence, 1);
        const bool follows = expected == 0
                                 ? header.previous_sequence >= extent.before_sequence && is_before
                                 : header.previous_sequence + 1 == expected ||
                                       (header.previous_sequence >= expected && is_before);
        if (header.shard != plan.shard || !follows) {
            return Found::stale;
        }
        const std::uint64_t length = sizeof(FrameHeader) + header.payload_bytes;
        if (leaves_last && at + length > extent.length) {
            return Found::beyond;
        }
        auto whole = look_at(look, number, replica, at, length);
        if (!whole) {
            return Found::bad;
        }
        fault = check_frame(*whole, set_id, header);
        if (fault != FrameFault::none) {
            return Found::bad;
        }
        payload = whole->subspan(sizeof(FrameHeader), header.payload_bytes);
        return Found::frame;
    }

    // The same on the first replica that has it; with `take_padding` also where one says padding.
    Found frame_at(const ReadPlan& plan, std::uint32_t number, std::uint64_t at, Sequence expected,
                   bool take_padding, FrameHeader& header, Bytes& payload, bool& stale,
                   std::uint32_t& bad_copies) {
        bool padding = false;
        for (unsigned i = 0; i < replica_count; ++i) {
            const unsigned r = (first_replica + i) % replica_count;
            if ((plan.extents[number].replicas >> r & 1) == 0) {
                continue;
            }
            const Look look = r == first_replica ? Look::ahead : Look::aside;
            Found found = frame_on(plan, number, r, at, expected, look, header, payload);
            if (look == Look::ahead && (found == Found::stale || found == Found::bad)) {
                // It may have been read before the frame was written whole.
                found = frame_on(plan, number, r, at, expected, Look::again, header, payload);
            }
            if (found == Found::frame || found == Found::beyond ||
                (found == Found::padding && take_padding)) {
                // What is read ahead is this replica's.
                first_replica = r;
                return found;
            }
            padding = padding || found == Found::padding;
            stale = stale || found == Found::stale;
            bad_copies += found == Found::bad ? 1U : 0U;
        }
        return padding ? Found::padding : Found::bad;
    }

    [[nodiscard]] Result<bool> read_extents(const ReadPlan& plan,
                                            const std::function<bool(const RecordView&)>& take,
                                            ReadOutcome& out);
    [[nodiscard]] Result<bool> read_extent(const ReadPlan& plan, std::uint32_t number,
                                           const std::function<bool(const RecordView&)>& take,
                                           ReadOutcome& out);

    // Whether the records behind the extent follow the ones that were handed out, so that what is
    // left of the extent is padding.
    [[nodiscard]] bool ends_here(const ReadPlan& plan, std::uint32_t number) const noexcept {
        if (number + 1 < plan.extent_count + plan.ahead_count) {
            return plan.extents[number + 1].before_sequence + 1 == follows_on;
        }
        if (plan.frame_count != 0) {
            return load<FrameHeader>(plan.frames[0].data).previous_sequence + 1 == follows_on;
        }
        return plan.end_sequence == follows_on;
    }

    // The place that a plan from out.next_sequence on may begin at.
    void remember(const ReadPlan& plan, const ReadOutcome& out, std::uint32_t number,
                  std::uint64_t at, Sequence before) {
        const ReadExtent& extent = plan.extents[number];
        remember({plan.shard, out.next_sequence, plan.group, extent.container, extent.offset + at,
                  before + 1});
    }
};

SegmentReader::SegmentReader(ContainerFiles& files, std::uint64_t set_id)
    : core_(std::make_unique<Core>(files, set_id)) {}
SegmentReader::~SegmentReader() = default;

namespace {

// Hands the wanted records of a verified frame to `take`. False: enough.
bool hand_out(const ReadPlan& plan, const FrameHeader& header, Bytes payload,
              const std::function<bool(const RecordView&)>& take, ReadOutcome& out) {
    RecordWalker walker(header, payload);
    RecordView record;
    while (walker.next(record)) {
        if (record.sequence < out.next_sequence) {
            continue;
        }
        if (record.sequence >= plan.end_sequence) {
            return false;
        }
        out.next_sequence = record.sequence;
        if (record.arrival_ms < plan.timestamp_ms) {
            out.next_sequence = record.sequence + 1;
            continue;
        }
        if (!take(record)) {
            return false;
        }
        out.next_sequence = record.sequence + 1;
        ++out.records;
        out.bytes += record.data.size() + record.partition_key.size();
    }
    return true;
}

}  // namespace

Result<bool> SegmentReader::Core::read_extents(const ReadPlan& plan,
                                               const std::function<bool(const RecordView&)>& take,
                                               ReadOutcome& out) {
    for (std::uint32_t i = 0; i < plan.extent_count; ++i) {
        PENSTOCK_TRY(more, read_extent(plan, i, take, out));
        if (!more) {
            return false;
        }
    }
    return true;
}

// Hands out what an extent has. False: nothing more is to be read for this plan.
Result<bool> SegmentReader::Core::read_extent(const ReadPlan& plan, std::uint32_t number,
                                              const std::function<bool(const RecordView&)>& take,
                                              ReadOutcome& out) {
    const ReadExtent& extent = plan.extents[number];
    constexpr std::uint64_t no_place = UINT64_MAX;
    std::uint64_t at = extent.skip;
    std::uint64_t padding_from = no_place;  // skipped on one replica's word, not proved yet
    const Resume* resume = number == 0 ? resume_of(plan) : nullptr;
    if (resume != nullptr) {
        at = resume->offset - extent.offset;
        follows_on = resume->expected;
    }
    while (at < extent.length) {
        FrameHeader header;
        Bytes payload;
        bool stale = false;
        leaves_last = number + 1 == plan.extent_count && out.records != 0;
        Found found = frame_at(plan, number, at, follows_on, padding_from == no_place, header,
                               payload, stale, out.bad_copies);
        if (found == Found::padding) {
            const std::uint64_t next = align_up(extent.offset + at, block_bytes) - extent.offset;
            if (next < extent.length) {
                padding_from = at;
                at = next;
                continue;
            }
            if (ends_here(plan, number)) {
                break;
            }
            if (leaves_last) {
                remember(plan, out, number, at, follows_on - 1);
                return false;
            }
            // Nothing behind it can prove it: the other replicas are asked.
            found = frame_at(plan, number, at, follows_on, false, header, payload, stale,
                             out.bad_copies);
            if (found != Found::frame) {
                break;
            }
        }
        if (found == Found::beyond) {
            remember(plan, out, number, at, header.previous_sequence);
            return false;
        }
        if (found != Found::frame && padding_from != no_place) {
            // What looked like padding on one replica may be a frame that it does not have.
            found = frame_at(plan, number, padding_from, follows_on, false, header, payload, stale,
                             out.bad_copies);
            at = found == Found::frame ? padding_from : at;
        }
        padding_from = no_place;
        if (found != Found::frame && resume != nullptr) {
            // What stood there has moved or was freed since: the plan's own way to it.
            resume = nullptr;
            at = extent.skip;
            follows_on = 0;
            out.bad_copies = 0;
            continue;
        }
        if (found != Found::frame) {
            if (out.records != 0) {
                return false;  // what is in hand first; the next call begins here and says what
                               // it is
            }
            out.stale = stale;
            return stale ? Result<bool>(false) : fail(Errc::lost, 0, plan.group);
        }
        resume = nullptr;
        follows_on = header.last_sequence() + 1;
        if (!hand_out(plan, header, payload, take, out)) {
            remember(plan, out, number, at, header.previous_sequence);
            return false;
        }
        at += header.total_bytes();
    }
    if (follows_on != 0) {
        remember(plan, out, number, at, follows_on - 1);
    }
    return true;
}

Status SegmentReader::read(const ReadPlan& plan, const std::function<bool(const RecordView&)>& take,
                           ReadOutcome& out) {
    out = ReadOutcome{};
    out.next_sequence = plan.first_sequence;
    core_->follows_on = 0;
    core_->first_replica = 0;
    if (plan.lost_until > plan.first_sequence) {
        return fail(Errc::lost, 0, plan.group);
    }
    if (plan.extent_count != 0) {
        Core::Stream* const ends = core_->choose_stream(plan);
        const auto more = core_->read_extents(plan, take, out);
        if (ends != nullptr) {
            ends->ahead->release();
            ends->used = 0;
        }
        if (!more || !*more) {
            return more ? Status{} : std::unexpected(more.error());
        }
    }
    for (std::uint32_t i = 0; i < plan.frame_count; ++i) {
        const Bytes frame{plan.frames[i].data, plan.frames[i].length};
        FrameHeader header;
        if (check_frame(frame, core_->set_id, header) != FrameFault::none ||
            header.shard != plan.shard) {
            return fail(Errc::corrupt, 0,
                        plan.group);  // memory was damaged: nothing unverified goes out
        }
        if (!hand_out(plan, header, frame.subspan(sizeof header, header.payload_bytes), take,
                      out)) {
            return {};
        }
    }
    return {};
}

}  // namespace penstock
