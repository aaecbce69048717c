#include "dataplane/wire/address.h"

#include <arpa/inet.h>

#include <random>

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(IpAddressText, IsRfc5952) {
    for (const char* text :
         {"0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1", "1::", "2001:db8::1",
          "2001:db8:0:1:1:1:1:1", "2001:0:0:1::1", "2001:db8::1:0:0:1", "fe80::1",
          "::ffff:192.0.2.1", "1:2:3:4:5:6:7:8", "ff02::1:ff00:1"}) {
        EXPECT_EQ(to_text(parse_address(text).value()), text);
    }
    EXPECT_EQ(to_text(parse_address("2001:DB8:0:0:1:0:0:1").value()), "2001:db8::1:0:0:1");
    EXPECT_EQ(to_text(parse_address("2001:db8:0:0:0:0:2:1").value()), "2001:db8::2:1");
}

TEST(IpAddressText, ReadsBackWhateverItWrites) {
    std::mt19937 random(7);
    for (int i = 0; i < 20000; ++i) {
        std::array<std::byte, 16> bytes{};
        for (std::size_t b = 0; b < 16; b += 2) {
            if (random() % 2 == 0) {
                bytes[b] = static_cast<std::byte>(random() & 0xFF);
                bytes[b + 1] = static_cast<std::byte>(random() & 0xFF);
            }
        }
        const IpAddress six = ipv6_address(bytes.data());
        EXPECT_EQ(parse_address(to_text(six)).value(), six);
        const IpAddress four = ipv4_address(bytes.data());
        EXPECT_EQ(parse_address(to_text(four)).value(), four);
    }
}

TEST(IpAddressText, RefusesWhatIsNone) {
    for (const char* text : {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", "::1::", "g::1",
                             "[::1]", "1:2:3:4:5:6:7", "localhost"}) {
        EXPECT_FALSE(parse_address(text)) << text;
    }
    for (const char* text :
         {"1.2.3.4/", "1.2.3.4/33", "::/129", "1.2.3.4/-1", "1.2.3.4/8x", "/8"}) {
        EXPECT_FALSE(parse_prefix(text)) << text;
    }
}

TEST(IpPrefix, ContainsByLeadingBits) {
    const auto in = [](const char* prefix, const char* address) {
        return parse_prefix(prefix).value().contains(parse_address(address).value());
    };
    EXPECT_TRUE(in("192.0.2.0/24", "192.0.2.255"));
    EXPECT_FALSE(in("192.0.2.0/24", "192.0.3.0"));
    EXPECT_TRUE(in("192.0.2.128/25", "192.0.2.129"));
    EXPECT_FALSE(in("192.0.2.128/25", "192.0.2.127"));
    EXPECT_TRUE(in("0.0.0.0/0", "8.8.8.8"));
    EXPECT_FALSE(in("0.0.0.0/0", "::1"));
    EXPECT_TRUE(in("::/0", "2001:db8::1"));
    EXPECT_TRUE(in("2001:db8::/33", "2001:db8:7fff::1"));
    EXPECT_FALSE(in("2001:db8::/33", "2001:db8:8000::1"));
    EXPECT_TRUE(in("192.0.2.1", "192.0.2.1"));
    EXPECT_FALSE(in("192.0.2.1", "192.0.2.0"));
    EXPECT_FALSE(IpPrefix{}.contains(IpAddress{}));
    EXPECT_EQ(to_text(parse_prefix("192.0.2.7/24").value()), "192.0.2.7/24");
}

}  // namespace
}  // namespace penstock
