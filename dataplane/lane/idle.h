// How a lane waits when there is nothing to do: spin, pause, sleep for longer and longer, always
// ready to be woken.
//
// Runs on: the lane.
// Allocates: an epoll descriptor at construction.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/lane/wake_flag.h"
#include "dataplane/port/port.h"
#include "storage/io/engine.h"

namespace penstock {

enum class IdlePolicy : std::uint8_t { adaptive, busy };

struct IdleOptions {
    IdlePolicy policy = IdlePolicy::adaptive;
    // Idle for less than this: only spin. Covers the gaps of a busy stream.
    std::uint64_t spin_ns = 20'000;
    // Idle for less than this: spin with pauses, which leave the core to a sibling thread.
    std::uint64_t pause_ns = 100'000;
    // Longest sleep while a port can only be polled. An empty wake-up costs 10 to 30 µs of CPU.
    std::uint64_t sleep_polled_ns_max = 2'000'000;
    // Longest sleep when everything that may happen wakes the lane.
    std::uint64_t sleep_ns_max = 500'000'000;
    // Packets per second that a burst may bring to one queue: with the queue's ring size it bounds
    // the sleep, so that the ring does not overflow before the lane looks again. The ports without
    // a descriptor are virtual ones, which carry about 240,000 packets of any size a second.
    std::uint64_t burst_packets_per_s = 400'000;
};

class Idler {
public:
    Idler(const IdleOptions& options, WakeFlag& inbox_wake);
    ~Idler();
    Idler(const Idler&) = delete;
    Idler& operator=(const Idler&) = delete;

    // Before the lane runs.
    void add_queue(PortQueue& queue);

    // Readable while the inbox or a port wants the lane: for an engine whose wait() can watch it.
    [[nodiscard]] int wake_fd() const noexcept { return epoll_fd_; }

    // How long a lane that has been idle for `idle_ns` should sleep, 0 for not at all;
    // `until_due_ns` is the time to its next timer.
    [[nodiscard]] std::uint64_t sleep_for(std::uint64_t idle_ns,
                                          std::uint64_t until_due_ns) const noexcept;
    // Asks everything to wake the lane. False: something came meanwhile, do not sleep. Otherwise
    // look at every queue once more, then sleep(); in any case disarm().
    [[nodiscard]] bool arm() noexcept;
    // `engine` may be null. Its completions end the sleep; one that cannot watch wake_fd()
    // (`engine_wakes` false) gets short sleeps while something is in flight.
    void sleep(IoEngine* engine, bool engine_wakes, std::uint64_t ns) noexcept;
    void disarm() noexcept;
    // For the pause phase.
    static void pause() noexcept;
    [[nodiscard]] bool pauses(std::uint64_t idle_ns) const noexcept {
        return idle_ns >= options_.spin_ns;
    }

private:
    // Longest sleep in an engine that nothing else can wake.
    static constexpr std::uint64_t deaf_engine_sleep_ns_max = 100'000;

    IdleOptions options_;
    WakeFlag& inbox_wake_;
    std::vector<PortQueue*> queues_;
    std::uint64_t longest_ns_;
    int epoll_fd_ = -1;
    bool woken_ = false;  // the last sleep may have ended by the inbox's descriptor
};

}  // namespace penstock
