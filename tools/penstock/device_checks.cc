#include "tools/penstock/device_checks.h"

#include <algorithm>
#include <array>
#include <sstream>

namespace penstock {
namespace {

using enum FindingLevel;

const std::string pci_devices = "/sys/bus/pci/devices/";

// Drivers of NICs that DPDK drives beside the kernel's own driver.
[[nodiscard]] bool shares_with_kernel(const std::string& driver) {
    return driver == "mlx5_core" || driver == "mlx4_core" || driver == "mana";
}

[[nodiscard]] std::string driver_of(const MachineTree& tree, const std::string& address) {
    return tree.link_name(pci_devices + address + "/driver");
}

[[nodiscard]] std::string interface_of(const std::string& port) {
    std::istringstream in(port);
    std::string argument;
    while (std::getline(in, argument, ',')) {
        if (argument.starts_with("iface=")) {
            return argument.substr(6);
        }
    }
    return "";
}

[[nodiscard]] bool noiommu_mode(const MachineTree& tree) {
    return tree.line("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") == "Y";
}

// The command that gets an IOMMU from the next boot on.
[[nodiscard]] std::string iommu_mend(const MachineTree& tree) {
    // AMD's is on whenever the firmware shows it, whatever the kernel is told.
    const bool amd = tree.value("/proc/cpuinfo", "vendor_id") == "AuthenticAMD";
    return boot_argument("iommu", amd ? "iommu=pt" : "intel_iommu=on iommu=pt");
}

[[nodiscard]] bool is_virtual_machine(const MachineTree& tree) {
    const std::string flags = " " + tree.value("/proc/cpuinfo", "flags") + " ";
    return flags.find(" hypervisor ") != std::string::npos;
}

void check_vfio(const MachineTree& tree, Findings& findings) {
    if (tree.exists("/sys/bus/pci/drivers/vfio-pci") || tree.exists("/sys/module/vfio_pci")) {
        findings.push_back({ok, "vfio", "", "the driver vfio-pci is loaded", ""});
    } else {
        findings.push_back(
            {error, "vfio", "", "the driver vfio-pci is not loaded", "modprobe vfio-pci"});
    }
}

// A group is one unit of protection: the kernel gives it to one user, or not at all.
void check_group(const MachineTree& tree, const std::string& address, Findings& findings) {
    for (const std::string& other : tree.list(pci_devices + address + "/iommu_group/devices")) {
        const std::string driver = driver_of(tree, other);
        if (other != address && !driver.empty() && driver != "vfio-pci" && driver != "pcieport" &&
            driver != "pci-stub") {
            findings.push_back({error, "iommu-group", address,
                                "shares its IOMMU group with " + other + ", which " + driver +
                                    " holds; vfio takes whole groups only",
                                "echo " + other + " > " + pci_devices + other + "/driver/unbind"});
        }
    }
}

void check_driver(const MachineTree& tree, const std::string& address, Findings& findings) {
    const std::string at = pci_devices + address;
    if (!tree.exists(at)) {
        findings.push_back({error, "port-driver", address, "there is no such PCI device",
                            "lspci -D | grep -i -e ethernet -e network"});
        return;
    }
    if (!tree.line(at + "/class").starts_with("0x02")) {
        findings.push_back({error, "port-driver", address,
                            "is no network device (class " + tree.line(at + "/class") + ")",
                            "lspci -D | grep -i -e ethernet -e network"});
        return;
    }
    const auto routes = default_route_interfaces(tree);
    for (const std::string& name : routes) {
        // A virtio device stands between the NIC and its interface.
        const std::string device = tree.real("/sys/class/net/" + name + "/device") + "/";
        if (device.starts_with(tree.real(at) + "/")) {
            findings.push_back({error, "port-driver", address,
                                "is " + name + ", which carries the default route; use another",
                                "lspci -D | grep -i -e ethernet -e network"});
            return;
        }
    }
    const std::string driver = driver_of(tree, address);
    if (driver == "vfio-pci") {
        findings.push_back({ok, "port-driver", address, "is bound to vfio-pci", ""});
        check_group(tree, address, findings);
    } else if (shares_with_kernel(driver)) {
        findings.push_back(
            {ok, "port-driver", address, "stays with " + driver + ", which DPDK works beside", ""});
    } else {
        const bool uio = driver.find("uio") != std::string::npos;
        findings.push_back(
            {uio ? warning : error, "port-driver", address,
             driver.empty() ? "has no driver; DPDK takes it from vfio-pci"
             : uio          ? "is bound to " + driver + ": nothing keeps the NIC from any memory"
                            : "is bound to " + driver + ", which does not let DPDK have it",
             "dpdk-devbind.py --bind=vfio-pci " + address});
    }
}

// CPUs of the node on which as many lanes could run, the first left to control threads and the
// kernel if there are more.
[[nodiscard]] std::string lanes_on(const MachineTree& tree, unsigned node, std::size_t count) {
    auto cpus = tree.cpus("/sys/devices/system/node/node" + std::to_string(node) + "/cpulist");
    cpus.erase(cpus.begin(),
               cpus.end() - static_cast<std::ptrdiff_t>(std::min(count, cpus.size())));
    return cpu_text(cpus);
}

void check_node(const MachineTree& tree, const Deployment& deployment, FindingLevel level,
                const std::string& about, std::optional<unsigned> node, Findings& findings) {
    if (tree.nodes().size() < 2) {
        return;  // nothing can be far
    }
    const std::string id = "numa";
    if (!node) {
        findings.push_back(
            {ok, id, about, "the firmware does not say which NUMA node it is on", ""});
        return;
    }
    std::vector<unsigned> far;
    for (const unsigned cpu : deployment.lane_cpus) {
        if (tree.node_of_cpu(cpu).value_or(*node) != *node) {
            far.push_back(cpu);
        }
    }
    const std::string text = "is on NUMA node " + std::to_string(*node);
    if (far.empty()) {
        findings.push_back({ok, id, about, text + ", as the lanes are", ""});
        return;
    }
    findings.push_back(
        {level, id, about, text + ", the lanes of CPU " + cpu_text(far) + " are not",
         "penstock serve --lanes " + lanes_on(tree, *node, deployment.lane_cpus.size())});
}

void check_interface(const MachineTree& tree, const std::string& name, Findings& findings) {
    const std::string at = "/sys/class/net/" + name;
    if (!tree.exists(at)) {
        findings.push_back(
            {error, "port-interface", name, "there is no such interface", "ip link"});
    } else if (default_route_interfaces(tree).contains(name)) {
        findings.push_back({error, "port-interface", name,
                            "carries the default route; use another interface", "ip route"});
    } else if (tree.line(at + "/operstate") == "down") {
        findings.push_back(
            {warning, "port-interface", name, "is down", "ip link set " + name + " up"});
    } else {
        findings.push_back({ok, "port-interface", name, "is there and not down", ""});
    }
}

// Directories of the whole drives below a block device, in /sys.
void drives_below(const MachineTree& tree, const std::string& device, int depth,
                  std::set<std::string>& out) {
    const auto slaves = tree.list(device + "/slaves");
    if (depth > 0 && !slaves.empty()) {
        for (const std::string& name : slaves) {
            drives_below(tree, tree.real(device + "/slaves/" + name), depth - 1, out);
        }
        return;
    }
    const bool partition = tree.exists(device + "/partition");
    out.insert(partition ? device.substr(0, device.rfind('/')) : device);
}

void check_queue(const MachineTree& tree, const std::string& drive, const std::string& name,
                 Findings& findings) {
    const std::string queue = drive + "/queue";
    const std::string schedulers = tree.line(queue + "/scheduler");
    const bool flash = tree.line(queue + "/rotational") == "0";
    // Virtual drives say "spinning" for want of knowing.
    const bool virtual_drive = name.starts_with("vd") || name.starts_with("xvd");
    if (!flash && !virtual_drive && tree.exists(queue + "/rotational")) {
        findings.push_back({warning, "drive-kind", name,
                            "is a spinning disk: every commit waits for the platter",
                            "lsblk -d -o NAME,ROTA,SIZE,MODEL"});
    }
    const auto open = schedulers.find('[');
    const auto close = schedulers.find(']');
    if (open != std::string::npos && close != std::string::npos) {
        const std::string used = schedulers.substr(open + 1, close - open - 1);
        const bool fits = used == "none" || !flash;
        findings.push_back({fits ? ok : note, "drive-scheduler", name,
                            fits ? "I/O scheduler " + used
                                 : "the I/O scheduler " + used + " delays writes and gains nothing",
                            fits ? "" : "echo none > /sys/block/" + name + "/queue/scheduler"});
    }
    const std::string cache = tree.line(queue + "/write_cache");
    const bool nvme = name.starts_with("nvme");
    if (cache == "write back" && tree.line(queue + "/fua") == "0" &&
        (nvme || name.starts_with("sd"))) {
        // Never by the kernel's write_cache file: that only makes it leave flushes out.
        findings.push_back({note, "drive-cache", name,
                            "a volatile write cache without FUA: every commit empties the whole "
                            "cache, and may be faster with it off (measure both)",
                            nvme ? "nvme set-feature /dev/" + name + " --feature-id=6 --value=0"
                                 : "hdparm -W0 /dev/" + name});
    } else if (!cache.empty()) {
        findings.push_back({ok, "drive-cache", name, "write cache: " + cache, ""});
    }
}

// The NVMe controller's directory: the drive's parent or, where a drive may have several paths,
// beside the drive. Empty for other drives.
[[nodiscard]] std::string controller_of(const MachineTree& tree, const std::string& drive) {
    const std::string parent = drive.substr(0, drive.rfind('/'));
    if (tree.exists(parent + "/transport")) {
        return parent;
    }
    for (const std::string& name : tree.list(parent)) {
        if (name.starts_with("nvme") && tree.exists(parent + "/" + name + "/transport")) {
            return tree.real(parent + "/" + name);
        }
    }
    return "";
}

void check_power(const MachineTree& tree, const std::string& controller, const std::string& name,
                 Findings& findings) {
    const std::string file = controller + "/power/pm_qos_latency_tolerance_us";
    const std::string tolerance = tree.line(file);
    if (tolerance.empty()) {
        return;
    }
    if (tolerance == "0") {
        findings.push_back({ok, "drive-power", name, "does not go to sleep between writes", ""});
        return;
    }
    findings.push_back({note, "drive-power", name,
                        "may go to a state it needs up to " + tolerance +
                            " us to leave, which the first write after a pause pays",
                        "echo 0 > " + file});
}

}  // namespace

std::set<std::string> default_route_interfaces(const MachineTree& tree) {
    std::set<std::string> names;
    std::string line;
    std::istringstream four(tree.text("/proc/net/route"));
    std::getline(four, line);
    while (std::getline(four, line)) {
        std::istringstream in(line);
        std::string name, destination, gateway, flags, references, use, metric, mask;
        in >> name >> destination >> gateway >> flags >> references >> use >> metric >> mask;
        if (destination == "00000000" && mask == "00000000") {
            names.insert(name);
        }
    }
    std::istringstream six(tree.text("/proc/net/ipv6_route"));
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

void check_routes(const MachineTree& tree, Findings& findings) {
    const auto names = default_route_interfaces(tree);
    for (const std::string& name : names) {
        findings.push_back(
            {ok, "default-route", name, "has the default route: never give it to --port", ""});
    }
    if (names.empty()) {
        findings.push_back({ok, "default-route", "", "no interface has a default route", ""});
    }
}

void check_iommu(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    const bool needed = std::ranges::any_of(deployment.ports, [&](const std::string& port) {
        const auto address = pci_address_of(port);
        return address && !shares_with_kernel(driver_of(tree, *address));
    });
    if (!tree.list("/sys/kernel/iommu_groups").empty()) {
        findings.push_back({ok, "iommu", "", "the IOMMU is on", ""});
    } else if (!needed) {
        findings.push_back(
            {ok, "iommu", "", "the IOMMU is off; only NICs bound to vfio-pci need it", ""});
    } else if (noiommu_mode(tree)) {
        findings.push_back({warning, "iommu", "",
                            "the IOMMU is off and vfio told to do without: nothing keeps the NIC "
                            "from any memory (mending takes a reboot)",
                            iommu_mend(tree)});
    } else if (is_virtual_machine(tree)) {
        const std::string file = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        findings.push_back({error, "iommu", "",
                            "this virtual machine has no IOMMU, and vfio-pci gives no NIC away "
                            "unless told to do without",
                            tree.exists(file) ? "echo 1 > " + file
                                              : "modprobe vfio enable_unsafe_noiommu_mode=1"});
    } else {
        findings.push_back({error, "iommu", "",
                            "the IOMMU is off, and vfio-pci gives no NIC away without; the "
                            "firmware must allow it too (VT-d, AMD-Vi); mending takes a reboot",
                            iommu_mend(tree)});
    }
    if (needed) {
        check_vfio(tree, findings);
    }
}

void check_ports(const MachineTree& tree, const Deployment& deployment, Findings& findings) {
    for (const std::string& port : deployment.ports) {
        const auto address = pci_address_of(port);
        const std::string interface = interface_of(port);
        if (address) {
            check_driver(tree, *address, findings);
            if (tree.exists(pci_devices + *address)) {
                check_node(tree, deployment, warning, *address,
                           tree.node_of_device(pci_devices + *address), findings);
            }
        } else if (!interface.empty()) {
            check_interface(tree, interface, findings);
            const std::string device = "/sys/class/net/" + interface + "/device";
            if (tree.exists(device)) {
                check_node(tree, deployment, warning, interface, tree.node_of_device(device),
                           findings);
            }
        }
    }
}

void check_drive(const MachineTree& tree, const Deployment& deployment, const std::string& numbers,
                 std::set<std::string>& seen, Findings& findings) {
    const std::string device = tree.real("/sys/dev/block/" + numbers);
    if (device.empty()) {
        return;  // a file system of memory or of several devices
    }
    std::set<std::string> drives;
    drives_below(tree, device, 4, drives);
    for (const std::string& drive : drives) {
        const std::string name = drive.substr(drive.rfind('/') + 1);
        if (!seen.insert(name).second) {
            continue;
        }
        check_queue(tree, drive, name, findings);
        const std::string controller = controller_of(tree, drive);
        check_power(tree, controller, name, findings);
        check_node(tree, deployment, note, name,
                   tree.node_of_device(controller.empty() ? drive : controller), findings);
    }
}

}  // namespace penstock
