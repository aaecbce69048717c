// A lane's I/O memory: blocks of 4 KiB to 16 MiB from one arena, by halving (a buddy allocator),
// and what of it is kept for whom.
//
// Every holder (a shard, of any of the lane's groups) has a share that is kept for it: a quarter of
// the memory, divided by the holders. The rest is for whoever comes first. So a holder that fills
// all it can get leaves the others their share, and once a holder has its share itself, nothing is
// kept back from it that nobody else may claim.
//
// Runs on: the lane.
// Allocates: its own tables at open, nothing afterwards.
// Guarantees: bounded memory (promise 9): take() says no, it never grows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "storage/base/result.h"
#include "storage/io/engine.h"

namespace penstock {

class FramePool {
public:
    static constexpr std::size_t smallest = 4096;
    static constexpr std::size_t largest = 16U << 20;

    // `bytes` is rounded up to a multiple of `largest`.
    [[nodiscard]] static Result<std::unique_ptr<FramePool>> open(IoEngine& engine,
                                                                 std::size_t bytes);
    FramePool(const FramePool&) = delete;
    FramePool& operator=(const FramePool&) = delete;

    // A block of the next power of two ≥ bytes; null when there is none.
    [[nodiscard]] std::byte* take(std::size_t bytes) noexcept;
    void give(std::byte* block) noexcept;
    [[nodiscard]] static std::size_t rounded(std::size_t bytes) noexcept;
    [[nodiscard]] std::size_t used_bytes() const noexcept { return used_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return size_; }

    // -- Shares -----------------------------------------------------------------------------------
    // Less than a small buffer is of no use: with more holders than that there are no shares.
    static constexpr std::size_t share_smallest = 16U << 10;
    static constexpr std::size_t share_largest = 1U << 20;

    void add_holder() noexcept { set_holders(holders_ + 1); }
    void remove_holder() noexcept { set_holders(holders_ - 1); }
    // What is kept for one holder now. A power of two, so that it changes seldom.
    [[nodiscard]] std::size_t share_bytes() const noexcept { return share_; }
    // A holder tells what of its share it has not taken, in place of what it told before.
    void keep(std::size_t before, std::size_t now) noexcept { kept_ += now - before; }
    // Whether a block for `bytes` leaves what is kept for others, and `margin` besides; `own` is
    // what is kept for the one who asks.
    [[nodiscard]] bool spares(std::size_t bytes, std::size_t own,
                              std::size_t margin) const noexcept {
        const std::size_t block = rounded(bytes);
        // With more holders than blocks, half of the memory is for them and half for all.
        const std::size_t others = kept_ - own < size_ / 2 ? kept_ - own : size_ / 2;
        const std::size_t rest = own > block ? own - block : 0;
        return used_ + block + others + rest + margin <= size_;
    }

private:
    static constexpr unsigned orders = 13;  // 4 KiB << 12 = 16 MiB
    struct Free {
        Free* next;
        Free* previous;
    };
    FramePool(std::byte* arena, std::size_t bytes);
    void set_holders(std::size_t holders) noexcept;
    void push(std::byte* block, unsigned order) noexcept;
    void unlink(std::byte* block, unsigned order) noexcept;
    [[nodiscard]] std::size_t page_of(const std::byte* block) const noexcept {
        return static_cast<std::size_t>(block - arena_) / smallest;
    }

    std::byte* arena_;
    std::size_t size_;
    std::size_t used_ = 0;
    std::size_t holders_ = 0;
    std::size_t share_ = share_largest;
    std::size_t kept_ = 0;
    std::array<Free*, orders> free_{};
    // Per 4 KiB page that begins a block: its order, plus free_mark while it is free.
    std::vector<std::uint8_t> state_;
    static constexpr std::uint8_t free_mark = 0x80;
    static constexpr std::uint8_t inside = 0x7f;
};

}  // namespace penstock
