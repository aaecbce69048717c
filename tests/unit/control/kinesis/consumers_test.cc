// Consumers: registered, described, listed, kept with their stream and gone with it.
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

class ConsumersTest : public ApiTest {
protected:
    ConsumersTest() { make_stream("s", 1); }

    static std::string arn_of(const std::string& stream) {
        return "arn:aws:kinesis:us-east-1:000000000000:stream/" + stream;
    }
    static std::string named(const std::string& consumer, const std::string& stream = "s") {
        return R"({"StreamARN":")" + arn_of(stream) + R"(","ConsumerName":")" + consumer + "\"}";
    }
    static std::string by_arn(const std::string& arn) {
        return R"({"ConsumerARN":")" + arn + "\"}";
    }
    std::string add(const std::string& consumer) {
        const Answer answer = call("RegisterStreamConsumer", named(consumer));
        EXPECT_EQ(answer.status, 200) << answer.body;
        return answer.status == 200 ? answer.json["Consumer"]["ConsumerARN"].get<std::string>()
                                    : "";
    }
    Answer list(const std::string& rest = "") {
        return call("ListStreamConsumers", R"({"StreamARN":")" + arn_of("s") + "\"" + rest + "}");
    }
    std::size_t count() {
        return call("DescribeStreamSummary", R"({"StreamName":"s"})")
            .json["StreamDescriptionSummary"]["ConsumerCount"]
            .get<std::size_t>();
    }
};

TEST_F(ConsumersTest, IsRegisteredAsCreatingAndThenActive) {
    const Answer made = call("RegisterStreamConsumer", named("app"));
    ASSERT_EQ(made.status, 200) << made.body;
    const auto& consumer = made.json["Consumer"];
    EXPECT_EQ(consumer["ConsumerName"], "app");
    EXPECT_EQ(consumer["ConsumerStatus"], "CREATING");
    const std::string arn = consumer["ConsumerARN"];
    EXPECT_EQ(arn, arn_of("s") + "/consumer/app:" + std::to_string(clock.wall_ms() / 1000));
    for (const std::string& body : {named("app"), by_arn(arn),
                                    R"({"ConsumerARN":")" + arn + "\"," + named("app").substr(1)}) {
        const Answer found = call("DescribeStreamConsumer", body);
        ASSERT_EQ(found.status, 200) << found.body;
        const auto& description = found.json["ConsumerDescription"];
        EXPECT_EQ(description["ConsumerStatus"], "ACTIVE");
        EXPECT_EQ(description["ConsumerARN"], arn);
        EXPECT_EQ(description["StreamARN"], arn_of("s"));
        EXPECT_EQ(description["ConsumerCreationTimestamp"], consumer["ConsumerCreationTimestamp"]);
    }
    EXPECT_EQ(count(), 1U);
    EXPECT_EQ(call("DeregisterStreamConsumer", by_arn(arn)).status, 200);
    EXPECT_EQ(count(), 0U);
    EXPECT_EQ(call("DescribeStreamConsumer", by_arn(arn)).type(), "ResourceNotFoundException");
    EXPECT_EQ(call("DeregisterStreamConsumer", named("app")).type(), "ResourceNotFoundException");
}

TEST_F(ConsumersTest, WhatCannotBeMeantIsRefused) {
    const std::string arn = add("app");
    EXPECT_EQ(call("RegisterStreamConsumer", named("app")).type(), "ResourceInUseException");
    EXPECT_EQ(call("RegisterStreamConsumer", named("app", "none")).type(),
              "ResourceNotFoundException");
    EXPECT_EQ(call("RegisterStreamConsumer", named("a b")).type(), "ValidationException");
    EXPECT_EQ(call("RegisterStreamConsumer", "{}").message(),
              "2 validation errors detected: Value null at 'streamARN' failed to satisfy "
              "constraint: Member must not be null; Value null at 'consumerName' failed to satisfy "
              "constraint: Member must not be null");
    EXPECT_EQ(call("DescribeStreamConsumer", "{}").type(), "InvalidArgumentException");
    EXPECT_EQ(call("DescribeStreamConsumer", R"({"ConsumerName":"app"})").type(),
              "InvalidArgumentException");
    EXPECT_EQ(call("DescribeStreamConsumer", named("none")).type(), "ResourceNotFoundException");
    // The same name, registered at another time, is another consumer.
    EXPECT_EQ(call("DescribeStreamConsumer", by_arn(arn + "1")).type(),
              "ResourceNotFoundException");
    EXPECT_EQ(call("DescribeStreamConsumer", by_arn(arn_of("s") + "/consumer/app")).type(),
              "ValidationException");
    EXPECT_EQ(call("DescribeStreamConsumer",
                   R"({"ConsumerARN":")" + arn + "\"," + named("other").substr(1))
                  .type(),
              "InvalidArgumentException");
    std::string foreign = arn;
    foreign.replace(foreign.find("000000000000"), 12, "111111111111");
    EXPECT_EQ(call("DescribeStreamConsumer", by_arn(foreign)).type(), "ResourceNotFoundException");
}

TEST_F(ConsumersTest, TagsOfAConsumerAreItsOwn) {
    const Answer made =
        call("RegisterStreamConsumer", R"({"Tags":{"a":"1","b":"2"},)" + named("app").substr(1));
    const std::string resource =
        R"("ResourceARN":")" + made.json["Consumer"]["ConsumerARN"].get<std::string>() + "\"";
    const auto tags = [&] { return call("ListTagsForResource", "{" + resource + "}").body; };
    EXPECT_EQ(tags(), R"({"Tags":[{"Key":"a","Value":"1"},{"Key":"b","Value":"2"}]})");
    EXPECT_EQ(call("TagResource", "{" + resource + R"(,"Tags":{"b":"3","c":""}})").status, 200);
    EXPECT_EQ(call("UntagResource", "{" + resource + R"(,"TagKeys":["a","none"]})").status, 200);
    EXPECT_EQ(tags(), R"({"Tags":[{"Key":"b","Value":"3"},{"Key":"c","Value":""}]})");
    EXPECT_EQ(call("ListTagsForResource", R"({"ResourceARN":")" + arn_of("s") + "\"}").body,
              R"({"Tags":[]})");
    std::string many = R"(,"Tags":{)";
    for (int i = 0; i < 49; ++i) {
        many += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":\"v\"";
    }
    EXPECT_EQ(call("TagResource", "{" + resource + many + "}}").type(), "InvalidArgumentException");
    EXPECT_EQ(call("DeregisterStreamConsumer", named("app")).status, 200);
    EXPECT_EQ(call("TagResource", "{" + resource + R"(,"Tags":{"b":"3"}})").type(),
              "ResourceNotFoundException");
}

TEST_F(ConsumersTest, AStreamHasTwentyAtMost) {
    for (int i = 0; i < 20; ++i) {
        add("app-" + std::to_string(i));
    }
    EXPECT_EQ(call("RegisterStreamConsumer", named("more")).type(), "LimitExceededException");
    EXPECT_EQ(call("DeregisterStreamConsumer", named("app-7")).status, 200);
    add("more");
    // Or as many as the node is told.
    close();
    ServiceOptions options;
    options.consumers_max = 21;
    open(std::move(options));
    add("one-more");
    EXPECT_EQ(call("RegisterStreamConsumer", named("two-more")).type(), "LimitExceededException");
}

TEST_F(ConsumersTest, AreListedInPages) {
    std::vector<std::string> wanted;
    for (int i = 0; i < 5; ++i) {
        wanted.push_back("app-" + std::to_string(i));
        add(wanted.back());
    }
    std::vector<std::string> got;
    std::string more;
    int pages = 0;
    do {
        const Answer page = list(R"(,"MaxResults":2)" + more);
        ASSERT_EQ(page.status, 200) << page.body;
        for (const auto& consumer : page.json["Consumers"]) {
            got.push_back(consumer["ConsumerName"]);
            EXPECT_EQ(consumer["ConsumerStatus"], "ACTIVE");
        }
        ++pages;
        more = page.json.contains("NextToken") ? R"(,"NextToken":)" + page.json["NextToken"].dump()
                                               : "";
        if (pages == 1) {
            // Pages go on behind what was given out, whatever came and went.
            ASSERT_EQ(call("DeregisterStreamConsumer", named("app-0")).status, 200);
        }
    } while (!more.empty());
    EXPECT_EQ(got, wanted);
    EXPECT_EQ(pages, 3);
    const Answer first = list(R"(,"MaxResults":1)");
    const std::string token = R"(,"NextToken":)" + first.json["NextToken"].dump();
    EXPECT_EQ(list(token + R"(,"StreamCreationTimestamp":1)").type(), "InvalidArgumentException");
    EXPECT_EQ(list(R"(,"NextToken":"x")").type(), "InvalidArgumentException");
    EXPECT_EQ(list(R"(,"StreamCreationTimestamp":1)").type(), "ResourceNotFoundException");
    clock.ms += 300'001;
    EXPECT_EQ(list(token).type(), "ExpiredNextTokenException");
    EXPECT_EQ(list(R"(,"MaxResults":0)").type(), "ValidationException");
}

TEST_F(ConsumersTest, OutliveARestart) {
    const Answer made =
        call("RegisterStreamConsumer", R"({"Tags":{"team":"a"},)" + named("app").substr(1));
    ASSERT_EQ(made.status, 200) << made.body;
    add("gone");
    ASSERT_EQ(call("DeregisterStreamConsumer", named("gone")).status, 200);
    const Answer before = list();
    close();
    open();
    EXPECT_EQ(list().body, before.body);
    const Stream& stream = store->find("s")->stream();
    ASSERT_EQ(stream.consumers.size(), 1U);
    EXPECT_EQ(stream.consumers[0].tags, (std::map<std::string, std::string>{{"team", "a"}}));
    EXPECT_EQ(stream.next_consumer_number, 3U) << "numbers of consumers that are gone come back";
    EXPECT_EQ(decode_stream(encode_stream(stream)), stream);
}

TEST_F(ConsumersTest, KeepTheirStreamUnlessTheyMayGoWithIt) {
    add("app");
    const Answer kept = call("DeleteStream", R"({"StreamName":"s"})");
    EXPECT_EQ(kept.type(), "ResourceInUseException");
    EXPECT_EQ(call("DeleteStream", R"({"StreamName":"s","EnforceConsumerDeletion":false})").type(),
              "ResourceInUseException");
    EXPECT_EQ(call("DeleteStream", R"({"StreamName":"s","EnforceConsumerDeletion":true})").status,
              200);
    settle();
    EXPECT_EQ(store->find("s"), nullptr);
    make_stream("s", 1);
    EXPECT_EQ(count(), 0U);
}

TEST(ConsumerFormat, EntriesOfStreamsThatNeverHadConsumersStayAsTheyWere) {
    Stream stream;
    stream.name = "s";
    const std::string before = encode_stream(stream);
    EXPECT_EQ(before.find("consumer"), std::string::npos);
    EXPECT_EQ(decode_stream(before), stream);
    stream.next_consumer_number = 3;
    stream.consumers = {{.number = 2, .name = "app", .created_ms = 5, .tags = {}}};
    const std::string text = encode_stream(stream);
    EXPECT_EQ(decode_stream(text), stream);
    // A number that was not given out yet, and one that comes twice.
    std::string bad = text;
    bad.replace(bad.find(R"("number":2)"), 10, R"("number":3)");
    EXPECT_FALSE(decode_stream(bad));
    stream.consumers.push_back(stream.consumers[0]);
    EXPECT_FALSE(decode_stream(encode_stream(stream)));
}

}  // namespace
}  // namespace penstock::kinesis
