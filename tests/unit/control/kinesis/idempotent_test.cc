// Puts that come again: docs/idempotent-puts.md.
#include "control/kinesis/input/producer_header.h"
#include "control/kinesis/records/put_call.h"
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

TEST(ProducerHeader, NamesNumberAndEpochAreRead) {
    const auto plain = parse_producer_header("gateway-7; sequence=42");
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->sequence, 42U);
    EXPECT_EQ(plain->epoch, 0U);
    const auto full = parse_producer_header(" gateway-7 ;epoch=3;  sequence=9223372036854775807 ");
    ASSERT_TRUE(full);
    EXPECT_EQ(full->producer, plain->producer);
    EXPECT_EQ(full->epoch, 3U);
    EXPECT_EQ(full->mark(5), (ProducerMark{full->producer, 3, 5, 9223372036854775807U}));
    EXPECT_NE(parse_producer_header("gateway-8; sequence=42")->producer, plain->producer);
}

TEST(ProducerHeader, WhatDoesNotFollowTheFormatIsRefused) {
    const std::string long_name(129, 'a');
    for (const std::string& text : std::vector<std::string>{
             "", "a", "a;", "sequence=1", "; sequence=1", "a b; sequence=1",
             "a; sequence=", "a; sequence=0", "a; sequence=-1", "a; sequence=9223372036854775808",
             "a; sequence=1; sequence=2", "a; epoch=1", "a; sequence=1; epoch=4294967296",
             "a; sequence=1; more=2", "a; sequence=1 2", "a\xc3\xa4; sequence=1",
             long_name + "; sequence=1"}) {
        const auto read = parse_producer_header(text);
        ASSERT_FALSE(read) << text;
        EXPECT_EQ(read.error().type, "InvalidArgumentException");
        EXPECT_NE(read.error().message.find("Expected NAME; sequence=N"), std::string::npos);
    }
}

class Idempotent : public ApiTest {
protected:
    static Headers header(std::uint64_t sequence, const std::string& more = "") {
        return {{"X-Penstock-Producer", "p; sequence=" + std::to_string(sequence) + more}};
    }
    static std::string body(unsigned count, bool keys = true) {
        std::string text = R"({"StreamName":"s","Records":[)";
        for (unsigned i = 0; i < count; ++i) {
            text += (i == 0 ? "" : ",") + std::string(R"({"Data":")") +
                    base64("d" + std::to_string(i)) + "\"";
            text += keys ? R"(,"PartitionKey":"k)" + std::to_string(i) + "\"}" : "}";
        }
        return text + "]}";
    }
    std::size_t stored() {
        std::size_t count = 0;
        for (const auto& [uid, shard] : lanes.shards()) {
            count += shard.records.size();
        }
        return count;
    }
    static std::vector<std::pair<std::string, std::string>> places(const Answer& answer) {
        std::vector<std::pair<std::string, std::string>> all;
        for (const auto& record : answer.json["Records"]) {
            EXPECT_TRUE(record.contains("SequenceNumber")) << record.dump();
            all.emplace_back(record.value("ShardId", ""), record.value("SequenceNumber", ""));
        }
        return all;
    }
    void split(int shard, const std::string& at) {
        ASSERT_EQ(
            call("SplitShard", R"({"StreamName":"s","ShardToSplit":")" + std::to_string(shard) +
                                   R"(","NewStartingHashKey":")" + at + "\"}")
                .status,
            200);
    }
    void wait_for_switch() {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!std::ranges::any_of(store->find("s")->stream().shards, [](const Shard& shard) {
            return shard.state == ShardState::opening;
        })) {
            ASSERT_LT(std::chrono::steady_clock::now(), give_up);
            loop->run_once(1);
        }
    }
    static constexpr const char* half = "170141183460469231731687303715884105728";
    static constexpr const char* quarter = "85070591730234615865843651857942052864";
};

TEST_F(Idempotent, ARepeatedCallIsAnsweredTheSameAndStoredOnce) {
    make_stream("s", 3);
    const Answer first = call("PutRecords", body(50), header(1));
    ASSERT_EQ(first.json["FailedRecordCount"], 0);
    clock.ms += 5'000;
    const Answer again = call("PutRecords", body(50), header(1));
    EXPECT_EQ(again.body, first.body);
    EXPECT_EQ(stored(), 50U);
    EXPECT_EQ(call("PutRecords", body(50), header(2)).json["FailedRecordCount"], 0);
    EXPECT_EQ(stored(), 100U);
    EXPECT_EQ(call("PutRecords", body(50)).json["FailedRecordCount"], 0);  // no header
    EXPECT_EQ(call("PutRecords", body(50)).json["FailedRecordCount"], 0);
    EXPECT_EQ(stored(), 200U);
    const std::string one = R"({"StreamName":"s","Data":"","PartitionKey":"a"})";
    const Answer single = call("PutRecord", one, header(3));
    EXPECT_EQ(call("PutRecord", one, header(3)).body, single.body);
    EXPECT_EQ(stored(), 201U);
}

TEST_F(Idempotent, AHeaderThatCannotBeReadRefusesTheCall) {
    make_stream("s", 1);
    const Answer answer = call("PutRecords", body(1), {{"x-penstock-producer", "p; sequence=x"}});
    EXPECT_EQ(answer.type(), "InvalidArgumentException");
    EXPECT_EQ(
        call("PutRecords", body(1),
             {{"x-penstock-producer", "p; sequence=1"}, {"x-penstock-producer", "p; sequence=1"}})
            .type(),
        "InvalidArgumentException");
    EXPECT_EQ(stored(), 0U);
}

TEST_F(Idempotent, TheWholeCallIsRepeatedAfterAPartOfItFailed) {
    make_stream("s", 4);
    const ShardUid bad = store->find("s")->stream().shards[2].uid;
    lanes.set([&](auto& faults) { faults.verdicts[bad] = AppendVerdict::no_memory; });
    const Answer first = call("PutRecords", body(100), header(7));
    EXPECT_GT(first.json["FailedRecordCount"], 0);
    lanes.set([&](auto& faults) { faults.verdicts.clear(); });
    const Answer again = call("PutRecords", body(100), header(7));
    EXPECT_EQ(again.json["FailedRecordCount"], 0);
    EXPECT_EQ(stored(), 100U);
    for (unsigned i = 0; i < 100; ++i) {
        const auto& before = first.json["Records"][i];
        if (before.contains("SequenceNumber")) {
            EXPECT_EQ(before, again.json["Records"][i]);
        }
    }
    EXPECT_EQ(call("PutRecords", body(100), header(7)).body, again.body);
}

TEST_F(Idempotent, WhereNoKeySaysWhereARecordGoesItsNumberDoes) {
    ASSERT_EQ(call("CreateStream", R"({"StreamName":"s","RecordDistributionStrategy":"AUTO",)"
                                   R"("StreamModeDetails":{"StreamMode":"ON_DEMAND"}})")
                  .status,
              200);
    settle();
    const Answer first = call("PutRecords", body(80, false), header(1));
    ASSERT_EQ(first.json["FailedRecordCount"], 0) << first.body;
    EXPECT_EQ(call("PutRecords", body(80, false), header(1)).body, first.body);
    EXPECT_EQ(stored(), 80U);
    std::map<std::string, int> used;
    for (const auto& [shard, number] : places(first)) {
        ++used[shard];
    }
    EXPECT_EQ(used.size(), 4U);
}

TEST_F(Idempotent, AShardThatWasSplitInBetweenStillKnowsItsRecords) {
    make_stream("s", 1);
    const auto first = places(call("PutRecords", body(60), header(1)));
    split(0, half);
    settle();
    split(1, quarter);  // and its child again
    settle();
    EXPECT_EQ(places(call("PutRecords", body(60), header(1))), first);
    EXPECT_EQ(stored(), 60U);
    // New ones go to the children, and are known there.
    const auto second = places(call("PutRecords", body(60), header(2)));
    EXPECT_EQ(places(call("PutRecords", body(60), header(2))), second);
    EXPECT_EQ(stored(), 120U);
    for (const auto& [shard, number] : second) {
        EXPECT_NE(shard, "shardId-000000000000");
        EXPECT_NE(shard, "shardId-000000000001");
    }
    // Merged again, both parents are asked.
    ASSERT_EQ(call("MergeShards", R"({"StreamName":"s","ShardToMerge":"3",)"
                                  R"("AdjacentShardToMerge":"4"})")
                  .status,
              200);
    settle();
    EXPECT_EQ(places(call("PutRecords", body(60), header(2))), second);
    EXPECT_EQ(places(call("PutRecords", body(60), header(1))), first);
    EXPECT_EQ(stored(), 120U);
    // An hour later nobody is asked any more.
    clock.ms += producer_expiry_ms + 1;
    const std::size_t before = lanes.lookups();
    EXPECT_EQ(call("PutRecords", body(60), header(3)).json["FailedRecordCount"], 0);
    EXPECT_EQ(lanes.lookups(), before);
}

TEST_F(Idempotent, AFirstAttemptThatComesLateFollowsToTheChildren) {
    make_stream("s", 1);
    // The first attempt waits in front of the lane, with the old routes.
    lanes.set([](auto& faults) {
        faults.hold_appends = true;
        faults.hold_closes = true;
    });
    const std::uint64_t first = send("PutRecords", body(40), header(1));
    split(0, half);
    wait_for_switch();
    // The second one asks the parent, which has nothing yet, and waits behind the first.
    const std::uint64_t second = send("PutRecords", body(40), header(1));
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (lanes.lookups() == 0) {
        ASSERT_LT(std::chrono::steady_clock::now(), give_up);
        loop->run_once(1);
    }
    lanes.set([](auto& faults) { faults.hold_appends = false; });
    const auto answered = places(wait(first));
    EXPECT_EQ(places(wait(second)), answered);
    EXPECT_EQ(stored(), 40U);
    lanes.set([](auto& faults) { faults.hold_closes = false; });
    settle();
    EXPECT_EQ(places(call("PutRecords", body(40), header(1))), answered);
    EXPECT_EQ(stored(), 40U);
}

TEST_F(Idempotent, WhatCannotBeAskedIsNotStored) {
    make_stream("s", 1);
    (void)call("PutRecords", body(10), header(1));
    split(0, half);
    settle();
    lanes.set([](auto& faults) { faults.lookup_outcome = Errc::canceled; });
    const Answer unknown = call("PutRecords", body(10), header(1));
    EXPECT_EQ(unknown.json["FailedRecordCount"], 10);
    EXPECT_EQ(unknown.json["Records"][0]["ErrorCode"], "InternalFailure");
    lanes.set([](auto& faults) {
        faults.lookup_outcome = Errc::ok;
        faults.inbox_full = true;
    });
    const Answer full = call("PutRecords", body(10), header(1));
    EXPECT_EQ(full.json["Records"][0]["ErrorCode"], "ProvisionedThroughputExceededException");
    lanes.set([](auto& faults) { faults.inbox_full = false; });
    EXPECT_EQ(call("PutRecords", body(10), header(1)).json["FailedRecordCount"], 0);
    EXPECT_EQ(stored(), 10U);
}

TEST_F(Idempotent, WhyARecordWasRefusedIsSaid) {
    make_stream("s", 1);
    const ShardUid shard = store->find("s")->stream().shards[0].uid;
    const std::vector<std::tuple<AppendVerdict, std::string, std::string>> verdicts = {
        {AppendVerdict::producer_fenced, "InvalidArgumentException", "newer epoch"},
        {AppendVerdict::producer_window, "InvalidArgumentException", "too far behind"},
        {AppendVerdict::producers_full, "ProvisionedThroughputExceededException", "Too many"},
        {AppendVerdict::too_large, "InvalidArgumentException", "setting memory must be above 1MiB"},
    };
    for (const auto& [verdict, type, words] : verdicts) {
        lanes.set([&, v = verdict](auto& faults) { faults.verdicts[shard] = v; });
        const Answer one =
            call("PutRecord", R"({"StreamName":"s","Data":"","PartitionKey":"a"})", header(1));
        EXPECT_EQ(one.status, 400);
        EXPECT_EQ(one.type(), type);
        EXPECT_NE(one.message().find(words), std::string::npos) << one.message();
        const Answer many = call("PutRecords", body(1), header(2));
        EXPECT_EQ(many.json["Records"][0]["ErrorCode"], type);
    }
}

}  // namespace
}  // namespace penstock::kinesis
