// A counter with one writer that any thread may read.
//
// Runs on: written on its owner's thread, read anywhere.
// Guarantees: a plain load, add and store; readers may lag, never see a torn value.
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock {

class Counter {
public:
    void add(std::uint64_t n = 1) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t get() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};

}  // namespace penstock
