#include "dataplane/wire/udp_frame.h"

#include <algorithm>
#include <cstring>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/headers.h"

namespace penstock {
namespace {

using namespace wire;

constexpr std::uint8_t hops = 64;

void write_ipv4(const UdpAddresses& addresses, std::size_t udp_size, std::byte* to) noexcept {
    std::memset(to, 0, ipv4_bytes_min);
    to[0] = std::byte{0x45};
    store_u16_be(to + 2, static_cast<std::uint16_t>(ipv4_bytes_min + udp_size));
    store_u16_be(to + 6, 0x4000);  // not to be fragmented
    to[8] = std::byte{hops};
    to[9] = std::byte{protocol_udp};
    std::ranges::copy(addresses.from.view(), to + 12);
    std::ranges::copy(addresses.to.view(), to + 16);
    const auto sum =
        static_cast<std::uint16_t>(~checksum_fold(checksum_add(0, Bytes(to, ipv4_bytes_min))));
    store(to + 10, sum);
}

void write_ipv6(const UdpAddresses& addresses, std::size_t udp_size, std::byte* to) noexcept {
    std::memset(to, 0, 8);
    to[0] = std::byte{0x60};
    store_u16_be(to + 4, static_cast<std::uint16_t>(udp_size));
    to[6] = std::byte{protocol_udp};
    to[7] = std::byte{hops};
    std::ranges::copy(addresses.from.view(), to + 8);
    std::ranges::copy(addresses.to.view(), to + 24);
}

}  // namespace

std::size_t write_udp_frame(const UdpAddresses& addresses, Bytes payload,
                            MutableBytes out) noexcept {
    const bool v4 = addresses.to.family == IpFamily::v4;
    if (addresses.to.family == IpFamily::none || addresses.from.family != addresses.to.family) {
        return 0;
    }
    const std::size_t ip_size = v4 ? ipv4_bytes_min : ipv6_bytes;
    const std::size_t udp_size = udp_bytes + payload.size();
    const std::size_t size = ethernet_bytes + ip_size + udp_size;
    if (ip_size + udp_size > UINT16_MAX || std::max(size, ethernet_frame_min) > out.size()) {
        return 0;
    }
    std::byte* at = std::ranges::copy(addresses.to_mac.bytes, out.data()).out;
    at = std::ranges::copy(addresses.from_mac.bytes, at).out;
    store_u16_be(at, v4 ? ethertype_ipv4 : ethertype_ipv6);
    at += 2;
    (v4 ? write_ipv4 : write_ipv6)(addresses, udp_size, at);
    at += ip_size;
    store_u16_be(at, addresses.from_port);
    store_u16_be(at + 2, addresses.to_port);
    store_u16_be(at + 4, static_cast<std::uint16_t>(udp_size));
    store_u16_be(at + 6, 0);
    if (!payload.empty()) {
        std::memcpy(at + udp_bytes, payload.data(), payload.size());
    }
    const std::uint64_t sum = checksum_add(
        pseudo_header_sum(addresses.from.view(), addresses.to.view(), protocol_udp, udp_size),
        Bytes(at, udp_size));
    const auto checksum = static_cast<std::uint16_t>(~checksum_fold(sum));
    // 0 would say that there is none.
    store(at + 6, checksum == 0 ? std::uint16_t{0xFFFF} : checksum);
    if (size < ethernet_frame_min) {
        std::memset(out.data() + size, 0, ethernet_frame_min - size);
    }
    return std::max(size, ethernet_frame_min);
}

}  // namespace penstock
