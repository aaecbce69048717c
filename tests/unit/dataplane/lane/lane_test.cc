// One lane, its turns driven by the test, on simulated disks and a simulated clock.
#include "dataplane/lane/lane.h"

#include <gtest/gtest.h>

#include "dataplane/port/sim_port.h"
#include "tests/unit/dataplane/lane/support.h"

namespace penstock {
namespace {

using test::add_run;

constexpr ShardUid shard_a{10};
constexpr ShardUid shard_b{11};
constexpr std::uint16_t door_port = 5140;

class LaneTest : public ::testing::Test {
protected:
    void SetUp() override { make_lane({}); }
    void TearDown() override {
        lane.reset();  // before the engine its groups use
    }

    void make_lane(const LaneBudgets& budgets, std::uint64_t stop_deadline_ns = 10'000'000'000) {
        LaneOptions options;
        options.clock = &storage.world.clock();
        options.budgets = budgets;
        options.ports = {&port};
        options.routes = &routes;
        options.stop_deadline_ns = stop_deadline_ns;
        options.trap_allocations = false;  // simulated ports and disks allocate freely
        DoorSpec spec;
        spec.port = door_port;
        spec.stream = "logs";
        spec.framing = DoorFraming::lines;
        std::vector<std::unique_ptr<DoorQuota>> quotas(1);
        options.doors = std::make_unique<DoorSet>(std::vector{spec}, quotas);
        lane = std::make_unique<Lane>(std::move(options));
        const Status opened = storage.open(*lane, {GroupId{1}}, 1);
        ASSERT_TRUE(opened.has_value()) << describe(opened.error());
    }

    // Turns until `replies` has an answer.
    LaneRequest* answer() {
        for (int i = 0; i < 200'000; ++i) {
            if (LaneRequest* request = replies.pop(); request != nullptr) {
                return request;
            }
            if (lane->turn() == 0) {
                storage.world.advance(10'000);
            }
        }
        return nullptr;
    }
    template <typename Request>
    void ask(Request& request) {
        request.reply_to = &replies;
        ASSERT_TRUE(lane->post(request));
        ASSERT_EQ(answer(), &request);
    }
    void add_shard(ShardUid shard) {
        AddShardRequest request;
        request.shard = shard;
        request.group = GroupId{1};
        ask(request);
        ASSERT_EQ(request.outcome, Errc::ok);
    }
    Sequence end_of(ShardUid shard) {
        ShardStatusRequest request;
        request.shard = shard;
        ask(request);
        EXPECT_EQ(request.outcome, Errc::ok);
        return request.status.end_sequence;
    }
    std::uint64_t drops(DropReason reason) { return lane->counters().drops.get(reason); }
    void turns(int count) {
        for (int i = 0; i < count; ++i) {
            (void)lane->turn();
            storage.world.advance(10'000);
        }
    }
    void send(std::string_view text, std::uint16_t to = door_port) {
        port.queue(0).push_payload(parse_address("192.0.2.1").value(), to, as_bytes(text));
    }

    test::SimStorage storage;
    SimPort port{1};
    Routes routes{1};
    ReplyRing replies{64};
    std::unique_ptr<Lane> lane;
};

TEST_F(LaneTest, AnswersAnAppendOnceItsRecordsAreCommitted) {
    add_shard(shard_a);
    const Sequence before = end_of(shard_a);
    const std::vector<std::string> texts{"one", "two", "three"};
    AppendRequest request;
    add_run(request, shard_a, texts);
    ask(request);
    EXPECT_EQ(request.outcome, Errc::ok);
    EXPECT_EQ(request.runs[0].committed, Errc::ok);
    for (std::size_t i = 0; i < texts.size(); ++i) {
        EXPECT_EQ(request.items[i].verdict, AppendVerdict::accepted);
        EXPECT_EQ(request.items[i].appended.sequence, before + i);
    }
    EXPECT_EQ(end_of(shard_a), before + 3);
    EXPECT_EQ(lane->counters().records_from_api.get(), 3U);
    EXPECT_EQ(lane->counters().commit_latency_ns.snapshot().count, 3U);
    EXPECT_EQ(replies.pop(), nullptr) << "answered twice";
}

TEST_F(LaneTest, ARefusedRecordTakesTheRestOfItsRunWithItButNotOtherRuns) {
    add_shard(shard_a);
    add_shard(shard_b);
    const std::vector<std::string> run_a{"fits", std::string(max_record_bytes + 1, 'x'), "later"};
    const std::vector<std::string> run_b{"other"};
    const std::vector<std::string> nowhere{"lost"};
    AppendRequest request;
    add_run(request, shard_a, run_a);
    add_run(request, ShardUid{999}, nowhere);
    add_run(request, shard_b, run_b);
    ask(request);
    EXPECT_EQ(request.items[0].verdict, AppendVerdict::accepted);
    EXPECT_EQ(request.items[1].verdict, AppendVerdict::too_large);
    EXPECT_EQ(request.items[2].verdict, AppendVerdict::too_large);
    EXPECT_EQ(request.items[3].verdict, AppendVerdict::unknown_shard);
    EXPECT_EQ(request.items[4].verdict, AppendVerdict::accepted);
    EXPECT_EQ(request.runs[0].committed, Errc::ok);
    EXPECT_EQ(request.runs[2].committed, Errc::ok);
    EXPECT_EQ(lane->counters().records_refused_api.get(), 3U);
}

TEST_F(LaneTest, AnEmptyAppendIsAnsweredAtOnce) {
    AppendRequest request;
    ask(request);
    EXPECT_EQ(request.outcome, Errc::ok);
}

TEST_F(LaneTest, ALargeAppendTakesSeveralTurnsAndKeepsItsOrder) {
    lane.reset();
    LaneBudgets budgets;
    budgets.append_bytes = 1000;
    make_lane(budgets);
    add_shard(shard_a);
    const Sequence before = end_of(shard_a);
    const std::vector<std::string> texts(50, std::string(400, 'x'));
    const std::vector<std::string> last{"last"};
    AppendRequest large;
    AppendRequest small;
    add_run(large, shard_a, texts);
    add_run(small, shard_a, last);
    large.reply_to = &replies;
    small.reply_to = &replies;
    ASSERT_TRUE(lane->post(large));
    ASSERT_TRUE(lane->post(small));
    (void)lane->turn();
    EXPECT_LE(lane->counters().records_from_api.get(), 3U);
    EXPECT_GE(lane->counters().records_from_api.get(), 2U);
    ASSERT_NE(answer(), nullptr);
    ASSERT_NE(answer(), nullptr);
    for (std::size_t i = 0; i < texts.size(); ++i) {
        ASSERT_EQ(large.items[i].appended.sequence, before + i);
    }
    EXPECT_EQ(small.items[0].appended.sequence, before + 50);
}

TEST_F(LaneTest, ControlRequestsReachTheirGroup) {
    add_shard(shard_a);
    SetRetentionRequest retention;
    retention.shard = shard_a;
    retention.retention_ms = 48LL * 3600 * 1000;
    ask(retention);
    EXPECT_EQ(retention.outcome, Errc::ok);

    SnapshotRequest snapshot;
    snapshot.group = GroupId{1};
    ask(snapshot);
    EXPECT_EQ(snapshot.outcome, Errc::ok);
    EXPECT_EQ(snapshot.gauges.shards, 1U);

    ReadPlanRequest plan;
    plan.shard = shard_a;
    ask(plan);
    EXPECT_EQ(plan.outcome, Errc::ok);
    ReleaseLeaseRequest release;
    release.shard = shard_a;
    release.plan = &plan.plan;
    ask(release);
    EXPECT_EQ(release.outcome, Errc::ok);

    DropShardRequest drop;
    drop.shard = shard_a;
    drop.group = GroupId{1};
    ask(drop);
    EXPECT_EQ(drop.outcome, Errc::ok);
    ShardStatusRequest status;
    status.shard = shard_a;
    ask(status);
    EXPECT_EQ(status.outcome, Errc::not_found);
}

TEST_F(LaneTest, RequestsForAGroupItDoesNotRunAreNotFound) {
    AddShardRequest add;
    add.shard = shard_a;
    add.group = GroupId{9};
    ask(add);
    EXPECT_EQ(add.outcome, Errc::not_found);
    SnapshotRequest snapshot;
    snapshot.group = GroupId{9};
    ask(snapshot);
    EXPECT_EQ(snapshot.outcome, Errc::not_found);
}

TEST_F(LaneTest, RunsACallBetweenTurns) {
    CallRequest call;
    int argument = 41;
    call.argument = &argument;
    call.function = [](Lane& on, void* what) {
        EXPECT_NE(on.group(GroupId{1}), nullptr);
        ++*static_cast<int*>(what);
        return Errc::unavailable;
    };
    ask(call);
    EXPECT_EQ(argument, 42);
    EXPECT_EQ(call.outcome, Errc::unavailable);
}

TEST_F(LaneTest, DatagramsBecomeRecordsOfTheDoorsStream) {
    add_shard(shard_a);
    const Sequence before = end_of(shard_a);
    routes.publish(test::even_routes("logs", {{{}, {}, shard_a, GroupId{1}, 0}}));
    send("first\nsecond\n");
    send("third");
    turns(100);
    EXPECT_EQ(end_of(shard_a), before + 3);
    EXPECT_EQ(lane->counters().packets.get(), 2U);
    EXPECT_EQ(lane->counters().packet_bytes.get(), 18U);
    EXPECT_EQ(lane->counters().records_from_doors.get(), 3U);
    EXPECT_EQ(port.queue(0).lent(), 0U) << "packets were not given back";
}

// Marks what it was given instead of encrypting it.
class MarkingSealer final : public RecordSealer {
public:
    void seal(const SealInput& input, RecordSeal& seal, std::byte* to) noexcept override {
        places.push_back(input.place);
        seal.generation = 7;
        std::fill_n(to, input.partition_key.size() + input.data.size(), std::byte{'#'});
    }
    std::vector<RecordPlace> places;
};

std::unique_ptr<const RouteTable> sealed_routes(std::shared_ptr<const StreamSealers> sealers) {
    auto shards = test::even_routes("logs", {{{}, {}, shard_a, GroupId{1}, 0}});
    StreamRoute route = *shards->stream("logs");
    route.set_sealers(std::move(sealers));
    const std::vector<std::string> doors{"logs"};
    auto made = RouteTable::make({route}, doors);
    return std::move(*made);
}

TEST_F(LaneTest, RecordsOfADoorIntoAnEncryptedStreamAreSealedWhereverTheyCameIn) {
    add_shard(shard_a);
    const Sequence before = end_of(shard_a);
    SpscByteRing out(1U << 20);
    SpscByteRing in(1U << 20);
    WakeFlag wake(false);
    lane->connect(1, out, in, wake);
    auto sealers = std::make_shared<StreamSealers>();
    auto made = std::make_unique<MarkingSealer>();
    const MarkingSealer& sealer = *made;
    sealers->by_lane.push_back(std::move(made));
    routes.publish(sealed_routes(sealers));
    send("first\nsecond\n");
    std::byte* at = in.claim(sizeof(HandedRecord) + 2, 0);
    ASSERT_NE(at, nullptr);
    store(at, HandedRecord{value(shard_a), 1, 0, 1, 1});
    EXPECT_TRUE(in.commit());
    turns(100);
    EXPECT_EQ(end_of(shard_a), before + 3);
    ASSERT_EQ(sealer.places.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(sealer.places[i].shard, value(shard_a));
        EXPECT_EQ(sealer.places[i].sequence, before + i);
        EXPECT_GT(sealer.places[i].arrival_ms, 0);
    }
}

TEST_F(LaneTest, WithoutItsKeyRecordsOfAnEncryptedStreamAreRefusedNotStoredInClear) {
    add_shard(shard_a);
    const Sequence before = end_of(shard_a);
    SpscByteRing out(1U << 20);
    SpscByteRing in(1U << 20);
    WakeFlag wake(false);
    lane->connect(1, out, in, wake);
    routes.publish(sealed_routes(std::make_shared<StreamSealers>()));
    send("first\nsecond\n");
    std::byte* at = in.claim(sizeof(HandedRecord) + 2, 0);
    ASSERT_NE(at, nullptr);
    store(at, HandedRecord{value(shard_a), 1, 0, 1, 1});
    EXPECT_TRUE(in.commit());
    turns(100);
    EXPECT_EQ(end_of(shard_a), before);
    EXPECT_EQ(drops(DropReason::key_unavailable), 3U);
    EXPECT_EQ((*lane->doors())[0].counters().drops.get(DropReason::key_unavailable), 3U);
}

TEST_F(LaneTest, AShardIsClosedBehindWhatWasHandedOver) {
    add_shard(shard_a);
    const Sequence before = end_of(shard_a);
    SpscByteRing out(1U << 20);
    SpscByteRing in(1U << 20);
    WakeFlag wake(false);
    lane->connect(1, out, in, wake);
    routes.publish(test::even_routes("logs", {{{}, {}, shard_a, GroupId{1}, 0}}));
    const auto hand_over = [&](std::uint32_t count) {
        for (std::uint32_t i = 0; i < count; ++i) {
            std::byte* at = in.claim(sizeof(HandedRecord) + 2, 0);
            ASSERT_NE(at, nullptr);
            store(at, HandedRecord{value(shard_a), 1, 0, 1, 1});
            at[sizeof(HandedRecord)] = std::byte{'k'};
            at[sizeof(HandedRecord) + 1] = std::byte{'d'};
        }
        EXPECT_TRUE(in.commit());
    };
    hand_over(1000);  // more than a turn takes
    CloseShardRequest close;
    close.shard = shard_a;
    close.group = GroupId{1};
    ask(close);
    EXPECT_EQ(close.outcome, Errc::ok);
    EXPECT_EQ(close.status.end_sequence, before + 1000);
    EXPECT_EQ(lane->counters().taken_over.get(), 1000U);
    EXPECT_EQ(lane->counters().drops.get(DropReason::shard_closed), 0U);

    const std::vector<std::string> texts{"late"};
    AppendRequest append;
    add_run(append, shard_a, texts);
    ask(append);
    EXPECT_EQ(append.items[0].verdict, AppendVerdict::shard_closed);
    hand_over(1);
    turns(10);
    EXPECT_EQ(lane->counters().drops.get(DropReason::shard_closed), 1U);
    EXPECT_EQ(end_of(shard_a), before + 1000);
    CloseShardRequest again;
    again.shard = shard_a;
    again.group = GroupId{1};
    ask(again);
    EXPECT_EQ(again.outcome, Errc::ok);
    EXPECT_EQ(again.status.end_sequence, before + 1000);
    again.shard = ShardUid{4711};
    ask(again);
    EXPECT_EQ(again.outcome, Errc::not_found);
}

TEST_F(LaneTest, RecordsThatComeAgainAreAnsweredAsTheFirstTime) {
    add_shard(shard_a);
    const std::vector<std::string> texts{"a", "b", "c", "d"};
    std::vector<ProducerMark> marks;
    for (std::uint32_t i = 0; i < texts.size(); ++i) {
        marks.push_back({5, 0, i, 1});
    }
    const auto put = [&](AppendRequest& request, std::span<const std::size_t> which) {
        std::vector<std::string> own;
        for (const std::size_t i : which) {
            own.push_back(texts[i]);
        }
        add_run(request, shard_a, own);
        for (std::size_t i = 0; i < which.size(); ++i) {
            request.items[i].record.producer = &marks[which[i]];
        }
        ask(request);
        EXPECT_EQ(request.runs[0].committed, Errc::ok);
    };
    const Sequence before = end_of(shard_a);
    AppendRequest part;
    put(part, std::array<std::size_t, 2>{1, 3});
    AppendRequest whole;
    put(whole, std::array<std::size_t, 4>{0, 1, 2, 3});
    EXPECT_EQ(end_of(shard_a), before + 4);
    EXPECT_EQ(lane->counters().records_from_api.get(), 4U);
    const std::array<Sequence, 4> places{before + 2, before, before + 3, before + 1};
    for (std::size_t i = 0; i < places.size(); ++i) {
        EXPECT_EQ(whole.items[i].verdict, AppendVerdict::accepted);
        EXPECT_EQ(whole.items[i].appended.sequence, places[i]);
        EXPECT_EQ(whole.items[i].appended.repeated, i % 2 == 1);
    }
    // As a call for its child asks.
    ProducerLookupRequest lookup;
    lookup.shard = shard_a;
    for (const ProducerMark& mark : marks) {
        lookup.items.emplace_back().mark = mark;
    }
    lookup.items.emplace_back().mark = {5, 0, 9, 1};
    ask(lookup);
    EXPECT_EQ(lookup.outcome, Errc::ok);
    for (std::size_t i = 0; i < places.size(); ++i) {
        EXPECT_TRUE(lookup.items[i].appended.repeated);
        EXPECT_EQ(lookup.items[i].appended.sequence, places[i]);
    }
    EXPECT_FALSE(lookup.items[4].appended.repeated);
    EXPECT_EQ(lookup.items[4].verdict, AppendVerdict::accepted);
    // What was asked for and was not there must not come in afterwards.
    marks[0].offset_in_batch = 9;
    AppendRequest late;
    const std::vector<std::string> late_texts{"late"};
    add_run(late, shard_a, late_texts);
    late.items[0].record.producer = &marks[0];
    ask(late);
    EXPECT_EQ(late.items[0].verdict, AppendVerdict::shard_closed);
    EXPECT_EQ(lane->counters().refused_api.get(DropReason::shard_closed), 1U);
    marks[0].epoch = 1;
    AppendRequest fenced;
    const std::vector<std::string> fenced_texts{"fenced"};
    add_run(fenced, shard_a, fenced_texts);
    fenced.items[0].record.producer = &marks[0];
    ask(fenced);
    EXPECT_EQ(fenced.items[0].verdict, AppendVerdict::shard_closed);
    lookup.shard = ShardUid{4711};
    ask(lookup);
    EXPECT_EQ(lookup.outcome, Errc::not_found);
}

TEST_F(LaneTest, ProducersThatAreFencedOrBehindTheirWindowAreCountedSo) {
    add_shard(shard_a);
    const auto verdict_of = [&](const ProducerMark& mark) {
        const std::vector<std::string> texts{"x"};
        AppendRequest request;
        add_run(request, shard_a, texts);
        request.items[0].record.producer = &mark;
        ask(request);
        return request.items[0].verdict;
    };
    EXPECT_EQ(verdict_of({5, 2, 0, 100}), AppendVerdict::accepted);
    EXPECT_EQ(verdict_of({5, 1, 0, 101}), AppendVerdict::producer_fenced);
    EXPECT_EQ(verdict_of({5, 2, 0, 36}), AppendVerdict::producer_window);
    EXPECT_EQ(lane->counters().refused_api.get(DropReason::producer_fenced), 1U);
    EXPECT_EQ(lane->counters().refused_api.get(DropReason::producer_window), 1U);
    EXPECT_EQ(drop_reason(AppendVerdict::producers_full), DropReason::producers_full);
}

TEST_F(LaneTest, ARecordAboveAQuarterOfTheMemoryIsNeverPushedBack) {
    lane.reset();
    storage.memory_bytes = 16U << 20;
    make_lane({});
    add_shard(shard_a);
    const auto verdict_of = [&](std::size_t bytes) {
        AppendRequest request;
        const std::vector<std::string> texts{std::string(bytes, 'x')};
        add_run(request, shard_a, texts);
        ask(request);
        return request.items[0].verdict;
    };
    EXPECT_EQ(verdict_of(1000), AppendVerdict::accepted);
    EXPECT_NE(verdict_of(3U << 20), AppendVerdict::too_large);
    EXPECT_EQ(verdict_of(5U << 20), AppendVerdict::too_large);
}

TEST_F(LaneTest, ATurnHasItsNumber) {
    TurnRequest first;
    ask(first);
    TurnRequest second;
    ask(second);
    EXPECT_GT(second.turn, first.turn);
}

TEST_F(LaneTest, EveryRefusedDatagramIsCountedByItsReason) {
    send("no stream yet");
    turns(2);
    EXPECT_EQ(drops(DropReason::stream_missing), 1U);

    routes.publish(test::even_routes("logs", {{{}, {}, ShardUid{77}, GroupId{1}, 0}}));
    send("no such shard\n and one more");
    turns(2);
    EXPECT_EQ(drops(DropReason::unknown_shard), 2U);

    routes.publish(test::even_routes("logs", {{{}, {}, shard_b, GroupId{2}, 5}}));
    send("no such lane");
    turns(2);
    EXPECT_EQ(drops(DropReason::unknown_shard), 3U);

    send("nobody listens", 9);
    send("");
    const std::array<std::byte, 20> noise{};
    port.queue(0).push_frame(noise);
    turns(2);
    EXPECT_EQ(drops(DropReason::no_door), 1U);
    EXPECT_EQ(drops(DropReason::empty_datagram), 1U);
    std::uint64_t all = 0;
    for (std::size_t i = 1; i < drop_reason_count; ++i) {
        all += drops(static_cast<DropReason>(i));
    }
    EXPECT_EQ(all, 7U) << "one for each refused record or datagram";
    const DoorCounters& door = (*lane->doors())[0].counters();
    EXPECT_EQ(door.drops.get(DropReason::unknown_shard), 3U);
    EXPECT_EQ(door.drops.get(DropReason::stream_missing), 1U);
    EXPECT_EQ(port.queue(0).lent(), 0U);
}

TEST_F(LaneTest, WithoutAQuorumRecordsAreRefusedAndCounted) {
    add_shard(shard_a);
    routes.publish(test::even_routes("logs", {{{}, {}, shard_a, GroupId{1}, 0}}));
    lane->group(GroupId{1})->replica_out(0);
    lane->group(GroupId{1})->replica_out(1);
    send("lost");
    turns(5);
    EXPECT_EQ(drops(DropReason::no_quorum), 1U);
    const std::vector<std::string> texts{"refused"};
    AppendRequest request;
    add_run(request, shard_a, texts);
    ask(request);
    EXPECT_EQ(request.items[0].verdict, AppendVerdict::no_quorum);
}

class TailTest : public LaneTest {
protected:
    void SetUp() override {
        LaneTest::SetUp();
        add_shard(shard_a);
    }
    void append(std::string_view text) {
        const std::vector<std::string> texts{std::string(text)};
        AppendRequest request;
        add_run(request, shard_a, texts);
        request.reply_to = &others;
        ASSERT_TRUE(lane->post(request));
        for (int i = 0; others.pop() == nullptr; ++i) {
            ASSERT_LT(i, 200'000);
            if (lane->turn() == 0) {
                storage.world.advance(10'000);
            }
        }
        ASSERT_EQ(request.runs[0].committed, Errc::ok);
    }
    void wait_for(TailReadRequest& tail, Sequence sequence) {
        tail.shard = shard_a;
        tail.start = {ReadFrom::sequence, sequence, 0};
        tail.reply_to = &replies;
        ASSERT_TRUE(lane->post(tail));
    }
    void release(ReadPlanRequest& read) {
        ReleaseLeaseRequest request;
        request.shard = shard_a;
        request.plan = &read.plan;
        ask(request);
    }
    ReplyRing others{64};
};

TEST_F(TailTest, IsAnsweredInTheTurnThatCommitsItsRecord) {
    const Sequence next = end_of(shard_a);
    TailReadRequest tail;
    wait_for(tail, next);
    turns(50);
    EXPECT_EQ(replies.pop(), nullptr) << "there is nothing yet";
    append("one");
    ASSERT_EQ(replies.pop(), &tail) << "not with the commit";
    EXPECT_EQ(tail.outcome, Errc::ok);
    EXPECT_EQ(tail.plan.first_sequence, next);
    EXPECT_EQ(tail.plan.end_sequence, next + 1);
    EXPECT_EQ(tail.plan.frame_count, 1U) << "from the lane's memory";
    release(tail);
    // What is committed already is answered at once, and all of it.
    append("two");
    wait_for(tail, next);
    ASSERT_EQ(answer(), &tail);
    EXPECT_EQ(tail.plan.first_sequence, next);
    EXPECT_EQ(tail.plan.end_sequence, next + 2);
    release(tail);
}

TEST_F(TailTest, WaitersOfOneShardAreAnsweredEachByItsOwnRecord) {
    const Sequence next = end_of(shard_a);
    std::array<TailReadRequest, 3> tails;
    wait_for(tails[0], next + 1);
    wait_for(tails[1], next);
    wait_for(tails[2], next + 1);
    append("one");
    ASSERT_EQ(replies.pop(), &tails[1]);
    EXPECT_EQ(replies.pop(), nullptr);
    release(tails[1]);
    append("two");
    for (int i = 0; i < 2; ++i) {
        LaneRequest* const got = replies.pop();
        ASSERT_TRUE(got == &tails[0] || got == &tails[2]);
    }
    release(tails[0]);
    release(tails[2]);
}

TEST_F(TailTest, IsTakenBack) {
    const Sequence next = end_of(shard_a);
    std::array<TailReadRequest, 3> tails;
    for (TailReadRequest& tail : tails) {
        wait_for(tail, next);
    }
    CancelTailRequest cancel;
    cancel.tail = &tails[2];  // the last of the shard's list
    cancel.reply_to = &replies;
    ASSERT_TRUE(lane->post(cancel));
    ASSERT_EQ(answer(), &tails[2]);
    EXPECT_EQ(tails[2].outcome, Errc::canceled);
    ASSERT_EQ(answer(), &cancel);
    EXPECT_EQ(cancel.outcome, Errc::ok);
    // Behind the new end of the list a waiter is still found.
    wait_for(tails[2], next);
    append("one");
    for (int i = 0; i < 3; ++i) {
        EXPECT_NE(replies.pop(), nullptr);
    }
    for (TailReadRequest& tail : tails) {
        EXPECT_EQ(tail.outcome, Errc::ok);
        release(tail);
    }
    cancel.tail = &tails[0];
    ask(cancel);
    EXPECT_EQ(cancel.outcome, Errc::not_found) << "it was answered before";
}

TEST_F(TailTest, EndsWithItsShardItsQuorumAndItsLane) {
    std::array<TailReadRequest, 2> tails;
    wait_for(tails[0], end_of(shard_a));
    DropShardRequest drop;
    drop.shard = shard_a;
    drop.group = GroupId{1};
    drop.reply_to = &others;
    ASSERT_TRUE(lane->post(drop));
    ASSERT_EQ(answer(), &tails[0]);
    EXPECT_EQ(tails[0].outcome, Errc::not_found);
    wait_for(tails[0], 1);
    ASSERT_EQ(answer(), &tails[0]);
    EXPECT_EQ(tails[0].outcome, Errc::not_found) << "of a shard that is gone";
    add_shard(shard_b);
    tails[1].shard = shard_b;
    tails[1].start = {ReadFrom::sequence, end_of(shard_b), 0};
    tails[1].reply_to = &replies;
    ASSERT_TRUE(lane->post(tails[1]));
    turns(3);
    lane->finish();
    ASSERT_EQ(replies.pop(), &tails[1]);
    EXPECT_EQ(tails[1].outcome, Errc::canceled);
    EXPECT_TRUE(lane->drain_outcome().finished) << "nobody writes what it waited for";
}

TEST_F(LaneTest, FinishCommitsWhatWasQueued) {
    add_shard(shard_a);
    const std::vector<std::string> texts{"one", "two"};
    AppendRequest request;
    add_run(request, shard_a, texts);
    request.reply_to = &replies;
    ASSERT_TRUE(lane->post(request));
    lane->finish();
    ASSERT_EQ(replies.pop(), &request);
    EXPECT_EQ(request.outcome, Errc::ok);
    EXPECT_EQ(request.runs[0].committed, Errc::ok);
    AppendRequest late;
    EXPECT_FALSE(lane->post(late)) << "a finished lane takes nothing";
    EXPECT_EQ(lane->drain_outcome(), DrainOutcome{}) << "all of it is in its segment";
}

TEST_F(LaneTest, FinishTellsWhatItLeftToTheNextStart) {
    lane.reset();
    make_lane({}, 50'000'000);
    add_shard(shard_a);
    const std::vector<std::string> texts{"one"};
    AppendRequest append;
    add_run(append, shard_a, texts);
    ask(append);
    ASSERT_EQ(append.outcome, Errc::ok);
    ASSERT_GT(lane->group(GroupId{1})->gauges().journal_used_bytes, 0U) << "not in the journal";
    const std::uint64_t held = lane->group(GroupId{1})->undrained_bytes();
    EXPECT_GE(held, 3U);
    storage.world.stall(0, 3'600'000'000'000);
    storage.world.stall(1, 3'600'000'000'000);
    lane->finish();
    EXPECT_EQ(lane->drain_outcome(), (DrainOutcome{false, held}));
}

TEST_F(LaneTest, FinishCancelsWhatCannotBeCommittedInTime) {
    lane.reset();
    make_lane({}, 50'000'000);
    add_shard(shard_a);
    storage.world.stall(0, 3'600'000'000'000);
    storage.world.stall(1, 3'600'000'000'000);
    const std::vector<std::string> texts{"one"};
    AppendRequest append;
    add_run(append, shard_a, texts);
    append.reply_to = &replies;
    AddShardRequest add;
    add.shard = shard_b;
    add.group = GroupId{1};
    add.reply_to = &replies;
    ASSERT_TRUE(lane->post(append));
    ASSERT_TRUE(lane->post(add));
    lane->finish();
    std::vector<LaneRequest*> answered;
    while (LaneRequest* request = replies.pop()) {
        answered.push_back(request);
    }
    EXPECT_EQ(answered.size(), 2U);
    EXPECT_EQ(append.outcome, Errc::canceled);
    EXPECT_EQ(append.items[0].verdict, AppendVerdict::accepted);
    EXPECT_EQ(append.runs[0].committed, Errc::canceled) << "it may exist";
    EXPECT_EQ(add.outcome, Errc::canceled);
    EXPECT_FALSE(lane->drain_outcome().finished);
}

TEST_F(LaneTest, AFullInboxRefusesAndCounts) {
    LaneOptions options;
    options.clock = &storage.world.clock();
    options.inbox_capacity = 2;
    Lane small(std::move(options));
    std::array<ShardStatusRequest, 3> requests;
    EXPECT_TRUE(small.post(requests[0]));
    EXPECT_TRUE(small.post(requests[1]));
    EXPECT_FALSE(small.post(requests[2]));
    EXPECT_EQ(small.counters().inbox_full.load(), 1U);
    small.finish();
}

}  // namespace
}  // namespace penstock
