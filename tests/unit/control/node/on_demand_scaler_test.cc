// The thread that splits hot shards, looked through by hand: loads and a clock go in, what it reads
// and begins comes out.
#include "control/node/on_demand_scaler.h"

#include <chrono>

#include <gtest/gtest.h>

#include "control/catalog/embedded_catalog.h"
#include "tests/unit/control/kinesis/memory_lane.h"
#include "tests/unit/control/kinesis/memory_log.h"

namespace penstock {
namespace {

using kinesis::OnDemandChange;
using kinesis::OnDemandHeld;

class CountedSource final : public kinesis::RecordSource {
public:
    CountedSource(MemoryLanes& lanes, int& reads) : own_(lanes), reads_(reads) {}
    Status read(const ReadPlan& plan, const std::function<bool(const RecordView&)>& take,
                ReadOutcome& out) override {
        ++reads_;
        return own_.read(plan, take, out);
    }

private:
    MemoryRecordSource own_;
    int& reads_;
};

class OnDemandScalerTest : public ::testing::Test {
protected:
    // A stream of four shards on a node that may have so many.
    void open(std::uint32_t shards_max) {
        auto opened = EmbeddedCatalog::open(log, clock);
        ASSERT_TRUE(opened);
        catalog = std::move(*opened);
        kinesis::StreamStoreOptions options;
        options.retry_ms = 2;
        options.shards_max = shards_max;
        options.publish = [this](std::unique_ptr<const RouteTable> table) {
            const std::lock_guard lock(mutex);
            routes = std::move(table);
        };
        auto made = kinesis::StreamStore::open(*catalog, lanes, clock, std::move(options));
        ASSERT_TRUE(made);
        store = std::move(*made);
        kinesis::NewStream stream;
        stream.name = "s";
        stream.mode = kinesis::StreamMode::on_demand;
        stream.shard_count = 4;
        ASSERT_TRUE(store->create(stream));
        settle();
        scaler = std::make_unique<OnDemandScaler>(
            lanes, *store, clock,
            OnDemandScaler::Options{
                .limits = {},
                .log = [](std::string_view) {},
                .records = [this] { return std::make_unique<CountedSource>(lanes, reads); },
                .loads =
                    [this] {
                        std::vector<kinesis::ShardLoad> loads;
                        for (const auto& [uid, load] : totals) {
                            loads.push_back(load);
                        }
                        return loads;
                    }});
    }
    ~OnDemandScalerTest() override {
        scaler.reset();
        store.reset();
        EXPECT_EQ(lanes.bugs, 0);
        EXPECT_EQ(lanes.leases(), 0);
    }
    void settle() {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!store->settled()) {
            ASSERT_LT(std::chrono::steady_clock::now(), give_up);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    // So long the first shards take more than they should, the first of them most; two looks a
    // second.
    void run(double seconds, std::size_t hot) {
        for (double at = 0; at < seconds; at += 0.5) {
            clock.ms += 500;
            clock.ns += 500'000'000;
            const auto view = store->find("s");
            std::size_t index = 0;
            for (const kinesis::Shard& shard : view->stream().shards) {
                kinesis::ShardLoad& load = totals[shard.uid];
                load.shard = shard.uid;
                load.bytes += index < hot ? (10 - index) << 20 : 0;
                ++index;
            }
            scaler->look_once();
            settle();
        }
    }
    [[nodiscard]] std::uint64_t held(OnDemandHeld reason) const {
        return scaler->counters().held[static_cast<std::size_t>(reason)];
    }
    [[nodiscard]] std::uint64_t splits() const {
        return scaler->counters().changes[static_cast<std::size_t>(OnDemandChange::split)];
    }
    // By number, of those that are still open.
    [[nodiscard]] std::vector<std::uint32_t> open_shards() const {
        std::vector<std::uint32_t> open;
        for (const kinesis::Shard& shard : store->find("s")->stream().shards) {
            if (shard.is_open()) {
                open.push_back(shard.number);
            }
        }
        return open;
    }

    ManualClock clock;
    MemoryLog log;
    MemoryLanes lanes{clock, 2, 3};
    std::mutex mutex;
    std::unique_ptr<const RouteTable> routes;
    std::unique_ptr<EmbeddedCatalog> catalog;
    std::unique_ptr<kinesis::StreamStore> store;
    std::map<ShardUid, kinesis::ShardLoad> totals;
    int reads = 0;
    std::unique_ptr<OnDemandScaler> scaler;
};

TEST_F(OnDemandScalerTest, NothingIsReadWhereTheNodeHasNoRoomForAnotherShard) {
    open(4);
    run(20, 3);
    EXPECT_GE(held(OnDemandHeld::node_shards_max), 3U);
    EXPECT_EQ(reads, 0);
    EXPECT_EQ(splits(), 0U);
}

TEST_F(OnDemandScalerTest, TheHottestAreSplitAsFarAsTheNodeHasRoom) {
    open(6);
    run(6, 3);
    EXPECT_EQ(splits(), 2U);
    EXPECT_EQ(reads, 2);
    EXPECT_EQ(open_shards(), (std::vector<std::uint32_t>{2, 3, 4, 5, 6, 7}));
    EXPECT_GE(held(OnDemandHeld::node_shards_max), 1U);
}

TEST_F(OnDemandScalerTest, WhatCouldNotBeMadeDurableIsNotReadAgainAtEveryLook) {
    open(100);
    log.fail_at(1, MemoryLog::Failure::nothing_kept, true);
    run(30, 1);
    EXPECT_EQ(held(OnDemandHeld::failed), 1U);
    EXPECT_EQ(reads, 1);
    log.heal();
    run(60, 1);
    EXPECT_EQ(reads, 2);
    EXPECT_EQ(splits(), 1U);
    EXPECT_EQ(open_shards().size(), 5U);
}

}  // namespace
}  // namespace penstock
