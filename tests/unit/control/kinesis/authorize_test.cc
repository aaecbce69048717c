// Who may do what: every operation asks before it looks, and says the same of what is not allowed
// whether it is there or not.
#include "control/auth/credential_store.h"
#include "control/auth/gate.h"
#include "tests/unit/control/auth/scratch.h"
#include "tests/unit/control/auth/signer.h"
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

const std::string arn = "arn:aws:kinesis:us-east-1:000000000000:stream/";

class AuthorizeTest : public ApiTest {
protected:
    AuthorizeTest() {
        // Made while nobody was asked for a signature.
        make_stream("there", 1);
        unsigned_iterator = iterator("there", R"("ShardIteratorType":"TRIM_HORIZON")");
        auth::CredentialStoreOptions options;
        options.key_file = scratch.path("key");
        auto opened = auth::CredentialStore::open(*catalog, clock, options);
        EXPECT_TRUE(opened) << opened.error();
        credentials = std::move(*opened);
        gate = std::make_unique<auth::Gate>(*credentials, clock, auth::GateOptions{});
        handler = std::make_unique<KinesisHandler>(
            *loop, *store, lanes, clock,
            [this] { return std::make_unique<MemoryRecordSource>(lanes); }, ServiceOptions{},
            gate.get());
    }
    ~AuthorizeTest() override {
        handler.reset();
        gate.reset();
        credentials.reset();
    }

    auth::AccessKey make(const std::string& name, const std::string& statements) {
        auto made = credentials->make(name, R"({"Statement":[)" + statements + "]}");
        EXPECT_TRUE(made) << made.error().why;
        return made->key;
    }
    static std::string allow(const std::string& actions, const std::string& resources) {
        return R"({"Effect":"Allow","Action":")" + actions + R"(","Resource":")" + resources +
               "\"}";
    }
    Answer ask(const auth::AccessKey& key, std::string_view operation, const std::string& body) {
        auth::TestRequest request;
        const auth::BasicTime now = auth::to_basic_time(clock.wall_ms() / 1000);
        request.time.assign(now.data(), now.size());
        request.key_id = key.id;
        request.secret = key.secret;
        request.body = body;
        request.headers = {{"Content-Type", "application/x-amz-json-1.1"},
                           {"X-Amz-Target", "Kinesis_20131202." + std::string(operation)}};
        const auto made = request.make();
        Headers headers;
        for (const auto& field : made->headers) {
            headers.emplace_back(field.name, field.value);
        }
        return wait(send_raw("POST", headers, body));
    }
    // A sound request of the operation, about the stream.
    std::string body_of(std::string_view operation, const std::string& stream) {
        const std::string name = R"("StreamName":")" + stream + "\"";
        if (operation == "ListStreams") {
            return "{}";
        }
        if (operation == "PutRecord") {
            return "{" + name + R"(,"PartitionKey":"k","Data":""})";
        }
        if (operation == "PutRecords") {
            return "{" + name + R"(,"Records":[{"PartitionKey":"k","Data":""}]})";
        }
        if (operation == "GetShardIterator") {
            return "{" + name +
                   R"(,"ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"})";
        }
        if (operation == "GetRecords") {
            return R"({"ShardIterator":")" + unsigned_iterator + "\"}";
        }
        if (operation == "RegisterStreamConsumer" || operation == "ListStreamConsumers") {
            return R"({"StreamARN":")" + arn + stream + R"(","ConsumerName":"c"})";
        }
        if (operation.ends_with("StreamConsumer")) {
            return R"({"ConsumerARN":")" + arn + stream + R"(/consumer/c:1"})";
        }
        if (operation == "SubscribeToShard") {
            return R"({"ConsumerARN":")" + arn + stream +
                   R"(/consumer/c:1","ShardId":"shardId-000000000000",)" +
                   R"("StartingPosition":{"Type":"LATEST"}})";
        }
        if (operation.ends_with("ResourcePolicy")) {
            return R"({"ResourceARN":")" + arn + stream + R"(","Policy":"{\"Statement\":[]}"})";
        }
        if (operation == "SplitShard") {
            return "{" + name + R"(,"ShardToSplit":"0","NewStartingHashKey":"99"})";
        }
        if (operation == "MergeShards") {
            return "{" + name + R"(,"ShardToMerge":"0","AdjacentShardToMerge":"1"})";
        }
        if (operation == "UpdateShardCount") {
            return "{" + name + R"(,"TargetShardCount":2,"ScalingType":"UNIFORM_SCALING"})";
        }
        if (operation == "UpdateStreamMode") {
            return R"({"StreamARN":")" + arn + stream +
                   R"(","StreamModeDetails":{"StreamMode":"ON_DEMAND"}})";
        }
        if (operation.ends_with("StreamEncryption")) {
            return "{" + name + R"(,"EncryptionType":"KMS","KeyId":"alias/none"})";
        }
        // Everything another operation may need: what one does not know is ignored.
        return "{" + name + R"(,"StreamARN":")" + arn + stream + R"(","ResourceARN":")" + arn +
               stream +
               R"(","RetentionPeriodHours":24,"Tags":{"a":"b"},"TagKeys":["a"],)"
               R"("ShardLevelMetrics":["ALL"],"MaxRecordSizeInKiB":1024,)"
               R"("WarmThroughputMiBps":1,"RecordDistributionStrategy":"AUTO",)"
               R"("MinimumThroughputBillingCommitment":{"Status":"ENABLED"}})";
    }

    auth::Scratch scratch;
    std::unique_ptr<auth::CredentialStore> credentials;
    std::unique_ptr<auth::Gate> gate;
    std::string unsigned_iterator;
};

TEST_F(AuthorizeTest, NoOperationAnswersWithoutASignature) {
    for (const std::string_view operation : operation_names) {
        const Answer answer = call(operation, body_of(operation, "there"));
        EXPECT_EQ(answer.status, 400) << operation;
        EXPECT_EQ(answer.type(), "MissingAuthenticationTokenException") << operation;
        EXPECT_EQ(answer.message(), "Missing Authentication Token") << operation;
        EXPECT_TRUE(answer.headers.contains("x-amzn-RequestId")) << operation;
    }
}

TEST_F(AuthorizeTest, EveryOperationIsDeniedUnlessAPolicyAllowsIt) {
    const auto nobody = make("nobody", "");
    const auto other = make("other", allow("kinesis:*", arn + "other"));
    for (const std::string_view operation : operation_names) {
        for (const auto& key : {nobody, other}) {
            const Answer answer = ask(key, operation, body_of(operation, "there"));
            EXPECT_EQ(answer.type(), "AccessDeniedException") << operation << answer.body;
            EXPECT_EQ(answer.status, 400) << operation;
        }
    }
    EXPECT_TRUE(store->find("there"));
    EXPECT_TRUE(store->find("there")->stream().resource_policy.empty());
}

TEST_F(AuthorizeTest, WhatIsNotAllowedAnswersTheSameWhetherItIsThere) {
    const auto nobody = make("nobody", "");
    for (const std::string_view operation : operation_names) {
        if (operation == "ListStreams" || operation == "GetRecords" ||
            operation == "DescribeLimits" || operation.ends_with("AccountSettings")) {
            continue;  // name no stream
        }
        std::string there = ask(nobody, operation, body_of(operation, "there")).body;
        const std::string gone = ask(nobody, operation, body_of(operation, "thers")).body;
        const std::size_t at = there.find("/there");
        ASSERT_NE(at, std::string::npos) << there;
        there[at + 5] = 's';
        EXPECT_EQ(there, gone);
    }
}

TEST_F(AuthorizeTest, APolicyOfOneStreamAllowsThatOne) {
    const auto key = make("writer", allow("kinesis:PutRecord", arn + "there"));
    EXPECT_EQ(ask(key, "PutRecord", body_of("PutRecord", "there")).status, 200);
    EXPECT_EQ(ask(key, "PutRecords", body_of("PutRecords", "there")).type(),
              "AccessDeniedException");
    EXPECT_EQ(ask(key, "PutRecord", body_of("PutRecord", "gone")).type(), "AccessDeniedException");
    // By its ARN as well, whatever region that names: the signature's counts.
    EXPECT_EQ(
        ask(key, "PutRecord",
            R"({"StreamARN":"arn:aws:kinesis:eu-west-1:000000000000:stream/there","PartitionKey":"k","Data":""})")
            .status,
        200);
    EXPECT_EQ(
        ask(key, "PutRecord",
            R"({"StreamARN":"arn:aws:kinesis:us-east-1:111111111111:stream/there","PartitionKey":"k","Data":""})")
            .type(),
        "AccessDeniedException");
    // Where it may know, it is told.
    const auto all = make("all", allow("*", "*"));
    EXPECT_EQ(ask(all, "PutRecord", body_of("PutRecord", "gone")).type(),
              "ResourceNotFoundException");
}

TEST_F(AuthorizeTest, AnIteratorGivesNobodyWhatHisPolicyDoesNot) {
    const auto reader = make("reader", allow("kinesis:Get*", arn + "there"));
    const auto other = make("other", allow("kinesis:Get*", arn + "else*"));
    const Answer got = ask(reader, "GetShardIterator", body_of("GetShardIterator", "there"));
    ASSERT_EQ(got.status, 200) << got.body;
    const std::string body =
        R"({"ShardIterator":")" + got.json["ShardIterator"].get<std::string>() + "\"}";
    EXPECT_EQ(ask(reader, "GetRecords", body).status, 200);
    EXPECT_EQ(ask(other, "GetRecords", body).type(), "AccessDeniedException");
}

TEST_F(AuthorizeTest, PoliciesOfStreamsAreKeptAndEnforced) {
    const auto admin = make("admin", allow("*", "*"));
    const auto guest = make("guest", "");
    const std::string resource = R"("ResourceARN":")" + arn + "there\"";
    const auto policy = [](const std::string& effect, const std::string& name) {
        return R"({\"Statement\":[{\"Effect\":\")" + effect +
               R"(\",\"Action\":\"kinesis:PutRecord\",\"Resource\":\"*\",\"Principal\":{\"AWS\":)"
               R"(\"arn:aws:iam::000000000000:user/)" +
               name + R"(\"}}]})";
    };
    EXPECT_EQ(ask(admin, "GetResourcePolicy", "{" + resource + "}").body, R"({"Policy":"{}"})");
    EXPECT_EQ(ask(admin, "DeleteResourcePolicy", "{" + resource + "}").type(),
              "ResourceNotFoundException");
    EXPECT_EQ(ask(guest, "PutRecord", body_of("PutRecord", "there")).type(),
              "AccessDeniedException");
    const std::string gives = policy("Allow", "guest");
    ASSERT_EQ(
        ask(admin, "PutResourcePolicy", "{" + resource + R"(,"Policy":")" + gives + "\"}").status,
        200);
    EXPECT_EQ(ask(guest, "PutRecord", body_of("PutRecord", "there")).status, 200);
    EXPECT_EQ(ask(guest, "PutRecords", body_of("PutRecords", "there")).type(),
              "AccessDeniedException");
    EXPECT_EQ(ask(admin, "GetResourcePolicy", "{" + resource + "}").body,
              R"({"Policy":")" + gives + "\"}");
    // One that denies its own administrator can still be taken back by him.
    ASSERT_EQ(ask(admin, "PutResourcePolicy",
                  "{" + resource + R"(,"Policy":")" + policy("Deny", "admin") + "\"}")
                  .status,
              200);
    EXPECT_EQ(ask(admin, "PutRecord", body_of("PutRecord", "there")).type(),
              "AccessDeniedException");
    EXPECT_EQ(ask(admin, "DeleteResourcePolicy", "{" + resource + "}").status, 200);
    EXPECT_EQ(ask(admin, "PutRecord", body_of("PutRecord", "there")).status, 200);
    EXPECT_EQ(ask(admin, "PutResourcePolicy", "{" + resource + R"(,"Policy":"{}"})").type(),
              "InvalidArgumentException");
    EXPECT_EQ(ask(admin, "PutResourcePolicy", "{" + resource + "}").message(),
              "1 validation error detected: Value null at 'policy' failed to satisfy constraint: "
              "Member must not be null");
    EXPECT_EQ(ask(admin, "GetResourcePolicy", "{}").type(), "ValidationException");
    EXPECT_EQ(ask(admin, "GetResourcePolicy", R"({"ResourceARN":")" + arn + "gone\"}").type(),
              "ResourceNotFoundException");
}

TEST_F(AuthorizeTest, PoliciesOfConsumersAreKeptAndEnforced) {
    const auto admin = make("admin", allow("*", "*"));
    const auto guest = make("guest", "");
    const Answer made =
        ask(admin, "RegisterStreamConsumer", body_of("RegisterStreamConsumer", "there"));
    ASSERT_EQ(made.status, 200) << made.body;
    const std::string consumer = made.json["Consumer"]["ConsumerARN"];
    const std::string resource = R"("ResourceARN":")" + consumer + "\"";
    const std::string describe = R"({"ConsumerARN":")" + consumer + "\"}";
    const std::string subscribe = R"({"ConsumerARN":")" + consumer +
                                  R"(","ShardId":"9","StartingPosition":{"Type":"LATEST"}})";
    const std::string gives =
        R"({\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[\"kinesis:DescribeStreamConsumer\",)"
        R"(\"kinesis:SubscribeToShard\"],\"Resource\":\"*\",\"Principal\":{\"AWS\":)"
        R"(\"arn:aws:iam::000000000000:user/guest\"}}]})";
    EXPECT_EQ(ask(admin, "GetResourcePolicy", "{" + resource + "}").body, R"({"Policy":"{}"})");
    EXPECT_EQ(ask(admin, "DeleteResourcePolicy", "{" + resource + "}").type(),
              "ResourceNotFoundException");
    EXPECT_EQ(ask(guest, "DescribeStreamConsumer", describe).type(), "AccessDeniedException");
    ASSERT_EQ(
        ask(admin, "PutResourcePolicy", "{" + resource + R"(,"Policy":")" + gives + "\"}").status,
        200);
    EXPECT_EQ(ask(guest, "DescribeStreamConsumer", describe).status, 200);
    // The shard is looked for only once he may subscribe.
    EXPECT_EQ(ask(guest, "SubscribeToShard", subscribe).type(), "ResourceNotFoundException");
    EXPECT_EQ(ask(guest, "DeregisterStreamConsumer", describe).type(), "AccessDeniedException");
    // It is the consumer's, not the stream's.
    EXPECT_EQ(ask(guest, "DescribeStream", body_of("DescribeStream", "there")).type(),
              "AccessDeniedException");
    EXPECT_TRUE(store->find("there")->stream().resource_policy.empty());
    EXPECT_EQ(ask(admin, "GetResourcePolicy", "{" + resource + "}").body,
              R"({"Policy":")" + gives + "\"}");
    const auto kept = decode_stream(catalog->get("stream/there")->value);
    ASSERT_TRUE(kept);
    EXPECT_NE(kept->consumers.at(0).resource_policy.find("guest"), std::string::npos);
    EXPECT_EQ(decode_stream(encode_stream(*kept)), *kept);
    ASSERT_EQ(ask(admin, "DeleteResourcePolicy", "{" + resource + "}").status, 200);
    EXPECT_EQ(ask(guest, "DescribeStreamConsumer", describe).type(), "AccessDeniedException");
    EXPECT_EQ(ask(admin, "GetResourcePolicy", R"({"ResourceARN":")" + consumer + R"(1"})").type(),
              "ResourceNotFoundException")
        << "registered at another time";
}

TEST_F(AuthorizeTest, APolicyWhosePrincipalNobodyCanBeIsRefusedAndOneThatStandsIsKept) {
    const auto admin = make("admin", allow("*", "*"));
    const std::string old = R"({"Statement":{"Effect":"Deny","Action":"kinesis:PutRecord",)"
                            R"("Resource":"*","Principal":{"AWS":"reader"}}})";
    // As an earlier build did.
    ASSERT_TRUE(store->update("there", [&](Stream& stream) -> Status {
        stream.resource_policy = old;
        return {};
    }));
    ASSERT_NE(store->find("there"), nullptr);
    EXPECT_EQ(store->find("there")->stream().resource_policy, old);
    EXPECT_EQ(ask(admin, "PutRecord", body_of("PutRecord", "there")).status, 200);
    const Answer put =
        ask(admin, "PutResourcePolicy",
            R"({"ResourceARN":")" + arn +
                R"(there","Policy":"{\"Statement\":{\"Effect\":\"Deny\",\"Action\":\"*\",)"
                R"(\"Resource\":\"*\",\"Principal\":{\"AWS\":\"reader\"}}}"})");
    EXPECT_EQ(put.type(), "InvalidArgumentException");
    EXPECT_NE(put.message().find("found 'reader', which nobody here can be"), std::string::npos)
        << put.body;
    EXPECT_EQ(store->find("there")->stream().resource_policy, old);
}

TEST_F(AuthorizeTest, AStreamsPolicyOutlivesARestartAndGoesWithTheStream) {
    const auto admin = make("admin", allow("*", "*"));
    const std::string body =
        R"({"ResourceARN":")" + arn +
        R"(there","Policy":"{\"Statement\":{\"Effect\":\"Deny\",\"Action\":\"*\",)"
        R"(\"Resource\":\"*\",\"Principal\":\"*\"}}"})";
    ASSERT_EQ(ask(admin, "PutResourcePolicy", body).status, 200);
    const auto entry = catalog->get("stream/there");
    ASSERT_TRUE(entry);
    const auto kept = decode_stream(entry->value);
    ASSERT_TRUE(kept);
    EXPECT_EQ(kept->resource_policy, store->find("there")->stream().resource_policy);
    EXPECT_NE(kept->resource_policy.find("Deny"), std::string::npos);
    EXPECT_EQ(decode_stream(encode_stream(*kept)), *kept);
    ASSERT_EQ(ask(admin, "DeleteResourcePolicy", body_of("DeleteResourcePolicy", "there")).status,
              200);
    ASSERT_EQ(ask(admin, "PutResourcePolicy", body).status, 200);
    EXPECT_EQ(ask(admin, "DeleteStream", body_of("DeleteStream", "there")).type(),
              "AccessDeniedException");
}

TEST_F(AuthorizeTest, AConsumerIsAskedForByItsOwnArn) {
    const auto admin = make("admin", allow("*", "*"));
    const auto stream_only = make("stream", allow("kinesis:*", arn + "there"));
    const auto reader = make("reader", allow("kinesis:*", arn + "there/consumer/mine:*"));
    const std::string stream = R"("StreamARN":")" + arn + "there\"";
    for (const std::string name : {"mine", "theirs"}) {
        ASSERT_EQ(ask(stream_only, "RegisterStreamConsumer",
                      "{" + stream + R"(,"ConsumerName":")" + name + "\"}")
                      .status,
                  200);
    }
    const auto named = [&](const std::string& name) {
        return "{" + stream + R"(,"ConsumerName":")" + name + "\"}";
    };
    const Answer mine = ask(reader, "DescribeStreamConsumer", named("mine"));
    ASSERT_EQ(mine.status, 200) << mine.body;
    const std::string by_arn =
        R"({"ConsumerARN":)" + mine.json["ConsumerDescription"]["ConsumerARN"].dump() + "}";
    EXPECT_EQ(ask(reader, "DescribeStreamConsumer", by_arn).status, 200);
    EXPECT_EQ(ask(stream_only, "DescribeStreamConsumer", by_arn).type(), "AccessDeniedException");
    // One that is there and one that is not, refused in the same words.
    std::string there = ask(reader, "DescribeStreamConsumer", named("theirs")).body;
    const std::string gone = ask(reader, "DescribeStreamConsumer", named("theirz")).body;
    EXPECT_NE(there.find("AccessDeniedException"), std::string::npos);
    there.replace(there.find("theirs"), 6, "theirz");
    EXPECT_EQ(there, gone);
    EXPECT_EQ(ask(reader, "RegisterStreamConsumer", named("more")).type(), "AccessDeniedException");
    EXPECT_EQ(ask(reader, "DeregisterStreamConsumer", named("theirs")).type(),
              "AccessDeniedException");
    EXPECT_EQ(ask(reader, "DeregisterStreamConsumer", by_arn).status, 200);
    EXPECT_EQ(ask(admin, "DescribeStreamConsumer", by_arn).type(), "ResourceNotFoundException");
    EXPECT_EQ(store->find("there")->stream().consumers.size(), 1U);
}

}  // namespace
}  // namespace penstock::kinesis
