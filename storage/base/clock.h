// Time as a passed-in thing, so that the simulator can own it.
#pragma once

#include <cstdint>

namespace penstock {

class Clock {
public:
    virtual ~Clock() = default;
    // Nanoseconds that only grow; the origin means nothing.
    [[nodiscard]] virtual std::uint64_t monotonic_ns() noexcept = 0;
    // Milliseconds since 1970 UTC; may step.
    [[nodiscard]] virtual std::int64_t wall_ms() noexcept = 0;
};

class SystemClock final : public Clock {
public:
    [[nodiscard]] std::uint64_t monotonic_ns() noexcept override;
    [[nodiscard]] std::int64_t wall_ms() noexcept override;
};

}  // namespace penstock
