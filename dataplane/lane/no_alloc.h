// A trap for allocations where there must be none: inside a lane's turn.
//
// In debug builds (meson -Ddebug=true) operator new aborts while the calling thread is in a
// NoAllocScope and in no AllowAllocScope. Release builds count the scopes and replace nothing.
//
// Runs on: any thread; scopes nest and belong to their thread.
#pragma once

namespace penstock {

class NoAllocScope {
public:
    // A scope that isn't `active` does nothing.
    explicit NoAllocScope(bool active = true) noexcept;
    ~NoAllocScope();
    NoAllocScope(const NoAllocScope&) = delete;
    NoAllocScope& operator=(const NoAllocScope&) = delete;

private:
    bool active_;
};

class AllowAllocScope {
public:
    AllowAllocScope() noexcept;
    ~AllowAllocScope();
    AllowAllocScope(const AllowAllocScope&) = delete;
    AllowAllocScope& operator=(const AllowAllocScope&) = delete;

private:
    int outer_;
};

// Whether this build traps.
[[nodiscard]] bool allocation_trap_built_in() noexcept;

}  // namespace penstock
