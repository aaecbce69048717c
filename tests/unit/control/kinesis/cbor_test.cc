// The API in CBOR, against nlohmann's reader and writer of it.
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

using nlohmann::json;

std::string bytes_of(const json& value) {
    std::string out;
    json::to_cbor(value, out);
    return out;
}

// "Data" as a byte string.
json binary(std::string_view text) {
    return json::binary({text.begin(), text.end()});
}

std::string text_of(const json& value) {
    const auto& bytes = value.get_binary();
    return {bytes.begin(), bytes.end()};
}

class Cbor : public ApiTest {
protected:
    Answer ask_raw(std::string_view operation, std::string_view body) {
        Answer answer =
            wait(send_raw("POST",
                          {{"Content-Type", "application/x-amz-cbor-1.1"},
                           {"X-Amz-Target", "Kinesis_20131202." + std::string(operation)}},
                          body));
        EXPECT_EQ(answer.content_type, "application/x-amz-cbor-1.1");
        if (!answer.body.empty()) {
            // nlohmann does not know tag 1.
            std::string untagged = answer.body;
            for (std::size_t at = 0;
                 (at = untagged.find("Timestamp\xc1", at)) != std::string::npos;) {
                untagged.erase(at + 9, 1);
            }
            answer.json = json::from_cbor(untagged, true, false);
            EXPECT_FALSE(answer.json.is_discarded()) << base64(answer.body);
        }
        return answer;
    }
    Answer ask(std::string_view operation, const json& body) {
        return ask_raw(operation, bytes_of(body));
    }
    void refused(std::string_view operation, std::string_view body, std::string_view message) {
        const Answer answer = ask_raw(operation, body);
        EXPECT_EQ(answer.status, 400);
        EXPECT_EQ(answer.type(), "SerializationException");
        EXPECT_EQ(answer.json.value("Message", ""), message);
    }
};

// What a JSON answer says, timestamps aside, which are seconds there.
json without_times(json value) {
    if (value.is_object()) {
        for (const char* key : {"StreamCreationTimestamp", "ApproximateArrivalTimestamp",
                                "NextShardIterator", "Data"}) {
            value.erase(key);
        }
    }
    for (auto& item : value) {
        if (item.is_structured()) {
            item = without_times(item);
        }
    }
    return value;
}

TEST_F(Cbor, EveryAnswerSaysWhatTheJsonOneSays) {
    EXPECT_EQ(ask("CreateStream", {{"StreamName", "s"}, {"ShardCount", 3}}).body, "");
    settle();
    const Answer put =
        ask("PutRecords", {{"StreamName", "s"},
                           {"Records",
                            {{{"PartitionKey", "a"}, {"Data", binary("one")}},
                             {{"PartitionKey", "b"}, {"Data", binary(std::string(300, 'x'))}},
                             {{"PartitionKey", "ä"}, {"Data", binary("")}}}}});
    ASSERT_EQ(put.status, 200);
    EXPECT_EQ(put.json["FailedRecordCount"], 0);
    ASSERT_EQ(put.json["Records"].size(), 3U);
    const Answer one = ask("PutRecord", {{"StreamName", "s"},
                                         {"PartitionKey", "a"},
                                         {"ExplicitHashKey", "0"},
                                         {"Data", binary(std::string("\0\xff", 2))}});
    EXPECT_EQ(one.json["ShardId"], "shardId-000000000000");
    for (const char* operation :
         {"DescribeStream", "DescribeStreamSummary", "ListShards", "ListStreams"}) {
        const json body = std::string_view(operation) == "ListStreams" ? json::object()
                                                                       : json{{"StreamName", "s"}};
        const Answer in_cbor = ask(operation, body);
        EXPECT_EQ(in_cbor.status, 200);
        EXPECT_EQ(without_times(in_cbor.json), without_times(call(operation, body.dump()).json))
            << operation;
    }
    const json where = {{"StreamName", "s"},
                        {"ShardId", "shardId-000000000000"},
                        {"ShardIteratorType", "TRIM_HORIZON"}};
    const std::string token = ask("GetShardIterator", where).json["ShardIterator"];
    const Answer records = ask("GetRecords", {{"ShardIterator", token}, {"Limit", 100}});
    EXPECT_EQ(without_times(records.json), without_times(get(token).json));
    EXPECT_EQ(text_of(records.json["Records"].back()["Data"]), std::string("\0\xff", 2));
}

TEST_F(Cbor, TimestampsAreWholeMillisecondsUnderTagOneBothWays) {
    make_stream("s", 1);
    clock.ms += 1;
    EXPECT_EQ(put("s", "early").status, 200);
    const std::int64_t middle = clock.wall_ms() + 5;
    clock.ms += 5;
    EXPECT_EQ(put("s", "late").status, 200);
    // a4 … "Timestamp" c1 1b <8 bytes>
    std::string body = bytes_of({{"StreamName", "s"},
                                 {"ShardId", "0"},
                                 {"ShardIteratorType", "AT_TIMESTAMP"},
                                 {"Timestamp", middle}});
    const Answer untagged = ask_raw("GetShardIterator", body);
    ASSERT_EQ(untagged.status, 200) << untagged.message();
    body.insert(body.find("Timestamp\x1b") + 9, "\xc1");
    const Answer tagged = ask_raw("GetShardIterator", body);
    ASSERT_EQ(tagged.status, 200) << tagged.message();
    for (const Answer* answer : {&untagged, &tagged}) {
        const std::string token = answer->json["ShardIterator"];
        const Answer records = ask("GetRecords", {{"ShardIterator", token}});
        ASSERT_EQ(records.json["Records"].size(), 1U);
        EXPECT_EQ(text_of(records.json["Records"][0]["Data"]), "late");
        EXPECT_EQ(records.json["Records"][0]["ApproximateArrivalTimestamp"], middle);
        EXPECT_NE(records.body.find("ApproximateArrivalTimestamp\xc1\x1b"), std::string::npos);
    }
    // Fractions would be seconds for some and milliseconds for others.
    refused("GetShardIterator",
            bytes_of({{"StreamName", "s"},
                      {"ShardId", "0"},
                      {"ShardIteratorType", "AT_TIMESTAMP"},
                      {"Timestamp", 1.5}}),
            "class java.math.BigDecimal can not be converted to a Timestamp");
}

TEST_F(Cbor, ErrorsAreCborToo) {
    const Answer missing = ask("DescribeStream", {{"StreamName", "nope"}});
    EXPECT_EQ(missing.status, 400);
    EXPECT_EQ(missing.type(), "ResourceNotFoundException");
    EXPECT_EQ(missing.message(), "Stream nope under account 000000000000 not found.");
    EXPECT_EQ(ask("DescribeStream", json::object()).message(),
              "1 validation error detected: Value null at 'streamName' failed to satisfy "
              "constraint: Member must not be null");
    EXPECT_EQ(ask("NoSuchOperation", json::object()).type(), "UnknownOperationException");
    make_stream("s", 1);
    lanes.set([&](auto& f) {
        f.verdicts[store->find("s")->stream().shards[0].uid] = AppendVerdict::no_memory;
    });
    const Answer put =
        ask("PutRecords",
            {{"StreamName", "s"}, {"Records", {{{"PartitionKey", "a"}, {"Data", binary("")}}}}});
    EXPECT_EQ(put.json["FailedRecordCount"], 1);
    EXPECT_EQ(put.json["Records"][0]["ErrorCode"], "ProvisionedThroughputExceededException");
}

TEST_F(Cbor, TextsListsAndMapsMayComeInPieces) {
    make_stream("s", 1);
    // {_ "StreamName": (_ "", "s"), "Records": [_ {_ "Data": (_ h'01', h'02'), "PartitionKey": "k",
    //   "Unknown": [{"a": 1(2)}, (_ "x"), null, 1.5, true]}], "StreamId": null}
    std::string body = "\xbf\x6aStreamName\x7f\x60\x61s\xff";
    body += "\x67Records\x9f\xbf\x64";
    body += "Data\x5f\x41\x01\x41\x02\xff";
    body += "\x6cPartitionKey\x61k\x67Unknown\x85\xa1\x61";
    body += "a\xc1\x02\x7f\x61x\xff\xf6\xf9\x3e";
    body += std::string("\x00\xf5", 2);
    body += "\xff\xff\x68StreamId\xf6\xff";
    const Answer answer = ask_raw("PutRecords", body);
    ASSERT_EQ(answer.status, 200) << answer.message();
    EXPECT_EQ(data_of(get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")"))),
              std::vector<std::string>{"\x01\x02"});
    // Cut off anywhere it is refused, and so is anything behind its end.
    for (std::size_t size = 0; size < body.size(); ++size) {
        refused("PutRecords", std::string_view(body).substr(0, size), "");
    }
    refused("PutRecords", body + "\xf6", "");
}

TEST_F(Cbor, WhatIsNoSuchCborIsRefused) {
    std::string deep = "\xa1\x61x";
    for (int i = 0; i < 100'000; ++i) {
        deep += "\x81";
    }
    const std::string endless_map("\xbb\xff\xff\xff\xff\xff\xff\xff\xff", 9);
    const std::string endless_text("\xa1\x61x\x7b\xff\xff\xff\xff\xff\xff\xff\xff", 12);
    for (const std::string& body :
         {std::string(), std::string("{}"), std::string("\x80"), std::string("\x01"),
          std::string("\xf6"), std::string("\xff"), std::string("\xa1\x01\x01"),
          std::string("\xa1\x61\xff\x01"), std::string("\xbf\x61x\xff"), std::string("\xfc"),
          std::string("\xa1\x6aStreamName\x61\xff"), std::string("\xa1\x61x\xff"),
          std::string("\xa1\x6aStreamName\x7f\x41s\xff"), deep, endless_map, endless_text}) {
        refused("DescribeStream", body, "");
    }
    refused("DescribeStream", bytes_of({{"StreamName", 1}}),
            "class java.math.BigDecimal can not be converted to an String");
    refused("DescribeStream", bytes_of({{"StreamName", binary("s")}}),
            "class java.nio.HeapByteBuffer can not be converted to an String");
    refused("DescribeStream", bytes_of({{"StreamName", json::array()}}),
            "Start of list found where not expected");
    refused("DescribeStream", bytes_of({{"StreamName", json::object()}}),
            "Start of structure or map found where not expected.");
    refused("DescribeStream", bytes_of({{"Limit", "1"}}),
            "class java.lang.String can not be converted to an Integer");
    refused("DeleteStream", bytes_of({{"EnforceConsumerDeletion", "1"}}),
            "class java.lang.String can not be converted to an Boolean");
    refused("PutRecord", bytes_of({{"Data", "eA=="}}),
            "class java.lang.String can not be converted to a Blob");
    refused("PutRecords", bytes_of({{"Records", 1}}), "Expected list or null");
    refused("PutRecords", bytes_of({{"Records", json::object()}}),
            "Start of structure or map found where not expected.");
    refused("PutRecords", bytes_of({{"Records", {1}}}), "Expected null");
    refused("CreateStream", bytes_of({{"Tags", 1}}), "Expected map or null");
}

TEST_F(Cbor, IntegersOfEveryWidthAreRead) {
    for (const std::int64_t limit :
         {std::int64_t{0}, std::int64_t{-1}, std::int64_t{-500}, std::int64_t{300},
          std::int64_t{70'000}, INT64_MAX, INT64_MIN}) {
        const std::string message = ask("ListStreams", {{"Limit", limit}}).message();
        if (limit == 300) {
            EXPECT_EQ(message, "");
        } else {
            EXPECT_NE(message.find("Value '" + std::to_string(limit) + "'"), std::string::npos)
                << message;
        }
    }
    // 2^64 − 1 and −2^64 are shown as the nearest that fit.
    std::string body("\xa1\x65Limit\x1b\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    EXPECT_NE(ask_raw("ListStreams", body).message().find("9223372036854775807"),
              std::string::npos);
    body[7] = '\x3b';
    EXPECT_NE(ask_raw("ListStreams", body).message().find("-9223372036854775808"),
              std::string::npos);
}

TEST(CborWriter, NumbersAndLengthsHaveTheirShortestForm) {
    for (const std::int64_t number :
         {std::int64_t{0}, std::int64_t{23}, std::int64_t{24}, std::int64_t{255}, std::int64_t{256},
          std::int64_t{65'535}, std::int64_t{65'536}, std::int64_t{0xffff'ffff},
          std::int64_t{0x1'0000'0000}, INT64_MAX, std::int64_t{-1}, std::int64_t{-24},
          std::int64_t{-25}, INT64_MIN}) {
        std::string out;
        CborWriter(out).number(number);
        EXPECT_EQ(out, bytes_of(number)) << number;
    }
    for (const std::size_t size : {0U, 23U, 24U, 255U, 256U, 65'535U, 65'536U}) {
        const std::string text(size, 'x');
        std::string out;
        CborWriter(out).text(text);
        CborWriter(out).blob(as_bytes(text));
        EXPECT_EQ(out, bytes_of(text) + bytes_of(binary(text))) << size;
    }
}

}  // namespace
}  // namespace penstock::kinesis
