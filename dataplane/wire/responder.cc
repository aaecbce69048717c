#include "dataplane/wire/responder.h"

#include <algorithm>
#include <array>

#include "dataplane/wire/checksum.h"
#include "dataplane/wire/headers.h"

namespace penstock {
namespace {

using namespace wire;

constexpr std::uint8_t reply_hop_limit = 64;
constexpr std::uint8_t neighbor_hop_limit = 255;  // RFC 4861: proves the sender is on the link

// A frame taken apart down to its network layer.
struct Layers {
    Bytes link;  // Ethernet header with its VLAN tags
    Bytes network;
    std::uint16_t type = 0;
};

std::uint8_t u8(Bytes bytes, std::size_t at) noexcept {
    return std::to_integer<std::uint8_t>(bytes[at]);
}

bool starts_with(Bytes bytes, std::size_t at, Bytes expected) noexcept {
    return std::equal(expected.begin(), expected.end(), bytes.begin() + static_cast<long>(at));
}

bool split_frame(Bytes frame, Layers& out) noexcept {
    if (frame.size() < ethernet_bytes) {
        return false;
    }
    std::size_t at = ethernet_bytes;
    out.type = load_u16_be(frame.data() + 12);
    for (unsigned tags = 0; out.type == ethertype_vlan || out.type == ethertype_qinq; ++tags) {
        if (tags == vlan_tags_max || frame.size() < at + vlan_tag_bytes) {
            return false;
        }
        out.type = load_u16_be(frame.data() + at + 2);
        at += vlan_tag_bytes;
    }
    out.link = frame.first(at);
    out.network = frame.subspan(at);
    return true;
}

// A sender we may answer: one station, neither everybody nor ourselves.
bool answerable_mac(Bytes mac, const PortIdentity& self) noexcept {
    const bool group = (u8(mac, 0) & 1U) != 0;
    const bool zero =
        std::all_of(mac.begin(), mac.end(), [](std::byte b) { return b == std::byte{0}; });
    return !group && !zero && !starts_with(mac, 0, self.mac.bytes);
}

bool is_own(const PortIdentity& self, const IpAddress& address) noexcept {
    return std::any_of(self.addresses.begin(), self.addresses.end(),
                       [&](const IpPrefix& own) { return own.address == address; });
}

bool answerable_source(const IpAddress& source, const PortIdentity& self) noexcept {
    const std::uint8_t first = u8(source.bytes, 0);
    if (is_own(self, source)) {
        return false;
    }
    if (source.family == IpFamily::v4) {
        // This network, loopback, multicast, reserved and broadcast.
        return first != 0 && first != 127 && first < 224;
    }
    constexpr IpAddress unspecified{{}, IpFamily::v6};
    IpAddress loopback = unspecified;
    loopback.bytes[15] = std::byte{1};
    return first != 0xFF && source != unspecified && source != loopback;
}

// Starts a reply: the request's link header with its VLAN tags, back to `to`.
void write_link(const Layers& request, const PortIdentity& self, Bytes to,
                MutableBytes out) noexcept {
    std::memcpy(out.data(), request.link.data(), request.link.size());
    std::memcpy(out.data(), to.data(), 6);
    std::memcpy(out.data() + 6, self.mac.bytes.data(), 6);
}

std::size_t answer_arp(const Layers& request, const PortIdentity& self, MutableBytes out) noexcept {
    const Bytes arp = request.network;
    constexpr std::array<std::byte, 8> ethernet_ipv4_request{
        std::byte{0}, std::byte{1}, std::byte{8}, std::byte{0},
        std::byte{6}, std::byte{4}, std::byte{0}, std::byte{1}};
    if (arp.size() < arp_bytes || !starts_with(arp, 0, ethernet_ipv4_request)) {
        return 0;
    }
    const IpAddress target = ipv4_address(arp.data() + 24);
    const Bytes sender_mac = arp.subspan(8, 6);
    // A sender that claims our address gets no answer: it is in conflict with us, not asking. An
    // all-zero sender address is a probe (RFC 5227) and is answered, which defends the address.
    if (!is_own(self, target) || is_own(self, ipv4_address(arp.data() + 14)) ||
        !starts_with(request.link, 6, sender_mac)) {
        return 0;
    }
    const std::size_t size = std::max(request.link.size() + arp_bytes, ethernet_frame_min);
    if (out.size() < size) {
        return 0;
    }
    std::fill_n(out.begin(), size, std::byte{0});
    write_link(request, self, sender_mac, out);
    std::byte* const reply = out.data() + request.link.size();
    std::memcpy(reply, arp.data(), 6);
    store_u16_be(reply + 6, 2);
    std::memcpy(reply + 8, self.mac.bytes.data(), 6);
    std::memcpy(reply + 14, arp.data() + 24, 4);
    std::memcpy(reply + 18, arp.data() + 8, 10);
    return size;
}

std::size_t answer_ping_v4(const Layers& request, const PortIdentity& self,
                           MutableBytes out) noexcept {
    const Bytes ip = request.network;
    if (ip.size() < ipv4_bytes_min) {
        return 0;
    }
    const std::size_t header = (u8(ip, 0) & 15U) * 4U;
    const std::size_t total = load_u16_be(ip.data() + 2);
    if (u8(ip, 0) >> 4 != 4 || header < ipv4_bytes_min || total > ip.size() ||
        total < header + icmp_bytes_min || u8(ip, 9) != protocol_icmp ||
        (load_u16_be(ip.data() + 6) & 0x3FFFU) != 0 ||
        checksum_fold(checksum_add(0, ip.first(header))) != checksum_good) {
        return 0;
    }
    const IpAddress source = ipv4_address(ip.data() + 12);
    const Bytes message = ip.subspan(header, total - header);
    if (!is_own(self, ipv4_address(ip.data() + 16)) || !answerable_source(source, self) ||
        !starts_with(request.link, 0, self.mac.bytes) || u8(message, 0) != icmp_echo_request ||
        u8(message, 1) != 0 || checksum_fold(checksum_add(0, message)) != checksum_good) {
        return 0;
    }
    const std::size_t reply_total = ipv4_bytes_min + message.size();
    const std::size_t size = std::max(request.link.size() + reply_total, ethernet_frame_min);
    if (out.size() < size) {
        return 0;
    }
    std::fill_n(out.begin(), size, std::byte{0});
    write_link(request, self, request.link.subspan(6, 6), out);
    std::byte* const reply = out.data() + request.link.size();
    reply[0] = std::byte{0x45};
    reply[1] = ip[1];
    store_u16_be(reply + 2, static_cast<std::uint16_t>(reply_total));
    store_u16_be(reply + 6, 0x4000);  // whole: no identification is needed
    reply[8] = std::byte{reply_hop_limit};
    reply[9] = std::byte{protocol_icmp};
    std::memcpy(reply + 12, ip.data() + 16, 4);
    std::memcpy(reply + 16, ip.data() + 12, 4);
    store(reply + 10, static_cast<std::uint16_t>(
                          ~checksum_fold(checksum_add(0, Bytes(reply, ipv4_bytes_min)))));
    std::byte* const echo = reply + ipv4_bytes_min;
    std::memcpy(echo, message.data(), message.size());
    echo[0] = std::byte{icmp_echo_reply};
    store(echo + 2, std::uint16_t{0});
    store(echo + 2,
          static_cast<std::uint16_t>(~checksum_fold(checksum_add(0, Bytes(echo, message.size())))));
    return size;
}

// Writes the IPv6 header at `at` and the checksum of the ICMPv6 message that stands behind it.
void finish_icmpv6(std::byte* at, const IpAddress& source, const IpAddress& destination,
                   std::size_t message_bytes, std::uint8_t hop_limit) noexcept {
    std::fill_n(at, 8, std::byte{0});
    at[0] = std::byte{0x60};
    store_u16_be(at + 4, static_cast<std::uint16_t>(message_bytes));
    at[6] = std::byte{protocol_icmpv6};
    at[7] = std::byte{hop_limit};
    std::memcpy(at + 8, source.bytes.data(), 16);
    std::memcpy(at + 24, destination.bytes.data(), 16);
    std::byte* const message = at + ipv6_bytes;
    store(message + 2, std::uint16_t{0});
    const std::uint64_t sum =
        pseudo_header_sum(source.view(), destination.view(), protocol_icmpv6, message_bytes);
    store(message + 2, static_cast<std::uint16_t>(
                           ~checksum_fold(checksum_add(sum, Bytes(message, message_bytes)))));
}

std::size_t answer_ping_v6(const Layers& request, const PortIdentity& self, Bytes message,
                           MutableBytes out) noexcept {
    const IpAddress source = ipv6_address(request.network.data() + 8);
    const IpAddress destination = ipv6_address(request.network.data() + 24);
    const std::size_t size = request.link.size() + ipv6_bytes + message.size();
    if (message.size() < icmp_bytes_min || !is_own(self, destination) ||
        !answerable_source(source, self) || !starts_with(request.link, 0, self.mac.bytes) ||
        out.size() < size) {
        return 0;
    }
    write_link(request, self, request.link.subspan(6, 6), out);
    std::byte* const reply = out.data() + request.link.size();
    std::memcpy(reply + ipv6_bytes, message.data(), message.size());
    reply[ipv6_bytes] = std::byte{icmpv6_echo_reply};
    finish_icmpv6(reply, destination, source, message.size(), reply_hop_limit);
    return size;
}

// Option lengths must not be zero, and a probe for a free address has no source link address.
bool valid_solicitation_options(Bytes options, bool probe) noexcept {
    while (!options.empty()) {
        if (options.size() < 8) {
            return false;
        }
        const std::size_t length = u8(options, 1) * 8U;
        if (length == 0 || length > options.size() || (probe && u8(options, 0) == 1)) {
            return false;
        }
        options = options.subspan(length);
    }
    return true;
}

bool is_solicited_node(const IpAddress& address, const IpAddress& target) noexcept {
    constexpr std::array<std::uint8_t, 13> prefix{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF};
    return starts_with(address.bytes, 0, std::as_bytes(std::span(prefix))) &&
           starts_with(address.bytes, 13, Bytes(target.bytes).subspan(13));
}

// RFC 4861 §7.1.1 says which solicitations count, §7.2.4 how to answer.
std::size_t answer_solicitation(const Layers& request, const PortIdentity& self, Bytes message,
                                MutableBytes out) noexcept {
    if (message.size() < neighbor_bytes || u8(request.network, 7) != neighbor_hop_limit) {
        return 0;
    }
    constexpr IpAddress unspecified{{}, IpFamily::v6};
    const IpAddress source = ipv6_address(request.network.data() + 8);
    const IpAddress destination = ipv6_address(request.network.data() + 24);
    const IpAddress target = ipv6_address(message.data() + 8);
    const bool probe = source == unspecified;
    const bool to_us = is_solicited_node(destination, target) || (!probe && destination == target);
    if (!is_own(self, target) || !to_us || (!probe && !answerable_source(source, self)) ||
        !valid_solicitation_options(message.subspan(neighbor_bytes), probe)) {
        return 0;
    }
    constexpr std::size_t answer_bytes = neighbor_bytes + 8;
    const std::size_t size = request.link.size() + ipv6_bytes + answer_bytes;
    if (out.size() < size) {
        return 0;
    }
    // Whoever probes for an address has none to be answered at: tell all nodes.
    constexpr std::array<std::uint8_t, 6> all_nodes_mac{0x33, 0x33, 0, 0, 0, 1};
    IpAddress to = source;
    if (probe) {
        to.bytes = {};
        to.bytes[0] = std::byte{0xFF};
        to.bytes[1] = std::byte{2};
        to.bytes[15] = std::byte{1};
    }
    write_link(request, self,
               probe ? std::as_bytes(std::span(all_nodes_mac)) : request.link.subspan(6, 6), out);
    std::byte* const reply = out.data() + request.link.size();
    std::byte* const advertisement = reply + ipv6_bytes;
    std::fill_n(advertisement, answer_bytes, std::byte{0});
    advertisement[0] = std::byte{icmpv6_neighbor_advertisement};
    advertisement[4] = probe ? std::byte{0x20} : std::byte{0x60};  // override, solicited
    std::memcpy(advertisement + 8, target.bytes.data(), 16);
    advertisement[24] = std::byte{2};  // target link-layer address, one unit of eight bytes
    advertisement[25] = std::byte{1};
    std::memcpy(advertisement + 26, self.mac.bytes.data(), 6);
    finish_icmpv6(reply, target, to, answer_bytes, neighbor_hop_limit);
    return size;
}

std::size_t answer_icmpv6(const Layers& request, const PortIdentity& self,
                          MutableBytes out) noexcept {
    const Bytes ip = request.network;
    if (ip.size() < ipv6_bytes + icmp_bytes_min || u8(ip, 0) >> 4 != 6 ||
        u8(ip, 6) != protocol_icmpv6) {
        return 0;
    }
    const std::size_t length = load_u16_be(ip.data() + 4);
    if (length < icmp_bytes_min || length > ip.size() - ipv6_bytes) {
        return 0;
    }
    const Bytes message = ip.subspan(ipv6_bytes, length);
    const std::uint64_t pseudo =
        pseudo_header_sum(ip.subspan(8, 16), ip.subspan(24, 16), protocol_icmpv6, length);
    if (u8(message, 1) != 0 || checksum_fold(checksum_add(pseudo, message)) != checksum_good) {
        return 0;
    }
    switch (u8(message, 0)) {
        case icmpv6_echo_request:
            return answer_ping_v6(request, self, message, out);
        case icmpv6_neighbor_solicitation:
            return answer_solicitation(request, self, message, out);
        default:
            return 0;
    }
}

}  // namespace

bool PortIdentity::accepts(const IpAddress& destination) const noexcept {
    return addresses.empty() || is_own(*this, destination);
}

std::size_t respond(Bytes frame, const PortIdentity& self, MutableBytes out) noexcept {
    Layers request;
    if (self.addresses.empty() || !split_frame(frame, request) ||
        !answerable_mac(request.link.subspan(6, 6), self)) {
        return 0;
    }
    switch (request.type) {
        case ethertype_arp:
            return answer_arp(request, self, out);
        case ethertype_ipv4:
            return answer_ping_v4(request, self, out);
        case ethertype_ipv6:
            return answer_icmpv6(request, self, out);
        default:
            return 0;
    }
}

}  // namespace penstock
