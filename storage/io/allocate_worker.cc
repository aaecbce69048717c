#include "storage/io/allocate_worker.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace penstock {

namespace {

// Large enough to reach a drive's sequential rate, small enough to stop soon.
constexpr std::size_t zeroes_bytes = 1U << 20;

// Has the file system keep the space from the file's end to `end`. Returns 0 or an errno.
int keep_space(int fd, const struct stat& file, std::uint64_t end) noexcept {
    const auto length = static_cast<off_t>(end) - file.st_size;
    if (length <= 0 || ::fallocate(fd, FALLOC_FL_KEEP_SIZE, file.st_size, length) == 0 ||
        errno == EOPNOTSUPP) {
        return 0;
    }
    // XFS wants room for the whole length, also for what the file has already.
    constexpr std::uint64_t stat_block_bytes = 512;
    const bool has = static_cast<std::uint64_t>(file.st_blocks) * stat_block_bytes >= end;
    return errno == ENOSPC && has ? 0 : errno;
}

}  // namespace

Result<std::unique_ptr<AllocateWorker>> AllocateWorker::open(std::size_t capacity,
                                                             const std::optional<cpu_set_t>& cpus) {
    std::unique_ptr<AllocateWorker> worker(new AllocateWorker);
    worker->event_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->event_fd_ < 0) {
        return fail(Errc::io_failed, errno);
    }
    worker->waiting_.reserve(capacity);
    worker->finished_.reserve(capacity);
    worker->cpus_ = cpus;
    return worker;
}

AllocateWorker::~AllocateWorker() {
    if (started_) {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        given_.notify_one();
        ::pthread_join(thread_, nullptr);
    }
    if (event_fd_ >= 0) {
        ::close(event_fd_);
    }
    if (zeroes_ != nullptr) {
        ::munmap(zeroes_, zeroes_bytes);
    }
}

int AllocateWorker::start() noexcept {
    if (zeroes_ == nullptr) {
        void* memory = ::mmap(nullptr, zeroes_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            return errno;
        }
        zeroes_ = static_cast<std::byte*>(memory);
    }
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    if (cpus_) {
        ::pthread_attr_setaffinity_np(&attributes, sizeof(*cpus_), &*cpus_);
    }
    // Signals are for the threads that ask for them.
    sigset_t every;
    sigset_t before;
    ::sigfillset(&every);
    ::pthread_sigmask(SIG_SETMASK, &every, &before);
    const int failure = ::pthread_create(&thread_, &attributes, &AllocateWorker::run, this);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
    started_ = failure == 0;
    return failure;
}

int AllocateWorker::give(const Job& job) noexcept {
    if (!started_) {
        if (const int failure = start(); failure != 0) {
            return failure;
        }
    }
    {
        const std::lock_guard lock(mutex_);
        PENSTOCK_CHECK(waiting_.size() < waiting_.capacity());
        waiting_.push_back(job);
    }
    given_.notify_one();
    return 0;
}

bool AllocateWorker::take(Job& job) noexcept {
    if (finished_count_.load(std::memory_order_acquire) == 0) {
        return false;
    }
    const std::lock_guard lock(mutex_);
    job = finished_.front();
    finished_.erase(finished_.begin());
    finished_count_.store(finished_.size(), std::memory_order_release);
    if (finished_.empty()) {
        eventfd_t ignored = 0;
        ::eventfd_read(event_fd_, &ignored);
    }
    return true;
}

void* AllocateWorker::run(void* self) noexcept {
    ::pthread_setname_np(::pthread_self(), "allocate");
    static_cast<AllocateWorker*>(self)->work();
    return nullptr;
}

void AllocateWorker::hurry() noexcept {
    {
        const std::lock_guard lock(mutex_);
        hurry_ = working_ || !waiting_.empty();
    }
    given_.notify_one();
}

bool AllocateWorker::unpaced_waits() const noexcept {
    return std::ranges::any_of(waiting_, [](const Job& job) { return job.pace_ns == 0; });
}

void AllocateWorker::finish(Job& job) noexcept {
    finished_.push_back(job);
    finished_count_.store(finished_.size(), std::memory_order_release);
    ::eventfd_write(event_fd_, 1);
}

void AllocateWorker::do_reserves(std::unique_lock<std::mutex>& lock) noexcept {
    for (auto next = std::ranges::find_if(waiting_, &Job::reserve);
         next != waiting_.end() && !stop_; next = std::ranges::find_if(waiting_, &Job::reserve)) {
        Job job = *next;
        waiting_.erase(next);
        lock.unlock();
        job.result = reserve(job.fd, job.end);
        lock.lock();
        finish(job);
    }
}

void AllocateWorker::work() noexcept {
    std::unique_lock lock(mutex_);
    while (true) {
        given_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
        do_reserves(lock);
        if (stop_) {
            return;
        }
        if (waiting_.empty()) {
            continue;
        }
        Job job = waiting_.front();
        waiting_.erase(waiting_.begin());
        working_ = true;
        lock.unlock();
        job.result = allocate(job);
        lock.lock();
        working_ = false;
        hurry_ = hurry_ && !waiting_.empty();
        finish(job);
    }
}

// Space behind the file's end, kept for it also after a crash.
std::int64_t AllocateWorker::reserve(int fd, std::uint64_t end) noexcept {
    struct stat status{};
    if (::fstat(fd, &status) != 0) {
        return -errno;
    }
    const int failure = keep_space(fd, status, end);
    return failure != 0 ? -failure : ::fsync(fd) != 0 ? -errno : 0;
}

std::int64_t AllocateWorker::allocate(const Job& job) noexcept {
    const int fd = job.fd;
    const std::uint64_t end = job.end;
    struct stat status{};
    if (::fstat(fd, &status) != 0) {
        return -errno;
    }
    const auto size = static_cast<std::uint64_t>(status.st_size);
    std::int64_t result = 0;
    if (size < end) {
        // Takes the space at once, so that a full disk shows before any zero is written. The size
        // follows the zeroes, so that a file of full length is a finished one.
        result = -keep_space(fd, status, end);
        if (result == 0) {
            // A size that is no multiple of a block was made by someone else; the rest of that
            // block reads as zeroes already.
            result = fill(job, align_up(size, block_bytes));
        }
    }
    if (result == 0 && ::fdatasync(fd) != 0) {
        result = -errno;
    }
    if (result != 0 && size < end && ::ftruncate(fd, status.st_size) == 0) {
        // The old size shall outlive a power loss as well; the job has failed either way.
        [[maybe_unused]] const int synced = ::fdatasync(fd);
    }
    return result;
}

// Until `due`, or until there is reason not to wait: a job that has no pace stands behind this one.
void AllocateWorker::pause_until(std::chrono::steady_clock::time_point due) noexcept {
    std::unique_lock lock(mutex_);
    while (true) {
        do_reserves(lock);
        if (stop_ || hurry_ || unpaced_waits() || std::chrono::steady_clock::now() >= due) {
            return;
        }
        given_.wait_until(lock, due, [&] { return stop_ || hurry_ || unpaced_waits(); });
    }
}

std::int64_t AllocateWorker::fill(const Job& job, std::uint64_t from) noexcept {
    const auto began = std::chrono::steady_clock::now();
    const std::uint64_t first = from;
    while (from < job.end) {
        if (stop_) {
            return -ECANCELED;
        }
        const std::size_t part = std::min<std::uint64_t>(zeroes_bytes, job.end - from);
        const ssize_t written = ::pwrite(job.fd, zeroes_, part, static_cast<off_t>(from));
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? -errno : -EIO;
        }
        from += static_cast<std::uint64_t>(written);
        const double done =
            static_cast<double>(from - first) / static_cast<double>(job.end - first);
        pause_until(began + std::chrono::nanoseconds(static_cast<std::int64_t>(
                                done * static_cast<double>(job.pace_ns))));
    }
    return 0;
}

}  // namespace penstock
