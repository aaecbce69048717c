// Tags, limits, account settings, monitoring, record size, warm throughput, record distribution,
// and requests that only ask whether they would succeed.
#include <set>

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

using nlohmann::json;

const std::string arn = "arn:aws:kinesis:us-east-1:000000000000:stream/";

class Settings : public ApiTest {
protected:
    Answer ask(std::string_view operation, const json& body) {
        return call(operation, body.dump());
    }
    void done(std::string_view operation, const json& body) {
        const Answer answer = ask(operation, body);
        EXPECT_EQ(answer.status, 200) << answer.body;
        EXPECT_EQ(answer.body, "");
    }
    json summary(const std::string& name) {
        return ask("DescribeStreamSummary", {{"StreamName", name}})
            .json["StreamDescriptionSummary"];
    }
    void make_on_demand(const std::string& name, const json& more = json::object()) {
        json body = {{"StreamName", name}, {"StreamModeDetails", {{"StreamMode", "ON_DEMAND"}}}};
        body.update(more);
        done("CreateStream", body);
        settle();
    }
};

TEST_F(Settings, TagsAreAddedReplacedListedAndRemovedByNameAndByArn) {
    done("CreateStream",
         {{"StreamName", "s"}, {"ShardCount", 1}, {"Tags", {{"made", "with"}, {"b", "1"}}}});
    settle();
    done("AddTagsToStream", {{"StreamName", "s"}, {"Tags", {{"a", "ä"}, {"b", "2"}, {"c", ""}}}});
    const json all = {{{"Key", "a"}, {"Value", "ä"}},
                      {{"Key", "b"}, {"Value", "2"}},
                      {{"Key", "c"}, {"Value", ""}},
                      {{"Key", "made"}, {"Value", "with"}}};
    const Answer listed = ask("ListTagsForStream", {{"StreamARN", arn + "s"}});
    EXPECT_EQ(listed.json, json({{"Tags", all}, {"HasMoreTags", false}}));
    EXPECT_EQ(ask("ListTagsForResource", {{"ResourceARN", arn + "s"}}).json, json({{"Tags", all}}));
    const Answer page = ask("ListTagsForStream",
                            {{"StreamName", "s"}, {"ExclusiveStartTagKey", "a"}, {"Limit", 2}});
    EXPECT_EQ(page.json, json({{"Tags", {all[1], all[2]}}, {"HasMoreTags", true}}));
    done("RemoveTagsFromStream", {{"StreamName", "s"}, {"TagKeys", {"a", "not there"}}});
    done("TagResource", {{"ResourceARN", arn + "s"}, {"Tags", {{"d", "4"}}}});
    done("UntagResource", {{"ResourceARN", arn + "s"}, {"TagKeys", {"made", "b"}}});
    EXPECT_EQ(store->find("s")->stream().tags,
              (std::map<std::string, std::string>{{"c", ""}, {"d", "4"}}));
    EXPECT_EQ(ask("AddTagsToStream", {{"StreamName", "no"}, {"Tags", {{"a", "b"}}}}).type(),
              "ResourceNotFoundException");
}

TEST_F(Settings, TagsAreLimitedInNumberAndCharacters) {
    make_stream("s", 1);
    json tags;
    for (int i = 0; i < 50; ++i) {
        tags["key-" + std::to_string(i)] = "x";
    }
    done("AddTagsToStream", {{"StreamName", "s"}, {"Tags", tags}});
    const Answer more = ask("AddTagsToStream", {{"StreamName", "s"}, {"Tags", {{"one", "more"}}}});
    EXPECT_EQ(more.type(), "InvalidArgumentException");
    EXPECT_EQ(more.message(),
              "Failed to add tags to stream s under account 000000000000 because a given stream "
              "cannot have more than 50 tags associated with it.");
    EXPECT_EQ(store->find("s")->stream().tags.size(), 50U);
    for (const json& bad : {json{{"a!", "x"}}, json{{"a", "<"}}, json{{"aws:a", "x"}}}) {
        EXPECT_EQ(ask("AddTagsToStream", {{"StreamName", "s"}, {"Tags", bad}}).type(),
                  "InvalidArgumentException");
    }
    done("AddTagsToStream", {{"StreamName", "s"}, {"Tags", {{"key-1", "_.:/=+-@ % 1Äб"}}}});
}

TEST_F(Settings, MonitoringIsKeptShownAndSwitchedOff) {
    make_stream("s", 1);
    Answer answer =
        ask("EnableEnhancedMonitoring",
            {{"StreamName", "s"}, {"ShardLevelMetrics", {"OutgoingBytes", "IncomingBytes"}}});
    EXPECT_EQ(answer.json,
              json({{"StreamName", "s"},
                    {"StreamARN", arn + "s"},
                    {"CurrentShardLevelMetrics", json::array()},
                    {"DesiredShardLevelMetrics", {"IncomingBytes", "OutgoingBytes"}}}));
    EXPECT_EQ(summary("s")["EnhancedMonitoring"],
              json({{{"ShardLevelMetrics", {"IncomingBytes", "OutgoingBytes"}}}}));
    answer =
        ask("EnableEnhancedMonitoring", {{"StreamARN", arn + "s"}, {"ShardLevelMetrics", {"ALL"}}});
    EXPECT_EQ(answer.json["DesiredShardLevelMetrics"].size(), 7U);
    const Stream kept = store->find("s")->stream();
    EXPECT_EQ(*decode_stream(encode_stream(kept)), kept);
    answer = ask("DisableEnhancedMonitoring",
                 {{"StreamName", "s"}, {"ShardLevelMetrics", {"IteratorAgeMilliseconds"}}});
    EXPECT_EQ(answer.json["CurrentShardLevelMetrics"].size(), 7U);
    EXPECT_EQ(answer.json["DesiredShardLevelMetrics"].size(), 6U);
    ask("DisableEnhancedMonitoring", {{"StreamName", "s"}, {"ShardLevelMetrics", {"ALL"}}});
    EXPECT_EQ(store->find("s")->stream().shard_metrics, 0);
}

TEST_F(Settings, WhatIsReadAndRefusedIsMeteredWhereSwitchedOn) {
    make_stream("s", 1);
    make_stream("quiet", 1);
    ask("EnableEnhancedMonitoring", {{"StreamName", "s"}, {"ShardLevelMetrics", {"ALL"}}});
    for (const char* name : {"s", "quiet"}) {
        EXPECT_EQ(put(name, "12345").status, 200);
        const ShardUid shard = store->find(name)->stream().shards[0].uid;
        get(iterator(name, R"("ShardIteratorType":"TRIM_HORIZON")"));
        lanes.set([&](auto& f) { f.verdicts[shard] = AppendVerdict::no_memory; });
        EXPECT_EQ(put(name, "x").type(), "ProvisionedThroughputExceededException");
        const auto counts = store->meter().of(shard);
        const bool on = std::string_view(name) == "s";
        EXPECT_EQ(counts.outgoing_records, on ? 1U : 0U);
        EXPECT_EQ(counts.outgoing_bytes, on ? 6U : 0U);
        EXPECT_EQ(counts.writes_exceeded, on ? 1U : 0U);
        EXPECT_EQ(counts.iterator_age_ms, 0U);
    }
}

TEST_F(Settings, LimitsAreThoseOfTheNode) {
    make_stream("s", 3);
    make_on_demand("d");
    EXPECT_EQ(ask("DescribeLimits", json::object()).json, json({{"ShardLimit", 5000},
                                                                {"OpenShardCount", 7},
                                                                {"OnDemandStreamCount", 1},
                                                                {"OnDemandStreamCountLimit", 5000},
                                                                {"ChannelCount", 0},
                                                                {"ChannelCountLimit", 0}}));
}

TEST_F(Settings, TheCommitmentIsKeptForADayAtLeast) {
    const auto status = [this] {
        return ask("DescribeAccountSettings", json::object())
            .json["MinimumThroughputBillingCommitment"]["Status"]
            .get<std::string>();
    };
    const auto set = [this](const char* wanted) {
        return ask("UpdateAccountSettings",
                   {{"MinimumThroughputBillingCommitment", {{"Status", wanted}}}})
            .json["MinimumThroughputBillingCommitment"];
    };
    EXPECT_EQ(status(), "DISABLED");
    EXPECT_EQ(set("DISABLED"), json({{"Status", "DISABLED"}}));
    const json on = set("ENABLED");
    EXPECT_EQ(on["Status"], "ENABLED");
    EXPECT_EQ(on["EarliestAllowedEndAt"].get<double>() - on["StartedAt"].get<double>(), 86400.0);
    clock.ms += 3600'000;
    EXPECT_EQ(set("DISABLED")["Status"], "ENABLED_UNTIL_EARLIEST_ALLOWED_END");
    EXPECT_EQ(set("ENABLED")["Status"], "ENABLED");
    EXPECT_EQ(set("DISABLED")["EndedAt"], on["EarliestAllowedEndAt"]);
    // After a restart as well.
    close();
    open();
    EXPECT_EQ(status(), "ENABLED_UNTIL_EARLIEST_ALLOWED_END");
    clock.ms += 86'400'000;
    EXPECT_EQ(status(), "DISABLED");
    EXPECT_EQ(set("ENABLED")["StartedAt"].get<double>(), static_cast<double>(clock.ms) / 1000);
}

TEST_F(Settings, RecordSizeIsRaisedLoweredAndEnforced) {
    make_stream("s", 1);
    EXPECT_EQ(put("s", std::string(2 << 20, 'x')).type(), "ValidationException");
    done("UpdateMaxRecordSize", {{"StreamARN", arn + "s"}, {"MaxRecordSizeInKiB", 10240}});
    EXPECT_EQ(summary("s")["MaxRecordSizeInKiB"], 10240);
    EXPECT_EQ(put("s", std::string((10 << 20) - 1, 'x')).status, 200);
    EXPECT_EQ(put("s", std::string(10 << 20, 'x')).type(), "InvalidArgumentException");
    done("UpdateMaxRecordSize", {{"StreamARN", arn + "s"}, {"MaxRecordSizeInKiB", 1024}});
    EXPECT_EQ(put("s", std::string(2 << 20, 'x')).type(), "ValidationException");
    // What was stored before stays readable.
    EXPECT_EQ(data_of(get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")"))).at(0).size(),
              (10U << 20) - 1);
    EXPECT_EQ(
        ask("UpdateMaxRecordSize", {{"StreamName", "s"}, {"MaxRecordSizeInKiB", 1024}}).type(),
        "ValidationException");
}

TEST_F(Settings, WarmThroughputIsOfOnDemandStreams) {
    make_stream("s", 1);
    make_on_demand("d", {{"WarmThroughputMiBps", 7}});
    const json seven = {{"TargetMiBps", 7}, {"CurrentMiBps", 7}};
    EXPECT_EQ(summary("d")["WarmThroughput"], seven);
    EXPECT_FALSE(summary("s").contains("WarmThroughput"));
    const Answer answer =
        ask("UpdateStreamWarmThroughput", {{"StreamName", "d"}, {"WarmThroughputMiBps", 100}});
    EXPECT_EQ(answer.json, json({{"StreamName", "d"},
                                 {"StreamARN", arn + "d"},
                                 {"WarmThroughput", {{"TargetMiBps", 100}, {"CurrentMiBps", 7}}}}));
    settle();
    const json hundred = {{"TargetMiBps", 100}, {"CurrentMiBps", 100}};
    EXPECT_EQ(summary("d")["WarmThroughput"], hundred);
    EXPECT_EQ(summary("d")["OpenShardCount"], 100);
    // Less needs fewer, but shards are merged only when they are cold.
    ask("UpdateStreamWarmThroughput", {{"StreamName", "d"}, {"WarmThroughputMiBps", 2}});
    EXPECT_EQ(summary("d")["OpenShardCount"], 100);
    const Answer most =
        ask("UpdateStreamWarmThroughput", {{"StreamName", "d"}, {"WarmThroughputMiBps", 201}});
    EXPECT_EQ(most.type(), "LimitExceededException");
    EXPECT_NE(most.message().find("exceeds the limit of 200"), std::string::npos);
    EXPECT_EQ(
        ask("UpdateStreamWarmThroughput", {{"StreamName", "s"}, {"WarmThroughputMiBps", 1}}).type(),
        "ValidationException");
    EXPECT_EQ(
        ask("CreateStream", {{"StreamName", "t"}, {"ShardCount", 1}, {"WarmThroughputMiBps", 1}})
            .type(),
        "ValidationException");
}

TEST_F(Settings, RecordsAreSpreadEvenlyWhereTheStreamDistributesThem) {
    make_stream("s", 1);
    make_on_demand("d");
    const std::string missing =
        "1 validation error detected: Value null at 'partitionKey' failed to satisfy constraint: "
        "Member must not be null";
    EXPECT_EQ(ask("PutRecord", {{"StreamName", "d"}, {"Data", ""}}).message(), missing);
    EXPECT_EQ(ask("PutRecord", {{"StreamName", "no"}, {"Data", ""}}).message(), missing);
    EXPECT_EQ(ask("UpdateStreamRecordDistributionStrategy",
                  {{"StreamARN", arn + "s"}, {"RecordDistributionStrategy", "AUTO"}})
                  .type(),
              "ValidationException");
    done("UpdateStreamRecordDistributionStrategy",
         {{"StreamARN", arn + "d"}, {"RecordDistributionStrategy", "AUTO"}});
    EXPECT_EQ(summary("d")["RecordDistributionStrategy"], "AUTO");
    const Stream kept = store->find("d")->stream();
    EXPECT_EQ(*decode_stream(encode_stream(kept)), kept);
    std::map<std::string, int> by_shard;
    for (int i = 0; i < 100; ++i) {
        // One key and one hash for all, which say nothing here.
        const Answer one = ask(
            "PutRecord",
            {{"StreamName", "d"}, {"Data", ""}, {"PartitionKey", "k"}, {"ExplicitHashKey", "0"}});
        ++by_shard[one.json["ShardId"].get<std::string>()];
        const Answer three =
            ask("PutRecords",
                {{"StreamName", "d"},
                 {"Records", {{{"Data", "MQ=="}}, {{"Data", "MQ=="}}, {{"Data", "MQ=="}}}}});
        for (const json& record : three.json["Records"]) {
            ++by_shard[record["ShardId"].get<std::string>()];
        }
    }
    ASSERT_EQ(by_shard.size(), 4U);
    for (const auto& [shard, count] : by_shard) {
        EXPECT_NEAR(count, 100, 10) << shard;
    }
    const Answer records = get(iterator("d", R"("ShardIteratorType":"TRIM_HORIZON")"));
    std::set<bool> keys;
    for (const json& record : records.json["Records"]) {
        keys.insert(record.contains("PartitionKey"));
    }
    EXPECT_EQ(keys, (std::set<bool>{false, true}));
    // What else is wrong is still told, together with the missing key.
    EXPECT_TRUE(ask("PutRecord", {{"StreamName", "d"}})
                    .message()
                    .starts_with("2 validation errors detected"));
}

TEST_F(Settings, DryRunsChangeNothingAndSayWhatWouldHaveBeen) {
    make_stream("s", 1);
    const json record = {{"Data", "MQ=="}, {"PartitionKey", "k"}};
    json one = record;
    one.update({{"StreamName", "s"}, {"DryRun", true}});
    const json many = {{"StreamName", "s"}, {"DryRun", true}, {"Records", {record}}};
    EXPECT_EQ(ask("PutRecord", one).type(), "DryRunOperationException");
    EXPECT_EQ(ask("PutRecords", many).type(), "DryRunOperationException");
    for (const char* type : {"TRIM_HORIZON", "LATEST"}) {
        EXPECT_EQ(ask("GetShardIterator", {{"StreamName", "s"},
                                           {"ShardId", "0"},
                                           {"ShardIteratorType", type},
                                           {"DryRun", true}})
                      .type(),
                  "DryRunOperationException");
    }
    const std::string token = iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")");
    EXPECT_EQ(get(token, R"(,"DryRun":true)").type(), "DryRunOperationException");
    EXPECT_TRUE(get(token).json["Records"].empty());
    one["StreamName"] = "no";
    EXPECT_EQ(ask("PutRecord", one).type(), "ResourceNotFoundException");
    one["StreamName"] = "s";
    one["DryRun"] = false;
    EXPECT_EQ(ask("PutRecord", one).status, 200);
    EXPECT_EQ(ask("PutRecords", {{"StreamName", "s"}, {"Records", {record}}}).status, 200);
}

}  // namespace
}  // namespace penstock::kinesis
