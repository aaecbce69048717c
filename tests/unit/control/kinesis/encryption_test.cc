// Encrypted streams through the API: what is stored, what is answered, and what happens without the
// key.
#include "control/kinesis/operations/encryption.h"

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

class EncryptionTest : public ApiTest {
protected:
    EncryptionTest() {
        const std::vector<std::string> aliases{"alias/aws/kinesis"};
        key = *ring.make_key(aliases);
        other = *ring.make_key({});
        use(ring);
        make_stream("s", 1);
    }
    void use(const keys::KeyRing& with) {
        key_store.replace(with);
        store->keys_changed();
    }
    Answer start(const std::string& key_id, const std::string& type = "KMS") {
        return call("StartStreamEncryption", R"({"StreamName":"s","EncryptionType":")" + type +
                                                 R"(","KeyId":")" + key_id + "\"}");
    }
    Answer stop(const std::string& key_id) {
        return call("StopStreamEncryption",
                    R"({"StreamName":"s","EncryptionType":"KMS","KeyId":")" + key_id + "\"}");
    }
    nlohmann::json describe() {
        const Answer full = call("DescribeStream", R"({"StreamName":"s"})");
        const Answer summary = call("DescribeStreamSummary", R"({"StreamName":"s"})");
        const auto& a = full.json["StreamDescription"];
        const auto& b = summary.json["StreamDescriptionSummary"];
        EXPECT_EQ(a["EncryptionType"], b["EncryptionType"]);
        EXPECT_EQ(a.value("KeyId", ""), b.value("KeyId", ""));
        return a;
    }
    Answer read() { return get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")")); }
    std::vector<MemoryLanes::Stored> stored() {
        std::vector<MemoryLanes::Stored> all;
        for (const auto& [uid, shard] : lanes.shards()) {
            all.insert(all.end(), shard.records.begin(), shard.records.end());
        }
        return all;
    }
    keys::KeyRing ring;
    std::string key;
    std::string other;
};

TEST_F(EncryptionTest, RecordsAreSealedFromStartToStopAndAllAreRead) {
    EXPECT_EQ(describe()["EncryptionType"], "NONE");
    EXPECT_FALSE(describe().contains("KeyId"));
    EXPECT_FALSE(put("s", "clear").json.contains("EncryptionType"));
    ASSERT_EQ(start("alias/aws/kinesis").status, 200);
    EXPECT_EQ(describe()["EncryptionType"], "KMS");
    EXPECT_EQ(describe()["KeyId"], "alias/aws/kinesis");
    EXPECT_EQ(put("s", "sealed").json["EncryptionType"], "KMS");
    const Answer many =
        call("PutRecords", R"({"StreamName":"s","Records":[{"Data":")" + base64("sealed too") +
                               R"(","PartitionKey":"k","ExplicitHashKey":"5"}]})");
    EXPECT_EQ(many.json["EncryptionType"], "KMS");
    EXPECT_EQ(many.json["FailedRecordCount"], 0);
    ASSERT_EQ(start(other).status, 200);
    EXPECT_EQ(describe()["KeyId"], other);
    EXPECT_EQ(put("s", "by the other").status, 200);
    ASSERT_EQ(stop(other).status, 200);
    EXPECT_EQ(describe()["EncryptionType"], "NONE");
    EXPECT_FALSE(put("s", "clear again").json.contains("EncryptionType"));

    const auto kept = stored();
    ASSERT_EQ(kept.size(), 5U);
    EXPECT_TRUE(kept[0].sealed.empty());
    EXPECT_TRUE(kept[4].sealed.empty());
    for (int i = 1; i < 4; ++i) {
        ASSERT_FALSE(kept[i].sealed.empty());
        EXPECT_TRUE(kept[i].data.empty());
    }
    const Answer all = read();
    EXPECT_EQ(data_of(all), (std::vector<std::string>{"clear", "sealed", "sealed too",
                                                      "by the other", "clear again"}));
    for (int i = 0; i < 5; ++i) {
        const auto& record = all.json["Records"][static_cast<std::size_t>(i)];
        EXPECT_EQ(record["PartitionKey"], "k");
        EXPECT_EQ(record.value("EncryptionType", ""), i == 0 || i == 4 ? "" : "KMS");
    }
    // The same after a restart, from what the catalog has.
    close();
    open();
    EXPECT_EQ(data_of(read()).size(), 5U);
}

TEST_F(EncryptionTest, WithoutItsKeyNothingIsWrittenOrReadAndNothingIsLost) {
    put("s", "clear");
    ASSERT_EQ(start(key).status, 200);
    put("s", "sealed");
    struct Case {
        std::string exception;
        std::function<keys::KeyRing()> ring;
    };
    const Case cases[] = {
        {"KMSNotFoundException",
         [&] {
             keys::KeyRing changed = ring;
             EXPECT_TRUE(changed.set_enabled(key, false) && changed.remove(key));
             return changed;
         }},
        {"KMSDisabledException",
         [&] {
             keys::KeyRing changed = ring;
             EXPECT_TRUE(changed.set_enabled(key, false));
             return changed;
         }},
        {"KMSInvalidStateException",
         [&] {
             std::string text = ring.to_text();
             const std::size_t digit = text.find("enabled ") + 8;
             text[digit] = text[digit] == '0' ? '1' : '0';
             return *keys::KeyRing::parse(text);
         }},
    };
    for (const Case& one : cases) {
        use(one.ring());
        const Answer refused = put("s", "not taken");
        EXPECT_EQ(refused.status, 400);
        EXPECT_EQ(refused.type(), one.exception);
        EXPECT_NE(refused.message().find(key), std::string::npos);
        EXPECT_EQ(call("PutRecords", R"({"StreamName":"s","Records":[{"Data":"QQ==",)"
                                     R"("PartitionKey":"k"}]})")
                      .type(),
                  one.exception);
        // What is before it can be read; the next call meets it.
        const Answer first = read();
        EXPECT_EQ(data_of(first), std::vector<std::string>{"clear"});
        EXPECT_EQ(get(next_of(first)).type(), one.exception);
    }
    EXPECT_EQ(key_store.counters().refused[static_cast<std::size_t>(keys::KeyFault::disabled)], 3U);
    use(ring);
    EXPECT_EQ(put("s", "taken").status, 200);
    EXPECT_EQ(data_of(read()), (std::vector<std::string>{"clear", "sealed", "taken"}));
    EXPECT_EQ(stored().size(), 3U);
}

TEST_F(EncryptionTest, ALostKeyCanBeLeftBehind) {
    ASSERT_EQ(start(key).status, 200);
    put("s", "sealed");
    keys::KeyRing without = ring;
    ASSERT_TRUE(without.set_enabled(key, false) && without.remove(key));
    use(without);
    EXPECT_EQ(stop(other).type(), "InvalidArgumentException");
    ASSERT_EQ(stop(key).status, 200);
    EXPECT_EQ(put("s", "clear").status, 200);
    EXPECT_EQ(read().type(), "KMSNotFoundException");
    const Answer behind = get(
        iterator("s", R"("ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":")" +
                          put("s", "last").json["SequenceNumber"].get<std::string>() + "\""));
    EXPECT_EQ(behind.status, 200);
}

TEST_F(EncryptionTest, StartNeedsAKeyThatCanBeUsed) {
    EXPECT_EQ(start("alias/none").type(), "KMSNotFoundException");
    EXPECT_EQ(start("alias/none").status, 400);
    EXPECT_EQ(start("arn:aws:kms:us-east-1:000000000000:key/" + key).status, 200);
    EXPECT_EQ(start("arn:aws:kms:us-east-1:999999999999:key/" + key).type(),
              "KMSNotFoundException");
    EXPECT_EQ(start(key, "NONE").type(), "InvalidArgumentException");
    EXPECT_EQ(start(key, "AES").type(), "ValidationException");
    keys::KeyRing changed = ring;
    ASSERT_TRUE(changed.set_enabled(other, false));
    use(changed);
    EXPECT_EQ(start(other).type(), "KMSDisabledException");
    EXPECT_EQ(
        call("StartStreamEncryption", R"({"StreamName":"none","EncryptionType":"KMS","KeyId":"x"})")
            .type(),
        "ResourceNotFoundException");
}

TEST_F(EncryptionTest, AKeyIsApplied25TimesADayAtMost) {
    for (std::size_t i = 0; i < keys_applied_per_day; ++i) {
        ASSERT_EQ(start(key).status, 200);
        put("s", "x");
    }
    EXPECT_EQ(start(key).type(), "LimitExceededException");
    EXPECT_EQ(data_of(read()).size(), keys_applied_per_day);
    clock.ms += 25LL * 3600 * 1000;
    EXPECT_EQ(start(key).status, 200);
}

TEST_F(EncryptionTest, AnOldDataKeyStaysAsLongAsARecordCan) {
    ASSERT_EQ(start(key).status, 200);
    ASSERT_EQ(start(key).status, 200);
    EXPECT_EQ(store->find("s")->stream().encryption.data_keys.size(), 2U);
    clock.ms += 8760LL * 3600 * 1000;
    ASSERT_EQ(start(key).status, 200);
    EXPECT_EQ(store->find("s")->stream().encryption.data_keys.size(), 3U);
    clock.ms += 48LL * 3600 * 1000;
    ASSERT_EQ(start(key).status, 200);
    const auto& left = store->find("s")->stream().encryption.data_keys;
    ASSERT_EQ(left.size(), 3U);
    EXPECT_EQ(left.front().generation, 2U);
    EXPECT_EQ(left.back().generation, 4U);
}

TEST_F(EncryptionTest, ARecordMovedToAnotherPlaceIsNotHandedOut) {
    ASSERT_EQ(start(key).status, 200);
    put("s", "first");
    put("s", "second");
    const ShardUid uid = store->find("s")->stream().shards[0].uid;
    lanes.edit_shard(
        uid, [](auto& shard) { std::swap(shard.records[0].sealed, shard.records[1].sealed); });
    const Answer refused = read();
    EXPECT_EQ(refused.status, 500);
    EXPECT_NE(refused.message().find("does not open with its key"), std::string::npos);
    EXPECT_EQ(key_store.counters().damaged, 1U);
}

TEST_F(EncryptionTest, StreamsOfBuildsBeforeEncryptionAreReadAndLeftToThem) {
    const Stream clear = store->find("s")->stream();
    EXPECT_NE(encode_stream(clear).find(R"("version":1,)"), std::string::npos);
    ASSERT_EQ(start(key).status, 200);
    ASSERT_EQ(stop(key).status, 200);
    // Sealed records are there: a build that does not know them must not take it up.
    const Stream sealed = store->find("s")->stream();
    EXPECT_NE(encode_stream(sealed).find(R"("version":2,)"), std::string::npos);
    EXPECT_EQ(decode_stream(encode_stream(sealed)), sealed);
    std::string text = encode_stream(sealed);
    text.replace(text.find(R"("version":2)"), 11, R"("version":3)");
    EXPECT_EQ(decode_stream(text).error().code, Errc::unsupported);
    ASSERT_EQ(start(key).status, 200);
    text = encode_stream(store->find("s")->stream());
    const std::size_t at = text.find(R"("generation":2)");
    text.replace(at, 14, R"("generation":1)");
    EXPECT_EQ(decode_stream(text).error().code, Errc::corrupt);
}

TEST_F(EncryptionTest, RoutesCarryTheSealersToDoors) {
    const auto sealers = [&] {
        const std::lock_guard lock(routes_mutex);
        return routes->stream("s")->sealers() == nullptr               ? -1
               : routes->stream("s")->sealers()->of_lane(1) == nullptr ? 0
                                                                       : 1;
    };
    EXPECT_EQ(sealers(), -1);
    ASSERT_EQ(start(key).status, 200);
    EXPECT_EQ(sealers(), 1);
    keys::KeyRing changed = ring;
    ASSERT_TRUE(changed.set_enabled(key, false));
    use(changed);
    EXPECT_EQ(sealers(), 0);
    ASSERT_EQ(stop(key).status, 200);
    EXPECT_EQ(sealers(), -1);
}

}  // namespace
}  // namespace penstock::kinesis
