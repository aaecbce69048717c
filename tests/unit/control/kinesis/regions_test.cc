// One node that serves two regions: streams of one are nowhere to be seen in the other.
#include <gtest/gtest.h>

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

class RegionsTest : public ApiTest {
protected:
    RegionsTest() {
        close();
        ServiceOptions options;
        options.regions = {"us-east-1", "eu-west-1"};
        open(std::move(options));
    }

    Answer in(std::string_view region, std::string_view operation, std::string_view body) {
        const std::string credential = "AWS4-HMAC-SHA256 Credential=KEY/20260101/" +
                                       std::string(region) +
                                       "/kinesis/aws4_request, SignedHeaders=host, Signature=0";
        return call(operation, body, {{"Authorization", credential}});
    }
    void make(std::string_view region, std::string_view name, int shards) {
        const std::string body = R"({"StreamName":")" + std::string(name) + R"(","ShardCount":)" +
                                 std::to_string(shards) + "}";
        ASSERT_EQ(in(region, "CreateStream", body).status, 200);
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        const auto status = [&] {
            return in(region, "DescribeStreamSummary",
                      R"({"StreamName":")" + std::string(name) + R"("})")
                .json["StreamDescriptionSummary"]["StreamStatus"];
        };
        while (status() != "ACTIVE" && std::chrono::steady_clock::now() < give_up) {
            std::this_thread::yield();
        }
        ASSERT_EQ(status(), "ACTIVE");
    }
    nlohmann::json names(std::string_view region) {
        return in(region, "ListStreams", "{}").json["StreamNames"];
    }
    std::string iterator(std::string_view region) {
        return in(region, "GetShardIterator",
                  R"({"StreamName":"s","ShardId":"shardId-000000000000",)"
                  R"("ShardIteratorType":"TRIM_HORIZON"})")
            .json["ShardIterator"];
    }
    Answer records(std::string_view region, const std::string& iterator) {
        return in(region, "GetRecords", R"({"ShardIterator":")" + iterator + R"("})");
    }
};

TEST_F(RegionsTest, StreamsOfTheSameNameAreTwoStreams) {
    make("us-east-1", "s", 1);
    make("eu-west-1", "s", 2);
    make("eu-west-1", "t", 1);
    EXPECT_EQ(names("us-east-1"), nlohmann::json({"s"}));
    EXPECT_EQ(names("eu-west-1"), nlohmann::json({"s", "t"}));
    const auto summary = in("eu-west-1", "DescribeStreamSummary", R"({"StreamName":"s"})")
                             .json["StreamDescriptionSummary"];
    EXPECT_EQ(summary["StreamName"], "s");
    EXPECT_EQ(summary["StreamARN"], "arn:aws:kinesis:eu-west-1:000000000000:stream/s");
    EXPECT_EQ(summary["OpenShardCount"], 2);

    ASSERT_EQ(in("us-east-1", "PutRecord", R"({"StreamName":"s","PartitionKey":"k","Data":"dXM="})")
                  .status,
              200);
    EXPECT_EQ(records("us-east-1", iterator("us-east-1")).json["Records"].size(), 1U);
    EXPECT_EQ(records("eu-west-1", iterator("eu-west-1")).json["Records"].size(), 0U);

    ASSERT_EQ(in("us-east-1", "DeleteStream", R"({"StreamName":"s"})").status, 200);
    EXPECT_EQ(in("eu-west-1", "DescribeStreamSummary", R"({"StreamName":"s"})").status, 200);
}

TEST_F(RegionsTest, WhatOneRegionGaveIsNothingInTheOther) {
    make("us-east-1", "s", 1);
    make("eu-west-1", "s", 1);
    EXPECT_EQ(records("eu-west-1", iterator("us-east-1")).type(), "InvalidArgumentException");
    EXPECT_EQ(records("us-east-1", iterator("eu-west-1")).type(), "InvalidArgumentException");
    const auto by_arn = [&](std::string_view region, std::string_view of) {
        return in(
            region, "DescribeStreamSummary",
            R"({"StreamARN":"arn:aws:kinesis:)" + std::string(of) + R"(:000000000000:stream/s"})");
    };
    EXPECT_EQ(by_arn("eu-west-1", "us-east-1").type(), "ResourceNotFoundException");
    EXPECT_EQ(by_arn("us-east-1", "eu-west-1").type(), "ResourceNotFoundException");
    EXPECT_EQ(by_arn("eu-west-1", "eu-west-1").status, 200);
    // One that nobody serves is no region that something could be kept apart from.
    EXPECT_EQ(by_arn("eu-west-1", "ap-south-1").status, 200);
    EXPECT_EQ(in("eu-west-1", "DescribeStreamSummary", R"({"StreamName":"none"})").message(),
              "Stream none under account 000000000000 not found.");

    const auto consumer =
        in("eu-west-1", "RegisterStreamConsumer",
           R"({"StreamARN":"arn:aws:kinesis:eu-west-1:000000000000:stream/s","ConsumerName":"c"})");
    const std::string arn = consumer.json["Consumer"]["ConsumerARN"];
    EXPECT_TRUE(arn.starts_with("arn:aws:kinesis:eu-west-1:000000000000:stream/s/consumer/c:"));
    const std::string body = R"({"ConsumerARN":")" + arn + R"("})";
    EXPECT_EQ(in("eu-west-1", "DescribeStreamConsumer", body).status, 200);
    EXPECT_EQ(in("us-east-1", "DescribeStreamConsumer", body).type(), "ResourceNotFoundException");
}

// In the store it is called eu-west-1/s.
TEST_F(RegionsTest, NoArnLeadsToAStreamOfAnotherRegionByItsNameInTheStore) {
    make("eu-west-1", "s", 1);
    ASSERT_EQ(in("eu-west-1", "RegisterStreamConsumer",
                 R"({"StreamARN":"arn:aws:kinesis:eu-west-1:000000000000:stream/s",)"
                 R"("ConsumerName":"c"})")
                  .status,
              200);
    const std::string arn =
        R"("StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/eu-west-1/s")";
    for (const auto& [operation, rest] : std::vector<std::pair<std::string, std::string>>{
             {"DescribeStreamSummary", ""},
             {"PutRecord", R"(,"Data":"MQ==","PartitionKey":"k")"},
             {"ListShards", ""},
             {"DescribeStreamConsumer", R"(,"ConsumerName":"c")"},
             {"DeregisterStreamConsumer", R"(,"ConsumerName":"c")"},
             {"RegisterStreamConsumer", R"(,"ConsumerName":"d")"},
             {"DeleteStream", R"(,"EnforceConsumerDeletion":true)"}}) {
        for (const char* region : {"us-east-1", "eu-west-1"}) {
            EXPECT_EQ(in(region, operation, "{" + arn + rest + "}").type(),
                      "ResourceNotFoundException")
                << operation << " in " << region;
        }
    }
    EXPECT_EQ(in("eu-west-1", "DescribeStreamSummary", R"({"StreamName":"s"})")
                  .json["StreamDescriptionSummary"]["ConsumerCount"],
              1);
}

TEST_F(RegionsTest, PagesOfStreamsStayInTheirRegion) {
    for (const char* name : {"a", "b", "z"}) {
        make("us-east-1", name, 1);
        make("eu-west-1", name, 1);
    }
    for (const char* region : {"us-east-1", "eu-west-1"}) {
        auto page = in(region, "ListStreams", R"({"Limit":2})");
        EXPECT_EQ(page.json["StreamNames"], nlohmann::json({"a", "b"}));
        EXPECT_EQ(page.json["HasMoreStreams"], true);
        const std::string token = page.json["NextToken"];
        page = in(region, "ListStreams", R"({"NextToken":")" + token + R"("})");
        EXPECT_EQ(page.json["StreamNames"], nlohmann::json({"z"}));
        EXPECT_EQ(page.json["HasMoreStreams"], false);
        page = in(region, "ListStreams", R"({"ExclusiveStartStreamName":"a"})");
        EXPECT_EQ(page.json["StreamNames"], nlohmann::json({"b", "z"}));
        const char* other = region[0] == 'u' ? "eu-west-1" : "us-east-1";
        EXPECT_EQ(in(other, "ListStreams", R"({"NextToken":")" + token + R"("})").type(),
                  "InvalidArgumentException");
    }
}

TEST_F(RegionsTest, TheyOutliveARestart) {
    make("us-east-1", "s", 1);
    make("eu-west-1", "s", 2);
    close();
    ServiceOptions options;
    options.regions = {"us-east-1", "eu-west-1"};
    open(std::move(options));
    EXPECT_EQ(in("eu-west-1", "DescribeStreamSummary", R"({"StreamName":"s"})")
                  .json["StreamDescriptionSummary"]["OpenShardCount"],
              2);
    EXPECT_EQ(names("us-east-1"), nlohmann::json({"s"}));
}

}  // namespace
}  // namespace penstock::kinesis
