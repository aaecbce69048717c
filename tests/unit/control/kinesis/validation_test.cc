#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

class Validation : public ApiTest {
protected:
    void expect(std::string_view operation, std::string_view body, std::string_view type,
                std::string_view message) {
        const Answer answer = call(operation, body);
        EXPECT_EQ(answer.status, 400) << body;
        EXPECT_EQ(answer.type(), type) << body;
        if (type == "SerializationException") {
            ASSERT_TRUE(answer.json.contains("Message")) << answer.body;
            EXPECT_EQ(answer.json["Message"].get<std::string>(), std::string(message).c_str())
                << body;
        } else {
            EXPECT_EQ(answer.message(), message) << body;
        }
    }
    void invalid(std::string_view operation, std::string_view body, int count,
                 std::string_view problems) {
        expect(operation, body, "ValidationException",
               std::to_string(count) + " validation error" + (count == 1 ? "" : "s") +
                   " detected: " + std::string(problems));
    }
};

const std::string not_null = "failed to satisfy constraint: Member must not be null";
const std::string bad_name =
    "failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";

TEST_F(Validation, StreamNameIsRequiredShortAndOfItsPattern) {
    for (const char* operation :
         {"DeleteStream", "DescribeStream", "DescribeStreamSummary", "ListShards"}) {
        invalid(operation, "{}", 1, "Value null at 'streamName' " + not_null);
        invalid(operation, R"({"StreamName":null})", 1, "Value null at 'streamName' " + not_null);
        invalid(operation, R"({"StreamName":"a b"})", 1, "Value 'a b' at 'streamName' " + bad_name);
        invalid(operation, R"({"StreamName":""})", 2,
                "Value '' at 'streamName' " + bad_name +
                    "; Value '' at 'streamName' failed to satisfy constraint: Member must have "
                    "length greater than or equal to 1");
        const std::string name(129, 'a');
        invalid(operation, R"({"StreamName":")" + name + "\"}", 1,
                "Value '" + name +
                    "' at 'streamName' failed to satisfy constraint: Member must have "
                    "length less than or equal to 128");
        expect(operation, R"({"StreamName":"nope"})", "ResourceNotFoundException",
               "Stream nope under account 000000000000 not found.");
    }
}

// The last ":stream/" before the consumer is the stream's, for who checks and who takes apart.
TEST(Arns, AreTakenApartWhereTheyWereChecked) {
    for (const std::string prefix :
         {"arn:aws:kinesis:us-east-1", "arn:aws:stream/:kinesis:us-east-1",
          "arn:aws:kinesis:us:000000000000:stream/x:y", "arn:aws:stream/consumer:kinesis:"}) {
        const std::string of_stream = prefix + ":123456789012:stream/a";
        const auto stream = parse_stream_arn(of_stream);
        ASSERT_TRUE(stream) << of_stream;
        EXPECT_EQ(stream->account, "123456789012");
        EXPECT_EQ(stream->stream, "a");
        const std::string of_consumer = of_stream + "/consumer/b:17";
        const auto consumer = parse_consumer_arn(of_consumer);
        ASSERT_TRUE(consumer) << of_stream;
        EXPECT_EQ(consumer->account, "123456789012");
        EXPECT_EQ(consumer->stream, "a");
        EXPECT_EQ(consumer->name, "b");
        EXPECT_EQ(consumer->created_s, "17");
    }
    for (const char* bad :
         {"", "arn:aws", "arn:aws:stream/:kinesis:/consumer/b:1", ":stream/a/consumer/b:1",
          "arn:aws:kinesis:000000000000:stream/a/consumer/b",
          "/consumer/:", "arn:aws:stream/:kinesis:us:00000000000x:stream/a/consumer/b:1",
          "arn:aws:kinesis:us:000000000000:stream//consumer/b:1"}) {
        EXPECT_FALSE(parse_consumer_arn(bad)) << bad;
    }
}

TEST_F(Validation, ArnsMustBeStreamArnsOfThisAccountAndAgreeWithTheName) {
    make_stream("s", 1);
    EXPECT_EQ(call("DescribeStreamSummary",
                   R"({"StreamARN":"arn:aws:kinesis:eu-west-9:000000000000:stream/s"})")
                  .status,
              200);
    EXPECT_EQ(call("DescribeStreamSummary",
                   R"({"StreamName":"s","StreamARN":"arn:aws:kinesis:x:000000000000:stream/s"})")
                  .status,
              200);
    expect("DescribeStreamSummary", R"({"StreamARN":"arn:aws:kinesis:x:111111111111:stream/s"})",
           "ResourceNotFoundException", "Stream s under account 111111111111 not found.");
    expect("DescribeStreamSummary",
           R"({"StreamName":"t","StreamARN":"arn:aws:kinesis:x:000000000000:stream/s"})",
           "InvalidArgumentException",
           "StreamARN and StreamName must name the same stream: found "
           "arn:aws:kinesis:x:000000000000:stream/s and t.");
    for (const char* arn :
         {"x", "arn:aws:kinesis:x:1:stream/s", "arn:aws:kinesis:x:000000000000:stream/",
          "arn:aws:s3:x:000000000000:stream/s"}) {
        invalid("DescribeStreamSummary", R"({"StreamARN":")" + std::string(arn) + "\"}", 1,
                "Value '" + std::string(arn) +
                    "' at 'streamARN' failed to satisfy constraint: Member must satisfy regular "
                    "expression pattern: arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+");
    }
}

TEST_F(Validation, StreamIdIsAcceptedIgnoredAndNeverReturned) {
    make_stream("s", 1);
    const auto answer = call("DescribeStreamSummary",
                             R"({"StreamName":"s","StreamId":"abcdefghij0123456789-abc"})");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body.find("StreamId"), std::string::npos);
    EXPECT_EQ(call("DescribeStreamSummary", R"({"StreamName":"s","StreamId":"x"})").type(),
              "ValidationException");
}

TEST_F(Validation, CreateStreamChecksItsMembers) {
    invalid(
        "CreateStream", R"({"StreamName":"","ShardCount":0})", 3,
        "Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater "
        "than or equal to 1; Value '' at 'streamName' " +
            bad_name +
            "; Value '' at 'streamName' failed to satisfy constraint: Member must have length "
            "greater than or equal to 1");
    invalid("CreateStream", R"({"StreamName":"s","StreamModeDetails":{"StreamMode":"X"}})", 1,
            "Value 'X' at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must "
            "satisfy enum value set: [PROVISIONED, ON_DEMAND]");
    invalid("CreateStream", R"({"StreamName":"s","StreamModeDetails":{}})", 1,
            "Value null at 'streamModeDetails.streamMode' " + not_null);
    invalid(
        "CreateStream", R"({"StreamName":"s","MaxRecordSizeInKiB":1})", 1,
        "Value '1' at 'maxRecordSizeInKiB' failed to satisfy constraint: Member must have value "
        "greater than or equal to 1024");
    expect("CreateStream", R"({"StreamName":"s","ShardCount":5001})", "LimitExceededException",
           "This request would exceed the shard limit for the account 000000000000 in us-east-1. "
           "Current shard count for the account: 0. Number of additional shards that would have "
           "resulted from this request: 5001.");
    EXPECT_EQ(
        call("CreateStream",
             R"({"StreamName":"s","ShardCount":1,"StreamModeDetails":{"StreamMode":"ON_DEMAND"}})")
            .type(),
        "ValidationException");
    EXPECT_EQ(call("CreateStream",
                   R"({"StreamName":"s","StreamModeDetails":{"StreamMode":"PROVISIONED"}})")
                  .type(),
              "ValidationException");
    EXPECT_EQ(call("CreateStream", R"({"StreamName":"s","Tags":{}})").type(),
              "ValidationException");
}

TEST_F(Validation, PutRecordChecksItsMembers) {
    invalid("PutRecord", "{}", 3,
            "Value null at 'partitionKey' " + not_null + "; Value null at 'data' " + not_null +
                "; Value null at 'streamName' " + not_null);
    invalid(
        "PutRecord", R"({"StreamName":"s","Data":"","PartitionKey":"","ExplicitHashKey":"01"})", 2,
        "Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater "
        "than or equal to 1; Value '01' at 'explicitHashKey' failed to satisfy constraint: Member "
        "must satisfy regular expression pattern: 0|([1-9]\\d{0,38})");
    // Characters count, not bytes.
    std::string key;
    for (int i = 0; i < 256; ++i) {
        key += "\xc3\xa4";
    }
    make_stream("s", 1);
    EXPECT_EQ(put("s", "x", key).status, 200);
    invalid("PutRecord", R"({"StreamName":"s","Data":"","PartitionKey":")" + key + "a\"}", 1,
            "Value '" + key +
                "a' at 'partitionKey' failed to satisfy constraint: Member must have "
                "length less than or equal to 256");
    expect(
        "PutRecord",
        R"({"StreamName":"s","Data":"","PartitionKey":"a","ExplicitHashKey":"340282366920938463463374607431768211456"})",
        "InvalidArgumentException",
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified "
        "value was 340282366920938463463374607431768211456");
    expect("PutRecord",
           R"({"StreamName":"s","Data":"","PartitionKey":"a","SequenceNumberForOrdering":"5"})",
           "InvalidArgumentException",
           "ExclusiveMinimumSequenceNumber 5 used in PutRecord on stream s under account "
           "000000000000 is invalid.");
    expect("PutRecord", R"({"StreamName":"no","Data":"","PartitionKey":"a"})",
           "ResourceNotFoundException", "Stream no under account 000000000000 not found.");
}

TEST_F(Validation, PutRecordsChecksListAndEntries) {
    invalid("PutRecords", "{}", 2,
            "Value null at 'records' " + not_null + "; Value null at 'streamName' " + not_null);
    invalid("PutRecords", R"({"StreamName":"s","Records":[]})", 1,
            "Value '[]' at 'records' failed to satisfy constraint: Member must have length greater "
            "than or equal to 1");
    invalid("PutRecords",
            R"({"StreamName":"s","Records":[{"Data":"","PartitionKey":"a"},{"Data":""}]})", 1,
            "Value null at 'records.2.member.partitionKey' " + not_null);
    std::string many = R"({"StreamName":"s","Records":[)";
    for (int i = 0; i < 501; ++i) {
        many += (i == 0 ? "" : ",") + std::string(R"({"Data":"","PartitionKey":"a"})");
    }
    const auto answer = call("PutRecords", many + "]}");
    EXPECT_EQ(answer.type(), "ValidationException");
    EXPECT_TRUE(answer.message().ends_with("Member must have length less than or equal to 500"));
    std::string all_bad = R"({"StreamName":"s","Records":[)";
    for (int i = 0; i < 20; ++i) {
        all_bad += (i == 0 ? "" : ",") + std::string("{}");
    }
    EXPECT_TRUE(call("PutRecords", all_bad + "]}").message().starts_with("10 validation errors"));
}

TEST_F(Validation, RecordsAreLimitedBySizeOfDataAndKeyAndByTotal) {
    make_stream("s", 1);
    EXPECT_EQ(put("s", std::string((1 << 20) - 1, 'x')).status, 200);
    const auto data_too_long = put("s", std::string((1 << 20) + 1, 'x'));
    EXPECT_EQ(data_too_long.message(),
              "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1048577 "
              "cap=1048577]' at 'data' failed to satisfy constraint: Member must have length less "
              "than or equal to 1048576");
    EXPECT_EQ(put("s", std::string(1 << 20, 'x')).type(), "InvalidArgumentException");
    std::string many = R"({"StreamName":"s","Records":[)";
    const std::string data = base64(std::string(1 << 19, 'x'));
    for (int i = 0; i < 20; ++i) {
        many += (i == 0 ? "" : ",") + (R"({"PartitionKey":"a","Data":")" + data + "\"}");
    }
    const auto answer = call("PutRecords", many + "]}");
    EXPECT_EQ(answer.type(), "InvalidArgumentException");
    EXPECT_EQ(answer.message(), "Records size exceeds 10 MB limit");
}

TEST_F(Validation, WrongTypesAreSerializationExceptions) {
    expect("DescribeStream", R"({"StreamName":1})", "SerializationException",
           "class java.math.BigDecimal can not be converted to an String");
    expect("DescribeStream", R"({"StreamName":true})", "SerializationException",
           "class java.lang.Boolean can not be converted to an String");
    expect("DescribeStream", R"({"StreamName":[]})", "SerializationException",
           "Start of list found where not expected");
    expect("DescribeStream", R"({"StreamName":{}})", "SerializationException",
           "Start of structure or map found where not expected.");
    expect("DescribeStream", R"({"StreamName":"a","Limit":"1"})", "SerializationException",
           "class java.lang.String can not be converted to an Integer");
    expect("PutRecords", R"({"Records":1})", "SerializationException", "Expected list or null");
    expect("PutRecords", R"({"Records":{}})", "SerializationException",
           "Start of structure or map found where not expected.");
    expect("PutRecords", R"({"Records":[1]})", "SerializationException", "Expected null");
    expect("PutRecords", R"({"Records":[[]]})", "SerializationException",
           "Start of list found where not expected");
    expect("PutRecord", R"({"Data":1})", "SerializationException",
           "class java.math.BigDecimal can not be converted to a Blob");
    expect(
        "PutRecord", R"({"Data":"abc"})", "SerializationException",
        "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 "
        "bytes but found: 3");
    expect("PutRecord", R"({"Data":"ab*d"})", "SerializationException",
           "'ab*d' can not be converted to a Blob: Invalid Base64 character: '*'");
    expect(
        "PutRecord", R"({"Data":"abd="})", "SerializationException",
        "'abd=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected");
    expect("DeleteStream", R"({"StreamName":"a","EnforceConsumerDeletion":"x"})",
           "SerializationException", "'X' can not be converted to an Boolean");
    for (const char* body : {"", "x", "[]", "1", "{", "{}}", "{} {}", R"({"StreamName":"a)",
                             R"({"StreamName":})", "\xff", R"({"StreamName":"\ud800"})"}) {
        const auto answer = call("DescribeStream", body);
        EXPECT_EQ(answer.type(), "SerializationException") << body;
        EXPECT_EQ(answer.body.find("essage"), std::string::npos) << body;
    }
}

TEST_F(Validation, EscapedTextAndBase64AreUnderstood) {
    make_stream("s", 1);
    const auto answer = call(
        "PutRecord", R"({"StreamName":"\u0073","Data":"\/\/8=","PartitionKey":"a\"\u00e4\n"})");
    ASSERT_EQ(answer.status, 200) << answer.body;
    const auto records = get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")"));
    EXPECT_EQ(data_of(records), std::vector<std::string>{"\xff\xff"});
    EXPECT_EQ(records.json["Records"][0]["PartitionKey"].get<std::string>(), "a\"\xc3\xa4\n");
}

TEST_F(Validation, GetShardIteratorChecksItsMembers) {
    invalid(
        "GetShardIterator", R"({"ShardIteratorType":"HORIZON","StartingSequenceNumber":"x"})", 4,
        "Value null at 'shardId' " + not_null +
            "; Value 'HORIZON' at 'shardIteratorType' failed to satisfy constraint: Member must "
            "satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, "
            "AT_SEQUENCE_NUMBER, TRIM_HORIZON]; Value 'x' at 'startingSequenceNumber' failed to "
            "satisfy constraint: Member must satisfy regular expression pattern: "
            "0|([1-9]\\d{0,128}); Value null at 'streamName' " +
            not_null);
    make_stream("s", 2);
    expect("GetShardIterator",
           R"({"StreamName":"s","ShardId":"shardId-x","ShardIteratorType":"LATEST"})",
           "ResourceNotFoundException",
           "Could not find shard shardId-x in stream s under account 000000000000.");
    expect("GetShardIterator",
           R"({"StreamName":"s","ShardId":"shardId-5","ShardIteratorType":"LATEST"})",
           "ResourceNotFoundException",
           "Shard shardId-000000000005 in stream s under account 000000000000 does not exist");
    expect("GetShardIterator",
           R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER"})",
           "InvalidArgumentException",
           "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and "
           "StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
           "Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.");
    expect(
        "GetShardIterator",
        R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST","StartingSequenceNumber":"1"})",
        "InvalidArgumentException",
        "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and "
        "StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
        "Request specified LATEST and also a StartingSequenceNumber.");
    expect(
        "GetShardIterator",
        R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"1"})",
        "InvalidArgumentException",
        "StartingSequenceNumber 1 used in GetShardIterator on shard shardId-000000000000 in "
        "stream s under account 000000000000 is invalid.");
    const Stream& stream = store->find("s")->stream();
    const std::string other = format_sequence_number(stream.shards[1].sequence_number(1, 0));
    expect(
        "GetShardIterator",
        R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":")" +
            other + "\"}",
        "InvalidArgumentException",
        "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a "
        "call to a shard with shardId-000000000000");
    Shard stranger = stream.shards[0];
    stranger.created_s += 5;
    const std::string foreign = format_sequence_number(stranger.sequence_number(1, 0));
    expect(
        "GetShardIterator",
        R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":")" +
            foreign + "\"}",
        "InvalidArgumentException",
        "StartingSequenceNumber " + foreign +
            " used in GetShardIterator on shard shardId-000000000000 in stream s under account "
            "000000000000 is invalid because it did not come from this stream.");
    EXPECT_EQ(call("GetShardIterator",
                   R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_TIMESTAMP"})")
                  .type(),
              "InvalidArgumentException");
    EXPECT_TRUE(
        call(
            "GetShardIterator",
            R"({"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_TIMESTAMP","Timestamp":99999999999})")
            .message()
            .starts_with("The timestampInMillis parameter cannot be greater"));
}

TEST_F(Validation, GetRecordsChecksIteratorAndLimit) {
    invalid(
        "GetRecords", R"({"Limit":0})", 2,
        "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than "
        "or equal to 1; Value null at 'shardIterator' " +
            not_null);
    invalid(
        "GetRecords", R"({"Limit":10001,"ShardIterator":"x"})", 1,
        "Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than "
        "or equal to 10000");
    expect("GetRecords", R"({"ShardIterator":"AAAA"})", "InvalidArgumentException",
           "Invalid ShardIterator.");
}

TEST_F(Validation, RetentionHasKinesisBoundsAndWords) {
    make_stream("s", 1);
    invalid("IncreaseStreamRetentionPeriod", R"({"StreamName":"s"})", 1,
            "Value null at 'retentionPeriodHours' " + not_null);
    expect("IncreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":23})",
           "InvalidArgumentException",
           "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is "
           "too short.");
    expect(
        "IncreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":8761})",
        "InvalidArgumentException",
        "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) "
        "is too long.");
    expect("DecreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":25})",
           "InvalidArgumentException",
           "Requested retention period (25 hours) for stream s can not be longer than existing "
           "retention period (24 hours). Use IncreaseRetentionPeriod API.");
    EXPECT_EQ(
        call("IncreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":48})")
            .status,
        200);
    expect("IncreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":47})",
           "InvalidArgumentException",
           "Requested retention period (47 hours) for stream s can not be shorter than existing "
           "retention period (48 hours). Use DecreaseRetentionPeriod API.");
    EXPECT_EQ(
        call("DecreaseStreamRetentionPeriod", R"({"StreamName":"s","RetentionPeriodHours":30})")
            .status,
        200);
    settle();
    EXPECT_EQ(lanes.shards().begin()->second.retention_ms, 30LL * 3600 * 1000);
}

TEST_F(Validation, ProtocolFaultsAreAnsweredAsKinesisDoes) {
    const auto json =
        std::pair<std::string, std::string>("Content-Type", "application/x-amz-json-1.1");
    auto answer = call("NoSuchOperation", "{}");
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(answer.body, R"({"__type":"UnknownOperationException"})");
    EXPECT_EQ(answer.content_type, "application/x-amz-json-1.1");
    EXPECT_EQ(answer.headers["x-amzn-RequestId"].size(), 36U);
    EXPECT_EQ(answer.headers["x-amz-id-2"].size(), 96U);
    answer = wait(send_raw("POST", {json, {"X-Amz-Target", "Other_1.ListStreams"}}, "{}"));
    EXPECT_EQ(answer.type(), "UnknownOperationException");
    answer = wait(send_raw("GET", {}, ""));
    EXPECT_EQ(answer.status, 403);
    EXPECT_NE(answer.body.find("<AccessDeniedException>"), std::string::npos);
    answer = wait(send_raw(
        "POST", {{"X-Amz-Target", "Kinesis_20131202.ListStreams"}, {"Content-Type", "text/plain"}},
        "{}"));
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(answer.body, "<UnknownOperationException/>\n");
    answer = wait(send_raw("POST",
                           {{"X-Amz-Target", "Kinesis_20131202.ListStreams"},
                            {"Content-Type", "application/x-amz-cbor-1.1"}},
                           "\xa0"));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.content_type, "application/x-amz-cbor-1.1");
    answer = wait(send_raw("POST",
                           {{"X-Amz-Target", "Kinesis_20131202.ListStreams"},
                            {"Content-Type", "application/x-amz-json-1.1; charset=utf-8"}},
                           "{}"));
    EXPECT_EQ(answer.status, 200);
}

TEST_F(Validation, RequestsWithoutABodyAreAnsweredAsKinesisDoes) {
    const std::pair<std::string, std::string> known{"X-Amz-Target", "Kinesis_20131202.ListStreams"};
    auto answer = call("ListStreams", "");
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(answer.body, R"({"__type":"SerializationException"})");
    EXPECT_EQ(answer.headers["x-amz-id-2"].size(), 96U);
    EXPECT_EQ(call("NoSuchOperation", "").body, R"({"__type":"UnknownOperationException"})");
    answer = wait(send_raw("POST", {known}, ""));
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(answer.content_type, "application/x-amz-cbor-1.1");
    EXPECT_EQ(answer.body, "\xbf\x66__type\x76SerializationException\xff");
    answer = wait(send_raw("POST", {}, ""));
    EXPECT_EQ(answer.body, "\xbf\x66__type\x78\x19UnknownOperationException\xff");
}

TEST_F(Validation, PlainJsonHasTheOldEnvelope) {
    const Headers headers = {{"X-Amz-Target", "Kinesis_20131202.ListStreams"},
                             {"Content-Type", "application/json"}};
    auto answer = wait(send_raw("POST", headers, "{}"));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.content_type, "application/json");
    EXPECT_EQ(answer.json["Output"]["__type"],
              "com.amazon.coral.service#UnknownOperationException");
    answer = wait(send_raw("POST", headers, "{"));
    EXPECT_EQ(answer.json["Output"]["__type"], "com.amazon.coral.service#SerializationException");
}

TEST_F(Validation, PreflightIsAnsweredAndAnswersMayBeReadByPages) {
    auto answer = wait(send_raw("OPTIONS",
                                {{"Origin", "https://example.org"},
                                 {"Access-Control-Request-Headers", "x-amz-target,authorization"},
                                 {"Access-Control-Request-Method", "POST"}},
                                ""));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "");
    EXPECT_EQ(answer.headers["Access-Control-Allow-Origin"], "*");
    EXPECT_EQ(answer.headers["Access-Control-Allow-Headers"], "x-amz-target,authorization");
    EXPECT_EQ(answer.headers["Access-Control-Allow-Methods"], "POST");
    EXPECT_EQ(answer.headers["Access-Control-Max-Age"], "172800");
    EXPECT_TRUE(answer.headers.contains("x-amzn-RequestId"));
    EXPECT_FALSE(answer.headers.contains("x-amz-id-2"));
    for (const char* operation : {"ListStreams", "NoSuchOperation"}) {
        answer = call(operation, "{}", {{"Origin", "https://example.org"}});
        EXPECT_EQ(answer.headers["Access-Control-Allow-Origin"], "*");
        EXPECT_NE(answer.headers["Access-Control-Expose-Headers"].find("x-amzn-RequestId"),
                  std::string::npos);
    }
    EXPECT_FALSE(call("ListStreams", "{}").headers.contains("Access-Control-Allow-Origin"));
    EXPECT_EQ(wait(send_raw("OPTIONS", {}, "")).status, 403);
}

}  // namespace
}  // namespace penstock::kinesis
