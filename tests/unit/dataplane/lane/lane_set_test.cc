// Lanes on their own threads: handing over, requests from several threads, stopping, idling.
#include "dataplane/lane/lane_set.h"

#include <sched.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "dataplane/port/sim_port.h"
#include "dataplane/wire/partition_hash.h"
#include "tests/unit/dataplane/lane/real_storage.h"
#include "tests/unit/dataplane/lane/support.h"

namespace penstock {
namespace {

using test::add_run;
using test::wait_reply;

constexpr std::uint16_t door_port = 5140;

DoorSpec logs_door() {
    DoorSpec spec;
    spec.port = door_port;
    spec.stream = "logs";
    return spec;
}

// Two CPUs this process may use, or fewer.
std::vector<unsigned> some_cpus() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    std::vector<unsigned> cpus;
    if (sched_getaffinity(0, sizeof usable, &usable) == 0) {
        for (unsigned cpu = 0; cpu < CPU_SETSIZE && cpus.size() < 2; ++cpu) {
            if (CPU_ISSET(cpu, &usable)) {
                cpus.push_back(cpu);
            }
        }
    }
    return cpus;
}

class LaneSetTest : public ::testing::Test {
protected:
    void make(LaneSetOptions options) {
        options.clock = &clock;
        options.group_count = 2;
        options.trap_allocations = false;  // simulated ports and disks allocate freely
        std::string why;
        auto made = LaneSet::make(std::move(options), why);
        ASSERT_TRUE(made.has_value()) << why;
        lanes = std::move(*made);
        const Status started = lanes->start(
            [this](Lane& lane) {
                auto& own = storage[lane.index()];
                own = std::make_unique<test::SimStorage>(lane.index() + 1);
                std::vector<GroupId> groups;
                for (unsigned id = 1; id <= lanes->group_count(); ++id) {
                    if (lanes->lane_of(GroupId{id}) == lane.index()) {
                        groups.push_back(GroupId{id});
                    }
                }
                return own->open(lane, groups, lanes->group_count());
            },
            why);
        ASSERT_TRUE(started.has_value()) << why;
    }
    void TearDown() override { lanes.reset(); }

    template <typename Request>
    void ask(unsigned lane, Request& request) {
        request.reply_to = &replies;
        ASSERT_TRUE(lanes->post(lane, request));
        ASSERT_EQ(wait_reply(replies), &request);
    }
    void add_shard(ShardUid shard) {
        AddShardRequest request;
        request.shard = shard;
        request.group = lanes->group_for(shard);
        ask(lanes->lane_of(request.group), request);
        ASSERT_EQ(request.outcome, Errc::ok);
    }
    Sequence end_of(ShardUid shard) {
        ShardStatusRequest request;
        request.shard = shard;
        ask(lanes->lane_of(lanes->group_for(shard)), request);
        EXPECT_EQ(request.outcome, Errc::ok);
        return request.status.end_sequence;
    }
    [[nodiscard]] ShardRoute route_to(ShardUid shard) const {
        const GroupId group = lanes->group_for(shard);
        return {{}, {}, shard, group, lanes->lane_of(group)};
    }

    SystemClock clock;
    std::array<std::unique_ptr<test::SimStorage>, 2> storage;
    ReplyRing replies{256};
    std::unique_ptr<LaneSet> lanes;  // first to go
};

TEST_F(LaneSetTest, MakeSaysWhatIsWrong) {
    std::string why;
    LaneSetOptions options;
    options.clock = &clock;
    options.lane_count = 3;
    options.group_count = 2;
    auto made = LaneSet::make(std::move(options), why);
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().code, Errc::invalid_argument);
    EXPECT_NE(why.find("2 data groups"), std::string::npos) << why;

    LaneSetOptions twice;
    twice.clock = &clock;
    twice.doors = {logs_door(), logs_door()};
    made = LaneSet::make(std::move(twice), why);
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().code, Errc::already_exists);
}

TEST_F(LaneSetTest, AFailedPrepareStopsTheOthersAndNamesTheLane) {
    LaneSetOptions options;
    options.clock = &clock;
    options.lane_count = 2;
    options.group_count = 2;
    std::string why;
    lanes = std::move(LaneSet::make(std::move(options), why).value());
    const Status started = lanes->start(
        [](Lane& lane) -> Status {
            return lane.index() == 1 ? Status(fail(Errc::corrupt)) : Status();
        },
        why);
    ASSERT_FALSE(started.has_value());
    EXPECT_EQ(started.error().code, Errc::corrupt);
    EXPECT_NE(why.find("lane 1"), std::string::npos) << why;
    ShardStatusRequest request;
    EXPECT_FALSE(lanes->post(0, request));
}

TEST_F(LaneSetTest, RecordsEndInTheShardOfTheirHashWhicheverLaneTookThem) {
    SimPort port(2);
    LaneSetOptions options;
    options.cpus = some_cpus();
    if (options.cpus.size() < 2) {
        options.cpus.clear();
        options.lane_count = 2;
    }
    options.doors = {logs_door()};
    options.ports = {&port};
    options.handover_ring_bytes = 1U << 20;
    make(std::move(options));
    const std::vector<ShardUid> shards{ShardUid{10}, ShardUid{11}, ShardUid{12}, ShardUid{13}};
    std::vector<ShardRoute> ranges;
    std::map<ShardUid, Sequence> expected;
    for (const ShardUid shard : shards) {
        add_shard(shard);
        ranges.push_back(route_to(shard));
        expected[shard] = end_of(shard);
    }
    auto table = test::even_routes("logs", ranges);

    // Every source on both queues: half of what each lane receives belongs to the other.
    struct Work {
        SimQueue* queue = nullptr;
        std::vector<IpAddress> sources;
    };
    std::array<Work, 2> work;
    constexpr unsigned rounds = 10;
    for (unsigned i = 0; i < 200; ++i) {
        const std::string text = "192.0.2." + std::to_string(i);
        const StreamRoute* stream = table->of_door(0);
        expected[stream->find(partition_hash(as_bytes(text)))->shard] += 2 * rounds;
        for (Work& w : work) {
            w.sources.push_back(parse_address(text).value());
        }
    }
    lanes->publish(std::move(table));
    for (unsigned round = 0; round < rounds; ++round) {
        for (unsigned i = 0; i < 2; ++i) {
            work[i].queue = &port.queue(i);
            CallRequest call;
            call.argument = &work[i];
            call.function = [](Lane&, void* argument) {
                Work& todo = *static_cast<Work*>(argument);
                for (const IpAddress& source : todo.sources) {
                    todo.queue->push_payload(source, door_port, as_bytes("a reading"));
                }
                return Errc::ok;
            };
            ask(i, call);
        }
    }
    std::map<ShardUid, Sequence> seen;
    for (int tries = 0; tries < 1000 && seen != expected; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        for (const ShardUid shard : shards) {
            seen[shard] = end_of(shard);
        }
    }
    EXPECT_EQ(seen, expected);
    std::uint64_t handed = 0;
    std::uint64_t taken = 0;
    std::uint64_t records = 0;
    for (unsigned i = 0; i < 2; ++i) {
        handed += lanes->lane(i).counters().handed_over.get();
        taken += lanes->lane(i).counters().taken_over.get();
        records += lanes->lane(i).counters().records_from_doors.get();
        EXPECT_EQ(lanes->lane(i).counters().drops.get(DropReason::lane_ring_full), 0U);
    }
    EXPECT_GT(handed, 0U);
    EXPECT_EQ(handed, taken);
    EXPECT_EQ(records, 2U * 200 * rounds);
    lanes->stop();
}

TEST_F(LaneSetTest, ADatagramForAnotherLanesPortIsTakenWhereItComesAndCounted) {
    SimPort port(2);
    LaneSetOptions options;
    options.lane_count = 2;
    options.doors = {logs_door()};
    options.doors.front().ports = DoorPorts::per_lane;
    options.ports = {&port};
    make(std::move(options));
    add_shard(ShardUid{11});
    const Sequence before = end_of(ShardUid{11});
    lanes->publish(test::even_routes("logs", {route_to(ShardUid{11})}));
    // Both lanes get three datagrams for lane 0's port and two for lane 1's, and one for no door.
    for (unsigned i = 0; i < 2; ++i) {
        CallRequest call;
        call.argument = &port.queue(i);
        call.function = [](Lane&, void* argument) {
            const IpAddress source = parse_address("192.0.2.1").value();
            for (const unsigned lane : {0U, 0U, 0U, 1U, 1U, 2U}) {
                static_cast<SimQueue*>(argument)->push_payload(
                    source, static_cast<std::uint16_t>(door_port + lane), as_bytes("a reading"));
            }
            return Errc::ok;
        };
        ask(i, call);
    }
    Sequence end = 0;
    for (int tries = 0; tries < 1000 && end != before + 10; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        end = end_of(ShardUid{11});
    }
    EXPECT_EQ(end, before + 10);
    EXPECT_EQ(lanes->lane(0).counters().astray.get(), 2U);
    EXPECT_EQ(lanes->lane(1).counters().astray.get(), 3U);
    for (unsigned i = 0; i < 2; ++i) {
        EXPECT_EQ(lanes->lane(i).counters().drops.get(DropReason::no_door), 1U);
        EXPECT_EQ((*lanes->lane(i).doors())[0].counters().packets.get(), 5U);
    }
    lanes->stop();
}

TEST_F(LaneSetTest, AFullRingBetweenLanesDropsAndCounts) {
    SimPort port(1);
    LaneSetOptions options;
    options.lane_count = 2;
    options.doors = {logs_door()};
    options.ports = {&port};
    options.handover_ring_bytes = 4096;
    options.budgets.handed_over_records = 1;
    make(std::move(options));
    add_shard(ShardUid{11});  // of group 2, which lane 1 runs; only lane 0 has a queue
    const Sequence before = end_of(ShardUid{11});
    lanes->publish(test::even_routes("logs", {route_to(ShardUid{11})}));
    CallRequest call;
    call.argument = &port.queue(0);
    call.function = [](Lane&, void* argument) {
        const std::string text(500, 'x');
        for (int i = 0; i < 1000; ++i) {
            static_cast<SimQueue*>(argument)->push_payload(parse_address("192.0.2.1").value(),
                                                           door_port, as_bytes(text));
        }
        return Errc::ok;
    };
    ask(0, call);
    const auto& sender = lanes->lane(0).counters();
    for (int tries = 0; tries < 1000 && sender.packets.get() < 1000; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    for (int tries = 0;
         tries < 1000 && lanes->lane(1).counters().taken_over.get() != sender.handed_over.get();
         ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const std::uint64_t dropped = sender.drops.get(DropReason::lane_ring_full);
    EXPECT_GT(dropped, 0U);
    EXPECT_EQ(sender.handed_over.get() + dropped, 1000U);
    Sequence end = 0;
    for (int tries = 0; tries < 1000 && end != before + sender.handed_over.get(); ++tries) {
        end = end_of(ShardUid{11});
    }
    EXPECT_EQ(end, before + sender.handed_over.get());
    lanes->stop();  // before the port goes
}

TEST_F(LaneSetTest, RequestsOfSeveralThreadsAreEachAnsweredOnce) {
    LaneSetOptions options;
    options.lane_count = 2;
    make(std::move(options));
    add_shard(ShardUid{10});
    add_shard(ShardUid{11});
    const std::array<Sequence, 2> before{end_of(ShardUid{10}), end_of(ShardUid{11})};
    constexpr unsigned clients = 3;
    constexpr unsigned rounds = 200;
    constexpr unsigned at_once = 8;
    std::atomic<std::uint64_t> committed{0};
    std::vector<std::unique_ptr<ReplyRing>> rings;  // outlive the lanes' last signal
    for (unsigned c = 0; c < clients; ++c) {
        rings.push_back(std::make_unique<ReplyRing>(at_once));
    }
    std::vector<std::thread> threads;
    for (unsigned c = 0; c < clients; ++c) {
        threads.emplace_back([&, c] {
            const std::vector<std::string> texts{"a", "b", "c"};
            for (unsigned round = 0; round < rounds; ++round) {
                std::vector<AppendRequest> requests(at_once);
                std::map<LaneRequest*, unsigned> answers;
                for (unsigned i = 0; i < at_once; ++i) {
                    const ShardUid shard{10 + (c + i) % 2};
                    add_run(requests[i], shard, texts);
                    requests[i].reply_to = rings[c].get();
                    while (!lanes->post(lanes->lane_of(lanes->group_for(shard)), requests[i])) {
                        std::this_thread::yield();
                    }
                }
                for (unsigned i = 0; i < at_once; ++i) {
                    LaneRequest* request = wait_reply(*rings[c]);
                    ASSERT_NE(request, nullptr) << "a wake-up or an answer was lost";
                    ++answers[request];
                }
                ASSERT_EQ(answers.size(), at_once);
                for (const AppendRequest& request : requests) {
                    ASSERT_EQ(request.outcome, Errc::ok);
                    committed += request.runs[0].committed == Errc::ok ? 3 : 0;
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(committed, std::uint64_t{clients} * rounds * at_once * 3);
    EXPECT_EQ(end_of(ShardUid{10}) - before[0] + end_of(ShardUid{11}) - before[1], committed);
    EXPECT_EQ(lanes->stop(), DrainOutcome{});
}

TEST_F(LaneSetTest, StoppingUnderLoadAnswersEveryRequestThatWasTaken) {
    LaneSetOptions options;
    options.lane_count = 2;
    make(std::move(options));
    add_shard(ShardUid{10});
    add_shard(ShardUid{11});
    constexpr unsigned clients = 3;
    constexpr std::size_t most = 20'000;
    std::vector<std::unique_ptr<ReplyRing>> rings;
    std::vector<std::vector<AppendRequest>> requests(clients);
    std::array<std::atomic<std::size_t>, clients> posted{};
    const std::vector<std::string> texts{"a record"};
    for (unsigned c = 0; c < clients; ++c) {
        rings.push_back(std::make_unique<ReplyRing>(most));
        requests[c].resize(most);
        for (AppendRequest& request : requests[c]) {
            add_run(request, ShardUid{10 + c % 2}, texts);
            request.reply_to = rings[c].get();
        }
    }
    std::vector<std::thread> threads;
    for (unsigned c = 0; c < clients; ++c) {
        threads.emplace_back([&, c] {
            // Refusals while the inbox is full are temporary, after the lane closed for ever.
            while (posted[c] < most) {
                if (lanes->post(c % 2, requests[c][posted[c]])) {
                    ++posted[c];
                } else if (lanes->lane(c % 2).closed()) {
                    break;
                } else {
                    std::this_thread::yield();
                }
            }
        });
    }
    for (const auto& count : posted) {
        while (count < 100) {
            std::this_thread::yield();
        }
    }
    lanes->stop();
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (unsigned c = 0; c < clients; ++c) {
        std::size_t answered = 0;
        while (LaneRequest* request = rings[c]->pop()) {
            ++answered;
            EXPECT_TRUE(request->outcome == Errc::ok || request->outcome == Errc::canceled);
        }
        EXPECT_EQ(answered, posted[c]);
    }
}

TEST_F(LaneSetTest, OneLaneThatCannotDrainIsWhatStoppingTells) {
    LaneSetOptions options;
    options.lane_count = 2;
    options.stop_deadline_ns = 50'000'000;
    make(std::move(options));
    add_shard(ShardUid{10});
    add_shard(ShardUid{11});
    const std::vector<std::string> texts{"a record"};
    for (const ShardUid shard : {ShardUid{10}, ShardUid{11}}) {
        AppendRequest request;
        add_run(request, shard, texts);
        ask(lanes->lane_of(lanes->group_for(shard)), request);
        ASSERT_EQ(request.outcome, Errc::ok);
    }
    CallRequest stall;
    stall.function = [](Lane&, void* world) {
        static_cast<SimWorld*>(world)->stall(0, 3'600'000'000'000);
        static_cast<SimWorld*>(world)->stall(1, 3'600'000'000'000);
        return Errc::ok;
    };
    stall.argument = &storage[1]->world;
    ask(1, stall);
    const DrainOutcome outcome = lanes->stop();
    EXPECT_FALSE(outcome.finished);
    EXPECT_GT(outcome.left_bytes, 0U);
    EXPECT_EQ(lanes->stop(), outcome) << "asked again it says the same";
    EXPECT_TRUE(lanes->lane(0).drain_outcome().finished);
}

TEST_F(LaneSetTest, ReplacedRoutesAreFreedWhileLanesIdle) {
    LaneSetOptions options;
    options.lane_count = 2;
    make(std::move(options));
    for (int i = 0; i < 20; ++i) {
        lanes->publish(test::even_routes("logs", {route_to(ShardUid{10})}));
    }
    std::size_t held = 1;
    for (int tries = 0; tries < 1000 && held != 0; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        held = lanes->reclaim_routes();
    }
    EXPECT_EQ(held, 0U);
}

class RefusingPort final : public Port {
public:
    class Queue final : public PortQueue {
    public:
        Queue() { drops_.add(DropReason::segment_chain_too_long, 4); }
        std::uint16_t receive(std::span<Packet>) noexcept override { return 0; }
        void release(std::span<const Packet>) noexcept override {}
        bool send(Bytes) noexcept override { return false; }
        std::uint32_t ring_packets() const noexcept override { return 1; }
    };
    std::string describe() const override { return "refusing"; }
    unsigned queue_count() const noexcept override { return 1; }
    PortQueue& queue(unsigned) noexcept override { return queue_; }
    PortStats stats() noexcept override {
        PortStats stats;
        stats.missed = 1;
        stats.errors = 2;
        stats.no_buffer = 3;
        return stats;
    }

private:
    Queue queue_;
};

TEST_F(LaneSetTest, WhatDevicesAndQueuesRefusedIsInTheTotals) {
    RefusingPort one;
    RefusingPort two;
    LaneSetOptions options;
    options.lane_count = 2;
    make(std::move(options));
    const std::array<Port*, 2> ports{&one, &two};
    const auto totals = drop_totals(*lanes, ports);
    const auto of = [&totals](DropReason reason) {
        return totals[static_cast<std::size_t>(reason)];
    };
    EXPECT_EQ(of(DropReason::nic_missed), 2U);
    EXPECT_EQ(of(DropReason::nic_error), 4U);
    EXPECT_EQ(of(DropReason::nic_no_buffer), 6U);
    EXPECT_EQ(of(DropReason::segment_chain_too_long), 8U);
    EXPECT_EQ(of(DropReason::no_door), 0U);
}

// On io_uring and real files, with the allocation trap where the build has it. `ports` are polled.
void commit_then_idle(const std::vector<Port*>& ports, const char* what) {
    test::RealStorage first;
    test::RealStorage second;
    if (!first.usable() || !second.usable()) {
        GTEST_SKIP() << "io_uring cannot be used here: " << first.reason();
    }
    SystemClock clock;
    LaneSetOptions options;
    options.clock = &clock;
    options.lane_count = 2;
    options.group_count = 2;
    options.ports = ports;
    std::string why;
    auto lanes = std::move(LaneSet::make(std::move(options), why).value());
    const Status started = lanes->start(
        [&](Lane& lane) {
            return (lane.index() == 0 ? first : second)
                .open(lane, {GroupId{lane.index() + 1}}, 2, clock);
        },
        why);
    ASSERT_TRUE(started.has_value()) << why;
    ReplyRing replies(16);
    const std::vector<std::string> texts(100, std::string(1000, 'x'));
    for (unsigned i = 0; i < 2; ++i) {
        AddShardRequest add;
        add.shard = ShardUid{10 + i};
        add.group = lanes->group_for(add.shard);
        add.reply_to = &replies;
        ASSERT_TRUE(lanes->post(i, add));
        ASSERT_EQ(wait_reply(replies), &add);
        ASSERT_EQ(add.outcome, Errc::ok);
        AppendRequest append;
        add_run(append, add.shard, texts);
        append.reply_to = &replies;
        ASSERT_TRUE(lanes->post(i, append));
        ASSERT_EQ(wait_reply(replies), &append);
        EXPECT_EQ(append.runs[0].committed, Errc::ok);
    }
    // Let moves to segments and the idle ramp pass, then look at what the process uses.
    std::this_thread::sleep_for(std::chrono::seconds(3));
    const auto cpu_us = [] {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000L +
               usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    };
    const long before_us = cpu_us();
    std::this_thread::sleep_for(std::chrono::seconds(2));
    const long used_us = cpu_us() - before_us;
    std::printf("idle with %s: %.2f %% of a core per lane\n", what,
                static_cast<double>(used_us) / 40'000.0);
    // The goal is 2 % per lane, 80 ms here; a loaded machine and sanitizers cost a few times that,
    // and a lane that does not sleep costs 2 s.
    EXPECT_LT(used_us, 400'000) << "idle lanes do not sleep";
    lanes->stop();
}

TEST(LaneOnFiles, TwoLanesCommitAndSleepWhenIdle) {
    commit_then_idle({}, "no port");
}

TEST(LaneOnFiles, TwoLanesSleepBetweenLooksAtAPortThatMustBePolled) {
    SimPort port(2);
    commit_then_idle({&port}, "a polled port");
}

}  // namespace
}  // namespace penstock
