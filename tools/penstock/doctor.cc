#include "tools/penstock/doctor.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "dataplane/lane/cpu_list.h"
#include "dataplane/port/port.h"
#include "storage/base/counted.h"
#include "storage/io/durability_probe.h"
#include "tools/penstock/data_directories.h"
#include "tools/penstock/device_checks.h"
#include "tools/penstock/machine_checks.h"
#include "tools/penstock/secret_checks.h"

namespace penstock {
namespace {

constexpr std::uint64_t mebibyte = 1ULL << 20;
// Below this the node would soon push back: one container and the journals of a default set.
constexpr std::uint64_t free_bytes_min = 1024 * mebibyte;

[[nodiscard]] KernelAnswers ask_kernel() {
    KernelAnswers answers;
    io_uring_params params{};
    const long ring = ::syscall(SYS_io_uring_setup, 4, &params);
    if (ring >= 0) {
        ::close(static_cast<int>(ring));
    } else {
        answers.ring_errno = errno;
    }
    timex clock{};
    const int state = ::adjtimex(&clock);
    answers.clock_synchronised =
        state >= 0 && state != TIME_ERROR && (clock.status & STA_UNSYNC) == 0;
    answers.clock_error_us_max = static_cast<std::uint64_t>(clock.maxerror);
    return answers;
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

void look_at_directory(const std::string& directory, Findings& findings) {
    const std::string at = existing_part(directory);
    const int fd = ::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        findings.push_back({FindingLevel::error, "drive-open", directory,
                            "cannot be opened: " + std::string(std::strerror(errno)),
                            "ls -ld " + at});
        return;
    }
    const DurabilityReport report = probe_durability(fd);
    ::close(fd);
    if (!report.status) {
        findings.push_back({FindingLevel::error, "drive-flush", directory,
                            "its flush cannot be measured: " + describe(report.status.error()),
                            "chown $(id -u) " + at});
    } else {
        const bool warn = report.suspicious;
        findings.push_back({warn ? FindingLevel::warning : FindingLevel::ok, "drive-flush",
                            directory, report.describe(),
                            warn ? "hdparm -W0 /dev/" + report.device : ""});
        if (!report.direct) {
            findings.push_back({FindingLevel::warning, "drive-direct", directory,
                                "the file system has no O_DIRECT (" + report.file_system +
                                    "); writes go through the page cache",
                                "mkfs.xfs /dev/DEVICE && mount /dev/DEVICE " + at});
        }
    }
    struct statvfs space{};
    if (::statvfs(at.c_str(), &space) == 0) {
        const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
        const bool low = free < free_bytes_min;
        findings.push_back({low ? FindingLevel::error : FindingLevel::ok, "drive-space", directory,
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
        findings.push_back({FindingLevel::ok, "failure-domains", "",
                            "the three replicas are on three file systems", ""});
        return;
    }
    findings.push_back({FindingLevel::warning, "failure-domains", "",
                        "the three replicas share " + counted(devices.size(), "file system") +
                            ": losing one drive can lose two replicas",
                        "penstock serve --data DRIVE1 --data DRIVE2 --data DRIVE3"});
}

[[nodiscard]] std::string numbers_of(const std::string& directory) {
    struct stat info{};
    if (::stat(existing_part(directory).c_str(), &info) != 0) {
        return "";
    }
    return std::to_string(major(info.st_dev)) + ":" + std::to_string(minor(info.st_dev));
}

// What stands in the options; the error is one line.
[[nodiscard]] std::expected<Deployment, std::string> deployment_of(const DoctorOptions& options,
                                                                   const MachineTree& tree) {
    Deployment deployment;
    deployment.ports = options.ports;
    std::string why;
    for (const std::string& port : options.ports) {
        if (!port_kind(port, why)) {
            return std::unexpected("--port: " + why);
        }
    }
    if (!options.lanes.empty()) {
        const auto cpus = parse_cpu_list(options.lanes, why);
        if (!cpus) {
            return std::unexpected("--lanes: " + why);
        }
        deployment.lane_cpus = *cpus;
    } else if (const auto allowed = tree.allowed_cpus(); !allowed.empty()) {
        deployment.lane_cpus = {allowed.back()};  // as serve has it
    } else {
        deployment.lane_cpus = {0};
    }
    return deployment;
}

}  // namespace

Findings examine_machine(const MachineTree& tree, const Deployment& deployment,
                         const KernelAnswers& kernel) {
    Findings findings;
    check_cpus(tree, deployment, findings);
    check_isolation(tree, deployment, findings);
    check_governor(tree, deployment, findings);
    check_interrupts(tree, deployment, findings);
    check_hugepages(tree, deployment, findings);
    check_memlock(tree, findings);
    check_io_uring(tree, kernel, findings);
    check_clock(tree, kernel, findings);
    check_iommu(tree, deployment, findings);
    check_routes(tree, findings);
    check_ports(tree, deployment, findings);
    std::set<std::string> seen;
    for (const std::string& drive : deployment.drives) {
        check_drive(tree, deployment, drive, seen, findings);
    }
    return findings;
}

int doctor(const DoctorOptions& options, std::ostream& out, std::ostream& err) {
    const MachineTree tree;
    auto deployment = deployment_of(options, tree);
    if (!deployment) {
        err << "penstock doctor: " << deployment.error() << '\n';
        return 2;
    }
    std::array<std::string, replica_count> directories;
    if (!options.data.empty()) {
        const auto expanded = expand_data_directories(options.data);
        if (!expanded) {
            err << "penstock doctor: " << expanded.error() << '\n';
            return 2;
        }
        directories = *expanded;
        for (const std::string& directory : directories) {
            deployment->drives.push_back(numbers_of(directory));
        }
    }
    Findings findings = examine_machine(tree, *deployment, ask_kernel());
    if (!options.data.empty()) {
        look_at_sharing(directories, findings);
        for (const std::string& directory : directories) {
            look_at_directory(directory, findings);
        }
    }
    const auto places = std::span(directories).first(options.data.empty() ? 0 : directories.size());
    if (!options.key_file.empty()) {
        check_key_file(options.key_file, places, findings);
    }
    if (!options.keys_file.empty()) {
        check_keys_file(options.keys_file, places, findings);
    }
    options.json ? print_json(findings, out) : print_text(findings, out);
    return count_of(findings, FindingLevel::error) != 0 ? 1 : 0;
}

}  // namespace penstock
