// Writing UDP datagrams: from whom to whom, and the Ethernet frame that carries one.
//
// Runs on: any thread; pure. Allocates: nothing.
#pragma once

#include <cstdint>

#include "dataplane/wire/address.h"
#include "storage/base/bytes.h"

namespace penstock {

struct UdpAddresses {
    MacAddress from_mac;
    MacAddress to_mac;
    IpAddress from;
    IpAddress to;
    std::uint16_t from_port = 0;
    std::uint16_t to_port = 0;
};

// Ethernet, IPv6 and UDP headers, the longest there are.
inline constexpr std::size_t udp_frame_headers_max = 14 + 40 + 8;

// Both checksums are right. 0 when the addresses are not of one family, or `out` is too small.
[[nodiscard]] std::size_t write_udp_frame(const UdpAddresses& addresses, Bytes payload,
                                          MutableBytes out) noexcept;

}  // namespace penstock
