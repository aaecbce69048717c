// What an I/O of a group carries in its cookie: kind | group | generation | slot | replica, never a
// pointer, so that a late completion cannot touch what was reused meanwhile.
#pragma once

#include <cstdint>

#include "storage/base/ids.h"

namespace penstock {

enum class OpKind : std::uint8_t {
    none = 0,
    state_write,
    state_grow,
    journal_write,
    segment_write,
    segment_flush,
    container_reserve,
    container_grow,
    refill_read,
    refill_write,
    refill_flush,
    scrub_read,
    scrub_write,
};

// slot: 22 bits, generation: 16 bits, replica: 2 bits.
struct Cookie {
    OpKind kind = OpKind::none;
    std::uint16_t group = 0;
    std::uint16_t generation = 0;
    std::uint32_t slot = 0;
    unsigned replica = 0;

    [[nodiscard]] std::uint64_t pack() const noexcept {
        return (static_cast<std::uint64_t>(kind) << 56) |
               (static_cast<std::uint64_t>(group) << 40) |
               (static_cast<std::uint64_t>(generation) << 24) |
               (static_cast<std::uint64_t>(slot & 0x3fffffU) << 2) | (replica & 3U);
    }
    [[nodiscard]] static Cookie unpack(std::uint64_t packed) noexcept {
        return {static_cast<OpKind>(packed >> 56), static_cast<std::uint16_t>(packed >> 40),
                static_cast<std::uint16_t>(packed >> 24),
                static_cast<std::uint32_t>((packed >> 2) & 0x3fffffU),
                static_cast<unsigned>(packed & 3U)};
    }
};

// Which replicas a group (or the catalog) uses at the moment; shared by its parts.
struct ReplicaView {
    ReplicaMask taking = 0;    // get new writes
    ReplicaMask counting = 0;  // a durable copy there counts towards a commit
    [[nodiscard]] bool has_quorum() const noexcept { return is_quorum(taking); }
    // Whether durable copies on `mask` are enough.
    [[nodiscard]] bool is_quorum(ReplicaMask mask) const noexcept {
        // Two or three bits of three: looked up, since counting them is a call without POPCNT.
        constexpr unsigned quorums = 0b1110'1000;
        return ((quorums >> (mask & counting)) & 1U) != 0;
    }
};

}  // namespace penstock
