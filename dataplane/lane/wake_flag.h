// Wakes a thread that may sleep on a file descriptor, at the price of one system call only if it
// really sleeps.
//
// The sleeper arms the flag, then looks at its queue once more, then sleeps on fd(). Whoever has
// put something into the queue calls notify() afterwards. Both are read-modify-writes of one
// variable, so either notify() sees the armed flag and writes the descriptor, or arm() happened
// after and the sleeper's second look sees what was put in. No wake-up is lost.
//
// Runs on: notify() any thread; arm(), disarm() and clear() the sleeper only.
// Allocates: an eventfd at construction.
#pragma once

#include <atomic>
#include <cstdint>

namespace penstock {

class WakeFlag {
public:
    explicit WakeFlag(bool armed) noexcept;
    ~WakeFlag();
    WakeFlag(const WakeFlag&) = delete;
    WakeFlag& operator=(const WakeFlag&) = delete;

    // True if a sleeper was woken.
    bool notify() noexcept {
        if (!armed_.exchange(false, std::memory_order_acq_rel)) {
            return false;
        }
        signal();
        return true;
    }
    void arm() noexcept { (void)armed_.exchange(true, std::memory_order_acq_rel); }
    // False if somebody notified since arm(): the descriptor is, or is about to be, readable.
    bool disarm() noexcept { return armed_.exchange(false, std::memory_order_acq_rel); }
    // Makes the descriptor unreadable again.
    void clear() noexcept;
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    void signal() noexcept;

    alignas(64) std::atomic<bool> armed_;
    int fd_ = -1;
};

}  // namespace penstock
