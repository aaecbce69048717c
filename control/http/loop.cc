#include "control/http/loop.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "storage/base/check.h"

namespace penstock::http {
namespace {

// How often functions at the end of a turn may ask to be called again before the loop looks at its
// descriptors in between.
constexpr int end_of_turn_rounds_max = 8;

std::uint64_t clock_ms() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

}  // namespace

Result<std::unique_ptr<LoopThread>> LoopThread::open(unsigned index) {
    std::unique_ptr<LoopThread> loop(new LoopThread(index));
    loop->epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd_ < 0) {
        return fail(Errc::io_failed, errno);
    }
    loop->wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd_ < 0) {
        return fail(Errc::io_failed, errno);
    }
    loop->now_ms_ = clock_ms();
    const int wake_fd = loop->wake_fd_;
    PENSTOCK_TRY_VOID(loop->watch(wake_fd, [wake_fd](std::uint32_t) {
        std::uint64_t ignored = 0;
        [[maybe_unused]] const ssize_t got = ::read(wake_fd, &ignored, sizeof(ignored));
    }));
    return loop;
}

LoopThread::~LoopThread() {
    if (wake_fd_ >= 0) {
        ::close(wake_fd_);
    }
    if (epoll_fd_ >= 0) {
        ::close(epoll_fd_);
    }
}

Status LoopThread::watch(int fd, WatchFunction function, std::uint32_t events) {
    if (watches_.contains(fd)) {
        return fail(Errc::already_exists);
    }
    auto watch = std::make_unique<Watch>();
    watch->fd = fd;
    watch->function = std::move(function);
    epoll_event event{};
    event.events = events;
    event.data.ptr = watch.get();
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
        return fail(Errc::io_failed, errno);
    }
    watches_.emplace(fd, std::move(watch));
    return {};
}

Status LoopThread::change(int fd, std::uint32_t events) {
    const auto found = watches_.find(fd);
    if (found == watches_.end()) {
        return fail(Errc::not_found);
    }
    epoll_event event{};
    event.events = events;
    event.data.ptr = found->second.get();
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) != 0) {
        return fail(Errc::io_failed, errno);
    }
    return {};
}

void LoopThread::unwatch(int fd) noexcept {
    const auto found = watches_.find(fd);
    if (found == watches_.end()) {
        return;
    }
    epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
    // Events of this turn may still point at it.
    found->second->dead = true;
    dead_.push_back(std::move(found->second));
    watches_.erase(found);
}

TimerId LoopThread::run_after(std::uint64_t delay_ms, Function function) {
    const std::uint64_t id = next_timer_++;
    // now_ms_ may be a turn old, which would make the timer early; the clock is read instead.
    const std::uint64_t due_ms = clock_ms() + delay_ms + 1;
    timers_.emplace(std::pair{due_ms, id}, std::move(function));
    timer_due_.emplace(id, due_ms);
    return TimerId{id};
}

void LoopThread::cancel(TimerId timer) noexcept {
    const auto id = static_cast<std::uint64_t>(timer);
    const auto found = timer_due_.find(id);
    if (found != timer_due_.end()) {
        timers_.erase({found->second, id});
        timer_due_.erase(found);
    }
}

void LoopThread::at_end_of_turn(Function function) {
    end_of_turn_.push_back(std::move(function));
}

void LoopThread::post(Function function) {
    bool was_empty = false;
    {
        const std::lock_guard lock(posted_mutex_);
        was_empty = posted_.empty();
        posted_.push_back(std::move(function));
    }
    if (was_empty) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t put = ::write(wake_fd_, &one, sizeof(one));
    }
}

void LoopThread::stop() {
    stop_.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(wake_fd_, &one, sizeof(one));
}

void LoopThread::run() {
    while (!stop_.load(std::memory_order_acquire)) {
        run_once(-1);
    }
}

void LoopThread::run_once(int sleep_ms_max) {
    bool worked = run_events(sleep_ms(sleep_ms_max));
    worked = run_posted() || worked;
    worked = run_timers() || worked;
    if (worked) {
        run_end_of_turn();
    }
    dead_.clear();
}

bool LoopThread::run_events(int sleep_ms_max) {
    std::array<epoll_event, 128> events;
    const int count = epoll_wait(epoll_fd_, events.data(), events.size(), sleep_ms_max);
    PENSTOCK_CHECK(count >= 0 || errno == EINTR);
    now_ms_ = clock_ms();
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        auto* watch = static_cast<Watch*>(event.data.ptr);
        if (!watch->dead) {
            watch->function(event.events);
        }
    }
    return count > 0;
}

bool LoopThread::run_posted() {
    std::vector<Function> functions;
    {
        const std::lock_guard lock(posted_mutex_);
        functions.swap(posted_);
    }
    for (Function& function : functions) {
        function();
    }
    return !functions.empty();
}

bool LoopThread::run_timers() {
    bool worked = false;
    // Timers a timer starts are due later, so this ends.
    while (!timers_.empty() && timers_.begin()->first.first <= now_ms_) {
        auto node = timers_.extract(timers_.begin());
        timer_due_.erase(node.key().second);
        node.mapped()();
        worked = true;
    }
    return worked;
}

void LoopThread::run_end_of_turn() {
    int round = 0;
    do {
        repeat_end_of_turn_ = false;
        // By index: such a function may add another.
        for (std::size_t i = 0; i < end_of_turn_.size(); ++i) {
            end_of_turn_[i]();
        }
    } while (repeat_end_of_turn_ && ++round < end_of_turn_rounds_max);
    if (repeat_end_of_turn_) {
        post([] {});
    }
}

int LoopThread::sleep_ms(int sleep_ms_max) const noexcept {
    if (timers_.empty()) {
        return sleep_ms_max;
    }
    const std::uint64_t due_ms = timers_.begin()->first.first;
    const std::uint64_t now = clock_ms();
    const std::uint64_t until_ms = std::min<std::uint64_t>(due_ms > now ? due_ms - now : 0, 60'000);
    const int until = static_cast<int>(until_ms);
    return sleep_ms_max < 0 ? until : std::min(until, sleep_ms_max);
}

}  // namespace penstock::http
