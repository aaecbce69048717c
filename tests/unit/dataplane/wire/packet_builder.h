// Builds frames byte by byte for tests, with a checksum written apart from the code under test.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "dataplane/wire/address.h"
#include "storage/base/bytes.h"

namespace penstock::test {

using Buffer = std::vector<std::byte>;

inline void put8(Buffer& out, unsigned value) {
    out.push_back(static_cast<std::byte>(value));
}
inline void put16(Buffer& out, unsigned value) {
    put8(out, value >> 8 & 0xFF);
    put8(out, value & 0xFF);
}
inline void put(Buffer& out, Bytes bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}

// RFC 1071 by the book: 16-bit big-endian words, carries added back one at a time.
inline unsigned plain_sum(Bytes bytes, unsigned sum = 0) {
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        const unsigned high = std::to_integer<unsigned>(bytes[i]);
        const unsigned low = i + 1 < bytes.size() ? std::to_integer<unsigned>(bytes[i + 1]) : 0;
        sum += high << 8 | low;
        if (sum > 0xFFFF) {
            sum -= 0xFFFF;
        }
    }
    return sum;
}
inline unsigned plain_checksum(Bytes bytes, unsigned sum = 0) {
    return ~plain_sum(bytes, sum) & 0xFFFF;
}

inline void set16(Buffer& out, std::size_t at, unsigned value) {
    out[at] = static_cast<std::byte>(value >> 8);
    out[at + 1] = static_cast<std::byte>(value & 0xFF);
}

inline IpAddress address(std::string_view text) {
    return parse_address(text).value();
}

inline constexpr MacAddress our_mac{
    {std::byte{2}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{1}}};
inline constexpr MacAddress their_mac{
    {std::byte{2}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{2}}};

inline Buffer ethernet(unsigned type, Bytes content, std::vector<unsigned> vlans = {},
                       const MacAddress& to = our_mac) {
    Buffer out;
    put(out, to.bytes);
    put(out, their_mac.bytes);
    for (std::size_t i = 0; i < vlans.size(); ++i) {
        put16(out, vlans.size() == 2 && i == 0 ? 0x88A8 : 0x8100);
        put16(out, vlans[i]);
    }
    put16(out, type);
    put(out, content);
    return out;
}

inline unsigned pseudo_sum(const IpAddress& from, const IpAddress& to, unsigned protocol,
                           std::size_t length) {
    Buffer pseudo;
    put(pseudo, from.view());
    put(pseudo, to.view());
    put16(pseudo, protocol);
    put16(pseudo, static_cast<unsigned>(length));
    return plain_sum(pseudo);
}

inline Buffer udp(const IpAddress& from, const IpAddress& to, unsigned from_port, unsigned to_port,
                  std::string_view payload) {
    Buffer out;
    put16(out, from_port);
    put16(out, to_port);
    put16(out, static_cast<unsigned>(8 + payload.size()));
    put16(out, 0);
    put(out, as_bytes(payload));
    const unsigned checksum = plain_checksum(out, pseudo_sum(from, to, 17, out.size()));
    set16(out, 6, checksum == 0 ? 0xFFFF : checksum);
    return out;
}

inline Buffer ipv4(const IpAddress& from, const IpAddress& to, unsigned protocol, Bytes content,
                   unsigned fragment_field = 0, std::size_t option_bytes = 0) {
    Buffer out;
    put8(out, static_cast<unsigned>(0x45 + option_bytes / 4));
    put8(out, 0);
    put16(out, static_cast<unsigned>(20 + option_bytes + content.size()));
    put16(out, 0x1234);
    put16(out, fragment_field);
    put8(out, 64);
    put8(out, protocol);
    put16(out, 0);
    put(out, from.view());
    put(out, to.view());
    out.insert(out.end(), option_bytes, std::byte{1});  // no-operation options
    set16(out, 10, plain_checksum(out));
    put(out, content);
    return out;
}

inline Buffer ipv6(const IpAddress& from, const IpAddress& to, unsigned next, Bytes content,
                   unsigned hop_limit = 64) {
    Buffer out;
    put16(out, 0x6000);
    put16(out, 0);
    put16(out, static_cast<unsigned>(content.size()));
    put8(out, next);
    put8(out, hop_limit);
    put(out, from.view());
    put(out, to.view());
    put(out, content);
    return out;
}

inline Buffer icmpv6(const IpAddress& from, const IpAddress& to, Buffer message) {
    set16(message, 2, 0);
    set16(message, 2, plain_checksum(message, pseudo_sum(from, to, 58, message.size())));
    return message;
}

inline Buffer udp_frame_v4(std::string_view payload, std::vector<unsigned> vlans = {}) {
    const IpAddress from = address("192.0.2.7");
    const IpAddress to = address("192.0.2.1");
    return ethernet(0x0800, ipv4(from, to, 17, udp(from, to, 40000, 5514, payload)),
                    std::move(vlans));
}

inline Buffer udp_frame_v6(std::string_view payload, std::vector<unsigned> vlans = {}) {
    const IpAddress from = address("2001:db8::7");
    const IpAddress to = address("2001:db8::1");
    return ethernet(0x86DD, ipv6(from, to, 17, udp(from, to, 40000, 5514, payload)),
                    std::move(vlans));
}

}  // namespace penstock::test
