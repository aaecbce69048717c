// A lane's I/O memory: blocks of 4 KiB to 16 MiB from one arena, by halving (a buddy allocator).
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

private:
    static constexpr unsigned orders = 13;  // 4 KiB << 12 = 16 MiB
    struct Free {
        Free* next;
        Free* previous;
    };
    FramePool(std::byte* arena, std::size_t bytes);
    void push(std::byte* block, unsigned order) noexcept;
    void unlink(std::byte* block, unsigned order) noexcept;
    [[nodiscard]] std::size_t page_of(const std::byte* block) const noexcept {
        return static_cast<std::size_t>(block - arena_) / smallest;
    }

    std::byte* arena_;
    std::size_t size_;
    std::size_t used_ = 0;
    std::array<Free*, orders> free_{};
    // Per 4 KiB page that begins a block: its order, plus free_mark while it is free.
    std::vector<std::uint8_t> state_;
    static constexpr std::uint8_t free_mark = 0x80;
    static constexpr std::uint8_t inside = 0x7f;
};

}  // namespace penstock
