#include "control/keys/key_ring.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/control/auth/scratch.h"

namespace penstock::keys {
namespace {

const std::string id_a = "11111111-2222-4333-8444-555555555555";
const std::string id_b = "11111111-2222-4333-8444-666666666666";
const std::string secret(64, 'a');

std::string why(const std::string& text) {
    const auto ring = KeyRing::parse(text);
    return ring ? "" : ring.error();
}

TEST(KeyRing, ReadsKeysTheirStateAndTheirAliases) {
    const auto ring = KeyRing::parse("# kept by hand\n\nkey " + id_a + " enabled " + secret +
                                     " alias/aws/kinesis alias/orders\n  \nkey " + id_b +
                                     " disabled " + std::string(64, 'B') + "\r\n");
    ASSERT_TRUE(ring) << ring.error();
    ASSERT_EQ(ring->keys().size(), 2U);
    EXPECT_EQ(ring->find(id_a)->secret, std::string(32, '\xaa'));
    EXPECT_TRUE(ring->find(id_a)->enabled);
    EXPECT_FALSE(ring->find(id_b)->enabled);
    EXPECT_EQ(ring->find_alias("alias/orders"), ring->find(id_a));
    EXPECT_EQ(ring->find_alias("alias/none"), nullptr);
    EXPECT_EQ(KeyRing::parse(ring->to_text()), *ring);
}

TEST(KeyRing, SaysWhichLineIsWrongAndNoSecretOfIt) {
    const std::string key = "key " + id_a + " enabled " + secret;
    EXPECT_EQ(why(key), "");
    EXPECT_NE(why("\nkeys " + id_a).find("line 2: expected `key`"), std::string::npos);
    EXPECT_NE(why("key 1234 enabled " + secret).find("expected a key id"), std::string::npos);
    EXPECT_NE(why("key " + id_a + " on " + secret).find("`enabled` or `disabled`"),
              std::string::npos);
    EXPECT_NE(why(key + "a").find("64 hexadecimal digits"), std::string::npos);
    EXPECT_EQ(why(key + "a").find("aaaa"), std::string::npos);
    EXPECT_NE(why(key + " orders").find("expected aliases"), std::string::npos);
    EXPECT_NE(why(key + "\n" + key).find("line 2: key " + id_a + " is there twice"),
              std::string::npos);
    EXPECT_NE(why(key + " alias/a alias/a").find("alias/a is there twice"), std::string::npos);
    EXPECT_NE(why(key + " alias/a\nkey " + id_b + " enabled " + secret + " alias/a")
                  .find("line 2: alias/a is there twice"),
              std::string::npos);
}

TEST(KeyRing, MakesKeysMovesAliasesAndForgetsOnlyWhatIsDisabled) {
    KeyRing ring;
    const std::vector<std::string> first{"alias/aws/kinesis", "alias/orders"};
    const auto a = ring.make_key(first);
    ASSERT_TRUE(a) << a.error();
    EXPECT_TRUE(is_key_id(*a)) << *a;
    const std::vector<std::string> second{"alias/orders"};
    const auto b = ring.make_key(second);
    ASSERT_TRUE(b);
    EXPECT_NE(ring.find(*a)->secret, ring.find(*b)->secret);
    EXPECT_NE(fingerprint(*ring.find(*a)), fingerprint(*ring.find(*b)));
    EXPECT_EQ(ring.find_alias("alias/orders")->id, *b);
    EXPECT_EQ(ring.find(*a)->aliases, std::vector<std::string>{"alias/aws/kinesis"});

    const std::vector<std::string> bad{"alias/with space"};
    EXPECT_FALSE(ring.make_key(bad));
    EXPECT_EQ(ring.keys().size(), 2U) << "a key was made although its alias is none";
    EXPECT_FALSE(ring.remove(*a)) << "an enabled key was forgotten";
    ASSERT_TRUE(ring.set_enabled(*a, false));
    EXPECT_FALSE(ring.find(*a)->enabled);
    EXPECT_TRUE(ring.remove(*a));
    EXPECT_EQ(ring.find(*a), nullptr);
    EXPECT_FALSE(ring.set_enabled(*a, true));
    EXPECT_FALSE(ring.set_alias("alias/x", *a));
}

TEST(KeyRing, ItsFileIsItsOwnersAndNotAmongTheData) {
    const auth::Scratch scratch;
    const std::string path = scratch.path("keys");
    const std::vector<std::string> data{scratch.path("data")};
    const std::string command = "`penstock keys make --keys-file " + path + "`";
    EXPECT_NE(read_key_ring(path, data).error().find(command), std::string::npos);
    KeyRing ring;
    ASSERT_TRUE(ring.make_key({}));
    ASSERT_TRUE(write_key_ring(path, ring));
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    EXPECT_EQ(read_key_ring(path, data), ring);
    // Written over as a whole, and nothing is left beside it.
    ASSERT_TRUE(ring.make_key({}));
    ASSERT_TRUE(write_key_ring(path, ring));
    EXPECT_EQ(read_key_ring(path, data), ring);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path("")),
                            std::filesystem::directory_iterator()),
              1);
    ::chmod(path.c_str(), 0640);
    EXPECT_NE(read_key_ring(path, data).error().find("chmod 600"), std::string::npos);
    ::chmod(path.c_str(), 0600);
    const std::vector<std::string> around{scratch.path("")};
    EXPECT_NE(read_key_ring(path, around).error().find("within the data directory"),
              std::string::npos);
}

TEST(KeyRing, ChangesAtTheSameTimeLoseNoKey) {
    const auth::Scratch scratch;
    const std::string path = scratch.path("etc/keys");
    constexpr int threads = 4;
    constexpr int keys_of_each = 10;
    std::vector<std::thread> makers;
    for (int i = 0; i < threads; ++i) {
        makers.emplace_back([&path] {
            for (int k = 0; k < keys_of_each; ++k) {
                const auto make = [](KeyRing& ring) -> std::expected<void, std::string> {
                    EXPECT_TRUE(ring.make_key({}));
                    return {};
                };
                const auto done = change_key_ring(path, true, make);
                EXPECT_TRUE(done) << done.error();
            }
        });
    }
    for (std::thread& maker : makers) {
        maker.join();
    }
    const auto ring = read_key_ring(path, {});
    ASSERT_TRUE(ring) << ring.error();
    EXPECT_EQ(ring->keys().size(), static_cast<std::size_t>(threads * keys_of_each));
}

TEST(KeyRing, AChangeThatIsRefusedLeavesTheFileAsItWas) {
    const auth::Scratch scratch;
    const std::string path = scratch.path("keys");
    const auto refuse = [](KeyRing& ring) -> std::expected<void, std::string> {
        static_cast<void>(ring.make_key({}));
        return std::unexpected("no");
    };
    EXPECT_EQ(change_key_ring(path, true, refuse).error(), "no");
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_NE(change_key_ring(path, false, refuse).error().find("penstock keys make"),
              std::string::npos);
    KeyRing ring;
    ASSERT_TRUE(ring.make_key({}));
    ASSERT_TRUE(write_key_ring(path, ring));
    EXPECT_EQ(change_key_ring(path, true, refuse).error(), "no");
    EXPECT_EQ(read_key_ring(path, {}), ring);
    ::chmod(path.c_str(), 0640);
    EXPECT_NE(change_key_ring(path, true, refuse).error().find("chmod 600"), std::string::npos);
    EXPECT_NE(change_key_ring(scratch.path("no/such/keys"), true, refuse).error().find("No such"),
              std::string::npos);
}

}  // namespace
}  // namespace penstock::keys
