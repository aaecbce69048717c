// Who gets through when more comes than the drives take: a shard, a door or a port at full blast
// beside quiet ones.
#include "tests/unit/dataplane/lane/overload.h"

#include <gtest/gtest.h>

#include "tests/unit/dataplane/wire/packet_builder.h"

namespace penstock::test {
namespace {

constexpr std::uint16_t hot_port = 5000;
constexpr std::uint16_t quiet_port = 5001;
constexpr std::uint64_t hot_uid = 100'000;
constexpr std::uint64_t quiet_uid = 1;
constexpr std::uint64_t second_ns = 1'000'000'000;
// A record waits for the two journal blocks under way, then for its own, each 80 ms at most, and
// for a place in the journal while what holds it is moved: written and flushed.
constexpr std::uint64_t quiet_latency_ns_max = 6 * 80'000'000;

Flow quiet_flow() {
    return {.door_port = quiet_port, .per_second = 1000, .bytes = 100};
}
// 100 MB a second where the drives take a quarter of that from one shard.
Flow hot_flow() {
    return {.door_port = hot_port, .per_second = 75'000, .bytes = 1400};
}

TEST_F(OverloadTest, AShardAtFullBlastLeavesAnotherAlone) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 1);
    add_stream("quiet", quiet_uid, 1);
    std::array flows{hot_flow(), quiet_flow()};
    run(flows, 2 * second_ns);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(drops(DropReason::shard_behind), flows[0].sent / 3) << "no overload";
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
    EXPECT_LT(committed[quiet_uid].slowest_ns, quiet_latency_ns_max);
    EXPECT_GT(committed[hot_uid].records, 20'000U) << "the flood itself has to get its part";
    EXPECT_EQ(drops(DropReason::no_memory), 0U);
}

// The ring holds a millisecond of this flood: a lane that paused for every refusal would lose the
// quiet door's packets in it.
TEST_F(OverloadTest, ARingSharedWithAFastFloodDoesNotOverflow) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 1);
    add_stream("quiet", quiet_uid, 1);
    std::array flows{hot_flow(), quiet_flow()};
    flows[0].per_second = 1'000'000;
    flows[0].bytes = 200;
    run(flows, second_ns / 2);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(drops(DropReason::shard_behind), flows[0].sent / 3) << "no overload";
    EXPECT_EQ(flows[0].missed, 0U);
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
}

TEST_F(OverloadTest, ManyShardsAtFullBlastLeaveAQuietOneItsShare) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 16);
    add_stream("quiet", quiet_uid, 1);
    Flow hot = hot_flow();
    hot.per_second = 250'000;
    hot.sources = 200;
    std::array flows{hot, quiet_flow()};
    std::size_t used_most = 0;
    run(flows, 2 * second_ns, [&] { used_most = std::max(used_most, pool->used_bytes()); });
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(used_most, pool->size_bytes() / 10 * 8) << "all memory was to be wanted";
    EXPECT_GT(drops(DropReason::shard_behind), flows[0].sent / 3) << "no overload";
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
    EXPECT_LT(committed[quiet_uid].slowest_ns, quiet_latency_ns_max);
}

TEST_F(OverloadTest, OneHotShardAmongThousandsLeavesTheOthersAlone) {
    make({.memory_bytes = 64U << 20, .doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 1);
    add_stream("quiet", quiet_uid, 2000);
    Flow quiet = quiet_flow();
    quiet.sources = 2000;
    std::array flows{hot_flow(), quiet};
    flows[0].per_second = 150'000;
    run(flows, 2 * second_ns);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(drops(DropReason::shard_behind), flows[0].sent / 3) << "no overload";
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
}

TEST_F(OverloadTest, AShardThatHadNothingAlwaysFindsRoom) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 16);
    add_stream("quiet", quiet_uid, 1);
    Flow hot = hot_flow();
    hot.per_second = 150'000;
    hot.sources = 200;
    std::array flood{hot};
    run(flood, second_ns);
    // One datagram a second, the size of a jumbo frame, in the middle of it.
    Flow rare{.door_port = quiet_port, .per_second = 1, .bytes = 8900};
    for (int i = 0; i < 3; ++i) {
        offer(rare);
        run(flood, second_ns / 5);
    }
    EXPECT_EQ(rare.missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
    EXPECT_EQ(committed[quiet_uid].records, 3U);
    EXPECT_LT(committed[quiet_uid].slowest_ns, quiet_latency_ns_max);
}

TEST_F(OverloadTest, ADoorAtFullBlastLeavesAnotherDoorOfItsShardAlone) {
    make({.doors = {"shared", "shared"}});
    add_stream("shared", hot_uid, 1);
    std::array flows{hot_flow(), quiet_flow()};
    run(flows, 2 * second_ns);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(dropped_at(0), flows[0].sent / 3) << "no overload";
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
}

TEST_F(OverloadTest, RequestsGetThroughBesideAFloodIntoTheirShardAndIntoAnother) {
    make({.doors = {"hot"}});
    add_stream("hot", hot_uid, 1);
    add_stream("quiet", quiet_uid, 1);
    for (const std::uint64_t uid : {hot_uid, quiet_uid}) {
        std::array flood{hot_flow()};
        run(flood, second_ns);
        const std::vector<std::string> texts(20, std::string(500, 'r'));
        const std::uint64_t refused_before = drops(DropReason::shard_behind);
        for (unsigned i = 0; i < 10; ++i) {
            AppendRequest request;
            add_run(request, ShardUid{uid}, texts);
            request.reply_to = &replies;
            ASSERT_TRUE(lane->post(request));
            LaneRequest* answer = nullptr;
            run_until(flood, 5 * second_ns, [&] { return (answer = replies.pop()) != nullptr; });
            ASSERT_EQ(answer, &request) << "hangs";
            for (const AppendRequest::Item& item : request.items) {
                EXPECT_EQ(item.verdict, AppendVerdict::accepted) << describe(item.verdict);
            }
        }
        EXPECT_GT(drops(DropReason::shard_behind), refused_before) << "no overload";
    }
}

TEST_F(OverloadTest, AFloodOnOnePortLeavesTheOtherPortAlone) {
    make({.ports = 2, .doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 1);
    add_stream("quiet", quiet_uid, 1);
    std::array flows{hot_flow(), quiet_flow()};
    // More than a lane takes: the ring of its port overflows.
    flows[0].per_second = 5'000'000;
    flows[0].bytes = 60;
    flows[1].port = 1;
    run(flows, second_ns / 4);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(flows[0].missed, 0U) << "no overload";
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
}

TEST_F(OverloadTest, AFloodThatNoDoorWantsCostsTheOthersNothing) {
    make({.doors = {"hot", "quiet"}});
    add_stream("quiet", quiet_uid, 1);
    std::array flows{Flow{.door_port = 4999, .per_second = 1'000'000, .bytes = 60}, quiet_flow(),
                     Flow{.door_port = hot_port, .per_second = 500'000, .bytes = 60}};
    run(flows, second_ns / 2);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_EQ(drops(DropReason::no_door), flows[0].sent);
    EXPECT_EQ(drops(DropReason::stream_missing), flows[2].sent);
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
    EXPECT_LT(committed[quiet_uid].slowest_ns, quiet_latency_ns_max);
}

// Slow enough to hold buffers, not so slow that it is left behind at once.
TEST_F(OverloadTest, ASlowReplicaUnderAFloodStarvesNobody) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 16);
    add_stream("quiet", quiet_uid, 1);
    world->faults(2).latency_factor = 8;
    std::array flows{hot_flow(), quiet_flow()};
    flows[0].per_second = 120'000;
    flows[0].sources = 200;
    run(flows, 3 * second_ns);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(drops(DropReason::shard_behind), flows[0].sent / 4) << "no overload";
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
    EXPECT_LT(committed[quiet_uid].slowest_ns, quiet_latency_ns_max);
}

TEST_F(OverloadTest, AReplicaThatStallsUnderAFloodStarvesNobody) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 16);
    add_stream("quiet", quiet_uid, 1);
    std::array flows{hot_flow(), quiet_flow()};
    flows[0].sources = 200;
    run(flows, second_ns / 2);
    world->stall(2, 10 * second_ns);
    run(flows, 3 * second_ns);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_EQ(flows[1].missed, 0U);
    EXPECT_EQ(dropped_at(1), 0U);
    // Every commit needs both of the others, and a place in the journal is free when the slower of
    // the two has written and flushed what held it: one more round than with three.
    EXPECT_LT(committed[quiet_uid].slowest_ns, quiet_latency_ns_max + 2 * 80'000'000);
}

// What a shard may have in memory bounds what it waits for: memory divided by the drives' rate.
TEST_F(OverloadTest, WhatIsAcceptedOfAFloodIsCommittedInBoundedTime) {
    make({.doors = {"hot"}});
    add_stream("hot", hot_uid, 1);
    std::array flows{hot_flow()};
    run(flows, 3 * second_ns);
    const double rate = static_cast<double>(committed[hot_uid].bytes) / 3.0;
    const double bound_s = static_cast<double>(pool->size_bytes()) / rate;
    EXPECT_LT(static_cast<double>(committed[hot_uid].slowest_ns), 1e9 * bound_s);
    EXPECT_GT(drops(DropReason::shard_behind), flows[0].sent / 3) << "no overload";
}

TEST_F(OverloadTest, AFloodEndsAndAllMemoryComesBack) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 16);
    add_stream("quiet", quiet_uid, 1);
    std::array flows{hot_flow(), quiet_flow()};
    flows[0].sources = 200;
    run(flows, second_ns);
    empty_rings();
    for (int i = 0; i < 1'000'000 && !lane->group(GroupId{1})->drain(); ++i) {
        (void)lane->turn();
        world->advance(turn_ns);
    }
    EXPECT_EQ(pool->used_bytes(), 0U);
    EXPECT_TRUE(pool->spares(pool->size_bytes() / 4, 0, 0));
}

// Each has a little in the journal, which fills, and a little more that waits for room there.
TEST_F(OverloadTest, ThousandsOfShardsAtFullBlastDoNotStandStill) {
    Setup setup;
    setup.memory_bytes = 64U << 20;
    setup.doors = {"hot"};
    setup.disks.write = {2'000'000, 4'000'000};
    setup.disks.write_durable = {3'000'000, 6'000'000};
    setup.disks.flush = {3'000'000, 6'000'000};
    make(setup);
    add_stream("hot", hot_uid, 2048);
    std::array flows{hot_flow()};
    flows[0].per_second = 2'000'000;
    flows[0].sources = 8000;
    run(flows, second_ns / 4);
    const std::uint64_t before = lane->counters().records_from_doors.get();
    run(flows, second_ns / 2);
    // A write takes 5 ms and carries ten records or more.
    EXPECT_GT(lane->counters().records_from_doors.get() - before, 8'000U);
}

// -- When nobody finds memory ---------------------------------------------------------------------

TEST_F(OverloadTest, PacketsStayInTheRingOnlyWhileNobodyFindsMemory) {
    make({.doors = {"hot", "quiet"}});
    add_stream("hot", hot_uid, 1);
    add_stream("quiet", quiet_uid, 1);
    while (pool->take(FramePool::smallest) != nullptr) {
    }
    std::array flows{hot_flow(), quiet_flow()};
    for (int i = 0; i < 100; ++i) {
        offer(flows[0]);
        offer(flows[1]);
    }
    (void)lane->turn();
    EXPECT_EQ(drops(DropReason::no_memory), 64U) << "one burst";
    (void)lane->turn();
    EXPECT_EQ(drops(DropReason::no_memory), 64U) << "the rest waits";
    EXPECT_EQ(lane->counters().holds.get(), 1U);
    world->advance(200'000);
    (void)lane->turn();
    EXPECT_EQ(drops(DropReason::no_memory), 128U);
    EXPECT_EQ(dropped_at(0) + dropped_at(1), 128U);
}

// -- Reasons that take some doing to reach --------------------------------------------------------

TEST_F(OverloadTest, SpaceThatIsStillBeingReservedIsNoRoom) {
    Setup setup;
    setup.doors = {"hot"};
    setup.memory_bytes = 128U << 20;
    setup.disks.allocate = {3 * second_ns, 4 * second_ns};
    make(setup);
    add_stream("hot", hot_uid, 16);
    std::array flows{hot_flow()};
    flows[0].per_second = 150'000;
    flows[0].sources = 200;
    run(flows, second_ns / 2);
    EXPECT_GT(drops(DropReason::no_room), 0U);
}

TEST_F(OverloadTest, DisksWithoutSpaceRefuseAndSaySo) {
    make({.doors = {"hot"}});
    add_stream("hot", hot_uid, 1);
    for (unsigned r = 0; r < replica_count; ++r) {
        world->faults(r).capacity_bytes = world->used_bytes(r) + (1U << 20);
    }
    std::array flows{hot_flow()};
    flows[0].per_second = 20'000;
    run(flows, 5 * second_ns);
    empty_rings();
    expect_all_accounted_for(flows);
    EXPECT_GT(drops(DropReason::disk_full), 0U);
    EXPECT_TRUE(lane->group(GroupId{1})->gauges().disk_full);
}

TEST_F(OverloadTest, RefusedRequestsAreCountedByTheirReason) {
    make({.doors = {"hot"}});
    add_stream("hot", hot_uid, 1);
    lane->group(GroupId{1})->replica_out(2);
    const std::vector<std::string> texts{"one", "two"};
    AppendRequest all;
    all.level = AckLevel::all;
    add_run(all, ShardUid{hot_uid}, texts);
    ask(all);
    EXPECT_EQ(lane->counters().refused_api.get(DropReason::needs_all), 2U);
    AppendRequest nowhere;
    add_run(nowhere, ShardUid{9}, texts);
    ask(nowhere);
    EXPECT_EQ(lane->counters().refused_api.get(DropReason::unknown_shard), 2U);
    EXPECT_EQ(lane->counters().records_refused_api.get(), 4U);
}

// -- Two lanes ------------------------------------------------------------------------------------

// The lane that owns the shards is late; the ring to it fills.
TEST_F(OverloadTest, AFloodForAnotherLaneLeavesOthersRoomInTheRing) {
    make({.doors = {"hot", "quiet"}});
    SpscByteRing out(64U << 10);
    SpscByteRing in(64U << 10);
    WakeFlag wake(false);
    lane->connect(1, out, in, wake);
    std::vector<StreamRoute> all;
    for (const auto& [name, uid] : {std::pair{"hot", hot_uid}, std::pair{"quiet", quiet_uid}}) {
        all.push_back(
            StreamRoute::make(name, {{{}, {UINT64_MAX, UINT64_MAX}, ShardUid{uid}, GroupId{2}, 1}})
                .value());
    }
    routes.publish(RouteTable::make(std::move(all), door_streams).value());
    std::array flows{hot_flow(), quiet_flow()};
    std::uint64_t taken_of_quiet = 0;
    unsigned turns = 0;
    run(flows, second_ns / 4, [&] {
        if (++turns % 10 != 0) {
            return;
        }
        for (int i = 0; i < 10; ++i) {  // less than comes
            const Bytes bytes = out.front();
            if (bytes.data() == nullptr) {
                break;
            }
            taken_of_quiet += load<HandedRecord>(bytes.data()).shard == quiet_uid ? 1U : 0U;
            out.pop();
        }
        out.release();
    });
    EXPECT_GT(door(0).drops.get(DropReason::lane_ring_full), flows[0].sent / 3) << "no overload";
    EXPECT_EQ(door(1).drops.get(DropReason::lane_ring_full), 0U);
    EXPECT_GT(taken_of_quiet, 0U);
}

TEST_F(OverloadTest, ARecordThatNoRingToItsLaneTakesIsTooLarge) {
    make({.doors = {"hot"}});
    SpscByteRing out(4096);
    SpscByteRing in(4096);
    WakeFlag wake(false);
    lane->connect(1, out, in, wake);
    std::vector<StreamRoute> all;
    all.push_back(
        StreamRoute::make("hot", {{{}, {UINT64_MAX, UINT64_MAX}, ShardUid{hot_uid}, GroupId{2}, 1}})
            .value());
    routes.publish(RouteTable::make(std::move(all), door_streams).value());
    Flow large{.door_port = hot_port, .per_second = 1, .bytes = 4000};
    offer(large);
    (void)lane->turn();
    EXPECT_EQ(drops(DropReason::too_large), 1U);
}

// -- The transmit side ----------------------------------------------------------------------------

TEST(Overload, AnAnswerThatCannotBeSentIsCounted) {
    SimWorld world(SimOptions{});
    SimPort port(1, our_mac, {parse_prefix("192.0.2.1/24").value()});
    LaneOptions options;
    options.clock = &world.clock();
    options.ports = {&port};
    options.trap_allocations = false;
    Lane lane(std::move(options));
    Buffer arp;
    put16(arp, 1);
    put16(arp, 0x0800);
    put8(arp, 6);
    put8(arp, 4);
    put16(arp, 1);
    put(arp, their_mac.bytes);
    for (const unsigned byte : {192U, 0U, 2U, 2U, 0U, 0U, 0U, 0U, 0U, 0U, 192U, 0U, 2U, 1U}) {
        put8(arp, byte);
    }
    const Buffer frame = ethernet(0x0806, arp);
    port.queue(0).push_frame(frame);
    (void)lane.turn();
    EXPECT_EQ(lane.counters().answered.get(), 1U);
    port.queue(0).set_transmit_full(true);
    port.queue(0).push_frame(frame);
    (void)lane.turn();
    EXPECT_EQ(lane.counters().drops.get(DropReason::tx_full), 1U);
    lane.finish();
}

}  // namespace
}  // namespace penstock::test
