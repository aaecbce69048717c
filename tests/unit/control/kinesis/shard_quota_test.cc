#include "control/kinesis/stream/shard_quota.h"

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr ShardUid shard{7};

TEST(ShardQuota, ASecondGivesWhatItSays) {
    ShardQuotas quotas({});
    std::uint64_t now_ns = 5 * second_ns;
    int taken = 0;
    for (int i = 0; i < 3000; ++i) {
        taken += quotas.take_write(shard, 10, now_ns) ? 1 : 0;
    }
    EXPECT_EQ(taken, 1000);
    EXPECT_EQ(quotas.refused_records(), 2000U);
    EXPECT_TRUE(quotas.take_write(ShardUid{8}, 10, now_ns)) << "another shard has its own";
    now_ns += second_ns / 10;
    taken = 0;
    for (int i = 0; i < 3000; ++i) {
        taken += quotas.take_write(shard, 10, now_ns) ? 1 : 0;
    }
    EXPECT_EQ(taken, 100);
    now_ns += 3600 * second_ns;  // no more than a second is saved up
    taken = 0;
    for (int i = 0; i < 300; ++i) {
        taken += quotas.take_write(shard, 10'000, now_ns) ? 1 : 0;
    }
    EXPECT_EQ(taken, 104);  // 1 MiB
    EXPECT_TRUE(quotas.take_write(shard, 10, now_ns - second_ns)) << "a clock read late";
}

TEST(ShardQuota, WhatIsLargerThanASecondIsPaidBack) {
    ShardQuotas quotas({});
    std::uint64_t now_ns = 0;
    EXPECT_TRUE(quotas.take_write(shard, 1, now_ns));
    EXPECT_FALSE(quotas.take_write(shard, 10U << 20, now_ns));
    now_ns += second_ns;
    EXPECT_TRUE(quotas.take_write(shard, 10U << 20, now_ns));
    now_ns += 9 * second_ns;
    EXPECT_FALSE(quotas.take_write(shard, 1, now_ns));
    now_ns += second_ns;
    EXPECT_TRUE(quotas.take_write(shard, 1, now_ns));

    EXPECT_TRUE(quotas.begin_read(shard, now_ns));
    quotas.spend_read(shard, 10U << 20, now_ns);
    now_ns += 4 * second_ns;
    EXPECT_FALSE(quotas.begin_read(shard, now_ns));
    now_ns += second_ns;
    EXPECT_TRUE(quotas.begin_read(shard, now_ns));
    for (int i = 0; i < 4; ++i) {
        EXPECT_TRUE(quotas.begin_read(shard, now_ns));
    }
    EXPECT_FALSE(quotas.begin_read(shard, now_ns));
    EXPECT_EQ(quotas.refused_reads(), 2U);
}

class QuotaApi : public ApiTest {
protected:
    void limit() {
        close();
        ServiceOptions options;
        options.quotas = &quotas;
        open(std::move(options));
    }
    Answer put_many(int count) {
        std::string records;
        for (int i = 0; i < count; ++i) {
            records += (i == 0 ? "" : ",") + (R"({"Data":")" + base64(std::string(1000, 'x'))) +
                       R"(","PartitionKey":"k"})";
        }
        return call("PutRecords", R"({"StreamName":"s","Records":[)" + records + "]}");
    }
    ShardQuotas quotas{{100'000, 50, 100'000, 2}};
};

TEST_F(QuotaApi, ProvisionedShardsRefuseWhatIsOverPerRecord) {
    limit();
    make_stream("s", 1);
    const Answer some = put_many(80);
    ASSERT_EQ(some.status, 200);
    EXPECT_EQ(some.json["FailedRecordCount"], 30);
    for (int i = 0; i < 80; ++i) {
        const auto& record = some.json["Records"][i];
        EXPECT_EQ(record.contains("SequenceNumber"), i < 50) << i;
        if (i >= 50) {
            EXPECT_EQ(record["ErrorCode"], "ProvisionedThroughputExceededException");
            EXPECT_EQ(record["ErrorMessage"],
                      "Rate exceeded for shard shardId-000000000000 in stream s under account "
                      "000000000000.");
        }
    }
    EXPECT_EQ(put("s", "x").type(), "ProvisionedThroughputExceededException");
    const std::string token = iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")");
    EXPECT_EQ(get(token).json["Records"].size(), 50U);
    EXPECT_EQ(get(token).status, 200);
    EXPECT_EQ(get(token).type(), "ProvisionedThroughputExceededException");
    EXPECT_EQ(quotas.refused_records(), 31U);
    EXPECT_EQ(quotas.refused_reads(), 1U);
}

TEST_F(QuotaApi, DryRunsTakeNothingAndSayWhenNothingIsLeft) {
    limit();
    make_stream("s", 1);
    const std::string token = iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")");
    const auto dry_put = [&] {
        return call("PutRecord",
                    R"({"StreamName":"s","Data":"MQ==","PartitionKey":"k","DryRun":true})")
            .type();
    };
    const auto dry_get = [&] { return get(token, R"(,"DryRun":true)").type(); };
    const std::string succeeded = "DryRunOperationException";
    const std::string exceeded = "ProvisionedThroughputExceededException";
    for (int i = 0; i < 60; ++i) {  // of 50
        EXPECT_EQ(dry_put(), succeeded);
    }
    for (int i = 0; i < 5; ++i) {  // of 2
        EXPECT_EQ(dry_get(), succeeded);
    }
    EXPECT_EQ(put_many(50).json["FailedRecordCount"], 0);
    EXPECT_EQ(dry_put(), exceeded);
    // It answers each record for itself.
    EXPECT_EQ(call("PutRecords", R"({"StreamName":"s","DryRun":true,"Records":[)"
                                 R"({"Data":"MQ==","PartitionKey":"k"}]})")
                  .type(),
              succeeded);
    EXPECT_EQ(get(token).status, 200);
    EXPECT_EQ(get(token).status, 200);
    EXPECT_EQ(dry_get(), exceeded);
    EXPECT_EQ(quotas.refused_records(), 0U);
    EXPECT_EQ(quotas.refused_reads(), 0U);
}

TEST_F(QuotaApi, WhatIsRefusedIsCountedForTheShard) {
    limit();
    make_stream("s", 1);
    ASSERT_EQ(call("EnableEnhancedMonitoring", R"({"StreamName":"s","ShardLevelMetrics":["ALL"]})")
                  .status,
              200);
    put_many(55);
    const std::string token = iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")");
    for (int i = 0; i < 5; ++i) {
        get(token);
    }
    const auto counts = store->meter().of(store->find("s")->stream().shards[0].uid);
    EXPECT_EQ(counts.writes_exceeded, 5U);
    EXPECT_EQ(counts.reads_exceeded, 3U);
}

TEST_F(QuotaApi, OnDemandStreamsHaveNoQuota) {
    limit();
    make_stream("s", 1);
    ASSERT_EQ(call("UpdateStreamMode",
                   R"({"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s",)"
                   R"("StreamModeDetails":{"StreamMode":"ON_DEMAND"}})")
                  .status,
              200);
    settle();
    EXPECT_EQ(put_many(200).json["FailedRecordCount"], 0);
    const std::string token = iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")");
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(get(token).status, 200);
    }
}

}  // namespace
}  // namespace penstock::kinesis
