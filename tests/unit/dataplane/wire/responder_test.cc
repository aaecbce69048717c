#include "dataplane/wire/responder.h"

#include <memory>

#include <gtest/gtest.h>

#include "tests/unit/dataplane/wire/packet_builder.h"

namespace penstock {
namespace {

using namespace test;

constexpr MacAddress everybody{{std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF},
                                std::byte{0xFF}, std::byte{0xFF}}};

class Responder : public ::testing::Test {
protected:
    Buffer answer(Bytes frame) const {
        Buffer out(2048, std::byte{0xA5});
        out.resize(respond(frame, {our_mac, addresses}, out));
        return out;
    }
    std::vector<IpPrefix> addresses{parse_prefix("192.0.2.1/24").value(),
                                    parse_prefix("2001:db8::1/64").value()};
    const IpAddress v4_us = address("192.0.2.1");
    const IpAddress v4_them = address("192.0.2.7");
    const IpAddress v6_us = address("2001:db8::1");
    const IpAddress v6_them = address("2001:db8::7");
    const IpAddress solicited_node = address("ff02::1:ff00:1");
    const MacAddress solicited_mac{{std::byte{0x33}, std::byte{0x33}, std::byte{0xFF}, std::byte{0},
                                    std::byte{0}, std::byte{1}}};
};

Buffer arp(unsigned operation, const MacAddress& from_mac, const IpAddress& from,
           const MacAddress& to_mac, const IpAddress& to) {
    Buffer out;
    put16(out, 1);
    put16(out, 0x0800);
    put8(out, 6);
    put8(out, 4);
    put16(out, operation);
    put(out, from_mac.bytes);
    put(out, from.view());
    put(out, to_mac.bytes);
    put(out, to.view());
    return out;
}

// What we send: the link header turned round.
Buffer reply_frame(unsigned type, Bytes content, std::vector<unsigned> vlans = {},
                   const MacAddress& to = their_mac) {
    Buffer out = ethernet(type, content, std::move(vlans), to);
    std::copy(our_mac.bytes.begin(), our_mac.bytes.end(), out.begin() + 6);
    if (out.size() < 60) {
        out.resize(60);
    }
    return out;
}

TEST_F(Responder, AnswersArpForItsAddressByteForByte) {
    for (const std::vector<unsigned>& vlans : {std::vector<unsigned>{}, {100}, {100, 200}}) {
        const Buffer request =
            ethernet(0x0806, arp(1, their_mac, v4_them, {}, v4_us), vlans, everybody);
        EXPECT_EQ(answer(request),
                  reply_frame(0x0806, arp(2, our_mac, v4_us, their_mac, v4_them), vlans));
    }
}

TEST_F(Responder, AnswersArpProbes) {
    const IpAddress nobody = address("0.0.0.0");
    EXPECT_EQ(answer(ethernet(0x0806, arp(1, their_mac, nobody, {}, v4_us), {}, everybody)),
              reply_frame(0x0806, arp(2, our_mac, v4_us, their_mac, nobody)));
}

TEST_F(Responder, LeavesOtherArpAlone) {
    const IpAddress other = address("192.0.2.99");
    EXPECT_TRUE(
        answer(ethernet(0x0806, arp(1, their_mac, v4_them, {}, other), {}, everybody)).empty());
    EXPECT_TRUE(answer(ethernet(0x0806, arp(2, their_mac, v4_them, our_mac, v4_us))).empty());
    EXPECT_TRUE(
        answer(ethernet(0x0806, arp(1, their_mac, v4_us, {}, v4_us), {}, everybody)).empty());
    EXPECT_TRUE(
        answer(ethernet(0x0806, arp(1, everybody, v4_them, {}, v4_us), {}, everybody)).empty());
}

Buffer echo(unsigned type, std::string_view data) {
    Buffer out;
    put8(out, type);
    put8(out, 0);
    put16(out, 0);
    put16(out, 0x0102);
    put16(out, 0x0304);
    put(out, as_bytes(data));
    return out;
}

Buffer echo_v4(unsigned type, std::string_view data) {
    Buffer out = echo(type, data);
    set16(out, 2, plain_checksum(out));
    return out;
}

TEST_F(Responder, AnswersPingByteForByte) {
    for (const std::string_view data :
         {"", "odd", "sixteen bytes ok", "a payload longer than the smallest frame"}) {
        const Buffer request = ethernet(0x0800, ipv4(v4_them, v4_us, 1, echo_v4(8, data)));
        Buffer packet = ipv4(v4_us, v4_them, 1, echo_v4(0, data), 0x4000);
        set16(packet, 4, 0);  // no identification
        set16(packet, 10, 0);
        set16(packet, 10, plain_checksum(Bytes(packet).first(20)));
        EXPECT_EQ(answer(request), reply_frame(0x0800, packet)) << data;
    }
}

TEST_F(Responder, LeavesOddPingsAlone) {
    const Buffer good = echo_v4(8, "data");
    EXPECT_FALSE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, good))).empty());
    EXPECT_FALSE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, good, 0, 8))).empty());
    EXPECT_TRUE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, good, 0x2000))).empty());
    EXPECT_TRUE(answer(ethernet(0x0800, ipv4(v4_them, address("192.0.2.255"), 1, good))).empty());
    EXPECT_TRUE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, good), {}, everybody)).empty());
    for (const char* forged :
         {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1"}) {
        EXPECT_TRUE(answer(ethernet(0x0800, ipv4(address(forged), v4_us, 1, good))).empty())
            << forged;
    }
    Buffer damaged = good;
    damaged.back() ^= std::byte{1};
    EXPECT_TRUE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, damaged))).empty());
    EXPECT_TRUE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, echo_v4(0, "reply")))).empty());
}

TEST_F(Responder, AnswersPingOverIpv6ByteForByte) {
    const Buffer request =
        ethernet(0x86DD, ipv6(v6_them, v6_us, 58, icmpv6(v6_them, v6_us, echo(128, "ping six"))));
    EXPECT_EQ(answer(request),
              reply_frame(0x86DD,
                          ipv6(v6_us, v6_them, 58, icmpv6(v6_us, v6_them, echo(129, "ping six")))));
    const Buffer to_all = ethernet(
        0x86DD,
        ipv6(v6_them, address("ff02::1"), 58, icmpv6(v6_them, address("ff02::1"), echo(128, "x"))));
    EXPECT_TRUE(answer(to_all).empty());
}

Buffer solicitation(const IpAddress& target, bool with_source_link) {
    Buffer out{std::byte{135}, std::byte{0}};
    out.resize(8);
    put(out, target.view());
    if (with_source_link) {
        put8(out, 1);
        put8(out, 1);
        put(out, their_mac.bytes);
    }
    return out;
}

Buffer advertisement(const IpAddress& target, unsigned flags) {
    Buffer out{std::byte{136}, std::byte{0}};
    out.resize(8);
    out[4] = static_cast<std::byte>(flags);
    put(out, target.view());
    put8(out, 2);
    put8(out, 1);
    put(out, our_mac.bytes);
    return out;
}

TEST_F(Responder, AnswersNeighborSolicitationByteForByte) {
    for (const std::vector<unsigned>& vlans : {std::vector<unsigned>{}, {100}}) {
        const Buffer request =
            ethernet(0x86DD,
                     ipv6(v6_them, solicited_node, 58,
                          icmpv6(v6_them, solicited_node, solicitation(v6_us, true)), 255),
                     vlans, solicited_mac);
        EXPECT_EQ(answer(request),
                  reply_frame(0x86DD,
                              ipv6(v6_us, v6_them, 58,
                                   icmpv6(v6_us, v6_them, advertisement(v6_us, 0x60)), 255),
                              vlans));
    }
}

TEST_F(Responder, AnswersUnicastSolicitation) {
    EXPECT_FALSE(
        answer(ethernet(0x86DD, ipv6(v6_them, v6_us, 58,
                                     icmpv6(v6_them, v6_us, solicitation(v6_us, false)), 255)))
            .empty());
}

TEST_F(Responder, TellsAllNodesWhoProbesForItsAddress) {
    const IpAddress nobody = address("::");
    const IpAddress all = address("ff02::1");
    const MacAddress all_mac{
        {std::byte{0x33}, std::byte{0x33}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{1}}};
    const auto probe = [&](bool with_link) {
        return ethernet(0x86DD,
                        ipv6(nobody, solicited_node, 58,
                             icmpv6(nobody, solicited_node, solicitation(v6_us, with_link)), 255),
                        {}, solicited_mac);
    };
    EXPECT_EQ(answer(probe(false)),
              reply_frame(0x86DD,
                          ipv6(v6_us, all, 58, icmpv6(v6_us, all, advertisement(v6_us, 0x20)), 255),
                          {}, all_mac));
    EXPECT_TRUE(answer(probe(true)).empty());
}

TEST_F(Responder, LeavesForeignOrForwardedSolicitationsAlone) {
    const auto asked = [&](const IpAddress& to, const IpAddress& target, unsigned hop_limit) {
        return answer(ethernet(
            0x86DD,
            ipv6(v6_them, to, 58, icmpv6(v6_them, to, solicitation(target, true)), hop_limit)));
    };
    EXPECT_FALSE(asked(solicited_node, v6_us, 255).empty());
    EXPECT_TRUE(asked(solicited_node, v6_us, 254).empty());
    EXPECT_TRUE(asked(solicited_node, address("2001:db8::2"), 255).empty());
    EXPECT_TRUE(asked(address("ff02::1:ff00:2"), v6_us, 255).empty());
}

TEST_F(Responder, SaysNothingWithoutAnAddress) {
    addresses.clear();
    EXPECT_TRUE(
        answer(ethernet(0x0806, arp(1, their_mac, v4_them, {}, v4_us), {}, everybody)).empty());
    EXPECT_TRUE(answer(ethernet(0x0800, ipv4(v4_them, v4_us, 1, echo_v4(8, "x")))).empty());
}

TEST_F(Responder, StaysWithinFrameAndBufferAtEveryLength) {
    const std::vector<Buffer> requests{
        ethernet(0x0806, arp(1, their_mac, v4_them, {}, v4_us), {1, 2}, everybody),
        ethernet(0x0800, ipv4(v4_them, v4_us, 1, echo_v4(8, "some data"))),
        ethernet(0x86DD, ipv6(v6_them, v6_us, 58, icmpv6(v6_them, v6_us, echo(128, "some data")))),
        ethernet(0x86DD, ipv6(v6_them, solicited_node, 58,
                              icmpv6(v6_them, solicited_node, solicitation(v6_us, true)), 255))};
    for (const Buffer& whole : requests) {
        const std::size_t size = answer(whole).size();
        ASSERT_GT(size, 0U);
        EXPECT_LE(size, std::max<std::size_t>(whole.size(), 94));
        for (std::size_t length = 0; length < whole.size(); ++length) {
            const auto copy = std::make_unique<std::byte[]>(length);
            std::copy_n(whole.begin(), length, copy.get());
            EXPECT_TRUE(answer(Bytes(copy.get(), length)).empty()) << length;
        }
        for (std::size_t room = 0; room < size; ++room) {
            const auto out = std::make_unique<std::byte[]>(room);
            EXPECT_EQ(respond(whole, {our_mac, addresses}, {out.get(), room}), 0U) << room;
        }
    }
}

TEST(PortIdentity, AcceptsItsAddressesOrEverything) {
    const std::vector<IpPrefix> own{parse_prefix("192.0.2.1/24").value()};
    EXPECT_TRUE((PortIdentity{our_mac, own}.accepts(address("192.0.2.1"))));
    EXPECT_FALSE((PortIdentity{our_mac, own}.accepts(address("192.0.2.2"))));
    EXPECT_TRUE((PortIdentity{our_mac, {}}.accepts(address("2001:db8::99"))));
}

}  // namespace
}  // namespace penstock
