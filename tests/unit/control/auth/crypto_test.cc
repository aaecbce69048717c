#include "control/auth/crypto.h"

#include <gtest/gtest.h>

namespace penstock::auth {
namespace {

TEST(AuthCrypto, KnownDigests) {
    Sha256 sha;
    // FIPS 180-4's example, and the same object again.
    const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    EXPECT_EQ(to_hex(as_text(sha.of("abc"))), abc);
    EXPECT_EQ(to_hex(as_text(sha.of(""))),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(to_hex(as_text(sha.of("abc"))), abc);
    // RFC 4231, test case 2.
    HmacKey key("Jefe");
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(to_hex(as_text(key.of("what do ya want for nothing?"))),
                  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}

TEST(AuthCrypto, Encodings) {
    EXPECT_EQ(from_hex("00fFa5"), std::string("\x00\xff\xa5", 3));
    EXPECT_FALSE(from_hex("0"));
    EXPECT_FALSE(from_hex("0g"));
    for (std::size_t size = 1; size < 9; ++size) {
        const std::string bytes = random_bytes(size);
        EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
    }
    for (const char* bad : {"", "AAA", "AA A", "AAAA\n", "A*AA", " AAAA", "AAA=AAAA=", "AB=="}) {
        EXPECT_FALSE(from_base64(bad)) << bad;
    }
}

TEST(AuthCrypto, WhatIsSealedOpensWithItsKeyAndContextAlone) {
    const std::string key = derive_key("secret", "salt", "purpose");
    ASSERT_EQ(key.size(), 32U);
    EXPECT_NE(derive_key("secret", "salt", "other"), key);
    EXPECT_NE(derive_key("secret", "pepper", "purpose"), key);
    const std::string sealed = seal(key, "here", "text");
    EXPECT_EQ(sealed.size(), 4 + seal_overhead_bytes);
    EXPECT_EQ(sealed.find("text"), std::string::npos);
    EXPECT_NE(seal(key, "here", "text"), sealed);
    EXPECT_EQ(unseal(key, "here", sealed), "text");
    EXPECT_EQ(unseal(key, "here", seal(key, "here", "")), "");
    EXPECT_FALSE(unseal(key, "there", sealed));
    EXPECT_FALSE(unseal(derive_key("x", "salt", "purpose"), "here", sealed));
    EXPECT_FALSE(unseal(key, "here", sealed.substr(1)));
    EXPECT_FALSE(unseal(key, "here", ""));
    for (std::size_t i = 0; i < sealed.size(); ++i) {
        std::string damaged = sealed;
        damaged[i] = static_cast<char>(damaged[i] ^ 1);
        EXPECT_FALSE(unseal(key, "here", damaged)) << i;
    }
}

TEST(AuthCrypto, Comparison) {
    EXPECT_TRUE(equal_in_constant_time("", ""));
    EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
    EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
    EXPECT_FALSE(equal_in_constant_time("abc", "abcd"));
}

}  // namespace
}  // namespace penstock::auth
