#include "control/kinesis/records/put_call.h"
#include "dataplane/wire/partition_hash.h"
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

class PutGet : public ApiTest {
protected:
    std::string put_records_body(const std::string& stream, int count) {
        std::string body = R"({"StreamName":")" + stream + R"(","Records":[)";
        for (int i = 0; i < count; ++i) {
            body += (i == 0 ? "" : ",") + (R"({"Data":")" + base64("d" + std::to_string(i)) +
                                           R"(","PartitionKey":"k)" + std::to_string(i) + "\"}");
        }
        return body + "]}";
    }
    const std::string from_horizon = R"("ShardIteratorType":"TRIM_HORIZON")";
    const std::string from_latest = R"("ShardIteratorType":"LATEST")";
};

TEST_F(PutGet, WhatIsPutIsReadBackInOrder) {
    make_stream("s", 1);
    std::vector<std::string> sequences;
    for (const char* data : {"one", "two", "three"}) {
        const auto answer = put("s", data);
        ASSERT_EQ(answer.status, 200) << answer.body;
        EXPECT_EQ(answer.json["ShardId"].get<std::string>(), "shardId-000000000000");
        sequences.emplace_back(answer.json["SequenceNumber"].get<std::string>());
        clock.ms += 10;
    }
    const auto answer = get(iterator("s", from_horizon));
    EXPECT_EQ(data_of(answer), (std::vector<std::string>{"one", "two", "three"}));
    const auto& first = answer.json["Records"][0];
    EXPECT_EQ(first["SequenceNumber"].get<std::string>(), sequences[0]);
    EXPECT_EQ(first["PartitionKey"].get<std::string>(), "k");
    EXPECT_DOUBLE_EQ(first["ApproximateArrivalTimestamp"].get<double>(), 1790000000.123);
    EXPECT_FALSE(first.contains("EncryptionType"));
    EXPECT_EQ(answer.json["MillisBehindLatest"].get<int>(), 0);
    const auto again = get(next_of(answer));
    EXPECT_TRUE(data_of(again).empty());
    EXPECT_EQ(again.json["MillisBehindLatest"].get<int>(), 0);
    ASSERT_EQ(put("s", "four").status, 200);
    EXPECT_EQ(data_of(get(next_of(again))), std::vector<std::string>{"four"});
}

TEST_F(PutGet, PutRecordsAnswersInRequestOrderAcrossShardsAndLanes) {
    make_stream("s", 7);
    const auto answer = call("PutRecords", put_records_body("s", 500));
    ASSERT_EQ(answer.status, 200);
    EXPECT_EQ(answer.json["FailedRecordCount"].get<int>(), 0);
    ASSERT_EQ(answer.json["Records"].size(), 500U);
    EXPECT_EQ(lanes.append_requests(), 2U);  // one per lane
    const auto on_lanes = lanes.shards();
    const auto view = store->find("s");
    std::map<std::uint32_t, Sequence> last;
    for (unsigned i = 0; i < 500; ++i) {
        const auto& record = answer.json["Records"][i];
        const auto number = parse_sequence_number(record["SequenceNumber"].get<std::string>());
        ASSERT_TRUE(number);
        const auto shard = *parse_shard_id(record["ShardId"].get<std::string>());
        EXPECT_EQ(number->shard_number, shard);
        const Shard& expected =
            view->stream()
                .shards[view->find(partition_hash(as_bytes("k" + std::to_string(i)))).shard_index];
        ASSERT_EQ(shard, expected.number);
        EXPECT_GT(number->index, last[shard]);  // order within a shard is the request's
        last[shard] = number->index;
        const auto& stored = on_lanes.at(expected.uid).records[number->index - 1];
        EXPECT_EQ(stored.data, "d" + std::to_string(i));
    }
    EXPECT_EQ(last.size(), 7U);
}

TEST_F(PutGet, ExplicitHashKeyChoosesTheShardAtTheRangesEdges) {
    make_stream("s", 3);
    const Stream& stream = store->find("s")->stream();
    for (const Shard& shard : stream.shards) {
        for (const Hash128& hash : {shard.range.start, shard.range.end}) {
            const auto answer =
                call("PutRecord",
                     R"({"StreamName":"s","Data":"","PartitionKey":"a","ExplicitHashKey":")" +
                         to_decimal(hash) + "\"}");
            EXPECT_EQ(answer.json["ShardId"].get<std::string>(), format_shard_id(shard.number));
        }
    }
}

TEST_F(PutGet, OneShardsFailureIsToldForItsRecordsOnly) {
    make_stream("s", 4);
    const auto bad = store->find("s")->stream().shards[2].uid;
    const std::vector<std::tuple<AppendVerdict, std::string, std::string>> faults = {
        {AppendVerdict::no_memory, "ProvisionedThroughputExceededException", "Rate exceeded"},
        {AppendVerdict::shard_behind, "ProvisionedThroughputExceededException", "Rate exceeded"},
        {AppendVerdict::disk_full, "InternalFailure", "disks are full"},
        {AppendVerdict::no_quorum, "InternalFailure", "Fewer than two"},
        {AppendVerdict::needs_all, "InternalFailure", "`all`"},
        {AppendVerdict::shard_closed, "InternalFailure", "takes no more records"},
    };
    for (const auto& [verdict, code, words] : faults) {
        lanes.set([&](auto& f) { f.verdicts[bad] = verdict; });
        const auto answer = call("PutRecords", put_records_body("s", 100));
        ASSERT_EQ(answer.status, 200);
        int failed = 0;
        for (unsigned i = 0; i < 100; ++i) {
            const auto& record = answer.json["Records"][i];
            const bool on_bad = store->find("s")
                                    ->find(partition_hash(as_bytes("k" + std::to_string(i))))
                                    .shard_index == 2;
            ASSERT_EQ(record.contains("ErrorCode"), on_bad);
            if (on_bad) {
                ++failed;
                EXPECT_EQ(record["ErrorCode"].get<std::string>(), code);
                EXPECT_NE(std::string(record["ErrorMessage"].get<std::string>()).find(words),
                          std::string::npos)
                    << record["ErrorMessage"].get<std::string>();
                EXPECT_FALSE(record.contains("SequenceNumber"));
            }
        }
        EXPECT_EQ(answer.json["FailedRecordCount"].get<int>(), failed);
        EXPECT_GT(failed, 0);
        lanes.set([&](auto& f) {
            f.verdicts.clear();
            f.verdicts[store->find("s")->stream().shards[0].uid] = verdict;
        });
        const auto one =
            call("PutRecord",
                 R"({"StreamName":"s","Data":"","PartitionKey":"a","ExplicitHashKey":"0"})");
        EXPECT_EQ(one.type(), code);
        EXPECT_EQ(one.status, code == "InternalFailure" ? 500 : 400);
        lanes.set([&](auto& f) { f.verdicts.clear(); });
    }
}

TEST_F(PutGet, FullInboxThrottlesAndLostCommitsAreSaidToBePossible) {
    make_stream("s", 2);
    lanes.set([](auto& f) { f.inbox_full = true; });
    auto answer = call("PutRecords", put_records_body("s", 3));
    EXPECT_EQ(answer.json["FailedRecordCount"].get<int>(), 3);
    EXPECT_EQ(answer.json["Records"][0]["ErrorCode"].get<std::string>(),
              "ProvisionedThroughputExceededException");
    EXPECT_EQ(put("s", "x").type(), "ProvisionedThroughputExceededException");
    lanes.set([](auto& f) {
        f.inbox_full = false;
        f.commit_outcome = Errc::not_enough_replicas;
    });
    answer = put("s", "x");
    EXPECT_EQ(answer.status, 500);
    EXPECT_EQ(answer.type(), "InternalFailure");
    EXPECT_NE(answer.message().find("may exist"), std::string::npos);
    lanes.set([](auto& f) {
        f.commit_outcome = Errc::ok;
        f.append_outcome = Errc::canceled;
    });
    EXPECT_NE(put("s", "x").message().find("may exist"), std::string::npos);
}

TEST_F(PutGet, DeadlineAnswersAndTheRequestIsParkedUntilTheLaneGivesItBack) {
    close();
    ServiceOptions options;
    options.commit_deadline_ms = 50;
    open(options);
    make_stream("s", 2);
    lanes.set([](auto& f) { f.hold_appends = true; });
    const auto answer = call("PutRecords", put_records_body("s", 10));
    EXPECT_EQ(answer.json["FailedRecordCount"].get<int>(), 10);
    EXPECT_EQ(answer.json["Records"][0]["ErrorCode"].get<std::string>(), "InternalFailure");
    EXPECT_NE(
        std::string(answer.json["Records"][0]["ErrorMessage"].get<std::string>()).find("may exist"),
        std::string::npos);
    lanes.set([](auto& f) { f.hold_appends = false; });
    // The late commit answers nobody twice, and the call is used again.
    EXPECT_EQ(call("PutRecords", put_records_body("s", 10)).json["FailedRecordCount"].get<int>(),
              0);
}

TEST_F(PutGet, RequestsInFlightAreAnsweredWhenTheHandlerStops) {
    make_stream("s", 1);
    lanes.set([](auto& f) { f.hold_appends = true; });
    const auto id = send("PutRecords", put_records_body("s", 5));
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        lanes.set([](auto& f) { f.hold_appends = false; });
    });
    handler.reset();
    later.join();
    EXPECT_TRUE(is_answered(id));
}

TEST_F(PutGet, AllFiveIteratorTypesStartWhereTheySay) {
    make_stream("s", 1);
    std::vector<std::string> sequences;
    for (int i = 0; i < 5; ++i) {
        sequences.emplace_back(
            put("s", std::to_string(i)).json["SequenceNumber"].get<std::string>());
        clock.ms += 1000;
    }
    const std::string latest = iterator("s", from_latest);
    const auto at = R"("ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":")" +
                    sequences[2] + "\"";
    const auto after = R"("ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":")" +
                       sequences[2] + "\"";
    EXPECT_EQ(data_of(get(iterator("s", at))), (std::vector<std::string>{"2", "3", "4"}));
    EXPECT_EQ(data_of(get(iterator("s", after))), (std::vector<std::string>{"3", "4"}));
    EXPECT_EQ(data_of(get(iterator("s", from_horizon))).size(), 5U);
    EXPECT_EQ(data_of(get(iterator(
                  "s", R"("ShardIteratorType":"AT_TIMESTAMP","Timestamp":1790000001.124)"))),
              (std::vector<std::string>{"2", "3", "4"}));
    EXPECT_EQ(data_of(get(iterator(
                          "s", R"("ShardIteratorType":"AT_TIMESTAMP","Timestamp":1790000001.123)")))
                  .size(),
              4U);
    EXPECT_EQ(
        data_of(get(iterator("s", R"("ShardIteratorType":"AT_TIMESTAMP","Timestamp":5)"))).size(),
        5U);
    // LATEST means when it was asked for, not when it is first used.
    ASSERT_EQ(put("s", "new").status, 200);
    EXPECT_EQ(data_of(get(latest)), std::vector<std::string>{"new"});
}

TEST_F(PutGet, TimestampIteratorKeepsItsTimeWhilePlansAreShort) {
    make_stream("s", 1);
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(put("s", std::to_string(i)).status, 200);
        clock.ms += 1000;
    }
    lanes.set([](auto& f) { f.plan_records_max = 3; });
    auto answer =
        get(iterator("s", R"("ShardIteratorType":"AT_TIMESTAMP","Timestamp":1790000015.123)"));
    std::vector<std::string> all = data_of(answer);
    while (all.size() < 5) {
        answer = get(next_of(answer));
        ASSERT_EQ(answer.status, 200);
        for (auto& data : data_of(answer)) {
            all.push_back(data);
        }
    }
    EXPECT_EQ(all, (std::vector<std::string>{"15", "16", "17", "18", "19"}));
}

TEST_F(PutGet, LimitAndTenMebibytesBoundAnAnswerAndNothingIsSkipped) {
    make_stream("s", 1);
    const std::string big(900 * 1024, 'x');
    for (int i = 0; i < 14; ++i) {
        ASSERT_EQ(put("s", big + std::to_string(i)).status, 200);
        clock.ms += 100;
    }
    auto answer = get(iterator("s", from_horizon), R"(,"Limit":3)");
    EXPECT_EQ(answer.json["Records"].size(), 3U);
    EXPECT_EQ(answer.json["MillisBehindLatest"].get<int>(), 1200);
    answer = get(next_of(answer));
    EXPECT_EQ(answer.json["Records"].size(), 11U);
    EXPECT_EQ(answer.json["MillisBehindLatest"].get<int>(), 0);
    answer = get(iterator("s", from_horizon));
    EXPECT_EQ(answer.json["Records"].size(), 11U);  // 11 × 900 KiB < 10 MiB < 12 × 900 KiB
    EXPECT_EQ(data_of(get(next_of(answer))).front(), big + "11");
}

TEST_F(PutGet, ExpiredForeignAndQuotedIterators) {
    make_stream("s", 1);
    ASSERT_EQ(put("s", "x").status, 200);
    const std::string token = iterator("s", from_horizon);
    EXPECT_EQ(get("\\\"" + token + "\\\"").status, 200);
    EXPECT_EQ(get(token.substr(4)).message(), "Invalid ShardIterator.");
    EXPECT_EQ(call("GetRecords",
                   R"({"StreamARN":"arn:aws:kinesis:x:000000000000:stream/t","ShardIterator":")" +
                       token + "\"}")
                  .type(),
              "InvalidArgumentException");
    clock.ms += 300'000;
    EXPECT_EQ(get(token).status, 200);
    clock.ms += 1;
    const auto expired = get(token);
    EXPECT_EQ(expired.type(), "ExpiredIteratorException");
    EXPECT_EQ(
        expired.message(),
        "Iterator expired. The iterator was created at time Mon Sep 21 14:13:20 UTC 2026 while "
        "right now it is Mon Sep 21 14:18:20 UTC 2026 which is further in the future than the "
        "tolerated delay of 300000 milliseconds.");
}

TEST_F(PutGet, IteratorOfADeletedStreamDoesNotReadItsSuccessor) {
    make_stream("s", 1);
    const std::string token = iterator("s", from_horizon);
    ASSERT_EQ(call("DeleteStream", R"({"StreamName":"s"})").status, 200);
    settle();
    EXPECT_EQ(get(token).type(), "ResourceNotFoundException");
    make_stream("s", 1);
    ASSERT_EQ(put("s", "new").status, 200);
    EXPECT_EQ(get(token).type(), "ResourceNotFoundException");
}

TEST_F(PutGet, StalePlansAreMadeAgainAndBounded) {
    make_stream("s", 1);
    ASSERT_EQ(put("s", "x").status, 200);
    source->stale_left = 3;
    EXPECT_EQ(data_of(get(iterator("s", from_horizon))), std::vector<std::string>{"x"});
    source->stale_left = 1000;
    EXPECT_EQ(get(iterator("s", from_horizon)).type(), "ProvisionedThroughputExceededException");
    source->stale_left = 0;
}

TEST_F(PutGet, LostRangeIsNamedAndWhatIsBeforeItIsServed) {
    make_stream("s", 1);
    for (int i = 0; i < 4; ++i) {
        ASSERT_EQ(put("s", std::to_string(i)).status, 200);
    }
    source->lost_at = 3;
    lanes.set([](auto& f) { f.plan_records_max = 2; });
    const auto good = get(iterator("s", from_horizon));
    EXPECT_EQ(data_of(good), (std::vector<std::string>{"0", "1"}));
    const auto lost = get(next_of(good));
    EXPECT_EQ(lost.status, 500);
    EXPECT_EQ(lost.type(), "InternalFailureException");
    EXPECT_NE(lost.message().find("from index 3"), std::string::npos) << lost.message();
    EXPECT_NE(lost.message().find("shardId-000000000000 in stream s"), std::string::npos);
}

TEST_F(PutGet, LaneFaultsOfReadsAreTold) {
    make_stream("s", 1);
    ASSERT_EQ(put("s", "x").status, 200);
    const std::string token = iterator("s", from_horizon);
    lanes.set([](auto& f) { f.plan_outcome = Errc::no_memory_room; });
    EXPECT_EQ(get(token).type(), "ProvisionedThroughputExceededException");
    lanes.set([](auto& f) { f.plan_outcome = Errc::io_failed; });
    EXPECT_EQ(get(token).status, 500);
    lanes.set([](auto& f) {
        f.plan_outcome = Errc::ok;
        f.inbox_full = true;
    });
    EXPECT_EQ(get(token).type(), "ProvisionedThroughputExceededException");
    EXPECT_EQ(
        call("GetShardIterator", R"({"StreamName":"s","ShardId":"0",)" + from_latest + "}").type(),
        "ProvisionedThroughputExceededException");
    lanes.set([](auto& f) { f.inbox_full = false; });
}

TEST_F(PutGet, LeaseIsGivenBackEvenWhenTheInboxIsFullForAWhile) {
    make_stream("s", 1);
    ASSERT_EQ(put("s", "x").status, 200);
    lanes.set([](auto& f) { f.full_releases = 3; });
    EXPECT_EQ(data_of(get(iterator("s", from_horizon))), std::vector<std::string>{"x"});
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (lanes.leases() != 0 && std::chrono::steady_clock::now() < give_up) {
        loop->run_once(5);
    }
    EXPECT_EQ(lanes.leases(), 0);
}

TEST_F(PutGet, RecordsOfATrimmedIteratorStartAtTheHorizon) {
    make_stream("s", 1);
    const auto first = put("s", "0");
    ASSERT_EQ(put("s", "1").status, 200);
    const std::string token =
        iterator("s", R"("ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":")" +
                          std::string(first.json["SequenceNumber"].get<std::string>()) + "\"");
    lanes.edit_shard(store->find("s")->stream().shards[0].uid, [](auto& shard) {
        shard.trim = 2;
        shard.records.erase(shard.records.begin());
    });
    EXPECT_EQ(data_of(get(token)), std::vector<std::string>{"1"});
}

}  // namespace
}  // namespace penstock::kinesis
