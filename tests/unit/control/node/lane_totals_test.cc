// What shards have committed, asked of real lanes on simulated disks.
#include "control/node/lane_totals.h"

#include <semaphore>
#include <set>

#include <gtest/gtest.h>

#include "dataplane/lane/lane_set.h"
#include "tests/unit/dataplane/lane/support.h"

namespace penstock {
namespace {

// Counts what is posted to a lane set.
class CountedLanes final : public ShardService {
public:
    explicit CountedLanes(LaneSet& lanes) : lanes_(lanes) {}
    bool post(unsigned lane, LaneRequest& request) noexcept override {
        ++posted;
        return lanes_.post(lane, request);
    }
    unsigned lane_of(GroupId group) const noexcept override { return lanes_.lane_of(group); }
    unsigned lane_count() const noexcept override { return lanes_.lane_count(); }
    unsigned group_count() const noexcept override { return lanes_.group_count(); }

    int posted = 0;

private:
    LaneSet& lanes_;
};

class LaneTotalsTest : public ::testing::Test {
protected:
    LaneTotalsTest() {
        LaneSetOptions options;
        options.clock = &clock;
        options.group_count = 2;
        options.trap_allocations = false;  // simulated disks allocate freely
        std::string why;
        auto made = LaneSet::make(std::move(options), why);
        EXPECT_TRUE(made) << why;
        lanes = std::move(*made);
        const Status started = lanes->start(
            [this](Lane& lane) { return storage.open(lane, {GroupId{1}, GroupId{2}}, 2); }, why);
        EXPECT_TRUE(started) << why;
        counted = std::make_unique<CountedLanes>(*lanes);
        caller = std::make_unique<LaneCaller>(*counted);
        totals = std::make_unique<LaneTotals>(*caller, 1);
    }
    ~LaneTotalsTest() override {
        caller->wait_for_all();
        lanes.reset();
    }
    void add_shards(std::uint64_t from, std::uint64_t to) {
        std::vector<LaneCaller::Ask> asks;
        for (std::uint64_t uid = from; uid <= to; ++uid) {
            auto request = std::make_unique<AddShardRequest>();
            request->shard = ShardUid{uid};
            request->group = lanes->group_for(request->shard);
            request->retention_ms = 86'400'000;
            asks.push_back({0, std::move(request), false});
        }
        caller->run(asks, std::chrono::seconds(60));
        for (const LaneCaller::Ask& ask : asks) {
            ASSERT_TRUE(ask.answered);
            ASSERT_EQ(ask.request->outcome, Errc::ok);
        }
    }

    SystemClock clock;
    test::SimStorage storage;
    std::unique_ptr<LaneSet> lanes;
    std::unique_ptr<CountedLanes> counted;
    std::unique_ptr<LaneCaller> caller;
    std::unique_ptr<LaneTotals> totals;
};

TEST_F(LaneTotalsTest, EveryShardIsThereHoweverManyThereAre) {
    std::uint64_t there = 0;
    for (const std::uint64_t count : {10U, 300U, 700U}) {
        add_shards(there + 1, count);
        there = count;
        const auto found = totals->ask(0, std::chrono::seconds(60));
        ASSERT_TRUE(found);
        std::set<std::uint64_t> uids;
        for (const LaneTotals::Shard& shard : *found) {
            uids.insert(value(shard.shard));
        }
        EXPECT_EQ(found->size(), count);
        EXPECT_EQ(uids.size(), count);
    }
}

TEST_F(LaneTotalsTest, ALaneWhoseAnswerIsStillOutIsNotAskedAgain) {
    add_shards(1, 5);
    std::binary_semaphore hang{0};
    std::binary_semaphore hangs{0};
    CallRequest block;
    std::pair<std::binary_semaphore*, std::binary_semaphore*> both{&hangs, &hang};
    block.argument = &both;
    block.function = [](Lane&, void* argument) {
        const auto& own =
            *static_cast<std::pair<std::binary_semaphore*, std::binary_semaphore*>*>(argument);
        own.first->release();
        own.second->acquire();
        return Errc::ok;
    };
    ReplyRing replies(16);
    block.reply_to = &replies;
    ASSERT_TRUE(lanes->post(0, block));
    hangs.acquire();
    const int before = counted->posted;
    for (int i = 0; i < 5; ++i) {
        EXPECT_FALSE(totals->ask(0, std::chrono::milliseconds(1)));
    }
    EXPECT_EQ(counted->posted, before + 1);
    hang.release();
    EXPECT_EQ(test::wait_reply(replies), &block);
    caller->wait_for_all();  // the late answer
    const auto found = totals->ask(0, std::chrono::seconds(60));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->size(), 5U);
    EXPECT_EQ(counted->posted, before + 2);
}

}  // namespace
}  // namespace penstock
