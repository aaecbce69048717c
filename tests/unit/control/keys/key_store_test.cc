#include "control/keys/key_store.h"

#include <gtest/gtest.h>

#include "tests/unit/control/auth/scratch.h"

namespace penstock::keys {
namespace {

constexpr std::string_view region = "eu-west-1";
constexpr std::string_view account = "123456789012";

struct Fixture : ::testing::Test {
    Fixture() {
        const std::vector<std::string> first{"alias/aws/kinesis", "alias/orders/eu"};
        a = *ring.make_key(first);
        b = *ring.make_key({});
        EXPECT_TRUE(ring.set_enabled(b, false));
    }
    [[nodiscard]] KeyFault fault(const std::string& name) const {
        return KeyStore(ring).find(name, region, account).fault;
    }
    KeyRing ring;
    std::string a;
    std::string b;
};
using KeyStoreTest = Fixture;

TEST_F(KeyStoreTest, FindsAKeyByAllFourNamesOfKms) {
    const KeyStore store(ring);
    for (const std::string& name :
         {a, std::string("alias/aws/kinesis"), "arn:aws:kms:eu-west-1:123456789012:key/" + a,
          std::string("arn:aws:kms:eu-west-1:123456789012:alias/orders/eu")}) {
        const auto found = store.find(name, region, account);
        EXPECT_EQ(found.fault, KeyFault::none) << name;
        EXPECT_EQ(found.key.id, a) << name;
    }
    for (const std::string& name :
         {"arn:aws:kms:us-east-1:123456789012:key/" + a,
          "arn:aws:kms:eu-west-1:999999999999:key/" + a,
          "arn:aws:kinesis:eu-west-1:123456789012:key/" + a, "key/" + a,
          std::string("arn:aws:kms:eu-west-1:123456789012:alias/none"), std::string("alias/none"),
          std::string("arn:"), std::string("arn:aws:kms:eu-west-1:123456789012:")}) {
        EXPECT_EQ(fault(name), KeyFault::not_found) << name;
    }
    EXPECT_EQ(fault(b), KeyFault::disabled);
    EXPECT_EQ(KeyStore().find(a, region, account).fault, KeyFault::opt_in);
}

TEST_F(KeyStoreTest, KeepsItsKeysWhenTheFileTurnsBad) {
    const auth::Scratch scratch;
    const std::string path = scratch.path("keys");
    ASSERT_TRUE(write_key_ring(path, ring));
    auto store = KeyStore::open(path, {});
    ASSERT_TRUE(store) << store.error();
    ASSERT_TRUE((*store)->reload());
    ASSERT_EQ(::truncate(path.c_str(), 100), 0);
    const auto read = (*store)->reload();
    ASSERT_FALSE(read);
    EXPECT_NE(read.error().find("--keys-file " + path), std::string::npos);
    EXPECT_EQ((*store)->find(a, region, account).fault, KeyFault::none);
    EXPECT_EQ((*store)->counters().reloads, 1U);
    EXPECT_EQ((*store)->counters().failed_reloads, 1U);
    EXPECT_FALSE(KeyStore::open(path, {}));
}

TEST_F(KeyStoreTest, SealersStayTheSameUntilAKeyChanges) {
    KeyStore store(ring);
    Encryption encryption;
    EXPECT_EQ(store.crypt_of(encryption, 5, 2), nullptr);
    encryption.key_id = a;
    encryption.data_keys = {make_data_key(*ring.find(a), 5, 1, 0)};
    const auto first = store.crypt_of(encryption, 5, 2);
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(store.crypt_of(encryption, 5, 2), first);
    store.replace(ring);  // the same
    EXPECT_EQ(store.crypt_of(encryption, 5, 2), first);
    encryption.data_keys.push_back(make_data_key(*ring.find(a), 5, 2, 0));
    const auto second = store.crypt_of(encryption, 5, 2);
    EXPECT_NE(second, first);
    ASSERT_TRUE(ring.set_enabled(a, false));
    store.replace(ring);
    const auto third = store.crypt_of(encryption, 5, 2);
    EXPECT_EQ(third->seal_fault(), KeyFault::disabled);
    EXPECT_TRUE(third->sealers()->by_lane.empty());
}

}  // namespace
}  // namespace penstock::keys
