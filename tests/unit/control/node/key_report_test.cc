#include "control/node/key_report.h"

#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock {
namespace {

class KeyReportTest : public kinesis::ApiTest {
protected:
    KeyReportTest() { key = *ring.make_key({}); }
    void use(const keys::KeyRing& with) {
        key_store.replace(with);
        store->keys_changed();
    }
    void encrypt(const std::string& name) {
        make_stream(name, 1);
        const auto done = call(
            "StartStreamEncryption",
            R"({"StreamName":")" + name + R"(","EncryptionType":"KMS","KeyId":")" + key + "\"}");
        ASSERT_EQ(done.status, 200) << done.body;
    }
    std::string report(const std::string& file = "/k") {
        return unusable_keys(*store->table(), file, clock.wall_ms());
    }
    bool says(const std::string& text) { return report().find(text) != std::string::npos; }
    keys::KeyRing ring;
    std::string key;
};

TEST_F(KeyReportTest, NamesStreamsWithTheKeysThatTheyWaitFor) {
    use(ring);
    make_stream("clear", 1);
    encrypt("a");
    encrypt("b");
    EXPECT_EQ(report(), "");
    ASSERT_TRUE(ring.set_enabled(key, false));
    use(ring);
    EXPECT_TRUE(says("/k lacks keys of encrypted streams: a (key " + key +
                     " is disabled), b (key " + key + " is disabled). Until"))
        << report();
    use(keys::KeyRing());
    EXPECT_TRUE(says("a (key " + key + " is not in the file), b (")) << report();
    use(*keys::KeyRing::parse("key " + key + " enabled " + std::string(64, 'a')));
    EXPECT_TRUE(says("a (key " + key + " has another secret in the file), b (")) << report();
}

TEST_F(KeyReportTest, AKeyThatSealedOnlyWhatHasExpiredIsNoLongerMissed) {
    use(ring);
    encrypt("a");
    ASSERT_EQ(call("StopStreamEncryption",
                   R"({"StreamName":"a","EncryptionType":"KMS","KeyId":")" + key + "\"}")
                  .status,
              200);
    use(keys::KeyRing());
    EXPECT_TRUE(says("a (key " + key)) << report();
    // A day of retention, and one until the records have gone.
    const std::int64_t later_ms = clock.wall_ms() + 49 * 3'600'000LL;
    EXPECT_EQ(unusable_keys(*store->table(), "/k", later_ms), "");
}

TEST_F(KeyReportTest, ALineDoesNotGrowWithTheStreams) {
    use(ring);
    for (int i = 0; i < 22; ++i) {
        encrypt("s" + std::to_string(i));
    }
    use(keys::KeyRing());
    EXPECT_TRUE(says(" and 2 other streams. Until")) << report();
}

}  // namespace
}  // namespace penstock
