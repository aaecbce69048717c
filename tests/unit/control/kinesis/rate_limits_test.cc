#include "control/kinesis/operations/rate_limits.h"

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

int taken(RateLimits& rates, Operation operation, std::string_view subject, std::uint64_t now_ns,
          int tries) {
    int count = 0;
    for (int i = 0; i < tries; ++i) {
        count += rates.take(operation, subject, now_ns) ? 1 : 0;
    }
    return count;
}

TEST(RateLimits, ASecondsWorthIsTakenAtOnceAndComesBackWithTime) {
    RateLimits rates;
    std::uint64_t now_ns = 7 * second_ns;
    EXPECT_EQ(taken(rates, Operation::describe_stream, "s", now_ns, 30), 10);
    now_ns += second_ns / 5;
    EXPECT_EQ(taken(rates, Operation::describe_stream, "s", now_ns, 30), 2);
    now_ns += second_ns / 10 - 1;
    EXPECT_EQ(taken(rates, Operation::describe_stream, "s", now_ns, 30), 0);
    now_ns += 100 * second_ns;
    EXPECT_EQ(taken(rates, Operation::describe_stream, "s", now_ns, 30), 10);
    EXPECT_EQ(rates.refused(Operation::describe_stream), 20U + 28 + 30 + 20);
    EXPECT_EQ(rates.refused(Operation::list_streams), 0U);
}

TEST(RateLimits, WhatIsCountedTogetherIsTheAccountsOrTheStreams) {
    RateLimits rates;
    EXPECT_EQ(taken(rates, Operation::create_stream, "a", second_ns, 3), 3);
    EXPECT_EQ(taken(rates, Operation::create_stream, "b", second_ns, 3), 2) << "one account";
    EXPECT_EQ(taken(rates, Operation::delete_stream, "b", second_ns, 3), 3) << "another operation";
    EXPECT_EQ(taken(rates, Operation::list_consumers, "a", second_ns, 9), 5);
    EXPECT_EQ(taken(rates, Operation::list_consumers, "b", second_ns, 9), 5) << "another stream";
    EXPECT_EQ(taken(rates, Operation::put_record, "a", second_ns, 5000), 5000) << "has none";
}

TEST(RateLimits, VeryManyStreamsAreNotAllRemembered) {
    RateLimits rates;
    for (int i = 0; i < 100'000; ++i) {
        ASSERT_TRUE(rates.take(Operation::list_shards, std::to_string(i), second_ns));
    }
    EXPECT_EQ(taken(rates, Operation::list_shards, "s", second_ns, 1001), 1000);
}

class RateLimitsApi : public ApiTest {
protected:
    RateLimitsApi() {
        make_stream("s", 2);
        close();
        ServiceOptions options;
        options.rates = &rates;
        open(std::move(options));
    }
    ~RateLimitsApi() override { close(); }
    // How many of as many requests went through, and what the others were told.
    std::pair<int, Answer> ask_often(const std::string& operation, const std::string& body,
                                     int times) {
        std::pair<int, Answer> result;
        for (int i = 0; i < times; ++i) {
            Answer answer = call(operation, body);
            if (answer.status == 200) {
                ++result.first;
            } else {
                result.second = std::move(answer);
            }
        }
        return result;
    }
    RateLimits rates;
};

TEST_F(RateLimitsApi, TooManyAreAnsweredInKinesisWords) {
    const auto [described, refused] = ask_often("DescribeStream", R"({"StreamName":"s"})", 13);
    EXPECT_EQ(described, 10);
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(refused.type(), "LimitExceededException");
    EXPECT_EQ(refused.message(), "Rate exceeded for stream s under account 000000000000.");
    const auto [listed, unlisted] = ask_often("ListStreams", "{}", 6);
    EXPECT_EQ(listed, 5);
    EXPECT_EQ(unlisted.type(), "LimitExceededException");
    EXPECT_EQ(unlisted.message(), "Rate exceeded for account 000000000000.");
    EXPECT_EQ(ask_often("DescribeLimits", "{}", 4).first, 1);
    clock.ns += second_ns;
    EXPECT_EQ(call("DescribeStream", R"({"StreamName":"s"})").status, 200);
}

TEST_F(RateLimitsApi, IteratorsAreCountedByShard) {
    const std::string body = R"({"StreamName":"s","ShardIteratorType":"TRIM_HORIZON","ShardId":)";
    const auto [first, refused] = ask_often("GetShardIterator", body + "\"0\"}", 7);
    EXPECT_EQ(first, 5);
    EXPECT_EQ(refused.type(), "ProvisionedThroughputExceededException");
    EXPECT_EQ(ask_often("GetShardIterator", body + "\"1\"}", 7).first, 5);
}

TEST_F(RateLimitsApi, ConsumersAreAskedForByStream) {
    const std::string arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    ASSERT_EQ(call("RegisterStreamConsumer", R"({"StreamARN":")" + arn + R"(","ConsumerName":"c"})")
                  .status,
              200);
    const auto [described, refused] = ask_often(
        "DescribeStreamConsumer", R"({"StreamARN":")" + arn + R"(","ConsumerName":"c"})", 22);
    EXPECT_EQ(described, 20);
    EXPECT_EQ(refused.message(), "Rate exceeded for stream s under account 000000000000.");
}

TEST_F(ApiTest, WithoutTheSettingNothingIsCounted) {
    for (int i = 0; i < 50; ++i) {
        ASSERT_EQ(call("ListStreams", "{}").status, 200);
    }
}

}  // namespace
}  // namespace penstock::kinesis
