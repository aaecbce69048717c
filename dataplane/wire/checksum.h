// The Internet checksum (RFC 1071), computed in the machine's own byte order: sums are stored and
// compared as they lie in memory, which the one's complement sum permits.
#pragma once

#include <cstdint>

#include "storage/base/bytes.h"

namespace penstock {

// Adds `bytes` to a running sum. Only the last part of a message may have an odd length. The sum of
// the largest IP packet stays far below 2^64.
[[nodiscard]] inline std::uint64_t checksum_add(std::uint64_t sum, Bytes bytes) noexcept {
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    while (left >= 8) {
        const auto word = load<std::uint64_t>(at);
        sum += (word & 0xFFFFFFFFU) + (word >> 32);
        at += 8;
        left -= 8;
    }
    while (left >= 2) {
        sum += load<std::uint16_t>(at);
        at += 2;
        left -= 2;
    }
    if (left == 1) {
        sum += std::to_integer<std::uint64_t>(*at);
    }
    return sum;
}

// Folded to 16 bits, not complemented.
[[nodiscard]] inline std::uint16_t checksum_fold(std::uint64_t sum) noexcept {
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    sum = (sum & 0xFFFFFFFFU) + (sum >> 32);
    sum = (sum & 0xFFFFU) + (sum >> 16);
    sum = (sum & 0xFFFFU) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

// What a message whose own checksum field was summed too must fold to.
inline constexpr std::uint16_t checksum_good = 0xFFFF;

[[nodiscard]] inline std::uint16_t to_network(std::uint16_t value) noexcept {
    return static_cast<std::uint16_t>(value << 8 | value >> 8);
}
[[nodiscard]] inline std::uint16_t load_u16_be(const std::byte* at) noexcept {
    return to_network(load<std::uint16_t>(at));
}
inline void store_u16_be(std::byte* at, std::uint16_t value) noexcept {
    store(at, to_network(value));
}

// The pseudo-header of RFC 768 and RFC 8200 §8.1 for an upper layer of at most 65535 bytes.
[[nodiscard]] inline std::uint64_t pseudo_header_sum(Bytes source, Bytes destination,
                                                     std::uint8_t protocol,
                                                     std::size_t length) noexcept {
    std::uint64_t sum = checksum_add(checksum_add(0, source), destination);
    sum += to_network(protocol);
    sum += to_network(static_cast<std::uint16_t>(length));
    return sum;
}

}  // namespace penstock
