#include "dataplane/wire/packet.h"

#include <memory>

#include <gtest/gtest.h>

#include "tests/unit/dataplane/wire/packet_builder.h"

namespace penstock {
namespace {

using namespace test;

const IpAddress v4_from = address("192.0.2.7");
const IpAddress v4_to = address("192.0.2.1");
const IpAddress v6_from = address("2001:db8::7");
const IpAddress v6_to = address("2001:db8::1");

DropReason verdict(Bytes frame, std::uint8_t flags = 0) {
    return decode_frame(frame, flags).verdict;
}

TEST(PacketDecode, TakesUdpOverIpv4) {
    const Buffer frame = udp_frame_v4("hello");
    const Decoded d = decode_frame(frame, 0);
    ASSERT_EQ(d.verdict, DropReason::none);
    EXPECT_EQ(as_text(d.payload), "hello");
    EXPECT_EQ(d.source, v4_from);
    EXPECT_EQ(d.destination, v4_to);
    EXPECT_EQ(d.source_port, 40000);
    EXPECT_EQ(d.destination_port, 5514);
    EXPECT_EQ(d.source_mac, their_mac);
    EXPECT_EQ(d.destination_mac, our_mac);
}

TEST(PacketDecode, TakesUdpOverIpv6) {
    const Buffer frame = udp_frame_v6("hello over six");
    const Decoded d = decode_frame(frame, 0);
    ASSERT_EQ(d.verdict, DropReason::none);
    EXPECT_EQ(as_text(d.payload), "hello over six");
    EXPECT_EQ(d.source, v6_from);
    EXPECT_EQ(d.destination, v6_to);
}

TEST(PacketDecode, TakesEveryPayloadLength) {
    std::string payload;
    for (int i = 0; i < 300; ++i) {
        EXPECT_EQ(as_text(decode_frame(udp_frame_v4(payload), 0).payload).size(), payload.size());
        EXPECT_EQ(verdict(udp_frame_v4(payload)), DropReason::none) << i;
        EXPECT_EQ(verdict(udp_frame_v6(payload)), DropReason::none) << i;
        payload += static_cast<char>('a' + i % 26);
    }
}

TEST(PacketDecode, ToleratesOneAndTwoVlanTagsButNotThree) {
    EXPECT_EQ(as_text(decode_frame(udp_frame_v4("x", {100}), 0).payload), "x");
    EXPECT_EQ(as_text(decode_frame(udp_frame_v6("x", {100, 200}), 0).payload), "x");
    EXPECT_EQ(verdict(udp_frame_v4("x", {1, 2, 3})), DropReason::not_ip);
}

TEST(PacketDecode, IgnoresPaddingOfShortFrames) {
    Buffer frame = udp_frame_v4("hi");
    frame.resize(60, std::byte{0xEE});
    EXPECT_EQ(as_text(decode_frame(frame, 0).payload), "hi");
}

TEST(PacketDecode, SkipsIpv4Options) {
    const Buffer frame =
        ethernet(0x0800, ipv4(v4_from, v4_to, 17, udp(v4_from, v4_to, 1, 2, "opt"), 0, 40));
    EXPECT_EQ(as_text(decode_frame(frame, 0).payload), "opt");
}

TEST(PacketDecode, CountsEveryTruncationWithAReason) {
    for (const Buffer& whole :
         {udp_frame_v4("0123456789"), udp_frame_v6("0123456789"), udp_frame_v4("0123456789", {7}),
          udp_frame_v6("0123456789", {7, 8})}) {
        ASSERT_EQ(verdict(whole), DropReason::none);
        for (std::size_t length = 0; length < whole.size(); ++length) {
            // A copy of exactly that size, so that a read beyond it is seen by the sanitizer.
            const auto copy = std::make_unique<std::byte[]>(length);
            std::copy_n(whole.begin(), length, copy.get());
            EXPECT_EQ(verdict(Bytes(copy.get(), length)), DropReason::truncated) << length;
        }
    }
}

TEST(PacketDecode, SeesEveryFlippedBitOfIpHeaderAndDatagram) {
    const Buffer whole = udp_frame_v4("payload!");
    for (std::size_t bit = 14 * 8; bit < whole.size() * 8; ++bit) {
        Buffer damaged = whole;
        damaged[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        EXPECT_NE(verdict(damaged), DropReason::none) << bit;
    }
}

TEST(PacketDecode, NamesWrongChecksums) {
    Buffer ip = udp_frame_v4("payload!");
    ip[22] ^= std::byte{1};  // TTL
    EXPECT_EQ(verdict(ip), DropReason::bad_ip_checksum);
    EXPECT_EQ(verdict(ip, packet_ip_checksum_good), DropReason::none);
    Buffer data = udp_frame_v6("payload!");
    data.back() ^= std::byte{1};
    EXPECT_EQ(verdict(data), DropReason::bad_udp_checksum);
    EXPECT_EQ(verdict(data, packet_l4_checksum_good), DropReason::none);
}

TEST(PacketDecode, TakesMissingChecksumOverIpv4Only) {
    Buffer four = udp_frame_v4("x");
    set16(four, 14 + 20 + 6, 0);
    EXPECT_EQ(verdict(four), DropReason::none);
    Buffer six = udp_frame_v6("x");
    set16(six, 14 + 40 + 6, 0);
    EXPECT_EQ(verdict(six), DropReason::bad_udp_checksum);
}

TEST(PacketDecode, TakesChecksumLeftToHardwareOnlyOnSoftwareLinks) {
    Buffer frame = udp_frame_v4("locally made");
    set16(frame, 14 + 20 + 6, pseudo_sum(v4_from, v4_to, 17, 8 + 12));
    EXPECT_EQ(verdict(frame), DropReason::bad_udp_checksum);
    EXPECT_EQ(verdict(frame, packet_partial_checksum_ok), DropReason::none);
    frame[14 + 20 + 6] ^= std::byte{1};
    EXPECT_EQ(verdict(frame, packet_partial_checksum_ok), DropReason::bad_udp_checksum);
}

TEST(PacketDecode, CountsFragments) {
    const Buffer datagram = udp(v4_from, v4_to, 1, 2, "fragmented");
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 17, datagram, 0x2000))),
              DropReason::fragment);
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 17, datagram, 0x0010))),
              DropReason::fragment);
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 17, datagram, 0x4000))),
              DropReason::none);
    Buffer extension{std::byte{17}, std::byte{0}, std::byte{0}, std::byte{1}};
    extension.resize(8);
    put(extension, udp(v6_from, v6_to, 1, 2, "fragmented"));
    EXPECT_EQ(verdict(ethernet(0x86DD, ipv6(v6_from, v6_to, 44, extension))), DropReason::fragment);
}

Buffer extension_chain(const std::vector<unsigned>& kinds, Bytes transport) {
    Buffer out;
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        put8(out, i + 1 < kinds.size() ? kinds[i + 1] : 17);
        put8(out, 1);  // sixteen bytes
        out.resize(out.size() + 14);
    }
    put(out, transport);
    return out;
}

TEST(PacketDecode, WalksIpv6ExtensionHeadersUpToTheLimit) {
    const Buffer datagram = udp(v6_from, v6_to, 1, 2, "deep");
    const Buffer three = extension_chain({0, 43, 60}, datagram);
    EXPECT_EQ(as_text(decode_frame(ethernet(0x86DD, ipv6(v6_from, v6_to, 0, three)), 0).payload),
              "deep");
    const Buffer most =
        extension_chain(std::vector<unsigned>(ipv6_extension_headers_max, 60), datagram);
    EXPECT_EQ(verdict(ethernet(0x86DD, ipv6(v6_from, v6_to, 60, most))), DropReason::none);
    const Buffer many =
        extension_chain(std::vector<unsigned>(ipv6_extension_headers_max + 1, 60), datagram);
    EXPECT_EQ(verdict(ethernet(0x86DD, ipv6(v6_from, v6_to, 60, many))), DropReason::bad_ip_header);
}

TEST(PacketDecode, LeavesSourceRoutedPacketsToOthers) {
    Buffer chain = extension_chain({43}, udp(v6_from, v6_to, 1, 2, "on its way"));
    chain[3] = std::byte{1};
    EXPECT_EQ(verdict(ethernet(0x86DD, ipv6(v6_from, v6_to, 43, chain))), DropReason::not_ours);
}

TEST(PacketDecode, NamesOtherProtocols) {
    const Buffer content(20);
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 6, content))), DropReason::not_udp);
    EXPECT_EQ(verdict(ethernet(0x86DD, ipv6(v6_from, v6_to, 59, content))), DropReason::not_udp);
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 2, content))),
              DropReason::link_control);
    EXPECT_EQ(verdict(ethernet(0x88CC, content)), DropReason::link_control);
    EXPECT_EQ(verdict(ethernet(0x0026, content)), DropReason::link_control);
    EXPECT_EQ(verdict(ethernet(0x8863, content)), DropReason::not_ip);
    for (const Buffer& frame :
         {ethernet(0x0806, content), ethernet(0x0800, ipv4(v4_from, v4_to, 1, content)),
          ethernet(0x86DD, ipv6(v6_from, v6_to, 58, content))}) {
        EXPECT_EQ(verdict(frame), DropReason::link_control);
        EXPECT_TRUE(decode_frame(frame, 0).maybe_answerable);
    }
}

TEST(PacketDecode, RefusesHeadersThatContradictThemselves) {
    Buffer version = udp_frame_v4("x");
    version[14] = std::byte{0x65};
    EXPECT_EQ(verdict(version), DropReason::bad_ip_header);
    Buffer short_header = udp_frame_v4("x");
    short_header[14] = std::byte{0x44};
    EXPECT_EQ(verdict(short_header), DropReason::bad_ip_header);
    Buffer datagram = udp(v4_from, v4_to, 1, 2, "x");
    set16(datagram, 4, 7);
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 17, datagram))),
              DropReason::bad_udp_header);
    set16(datagram, 4, 10);
    EXPECT_EQ(verdict(ethernet(0x0800, ipv4(v4_from, v4_to, 17, datagram))), DropReason::truncated);
}

TEST(PacketDecode, PassesPayloadsOfKernelSocketsThrough) {
    Buffer payload{std::byte{'a'}, std::byte{'b'}};
    Packet packet;
    packet.data = payload.data();
    packet.length = 2;
    packet.flags = packet_is_payload;
    packet.source = v4_from;
    packet.source_port = 9;
    packet.destination_port = 10;
    std::array<Decoded, 1> out;
    decode_burst({&packet, 1}, out);
    EXPECT_EQ(out[0].verdict, DropReason::none);
    EXPECT_EQ(as_text(out[0].payload), "ab");
    EXPECT_EQ(out[0].source, v4_from);
    EXPECT_EQ(out[0].destination_port, 10);
}

TEST(DropReasons, HaveDistinctLabelsAndDescriptions) {
    for (std::size_t i = 0; i < drop_reason_count; ++i) {
        const auto reason = static_cast<DropReason>(i);
        EXPECT_GT(std::string_view(describe(reason)).size(), 4U);
        for (std::size_t j = 0; j < i; ++j) {
            EXPECT_STRNE(label(reason), label(static_cast<DropReason>(j)));
        }
    }
    EXPECT_FALSE(loses_data(DropReason::link_control));
    EXPECT_TRUE(loses_data(DropReason::fragment));
    EXPECT_EQ(drop_reason(AppendVerdict::accepted), DropReason::none);
    EXPECT_EQ(drop_reason(AppendVerdict::disk_full), DropReason::disk_full);
}

}  // namespace
}  // namespace penstock
