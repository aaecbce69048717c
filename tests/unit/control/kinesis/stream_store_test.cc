#include "control/kinesis/stream/stream_store.h"

#include <algorithm>
#include <chrono>

#include <gtest/gtest.h>

#include "control/catalog/embedded_catalog.h"
#include "control/kinesis/stream/reshard.h"
#include "tests/unit/control/kinesis/memory_lane.h"
#include "tests/unit/control/kinesis/memory_log.h"

namespace penstock::kinesis {
namespace {

Stream sample() {
    Stream stream;
    stream.name = "a\"b";
    stream.incarnation = 5;
    stream.status = StreamStatus::active;
    stream.created_ms = 1'790'000'000'123;
    stream.next_shard_number = 3;
    stream.tags = {{"team", "x"}};
    const auto halves = tile_hash_space(2);
    Shard parent{ShardUid{6}, 0, GroupId{1}, 1'790'000'000,     {Hash128{}, hash_max}, {},
                 {},          0, 77,         ShardState::closed};
    Shard left{ShardUid{7}, 1, GroupId{2}, 1'790'000'009,   halves[0], 0,
               {},          0, {},         ShardState::open};
    Shard right{ShardUid{8}, 2, GroupId{1}, 1'790'000'009,   halves[1], 0,
                {},          0, {},         ShardState::open};
    stream.shards = {parent, left, right};
    return stream;
}

TEST(StreamFormat, EncodedIsDecodedTheSame) {
    Stream stream = sample();
    stream.tags[std::string("n\0l", 3)] = std::string("\0", 1);
    EXPECT_EQ(*decode_stream(encode_stream(stream)), stream);
}

TEST(StreamFormat, VersionOneIsWhatItAlwaysWas) {
    Stream stream = sample();
    stream.shards.erase(stream.shards.begin(), stream.shards.begin() + 2);
    EXPECT_EQ(
        encode_stream(stream),
        R"({"version":1,"name":"a\"b","incarnation":5,"status":"ACTIVE","mode":"PROVISIONED",)"
        R"("retention_hours":24,"created_ms":1790000000123,"max_record_kib":1024,)"
        R"("next_shard_number":3,"tags":{"team":"x"},"shards":[{"uid":8,"number":2,"group":1,)"
        R"("created_s":1790000009,"hash_start":"170141183460469231731687303715884105728",)"
        R"("hash_end":"340282366920938463463374607431768211455","parent":0,"first_index":0,)"
        R"("state":"open"}]})");
}

TEST(StreamFormat, UnknownVersionsAndBrokenEntriesAreRefused) {
    const std::string good = encode_stream(sample());
    std::string later = good;
    later.replace(later.find(":1,"), 3, ":3,");
    EXPECT_EQ(decode_stream(later).error().code, Errc::unsupported);
    for (std::size_t size = 0; size < good.size(); ++size) {
        EXPECT_FALSE(decode_stream(good.substr(0, size))) << size;
    }
    for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
             {"\"ACTIVE\"", "\"GONE\""},
             {"\"uid\":6", "\"uid\":0"},
             {"\"uid\":6", "\"uid\":-6"},
             {"\"number\":2", "\"number\":3"},
             {"\"number\":2", "\"number\":0"},
             {"\"shards\"", "\"shard\""},
             {"\"hash_end\"", "\"hash_eng\""},
             {"\"tags\":{", "\"tugs\":{"},
             {"340282366920938463463374607431768211455",
              "340282366920938463463374607431768211456"}}) {
        std::string bad = good;
        bad.replace(bad.find(from), from.size(), to);
        EXPECT_FALSE(decode_stream(bad)) << to;
    }
}

class StreamStoreTest : public ::testing::Test {
protected:
    void open() {
        auto opened = EmbeddedCatalog::open(log, clock, {1U << 20});
        ASSERT_TRUE(opened);
        catalog = std::move(*opened);
        StreamStoreOptions options;
        options.retry_ms = 2;
        options.shards_max = 100;
        options.door_streams = {"s"};
        options.publish = [this](std::unique_ptr<const RouteTable> table) {
            const std::lock_guard lock(mutex);
            ++published;
            routes = std::move(table);
        };
        auto made = StreamStore::open(*catalog, lanes, clock, std::move(options));
        ASSERT_TRUE(made) << describe(made.error());
        store = std::move(*made);
    }
    void close() {
        store.reset();
        catalog.reset();
    }
    template <typename Condition>
    void wait_for(const Condition& condition) {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!condition()) {
            ASSERT_LT(std::chrono::steady_clock::now(), give_up);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    void settle() {
        wait_for([&] { return store->settled(); });
    }
    [[nodiscard]] NewStream wanted(std::string name, std::uint32_t shards) const {
        NewStream stream;
        stream.name = std::move(name);
        stream.shard_count = shards;
        return stream;
    }
    std::size_t routed_shards() {
        const std::lock_guard lock(mutex);
        const StreamRoute* door = routes->of_door(0);
        return door == nullptr ? 0 : door->shards().size();
    }
    ManualClock clock;
    MemoryLog log;
    MemoryLanes lanes{clock, 2, 3};
    std::mutex mutex;
    std::unique_ptr<const RouteTable> routes;
    int published = 0;
    std::unique_ptr<EmbeddedCatalog> catalog;
    std::unique_ptr<StreamStore> store;
};

TEST_F(StreamStoreTest, CreatedStreamBecomesActiveOnItsLanesAndIsPublished) {
    open();
    EXPECT_EQ(routed_shards(), 0U);
    ASSERT_TRUE(store->create(wanted("s", 5)));
    settle();
    const Stream stream = store->find("s")->stream();
    EXPECT_EQ(stream.status, StreamStatus::active);
    EXPECT_EQ(routed_shards(), 5U);
    const auto on_lanes = lanes.shards();
    ASSERT_EQ(on_lanes.size(), 5U);
    for (const Shard& shard : stream.shards) {
        EXPECT_EQ(shard.group, static_cast<GroupId>(1 + value(shard.uid) % 3));
        EXPECT_EQ(on_lanes.at(shard.uid).group, shard.group);
        EXPECT_EQ(on_lanes.at(shard.uid).retention_ms, 24LL * 3600 * 1000);
    }
    EXPECT_EQ(store->create(wanted("s", 1)).error().code, Errc::already_exists);
    EXPECT_EQ(store->create(wanted("t", 96)).error().code, Errc::no_space);
}

TEST_F(StreamStoreTest, DeletedStreamIsDroppedAndItsNumbersAreNeverUsedAgain) {
    open();
    ASSERT_TRUE(store->create(wanted("s", 3)));
    settle();
    const Stream first = store->find("s")->stream();
    lanes.set([](auto& f) { f.control_outcome = Errc::not_enough_replicas; });
    ASSERT_TRUE(store->remove("s"));
    EXPECT_EQ(store->find("s")->stream().status, StreamStatus::deleting);
    EXPECT_TRUE(store->remove("s"));
    EXPECT_EQ(store->create(wanted("s", 1)).error().code, Errc::already_exists);
    EXPECT_EQ(catalog->list("tombstone/")->size(), 3U);
    EXPECT_EQ(routed_shards(), 0U);
    EXPECT_EQ(lanes.shards().size(), 3U);
    lanes.set([](auto& f) { f.control_outcome = Errc::ok; });
    settle();
    EXPECT_EQ(store->find("s"), nullptr);
    EXPECT_TRUE(catalog->list("tombstone/")->empty());
    EXPECT_TRUE(lanes.shards().empty());
    ASSERT_TRUE(store->create(wanted("s", 3)));
    settle();
    const Stream second = store->find("s")->stream();
    EXPECT_GT(second.incarnation, value(first.shards.back().uid));
    EXPECT_GT(value(second.shards.front().uid), value(first.shards.back().uid));
    EXPECT_EQ(store->remove("nope").error().code, Errc::not_found);
}

TEST_F(StreamStoreTest, HalfCreatedAndHalfDeletedStreamsAreFinishedAfterARestart) {
    open();
    ASSERT_TRUE(store->create(wanted("old", 2)));
    settle();
    lanes.set([](auto& f) { f.control_outcome = Errc::not_enough_replicas; });
    ASSERT_TRUE(store->create(wanted("s", 2)));
    ASSERT_TRUE(store->remove("old"));
    EXPECT_EQ(store->remove("s").error().code, Errc::locked);
    const std::string key(store->iterator_key());
    close();
    lanes.set([](auto& f) { f.control_outcome = Errc::ok; });
    open();
    settle();
    EXPECT_EQ(store->iterator_key(), key);
    EXPECT_EQ(store->find("s")->stream().status, StreamStatus::active);
    EXPECT_EQ(store->find("old"), nullptr);
    EXPECT_EQ(lanes.shards().size(), 2U);
    EXPECT_EQ(routed_shards(), 2U);
}

TEST_F(StreamStoreTest, TombstonesWithoutAStreamAreCarriedOut) {
    open();
    ASSERT_TRUE(store->create(wanted("s", 1)));
    settle();
    const ShardUid uid = store->find("s")->stream().shards[0].uid;
    const GroupId group = store->find("s")->stream().shards[0].group;
    ASSERT_TRUE(
        catalog->put("tombstone/" + std::to_string(value(uid)), std::to_string(value(group))));
    ASSERT_TRUE(catalog->remove("stream/s"));
    close();
    open();
    settle();
    EXPECT_TRUE(lanes.shards().empty());
    EXPECT_TRUE(catalog->list("tombstone/")->empty());
}

TEST_F(StreamStoreTest, RetentionReachesTheLanesAlsoAfterARestart) {
    open();
    ASSERT_TRUE(store->create(wanted("s", 2)));
    settle();
    lanes.set([](auto& f) { f.control_outcome = Errc::unavailable; });
    EXPECT_EQ(store->set_retention("s", 25, 48).error().code, Errc::canceled);
    ASSERT_TRUE(store->set_retention("s", 24, 48));
    EXPECT_EQ(store->find("s")->stream().retention_hours, 48U);
    close();
    lanes.set([](auto& f) { f.control_outcome = Errc::ok; });
    lanes.edit_shard(ShardUid{2}, [](auto& shard) { shard.retention_ms = 1; });
    open();
    settle();
    for (const auto& [uid, shard] : lanes.shards()) {
        EXPECT_EQ(shard.retention_ms, 48LL * 3600 * 1000);
    }
}

// The worker goes through the streams as they were when it began.
TEST_F(StreamStoreTest, RetentionChangedWhileTheWorkerIsBusyReachesTheLanes) {
    open();
    ASSERT_TRUE(store->create(wanted("a", 1)));
    ASSERT_TRUE(store->create(wanted("s", 1)));
    settle();
    lanes.set([](auto& f) { f.hold_retention = true; });
    ASSERT_TRUE(store->set_retention("a", 24, 30));
    wait_for([&] { return lanes.queued() == 1; });  // its next stream will be "s"
    ASSERT_TRUE(store->set_retention("s", 24, 48));
    lanes.set([](auto& f) { f.hold_retention = false; });
    settle();
    const ShardUid uid = store->find("s")->stream().shards[0].uid;
    EXPECT_EQ(lanes.shards().at(uid).retention_ms, 48LL * 3600 * 1000);
}

TEST_F(StreamStoreTest, RetentionReachesTheLanesWhoeverChangedTheCatalog) {
    open();
    ASSERT_TRUE(store->create(wanted("s", 1)));
    settle();
    Stream stream = store->find("s")->stream();
    stream.retention_hours = 72;
    ASSERT_TRUE(catalog->put("stream/s", encode_stream(stream)));
    settle();
    EXPECT_EQ(lanes.shards().at(stream.shards[0].uid).retention_ms, 72LL * 3600 * 1000);
}

TEST_F(StreamStoreTest, ASplitOfOneOfManyShardsKeepsTheLimitOfAll) {
    const auto split_first = [](Stream& stream) -> Result<ReshardPlan> {
        const auto shard =
            std::ranges::find_if(stream.shards, [](const Shard& s) { return s.is_open(); });
        return plan_split(*shard, {shard->range.start.high, shard->range.start.low + 1});
    };
    open();
    ASSERT_TRUE(store->create(wanted("s", 99)));
    settle();
    lanes.set([](auto& f) { f.hold_closes = true; });
    ASSERT_TRUE(store->reshard("s", split_first));
    EXPECT_EQ(store->open_shard_count(), 100U);
    const auto created = store->create(wanted("t", 1));
    ASSERT_FALSE(created) << "the shard that comes is not there yet, but it counts";
    EXPECT_EQ(created.error().code, Errc::no_space);
    lanes.set([](auto& f) { f.hold_closes = false; });
    settle();
    EXPECT_EQ(store->find("s")->stream().open_shard_count(), 100U);
    const auto split = store->reshard("s", split_first);
    ASSERT_FALSE(split);
    EXPECT_EQ(split.error().code, Errc::no_space);
    EXPECT_EQ(split.error().detail, 100U);
    // What makes no more of them is free.
    EXPECT_TRUE(store->reshard("s", [](Stream& stream) -> Result<ReshardPlan> {
        return plan_merge(stream.shards.end()[-2], stream.shards.end()[-1]);
    }));
    settle();
    EXPECT_EQ(store->open_shard_count(), 99U);
}

// Their numbers begin anew with each stream.
TEST_F(StreamStoreTest, AConsumerOfADeletedStreamIsNotOneOfItsNamesake) {
    open();
    std::vector<std::uint64_t> incarnations;
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(store->create(wanted("s", 1)));
        settle();
        ASSERT_EQ(store->add_consumer("s", "app", {}, 20)->number, 1U);
        incarnations.push_back(store->find("s")->stream().incarnation);
        if (i == 0) {
            ASSERT_TRUE(store->remove("s", true));
            settle();
        }
    }
    EXPECT_EQ(store->remove_consumer("s", incarnations[0], 1).error().code, Errc::not_found);
    EXPECT_NE(store->find("s")->stream().consumer("app"), nullptr);
    EXPECT_TRUE(store->remove_consumer("s", incarnations[1], 1));
    EXPECT_EQ(store->find("s")->stream().consumer("app"), nullptr);
}

TEST_F(StreamStoreTest, FullInboxesOnlyDelay) {
    open();
    lanes.set([](auto& f) { f.inbox_full = true; });
    ASSERT_TRUE(store->create(wanted("s", 80)));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(store->find("s")->stream().status, StreamStatus::creating);
    lanes.set([](auto& f) { f.inbox_full = false; });
    settle();
    EXPECT_EQ(lanes.shards().size(), 80U);
}

// The catalog's log fails at the n-th write of create, retention, delete; then the node restarts.
// Afterwards lanes and catalog agree, whatever was answered.
TEST_F(StreamStoreTest, FailingLogAtEveryStepNeverLeavesLanesAndCatalogApart) {
    for (const auto how :
         {MemoryLog::Failure::nothing_kept, MemoryLog::Failure::kept_all_the_same}) {
        for (int n = 1;; ++n) {
            log.records().clear();
            open();
            const std::size_t before = log.writes();
            log.fail_at(n, how);
            const bool created = store->create(wanted("s", 3)).has_value();
            static_cast<void>(store->create(wanted("t", 2)));
            settle();
            const bool changed = created && store->set_retention("s", 24, 30).has_value();
            settle();
            const bool removed = store->find("t") && store->remove("t").has_value();
            settle();
            const bool touched = log.writes() - before >= static_cast<std::size_t>(n);
            close();
            log.heal();
            open();
            settle();
            std::size_t shards = 0;
            for (const auto& [name, view] : *store->table()) {
                EXPECT_EQ(view->stream().status, StreamStatus::active) << n;
                shards += view->stream().shards.size();
                for (const Shard& shard : view->stream().shards) {
                    EXPECT_TRUE(lanes.shards().contains(shard.uid));
                }
            }
            EXPECT_EQ(lanes.shards().size(), shards) << n;
            EXPECT_TRUE(!created || store->find("s")) << n;
            EXPECT_TRUE(!changed || store->find("s")->stream().retention_hours == 30) << n;
            EXPECT_TRUE(!removed || !store->find("t")) << n;
            EXPECT_TRUE(catalog->list("tombstone/")->empty()) << n;
            for (const char* name : {"s", "t"}) {
                static_cast<void>(store->remove(name));
            }
            settle();
            EXPECT_TRUE(lanes.shards().empty());
            close();
            if (!touched) {
                break;
            }
        }
    }
}

}  // namespace
}  // namespace penstock::kinesis
