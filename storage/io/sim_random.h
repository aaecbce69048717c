// A small deterministic random source whose numbers are the same on every machine and library.
//
// xoshiro256** seeded through splitmix64 (both public domain, Blackman and Vigna), with plain
// arithmetic for ranges: the standard distributions differ between libraries, and a seed printed by
// one run must replay in another.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace penstock {

// One step of splitmix64: also a good mixer of 64 bits.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t value) noexcept {
    value += 0x9e3779b97f4a7c15U;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
    return value ^ (value >> 31);
}

class SimRandom {
public:
    explicit SimRandom(std::uint64_t seed) noexcept {
        for (auto& word : state_) {
            seed = mix64(seed);
            word = seed;
        }
    }

    std::uint64_t next() noexcept {
        const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
        const std::uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    // 0 <= result < limit; 0 when limit is 0. Slightly uneven for limits near 2^64, which no one
    // here uses.
    std::uint64_t below(std::uint64_t limit) noexcept { return limit == 0 ? 0 : next() % limit; }
    // low <= result <= high.
    std::uint64_t between(std::uint64_t low, std::uint64_t high) noexcept {
        return low + below(high - low + 1);
    }
    bool chance(std::uint32_t per_million) noexcept {
        // No draw for certain answers, so that switching a fault off leaves other draws in place.
        return per_million != 0 && (per_million >= 1'000'000 || below(1'000'000) < per_million);
    }

private:
    std::array<std::uint64_t, 4> state_{};
};

}  // namespace penstock
