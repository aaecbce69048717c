// One control thread's event loop over epoll: descriptors, timers, work posted by other threads.
//
// Runs on: all calls belong to the loop's own thread, except post() and stop().
// Allocates: yes; this is a control thread.
// Guarantees: a callback is never called after its unwatch() or cancel() returned; callbacks may
// watch, unwatch and cancel anything, themselves included.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "storage/base/result.h"

namespace penstock::http {

enum class TimerId : std::uint64_t {};

class LoopThread {
public:
    using WatchFunction = std::function<void(std::uint32_t epoll_events)>;
    using Function = std::function<void()>;

    [[nodiscard]] static Result<std::unique_ptr<LoopThread>> open(unsigned index = 0);
    ~LoopThread();
    LoopThread(const LoopThread&) = delete;
    LoopThread& operator=(const LoopThread&) = delete;

    // Which of the server's threads this is, from 0.
    [[nodiscard]] unsigned index() const noexcept { return index_; }

    // Calls `function` whenever `fd` is ready (level-triggered) for one of `events`. The descriptor
    // stays the caller's, who calls unwatch() before closing it.
    [[nodiscard]] Status watch(int fd, WatchFunction function, std::uint32_t events = EPOLLIN);
    [[nodiscard]] Status change(int fd, std::uint32_t events);
    void unwatch(int fd) noexcept;

    // Calls `function` once, no sooner than `delay_ms` from now.
    TimerId run_after(std::uint64_t delay_ms, Function function);
    void cancel(TimerId timer) noexcept;

    // Called at the end of each turn that did something, before the loop may sleep: the place to
    // hand on in one go what the turn has gathered. Lives as long as the loop.
    void at_end_of_turn(Function function);
    // From such a function: calls them all once more, because this one made work for another.
    void repeat_end_of_turn() noexcept { repeat_end_of_turn_ = true; }

    // From any thread: runs `function` on the loop's thread, in the order posted.
    // What is posted after the loop has ended is destroyed unrun with the loop.
    void post(Function function);

    // Runs until stop(); the calling thread becomes the loop's thread.
    void run();
    // One turn that sleeps at most `sleep_ms_max`; for tests and callers with a loop of their own.
    void run_once(int sleep_ms_max);
    // From any thread: run() returns after the turn in progress.
    void stop();

    // Milliseconds that only grow, read once per turn.
    [[nodiscard]] std::uint64_t now_ms() const noexcept { return now_ms_; }

private:
    struct Watch {
        int fd = -1;
        WatchFunction function;
        bool dead = false;
    };

    explicit LoopThread(unsigned index) noexcept : index_(index) {}
    bool run_events(int sleep_ms_max);
    void run_end_of_turn();
    bool run_posted();
    bool run_timers();
    [[nodiscard]] int sleep_ms(int sleep_ms_max) const noexcept;

    unsigned index_;
    int epoll_fd_ = -1;
    int wake_fd_ = -1;
    std::uint64_t now_ms_ = 0;
    std::atomic<bool> stop_{false};
    std::unordered_map<int, std::unique_ptr<Watch>> watches_;
    std::vector<std::unique_ptr<Watch>> dead_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, Function> timers_;  // by (due, id)
    std::unordered_map<std::uint64_t, std::uint64_t> timer_due_;          // by id
    std::uint64_t next_timer_ = 1;
    std::deque<Function> end_of_turn_;  // a function may add another while it runs
    bool repeat_end_of_turn_ = false;
    std::mutex posted_mutex_;
    std::vector<Function> posted_;
};

}  // namespace penstock::http
