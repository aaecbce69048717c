// Making, owning and closing the ring of a UringEngine, and its memory.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "storage/base/check.h"
#include "storage/io/uring_engine.h"

namespace penstock {

namespace {

constexpr unsigned entries_max = 4096;
// The kernel takes no larger registered buffer.
constexpr std::size_t registered_bytes_max = 1U << 30;
// A drive that answers nothing for this long holds up the end of the process no longer.
constexpr int drain_seconds_max = 10;
constexpr unsigned datagram_completions = 512;

constexpr std::array needed_operations = {
    IORING_OP_READ,        IORING_OP_WRITE, IORING_OP_READ_FIXED,
    IORING_OP_WRITE_FIXED, IORING_OP_FSYNC, IORING_OP_POLL_ADD,
};

}  // namespace

UringEngine::UringEngine(const UringOptions& options)
    : slots_(options.entries), huge_pages_wanted_(options.huge_pages), wake_fd_(options.wake_fd) {
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        replicas_[replica].directory_fd = options.directory_fds[replica];
        replicas_[replica].mode = options.flush_modes[replica];
    }
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
        push(free_, slot);
    }
    helper_cpus_ = options.helper_cpus;
    cpu_set_t cpus;
    if (!helper_cpus_ && ::sched_getaffinity(0, sizeof(cpus), &cpus) == 0) {
        helper_cpus_ = cpus;
    }
}

Result<std::unique_ptr<UringEngine>> UringEngine::open(const UringOptions& options) {
    if (options.entries < 1 || options.entries > entries_max) {
        return fail(Errc::invalid_argument, EINVAL, options.entries);
    }
    std::unique_ptr<UringEngine> engine(new UringEngine(options));
    PENSTOCK_TRY_VOID(engine->start(options));
    return engine;
}

int UringEngine::make_ring(unsigned entries) noexcept {
    // From the best the kernel may know to the plainest. Deferred completions run only when we ask,
    // so they never interrupt a burst; they need a ring that starts disabled, because another
    // thread than this one will own it.
    constexpr std::array<unsigned, 3> wishes = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
            IORING_SETUP_R_DISABLED,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int result = -EINVAL;
    for (const unsigned flags : wishes) {
        io_uring_params params{};
        params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        // Room for every request, the wake-ups and some bursts of datagrams, so that completions
        // hardly ever overflow.
        params.cq_entries = 2 * entries + 16 + datagram_completions;
        result = io_uring_queue_init_params(entries + 4, &ring_, &params);
        if (result == 0) {
            ring_made_ = true;
            ring_disabled_ = (flags & IORING_SETUP_R_DISABLED) != 0;
            deferred_ = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
        }
        if (result != -EINVAL) {
            break;
        }
    }
    return result;
}

Status UringEngine::start(const UringOptions& options) {
    const int made = make_ring(options.entries);
    if (made != 0) {
        return fail(made == -ENOSYS ? Errc::unsupported : Errc::io_failed, -made);
    }
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    const bool known =
        probe != nullptr &&
        std::all_of(needed_operations.begin(), needed_operations.end(), [&](int operation) {
            return io_uring_opcode_supported(probe, operation) != 0;
        });
    io_uring_free_probe(probe);
    if (!known) {
        return fail(Errc::unsupported, EOPNOTSUPP);
    }
    const int registered = io_uring_register_files(&ring_, options.lock_fds.data(), replica_count);
    if (registered != 0) {
        return fail(Errc::io_failed, -registered);
    }
    auto worker = AllocateWorker::open(slots_.size(), helper_cpus_);
    if (!worker) {
        return std::unexpected(worker.error());
    }
    worker_ = std::move(*worker);
    return {};
}

std::string UringEngine::explain_open_failure(const Error& error) {
    switch (error.os_errno) {
        case ENOSYS:
            return "io_uring is not in this kernel: Linux 5.10 or newer is needed";
        case EPERM:
        case EACCES:
            return "io_uring is forbidden here: allow it with `sysctl kernel.io_uring_disabled=0`, "
                   "or in the container's seccomp profile";
        case ENOMEM:
            return "no memory may be locked for io_uring: raise the limit (`ulimit -l`, "
                   "LimitMEMLOCK= of the service) to 64 MiB or more";
        case EMFILE:
        case ENFILE:
            return "no file descriptor is left for io_uring: raise `ulimit -n`";
        case EOPNOTSUPP:
            return "this kernel's io_uring lacks read, write, fsync or poll: Linux 5.10 or newer "
                   "is "
                   "needed";
        default:
            return "io_uring could not be set up: " + describe(error);
    }
}

void UringEngine::own() noexcept {
    if (owned_) [[likely]] {
        return;
    }
    owned_ = true;
    owner_ = ::pthread_self();
    if (ring_disabled_) {
        // liburing 2.3 declares io_uring_enable_rings() and does not export it.
        PENSTOCK_CHECK(::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS,
                                 nullptr, 0) == 0);
    }
    register_buffers();
}

void UringEngine::register_buffers() noexcept {
    for (const IoMemory& buffer : buffers_) {
        for (std::size_t at = 0; at < buffer.size(); at += registered_bytes_max) {
            registered_.push_back(
                {buffer.data() + at, std::min(buffer.size() - at, registered_bytes_max)});
        }
    }
    // Refused for want of lockable memory: requests then name their memory as usual.
    buffers_registered_ = !registered_.empty() &&
                          io_uring_register_buffers(&ring_, registered_.data(),
                                                    static_cast<unsigned>(registered_.size())) == 0;
    if (!buffers_registered_) {
        registered_.clear();
    }
}

int UringEngine::fixed_buffer_of(const IoRequest& request) const noexcept {
    for (std::size_t index = 0; index < registered_.size(); ++index) {
        const auto* base = static_cast<const std::byte*>(registered_[index].iov_base);
        const std::size_t bytes = registered_[index].iov_len;
        if (request.data >= base && request.length <= bytes &&
            static_cast<std::size_t>(request.data - base) <= bytes - request.length) {
            return static_cast<int>(index);
        }
    }
    return -1;
}

std::byte* UringEngine::allocate_buffer(std::size_t bytes) {
    IoMemory memory(bytes, huge_pages_wanted_);
    if (memory.data() == nullptr) {
        return nullptr;
    }
    huge_pages_used_ = huge_pages_used_ || memory.reserved_pages();
    buffers_.push_back(std::move(memory));
    return buffers_.back().data();
}

void UringEngine::drain() noexcept {
    for (int second = 0; in_ring_ > 0 && second < drain_seconds_max;) {
        __kernel_timespec limit{};
        limit.tv_sec = 1;
        io_uring_cqe* entry = nullptr;
        const int result = io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &limit, nullptr);
        second += result == -ETIME ? 1 : 0;
        if (result < 0 && result != -ETIME && result != -EINTR) {
            return;
        }
        take_completions();
    }
}

UringEngine::~UringEngine() {
    // First the worker: what it has not begun shall not begin.
    worker_.reset();
    allocating_ = 0;
    if (ring_made_) {
        // When the owner has ended, the kernel has waited for its requests at that thread's end.
        if (owned_ && ::pthread_equal(owner_, ::pthread_self()) != 0) {
            drain();
        }
        io_uring_queue_exit(&ring_);
    }
    for (const File& file : files_) {
        if (file.fd >= 0) {
            ::close(file.fd);
        }
    }
}

}  // namespace penstock
