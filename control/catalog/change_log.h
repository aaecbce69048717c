// Where the embedded catalog keeps its changes: an append-only log with snapshots.
//
// Runs on: one caller at a time, on control threads; calls block.
// Guarantees: what append() or snapshot() accepted is durable on two replicas when it returns.
// After an error the bytes may or may not be found by a later replay(); a snapshot that was
// accepted makes everything before it void, such bytes included.
#pragma once

#include <cstdint>
#include <functional>

#include "storage/base/bytes.h"
#include "storage/base/result.h"

namespace penstock {

class ChangeLog {
public:
    enum class Kind : std::uint8_t { change, snapshot };
    virtual ~ChangeLog() = default;
    [[nodiscard]] virtual Status append(Bytes change) = 0;
    // Replaces all that came before. May be larger than one change may be.
    [[nodiscard]] virtual Status snapshot(Bytes whole_state) = 0;
    // Calls `take` for the last snapshot, if there is one, and each later change, in order. Stops
    // at the first error `take` returns and returns it. Called once, before anything else.
    [[nodiscard]] virtual Status replay(
        const std::function<Status(Kind kind, Bytes bytes)>& take) = 0;
};

}  // namespace penstock
