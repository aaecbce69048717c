#include "tools/penstock/doctor.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/unit/control/auth/scratch.h"
#include "tools/penstock/secret_checks.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

const std::string nic = "0000:41:00.0";
const std::string nic_dir = "/sys/devices/pci0000:40/0000:40:01.0/" + nic;
const std::string drive_dir = "/sys/devices/pci0000:40/0000:42:00.0/nvme/nvme0/nvme0n1";
const std::string cpu_dir = "/sys/devices/system/cpu/";

// A machine laid out in a directory: two NUMA nodes of four CPUs each, lanes on CPUs 6 and 7 of the
// second, as are the NIC and the drive, everything as it should be.
class FakeMachine {
public:
    FakeMachine() {
        std::string path = (fs::temp_directory_path() / "penstock-doctor-XXXXXX").string();
        root_ = ::mkdtemp(path.data());
        cpus();
        memory();
        devices();
    }
    ~FakeMachine() { fs::remove_all(root_); }
    FakeMachine(const FakeMachine&) = delete;
    FakeMachine& operator=(const FakeMachine&) = delete;

    void file(const std::string& path, const std::string& text) {
        fs::create_directories((root_ + path).substr(0, (root_ + path).rfind('/')));
        std::ofstream(root_ + path) << text << '\n';
    }
    void directory(const std::string& path) { fs::create_directories(root_ + path); }
    // Both are paths of the machine.
    void link(const std::string& from, const std::string& to) {
        directory(to);
        fs::create_directories((root_ + from).substr(0, (root_ + from).rfind('/')));
        fs::remove(root_ + from);
        fs::create_symlink(
            fs::relative(root_ + to, (root_ + from).substr(0, (root_ + from).rfind('/'))),
            root_ + from);
    }
    void remove(const std::string& path) { fs::remove_all(root_ + path); }
    void driver(const std::string& device, const std::string& name) {
        link(device + "/driver", "/sys/bus/pci/drivers/" + name);
    }
    void interrupt(unsigned number, const std::string& action, const std::string& cpus) {
        const std::string at = "/proc/irq/" + std::to_string(number);
        directory(at + "/" + action);
        file(at + "/effective_affinity_list", cpus);
    }
    [[nodiscard]] const std::string& root() const { return root_; }

private:
    void cpus() {
        file(cpu_dir + "online", "0-7");
        file(cpu_dir + "isolated", "6-7");
        file(cpu_dir + "nohz_full", "6-7");
        file("/proc/self/status",
             "Name:\tdoctor\nUid:\t1000\t1000\t1000\t1000\n"
             "Cpus_allowed:\tff\nCpus_allowed_list:\t0-7");
        for (unsigned cpu = 0; cpu < 8; ++cpu) {
            file(cpu_dir + "cpu" + std::to_string(cpu) + "/cpufreq/scaling_governor",
                 cpu < 6 ? "powersave" : "performance");
        }
        file("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme");
        interrupt(24, "ttyS0", "0");
        interrupt(25, "nvme0q7", "6");
        interrupt(26, "virtio1-req.0", "7");
        const std::string clock = "/sys/devices/system/clocksource/clocksource0/";
        file(clock + "current_clocksource", "tsc");
        file(clock + "available_clocksource", "tsc hpet acpi_pm");
    }
    void memory() {
        for (const std::string node : {"0", "1"}) {
            const std::string at = "/sys/devices/system/node/node" + node;
            file(at + "/cpulist", node == "0" ? "0-3" : "4-7");
            for (const std::string which : {"nr", "free"}) {
                file(at + "/hugepages/hugepages-2048kB/" + which + "_hugepages",
                     node == "0" ? "0" : "300");
            }
        }
        file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "300");
        file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "300");
        file("/proc/self/limits",
             "Limit                     Soft Limit           Hard Limit           Units\n"
             "Max locked memory         unlimited            unlimited            bytes");
        file("/proc/sys/kernel/io_uring_disabled", "0");
    }
    void devices() {
        link("/sys/bus/pci/devices/" + nic, nic_dir);
        file(nic_dir + "/class", "0x020000");
        file(nic_dir + "/numa_node", "1");
        driver(nic_dir, "vfio-pci");
        link("/sys/kernel/iommu_groups/17/devices/" + nic, nic_dir);
        link(nic_dir + "/iommu_group", "/sys/kernel/iommu_groups/17");
        directory("/sys/class/net/lan0/device");
        file("/sys/class/net/lan0/operstate", "up");
        file("/proc/net/route",
             "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
             "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000");
        file(drive_dir + "/nvme0n1p1/partition", "1");
        file(drive_dir + "/queue/scheduler", "[none] mq-deadline kyber");
        file(drive_dir + "/queue/rotational", "0");
        file(drive_dir + "/queue/write_cache", "write through");
        file(drive_dir + "/queue/fua", "0");
        file(drive_dir + "/../transport", "pcie");
        file(drive_dir + "/../power/pm_qos_latency_tolerance_us", "0");
        file(drive_dir + "/../../../numa_node", "1");
        link("/sys/dev/block/259:1", drive_dir + "/nvme0n1p1");
    }
    std::string root_;
};

struct Case {
    const char* name;
    std::function<void(FakeMachine&, Deployment&, KernelAnswers&)> change;
    // What is then no longer ok: "level id [about]" and words of the mending command.
    std::vector<std::pair<std::string, std::string>> expected;
};

using M = FakeMachine;
using D = Deployment;
using K = KernelAnswers;

const std::vector<Case>& cpu_cases() {
    static const std::vector<Case> cases{
        {"AbsentCpu",
         [](M&, D& d, K&) { d.lane_cpus = {6, 8}; },
         {{"error lane-cpus", "lscpu"},
          {"note isolated-cpus", "isolcpus=6,8"},
          {"note nohz-full", "nohz_full=6,8"}}},
        {"CpuOutsideOfOurAffinityAsIsolcpusLeavesIt",
         [](M& m, D&, K&) { m.file("/proc/self/status", "Cpus_allowed_list:\t0-5"); },
         {
             {"error lane-cpus", "taskset -c 0,1,2,3,4,5,6,7 penstock serve --lanes 6,7"},
         }},
        {"NoCpuLeftForControlThreads",
         [](M& m, D&, K&) { m.file("/proc/self/status", "Cpus_allowed_list:\t6-7"); },
         {{"warning lane-cpus", "taskset -pc 0-7 $$"}}},
        {"NothingIsolated",
         [](M& m, D&, K&) { m.file(cpu_dir + "isolated", ""); },
         {{"note isolated-cpus", "isolcpus=6,7"}}},
        {"OneOfTwoIsolated",
         [](M& m, D&, K&) { m.file(cpu_dir + "isolated", "2,7"); },
         {{"note isolated-cpus", "isolcpus=6,7"}}},
        {"TickOnLanes",
         [](M& m, D&, K&) { m.file(cpu_dir + "nohz_full", "(null)"); },
         {{"note nohz-full", "nohz_full=6,7 rcu_nocbs=6,7"}}},
        {"KernelWithoutNohzFull", [](M& m, D&, K&) { m.remove(cpu_dir + "nohz_full"); }, {}},
        {"GovernorOfOneLane",
         [](M& m, D&, K&) { m.file(cpu_dir + "cpu7/cpufreq/scaling_governor", "schedutil"); },
         {{"warning cpu-governor", "cpu7/cpufreq/scaling_governor"}}},
        {"GovernorOfBothLanes",
         [](M& m, D&, K&) {
             m.file(cpu_dir + "cpu6/cpufreq/scaling_governor", "powersave");
             m.file(cpu_dir + "cpu7/cpufreq/scaling_governor", "powersave");
         },
         {{"warning cpu-governor", "cpu{6,7}/cpufreq/scaling_governor"}}},
        {"VirtualCpusHaveNoGovernor", [](M& m, D&, K&) { m.remove(cpu_dir + "cpu6/cpufreq"); }, {}},
        {"InterruptsOnLanes",
         [](M& m, D&, K&) {
             m.interrupt(30, "eth0-TxRx-3", "6");
             m.interrupt(31, "ahci[0000:00:17.0]", "4-7");
             m.interrupt(32, "eth0-TxRx-4", "5");
         },
         {{"note interrupts", "for i in 30 31; do echo 0,1,2,3,4,5 >"}}},
        {"InterruptLineThatNobodyUsesDoesNotCount",
         [](M& m, D&, K&) { m.file("/proc/irq/33/smp_affinity_list", "0-7"); },
         {}},
        {"IrqbalanceLeavesIsolatedCpusAlone",
         [](M& m, D&, K&) { m.file("/proc/812/comm", "irqbalance"); },
         {}},
        {"IrqbalanceAndNothingIsolated",
         [](M& m, D&, K&) {
             m.file("/proc/812/comm", "irqbalance");
             m.file(cpu_dir + "isolated", "");
         },
         {{"note isolated-cpus", ""}, {"note irqbalance", "BANNED_CPULIST=6,7"}}},
    };
    return cases;
}

const std::vector<Case>& kernel_cases() {
    const static std::string node1 = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/";
    static const std::vector<Case> cases{
        {"TooFewHugePagesOnTheNode",
         [](M& m, D&, K&) { m.file(node1 + "free_hugepages", "10"); },
         {{"warning hugepages node1", "echo 546 > " + node1 + "nr_hugepages"}}},
        {"HugePagesOfOneGigabyteCount",
         [](M& m, D&, K&) {
             m.file(node1 + "free_hugepages", "0");
             m.file(node1 + "../hugepages-1048576kB/nr_hugepages", "1");
             m.file(node1 + "../hugepages-1048576kB/free_hugepages", "1");
         },
         {}},
        {"NoHugePagesForANic",
         [](M& m, D&, K&) {
             m.file(node1 + "nr_hugepages", "0");
             m.file(node1 + "free_hugepages", "0");
             m.file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
         },
         {{"error hugepages node1", "echo 256 > " + node1 + "nr_hugepages"}}},
        {"NoNumaNodesShown",
         [](M& m, D&, K&) {
             m.remove("/sys/devices/system/node");
             m.file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "5");
             m.file(nic_dir + "/numa_node", "-1");
         },
         {{"warning hugepages", "> /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"}}},
        {"LockedMemoryLimited",
         [](M& m, D&, K&) {
             m.file("/proc/self/limits", "Max locked memory         8388608  8388608  bytes");
         },
         {{"warning memlock", "--memlock=unlimited"}}},
        {"LockedMemoryLimitedButWeAreRoot",
         [](M& m, D&, K&) {
             m.file("/proc/self/limits", "Max locked memory         8388608  8388608  bytes");
             m.file("/proc/self/status", "Uid:\t0\t0\t0\t0\nCpus_allowed_list:\t0-7");
         },
         {}},
        {"UringOff",
         [](M& m, D&, K& k) {
             m.file("/proc/sys/kernel/io_uring_disabled", "2");
             k.ring_errno = EPERM;
         },
         {{"error io-uring", "sysctl -w kernel.io_uring_disabled=0"}}},
        {"UringForThePrivileged",
         [](M& m, D&, K&) { m.file("/proc/sys/kernel/io_uring_disabled", "1"); },
         {{"note io-uring", "sysctl -w"}}},
        {"UringNotForUs",
         [](M& m, D&, K& k) {
             m.file("/proc/sys/kernel/io_uring_disabled", "1");
             k.ring_errno = EPERM;
         },
         {{"error io-uring", "sysctl -w"}}},
        {"UringForbiddenByAContainer",
         [](M&, D&, K& k) { k.ring_errno = EPERM; },
         {{"error io-uring", "seccomp=unconfined"}}},
        {"UringWithoutLockedMemory",
         [](M&, D&, K& k) { k.ring_errno = ENOMEM; },
         {{"error io-uring", "--memlock=unlimited"}}},
        {"ClockAdrift",
         [](M&, D&, K& k) { k.clock_synchronised = false; },
         {{"warning clock-sync", "timedatectl set-ntp true"}}},
        {"ClockFromASlowDevice",
         [](M& m, D&, K&) {
             m.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
         },
         {{"warning clock-source", "echo tsc >"}}},
        {"ClockThatTheKernelDistrusts",
         [](M& m, D&, K&) {
             const std::string at = "/sys/devices/system/clocksource/clocksource0/";
             m.file(at + "current_clocksource", "acpi_pm");
             m.file(at + "available_clocksource", "hpet acpi_pm");
         },
         {{"warning clock-source", "tsc=reliable"}}},
    };
    return cases;
}

const std::vector<Case>& port_cases() {
    static const std::vector<Case> cases{
        {"IommuOff",
         [](M& m, D&, K&) { m.remove("/sys/kernel/iommu_groups"); },
         {{"error iommu", "intel_iommu=on iommu=pt"}}},
        {"IommuOffOnAmd",
         [](M& m, D&, K&) {
             m.remove("/sys/kernel/iommu_groups");
             m.file("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t: fpu");
         },
         {{"error iommu", "GRUB_CMDLINE_LINUX iommu=pt"}}},
        {"IommuOffInAVirtualMachine",
         [](M& m, D&, K&) {
             m.remove("/sys/kernel/iommu_groups");
             m.file("/proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t: fpu hypervisor vmx");
         },
         {{"error iommu", "enable_unsafe_noiommu_mode=1"}}},
        {"IommuDoneWithout",
         [](M& m, D&, K&) {
             m.remove("/sys/kernel/iommu_groups");
             m.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
         },
         {{"warning iommu", "iommu=pt"}}},
        {"IommuOffAndNoPortWantsIt",
         [](M& m, D& d, K&) {
             m.remove("/sys/kernel/iommu_groups");
             d.ports = {"kernel:127.0.0.1"};
         },
         {}},
        {"NicOfTheKernel",
         [](M& m, D&, K&) { m.driver(nic_dir, "ice"); },
         {{"error port-driver " + nic, "dpdk-devbind.py --bind=vfio-pci " + nic}}},
        {"NicWithoutDriver",
         [](M& m, D&, K&) { m.remove(nic_dir + "/driver"); },
         {{"error port-driver " + nic, "--bind=vfio-pci"}}},
        {"NicWithUio",
         [](M& m, D&, K&) { m.driver(nic_dir, "igb_uio"); },
         {{"warning port-driver " + nic, "--bind=vfio-pci"}}},
        {"NicThatStaysWithItsDriver",
         [](M& m, D&, K&) {
             m.driver(nic_dir, "mlx5_core");
             m.remove("/sys/kernel/iommu_groups");
             m.remove("/sys/bus/pci/drivers/vfio-pci");
         },
         {}},
        {"NicWithTheDefaultRouteBehindVirtio",
         [](M& m, D&, K&) {
             m.driver(nic_dir, "virtio-pci");
             m.link("/sys/class/net/eth0/device", nic_dir + "/virtio2");
         },
         {{"error port-driver " + nic, "lspci"}}},
        {"NicAbsent",
         [](M&, D& d, K&) { d.ports = {"41:00.1,arg=1"}; },
         {{"error port-driver 0000:41:00.1", "lspci"}}},
        {"NoNicAtThatAddress",
         [](M& m, D&, K&) { m.file(nic_dir + "/class", "0x010802"); },
         {{"error port-driver " + nic, "lspci"}}},
        {"VfioNotLoaded",
         [](M& m, D&, K&) {
             m.remove(nic_dir + "/driver");
             m.remove("/sys/bus/pci/drivers/vfio-pci");
         },
         {{"error vfio", "modprobe vfio-pci"}, {"error port-driver " + nic, ""}}},
        {"GroupSharedWithTheKernel",
         [](M& m, D&, K&) {
             const std::string other = "0000:41:00.1";
             const std::string at = "/sys/devices/pci0000:40/" + other;
             m.link("/sys/kernel/iommu_groups/17/devices/" + other, at);
             m.link("/sys/bus/pci/devices/" + other, at);
             m.driver(at, "ice");
         },
         {{"error iommu-group " + nic, "echo 0000:41:00.1 > "}}},
        {"NicFarFromLanes",
         [](M& m, D&, K&) { m.file(nic_dir + "/numa_node", "0"); },
         // Its memory has to be there, too.
         {{"warning hugepages node0", "node0/hugepages/hugepages-2048kB"},
          {"warning numa " + nic, "--lanes 2,3"}}},
        {"NicOfUnknownPlace", [](M& m, D&, K&) { m.file(nic_dir + "/numa_node", "-1"); }, {}},
        {"InterfaceIsDown",
         [](M& m, D& d, K&) {
             d.ports = {"net_af_packet0,iface=lan0"};
             m.file("/sys/class/net/lan0/operstate", "down");
         },
         {{"warning port-interface lan0", "ip link set lan0 up"}}},
        {"InterfaceIsAbsent",
         [](M&, D& d, K&) { d.ports = {"net_af_xdp0,iface=lan7,x=1"}; },
         {{"error port-interface lan7", "ip link"}}},
        {"InterfaceHasTheDefaultRoute",
         [](M& m, D& d, K&) {
             m.directory("/sys/class/net/eth0");
             d.ports = {"net_af_packet0,iface=eth0"};
         },
         {{"error port-interface eth0", "ip route"}}},
        {"InterfaceHasTheSixDefaultRoute",
         [](M& m, D& d, K&) {
             const std::string zeros(32, '0');
             m.file("/proc/net/ipv6_route", zeros + " 00 " + zeros + " 00 " + zeros +
                                                " 00000400 00000001 00000000 00000003 lan0");
             d.ports = {"net_af_packet0,iface=lan0"};
         },
         {{"error port-interface lan0", "ip route"}}},
    };
    return cases;
}

const std::vector<Case>& drive_cases() {
    static const std::vector<Case> cases{
        {"SchedulerOnFlash",
         [](M& m, D&, K&) { m.file(drive_dir + "/queue/scheduler", "none [mq-deadline]"); },
         {{"note drive-scheduler nvme0n1", "echo none > /sys/block/nvme0n1/queue/scheduler"}}},
        {"SpinningDisk",
         [](M& m, D&, K&) {
             m.file(drive_dir + "/queue/rotational", "1");
             m.file(drive_dir + "/queue/scheduler", "none [mq-deadline]");
         },
         {{"warning drive-kind nvme0n1", "lsblk"}}},
        {"VolatileCacheWithoutFua",
         [](M& m, D&, K&) { m.file(drive_dir + "/queue/write_cache", "write back"); },
         {{"note drive-cache nvme0n1", "nvme set-feature /dev/nvme0n1"}}},
        {"VolatileCacheWithFua",
         [](M& m, D&, K&) {
             m.file(drive_dir + "/queue/write_cache", "write back");
             m.file(drive_dir + "/queue/fua", "1");
         },
         {}},
        {"DriveThatSleeps",
         [](M& m, D&, K&) {
             m.file(drive_dir + "/../power/pm_qos_latency_tolerance_us", "100000");
         },
         {{"note drive-power nvme0n1", "echo 0 > "}}},
        {"DriveFarFromLanes",
         [](M& m, D&, K&) { m.file(drive_dir + "/../../../numa_node", "0"); },
         {{"note numa nvme0n1", "--lanes 2,3"}}},
        {"DirectoriesOnOneDriveAreReportedOnce",
         [](M& m, D& d, K&) {
             m.file(drive_dir + "/nvme0n1p2/partition", "2");
             m.link("/sys/dev/block/259:2", drive_dir + "/nvme0n1p2");
             d.drives = {"259:1", "259:2", "259:1"};
             m.file(drive_dir + "/queue/scheduler", "none [mq-deadline]");
         },
         {{"note drive-scheduler nvme0n1", ""}}},
        {"DriveBelowDeviceMapper",
         [](M& m, D& d, K&) {
             m.link("/sys/devices/virtual/block/dm-0/slaves/nvme0n1p1", drive_dir + "/nvme0n1p1");
             m.link("/sys/dev/block/253:0", "/sys/devices/virtual/block/dm-0");
             d.drives = {"253:0"};
             m.file(drive_dir + "/queue/scheduler", "none [mq-deadline]");
         },
         {{"note drive-scheduler nvme0n1", ""}}},
        {"DriveOfSeveralPaths",
         [](M& m, D& d, K&) {
             const std::string head = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n2";
             m.file(head + "/queue/scheduler", "[none]");
             m.file(head + "/queue/rotational", "0");
             m.link("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0", drive_dir + "/..");
             m.link("/sys/dev/block/259:5", head);
             m.file(drive_dir + "/../power/pm_qos_latency_tolerance_us", "100000");
             d.drives = {"259:5"};
         },
         {{"note drive-power nvme0n2", drive_dir.substr(0, drive_dir.rfind('/')) + "/power"}}},
        {"FileSystemWithoutADrive", [](M&, D& d, K&) { d.drives = {"0:42", ""}; }, {}},
    };
    return cases;
}

class Doctor : public testing::Test {
protected:
    Findings examine() {
        return examine_machine(MachineTree(machine_.root()), deployment_, kernel_);
    }
    FakeMachine machine_;
    Deployment deployment_{.ports = {nic}, .lane_cpus = {6, 7}, .drives = {"259:1"}};
    KernelAnswers kernel_;
};

class DoctorTable : public Doctor, public testing::WithParamInterface<Case> {};

TEST_P(DoctorTable, ReportsExactlyWhatIsWrongAndHowToMendIt) {
    GetParam().change(machine_, deployment_, kernel_);
    std::multimap<std::string, std::string> found;
    for (const Finding& f : examine()) {
        EXPECT_EQ(f.level == FindingLevel::ok, f.mend.empty()) << f.id << ": " << f.text;
        EXPECT_FALSE(f.text.empty()) << f.id;
        EXPECT_EQ((f.text + f.mend).find('\n'), std::string::npos) << f.text;
        if (f.level != FindingLevel::ok) {
            found.emplace(
                std::string(name_of(f.level)) + " " + f.id + (f.about.empty() ? "" : " ") + f.about,
                f.mend);
        }
    }
    for (const auto& [what, mend] : GetParam().expected) {
        const auto it = found.find(what);
        if (it == found.end()) {
            ADD_FAILURE() << "not found: " << what;
            continue;
        }
        EXPECT_NE(it->second.find(mend), std::string::npos) << what << ": " << it->second;
        found.erase(it);
    }
    for (const auto& [what, mend] : found) {
        ADD_FAILURE() << "not expected: " << what << ", mend " << mend;
    }
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
    return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Cpus, DoctorTable, testing::ValuesIn(cpu_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Kernel, DoctorTable, testing::ValuesIn(kernel_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Ports, DoctorTable, testing::ValuesIn(port_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Drives, DoctorTable, testing::ValuesIn(drive_cases()), case_name);

TEST_F(Doctor, MachineAsItShouldBeHasEveryCheckAndNoComplaint) {
    std::set<std::string> ids;
    for (const Finding& f : examine()) {
        EXPECT_EQ(f.level, FindingLevel::ok) << f.id << " " << f.about << ": " << f.text;
        ids.insert(f.id);
    }
    const std::set<std::string> expected{
        "clock-source", "clock-sync",      "cpu-governor", "default-route", "drive-cache",
        "drive-power",  "drive-scheduler", "hugepages",    "interrupts",    "io-uring",
        "iommu",        "isolated-cpus",   "lane-cpus",    "memlock",       "nohz-full",
        "numa",         "port-driver",     "vfio"};
    EXPECT_EQ(ids, expected);
}

TEST_F(Doctor, EmptyTreeIsAnsweredWithoutTrouble) {
    const FakeMachine other;
    fs::remove_all(other.root() + "/proc");
    fs::remove_all(other.root() + "/sys");
    EXPECT_FALSE(examine_machine(MachineTree(other.root()), deployment_, kernel_).empty());
    EXPECT_FALSE(examine_machine(MachineTree("/no/such"), deployment_, kernel_).empty());
}

// Three data directories and a place beside them.
class SecretFiles : public ::testing::Test {
protected:
    SecretFiles() {
        for (const char* name : {"a", "b", "c"}) {
            fs::create_directory(scratch_.path(name));
            directories_.push_back(scratch_.path(name));
        }
    }
    static void write(const std::string& path, const std::string& text, int mode = 0600) {
        std::ofstream(path) << text;
        fs::permissions(path, static_cast<fs::perms>(mode));
    }
    // Level, id, text and what mends it, a line each.
    template <typename Check>
    std::string told(const Check& check, const std::string& path, bool with_data = true) {
        Findings findings;
        check(
            path,
            with_data ? std::span<const std::string>(directories_) : std::span<const std::string>(),
            findings);
        std::string text;
        for (const Finding& finding : findings) {
            EXPECT_EQ(finding.about, path);
            EXPECT_EQ(finding.level == FindingLevel::ok, finding.mend.empty());
            EXPECT_EQ(finding.text.find(secret_), std::string::npos);
            text += std::string(name_of(finding.level)) + " " + finding.id + ": " + finding.text +
                    " | " + finding.mend + "\n";
        }
        return text;
    }
    std::string key_line(const std::string& more = " alias/aws/kinesis") const {
        return "key 01234567-89ab-cdef-0123-456789abcdef enabled " + secret_ + more + "\n";
    }

    auth::Scratch scratch_;
    std::vector<std::string> directories_;
    const std::string secret_ = std::string(32, 'a') + std::string(32, '7');
};

TEST_F(SecretFiles, WhatServeTakesIsFine) {
    const std::string path = scratch_.path("k");
    write(path, secret_ + "\n");
    EXPECT_EQ(told(check_key_file, path, false),
              "ok key-file: seals credentials, and is its owner's alone | \n");
    write(path, key_line() + "key 11234567-89ab-cdef-0123-456789abcdef disabled " + secret_ + "\n");
    EXPECT_EQ(told(check_keys_file, path, false),
              "ok keys-file: 2 keys of streams, 1 enabled, and is its owner's alone | \n");
}

TEST_F(SecretFiles, OneBesideTheDataIsNotedAndOneWithinItRefused) {
    const std::string path = scratch_.path("k");
    write(path, key_line());
    EXPECT_TRUE(told(check_keys_file, path)
                    .starts_with("note keys-file: 1 keys of streams, 1 "
                                 "enabled, and is its owner's alone; it "
                                 "shares a file system with data"))
        << told(check_keys_file, path);
    const std::string within = directories_[1] + "/k";
    write(within, key_line());
    EXPECT_EQ(told(check_keys_file, within),
              "error keys-file: found within the data directory " + directories_[1] +
                  "; expected a file outside the data directories, on another drive if possible | "
                  "mv " +
                  within + " /etc/penstock/k\n");
    write(within, secret_);
    EXPECT_TRUE(told(check_key_file, within).starts_with("error key-file: found within"));
}

TEST_F(SecretFiles, OneThatOthersMayUseIsRefused) {
    const std::string path = scratch_.path("it's mine");
    const std::string mend = "chmod 600 '" + scratch_.path("it'\\''s mine") + "'";
    for (const int mode : {0640, 0604, 0620, 0666}) {
        write(path, key_line(), mode);
        EXPECT_EQ(told(check_keys_file, path),
                  "error keys-file: others than its owner may use it; run: chmod 600 " + path +
                      " | " + mend + "\n");
        EXPECT_TRUE(told(check_key_file, path).ends_with(mend + "\n"));
    }
}

TEST_F(SecretFiles, WhatIsMalformedIsToldByItsLineWithoutTheSecret) {
    const std::string path = scratch_.path("k");
    write(path, "# ours\n" + key_line() + "key 01234567 enabled " + secret_ + "\n");
    EXPECT_EQ(told(check_keys_file, path),
              "error keys-file: line 3: expected a key id such as `penstock keys make` gives | cp "
              "-p COPY " +
                  path + "\n");
    write(path, key_line() + key_line(""));
    EXPECT_TRUE(told(check_keys_file, path).starts_with("error keys-file: line 2: key 0123"));
    write(path, secret_ + "0");
    EXPECT_TRUE(told(check_key_file, path).starts_with("error key-file: expected 64 hexa"));
    EXPECT_TRUE(told(check_keys_file, scratch_.path("a"), false)
                    .starts_with("error keys-file: expected a regular file | cp"));
}

TEST_F(SecretFiles, OneThatIsMissingIsMadeUnlessSomethingWasSealedWithIt) {
    const std::string path = scratch_.path("k");
    EXPECT_TRUE(
        told(check_keys_file, path).ends_with(" | penstock keys make --keys-file " + path + "\n"));
    EXPECT_EQ(told(check_key_file, path),
              "ok key-file: is not there yet: a first start makes it | \n");
    write(directories_[2] + "/superblock", "");
    EXPECT_TRUE(told(check_key_file, path).starts_with("warning key-file: is not there, but"));
}

TEST_F(SecretFiles, WithoutADefaultKeyRequestsThatNameNoneFail) {
    const std::string path = scratch_.path("k");
    write(path, key_line(" alias/orders"));
    EXPECT_TRUE(told(check_keys_file, path, false)
                    .ends_with("note keys-alias: no key has alias/aws/kinesis, which requests mean "
                               "that name no key | penstock keys make --keys-file " +
                               path + " --alias alias/aws/kinesis\n"));
}

TEST(Findings, TextAndJsonSayTheSame) {
    const Findings findings{{FindingLevel::ok, "a", "", "fine", ""},
                            {FindingLevel::warning, "b", "x \"y\"", "slow", "do 'this' \\ that"},
                            {FindingLevel::error, "c", "", "bad", "mend it"}};
    std::ostringstream text;
    print_text(findings, text);
    EXPECT_EQ(text.str(),
              "ok       a: fine\n"
              "warning  b x \"y\": slow\n"
              "         mend: do 'this' \\ that\n"
              "error    c: bad\n"
              "         mend: mend it\n");
    std::ostringstream json;
    print_json(findings, json);
    EXPECT_EQ(json.str(),
              R"({"findings":[{"level":"ok","id":"a","about":"","text":"fine","mend":""},)"
              R"({"level":"warning","id":"b","about":"x \"y\"","text":"slow",)"
              R"("mend":"do 'this' \\ that"},)"
              R"({"level":"error","id":"c","about":"","text":"bad","mend":"mend it"}],)"
              R"("errors":1,"warnings":1,"notes":0})"
              "\n");
}

}  // namespace
}  // namespace penstock
