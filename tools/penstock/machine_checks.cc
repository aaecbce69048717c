#include "tools/penstock/machine_checks.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <map>

namespace penstock {
namespace {

using enum FindingLevel;

constexpr std::uint64_t mebibyte = 1ULL << 20;
// What the rings' registered buffers of a default lane need, with room.
constexpr std::uint64_t memlock_bytes_min = 256 * mebibyte;
// Packet memory and I/O buffers of a few default lanes.
constexpr std::uint64_t huge_kib_min = 512 * 1024;
constexpr const char* cpu_dir = "/sys/devices/system/cpu";

// "CPU 3", "CPUs 2,3"
[[nodiscard]] std::string cpus_named(const std::vector<unsigned>& cpus) {
    return (cpus.size() == 1 ? "CPU " : "CPUs ") + cpu_text(cpus);
}

// 2, or {2,3} for the shell.
[[nodiscard]] std::string cpu_glob(const std::vector<unsigned>& cpus) {
    return cpus.size() == 1 ? cpu_text(cpus) : "{" + cpu_text(cpus) + "}";
}

struct HugePages {
    std::uint64_t count = 0;
    std::uint64_t free_kib = 0;
    std::uint64_t total_kib = 0;
    std::uint64_t count_2m = 0;
};

[[nodiscard]] HugePages huge_pages_in(const MachineTree& tree, const std::string& directory) {
    HugePages found;
    for (const std::string& name : tree.list(directory)) {
        if (!name.starts_with("hugepages-")) {
            continue;
        }
        std::uint64_t size_kib = 0;
        for (const char c : name.substr(std::strlen("hugepages-"))) {
            if (std::isdigit(static_cast<unsigned char>(c)) == 0) {
                break;
            }
            size_kib = size_kib * 10 + static_cast<std::uint64_t>(c - '0');
        }
        const std::string at = directory + "/" + name;
        const std::uint64_t count = tree.number(at + "/nr_hugepages");
        found.count += count;
        found.total_kib += count * size_kib;
        found.free_kib += tree.number(at + "/free_hugepages") * size_kib;
        found.count_2m += size_kib == 2048 ? count : 0;
    }
    return found;
}

// A drive's own queue, which interrupts the CPU that wrote: a lane wants that.
[[nodiscard]] bool is_drive_queue(const std::string& action) {
    return (action.starts_with("nvme") && action.find('q') != std::string::npos) ||
           action.find("-req.") != std::string::npos;
}

// What interrupts the CPUs: number and action of each, but for idle lines and drive queues.
[[nodiscard]] std::map<unsigned long, std::string> interrupts_on(
    const MachineTree& tree, const std::vector<unsigned>& cpus) {
    std::map<unsigned long, std::string> found;
    for (const std::string& number : tree.list("/proc/irq")) {
        const std::string at = "/proc/irq/" + number;
        if (number.find_first_not_of("0123456789") != std::string::npos) {
            continue;
        }
        std::string action;
        for (const std::string& name : tree.list(at)) {
            if (tree.is_directory(at + "/" + name)) {
                action = name;
            }
        }
        const bool effective = tree.exists(at + "/effective_affinity_list");
        const auto own =
            tree.cpus(at + (effective ? "/effective_affinity_list" : "/smp_affinity_list"));
        if (!action.empty() && !is_drive_queue(action) && without(own, cpus).size() < own.size()) {
            found[std::stoul(number)] = action;
        }
    }
    return found;
}

[[nodiscard]] bool runs(const MachineTree& tree, const std::string& program) {
    return std::ranges::any_of(tree.list("/proc"), [&](const std::string& name) {
        return std::isdigit(static_cast<unsigned char>(name.front())) != 0 &&
               tree.line("/proc/" + name + "/comm") == program;
    });
}

}  // namespace

std::string boot_argument(const std::string& name, const std::string& argument) {
    return "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX " + argument +
           "\"' > /etc/default/grub.d/penstock-" + name + ".cfg && update-grub";
}

std::optional<std::string> pci_address_of(const std::string& port) {
    const std::string device = port.substr(0, port.find(','));
    std::string shape;
    for (const char c : device) {
        shape += std::isxdigit(static_cast<unsigned char>(c)) != 0 ? 'h' : c;
    }
    if (shape == "hh:hh.h") {
        return "0000:" + device;
    }
    return shape == "hhhh:hh:hh.h" ? std::optional(device) : std::nullopt;
}

void check_cpus(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    const auto allowed = tree.allowed_cpus();
    const auto online = tree.cpus(std::string(cpu_dir) + "/online");
    const std::string lanes = cpu_text(deployment.lane_cpus);
    if (const auto absent = without(deployment.lane_cpus, online);
        !absent.empty() && !online.empty()) {
        findings.push_back({error, "lane-cpus", "",
                            "this machine has no " + cpus_named(absent) + "; online are " +
                                tree.line(std::string(cpu_dir) + "/online"),
                            "lscpu -e"});
    } else if (const auto barred = without(deployment.lane_cpus, allowed); !barred.empty()) {
        // With isolcpus= the kernel starts everything outside the isolated CPUs.
        findings.push_back({error, "lane-cpus", "",
                            "this process may run on " + cpu_text(allowed) + ", not on " +
                                cpus_named(barred) + " (isolcpus or a cpuset keeps it off)",
                            "taskset -c " + cpu_text(online) + " penstock serve --lanes " + lanes});
    } else if (without(allowed, deployment.lane_cpus).empty()) {
        findings.push_back({warning, "lane-cpus", "",
                            "lanes have " + cpus_named(deployment.lane_cpus) +
                                ", and the control threads no other: they will share",
                            "taskset -pc " + tree.line(std::string(cpu_dir) + "/online") + " $$"});
    } else {
        findings.push_back({ok, "lane-cpus", "",
                            "lanes on " + cpus_named(deployment.lane_cpus) + " of the " +
                                std::to_string(allowed.size()) + " this process may run on",
                            ""});
    }
}

void check_isolation(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    const auto& lanes = deployment.lane_cpus;
    const auto shared = without(lanes, tree.cpus(std::string(cpu_dir) + "/isolated"));
    if (shared.empty()) {
        findings.push_back({ok, "isolated-cpus", "", "the lanes' CPUs are isolated", ""});
    } else {
        findings.push_back({note, "isolated-cpus", "",
                            "the scheduler puts other work on " + cpus_named(shared) +
                                ", which lanes use (mending takes a reboot)",
                            boot_argument("isolated-cpus", "isolcpus=" + cpu_text(lanes))});
    }
    const std::string file = std::string(cpu_dir) + "/nohz_full";
    const auto ticking = without(lanes, tree.cpus(file));
    if (!tree.exists(file)) {
        findings.push_back({ok, "nohz-full", "", "this kernel has no nohz_full", ""});
    } else if (ticking.empty()) {
        findings.push_back({ok, "nohz-full", "", "no timer tick on the lanes' CPUs", ""});
    } else {
        findings.push_back({note, "nohz-full", "",
                            "the timer tick interrupts " + cpus_named(ticking) +
                                ", which lanes use (mending takes a reboot)",
                            boot_argument("nohz-full", "nohz_full=" + cpu_text(lanes) +
                                                           " rcu_nocbs=" + cpu_text(lanes))});
    }
}

void check_governor(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    std::vector<unsigned> slow;
    std::string governor;
    bool any = false;
    for (const unsigned cpu : deployment.lane_cpus) {
        const std::string found = tree.line(std::string(cpu_dir) + "/cpu" + std::to_string(cpu) +
                                            "/cpufreq/scaling_governor");
        any = any || !found.empty();
        if (!found.empty() && found != "performance") {
            slow.push_back(cpu);
            governor = found;
        }
    }
    if (slow.empty()) {
        findings.push_back({ok, "cpu-governor", "",
                            any ? "the lanes' CPUs keep their speed (performance)"
                                : "nothing here changes the CPUs' speed",
                            ""});
        return;
    }
    findings.push_back(
        {warning, "cpu-governor", "",
         cpus_named(slow) + ", which lanes use, may slow down when idle (" + governor + ")",
         "echo performance | tee " + std::string(cpu_dir) + "/cpu" + cpu_glob(slow) +
             "/cpufreq/scaling_governor"});
}

void check_interrupts(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    const auto& lanes = deployment.lane_cpus;
    const auto rest = without(tree.cpus(std::string(cpu_dir) + "/online"), lanes);
    const auto found = interrupts_on(tree, lanes);
    if (found.empty() || rest.empty()) {
        findings.push_back({ok, "interrupts", "",
                            rest.empty() ? "every CPU has a lane, so interrupts hit one"
                                         : "no device but drives interrupts the lanes' CPUs",
                            ""});
    } else {
        std::string numbers;
        std::string names;
        for (const auto& [number, action] : found) {
            numbers += " " + std::to_string(number);
            names += (names.empty() ? "" : ", ") + action;
        }
        findings.push_back(
            {note, "interrupts", "",
             "on " + cpus_named(lanes) + ", which lanes use, arrive those of " + names,
             "for i in" + numbers + "; do echo " + cpu_text(rest) +
                 " > /proc/irq/$i/smp_affinity_list; done"});
    }
    // It keeps off isolated CPUs by itself.
    const auto open = without(lanes, tree.cpus(std::string(cpu_dir) + "/isolated"));
    if (!open.empty() && runs(tree, "irqbalance")) {
        findings.push_back(
            {note, "irqbalance", "",
             "irqbalance may move interrupts to " + cpus_named(open) + ", which lanes use",
             "echo IRQBALANCE_BANNED_CPULIST=" + cpu_text(lanes) +
                 " >> /etc/default/irqbalance && systemctl restart irqbalance"});
    }
}

void check_hugepages(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    struct Place {
        std::string about;
        std::string directory;
        std::string why;
    };
    std::map<unsigned, std::string> wanted;
    for (const unsigned cpu : deployment.lane_cpus) {
        if (const auto node = tree.node_of_cpu(cpu)) {
            wanted.emplace(*node, "where CPU " + std::to_string(cpu) + " has a lane");
        }
    }
    bool hardware = false;
    for (const std::string& port : deployment.ports) {
        if (const auto address = pci_address_of(port)) {
            hardware = true;
            if (const auto node = tree.node_of_device("/sys/bus/pci/devices/" + *address)) {
                wanted.emplace(*node, "where the NIC " + *address + " is");
            }
        }
    }
    const std::string whole = "/sys/kernel/mm/hugepages";
    std::vector<Place> places;
    for (const auto& [node, why] : wanted) {
        const std::string name = "node" + std::to_string(node);
        const std::string directory = "/sys/devices/system/node/" + name + "/hugepages";
        if (tree.is_directory(directory)) {
            places.push_back({name, directory, why});
        }
    }
    if (places.empty()) {
        places.push_back({"", whole, "on this machine"});
    }
    const bool none = huge_pages_in(tree, whole).count == 0;
    for (const Place& place : places) {
        const HugePages pages = huge_pages_in(tree, place.directory);
        const std::string text = std::to_string(pages.free_kib / 1024) + " MiB free of " +
                                 std::to_string(pages.total_kib / 1024) + " MiB in huge pages, " +
                                 place.why;
        if (pages.free_kib >= huge_kib_min) {
            findings.push_back({ok, "hugepages", place.about, text, ""});
            continue;
        }
        const std::uint64_t count = pages.count_2m + (huge_kib_min - pages.free_kib + 2047) / 2048;
        const bool fatal = hardware && none;
        findings.push_back({fatal ? error : warning, "hugepages", place.about,
                            text + (fatal ? "; a NIC bound to vfio-pci needs them"
                                          : "; the node works without, slower"),
                            tree.is_directory(place.directory + "/hugepages-2048kB")
                                ? "echo " + std::to_string(count) + " > " + place.directory +
                                      "/hugepages-2048kB/nr_hugepages"
                                : "sysctl -w vm.nr_hugepages=" + std::to_string(count)});
    }
}

void check_memlock(const MachineTree& tree, Findings& findings) {
    const std::string limits = tree.value("/proc/self/limits", "Max locked memory");
    const std::string soft = limits.substr(0, limits.find(' '));
    const bool unlimited = soft == "unlimited";
    const std::uint64_t bytes = std::strtoull(soft.c_str(), nullptr, 10);
    // "Uid: real effective saved file"; the kernel does not count locked memory of root.
    const std::string uids = tree.value("/proc/self/status", "Uid");
    const auto tab = uids.find_first_of(" \t");
    const bool root = tab != std::string::npos && std::strtoul(&uids[tab], nullptr, 10) == 0;
    const std::string text =
        unlimited ? "locked memory is not limited"
                  : "locked memory is limited to " + std::to_string(bytes / mebibyte) + " MiB";
    if (unlimited || root || bytes >= memlock_bytes_min) {
        findings.push_back(
            {ok, "memlock", "", text + (root && !unlimited ? ", but not for root" : ""), ""});
        return;
    }
    findings.push_back({warning, "memlock", "", text + "; I/O buffers will not be registered",
                        "prlimit --pid $$ --memlock=unlimited:unlimited"});
}

void check_io_uring(const MachineTree& tree, const KernelAnswers& kernel, Findings& findings) {
    const std::uint64_t disabled = tree.number("/proc/sys/kernel/io_uring_disabled");
    const std::string setting = "kernel.io_uring_disabled is " + std::to_string(disabled);
    const std::string allow = "sysctl -w kernel.io_uring_disabled=0";
    if (disabled >= 2) {
        findings.push_back({error, "io-uring", "", "io_uring is switched off: " + setting, allow});
    } else if (kernel.ring_errno == 0 && disabled == 0) {
        findings.push_back({ok, "io-uring", "", "io_uring is allowed", ""});
    } else if (kernel.ring_errno == 0) {
        findings.push_back(
            {note, "io-uring", "", "only privileged processes may use it: " + setting, allow});
    } else if (disabled == 1) {
        findings.push_back({error, "io-uring", "", "not allowed to this user: " + setting, allow});
    } else {
        const bool memory = kernel.ring_errno == ENOMEM;
        findings.push_back({error, "io-uring", "",
                            std::string("a ring cannot be made: ") +
                                std::strerror(kernel.ring_errno) +
                                (memory ? "" : "; a container's seccomp profile may forbid it"),
                            memory ? "prlimit --pid $$ --memlock=unlimited:unlimited"
                                   : "docker run --security-opt seccomp=unconfined ..."});
    }
}

void check_clock(const MachineTree& tree, const KernelAnswers& kernel, Findings& findings) {
    if (kernel.clock_synchronised) {
        findings.push_back({ok, "clock-sync", "",
                            "the clock is synchronised, at most " +
                                std::to_string(kernel.clock_error_us_max) + " us off",
                            ""});
    } else {
        findings.push_back({warning, "clock-sync", "",
                            "nothing keeps the clock right; arrival times, retention and iterators "
                            "by time depend on it",
                            "timedatectl set-ntp true"});
    }
    const std::string directory = "/sys/devices/system/clocksource/clocksource0";
    const std::string source = tree.line(directory + "/current_clocksource");
    const std::string others = " " + tree.line(directory + "/available_clocksource") + " ";
    const bool slow = source == "hpet" || source == "acpi_pm" || source == "jiffies";
    if (!slow) {
        findings.push_back(
            {ok, "clock-source", "", source.empty() ? "the kernel does not say" : source, ""});
        return;
    }
    const bool tsc = others.find(" tsc ") != std::string::npos;
    findings.push_back({warning, "clock-source", "",
                        source + ": every look at the clock asks a slow device" +
                            (tsc ? ""
                                 : "; the kernel distrusts the CPU's own (mending takes a "
                                   "reboot)"),
                        tsc ? "echo tsc > " + directory + "/current_clocksource"
                            : boot_argument("clock", "tsc=reliable clocksource=tsc")});
}

}  // namespace penstock
