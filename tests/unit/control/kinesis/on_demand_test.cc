// When shards of ON_DEMAND streams are split and merged: loads and a clock go in, wishes come out.
#include "control/kinesis/stream/on_demand.h"

#include <gtest/gtest.h>

#include "control/kinesis/stream/reshard.h"

namespace penstock::kinesis {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

class OnDemand : public ::testing::Test {
protected:
    OnDemand() { make(4); }

    void make(std::uint32_t count) {
        stream.name = "s";
        stream.status = StreamStatus::active;
        stream.mode = StreamMode::on_demand;
        stream.shards.clear();
        stream.next_shard_number = 0;
        for (const HashRange& range : tile_hash_space(count)) {
            Shard shard;
            shard.number = stream.next_shard_number++;
            shard.uid = static_cast<ShardUid>(next_uid++);
            shard.group = GroupId{1};
            shard.range = range;
            stream.shards.push_back(shard);
        }
    }
    void look() {
        std::vector<ShardLoad> loads;
        for (const auto& [uid, load] : totals) {
            loads.push_back(load);
        }
        StreamTable table;
        table.emplace("s", *StreamView::make(stream, {{GroupId{1}, 0}}));
        heat.look(table, loads, now_ns);
    }
    // Seconds of load, by shard number, in parts of what a shard takes; a look every half a second.
    void run(double seconds, const std::map<std::uint32_t, double>& parts) {
        for (double at = 0; at < seconds; at += 0.5) {
            for (const Shard& shard : stream.shards) {
                ShardLoad& load = totals[shard.uid];
                load.shard = shard.uid;
                const auto part = parts.find(shard.number);
                load.bytes += part == parts.end()
                                  ? 0
                                  : static_cast<std::uint64_t>(part->second * 0.5 * (1U << 20));
                load.records += 10;
            }
            now_ns += second_ns / 2;
            look();
        }
    }
    ShardWishes wishes() { return heat.wishes(stream, now_ns); }
    void carry_out(const ReshardPlan& plan) {
        begin_reshard(stream, plan, next_uid, 1, 1'000'000);
        next_uid += plan.size();
        switch_over(stream);
        end_reshard(stream, std::vector<Sequence>(parts_of_reshard(stream).ends.size(), 1), 1);
    }

    Stream stream;
    std::uint64_t next_uid = 1;
    std::map<ShardUid, ShardLoad> totals;
    std::uint64_t now_ns = 1000 * second_ns;
    ShardHeat heat{OnDemandLimits{}};
};

TEST_F(OnDemand, SustainedHeatSplitsAndAShortBurstDoesNot) {
    run(10, {});
    EXPECT_TRUE(wishes().empty());
    run(3, {{1, 20.0}});
    EXPECT_EQ(heat.hot_count(), 1U);
    run(3, {});  // a burst and nothing
    EXPECT_TRUE(wishes().empty());
    run(5, {{1, 1.5}});
    EXPECT_TRUE(wishes().empty()) << "not hot for long enough";
    run(2, {{1, 1.5}, {2, 0.9}});
    EXPECT_EQ(wishes().splits, (std::vector<std::uint32_t>{1}));
}

TEST_F(OnDemand, RecordsCountAsBytesDo) {
    run(1, {});
    for (int i = 0; i < 20; ++i) {
        totals[stream.shards[3].uid].records += 600;  // in half a second
        run(0.5, {});
    }
    EXPECT_EQ(wishes().splits, (std::vector<std::uint32_t>{3}));
}

TEST_F(OnDemand, HottestFirstAndNoMoreThanAStreamMayHave) {
    OnDemandLimits limits;
    limits.shards_max = 6;
    heat = ShardHeat(limits);
    run(20, {{0, 2.0}, {1, 4.0}, {2, 3.0}, {3, 0.1}});
    EXPECT_EQ(wishes().splits, (std::vector<std::uint32_t>{1, 2}));
    EXPECT_EQ(wishes().held_by_shards_max, 1U);
}

TEST_F(OnDemand, WhatWasSplitIsNotSplitAgainAtOnce) {
    run(20, {{1, 4.0}});
    ASSERT_EQ(wishes().splits.size(), 1U);
    carry_out(plan_split(stream.shards[1], *choose_split(stream.shards[1].range, {})));
    EXPECT_TRUE(wishes().empty());
    run(4, {{4, 2.0}, {5, 2.0}});
    EXPECT_TRUE(wishes().empty());
    run(4, {{4, 2.0}, {5, 2.0}});
    EXPECT_EQ(wishes().splits.size(), 2U);
}

TEST_F(OnDemand, NothingIsWishedOfOtherStreams) {
    stream.mode = StreamMode::provisioned;
    run(20, {{1, 4.0}});
    EXPECT_TRUE(wishes().empty());
    stream.mode = StreamMode::on_demand;
    run(20, {{1, 4.0}});
    stream.status = StreamStatus::updating;
    EXPECT_TRUE(wishes().empty());
    stream.status = StreamStatus::active;
    EXPECT_FALSE(wishes().empty());
    OnDemandLimits off;
    off.automatic = false;
    heat = ShardHeat(off);
    run(20, {{1, 4.0}});
    EXPECT_TRUE(wishes().empty());
}

TEST_F(OnDemand, ColdNeighboursAreMergedDownToFourAndAMergeIsNotUndone) {
    make(9);
    run(800, {{0, 1.5}, {1, 0.2}});
    EXPECT_TRUE(wishes().merges.empty());
    run(120, {{0, 0.5}, {1, 0.2}});
    using Pairs = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
    // 2 to 8 were cold all the time.
    EXPECT_EQ(wishes().merges, (Pairs{{2, 3}, {4, 5}, {6, 7}}));
    ReshardPlan plan;
    for (const auto& [lower, upper] : wishes().merges) {
        const auto merged = plan_merge(*stream.shard(lower), *stream.shard(upper));
        plan.insert(plan.end(), merged.begin(), merged.end());
    }
    carry_out(plan);
    EXPECT_EQ(stream.open_shard_count(), 6U);
    // Each takes the most that two cold ones can.
    run(2000, {{0, 0.5}, {1, 0.2}, {9, 0.24}, {10, 0.24}, {11, 0.24}});
    EXPECT_TRUE(wishes().empty());
    run(901, {});
    EXPECT_EQ(wishes().merges.size(), 2U);  // four are left
}

TEST_F(OnDemand, WarmThroughputKeepsShards) {
    stream.warm_throughput_mibps = 7;
    EXPECT_EQ(wishes().scale_to, 7U);
    make(7);
    run(2000, {});
    EXPECT_TRUE(wishes().empty());
    stream.warm_throughput_mibps = 6;
    EXPECT_EQ(wishes().merges.size(), 1U);
    OnDemandLimits limits;
    limits.bytes_per_s = 3U << 19;  // 1.5 MiB
    EXPECT_EQ(limits.shards_for(7), 5U);
    EXPECT_EQ(limits.mibps_of(5), 7U);
    EXPECT_EQ(limits.shards_for(0), 0U);
}

TEST_F(OnDemand, AHeldShardIsLeftAlone) {
    run(20, {{1, 4.0}});
    heat.hold(stream.shards[1].uid, now_ns + 60 * second_ns);
    EXPECT_TRUE(wishes().empty());
    run(61, {{1, 4.0}});
    EXPECT_EQ(wishes().splits, (std::vector<std::uint32_t>{1}));
}

// -- Where a shard is split -----------------------------------------------------------------------

constexpr HashRange whole{{0, 0}, hash_max};

std::vector<KeyWeight> keys(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> all) {
    std::vector<KeyWeight> newest;
    for (const auto& [high, bytes] : all) {
        for (int i = 0; i < 20; ++i) {
            newest.push_back({{high << 56, 0}, bytes});
        }
    }
    return newest;
}

TEST(ChooseSplit, HalfOfTheBytesLieOnEitherSide) {
    const auto start = choose_split(whole, keys({{10, 100}, {20, 100}, {30, 100}, {200, 100}}));
    ASSERT_TRUE(start);
    EXPECT_GT(*start, (Hash128{20ULL << 56, 0}));
    EXPECT_LE(*start, (Hash128{30ULL << 56, 0}));
    const auto heavy = choose_split(whole, keys({{10, 700}, {20, 100}, {30, 100}, {200, 100}}));
    ASSERT_TRUE(heavy);
    EXPECT_GT(*heavy, (Hash128{10ULL << 56, 0}));
    EXPECT_LE(*heavy, (Hash128{20ULL << 56, 0}));
}

TEST(ChooseSplit, OneHotKeyIsNotSplit) {
    EXPECT_FALSE(choose_split(whole, keys({{10, 100}})));
    EXPECT_FALSE(choose_split(whole, keys({{10, 1000}, {20, 50}, {30, 50}})));
    EXPECT_TRUE(choose_split(whole, keys({{10, 1000}, {20, 60}, {30, 60}})));
    // Also where the newest records are so large that there are few of them.
    const KeyWeight large{{7, 7}, 5U << 20};
    EXPECT_FALSE(choose_split(whole, {large, large}));
    EXPECT_TRUE(choose_split(whole, {large, {{8, 8}, 5U << 20}}));
    EXPECT_TRUE(choose_split(whole, {large}));
}

// However the keys lie, splits at them end.
TEST(ChooseSplit, AHotKeyAmongOthersEndsInFewSplits) {
    std::vector<KeyWeight> all = keys({{100, 1000}});
    for (std::uint64_t i = 0; i < 200; ++i) {
        all.push_back({{i << 56 | 0xabc, i}, 100});
    }
    HashRange range = whole;
    int splits = 0;
    while (const auto start = choose_split(range, all)) {
        ASSERT_LT(range.start, *start);
        ASSERT_LE(*start, range.end);
        const Hash128 hot{100ULL << 56, 0};
        if (hot < *start) {
            range.end = to_hash(to_uint128(*start) - 1);
        } else {
            range.start = *start;
        }
        ASSERT_LE(++splits, 10);
    }
    EXPECT_GE(splits, 1);
}

TEST(ChooseSplit, WithFewRecordsItIsTheMiddle) {
    EXPECT_EQ(*choose_split(whole, {}), (Hash128{1ULL << 63, 0}));
    const HashRange two{{5, 8}, {5, 9}};
    EXPECT_EQ(*choose_split(two, {}), (Hash128{5, 9}));
    const HashRange one{{5, 8}, {5, 8}};
    EXPECT_FALSE(choose_split(one, {}));
    // Records of the shard from before it was a child do not count.
    EXPECT_EQ(*choose_split(two, keys({{100, 5}})), (Hash128{5, 9}));
}

}  // namespace
}  // namespace penstock::kinesis
