// From a hash to a slot of a table, by open addressing with linear probing; the table keeps the
// keys.
//
// Runs on: its owner's thread. Allocates: when made.
// Guarantees: at most half of it is used, so a probe ends soon; erasing leaves no tombstones.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace penstock::session {

inline constexpr std::uint32_t no_slot = ~std::uint32_t{0};

// Spreads what may be near each other; a server chooses its ids, so nobody can aim at a bucket.
[[nodiscard]] inline std::uint64_t spread(std::uint64_t value) noexcept {
    value ^= value >> 32;
    value *= 0xd6e8'feb8'6659'fd93U;
    value ^= value >> 32;
    return value;
}

class SlotIndex {
public:
    explicit SlotIndex(std::uint32_t slots)
        : places_(std::bit_ceil(std::size_t{slots} * 2), Place{}), mask_(places_.size() - 1) {}

    // The slot for which `is(slot)` holds among those of this hash, or no_slot.
    template <typename Is>
    [[nodiscard]] std::uint32_t find(std::uint64_t hash, Is&& is) const noexcept {
        for (std::size_t at = hash & mask_; places_[at].slot != no_slot; at = (at + 1) & mask_) {
            if (places_[at].hash == low(hash) && is(places_[at].slot)) {
                return places_[at].slot;
            }
        }
        return no_slot;
    }
    void insert(std::uint64_t hash, std::uint32_t slot) noexcept {
        std::size_t at = hash & mask_;
        while (places_[at].slot != no_slot) {
            at = (at + 1) & mask_;
        }
        places_[at] = {slot, low(hash)};
    }
    void erase(std::uint64_t hash, std::uint32_t slot) noexcept {
        std::size_t at = hash & mask_;
        while (places_[at].slot != slot) {
            if (places_[at].slot == no_slot) {
                return;
            }
            at = (at + 1) & mask_;
        }
        close_gap(at);
    }

private:
    struct Place {
        std::uint32_t slot = no_slot;
        std::uint32_t hash = 0;
    };
    [[nodiscard]] static std::uint32_t low(std::uint64_t hash) noexcept {
        return static_cast<std::uint32_t>(hash);
    }
    // What stands behind a gap moves up as far as its own first place allows.
    void close_gap(std::size_t gap) noexcept {
        for (std::size_t at = (gap + 1) & mask_; places_[at].slot != no_slot;
             at = (at + 1) & mask_) {
            const std::size_t first = places_[at].hash & mask_;
            if (((at - first) & mask_) >= ((at - gap) & mask_)) {
                places_[gap] = places_[at];
                gap = at;
            }
        }
        places_[gap] = Place{};
    }

    std::vector<Place> places_;
    std::size_t mask_;
};

}  // namespace penstock::session
