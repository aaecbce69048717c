#include "dataplane/lane/idle.h"

#include <immintrin.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "storage/base/check.h"

namespace penstock {
namespace {

void watch(int epoll_fd, int fd) noexcept {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    PENSTOCK_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

}  // namespace

Idler::Idler(const IdleOptions& options, WakeFlag& inbox_wake)
    : options_(options), inbox_wake_(inbox_wake), longest_ns_(options.sleep_ns_max) {
    epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    PENSTOCK_CHECK(epoll_fd_ >= 0);
    watch(epoll_fd_, inbox_wake.fd());
}

Idler::~Idler() {
    close(epoll_fd_);
}

void Idler::add_queue(PortQueue& queue) {
    queues_.push_back(&queue);
    if (const int fd = queue.wait_fd(); fd >= 0) {
        watch(epoll_fd_, fd);
        return;
    }
    // Half the ring, since the lane needs time to wake up and empty it.
    const std::uint64_t rate = std::max<std::uint64_t>(options_.burst_packets_per_s, 1);
    const std::uint64_t fills_ns = std::uint64_t{queue.ring_packets()} * 1'000'000'000 / rate;
    longest_ns_ = std::min({longest_ns_, options_.sleep_polled_ns_max, fills_ns / 2});
}

std::uint64_t Idler::sleep_for(std::uint64_t idle_ns, std::uint64_t until_due_ns) const noexcept {
    if (options_.policy == IdlePolicy::busy || idle_ns < options_.pause_ns) {
        return 0;
    }
    // A quarter of the time already spent idle: a lane that just fell idle wakes up soon, one that
    // has been idle long costs next to nothing.
    return std::min({idle_ns / 4, longest_ns_, until_due_ns});
}

bool Idler::arm() noexcept {
    inbox_wake_.arm();
    bool quiet = true;
    for (PortQueue* queue : queues_) {
        quiet &= queue->arm_wait();
    }
    return quiet;
}

void Idler::sleep(IoEngine* engine, bool engine_wakes, std::uint64_t ns) noexcept {
    if (engine != nullptr && engine->in_flight() != 0) {
        engine->wait(engine_wakes ? ns : std::min(ns, deaf_engine_sleep_ns_max));
        woken_ = true;  // perhaps by the inbox
        return;
    }
    pollfd one{epoll_fd_, POLLIN, 0};
    timespec timeout{};
    timeout.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(ns % 1'000'000'000);
    woken_ = ppoll(&one, 1, &timeout, nullptr) != 0;
}

void Idler::disarm() noexcept {
    for (PortQueue* queue : queues_) {
        queue->disarm_wait();
    }
    (void)inbox_wake_.disarm();
    // What notify() writes after this ends the next sleep at once, and is cleared then.
    if (woken_) {
        woken_ = false;
        inbox_wake_.clear();
    }
}

void Idler::pause() noexcept {
    for (int i = 0; i < 16; ++i) {
        _mm_pause();
    }
}

}  // namespace penstock
