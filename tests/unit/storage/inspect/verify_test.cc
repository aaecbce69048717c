#include <filesystem>

#include "tests/unit/storage/inspect/small_set.h"

namespace penstock {
namespace {

using Level = DifferenceLevel;
using Kind = DifferenceKind;

class InspectVerify : public SmallSet {
protected:
    // Two epochs in segments, several chunks a shard.
    void make_drained() {
        live(40, 9'000, true);
        live(40, 3'000, true);
    }
    // An epoch in segments, then one whose records are in the journal only.
    void make_journaled() {
        live(20, 9'000, true);
        live(12, 700, false);
    }
};

TEST_F(InspectVerify, HealthySetHasNoDifferences) {
    make_drained();
    const SetReport report = verify();
    EXPECT_TRUE(report.differences.empty()) << lines(report);
    EXPECT_EQ(report.shards.size(), shard_count);
    EXPECT_EQ(report.records, shard_count * 80);
    EXPECT_GT(report.chunks, shard_count);
    EXPECT_GT(report.verified_bytes[0], shard_count * 40 * 12'000U);
    EXPECT_EQ(report.verified_bytes[0], report.verified_bytes[1]);
    EXPECT_EQ(report.verified_bytes[0], report.verified_bytes[2]);
    expect_all_there(report);
}

TEST_F(InspectVerify, RecordsInTheJournalAreCountedAndShown) {
    make_journaled();
    const SetReport report = verify();
    EXPECT_TRUE(report.sound()) << lines(report);
    EXPECT_GT(report.pending_frames, 0U);
    EXPECT_EQ(report.records, shard_count * 32);
    expect_all_there(report);
}

TEST_F(InspectVerify, ReadingWritesNothing) {
    make_journaled();
    std::map<std::string, std::pair<std::filesystem::file_time_type, std::vector<char>>> before;
    const auto all = [&](const auto& take) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(base_)) {
            if (entry.is_regular_file()) {
                take(entry.path().string(), entry.last_write_time());
            }
        }
    };
    all([&](const std::string& path, auto time) { before[path] = {time, bytes_of(path)}; });
    verify();
    std::size_t count = 0;
    all([&](const std::string& path, auto time) {
        ++count;
        ASSERT_TRUE(before.contains(path)) << path;
        EXPECT_EQ(before[path].first, time) << path;
        EXPECT_EQ(before[path].second, bytes_of(path)) << path;
    });
    EXPECT_EQ(count, before.size());
}

TEST_F(InspectVerify, BitInAFramesPayloadOnOneReplicaIsRepairable) {
    make_drained();
    const auto frames = frames_in("segment-1-0", 2);
    ASSERT_GT(frames.size(), 5U);
    const auto& [at, header] = frames[3];
    flip(1, "segment-1-0", at + 200);
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 1U) << lines(report);
    const Difference& found = report.differences[0];
    EXPECT_EQ(found.level, Level::damage);
    EXPECT_EQ(found.kind, Kind::frame);
    EXPECT_EQ(found.replica, 1);
    EXPECT_EQ(found.file, "segment-1-0");
    EXPECT_EQ(found.offset, at);
    EXPECT_EQ(found.bytes, header.total_bytes());
    EXPECT_EQ(found.shard, 2U);
    EXPECT_EQ(found.first, header.first_sequence);
    EXPECT_EQ(found.last, header.last_sequence());
    EXPECT_EQ(found.good, 0b101);
    EXPECT_EQ(found.what, "payload damaged");
    expect_all_there(report);
}

TEST_F(InspectVerify, EachByteOfAFrameHeaderIsWatched) {
    make_drained();
    const auto frames = frames_in("segment-1-0", 1);
    ASSERT_GT(frames.size(), 5U);
    const std::uint64_t at = frames[4].first;
    for (std::uint64_t byte = 0; byte < sizeof(FrameHeader); byte += 3) {
        flip(2, "segment-1-0", at + byte);
        const SetReport report = verify();
        ASSERT_EQ(report.differences.size(), 1U) << "byte " << byte << "\n" << lines(report);
        EXPECT_EQ(report.differences[0].replica, 2);
        EXPECT_EQ(report.differences[0].offset, at);
        EXPECT_EQ(report.differences[0].good, 0b011);
        flip(2, "segment-1-0", at + byte);
    }
    EXPECT_TRUE(verify().differences.empty());
}

TEST_F(InspectVerify, DamageOnTwoReplicasIsTwoRepairableDifferences) {
    make_drained();
    const auto frames = frames_in("segment-1-0", 2);
    ASSERT_GT(frames.size(), 5U);
    flip(0, "segment-1-0", frames[3].first + 200);
    flip(2, "segment-1-0", frames[3].first + 4);
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 2U) << lines(report);
    for (const Difference& found : report.differences) {
        EXPECT_EQ(found.level, Level::damage);
        EXPECT_EQ(found.good, 0b010);
    }
    expect_all_there(report);
}

TEST_F(InspectVerify, DamageOnAllReplicasIsLostWithItsRecords) {
    make_drained();
    const auto frames = frames_in("segment-1-0", 2);
    ASSERT_GT(frames.size(), 5U);
    const auto& [at, header] = frames[3];
    for (const std::uint64_t byte : {0U, 4U, 60U, 300U}) {
        for (unsigned r = 0; r < replica_count; ++r) {
            flip(r, "segment-1-0", at + byte);
        }
        const SetReport report = verify();
        const auto lost = of_kind(report, Kind::records);
        ASSERT_EQ(lost.size(), 1U) << lines(report);
        EXPECT_EQ(lost[0].level, Level::lost);
        EXPECT_EQ(lost[0].shard, 2U);
        EXPECT_EQ(lost[0].first, header.first_sequence);
        EXPECT_EQ(lost[0].last, header.last_sequence());
        EXPECT_EQ(report.count(Level::lost), 1U);
        EXPECT_EQ(report.count(Level::damage), 3U) << lines(report);
        EXPECT_EQ(report.records, shard_count * 80 - header.record_count);
        for (unsigned r = 0; r < replica_count; ++r) {
            flip(r, "segment-1-0", at + byte);
        }
    }
}

TEST_F(InspectVerify, LastFrameBeforeTheEndLostOnAllIsSeen) {
    make_drained();
    FrameHeader last;
    std::uint64_t at = 0;
    for (const auto& [offset, header] : frames_in("segment-1-0", 3)) {
        if (header.first_sequence > last.first_sequence) {
            last = header;
            at = offset;
        }
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        flip(r, "segment-1-0", at);
    }
    const SetReport report = verify();
    const auto lost = of_kind(report, Kind::records);
    ASSERT_EQ(lost.size(), 1U) << lines(report);
    EXPECT_EQ(lost[0].last, last.last_sequence());
    EXPECT_EQ(lost[0].shard, 3U);
}

TEST_F(InspectVerify, PaddingThatIsNotZeroIsReported) {
    make_drained();
    const auto frames = frames_in("segment-1-0", 1);
    std::uint64_t end = 0;
    for (std::size_t i = 0; i + 1 < frames.size() && end % block_bytes == 0; ++i) {
        const std::uint64_t behind = frames[i].first + frames[i].second.total_bytes();
        end = frames[i + 1].first > behind ? behind : 0;  // not where the next frame begins
    }
    ASSERT_NE(end % block_bytes, 0U);
    flip(1, "segment-1-0", end + 16);
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 1U) << lines(report);
    EXPECT_EQ(report.differences[0].kind, Kind::padding);
    EXPECT_EQ(report.differences[0].replica, 1);
    EXPECT_EQ(report.differences[0].offset, end);
    expect_all_there(report);
}

TEST_F(InspectVerify, TruncatedSegmentIsDamageWhereItEnds) {
    make_drained();
    const auto frames = frames_in("segment-1-0", 1);
    std::filesystem::resize_file(file(2, "segment-1-0"), frames[6].first + 64);
    const SetReport report = verify();
    EXPECT_EQ(report.count(Level::lost), 0U) << lines(report);
    ASSERT_GE(report.count(Level::damage), 1U);
    for (const Difference& found : report.differences) {
        EXPECT_EQ(found.replica, 2);
        EXPECT_NE(found.what.find("the file ends at"), std::string::npos) << found.what;
    }
    expect_all_there(report);
}

TEST_F(InspectVerify, MissingSegmentIsOneDifference) {
    make_drained();
    std::filesystem::remove(file(0, "segment-1-0"));
    const SetReport report = verify();
    ASSERT_EQ(of_kind(report, Kind::file).size(), 1U) << lines(report);
    EXPECT_EQ(of_kind(report, Kind::file)[0].replica, 0);
    EXPECT_EQ(report.count(Level::lost), 0U);
    EXPECT_EQ(report.verified_bytes[0], 0U);
    expect_all_there(report);
}

TEST_F(InspectVerify, SwappedFramesAreSeenThoughTheirChecksumsHold) {
    make_drained();
    // A misdirected write: shard 2's frame stands in shard 1's place on one replica.
    const auto here = frames_in("segment-1-0", 1);
    const auto there = frames_in("segment-1-0", 2);
    const std::vector<char> bytes = bytes_of(file(0, "segment-1-0"));
    std::fstream stream(file(1, "segment-1-0"), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(here[3].first));
    stream.write(bytes.data() + there[3].first,
                 static_cast<std::streamsize>(there[3].second.total_bytes()));
    stream.close();
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 1U) << lines(report);
    EXPECT_EQ(report.differences[0].what, "a frame of shard 2 stands here");
    EXPECT_EQ(report.differences[0].replica, 1);
}

TEST_F(InspectVerify, StaleCopyOfAReplicaIsDamage) {
    live(20, 9'000, true);
    copy(paths_[2], base_ + "/old");
    live(20, 9'000, true);
    std::filesystem::remove_all(paths_[2]);
    std::filesystem::rename(base_ + "/old", paths_[2]);
    const SetReport report = verify();
    EXPECT_FALSE(report.sound());
    EXPECT_EQ(report.count(Level::lost), 0U) << lines(report);
    EXPECT_FALSE(of_kind(report, Kind::frame).empty()) << lines(report);
    for (const Difference& found : report.differences) {
        EXPECT_EQ(found.replica, 2) << describe(found);
    }
    expect_all_there(report);
}

TEST_F(InspectVerify, AbsentReplicaIsADifferenceAndTheOthersAreVerified) {
    make_drained();
    std::filesystem::remove_all(paths_[1]);
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 1U) << lines(report);
    EXPECT_EQ(report.differences[0].kind, Kind::place);
    EXPECT_EQ(report.differences[0].replica, 1);
    EXPECT_EQ(report.verified_bytes[1], 0U);
    expect_all_there(report);
}

TEST_F(InspectVerify, BitInASuperblockSlotIsDamage) {
    make_drained();
    flip(1, "superblock", 4096 + 30);
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 1U) << lines(report);
    EXPECT_EQ(report.differences[0].kind, Kind::superblock);
    EXPECT_EQ(report.differences[0].replica, 1);
    EXPECT_EQ(report.differences[0].offset, 4096U);
}

class InspectStateLog : public InspectVerify {
protected:
    // The slot of the newest generation, as the first replica has it.
    std::string newest(unsigned group) {
        std::uint64_t best = 0;
        std::string name;
        for (unsigned slot = 0; slot < 2; ++slot) {
            const std::string candidate = state_name(static_cast<GroupId>(group), slot);
            const auto bytes = bytes_of(file(0, candidate));
            StateBlockHeader header;
            if (check_block({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()},
                            geometry_.set_id, group, header) == BlockFault::none &&
                header.generation > best) {
                best = header.generation;
                name = candidate;
            }
        }
        return name;
    }
};

TEST_F(InspectStateLog, BitInABlockOnOneReplicaIsRepairable) {
    make_drained();
    for (const unsigned group : {0U, 1U}) {
        for (const std::uint64_t at : {20U, 70U, 4096U + 5U, 4096U + 70U}) {
            flip(1, newest(group), at);
            const SetReport report = verify();
            ASSERT_EQ(report.differences.size(), 1U) << lines(report);
            const Difference& found = report.differences[0];
            EXPECT_EQ(found.kind, Kind::state_log);
            EXPECT_EQ(found.level, Level::damage);
            EXPECT_EQ(found.replica, 1);
            EXPECT_EQ(found.offset, at / 4096 * 4096);
            EXPECT_EQ(found.good, 0b101);
            expect_all_there(report);
            flip(1, newest(group), at);
        }
    }
}

TEST_F(InspectStateLog, FirstBlockDamagedEverywhereIsLost) {
    make_drained();
    const std::string name = newest(1);
    for (unsigned r = 0; r < replica_count; ++r) {
        flip(r, name, 100);
    }
    const SetReport report = verify();
    EXPECT_GE(report.count(Level::lost), 1U) << lines(report);
    EXPECT_FALSE(of_kind(report, Kind::state_log).empty());
}

TEST_F(InspectStateLog, MissingSlotIsDamage) {
    make_drained();
    std::filesystem::remove(file(2, newest(0)));
    const SetReport report = verify();
    ASSERT_EQ(report.differences.size(), 1U) << lines(report);
    EXPECT_EQ(report.differences[0].level, Level::damage);
    EXPECT_EQ(report.differences[0].replica, 2);
    EXPECT_EQ(report.differences[0].kind, Kind::state_log);
}

TEST_F(InspectStateLog, MissingEverywhereIsLost) {
    make_drained();
    for (unsigned r = 0; r < replica_count; ++r) {
        std::filesystem::remove(file(r, state_name(GroupId{1}, 0)));
        std::filesystem::remove(file(r, state_name(GroupId{1}, 1)));
    }
    const SetReport report = verify();
    EXPECT_EQ(report.count(Level::lost), 1U) << lines(report);
}

class InspectJournal : public InspectVerify {
protected:
    // A file and the place of a frame in it that is in no segment.
    void find_pending(std::string& name, std::uint64_t& at, FrameHeader& header) {
        for (const std::string candidate : {"journal-1-0", "journal-1-1", "journal-1-2"}) {
            for (const auto& [offset, found] : frames_in(candidate, 2)) {
                if (found.epoch == 2 && found.first_sequence == written_[2][25]) {
                    name = candidate;
                    at = offset;
                    header = found;
                    return;
                }
            }
        }
    }
};

TEST_F(InspectJournal, BitInABlockOnOneReplicaIsRepairable) {
    make_journaled();
    std::string name;
    std::uint64_t at = 0;
    FrameHeader header;
    find_pending(name, at, header);
    ASSERT_FALSE(name.empty());
    for (const std::uint64_t place :
         {at + 150, at + 20, at / 4096 * 4096 + 9, at / 4096 * 4096 + 4}) {
        flip(0, name, place);
        const SetReport report = verify();
        ASSERT_EQ(of_kind(report, Kind::journal).size(), 1U) << lines(report);
        const Difference found = of_kind(report, Kind::journal)[0];
        EXPECT_EQ(found.level, Level::damage);
        EXPECT_EQ(found.replica, 0);
        EXPECT_EQ(found.file, name);
        EXPECT_EQ(found.offset, at / 4096 * 4096);
        EXPECT_EQ(found.good, 0b110);
        EXPECT_EQ(report.count(Level::lost), 0U);
        expect_all_there(report);
        flip(0, name, place);
    }
}

TEST_F(InspectJournal, CommittedFrameDamagedEverywhereIsLost) {
    make_journaled();
    std::string name;
    std::uint64_t at = 0;
    FrameHeader header;
    find_pending(name, at, header);
    ASSERT_FALSE(name.empty());
    for (unsigned r = 0; r < replica_count; ++r) {
        flip(r, name, at + 150);
    }
    const SetReport report = verify();
    const auto lost = of_kind(report, Kind::records);
    ASSERT_EQ(lost.size(), 1U) << lines(report);
    EXPECT_EQ(lost[0].level, Level::lost);
    EXPECT_EQ(lost[0].shard, 2U);
    EXPECT_EQ(lost[0].first, header.first_sequence);
    EXPECT_EQ(lost[0].last, header.last_sequence());
    EXPECT_EQ(report.records, shard_count * 32 - header.record_count);
}

TEST_F(InspectJournal, LastFrameDamagedEverywhereMayBeLost) {
    make_journaled();
    std::string name;
    std::uint64_t at = 0;
    FrameHeader last;
    for (const std::string candidate : {"journal-1-0", "journal-1-1", "journal-1-2"}) {
        for (const auto& [offset, found] : frames_in(candidate, 3)) {
            if (found.epoch == 2 && found.first_sequence > last.first_sequence) {
                name = candidate;
                at = offset;
                last = found;
            }
        }
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        flip(r, name, at + 150);
    }
    const SetReport report = verify();
    const auto lost = of_kind(report, Kind::records);
    ASSERT_EQ(lost.size(), 1U) << lines(report);
    EXPECT_EQ(lost[0].first, last.first_sequence);
}

TEST_F(InspectJournal, MissingFileIsDamage) {
    make_journaled();
    std::string name;
    std::uint64_t at = 0;
    FrameHeader header;
    find_pending(name, at, header);
    std::filesystem::remove(file(1, name));
    const SetReport report = verify();
    EXPECT_FALSE(report.sound());
    EXPECT_EQ(report.count(Level::lost), 0U) << lines(report);
    expect_all_there(report);
}

}  // namespace
}  // namespace penstock
