#include "control/node/pcapng.h"

#include <algorithm>
#include <array>

#include "dataplane/wire/checksum.h"
#include "storage/base/bytes.h"

namespace penstock {

namespace {

enum BlockType : std::uint32_t {
    section_header = 0x0a0d0d0a,
    interface_description = 1,
    enhanced_packet = 6,
};
enum LinkType : std::uint16_t { link_ethernet = 1, link_raw_ip = 101 };
enum OptionCode : std::uint16_t {
    option_end = 0,
    option_comment = 1,
    option_interface_name = 2,
    option_application = 4,
    option_time_resolution = 9,
};

constexpr std::size_t ipv4_header_bytes = 20;
constexpr std::size_t ipv6_header_bytes = 40;
constexpr std::size_t udp_header_bytes = 8;
constexpr std::byte udp_protocol{17};
constexpr std::byte time_to_live{64};

template <typename T>
void put(std::string& out, T value) {
    std::array<char, sizeof(T)> bytes;
    std::memcpy(bytes.data(), &value, sizeof value);
    out.append(bytes.data(), bytes.size());
}

void pad(std::string& out, std::size_t length) {
    out.append((4 - length % 4) % 4, '\0');
}

void put_option(std::string& out, OptionCode code, std::string_view text) {
    put(out, static_cast<std::uint16_t>(code));
    put(out, static_cast<std::uint16_t>(text.size()));
    out.append(text);
    pad(out, text.size());
}

// A block's length stands at both of its ends.
template <typename Body>
void put_block(std::string& out, BlockType type, const Body& body) {
    const std::size_t begin = out.size();
    put(out, static_cast<std::uint32_t>(type));
    put(out, std::uint32_t{0});
    body();
    const auto length = static_cast<std::uint32_t>(out.size() - begin + 4);
    put(out, length);
    std::memcpy(out.data() + begin + 4, &length, sizeof length);
}

void put_big_endian(std::byte* at, std::uint16_t value) noexcept {
    at[0] = static_cast<std::byte>(value >> 8);
    at[1] = static_cast<std::byte>(value);
}

// The headers of a datagram as it was sent, hop limit and identification apart.
std::size_t make_headers(const CapturedPacket& packet, Bytes payload,
                         std::array<std::byte, ipv6_header_bytes + udp_header_bytes>& out) {
    out.fill(std::byte{0});
    const bool v4 = packet.source.family == IpFamily::v4;
    const std::size_t ip_bytes = v4 ? ipv4_header_bytes : ipv6_header_bytes;
    const auto udp_length = static_cast<std::uint16_t>(udp_header_bytes + packet.length);
    std::byte* udp = out.data() + ip_bytes;
    std::byte* addresses = out.data() + (v4 ? 12 : 8);
    const std::size_t address_bytes = v4 ? 4 : 16;
    std::copy_n(packet.source.bytes.data(), address_bytes, addresses);
    std::copy_n(packet.destination.bytes.data(), address_bytes, addresses + address_bytes);
    put_big_endian(udp, packet.source_port);
    put_big_endian(udp + 2, packet.destination_port);
    put_big_endian(udp + 4, udp_length);
    if (v4) {
        out[0] = std::byte{0x45};
        put_big_endian(out.data() + 2, static_cast<std::uint16_t>(ip_bytes + udp_length));
        out[8] = time_to_live;
        out[9] = udp_protocol;
        store(out.data() + 10, static_cast<std::uint16_t>(~checksum_fold(
                                   checksum_add(0, {out.data(), ipv4_header_bytes}))));
    } else {
        out[0] = std::byte{0x60};
        put_big_endian(out.data() + 4, udp_length);
        out[6] = udp_protocol;
        out[7] = time_to_live;
    }
    if (payload.size() == packet.length) {
        std::array<std::byte, 4> pseudo{};
        pseudo[1] = udp_protocol;
        put_big_endian(pseudo.data() + 2, udp_length);
        std::uint64_t sum = checksum_add(0, {addresses, 2 * address_bytes});
        sum = checksum_add(sum, pseudo);
        sum = checksum_add(sum, {udp, udp_header_bytes});
        const auto checksum =
            static_cast<std::uint16_t>(~checksum_fold(checksum_add(sum, payload)));
        store(udp + 6, checksum == 0 ? std::uint16_t{0xffff} : checksum);
    }
    return ip_bytes + udp_header_bytes;
}

}  // namespace

void append_pcapng_section(std::string& out, std::string_view application) {
    put_block(out, section_header, [&] {
        put(out, std::uint32_t{0x1a2b3c4d});  // byte order
        put(out, std::uint16_t{1});           // version 1.0
        put(out, std::uint16_t{0});
        put(out, std::int64_t{-1});  // length of the section: not known
        put_option(out, option_application, application);
        put_option(out, option_end, {});
    });
}

void append_pcapng_interface(std::string& out, std::string_view name, bool raw) {
    put_block(out, interface_description, [&] {
        put(out, static_cast<std::uint16_t>(raw ? link_raw_ip : link_ethernet));
        put(out, std::uint16_t{0});
        put(out, std::uint32_t{0});  // no limit of a packet's length
        put_option(out, option_interface_name, name);
        put_option(out, option_time_resolution, "\x09");  // 10^-9 s
        put_option(out, option_end, {});
    });
}

void append_pcapng_packet(std::string& out, const CapturedPacket& packet, Bytes bytes) {
    std::array<std::byte, ipv6_header_bytes + udp_header_bytes> headers;
    const std::size_t made = packet.is_payload ? make_headers(packet, bytes, headers) : 0;
    put_block(out, enhanced_packet, [&] {
        const auto time = static_cast<std::uint64_t>(packet.wall_ns);
        put(out, std::uint32_t{packet.port});
        put(out, static_cast<std::uint32_t>(time >> 32));
        put(out, static_cast<std::uint32_t>(time));
        put(out, static_cast<std::uint32_t>(made + bytes.size()));
        put(out, static_cast<std::uint32_t>(made + packet.length));
        out.append(reinterpret_cast<const char*>(headers.data()), made);
        out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        pad(out, made + bytes.size());
        put_option(out, option_comment,
                   packet.fate == DropReason::none ? std::string("taken")
                                                   : std::string("dropped: ") + label(packet.fate));
        put_option(out, option_end, {});
    });
}

}  // namespace penstock
