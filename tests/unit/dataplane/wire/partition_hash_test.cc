#include "dataplane/wire/partition_hash.h"

#include <openssl/evp.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace penstock {
namespace {

std::string hex(const Hash128& hash) {
    char text[33];
    std::snprintf(text, sizeof text, "%016lx%016lx", hash.high, hash.low);
    return text;
}

TEST(PartitionHash, MatchesTheTestSuiteOfRfc1321) {
    const auto md5 = [](std::string_view key) { return hex(partition_hash(as_bytes(key))); };
    EXPECT_EQ(md5(""), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(md5("a"), "0cc175b9c0f1b6a831c399e269772661");
    EXPECT_EQ(md5("abc"), "900150983cd24fb0d6963f7d28e17f72");
    EXPECT_EQ(md5("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    EXPECT_EQ(md5("abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b");
    EXPECT_EQ(md5("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
              "d174ab98d277d9f5a5611c2c9f419d9f");
    EXPECT_EQ(
        md5("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
        "57edf4a22be3c955ac49da2e2107b67a");
}

TEST(PartitionHash, AgreesWithOpensslAtEveryLength) {
    std::string key;
    for (int i = 0; i < 1100; ++i) {
        unsigned char digest[16];
        unsigned size = 0;
        ASSERT_EQ(EVP_Digest(key.data(), key.size(), digest, &size, EVP_md5(), nullptr), 1);
        std::string expected;
        for (const unsigned char byte : digest) {
            char text[3];
            std::snprintf(text, sizeof text, "%02x", byte);
            expected += text;
        }
        EXPECT_EQ(hex(partition_hash(as_bytes(key))), expected) << i;
        key += static_cast<char>(i * 37 + 11);
    }
}

TEST(PartitionHash, ManyAreHashedAsOneByOne) {
    std::string text;
    for (int i = 0; i < 1000; ++i) {
        text += static_cast<char>(i * 37 + 11);
    }
    // Every length that shares a block, with longer ones among them at some places.
    for (std::size_t count = 0; count < 40; ++count) {
        std::vector<Bytes> keys;
        for (std::size_t i = 0; i < count; ++i) {
            keys.push_back(as_bytes(std::string_view(text).substr(i, (count * 13 + i * 7) % 61)));
        }
        std::vector<Hash128> hashes(count);
        partition_hashes(keys, hashes);
        for (std::size_t i = 0; i < count; ++i) {
            EXPECT_EQ(hashes[i], partition_hash(keys[i])) << count << " " << i;
        }
    }
}

}  // namespace
}  // namespace penstock
