#include "dataplane/wire/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace penstock {

IpAddress ipv4_address(const void* four_bytes) noexcept {
    IpAddress out;
    out.family = IpFamily::v4;
    std::memcpy(out.bytes.data(), four_bytes, 4);
    return out;
}

IpAddress ipv6_address(const void* sixteen_bytes) noexcept {
    IpAddress out;
    out.family = IpFamily::v6;
    std::memcpy(out.bytes.data(), sixteen_bytes, 16);
    return out;
}

bool IpPrefix::contains(const IpAddress& other) const noexcept {
    if (address.family != other.family || address.family == IpFamily::none) {
        return false;
    }
    const std::size_t whole = bits / 8U;
    if (std::memcmp(address.bytes.data(), other.bytes.data(), whole) != 0) {
        return false;
    }
    const unsigned rest = bits % 8U;
    if (rest == 0) {
        return true;
    }
    const auto mask = static_cast<std::byte>(0xFF00U >> rest);
    return ((address.bytes[whole] ^ other.bytes[whole]) & mask) == std::byte{0};
}

namespace {

std::size_t format_v4(const std::byte* bytes, char* out) noexcept {
    char* at = out;
    for (int i = 0; i < 4; ++i) {
        if (i != 0) {
            *at++ = '.';
        }
        at = std::to_chars(at, at + 3, std::to_integer<unsigned>(bytes[i])).ptr;
    }
    return static_cast<std::size_t>(at - out);
}

// RFC 5952: lower case, no leading zeros, the first longest run of at least two zero groups as
// "::", and IPv4-mapped addresses with their last 32 bits dotted (section 5).
std::size_t format_v6(const std::array<std::byte, 16>& bytes,
                      std::span<char, ip_text_max> out) noexcept {
    std::array<unsigned, 8> groups{};
    for (std::size_t i = 0; i < 8; ++i) {
        groups[i] = std::to_integer<unsigned>(bytes[2 * i]) << 8 |
                    std::to_integer<unsigned>(bytes[2 * i + 1]);
    }
    const bool mapped =
        std::all_of(groups.begin(), groups.begin() + 5, [](unsigned g) { return g == 0; }) &&
        groups[5] == 0xFFFF;
    std::size_t run_start = 8;
    std::size_t run_length = 1;
    for (std::size_t i = 0; i < 8;) {
        std::size_t end = i;
        while (end < 8 && groups[end] == 0) {
            ++end;
        }
        if (end - i > run_length) {
            run_start = i;
            run_length = end - i;
        }
        i = end == i ? i + 1 : end;
    }
    char* at = out.data();
    const std::size_t groups_written = mapped ? 6 : 8;
    for (std::size_t i = 0; i < groups_written;) {
        if (i == run_start) {
            *at++ = ':';
            *at++ = ':';
            i += run_length;
            continue;
        }
        if (i != 0 && i != run_start + run_length) {
            *at++ = ':';
        }
        at = std::to_chars(at, at + 4, groups[i], 16).ptr;
        ++i;
    }
    if (mapped) {
        *at++ = ':';
        at += format_v4(bytes.data() + 12, at);
    }
    return static_cast<std::size_t>(at - out.data());
}

}  // namespace

std::size_t format_address(const IpAddress& address, std::span<char, ip_text_max> out) noexcept {
    switch (address.family) {
        case IpFamily::v4:
            return format_v4(address.bytes.data(), out.data());
        case IpFamily::v6:
            return format_v6(address.bytes, out);
        case IpFamily::none:
            break;
    }
    return 0;
}

std::string to_text(const IpAddress& address) {
    std::array<char, ip_text_max> text{};
    return {text.data(), format_address(address, text)};
}

std::string to_text(const IpPrefix& prefix) {
    return to_text(prefix.address) + "/" + std::to_string(prefix.bits);
}

std::string to_text(const MacAddress& mac) {
    constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const std::byte b : mac.bytes) {
        if (!out.empty()) {
            out += ':';
        }
        out += digits[std::to_integer<unsigned>(b) >> 4];
        out += digits[std::to_integer<unsigned>(b) & 15U];
    }
    return out;
}

Result<IpAddress> parse_address(std::string_view text) noexcept {
    // One character more than the longest text inet_pton takes, for the terminator.
    std::array<char, INET6_ADDRSTRLEN + 1> buffer{};
    if (text.empty() || text.size() >= buffer.size() || text.find('\0') != std::string_view::npos) {
        return fail(Errc::invalid_argument);
    }
    std::memcpy(buffer.data(), text.data(), text.size());
    std::array<std::byte, 16> bytes{};
    if (::inet_pton(AF_INET, buffer.data(), bytes.data()) == 1) {
        return ipv4_address(bytes.data());
    }
    if (::inet_pton(AF_INET6, buffer.data(), bytes.data()) == 1) {
        return ipv6_address(bytes.data());
    }
    return fail(Errc::invalid_argument);
}

Result<IpPrefix> parse_prefix(std::string_view text) noexcept {
    const std::size_t slash = text.find('/');
    PENSTOCK_TRY(address, parse_address(text.substr(0, slash)));
    const unsigned width = address.family == IpFamily::v4 ? 32 : 128;
    unsigned bits = width;
    if (slash != std::string_view::npos) {
        const std::string_view number = text.substr(slash + 1);
        const auto [end, error] =
            std::from_chars(number.data(), number.data() + number.size(), bits);
        if (error != std::errc{} || end != number.data() + number.size() || bits > width) {
            return fail(Errc::invalid_argument);
        }
    }
    return IpPrefix{address, static_cast<std::uint8_t>(bits)};
}

}  // namespace penstock
