// Which packet numbers of a session have come: the highest one and the 2048 that end with it.
//
// Runs on: the session's lane. Allocates: nothing.
// Guarantees: a number is set once; what falls out of the window is never taken.
// Format: docs/formats/session.md, "Packet numbers".
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/drop.h"

namespace penstock::session {

class ReplayWindow {
public:
    // 1.5 ms of reordering at 1.4 million datagrams a second of one session.
    static constexpr std::uint64_t size = 2048;

    // Whether a datagram with this number may be taken: none, session_replayed or
    // session_replay_old.
    [[nodiscard]] DropReason check(std::uint64_t number) const noexcept {
        if (number > highest_) {
            return DropReason::none;
        }
        if (highest_ - number >= size) {
            return DropReason::session_replay_old;
        }
        return has(number) ? DropReason::session_replayed : DropReason::none;
    }

    // Only after check() and authentication.
    void set(std::uint64_t number) noexcept {
        if (number > highest_) {
            advance(number);
        }
        bits_[number % size / 64] |= std::uint64_t{1} << number % 64;
    }

    [[nodiscard]] std::uint64_t highest() const noexcept { return highest_; }

    // Bit i of byte j: highest() - (8 j + i) has come.
    [[nodiscard]] std::array<std::uint8_t, 32> newest() const noexcept {
        std::array<std::uint8_t, 32> out{};
        for (unsigned i = 0; i < 256 && i < highest_; ++i) {
            if (has(highest_ - i)) {
                out[i / 8] |= static_cast<std::uint8_t>(1U << i % 8);
            }
        }
        return out;
    }

private:
    [[nodiscard]] bool has(std::uint64_t number) const noexcept {
        return (bits_[number % size / 64] >> number % 64 & 1) != 0;
    }
    void advance(std::uint64_t number) noexcept {
        if (number - highest_ >= size) {
            bits_.fill(0);
        } else {
            // Bits behind the old highest are of numbers that fall out now.
            for (std::uint64_t at = highest_ + 1; at <= number; ++at) {
                bits_[at % size / 64] &= ~(std::uint64_t{1} << at % 64);
            }
        }
        highest_ = number;
    }

    std::array<std::uint64_t, size / 64> bits_{};
    std::uint64_t highest_ = 0;
};

}  // namespace penstock::session
