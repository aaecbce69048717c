// Keeps space for files, and grows them with written zeroes, on a thread of its own, for an engine
// whose thread must not block.
//
// A file grown by fallocate alone has unwritten extents, whose first overwrite changes metadata and
// so is no cheap flushed write; that is why the zeroes are written.
//
// Runs on: give() and take() on the engine's thread; the work on a thread started by the first
// give(), with the CPU affinity of the thread that made this object.
// Guarantees: each job given is taken once; a job that failed leaves the file at its old size.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "storage/base/result.h"

namespace penstock {

class AllocateWorker {
public:
    struct Job {
        std::uint32_t slot = 0;
        int fd = -1;
        std::uint64_t end = 0;  // the file shall be at least this long, or have space up to here
        bool reserve = false;   // only keep the space; done before and amid the others: it is quick
        // The zeroes are spread over so much time, so that writes that are waited for have the
        // drive between them, unless a job without a pace waits behind; 0: as fast as they can be
        // written.
        std::uint64_t pace_ns = 0;
        std::int64_t result = 0;  // 0 or -errno
    };

    // `capacity`: jobs given and not taken, at most. `cpus`: where the thread runs; none: where the
    // one that gives the first job does.
    [[nodiscard]] static Result<std::unique_ptr<AllocateWorker>> open(
        std::size_t capacity, const std::optional<cpu_set_t>& cpus);
    // Gives up the job it is at, leaving that file at its old size.
    ~AllocateWorker();
    AllocateWorker(const AllocateWorker&) = delete;
    AllocateWorker& operator=(const AllocateWorker&) = delete;

    // Errno when the thread cannot be started, 0 otherwise.
    [[nodiscard]] int give(const Job& job) noexcept;
    // What was given and isn't finished shall be done as fast as it can.
    void hurry() noexcept;
    // A finished job, if there is one.
    [[nodiscard]] bool take(Job& job) noexcept;
    // Readable from a job's end until no finished job is left.
    [[nodiscard]] int event_fd() const noexcept { return event_fd_; }

private:
    AllocateWorker() = default;
    [[nodiscard]] int start() noexcept;
    static void* run(void* self) noexcept;
    void work() noexcept;
    // With the mutex held, when they are called and when they return.
    [[nodiscard]] bool unpaced_waits() const noexcept;
    void finish(Job& job) noexcept;
    void do_reserves(std::unique_lock<std::mutex>& lock) noexcept;
    // Without it.
    void pause_until(std::chrono::steady_clock::time_point due) noexcept;
    [[nodiscard]] static std::int64_t reserve(int fd, std::uint64_t end) noexcept;
    [[nodiscard]] std::int64_t allocate(const Job& job) noexcept;
    [[nodiscard]] std::int64_t fill(const Job& job, std::uint64_t from) noexcept;

    pthread_t thread_{};
    bool started_ = false;
    std::optional<cpu_set_t> cpus_;
    int event_fd_ = -1;
    std::byte* zeroes_ = nullptr;
    std::mutex mutex_;
    std::condition_variable given_;
    std::vector<Job> waiting_;
    std::vector<Job> finished_;
    bool working_ = false;
    bool hurry_ = false;
    std::atomic<std::size_t> finished_count_{0};
    std::atomic<bool> stop_{false};
};

}  // namespace penstock
