#include "storage/io/durability_probe.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <vector>

#include "storage/base/bytes.h"

namespace penstock {

namespace {

constexpr std::size_t small_bytes = 4096;
constexpr std::size_t large_bytes = 256U * 1024;
constexpr std::size_t small_count = 24;
constexpr std::size_t large_count = 8;
constexpr std::size_t file_bytes = 4U << 20;
// Of one way and size; four of them make the whole. A usual drive needs far less.
constexpr double budget_us = 25'000;
// A slow drive gets this many samples at least, but no more than the long budget.
constexpr std::size_t samples_min = 3;
constexpr double long_budget_us = 100'000;
// No flush of a volatile cache on any bus takes less.
constexpr double plausible_flush_us = 5;
constexpr const char* scratch_name = "durability-probe.tmp";

double now_us() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

struct FreeDeleter {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

// A file that is gone, and an fd that is closed, when this ends.
struct Scratch {
    int directory_fd = -1;
    int fd = -1;
    Scratch(int directory, int file) noexcept : directory_fd(directory), fd(file) {}
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() {
        if (fd >= 0) {
            ::close(fd);
            ::unlinkat(directory_fd, scratch_name, 0);
        }
    }
};

Status write_at(int fd, const std::byte* data, std::size_t bytes, std::uint64_t offset, int flags) {
    const iovec piece{const_cast<std::byte*>(data), bytes};
    ssize_t written = 0;
    do {
        written = ::pwritev2(fd, &piece, 1, static_cast<off_t>(offset), flags);
    } while (written < 0 && errno == EINTR);
    if (written != static_cast<ssize_t>(bytes)) {
        const int error = written < 0 ? errno : EIO;
        return fail(error == ENOSPC ? Errc::no_space : Errc::io_failed, error);
    }
    return {};
}

struct Sample {
    double total_us = 0;
    double flush_us = 0;
};

double median(std::vector<double> values) {
    if (values.empty()) {
        return 0;
    }
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// Median of the whole write, and of its flush alone (0 for dsync).
Result<Sample> measure(int fd, const std::byte* data, std::size_t bytes, std::size_t count,
                       FlushMode mode) {
    std::vector<double> totals;
    std::vector<double> flushes;
    const double began = now_us();
    for (std::size_t index = 0; index < count; ++index) {
        const std::uint64_t offset = index * bytes % file_bytes;
        const double start = now_us();
        PENSTOCK_TRY_VOID(
            write_at(fd, data, bytes, offset, mode == FlushMode::dsync ? RWF_DSYNC : 0));
        const double wrote = now_us();
        if (mode == FlushMode::write_then_flush && ::fdatasync(fd) != 0) {
            return fail(Errc::io_failed, errno);
        }
        const double end = now_us();
        // The first pays for metadata of the file before.
        if (index > 0) {
            totals.push_back(end - start);
            flushes.push_back(end - wrote);
        }
        const double spent = end - began;
        if (spent > long_budget_us || (spent > budget_us && totals.size() >= samples_min)) {
            break;
        }
    }
    return Sample{median(totals), mode == FlushMode::dsync ? 0 : median(flushes)};
}

std::string file_system_name(int fd) {
    struct statfs status{};
    if (::fstatfs(fd, &status) != 0) {
        return {};
    }
    struct Known {
        std::uint64_t magic;
        const char* name;
    };
    static constexpr std::array known = {
        Known{EXT4_SUPER_MAGIC, "ext4"},         Known{0x58465342, "xfs"},
        Known{BTRFS_SUPER_MAGIC, "btrfs"},       Known{TMPFS_MAGIC, "tmpfs"},
        Known{OVERLAYFS_SUPER_MAGIC, "overlay"}, Known{F2FS_SUPER_MAGIC, "f2fs"},
        Known{NFS_SUPER_MAGIC, "nfs"},           Known{0x2fc12fc1, "zfs"},
    };
    const auto magic = static_cast<std::uint64_t>(status.f_type) & 0xffffffffU;
    for (const auto& entry : known) {
        if (entry.magic == magic) {
            return entry.name;
        }
    }
    char text[24];
    std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(magic));
    return text;
}

// First line of a small file; empty when it cannot be read.
std::string first_line(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return {};
    }
    char text[64];
    const ssize_t got = ::read(fd, text, sizeof(text));
    ::close(fd);
    std::string line(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    return line.substr(0, line.find('\n'));
}

void read_queue(int fd, DurabilityReport& report) {
    struct stat status{};
    if (::fstat(fd, &status) != 0) {
        return;
    }
    const std::string link = "/sys/dev/block/" + std::to_string(major(status.st_dev)) + ":" +
                             std::to_string(minor(status.st_dev));
    char resolved[PATH_MAX];
    if (::realpath(link.c_str(), resolved) == nullptr) {
        return;  // tmpfs, overlay, network: no block device
    }
    std::string path(resolved);
    // A partition has no queue of its own; its drive is the directory above.
    if (::access((path + "/queue").c_str(), F_OK) != 0) {
        path.resize(path.rfind('/'));
    }
    report.device = path.substr(path.rfind('/') + 1);
    report.write_cache = first_line(path + "/queue/write_cache");
    const std::string fua = first_line(path + "/queue/fua");
    report.fua = fua == "1" ? 1 : (fua == "0" ? 0 : -1);
}

Status measure_all(int directory_fd, DurabilityReport& report) {
    const int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    int fd = ::openat(directory_fd, scratch_name, flags | O_DIRECT, 0600);
    report.direct = fd >= 0;
    if (fd < 0 && errno == EINVAL) {
        fd = ::openat(directory_fd, scratch_name, flags, 0600);
    }
    if (fd < 0) {
        return fail(Errc::io_failed, errno);
    }
    const Scratch scratch(directory_fd, fd);
    const std::unique_ptr<std::byte, FreeDeleter> memory(
        static_cast<std::byte*>(std::aligned_alloc(small_bytes, large_bytes)));
    if (memory == nullptr) {
        return fail(Errc::no_memory_room, ENOMEM);
    }
    std::fill_n(memory.get(), large_bytes, std::byte{0x5a});
    // Written once, so that what is measured are overwrites, as in a journal.
    for (std::size_t at = 0; at < file_bytes; at += large_bytes) {
        PENSTOCK_TRY_VOID(write_at(fd, memory.get(), large_bytes, at, 0));
    }
    if (::fsync(fd) != 0) {
        return fail(Errc::io_failed, errno);
    }
    PENSTOCK_TRY(dsync_small,
                 measure(fd, memory.get(), small_bytes, small_count, FlushMode::dsync));
    PENSTOCK_TRY(flush_small,
                 measure(fd, memory.get(), small_bytes, small_count, FlushMode::write_then_flush));
    PENSTOCK_TRY(dsync_large,
                 measure(fd, memory.get(), large_bytes, large_count, FlushMode::dsync));
    PENSTOCK_TRY(flush_large,
                 measure(fd, memory.get(), large_bytes, large_count, FlushMode::write_then_flush));
    report.dsync_4k_us = dsync_small.total_us;
    report.flush_4k_us = flush_small.total_us;
    report.dsync_256k_us = dsync_large.total_us;
    report.flush_256k_us = flush_large.total_us;
    // Small and large count alike: as ratios, not as microseconds.
    const double ratio = (flush_small.total_us / std::max(dsync_small.total_us, 0.01) +
                          flush_large.total_us / std::max(dsync_large.total_us, 0.01)) /
                         2;
    report.mode = ratio < 0.9 ? FlushMode::write_then_flush : FlushMode::dsync;
    report.suspicious =
        report.write_cache == "write back" && flush_small.flush_us < plausible_flush_us;
    return {};
}

}  // namespace

DurabilityReport probe_durability(int directory_fd) {
    DurabilityReport report;
    report.file_system = file_system_name(directory_fd);
    read_queue(directory_fd, report);
    report.status = measure_all(directory_fd, report);
    return report;
}

namespace {

// One file system's measurement on a thread of its own.
struct Probe {
    int directory_fd = -1;
    dev_t device = 0;
    DurabilityReport report;
    pthread_t thread{};
    bool started = false;

    static void* run(void* self) {
        auto& probe = *static_cast<Probe*>(self);
        probe.report = probe_durability(probe.directory_fd);
        return nullptr;
    }
    // A start with signals of its own in mind: the thread takes none.
    void start() {
        sigset_t every;
        sigset_t before;
        ::sigfillset(&every);
        ::pthread_sigmask(SIG_SETMASK, &every, &before);
        started = ::pthread_create(&thread, nullptr, &Probe::run, this) == 0;
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    void finish() {
        if (started) {
            ::pthread_join(thread, nullptr);
        } else {
            run(this);
        }
    }
};

}  // namespace

void probe_durability(std::span<const int> directory_fds, std::span<DurabilityReport> reports) {
    std::vector<Probe> probes;
    std::vector<std::size_t> probe_of(directory_fds.size());
    for (std::size_t i = 0; i < directory_fds.size(); ++i) {
        struct stat status{};
        if (directory_fds[i] < 0 || ::fstat(directory_fds[i], &status) != 0) {
            probe_of[i] = directory_fds.size();
            continue;
        }
        const auto same = std::ranges::find(probes, status.st_dev, &Probe::device);
        probe_of[i] = static_cast<std::size_t>(same - probes.begin());
        if (same == probes.end()) {
            probes.emplace_back();
            probes.back().directory_fd = directory_fds[i];
            probes.back().device = status.st_dev;
        }
    }
    // The last one here; the vector grows no more, since the threads write into it.
    for (std::size_t i = 0; i + 1 < probes.size(); ++i) {
        probes[i].start();
    }
    for (std::size_t i = probes.size(); i-- > 0;) {
        probes[i].finish();
    }
    for (std::size_t i = 0; i < directory_fds.size(); ++i) {
        if (probe_of[i] < probes.size()) {
            reports[i] = probes[probe_of[i]].report;
        } else if (directory_fds[i] >= 0) {
            reports[i] = probe_durability(directory_fds[i]);
        }
    }
}

std::string DurabilityReport::describe() const {
    std::string text = file_system.empty() ? "unknown file system" : file_system;
    text += device.empty() ? "" : " on " + device;
    if (!status) {
        return text + ": not measured, " + penstock::describe(status.error());
    }
    char numbers[160];
    std::snprintf(numbers, sizeof(numbers),
                  ": flushed write of 4 KiB %.0f us by O_DSYNC, %.0f us by fdatasync; of 256 KiB "
                  "%.0f us and %.0f us; using ",
                  dsync_4k_us, flush_4k_us, dsync_256k_us, flush_256k_us);
    text += numbers;
    text += mode == FlushMode::dsync ? "O_DSYNC" : "fdatasync";
    text += write_cache.empty() ? "" : "; cache is " + write_cache;
    text += fua < 0 ? "" : (fua == 1 ? ", FUA" : ", no FUA");
    text += direct ? "" : "; O_DIRECT is refused here, writes go through the page cache";
    text +=
        suspicious ? "; the flush is too fast to be true: records may be lost in a power cut" : "";
    return text;
}

}  // namespace penstock
