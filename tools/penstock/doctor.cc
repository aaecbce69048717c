#include "tools/penstock/doctor.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "storage/io/durability_probe.h"
#include "tools/penstock/data_directories.h"
#include "tools/penstock/json_text.h"

namespace penstock {
namespace {

constexpr std::uint64_t mebibyte = 1ULL << 20;
// Below this the node would soon push back: one container and the journals of a default set.
constexpr std::uint64_t free_bytes_min = 1024 * mebibyte;
// What the rings' registered buffers of a default lane need, with room.
constexpr std::uint64_t memlock_bytes_min = 256 * mebibyte;

using Findings = std::vector<Finding>;

[[nodiscard]] std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

[[nodiscard]] std::uint64_t meminfo(const std::string& key) {
    std::ifstream in("/proc/meminfo");
    std::string word;
    std::uint64_t number = 0;
    while (in >> word) {
        if (word == key + ":" && in >> number) {
            return number;
        }
        in.ignore(4096, '\n');
    }
    return 0;
}

void look_at_hugepages(Findings& findings) {
    const std::uint64_t total = meminfo("HugePages_Total");
    const std::uint64_t free = meminfo("HugePages_Free");
    const std::uint64_t size_kib = meminfo("Hugepagesize");
    const std::string found = std::to_string(total) + " huge pages of " +
                              std::to_string(size_kib / 1024) + " MiB, " + std::to_string(free) +
                              " free";
    if (free * size_kib >= 512 * 1024) {
        findings.push_back({FindingLevel::ok, "hugepages", found, ""});
        return;
    }
    findings.push_back({FindingLevel::warn, "hugepages",
                        found + "; the node works without, a few percent slower",
                        "sysctl -w vm.nr_hugepages=512"});
}

void look_at_memlock(Findings& findings) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        findings.push_back(
            {FindingLevel::warn, "memlock", "the limit cannot be read", "ulimit -l"});
        return;
    }
    const bool unlimited = limit.rlim_cur == RLIM_INFINITY;
    const std::string found = unlimited ? "locked memory is not limited"
                                        : "locked memory is limited to " +
                                              std::to_string(limit.rlim_cur / mebibyte) + " MiB";
    // The kernel does not count locked memory of root.
    if (unlimited || limit.rlim_cur >= memlock_bytes_min || ::geteuid() == 0) {
        findings.push_back(
            {FindingLevel::ok, "memlock", found + (unlimited ? "" : ", enough here"), ""});
        return;
    }
    findings.push_back({FindingLevel::warn, "memlock",
                        found + "; I/O buffers will not be registered",
                        "prlimit --pid $$ --memlock=unlimited"});
}

void look_at_io_uring(Findings& findings) {
    io_uring_params params{};
    const long ring = ::syscall(SYS_io_uring_setup, 4, &params);
    const int failed = ring < 0 ? errno : 0;
    if (ring >= 0) {
        ::close(static_cast<int>(ring));
        findings.push_back({FindingLevel::ok, "io_uring", "io_uring is allowed", ""});
        return;
    }
    const std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled");
    if (!disabled.empty() && disabled != "0") {
        findings.push_back({FindingLevel::bad, "io_uring",
                            "io_uring is switched off: kernel.io_uring_disabled is " + disabled,
                            "sysctl -w kernel.io_uring_disabled=0"});
        return;
    }
    findings.push_back({FindingLevel::bad, "io_uring",
                        std::string("a ring cannot be made: ") + std::strerror(failed) +
                            "; a container's seccomp profile may forbid it",
                        failed == ENOMEM ? "prlimit --pid $$ --memlock=unlimited"
                                         : "docker run --security-opt seccomp=unconfined ..."});
}

void look_at_cpus(Findings& findings) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const int count =
        ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 0;
    const std::string isolated = first_line("/sys/devices/system/cpu/isolated");
    const std::string found = std::to_string(count) + " CPUs may be used, isolated: " +
                              (isolated.empty() ? "none" : isolated);
    if (count >= 2) {
        findings.push_back({FindingLevel::ok, "cpus", found, ""});
        return;
    }
    findings.push_back({FindingLevel::warn, "cpus",
                        found + "; a lane and the control threads will share one",
                        "taskset -pc 0-1 $$"});
}

// Interfaces that a default route leaves through: DPDK must not take them.
[[nodiscard]] std::set<std::string> default_route_interfaces() {
    std::set<std::string> names;
    std::string line;
    std::ifstream four("/proc/net/route");
    std::getline(four, line);
    while (std::getline(four, line)) {
        std::istringstream in(line);
        std::string name, destination, gateway, flags, references, use, metric, mask;
        in >> name >> destination >> gateway >> flags >> references >> use >> metric >> mask;
        if (destination == "00000000" && mask == "00000000") {
            names.insert(name);
        }
    }
    std::ifstream six("/proc/net/ipv6_route");
    while (std::getline(six, line)) {
        std::istringstream in(line);
        std::array<std::string, 10> field;
        for (std::string& text : field) {
            in >> text;
        }
        if (field[0] == std::string(32, '0') && field[1] == "00" && field[9] != "lo") {
            names.insert(field[9]);
        }
    }
    return names;
}

void look_at_routes(Findings& findings) {
    const std::set<std::string> names = default_route_interfaces();
    if (names.empty()) {
        findings.push_back(
            {FindingLevel::ok, "default-route", "no interface has a default route", ""});
        return;
    }
    for (const std::string& name : names) {
        findings.push_back({FindingLevel::ok, "default-route",
                            name + " has the default route: never give it to --port", ""});
    }
}

// The directory itself, or the nearest one above it that exists.
[[nodiscard]] std::string existing_part(const std::string& directory) {
    std::error_code error;
    std::filesystem::path path = std::filesystem::absolute(directory, error);
    while (!std::filesystem::is_directory(path, error) && path.has_relative_path()) {
        path = path.parent_path();
    }
    return path.string();
}

void look_at_drive(const std::string& directory, Findings& findings) {
    const std::string at = existing_part(directory);
    const std::string subject = "drive " + directory;
    const int fd = ::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        findings.push_back({FindingLevel::bad, subject,
                            "cannot be opened: " + std::string(std::strerror(errno)),
                            "ls -ld " + at});
        return;
    }
    const DurabilityReport report = probe_durability(fd);
    ::close(fd);
    if (!report.status) {
        findings.push_back({FindingLevel::bad, subject,
                            "its flush cannot be measured: " + describe(report.status.error()),
                            "chown $(id -u) " + at});
    } else {
        const bool warn = report.suspicious;
        findings.push_back({warn ? FindingLevel::warn : FindingLevel::ok, subject,
                            report.describe(), warn ? "hdparm -W0 /dev/" + report.device : ""});
        if (!report.direct) {
            findings.push_back({FindingLevel::warn, subject,
                                "the file system has no O_DIRECT (" + report.file_system +
                                    "); writes go through the page cache",
                                "mkfs.xfs /dev/DEVICE && mount /dev/DEVICE " + at});
        }
    }
    struct statvfs space{};
    if (::statvfs(at.c_str(), &space) == 0) {
        const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
        const bool low = free < free_bytes_min;
        findings.push_back({low ? FindingLevel::bad : FindingLevel::ok, subject,
                            std::to_string(free / mebibyte) + " MiB free, at least " +
                                std::to_string(free_bytes_min / mebibyte) + " MiB expected",
                            low ? "du -xh --max-depth=1 " + at + " | sort -h" : ""});
    }
}

void look_at_sharing(const std::array<std::string, replica_count>& directories,
                     Findings& findings) {
    std::set<dev_t> devices;
    for (const std::string& directory : directories) {
        struct stat info{};
        if (::stat(existing_part(directory).c_str(), &info) == 0) {
            devices.insert(info.st_dev);
        }
    }
    if (devices.size() == replica_count) {
        findings.push_back({FindingLevel::ok, "failure-domains",
                            "the three replicas are on three file systems", ""});
        return;
    }
    findings.push_back({FindingLevel::warn, "failure-domains",
                        "the three replicas share " + std::to_string(devices.size()) +
                            " file system(s): losing one drive can lose two replicas",
                        "penstock serve --data DRIVE1 --data DRIVE2 --data DRIVE3"});
}

[[nodiscard]] const char* name_of(FindingLevel level) noexcept {
    switch (level) {
        case FindingLevel::ok:
            return "ok";
        case FindingLevel::warn:
            return "warn";
        case FindingLevel::bad:
            return "bad";
    }
    return "bad";
}

void print_json(const Findings& findings, std::ostream& out) {
    out << "{\"findings\":[";
    for (std::size_t i = 0; i < findings.size(); ++i) {
        const Finding& f = findings[i];
        out << (i == 0 ? "" : ",") << "{\"level\":" << json_text(name_of(f.level))
            << ",\"subject\":" << json_text(f.subject) << ",\"found\":" << json_text(f.found)
            << ",\"mend\":" << json_text(f.mend) << '}';
    }
    out << "]}\n";
}

}  // namespace

std::vector<Finding> examine(const DoctorOptions& options) {
    Findings findings;
    look_at_cpus(findings);
    look_at_hugepages(findings);
    look_at_memlock(findings);
    look_at_io_uring(findings);
    look_at_routes(findings);
    if (options.data.empty()) {
        return findings;
    }
    if (const auto directories = expand_data_directories(options.data)) {
        look_at_sharing(*directories, findings);
        for (const std::string& directory : *directories) {
            look_at_drive(directory, findings);
        }
    }
    return findings;
}

int doctor(const DoctorOptions& options, std::ostream& out) {
    if (!options.data.empty()) {
        if (const auto directories = expand_data_directories(options.data); !directories) {
            out << directories.error() << '\n';
            return 2;
        }
    }
    const Findings findings = examine(options);
    bool bad = false;
    for (const Finding& f : findings) {
        bad |= f.level == FindingLevel::bad;
        if (!options.json) {
            out << name_of(f.level) << (f.level == FindingLevel::ok ? "    " : "  ") << f.subject
                << ": " << f.found << '\n';
            if (!f.mend.empty()) {
                out << "      mend: " << f.mend << '\n';
            }
        }
    }
    if (options.json) {
        print_json(findings, out);
    }
    return bad ? 1 : 0;
}

}  // namespace penstock
