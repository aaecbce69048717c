#include "control/rest/answer.h"

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

namespace penstock::rest {
namespace {

using nlohmann::json;

http::HttpResponse shape(std::string_view method, std::string_view path, const std::string& body,
                         const http::Texts& query = {}) {
    const auto found = match(method, path);
    return response_of({*found->route, path, query}, {200, body});
}

TEST(RestAnswer, NamesAreInSnakeCase) {
    for (const auto& [name, snake] :
         {std::pair{"StreamARN", "stream_arn"}, std::pair{"ShardId", "shard_id"},
          std::pair{"MaxRecordSizeInKiB", "max_record_size_in_kib"},
          std::pair{"TargetMiBps", "target_mibps"}, std::pair{"ConsumerARN", "consumer_arn"},
          std::pair{"HashKeyRange", "hash_key_range"}, std::pair{"X", "x"}}) {
        EXPECT_EQ(snake_case(name), snake);
    }
}

TEST(RestAnswer, EveryExceptionHasAStatus) {
    EXPECT_EQ(status_of("ResourceNotFoundException"), 404);
    EXPECT_EQ(status_of("ResourceInUseException"), 409);
    EXPECT_EQ(status_of("LimitExceededException"), 429);
    EXPECT_EQ(status_of("AccessDeniedException"), 403);
    EXPECT_EQ(status_of("InternalFailure"), 500);
    EXPECT_EQ(status_of("ValidationException"), 400);
    const auto error =
        error_of({400, R"({"__type":"ResourceNotFoundException","message":"no \"s\""})"});
    EXPECT_EQ(error.status, 404);
    EXPECT_EQ(json::parse(error.body),
              json({{"__type", "ResourceNotFoundException"}, {"message", "no \"s\""}}));
    EXPECT_TRUE(error.body.ends_with("}\n"));
    EXPECT_EQ(error_of({400, R"({"__type":"SerializationException","Message":"m"})"}).status, 400);
    EXPECT_EQ(error_of({500, "The request was dropped without an answer.\n"}).status, 500);
}

TEST(RestAnswer, StreamsLeadToTheNextPage) {
    const auto page = shape("GET", "/v1/streams",
                            R"({"StreamNames":["a","b c"],"HasMoreStreams":true,"NextToken":"t",)"
                            R"("StreamSummaries":[{"StreamName":"a","StreamModeDetails":)"
                            R"({"StreamMode":"ON_DEMAND"},"StreamCreationTimestamp":1.5}]})",
                            {{"limit", "2"}});
    EXPECT_EQ(json::parse(page.body),
              json::parse(R"({"streams":[{"stream_name":"a","stream_mode":"ON_DEMAND",)"
                          R"("stream_creation_timestamp":"1970-01-01T00:00:01.500Z"}],)"
                          R"("next":"/v1/streams?exclusive_start_stream_name=b%20c&limit=2"})"));
    EXPECT_EQ(json::parse(shape("GET", "/v1/streams",
                                R"({"StreamNames":[],"HasMoreStreams":false,"StreamSummaries":[]})")
                              .body),
              json::parse(R"({"streams":[]})"));
}

TEST(RestAnswer, ConsumersAreAllOfAStreamOrNone) {
    std::string out = "[";
    ASSERT_TRUE(append_consumers(out, {200, R"({"Consumers":[{"ConsumerName":"a"}]})"}, "s"));
    ASSERT_TRUE(append_consumers(out, {200, R"({"Consumers":[]})"}, "t"));
    ASSERT_TRUE(append_consumers(out, {200, R"({"Consumers":[{"ConsumerName":"b"}]})"}, "u"));
    EXPECT_EQ(out, R"([{"stream_name":"s","consumer_name":"a"},)"
                   R"({"stream_name":"u","consumer_name":"b"})");
    for (const char* body : {"", "{", "[]", "{}", R"({"Consumers":1})", R"({"Consumers":[1]})",
                             R"({"Consumers":[{"ConsumerName":"a"}],"NextToken":"t"})"}) {
        EXPECT_FALSE(append_consumers(out, {200, body}, "s")) << body;
    }
}

TEST(RestAnswer, AListOfStreamsThatCannotBeReadIsNotAnEmptyOne) {
    EXPECT_EQ(read_streams({200, R"({"StreamNames":["a"],"NextToken":"t"})"}).value().has_more,
              true);
    for (const char* body : {"", "{", "{}", R"({"StreamNames":1})", R"({"StreamNames":[1]})",
                             R"({"StreamNames":[],"NextToken":"t"})"}) {
        EXPECT_FALSE(read_streams({200, body})) << body;
    }
}

TEST(RestAnswer, RecordsAreTextWhereTheyAreText) {
    const std::string records =
        R"({"Records":[{"SequenceNumber":"4","ApproximateArrivalTimestamp":1795446604.123,)"
        R"("Data":"YeKYgw==","PartitionKey":"k"},{"SequenceNumber":"5",)"
        R"("ApproximateArrivalTimestamp":0,"Data":"/w==","PartitionKey":"\n"}],)"
        R"("NextShardIterator":"a+/=","MillisBehindLatest":7})";
    const http::Texts query = {{"limit", "2"}, {"shard_id", "0"}, {"sequence_number", "3"}};
    const std::string_view path = "/v1/streams/s/records";
    const auto page = shape("GET", path, records, query);
    const json expected = json::parse(
        R"([{"sequence_number":"4","approximate_arrival_timestamp":"2026-11-23T15:10:04.123Z",)"
        R"("data":"a☃","partition_key":"k"},{"sequence_number":"5",)"
        R"("approximate_arrival_timestamp":"1970-01-01T00:00:00.000Z","data_base64":"/w==",)"
        R"("partition_key":"\n"}])");
    EXPECT_EQ(json::parse(page.body),
              json({{"records", expected},
                    {"millis_behind_latest", 7},
                    {"next", "/v1/streams/s/records?limit=2&shard_iterator=a-_"}}));
    const auto lines = lines_of({*match("GET", path)->route, path, query}, {200, records});
    EXPECT_EQ(lines.content_type, "application/x-ndjson");
    const std::size_t end = lines.body.find('\n');
    EXPECT_EQ(json::parse(lines.body.substr(0, end)), expected[0]);
    EXPECT_EQ(json::parse(lines.body.substr(end + 1)), expected[1]);
    const std::pair<std::string, std::string> link{
        "Link", "</v1/streams/s/records?limit=2&shard_iterator=a-_>; rel=\"next\""};
    EXPECT_EQ(lines.headers.at(0), link);
}

TEST(RestAnswer, WhatWasNotStoredIsSaidByTheStatus) {
    const std::string_view path = "/v1/streams/s/records";
    EXPECT_EQ(shape("POST", path, R"({"Records":[],"FailedRecordCount":0})").status, 200);
    const auto partly = shape("POST", path,
                              R"({"Records":[{"ErrorCode":"InternalFailure","ErrorMessage":"m"}],)"
                              R"("FailedRecordCount":1})");
    EXPECT_EQ(partly.status, 207);
    EXPECT_EQ(json::parse(partly.body),
              json::parse(R"({"records":[{"error_code":"InternalFailure","error_message":"m"}],)"
                          R"("failed_record_count":1})"));
    EXPECT_EQ(shape("DELETE", "/v1/streams/s", "").status, 202);
    EXPECT_EQ(shape("DELETE", "/v1/streams/s", "").body, "{}\n");
    EXPECT_EQ(shape("GET", "/v1/streams/s", "nonsense").status, 500);
}

}  // namespace
}  // namespace penstock::rest
