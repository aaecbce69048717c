// Which doors bring so much that they give way to the others where room is short.
//
// Each door's bytes of late are summed, and halved ten times a second. A door is loud when it
// brought more than half of an even part of the sum: one that floods is, one that trickles beside
// it is not, and two that flood alike both are.
//
// Runs on: its lane.
// Allocates: at construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace penstock {

class Loudness {
public:
    explicit Loudness(std::size_t doors) : bytes_(doors) {}

    // At most once a turn.
    void look_at_clock(std::uint64_t now_ns) noexcept {
        if (now_ns >= next_halving_ns_) {
            halve(now_ns);
        }
    }
    // Notes what a door brought. A door beyond those it was made for is loud.
    [[nodiscard]] bool is_loud(std::size_t door, std::uint64_t bytes) noexcept {
        if (door >= bytes_.size()) {
            return true;
        }
        active_ += bytes_[door] == 0 ? 1 : 0;
        bytes_[door] += bytes + 1;
        sum_ += bytes + 1;
        return 2 * active_ * bytes_[door] > sum_;
    }

private:
    static constexpr std::uint64_t halving_ns = 100'000'000;

    void halve(std::uint64_t now_ns) noexcept {
        next_halving_ns_ = now_ns + halving_ns;
        sum_ = 0;
        active_ = 0;
        for (std::uint64_t& bytes : bytes_) {
            bytes /= 2;
            sum_ += bytes;
            active_ += bytes != 0 ? 1 : 0;
        }
    }

    std::vector<std::uint64_t> bytes_;
    std::uint64_t sum_ = 0;
    std::uint64_t active_ = 0;  // doors that brought anything of late
    std::uint64_t next_halving_ns_ = 0;
};

}  // namespace penstock
