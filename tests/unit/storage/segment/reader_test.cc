// The segment reader on containers made by hand: order, reading ahead, what is left to the next
// plan, copies that are bad or away.
#include "storage/segment/reader.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/base/crc32c.h"
#include "storage/format/frame.h"
#include "storage/io/sim_random.h"
#include "storage/segment/read_ahead.h"

namespace penstock {
namespace {

constexpr std::uint64_t set_id = 77;
constexpr std::uint64_t shard = 5;
constexpr std::uint32_t group = 1;

std::vector<std::byte> data_of(Sequence sequence, std::size_t bytes) {
    SimRandom random(sequence);
    std::vector<std::byte> data(align_up(bytes, 8));
    for (std::size_t at = 0; at < data.size(); at += 8) {
        store(data.data() + at, random.next());
    }
    data.resize(bytes);
    return data;
}

// One shard's frames in one container, as writes lay them there.
class Container {
public:
    // A frame of `count` records behind the last one; `padded` ends the write.
    void add(std::size_t count, std::size_t record_size, bool padded) {
        std::vector<std::byte> frame(sizeof(FrameHeader));
        FrameHeader header;
        header.first_sequence = next_;
        for (std::size_t i = 0; i < count; ++i, ++next_) {
            const std::vector<std::byte> data = data_of(next_, record_size);
            const RecordIn record{as_bytes("key"), data, nullptr, nullptr};
            const std::size_t at = frame.size();
            frame.resize(at + record_bytes(record));
            (void)encode_record(record, 0, frame.data() + at);
        }
        header.payload_bytes = static_cast<std::uint32_t>(frame.size() - sizeof(FrameHeader));
        header.record_count = static_cast<std::uint32_t>(count);
        header.payload_crc = crc32c(Bytes(frame).subspan(sizeof(FrameHeader)));
        header.shard = shard;
        header.epoch = 1;
        header.group = group;
        header.set_id = set_id;
        header.previous_sequence = header.first_sequence - 1;
        header.first_arrival_ms = header.last_arrival_ms = 1000;
        seal_header(header, frame.data());
        frame.resize(header.total_bytes());
        frames.push_back(bytes.size());
        bytes.insert(bytes.end(), frame.begin(), frame.end());
        if (padded) {
            bytes.resize(align_up(bytes.size(), block_bytes));
        }
    }
    // Several of different sizes, alone and together in a write.
    void fill(std::size_t up_to, std::uint64_t seed) {
        SimRandom random(seed);
        while (bytes.size() < up_to) {
            add(1 + random.below(400), 500 + random.below(1000), random.below(3) != 0);
        }
        bytes.resize(align_up(bytes.size(), block_bytes));
    }
    [[nodiscard]] Sequence end() const { return next_; }

    std::vector<std::byte> bytes;
    std::vector<std::uint64_t> frames;  // where they begin

private:
    Sequence next_ = 1;
};

// Containers in memory. What is started is read when it is finished, as late as a drive may.
class MemoryFiles final : public ContainerFiles {
public:
    Result<std::size_t> read(unsigned replica, std::uint32_t, std::uint32_t container,
                             std::uint64_t offset, MutableBytes into) override {
        ++reads[replica];
        if (away[replica]) {
            return fail(Errc::io_failed, 5, replica);
        }
        const std::vector<std::byte>& from = files[replica].at(container);
        const std::size_t have = offset < from.size() ? from.size() - offset : 0;
        const std::size_t count = std::min(have, into.size());
        std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(offset), count, into.begin());
        bytes_read += count;
        return count;
    }
    void start(unsigned number, const ContainerRead& what) override {
        EXPECT_FALSE(started_.contains(number)) << "a number is used twice";
        EXPECT_EQ(what.offset % block_bytes, 0U);
        EXPECT_EQ(what.into.size() % block_bytes, 0U);
        started_[number] = what;
        most_started = std::max(most_started, started_.size());
    }
    Result<std::size_t> finish(unsigned number) override {
        const ContainerRead what = started_.at(number);
        started_.erase(number);
        return read(what.replica, what.group, what.container, what.offset, what.into);
    }
    bool ready(unsigned) override { return random_.below(2) == 0; }
    void set(std::uint32_t container, const std::vector<std::byte>& bytes) {
        for (auto& replica : files) {
            replica[container] = bytes;
        }
    }
    [[nodiscard]] std::size_t started() const { return started_.size(); }

    std::array<std::map<std::uint32_t, std::vector<std::byte>>, replica_count> files;
    std::array<bool, replica_count> away{};
    std::array<unsigned, replica_count> reads{};
    std::uint64_t bytes_read = 0;
    std::size_t most_started = 0;

private:
    std::map<unsigned, ContainerRead> started_;
    SimRandom random_{1};
};

ReadPlan plan_of(Sequence first, Sequence end, std::uint32_t container, std::uint64_t from,
                 std::uint64_t length, Sequence before) {
    ReadPlan plan;
    plan.first_sequence = first;
    plan.end_sequence = end;
    plan.group = group;
    plan.shard = shard;
    plan.extent_count = 1;
    plan.extents[0] = {container, all_replicas, from, length, before};
    return plan;
}

class SegmentReading : public testing::Test {
protected:
    // Reads a plan; every record has to be the next one and have its data.
    Status read(const ReadPlan& plan, std::size_t record_limit = SIZE_MAX) {
        std::size_t taken = 0;
        return reader.read(
            plan,
            [&](const RecordView& record) {
                if (taken == record_limit) {
                    return false;
                }
                ++taken;
                EXPECT_EQ(record.sequence, next);
                const auto expected = data_of(record.sequence, record.data.size());
                EXPECT_TRUE(std::ranges::equal(record.data, expected)) << record.sequence;
                next = record.sequence + 1;
                return !HasFailure();
            },
            out);
    }

    MemoryFiles files;
    SegmentReader reader{files, set_id};
    ReadOutcome out;
    Sequence next = 1;
};

TEST_F(SegmentReading, RecordsOfManyRingsComeInOrder) {
    Container made;
    made.fill(4 * ReadAhead::ring_bytes, 1);
    files.set(0, made.bytes);
    ASSERT_TRUE(read(plan_of(1, made.end(), 0, 0, made.bytes.size(), 0)));
    EXPECT_EQ(next, made.end());
    EXPECT_EQ(out.bad_copies, 0U);
    EXPECT_EQ(files.bytes_read, made.bytes.size()) << "each byte is read once";
    EXPECT_GE(files.most_started, ReadAhead::under_way_max);
}

TEST_F(SegmentReading, SeveralExtentsAreReadAheadAcrossTheirEnds) {
    Container made;
    made.fill(3U << 20, 2);
    const std::uint64_t cut = made.bytes.size();
    const Sequence middle = made.end();
    made.fill(6U << 20, 3);
    files.set(0, {made.bytes.begin(), made.bytes.begin() + static_cast<std::ptrdiff_t>(cut)});
    std::vector<std::byte> moved(1U << 20);
    moved.insert(moved.end(), made.bytes.begin() + static_cast<std::ptrdiff_t>(cut),
                 made.bytes.end());
    files.set(7, moved);
    ReadPlan plan = plan_of(1, made.end(), 0, 0, cut, 0);
    plan.extents[plan.extent_count++] = {7, all_replicas, 1U << 20, moved.size() - (1U << 20),
                                         middle - 1};
    ASSERT_TRUE(read(plan));
    EXPECT_EQ(next, made.end());
    EXPECT_EQ(files.bytes_read, made.bytes.size());
}

TEST_F(SegmentReading, AFrameLargerThanTheRingIsReadApart) {
    Container made;
    made.add(3, 1000, true);
    made.add(10, 1U << 20, true);
    made.add(3, 1000, true);
    ASSERT_GT(made.frames[2] - made.frames[1], ReadAhead::ring_bytes);
    files.set(0, made.bytes);
    ASSERT_TRUE(read(plan_of(1, made.end(), 0, 0, made.bytes.size(), 0)));
    EXPECT_EQ(next, made.end());
}

TEST_F(SegmentReading, AFrameThatEndsBehindThePlanIsLeftToTheNextOne) {
    Container made;
    made.fill(6U << 20, 4);
    files.set(0, made.bytes);
    // Plans of a MiB from index points, which do not know where frames end.
    const std::uint64_t length = 1U << 20;
    std::uint64_t covered = 0;
    while (next < made.end()) {
        std::size_t index = 0;
        while (index + 1 < made.frames.size() && made.frames[index + 1] <= covered) {
            ++index;
        }
        while (made.frames[index] % block_bytes != 0) {
            --index;
        }
        const std::uint64_t from = made.frames[index];
        Sequence before = 0;
        FrameHeader header;
        ASSERT_EQ(check_frame_header(Bytes(made.bytes).subspan(from), set_id, header),
                  FrameFault::none);
        before = header.previous_sequence;
        const Sequence at = next;
        ASSERT_TRUE(read(
            plan_of(next, made.end(), 0, from,
                    std::min<std::uint64_t>(from + length + (256U << 10), made.bytes.size()) - from,
                    before)));
        ASSERT_GT(next, at);
        EXPECT_EQ(out.next_sequence, next);
        while (index + 1 < made.frames.size()) {
            ASSERT_EQ(check_frame_header(Bytes(made.bytes).subspan(made.frames[index + 1]), set_id,
                                         header),
                      FrameFault::none);
            if (header.first_sequence >= next) {
                break;
            }
            ++index;
        }
        covered = made.frames[index];
    }
    // What an earlier plan had read is not read again, up to a piece for each.
    EXPECT_LT(files.bytes_read, made.bytes.size() + 8 * ReadAhead::piece_bytes);
}

TEST_F(SegmentReading, AFrameThatEndsBehindThePlanIsReadIfItIsTheFirst) {
    Container made;
    made.add(900, 1000, true);
    files.set(0, made.bytes);
    ASSERT_TRUE(read(plan_of(1, made.end(), 0, 0, block_bytes, 0)));
    EXPECT_EQ(next, made.end());
}

TEST_F(SegmentReading, GoesOnWithinTheFrameWhereTheReaderHadEnough) {
    Container made;
    made.add(300, 1000, true);
    made.add(300, 1000, true);
    files.set(0, made.bytes);
    const ReadPlan plan = plan_of(1, made.end(), 0, 0, made.bytes.size(), 0);
    ASSERT_TRUE(read(plan, 350));
    EXPECT_EQ(next, 351U);
    ReadPlan second = plan;
    second.first_sequence = out.next_sequence;
    ASSERT_TRUE(read(second));
    EXPECT_EQ(next, made.end());
    EXPECT_EQ(files.bytes_read, made.bytes.size()) << "what was read is kept";
}

TEST_F(SegmentReading, APlaceUsedAgainSinceIsFoundAnewFromTheIndexPoint) {
    Container made;
    made.add(200, 1000, true);
    made.add(200, 1000, true);
    files.set(0, made.bytes);
    ASSERT_TRUE(read(plan_of(1, made.end(), 0, 0, made.bytes.size(), 0), 300));
    // The same records, laid out otherwise: a frame's header stands no longer where it stood.
    Container again;
    again.add(150, 1000, true);
    again.add(150, 1000, true);
    again.add(100, 1000, true);
    ASSERT_EQ(again.end(), made.end());
    again.bytes.resize(made.bytes.size());
    files.set(0, again.bytes);
    ASSERT_TRUE(read(plan_of(301, made.end(), 0, 0, made.bytes.size(), 0)));
    EXPECT_EQ(next, made.end());
}

TEST_F(SegmentReading, ABadCopyIsTakenFromAnotherReplica) {
    Container made;
    made.fill(8U << 20, 5);
    files.set(0, made.bytes);
    files.files[0][0][made.frames[10] + sizeof(FrameHeader) + 99] ^= std::byte{1};
    ASSERT_TRUE(read(plan_of(1, made.end(), 0, 0, made.bytes.size(), 0)));
    EXPECT_EQ(next, made.end());
    EXPECT_EQ(out.bad_copies, 1U);
}

TEST_F(SegmentReading, NoGoodCopyIsLostAndWhatWasReadBeforeIsGivenFirst) {
    Container made;
    made.fill(2U << 20, 6);
    files.set(0, made.bytes);
    for (auto& replica : files.files) {
        replica[0][made.frames[2] + sizeof(FrameHeader) + 99] ^= std::byte{1};
    }
    const ReadPlan plan = plan_of(1, made.end(), 0, 0, made.bytes.size(), 0);
    ASSERT_TRUE(read(plan));
    EXPECT_GT(out.records, 0U);
    ReadPlan second = plan;
    second.first_sequence = next;
    const Status lost = read(second);
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, Errc::lost);
    EXPECT_EQ(out.next_sequence, next);
}

TEST_F(SegmentReading, AReplicaThatIsAwayIsNotAskedForEveryFrame) {
    Container made;
    made.fill(8U << 20, 7);
    files.set(0, made.bytes);
    files.away[0] = true;
    ASSERT_TRUE(read(plan_of(1, made.end(), 0, 0, made.bytes.size(), 0)));
    EXPECT_EQ(next, made.end());
    EXPECT_LE(files.reads[0], 2 * ReadAhead::pieces_max);
    EXPECT_LT(files.bytes_read, made.bytes.size() + ReadAhead::piece_bytes);
}

TEST_F(SegmentReading, WhatIsUnderWayIsWaitedForAtTheEnd) {
    Container made;
    made.fill(8U << 20, 8);
    files.set(0, made.bytes);
    {
        SegmentReader other(files, set_id);
        ReadOutcome outcome;
        ASSERT_TRUE(other.read(
            plan_of(1, made.end(), 0, 0, made.bytes.size(), 0),
            [](const RecordView&) { return false; }, outcome));
        EXPECT_NE(files.started(), 0U);
    }
    EXPECT_EQ(files.started(), 0U);
}

// The same through the kernel, with a file that ends within a piece and is then replaced.
TEST(DirectoryReading, ReadsAheadOfARealFileAndNoticesItsReplacement) {
    const char* base = std::getenv("TMPDIR");
    std::string path = std::string(base != nullptr ? base : "/tmp") + "/penstock-reader-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    Container made;
    made.fill(3 * ReadAhead::ring_bytes, 9);
    const auto write = [&](const std::string& name) {
        std::ofstream file(path + "/" + name, std::ios::binary);
        file.write(reinterpret_cast<const char*>(made.bytes.data()),
                   static_cast<std::streamsize>(made.bytes.size()));
    };
    write(container_name(group, 0));
    const auto files = open_container_files({path, path + "/none", path + "/none"});
    SegmentReader reader(*files, set_id);
    for (int round = 0; round < 3; ++round) {
        Sequence next = 1;
        ReadOutcome out;
        const Status done = reader.read(
            plan_of(1, made.end(), 0, 0, made.bytes.size(), 0),
            [&](const RecordView& record) {
                EXPECT_EQ(record.sequence, next);
                EXPECT_TRUE(
                    std::ranges::equal(record.data, data_of(record.sequence, record.data.size())));
                next = record.sequence + 1;
                return !testing::Test::HasFailure();
            },
            out);
        EXPECT_TRUE(done);
        EXPECT_EQ(next, made.end());
        EXPECT_EQ(out.bad_copies, 0U);
        write("other");
        std::filesystem::rename(path + "/other", path + "/" + container_name(group, 0));
    }
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
}

// Behind a lost range frames begin again anywhere; the index leads there.
TEST_F(SegmentReading, APlanMayBeginInTheMiddleOfABlock) {
    Container made;
    for (int i = 0; i < 12; ++i) {
        made.add(2, 300, false);
    }
    made.bytes.resize(align_up(made.bytes.size(), block_bytes));
    std::vector<std::byte> damaged = made.bytes;
    std::fill_n(damaged.begin() + static_cast<std::ptrdiff_t>(made.frames[6]), 200, std::byte{1});
    files.set(0, damaged);
    ASSERT_NE(made.frames[7] % block_bytes, 0U);
    const std::uint64_t from = align_down(made.frames[7], block_bytes);
    ReadPlan plan = plan_of(15, made.end(), 0, from, made.bytes.size() - from, 14);
    plan.extents[0].skip = static_cast<std::uint32_t>(made.frames[7] - from);
    next = 15;
    ASSERT_TRUE(read(plan));
    EXPECT_EQ(next, made.end());
}

TEST_F(SegmentReading, WhatIsKnownToBeLostIsSaidToBe) {
    ReadPlan plan;
    plan.first_sequence = 13;
    plan.lost_until = 15;
    plan.end_sequence = 30;
    const Status got = read(plan);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Errc::lost);
    EXPECT_EQ(out.next_sequence, 13U);
}

// A recovery put what it found behind a hole into the same write as what stood before it.
TEST_F(SegmentReading, AHoleBeforeWhatIsAskedForIsPassedOver) {
    Container made;
    for (int i = 0; i < 8; ++i) {
        made.add(2, 300, false);
    }
    std::vector<std::byte> holed;
    for (int i = 0; i < 8; ++i) {
        if (i != 3) {
            const auto at = made.frames[i];
            const auto end = i == 7 ? made.bytes.size() : made.frames[i + 1];
            holed.insert(holed.end(), made.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                         made.bytes.begin() + static_cast<std::ptrdiff_t>(end));
        }
    }
    holed.resize(align_up(holed.size(), block_bytes));
    files.set(0, holed);
    next = 9;
    ASSERT_TRUE(read(plan_of(9, made.end(), 0, 0, holed.size(), 0)));
    EXPECT_EQ(next, made.end());
    // Who asks for what is missing gets what stands before it, and no further.
    next = 5;
    (void)read(plan_of(5, made.end(), 0, 0, holed.size(), 0));
    EXPECT_EQ(next, 7U);
}

}  // namespace
}  // namespace penstock
