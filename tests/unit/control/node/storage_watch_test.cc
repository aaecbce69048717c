// What an operator is told of the drives, and when.
#include "control/node/storage_watch.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr std::uint64_t gib = 1U << 30;

class Watching : public ::testing::Test {
protected:
    [[nodiscard]] std::array<DriveRoom, replica_count> rooms(std::uint64_t free_gib,
                                                             bool one_drive = false) const {
        std::array<DriveRoom, replica_count> out;
        for (unsigned r = 0; r < replica_count; ++r) {
            out[r] = {true, one_drive ? 7U : r, free_gib * gib, 100 * gib};
        }
        return out;
    }
    [[nodiscard]] bool said(const std::string& text) const {
        return !lines.empty() && lines.back().find(text) != std::string::npos;
    }

    std::vector<std::string> lines;
    unsigned urgent = 0;
    StorageWatch watch{{.say =
                            [this](bool is_urgent, const std::string& line) {
                                urgent += is_urgent ? 1 : 0;
                                lines.push_back(line);
                            },
                        .directories = {"/a", "/b", "/c"},
                        .name_of = [](ShardUid) { return std::string("s shardId-000000000000"); }}};
};

TEST_F(Watching, ADriveThatFillsUpIsToldOncePerLevel) {
    watch.look_at_room(1000, rooms(50), 0, false);
    EXPECT_TRUE(lines.empty());
    watch.look_at_room(2000, rooms(14), 0, false);
    EXPECT_EQ(lines.size(), 3U);
    EXPECT_TRUE(said("replica 2 (/c): its drive is 86 % full, 14 GiB left"));
    EXPECT_TRUE(said("shorten retention"));
    for (std::uint64_t at = 3000; at < 9000; at += 1000) {
        watch.look_at_room(at, rooms(at % 2000 == 0 ? 14 : 16), 0, false);  // up and down
    }
    EXPECT_EQ(lines.size(), 3U);
    watch.look_at_room(9000, rooms(4), 0, false);
    EXPECT_EQ(lines.size(), 6U);
    EXPECT_EQ(urgent, 6U);
    watch.look_at_room(10'000, rooms(60), 0, false);
    EXPECT_EQ(lines.size(), 9U);
    EXPECT_EQ(urgent, 6U);
    EXPECT_TRUE(said("has room again"));
}

TEST_F(Watching, SpaceThatRetentionFreedIsNoFullDrive) {
    watch.look_at_room(1000, rooms(1), 40 * gib, false);
    EXPECT_TRUE(lines.empty());
    // Three replicas on one drive: the line is told once, and each has its own segment files.
    watch.look_at_room(2000, rooms(1, true), 8 * gib, false);
    EXPECT_TRUE(lines.empty());
    watch.look_at_room(3000, rooms(1, true), 2 * gib, false);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_TRUE(said("replica 0 (/a): its drive is 93 % full, 7.0 GiB left"));
}

TEST_F(Watching, HowLongTheRoomIsEnoughIsToldOnceItIsKnown) {
    watch.look_at_room(1000, rooms(30), 0, false);
    watch.look_at_room(61'000, rooms(24), 0, false);  // 6 GiB a minute
    watch.look_at_room(62'000, rooms(12), 0, false);
    EXPECT_TRUE(said("enough for 2 min at the rate of the last minute")) << lines.back();
}

TEST_F(Watching, RefusedWritesAreToldWhenTheyBeginAndEnd) {
    watch.look_at_room(1000, rooms(50), 0, true);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_TRUE(said("writes are refused"));
    watch.look_at_room(2000, rooms(50), 0, true);
    EXPECT_EQ(lines.size(), 1U);
    watch.look_at_room(3000, rooms(50), 0, false);
    EXPECT_TRUE(said("writes are taken"));
}

TEST_F(Watching, ARefillHasItsPercentRateAndTimeLeft) {
    watch.look_at_refill(1000, 1, true, 100 << 20);
    EXPECT_EQ(watch.refill(1).total_bytes, 100U << 20);
    for (unsigned second = 1; second <= 20; ++second) {
        watch.look_at_refill(1000 + second * 1000, 1, true, (100 - 2 * second) << 20);
    }
    const RefillProgress& progress = watch.refill(1);
    EXPECT_EQ(progress.left_bytes, 60U << 20);
    EXPECT_DOUBLE_EQ(progress.share_done(), 0.4);
    EXPECT_NEAR(progress.bytes_per_s, 2 << 20, 1000);
    EXPECT_NEAR(progress.seconds_left, 30, 0.1);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_TRUE(
        said("replica 1 (/b): 30 % of what it lacked is copied, 70 MiB of 100 MiB are "
             "left, 2.0 MiB/s, about 35 s to go"))
        << lines.back();
    EXPECT_EQ(watch.refilled(51'000, 1), "100 MiB in 50 s");
    watch.look_at_refill(52'000, 1, false, 0);
    EXPECT_EQ(watch.refill(1).total_bytes, 0U);
    EXPECT_EQ(watch.refilled(53'000, 1), "");
}

TEST_F(Watching, WhatScrubbingMendsIsToldInMeasureAndWhatIsLostAlways) {
    std::vector<ScrubEvent> events(40);
    for (ScrubEvent& event : events) {
        event = {.replica = 1,
                 .source = 2,
                 .group = GroupId{1},
                 .shard = ShardUid{5},
                 .from = 7,
                 .until = 10,
                 .container = 3,
                 .offset = 4096,
                 .bytes = 512};
    }
    watch.tell(100'000, events);
    EXPECT_EQ(lines.size(), 10U);
    EXPECT_TRUE(
        said("replica 1 (/b) had a damaged copy (segment-1-3 at byte 4096, 512 bytes, "
             "records 7 to 9 of s shardId-000000000000); it was written again from "
             "replica 2"))
        << lines.back();
    for (ScrubEvent& event : events) {
        event.kind = ScrubEvent::Kind::lost;
    }
    watch.tell(101'000, events);
    EXPECT_EQ(lines.size(), 50U);
    EXPECT_TRUE(said("LOST: no replica has a good copy of records 7 to 9 of"));
    watch.tell(170'000, {});
    EXPECT_TRUE(said("30 more places"));
}

}  // namespace
}  // namespace penstock
