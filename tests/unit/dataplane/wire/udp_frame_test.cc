#include "dataplane/wire/udp_frame.h"

#include <string>

#include <gtest/gtest.h>

#include "dataplane/wire/packet.h"
#include "tests/unit/dataplane/wire/packet_builder.h"

namespace penstock {
namespace {

UdpAddresses addresses(std::string_view from, std::string_view to) {
    return {test::our_mac, test::their_mac, test::address(from), test::address(to), 4600, 40000};
}

TEST(UdpFrame, IsDecodedToWhatWasWritten) {
    for (const auto& [from, to] :
         {std::pair{"192.0.2.1", "192.0.2.7"}, {"2001:db8::1", "2001:db8::7"}}) {
        for (const std::size_t size : {0U, 1U, 2U, 17U, 18U, 19U, 100U, 1471U, 8952U}) {
            std::string payload(size, 'p');
            for (std::size_t i = 0; i < size; ++i) {
                payload[i] = static_cast<char>(i * 7);
            }
            std::vector<std::byte> frame(9100);
            const std::size_t written =
                write_udp_frame(addresses(from, to), as_bytes(payload), frame);
            ASSERT_GE(written, std::max<std::size_t>(60, size + 42)) << size;
            const Decoded decoded = decode_frame(Bytes(frame).first(written), 0);
            ASSERT_EQ(decoded.verdict, DropReason::none) << label(decoded.verdict) << " " << size;
            EXPECT_EQ(as_text(decoded.payload), payload);
            EXPECT_EQ(decoded.source, test::address(from));
            EXPECT_EQ(decoded.destination, test::address(to));
            EXPECT_EQ(decoded.source_port, 4600);
            EXPECT_EQ(decoded.destination_port, 40000);
            EXPECT_EQ(decoded.destination_mac, test::their_mac);
            EXPECT_EQ(decoded.source_mac, test::our_mac);
        }
    }
}

TEST(UdpFrame, WhatDoesNotFitIsNotWritten) {
    std::vector<std::byte> frame(60);
    EXPECT_EQ(write_udp_frame(addresses("192.0.2.1", "192.0.2.7"), as_bytes("12345678901234567890"),
                              frame),
              0U);
    EXPECT_EQ(write_udp_frame(addresses("192.0.2.1", "2001:db8::7"), {}, frame), 0U);
    EXPECT_EQ(write_udp_frame(UdpAddresses{}, {}, frame), 0U);
    EXPECT_EQ(write_udp_frame(addresses("192.0.2.1", "192.0.2.7"), {}, frame), 60U);
}

}  // namespace
}  // namespace penstock
