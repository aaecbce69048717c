#include "control/rest/route.h"

#include <gtest/gtest.h>

namespace penstock::rest {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

TEST(RestRoute, APathIsMatchedWithItsNamesDecoded) {
    const auto found = match("GET", "/v1/streams/a%2Fb/consumers/caf%C3%A9");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->route->operation, kinesis::Operation::describe_consumer);
    EXPECT_EQ(found->parts, (std::vector<std::string>{"a/b", "café"}));
    EXPECT_TRUE(match("HEAD", "/v1/streams"));
}

TEST(RestRoute, AnotherMethodIsToldWhichThereAre) {
    const auto missed = match("PATCH", "/v1/streams/s/retention");
    ASSERT_FALSE(missed);
    EXPECT_TRUE(missed.error().path_is_known);
    EXPECT_EQ(missed.error().allow, "GET, PUT");
    for (const char* path : {"/v1", "/v1/", "/v1/streams/", "/v1/streams//shards", "/v1/stream",
                             "/v1/streams/s/records/1", "/v1/streams/%zz", "/v1/streams/s/"}) {
        const auto none = match("GET", path);
        EXPECT_FALSE(none) << path;
        EXPECT_FALSE(none.error().path_is_known) << path;
    }
}

TEST(RestRoute, APartitionKeySaysThatTheBodyIsTheRecord) {
    const auto one = [](std::string_view target, const Headers& headers) {
        return puts_one(*http::HttpRequest::make("POST", target, headers, "x"));
    };
    const std::string path = "/v1/streams/s/records";
    const Headers json = {{"Content-Type", "Application/JSON; charset=utf-8"}};
    EXPECT_FALSE(one(path, json));
    EXPECT_TRUE(one(path + "?partition_key=k", json));
    EXPECT_TRUE(one(path, {json[0], {"X-Penstock-Partition-Key", "k"}}));
    EXPECT_TRUE(one(path, {{"Content-Type", "application/x-www-form-urlencoded"}}));
    EXPECT_FALSE(one(path + "?partition_key=k", {{"Content-Type", "application/x-ndjson"}}));
}

TEST(RestRoute, NoTwoRoutesAreTheSame) {
    for (const Route& route : routes()) {
        const auto found = match(route.method, route.path);
        ASSERT_TRUE(found) << route.path;
        EXPECT_EQ(found->route, &route) << route.method << " " << route.path;
        EXPECT_EQ(found->parts.size(), route.path_fields.size());
    }
}

TEST(HttpTarget, PercentSignsAreDecodedAndWrongOnesRefused) {
    EXPECT_EQ(http::decode_percent("a%2Fb+c%e2%98%83"), "a/b+c☃");
    for (const char* wrong : {"%", "%2", "a%2", "%2g", "%g2"}) {
        EXPECT_FALSE(http::decode_percent(wrong)) << wrong;
    }
    std::string all;
    for (int c = 0; c < 256; ++c) {
        all.push_back(static_cast<char>(c));
    }
    EXPECT_EQ(http::decode_percent(http::encode_percent(all)), all);
    EXPECT_EQ(http::encode_percent("a-._~/ +"), "a-._~%2F%20%2B");
}

TEST(HttpTarget, AQueryIsReadButForItsSignature) {
    const auto query =
        http::read_query("limit=5&X-Amz-Signature=aa&a%20b=c%26d&empty&&x-amz-date=1");
    ASSERT_TRUE(query);
    EXPECT_EQ(*query, (http::Texts{{"limit", "5"}, {"a b", "c&d"}, {"empty", ""}}));
    ASSERT_NE(http::find(*query, "a b"), nullptr);
    EXPECT_EQ(http::find(*query, "none"), nullptr);
    EXPECT_FALSE(http::read_query("a=1&a=2"));
    EXPECT_FALSE(http::read_query("a=%"));
}

}  // namespace
}  // namespace penstock::rest
