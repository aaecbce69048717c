#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

class StreamsApi : public ApiTest {
protected:
    std::vector<std::string> shard_ids(const nlohmann::json& shards) {
        std::vector<std::string> ids;
        for (const auto& shard : shards) {
            ids.emplace_back(shard["ShardId"].get<std::string>());
        }
        return ids;
    }
    // A stream whose shard 0 was split into 1 and 2, made directly in the catalog.
    void make_split_stream() {
        make_stream("s", 1);
        auto entry = *catalog->get("stream/s");
        Stream stream = *decode_stream(entry.value);
        const auto halves = tile_hash_space(2);
        for (std::uint32_t i = 1; i <= 2; ++i) {
            Shard child = stream.shards[0];
            child.uid = static_cast<ShardUid>(value(stream.shards[0].uid) + i);
            child.number = i;
            child.range = halves[i - 1];
            child.created_s += 3600;
            child.parent = 0;
            stream.shards.push_back(child);
        }
        stream.shards[0].state = ShardState::closed;
        stream.shards[0].closing_index = 1;
        stream.next_shard_number = 3;
        ASSERT_TRUE(catalog->put("stream/s", encode_stream(stream)));
        clock.ms += 7'200'000;
    }
};

TEST_F(StreamsApi, CreateAnswersEmptyAndTheStreamIsDescribed) {
    const auto created =
        call("CreateStream", R"({"StreamName":"s","ShardCount":3,"MaxRecordSizeInKiB":2048})");
    EXPECT_EQ(created.status, 200);
    EXPECT_EQ(created.body, "");
    EXPECT_EQ(created.content_type, "application/x-amz-json-1.1");
    settle();
    const auto summary =
        call("DescribeStreamSummary", R"({"StreamName":"s"})",
             {{"Authorization",
               "AWS4-HMAC-SHA256 Credential=AK/20261122/eu-west-3/kinesis/aws4_request, "
               "SignedHeaders=host, Signature=0"}});
    EXPECT_EQ(
        summary.body,
        R"({"StreamDescriptionSummary":{"StreamName":"s","StreamARN":"arn:aws:kinesis:eu-west-3:000000000000:stream/s",)"
        R"("StreamStatus":"ACTIVE","StreamModeDetails":{"StreamMode":"PROVISIONED"},)"
        R"("StreamCreationTimestamp":1790000000.123,"RetentionPeriodHours":24,)"
        R"("EnhancedMonitoring":[{"ShardLevelMetrics":[]}],"EncryptionType":"NONE",)"
        R"("OpenShardCount":3,"ConsumerCount":0,"MaxRecordSizeInKiB":2048}})");
    const auto described = call("DescribeStream", R"({"StreamName":"s"})");
    const auto& shards = described.json["StreamDescription"]["Shards"];
    ASSERT_EQ(shards.size(), 3U);
    EXPECT_EQ(shards[1]["HashKeyRange"]["StartingHashKey"].get<std::string>(),
              "113427455640312821154458202477256070485");
    EXPECT_EQ(
        std::string(shards[1]["SequenceNumberRange"]["StartingSequenceNumber"].get<std::string>())
            .size(),
        56U);
    EXPECT_FALSE(shards[1]["SequenceNumberRange"].contains("EndingSequenceNumber"));
    EXPECT_EQ(call("CreateStream", R"({"StreamName":"s","ShardCount":1})").type(),
              "ResourceInUseException");
}

TEST_F(StreamsApi, ModesDecideTheShardCount) {
    ASSERT_EQ(call("CreateStream", R"({"StreamName":"a"})").status, 200);
    ASSERT_EQ(
        call("CreateStream", R"({"StreamName":"b","StreamModeDetails":{"StreamMode":"ON_DEMAND"}})")
            .status,
        200);
    settle();
    EXPECT_EQ(store->find("a")->stream().shards.size(), 4U);
    EXPECT_EQ(store->find("b")->stream().shards.size(), 4U);
    EXPECT_NE(call("DescribeStreamSummary", R"({"StreamName":"b"})").body.find("ON_DEMAND"),
              std::string::npos);
}

TEST_F(StreamsApi, DeleteAnswersEmptyAndTheStreamIsGone) {
    make_stream("s", 2);
    EXPECT_EQ(
        call(
            "DeleteStream",
            R"({"StreamARN":"arn:aws:kinesis:r:000000000000:stream/s","EnforceConsumerDeletion":true})")
            .status,
        200);
    settle();
    EXPECT_EQ(call("DescribeStream", R"({"StreamName":"s"})").type(), "ResourceNotFoundException");
    EXPECT_TRUE(lanes.shards().empty());
}

TEST_F(StreamsApi, ACreatingStreamShowsNoShardsAndTakesNoRecords) {
    lanes.set([](auto& f) { f.control_outcome = Errc::unavailable; });
    ASSERT_EQ(call("CreateStream", R"({"StreamName":"s","ShardCount":1})").status, 200);
    const auto described = call("DescribeStream", R"({"StreamName":"s"})");
    EXPECT_EQ(described.json["StreamDescription"]["StreamStatus"].get<std::string>(), "CREATING");
    EXPECT_EQ(described.json["StreamDescription"]["Shards"].size(), 0U);
    EXPECT_EQ(put("s", "x").type(), "ResourceNotFoundException");
    EXPECT_EQ(call("DeleteStream", R"({"StreamName":"s"})").type(), "ResourceInUseException");
    EXPECT_EQ(call("ListShards", R"({"StreamName":"s"})").type(), "ResourceInUseException");
    EXPECT_EQ(
        call("IncreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":48})")
            .type(),
        "ResourceInUseException");
    lanes.set([](auto& f) { f.control_outcome = Errc::ok; });
    settle();
    EXPECT_EQ(put("s", "x").status, 200);
}

TEST_F(StreamsApi, ACatalogThatCannotCommitIsAnInternalFailure) {
    log.fail_at(1, MemoryLog::Failure::nothing_kept, true);
    const auto answer = call("CreateStream", R"({"StreamName":"s","ShardCount":1})");
    EXPECT_EQ(answer.status, 500);
    EXPECT_EQ(answer.type(), "InternalFailure");
    log.heal();
    make_stream("s", 1);
}

TEST_F(StreamsApi, ListStreamsPagesByNameAndByToken) {
    for (const char* name : {"c", "a", "e", "b", "d"}) {
        make_stream(name, 1);
    }
    auto answer = call("ListStreams", R"({"Limit":2})");
    EXPECT_EQ(answer.json["StreamNames"][0].get<std::string>(), "a");
    EXPECT_TRUE(answer.json["HasMoreStreams"].get<bool>());
    EXPECT_EQ(answer.json["StreamSummaries"][1]["StreamARN"].get<std::string>(),
              "arn:aws:kinesis:us-east-1:000000000000:stream/b");
    const std::string token = answer.json["NextToken"].get<std::string>();
    answer = call("ListStreams", R"({"Limit":2,"NextToken":")" + token + "\"}");
    EXPECT_EQ(answer.json["StreamNames"][0].get<std::string>(), "c");
    answer = call("ListStreams", R"({"ExclusiveStartStreamName":"d"})");
    EXPECT_EQ(answer.json["StreamNames"].size(), 1U);
    EXPECT_FALSE(answer.json["HasMoreStreams"].get<bool>());
    EXPECT_FALSE(answer.json.contains("NextToken"));
    EXPECT_EQ(call("ListStreams", R"({"NextToken":"x"})").type(), "InvalidArgumentException");
    EXPECT_EQ(
        call("ListStreams", R"({"ExclusiveStartStreamName":"d","NextToken":")" + token + "\"}")
            .type(),
        "InvalidArgumentException");
    clock.ms += 300'001;
    EXPECT_EQ(call("ListStreams", R"({"NextToken":")" + token + "\"}").type(),
              "ExpiredNextTokenException");
}

TEST_F(StreamsApi, DescribeStreamPagesShards) {
    make_stream("s", 120);
    auto answer = call("DescribeStream", R"({"StreamName":"s"})");
    EXPECT_EQ(answer.json["StreamDescription"]["Shards"].size(), 100U);
    EXPECT_TRUE(answer.json["StreamDescription"]["HasMoreShards"].get<bool>());
    answer = call("DescribeStream",
                  R"({"StreamName":"s","ExclusiveStartShardId":"shardId-000000000099"})");
    EXPECT_EQ(answer.json["StreamDescription"]["Shards"].size(), 20U);
    EXPECT_FALSE(answer.json["StreamDescription"]["HasMoreShards"].get<bool>());
    answer = call("DescribeStream", R"({"StreamName":"s","Limit":1,"ExclusiveStartShardId":"5"})");
    EXPECT_EQ(shard_ids(answer.json["StreamDescription"]["Shards"]),
              std::vector<std::string>{"shardId-000000000006"});
}

TEST_F(StreamsApi, ListShardsPagesWithATokenThatStandsAlone) {
    make_stream("s", 5);
    auto answer = call("ListShards", R"({"StreamName":"s","MaxResults":2})");
    EXPECT_EQ(shard_ids(answer.json["Shards"]).back(), "shardId-000000000001");
    const std::string token = answer.json["NextToken"].get<std::string>();
    answer = call("ListShards", R"({"NextToken":")" + token + "\"}");
    EXPECT_EQ(shard_ids(answer.json["Shards"]),
              (std::vector<std::string>{"shardId-000000000002", "shardId-000000000003",
                                        "shardId-000000000004"}));
    EXPECT_FALSE(answer.json.contains("NextToken"));
    for (const char* more :
         {R"("StreamName":"s")", R"("StreamCreationTimestamp":1)", R"("ExclusiveStartShardId":"1")",
          R"("ShardFilter":{"Type":"AT_LATEST"})",
          R"("StreamARN":"arn:aws:kinesis:r:000000000000:stream/s")"}) {
        EXPECT_EQ(call("ListShards", R"({"NextToken":")" + token + "\"," + more + "}").type(),
                  "InvalidArgumentException")
            << more;
    }
    EXPECT_EQ(call("ListShards", R"({"NextToken":"x"})").type(), "InvalidArgumentException");
    EXPECT_EQ(
        call("ListShards", R"({"StreamName":"s","StreamCreationTimestamp":1790000000})").status,
        200);
    EXPECT_EQ(call("ListShards", R"({"StreamName":"s","StreamCreationTimestamp":1})").type(),
              "ResourceNotFoundException");
    clock.ms += 300'001;
    EXPECT_EQ(call("ListShards", R"({"NextToken":")" + token + "\"}").type(),
              "ExpiredNextTokenException");
}

TEST_F(StreamsApi, ShardFiltersSelectAlongALineage) {
    make_split_stream();
    const auto list = [&](const std::string& filter) {
        const auto answer =
            call("ListShards", R"({"StreamName":"s","ShardFilter":{)" + filter + "}}");
        EXPECT_EQ(answer.status, 200) << answer.body;
        std::vector<int> numbers;
        for (const auto& shard : answer.json["Shards"]) {
            numbers.push_back(
                static_cast<int>(*parse_shard_id(shard["ShardId"].get<std::string>())));
        }
        return numbers;
    };
    using Numbers = std::vector<int>;
    EXPECT_EQ(list(R"("Type":"FROM_TRIM_HORIZON")"), (Numbers{0, 1, 2}));
    EXPECT_EQ(list(R"("Type":"AT_TRIM_HORIZON")"), (Numbers{0}));
    EXPECT_EQ(list(R"("Type":"AT_LATEST")"), (Numbers{1, 2}));
    EXPECT_EQ(list(R"("Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000001")"), (Numbers{2}));
    EXPECT_EQ(list(R"("Type":"AT_TIMESTAMP","Timestamp":1790000100)"), (Numbers{0}));
    EXPECT_EQ(list(R"("Type":"AT_TIMESTAMP","Timestamp":1790003600)"), (Numbers{1, 2}));
    EXPECT_EQ(list(R"("Type":"FROM_TIMESTAMP","Timestamp":1790000100)"), (Numbers{0, 1, 2}));
    EXPECT_EQ(list(R"("Type":"FROM_TIMESTAMP","Timestamp":1790003601)"), (Numbers{1, 2}));
    clock.ms += 25LL * 3600 * 1000;  // the parent's records have all expired
    EXPECT_EQ(list(R"("Type":"FROM_TRIM_HORIZON")"), (Numbers{1, 2}));
    EXPECT_EQ(list(R"("Type":"AT_TRIM_HORIZON")"), (Numbers{1, 2}));
    for (const char* bad :
         {R"("Type":"AFTER_SHARD_ID")", R"("Type":"AT_TIMESTAMP")",
          R"("Type":"AT_LATEST","ShardId":"1")", R"("Type":"AT_LATEST","Timestamp":1)",
          R"("Type":"AFTER_SHARD_ID","ShardId":"x")"}) {
        EXPECT_EQ(
            call("ListShards", R"({"StreamName":"s","ShardFilter":{)" + std::string(bad) + "}}")
                .type(),
            "InvalidArgumentException")
            << bad;
    }
}

TEST_F(StreamsApi, AClosedShardEndsWithItsChildrenAndNoIterator) {
    make_split_stream();
    lanes.edit_shard(store->find("s")->stream().shards[0].uid, [](auto& shard) { shard.next = 1; });
    const auto answer = get(iterator("s", R"("ShardIteratorType":"LATEST")"));
    ASSERT_EQ(answer.status, 200) << answer.body;
    EXPECT_FALSE(answer.json.contains("NextShardIterator"));
    ASSERT_EQ(answer.json["ChildShards"].size(), 2U);
    EXPECT_EQ(answer.json["ChildShards"][1]["ShardId"].get<std::string>(), "shardId-000000000002");
    EXPECT_EQ(answer.json["ChildShards"][1]["ParentShards"][0].get<std::string>(),
              "shardId-000000000000");
    EXPECT_EQ(answer.json["ChildShards"][0]["HashKeyRange"]["StartingHashKey"].get<std::string>(),
              "0");
}

}  // namespace
}  // namespace penstock::kinesis
