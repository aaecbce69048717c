#include "dataplane/door/routes.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr std::uint64_t ones = ~std::uint64_t{0};

ShardRoute range(Hash128 first, Hash128 last, std::uint64_t shard) {
    return {first, last, ShardUid{shard}, GroupId{1}, 0};
}

std::vector<ShardRoute> four() {
    // Out of order, with a border inside the low word and one exactly between the words.
    return {range({1, 0}, {7, 41}, 3), range({0, 0}, {0, 9}, 1), range({7, 42}, {ones, ones}, 4),
            range({0, 10}, {0, ones}, 2)};
}

TEST(StreamRoute, FindsTheShardOfEveryBorder) {
    const StreamRoute route = StreamRoute::make("s", four()).value();
    const auto shard = [&](Hash128 hash) { return value(route.find(hash)->shard); };
    EXPECT_EQ(shard({0, 0}), 1U);
    EXPECT_EQ(shard({0, 9}), 1U);
    EXPECT_EQ(shard({0, 10}), 2U);
    EXPECT_EQ(shard({0, ones}), 2U);
    EXPECT_EQ(shard({1, 0}), 3U);
    EXPECT_EQ(shard({7, 41}), 3U);
    EXPECT_EQ(shard({7, 42}), 4U);
    EXPECT_EQ(shard({ones, ones}), 4U);
}

TEST(StreamRoute, RefusesGapsOverlapsAndNothing) {
    EXPECT_FALSE(StreamRoute::make("s", {}));
    for (std::size_t i = 0; i < 4; ++i) {
        auto shards = four();
        shards.erase(shards.begin() + static_cast<long>(i));
        EXPECT_FALSE(StreamRoute::make("s", shards)) << i;
        shards = four();
        shards.push_back(shards[i]);
        EXPECT_FALSE(StreamRoute::make("s", shards)) << i;
    }
    auto inverted = four();
    std::swap(inverted[0].first, inverted[0].last);
    EXPECT_FALSE(StreamRoute::make("s", inverted));
    EXPECT_TRUE(StreamRoute::make("s", {range({0, 0}, {ones, ones}, 1)}));
}

std::unique_ptr<const RouteTable> table_of(std::vector<std::string> names, std::uint64_t shard,
                                           std::vector<std::string> doors = {}) {
    std::vector<StreamRoute> streams;
    for (const std::string& name : names) {
        streams.push_back(StreamRoute::make(name, {range({0, 0}, {ones, ones}, shard)}).value());
    }
    return RouteTable::make(std::move(streams), doors).value();
}

TEST(RouteTable, LeadsDoorsToTheirStreams) {
    const auto table = table_of({"b", "a", "c"}, 1, {"c", "none", "a"});
    EXPECT_EQ(table->stream("b")->name(), "b");
    EXPECT_EQ(table->stream("bb"), nullptr);
    EXPECT_EQ(table->of_door(0)->name(), "c");
    EXPECT_EQ(table->of_door(1), nullptr);
    EXPECT_EQ(table->of_door(2)->name(), "a");
    EXPECT_EQ(table->of_door(3), nullptr);
    std::vector<StreamRoute> twins;
    twins.push_back(*table->stream("a"));
    twins.push_back(*table->stream("a"));
    EXPECT_FALSE(RouteTable::make(std::move(twins), {}));
}

TEST(Routes, KeepsATableWhileAReaderHoldsIt) {
    Routes routes(2);
    const RouteTable& empty = routes.enter(0);
    EXPECT_EQ(empty.stream("a"), nullptr);
    routes.publish(table_of({"a"}, 1));
    EXPECT_EQ(empty.streams().size(), 0U);  // still readable
    EXPECT_EQ(routes.reclaim(), 1U);
    EXPECT_NE(routes.enter(1).stream("a"), nullptr);
    EXPECT_NE(routes.enter(0).stream("a"), nullptr);
    EXPECT_EQ(routes.reclaim(), 0U);
    routes.leave(0);
    routes.publish(table_of({"b"}, 2));
    EXPECT_EQ(routes.reclaim(), 1U);  // reader 1 has it
    routes.leave(1);
    EXPECT_EQ(routes.reclaim(), 0U);
}

TEST(Routes, NeverShowsAFreedTableToARunningReader) {
    Routes routes(2);
    routes.publish(table_of({"s"}, 1));
    std::atomic<bool> stop{false};
    const auto read = [&](unsigned reader) {
        std::uint64_t newest = 0;
        while (!stop.load(std::memory_order_relaxed)) {
            const RouteTable& table = routes.enter(reader);
            const std::uint64_t shard = value(table.stream("s")->find({5, 5})->shard);
            ASSERT_GE(shard, newest);
            newest = shard;
            if (newest % 64 == 0) {
                routes.leave(reader);
            }
        }
        routes.leave(reader);
    };
    std::thread first(read, 0U);
    std::thread second(read, 1U);
    for (std::uint64_t i = 2; i < 3000; ++i) {
        routes.publish(table_of({"s"}, i));
        ASSERT_LE(routes.reclaim(), 2U);
    }
    stop = true;
    first.join();
    second.join();
    EXPECT_EQ(routes.reclaim(), 0U);
}

}  // namespace
}  // namespace penstock
