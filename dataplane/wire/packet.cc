#include "dataplane/wire/packet.h"

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/headers.h"
#include "storage/base/check.h"

namespace penstock {
namespace {

using namespace wire;

std::uint8_t u8(Bytes bytes, std::size_t at) noexcept {
    return std::to_integer<std::uint8_t>(bytes[at]);
}

// `transport` is what the IP header says belongs to the datagram.
DropReason decode_udp(Bytes transport, std::uint8_t flags, Decoded& out) noexcept {
    if (transport.size() < udp_bytes) {
        return DropReason::truncated;
    }
    const std::size_t length = load_u16_be(transport.data() + 4);
    if (length < udp_bytes) {
        return DropReason::bad_udp_header;
    }
    if (length > transport.size()) {
        return DropReason::truncated;
    }
    out.source_port = load_u16_be(transport.data());
    out.destination_port = load_u16_be(transport.data() + 2);
    const Bytes datagram = transport.first(length);
    const auto checksum = load<std::uint16_t>(transport.data() + 6);
    const bool none_sent = checksum == 0 && out.source.family == IpFamily::v4;
    if (!none_sent && (flags & packet_l4_checksum_good) == 0) {
        // Over IPv6 the checksum is not optional (RFC 8200 §8.1).
        if (checksum == 0) {
            return DropReason::bad_udp_checksum;
        }
        const std::uint64_t pseudo =
            pseudo_header_sum(out.source.view(), out.destination.view(), protocol_udp, length);
        const bool good = checksum_fold(checksum_add(pseudo, datagram)) == checksum_good;
        const bool left_to_hardware =
            (flags & packet_partial_checksum_ok) != 0 && checksum == checksum_fold(pseudo);
        if (!good && !left_to_hardware) {
            return DropReason::bad_udp_checksum;
        }
    }
    out.payload = datagram.subspan(udp_bytes);
    return DropReason::none;
}

DropReason decode_ipv4(Bytes packet, std::uint8_t flags, Decoded& out) noexcept {
    if (packet.size() < ipv4_bytes_min) {
        return DropReason::truncated;
    }
    const std::size_t header = (u8(packet, 0) & 15U) * 4U;
    const std::size_t total = load_u16_be(packet.data() + 2);
    if (u8(packet, 0) >> 4 != 4 || header < ipv4_bytes_min || total < header) {
        return DropReason::bad_ip_header;
    }
    if (total > packet.size()) {
        return DropReason::truncated;
    }
    if ((flags & packet_ip_checksum_good) == 0 &&
        checksum_fold(checksum_add(0, packet.first(header))) != checksum_good) {
        return DropReason::bad_ip_checksum;
    }
    out.source = ipv4_address(packet.data() + 12);
    out.destination = ipv4_address(packet.data() + 16);
    // More fragments, or an offset.
    if ((load_u16_be(packet.data() + 6) & 0x3FFFU) != 0) {
        return DropReason::fragment;
    }
    const std::uint8_t protocol = u8(packet, 9);
    // What follows the total length is padding of a short Ethernet frame.
    const Bytes transport = packet.subspan(header, total - header);
    switch (protocol) {
        case protocol_udp:
            return decode_udp(transport, flags, out);
        case protocol_icmp:
            out.maybe_answerable = true;
            return DropReason::link_control;
        case protocol_igmp:
            return DropReason::link_control;
        default:
            return DropReason::not_udp;
    }
}

DropReason decode_ipv6(Bytes packet, std::uint8_t flags, Decoded& out) noexcept {
    if (packet.size() < ipv6_bytes) {
        return DropReason::truncated;
    }
    const std::size_t length = load_u16_be(packet.data() + 4);
    if (u8(packet, 0) >> 4 != 6) {
        return DropReason::bad_ip_header;
    }
    if (length > packet.size() - ipv6_bytes) {
        return DropReason::truncated;
    }
    out.source = ipv6_address(packet.data() + 8);
    out.destination = ipv6_address(packet.data() + 24);
    Bytes rest = packet.subspan(ipv6_bytes, length);
    std::uint8_t next = u8(packet, 6);
    for (unsigned walked = 0;; ++walked) {
        switch (next) {
            case protocol_udp:
                return decode_udp(rest, flags, out);
            case protocol_icmpv6:
                out.maybe_answerable = true;
                return DropReason::link_control;
            case protocol_fragment:
                return DropReason::fragment;
            case protocol_hop_by_hop:
            case protocol_routing:
            case protocol_destination_options:
                break;
            default:
                return DropReason::not_udp;
        }
        if (walked == ipv6_extension_headers_max) {
            return DropReason::bad_ip_header;
        }
        if (rest.size() < 8) {
            return DropReason::truncated;
        }
        const std::size_t extension = (u8(rest, 1) + 1U) * 8U;
        if (extension > rest.size()) {
            return DropReason::truncated;
        }
        // Segments left: the packet is to travel on, and its checksum is over another address.
        if (next == protocol_routing && u8(rest, 3) != 0) {
            return DropReason::not_ours;
        }
        next = u8(rest, 0);
        rest = rest.subspan(extension);
    }
}

DropReason decode_ethernet(Bytes frame, std::uint8_t flags, Decoded& out) noexcept {
    if (frame.size() < ethernet_bytes) {
        return DropReason::truncated;
    }
    std::memcpy(out.destination_mac.bytes.data(), frame.data(), 6);
    std::memcpy(out.source_mac.bytes.data(), frame.data() + 6, 6);
    std::size_t at = ethernet_bytes;
    std::uint16_t type = load_u16_be(frame.data() + 12);
    for (unsigned tags = 0; type == ethertype_vlan || type == ethertype_qinq; ++tags) {
        if (tags == vlan_tags_max) {
            return DropReason::not_ip;
        }
        if (frame.size() < at + vlan_tag_bytes) {
            return DropReason::truncated;
        }
        type = load_u16_be(frame.data() + at + 2);
        at += vlan_tag_bytes;
    }
    switch (type) {
        case ethertype_ipv4:
            return decode_ipv4(frame.subspan(at), flags, out);
        case ethertype_ipv6:
            return decode_ipv6(frame.subspan(at), flags, out);
        case ethertype_arp:
            out.maybe_answerable = true;
            return DropReason::link_control;
        case ethertype_slow_protocols:
        case ethertype_eapol:
        case ethertype_lldp:
            return DropReason::link_control;
        default:
            break;
    }
    // 802.3 with LLC is spanning tree and its kin.
    return type < ethertype_min ? DropReason::link_control : DropReason::not_ip;
}

}  // namespace

Decoded decode_frame(Bytes frame, std::uint8_t flags) noexcept {
    Decoded out;
    out.verdict = decode_ethernet(frame, flags, out);
    return out;
}

Decoded decode(const Packet& packet) noexcept {
    if ((packet.flags & packet_is_payload) == 0) {
        return decode_frame(packet.bytes(), packet.flags);
    }
    Decoded out;
    out.source = packet.source;
    out.destination = packet.destination;
    out.source_port = packet.source_port;
    out.destination_port = packet.destination_port;
    out.payload = packet.bytes();
    return out;
}

void decode_burst(std::span<const Packet> packets, std::span<Decoded> out) noexcept {
    PENSTOCK_CHECK(out.size() >= packets.size());
    for (std::size_t i = 0; i < packets.size(); ++i) {
        // The headers of the packet after next are on their way into the cache meanwhile.
        if (i + 2 < packets.size()) {
            __builtin_prefetch(packets[i + 2].data);
        }
        out[i] = decode(packets[i]);
    }
}

}  // namespace penstock
