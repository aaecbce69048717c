#include "control/rest/members.h"

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

namespace penstock::rest {
namespace {

using nlohmann::json;

const Route& route(std::string_view method, std::string_view path) {
    return *match(method, path)->route;
}

json body_of(std::string_view method, std::string_view path, const std::string& body) {
    Members members;
    const auto read = read_body(route(method, path), body, members);
    return read ? json::parse(members.json()) : json(read.error());
}

TEST(RestMembers, ABodyBecomesTheOperationsInput) {
    EXPECT_EQ(body_of("POST", "/v1/streams",
                      R"({"stream_name":"a\"b","shard_count":2,"stream_mode":"PROVISIONED",)"
                      R"("tags":{"shard_count":"x"}})"),
              json({{"StreamName", "a\"b"},
                    {"ShardCount", 2},
                    {"StreamModeDetails", {{"StreamMode", "PROVISIONED"}}},
                    {"Tags", {{"shard_count", "x"}}}}));
}

TEST(RestMembers, WhatIsWrongWithABodyIsSaid) {
    const auto error = [](const std::string& body) {
        return body_of("PUT", "/v1/streams/s/retention", body);
    };
    EXPECT_EQ(error(""), "the body: expected a JSON object of retention_period_hours");
    EXPECT_EQ(error("[]"), "the body: expected a JSON object of retention_period_hours");
    EXPECT_EQ(error(R"({"hours":1})"), "the body: found 'hours'; expected retention_period_hours");
    EXPECT_EQ(error(R"({"retention_period_hours":"24"})"),
              "retention_period_hours: expected a whole number");
    EXPECT_EQ(error("{}"), "the body: retention_period_hours is missing; expected a whole number");
    EXPECT_EQ(body_of("GET", "/v1/streams", "{}"), "the body: GET /v1/streams takes none");
}

TEST(RestMembers, ParametersAreReadByTheirKind) {
    Members members;
    ASSERT_TRUE(read_parameters(route("GET", "/v1/streams/s/shards"),
                                {{"max_results", "5"},
                                 {"shard_filter_type", "AT_TIMESTAMP"},
                                 {"shard_filter_timestamp", "2026-01-02T03:04:05.678Z"}},
                                members));
    EXPECT_EQ(json::parse(members.json()),
              json::parse(R"({"MaxResults":5,"ShardFilter":{"Type":"AT_TIMESTAMP",)"
                          R"("Timestamp":1767323045.678}})"));
    const auto error = [](const http::Texts& query) {
        Members none;
        return read_parameters(route("GET", "/v1/streams"), query, none).error();
    };
    EXPECT_EQ(error({{"limit", "x"}}), "limit: expected a whole number, found 'x'");
    EXPECT_EQ(error({{"limit", "007"}}), "limit: expected a whole number, found '007'");
    EXPECT_EQ(error({{"limit", "99999999999999999999"}}),
              "limit: expected a whole number, found '99999999999999999999'");
    EXPECT_EQ(error({{"lim", "1"}}),
              "the query: found 'lim'; GET /v1/streams takes limit, exclusive_start_stream_name");
    EXPECT_EQ(error({{"exclusive_start_stream_name", "\xff"}}),
              "exclusive_start_stream_name: expected UTF-8");
}

TEST(RestMembers, TimesAreReadAndWritten) {
    EXPECT_EQ(parse_time_ms("1970-01-01T00:00:00Z"), 0);
    EXPECT_EQ(parse_time_ms("1969-12-31T23:59:59.999Z"), std::nullopt);
    EXPECT_EQ(parse_time_ms("2026-11-23T15:10:04.1239Z"), 1795446604123);
    EXPECT_EQ(parse_time_ms("2026-11-23T16:40:04+01:30"), 1795446604000);
    EXPECT_EQ(parse_time_ms("2026-11-23T05:10:04-10:00"), 1795446604000);
    EXPECT_EQ(parse_time_ms("2024-02-29 00:00:00z"), 1709164800000);
    EXPECT_EQ(parse_time_ms("1795446604.5"), 1795446604500);
    EXPECT_EQ(parse_time_ms("0"), 0);
    EXPECT_EQ(parse_time_ms("2026"), 2026'000);
    for (const char* wrong :
         {"", "x", "-1", "1e300", "nan", "2026-11-23", "2025-02-29T00:00:00Z",
          "2026-13-01T00:00:00Z", "2026-11-23T24:00:00Z", "2026-11-23T15:10:04",
          "2026-11-23T15:10:04.Z", "2026-11-23T15:10:04Zx", "2026-11-23T15:10:04+24:00",
          "2026-11-23T15:10:04+1", "2026-1-23T15:10:04Z"}) {
        EXPECT_FALSE(parse_time_ms(wrong)) << wrong;
    }
    EXPECT_EQ(format_time_ms(1795446604123), "2026-11-23T15:10:04.123Z");
    EXPECT_EQ(format_time_ms(0), "1970-01-01T00:00:00.000Z");
}

TEST(RestMembers, RecordsAreTextsOtherJsonOrBase64) {
    const auto entries =
        listed_records(R"({"records":[{"data":"a☃","partition_key":"k"},)"
                       R"({"data":{"t": 21.5},"partition_key":"k","explicit_hash_key":"7"},)"
                       R"({"data_base64":"/w==","partition_key":"k","sequence_number":"4"}]})");
    ASSERT_TRUE(entries) << entries.error();
    EXPECT_EQ(json::parse("[" + *entries + "]"),
              json::parse(R"([{"Data":"YeKYgw==","PartitionKey":"k"},)"
                          R"({"Data":"eyJ0IjoyMS41fQ==","PartitionKey":"k","ExplicitHashKey":"7"},)"
                          R"({"Data":"/w==","PartitionKey":"k"}])"));
    const auto error = [](const std::string& body) { return listed_records(body).error(); };
    EXPECT_TRUE(error("[]").starts_with("the body: expected {\"records\":["));
    EXPECT_TRUE(error(R"({"records":[],"x":1})").starts_with("the body: expected"));
    EXPECT_EQ(error(R"({"records":[1]})"),
              "records[0]: expected an object with data and partition_key");
    EXPECT_EQ(error(R"({"records":[{"data":""},{"data":"","data_base64":""}]})"),
              "records[1]: expected one of data and data_base64, found both");
    EXPECT_EQ(error(R"({"records":[{"key":"k"}]})"),
              "records[0]: found 'key'; expected data or data_base64, partition_key, "
              "explicit_hash_key");
    EXPECT_TRUE(error(R"({"records":[{"partition_key":1}]})")
                    .starts_with("records[0]: found 'partition_key', which is no text"));
}

TEST(RestMembers, LinesAreRecordsOrTheirData) {
    const auto listed =
        lines_of_records("{\"data\":1,\"partition_key\":\"k\"}\r\n\n{\"data\":2}", {});
    ASSERT_TRUE(listed) << listed.error();
    EXPECT_EQ(json::parse("[" + *listed + "]"),
              json::parse(R"([{"Data":"MQ==","PartitionKey":"k"},{"Data":"Mg=="}])"));
    const auto raw = lines_of_records("one\n{two\n", {"k", "9"});
    ASSERT_TRUE(raw);
    EXPECT_EQ(json::parse("[" + *raw + "]"),
              json::parse(R"([{"Data":"b25l","PartitionKey":"k","ExplicitHashKey":"9"},)"
                          R"({"Data":"e3R3bw==","PartitionKey":"k","ExplicitHashKey":"9"}])"));
    EXPECT_EQ(lines_of_records("{\"data\":1}\n\n{", {}).error(),
              "line 3: expected a JSON object with data and partition_key");
}

TEST(RestMembers, NoMoreThanOneTooManyIsRead) {
    std::string lines;
    std::string list = R"({"records":[)";
    for (int i = 0; i < 10'000; ++i) {
        lines += "x\n";
        list += i == 0 ? "{}" : ",{}";
    }
    const auto count = [](const std::string& entries) {
        return json::parse("[" + entries + "]").size();
    };
    EXPECT_EQ(count(*lines_of_records(lines, {"k", {}})), 501U);
    EXPECT_EQ(count(*listed_records(list + "]}")), 501U);
}

TEST(RestMembers, AnIteratorGoesThroughALink) {
    for (const std::string iterator : {"", "abcd", "a+/=", "+/==", "AAA="}) {
        const std::string link = iterator_for_link(iterator);
        EXPECT_EQ(link.find_first_of("+/="), std::string::npos);
        EXPECT_EQ(iterator_from_link(link), iterator);
        EXPECT_EQ(iterator_from_link(iterator), iterator) << "as the Kinesis API gives it";
    }
}

}  // namespace
}  // namespace penstock::rest
