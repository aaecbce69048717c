// Decoding of what a port delivers: Ethernet, VLAN, IPv4, IPv6, UDP down to the payload.
//
// Runs on: any thread; pure functions over the bytes given.
// Allocates: nothing. Guarantees: never reads outside the packet; every packet gets exactly one
// verdict (promise 5).
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/drop.h"
#include "dataplane/wire/address.h"
#include "storage/base/bytes.h"

namespace penstock {

// What the back end already knows about a packet, as bits of Packet::flags.
enum PacketFlag : std::uint8_t {
    packet_ip_checksum_good = 1,  // hardware verified the IPv4 header checksum
    packet_l4_checksum_good = 2,  // hardware verified the UDP checksum
    // `data` is a UDP payload and the addresses and ports below are filled: kernel sockets.
    packet_is_payload = 4,
    // The link is a software one whose senders may leave the UDP checksum to hardware that does not
    // exist (veth, tap): then the field holds the bare pseudo-header sum, and the bytes never left
    // this machine's memory.
    packet_partial_checksum_ok = 8,
};

// A view of one received packet. The bytes belong to the queue until release().
struct Packet {
    std::byte* data = nullptr;
    std::uint32_t length = 0;
    std::uint8_t flags = 0;
    void* owner = nullptr;  // the back end's
    // Only with packet_is_payload.
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    IpAddress source;
    IpAddress destination;

    [[nodiscard]] Bytes bytes() const noexcept { return {data, length}; }
};

struct Decoded {
    // `none`: a whole and correct UDP datagram. Anything else: why it is not one.
    DropReason verdict = DropReason::none;
    // With a verdict other than `none`: ARP or ICMP, which respond() may answer.
    bool maybe_answerable = false;
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    MacAddress source_mac;
    MacAddress destination_mac;
    IpAddress source;
    IpAddress destination;
    Bytes payload;  // within the packet
};

// Largest number of IPv6 extension headers walked; more is bad_ip_header.
inline constexpr unsigned ipv6_extension_headers_max = 8;

// Decodes one Ethernet frame; `flags` as in Packet.
[[nodiscard]] Decoded decode_frame(Bytes frame, std::uint8_t flags) noexcept;

// Decodes a packet of any back end.
[[nodiscard]] Decoded decode(const Packet& packet) noexcept;

// The same over a burst: packets[i] → out[i]; out must be as long.
void decode_burst(std::span<const Packet> packets, std::span<Decoded> out) noexcept;

}  // namespace penstock
