// Internet and Ethernet addresses as values: parse, print, compare, match a prefix.
//
// Runs on: any thread. Allocates: nothing except parse errors and std::string helpers.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "storage/base/bytes.h"
#include "storage/base/result.h"

namespace penstock {

enum class IpFamily : std::uint8_t { none = 0, v4 = 4, v6 = 6 };

struct MacAddress {
    std::array<std::byte, 6> bytes{};
    friend auto operator<=>(const MacAddress&, const MacAddress&) = default;
};

// Network byte order. An IPv4 address fills the first four bytes; the others are zero.
struct IpAddress {
    std::array<std::byte, 16> bytes{};
    IpFamily family = IpFamily::none;
    friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return family == IpFamily::v4 ? 4 : family == IpFamily::v6 ? 16 : 0;
    }
    [[nodiscard]] Bytes view() const noexcept { return Bytes(bytes).first(size_bytes()); }
};

[[nodiscard]] IpAddress ipv4_address(const void* four_bytes) noexcept;
[[nodiscard]] IpAddress ipv6_address(const void* sixteen_bytes) noexcept;

// An address and how many leading bits of it name the network.
struct IpPrefix {
    IpAddress address;
    std::uint8_t bits = 0;
    friend bool operator==(const IpPrefix&, const IpPrefix&) = default;

    // Same family and the same leading bits.
    [[nodiscard]] bool contains(const IpAddress& other) const noexcept;
};

// Longest text of an address: 39 characters of IPv6.
inline constexpr std::size_t ip_text_max = 40;

// Writes dotted IPv4 or RFC 5952 IPv6; returns the length. No terminator.
std::size_t format_address(const IpAddress& address, std::span<char, ip_text_max> out) noexcept;
[[nodiscard]] std::string to_text(const IpAddress& address);
[[nodiscard]] std::string to_text(const IpPrefix& prefix);
[[nodiscard]] std::string to_text(const MacAddress& mac);

// "192.0.2.1" or "2001:db8::1". Errc::invalid_argument otherwise.
[[nodiscard]] Result<IpAddress> parse_address(std::string_view text) noexcept;
// "192.0.2.0/24", "2001:db8::/32"; without "/bits" a single host. Host bits may be set: the address
// is kept as written (an interface address) and contains() looks at the leading bits alone.
[[nodiscard]] Result<IpPrefix> parse_prefix(std::string_view text) noexcept;

}  // namespace penstock
