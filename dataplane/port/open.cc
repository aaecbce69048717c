// Chooses the back end for a --port value and refuses what must not be taken.
#include <net/if.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>

#include "dataplane/port/dpdk_port.h"
#include "dataplane/port/kernel_port.h"
#include "dataplane/port/port.h"

namespace penstock {
namespace {

// "0000:01:00.0" or "01:00.0", arguments may follow after a comma.
bool looks_like_pci(std::string_view device) {
    device = device.substr(0, device.find(','));
    std::string shape;
    for (const char c : device) {
        shape += std::isxdigit(static_cast<unsigned char>(c)) != 0 ? 'h' : c;
    }
    return shape == "hhhh:hh:hh.h" || shape == "hh:hh.h";
}

std::string interface_of(std::string_view device) {
    for (std::size_t at = device.find(','); at != std::string_view::npos;) {
        const std::size_t end = std::min(device.find(',', at + 1), device.size());
        const std::string_view argument = device.substr(at + 1, end - at - 1);
        if (argument.starts_with("iface=")) {
            return std::string(argument.substr(6));
        }
        at = end == device.size() ? std::string_view::npos : end;
    }
    return {};
}

// /proc/net/route: "Iface Destination Gateway Flags RefCnt Use Metric Mask …", in hexadecimal.
// /proc/net/ipv6_route: destination, prefix length, …, interface last; lo carries the reject
// routes.
bool has_default_route(const std::string& interface) {
    std::ifstream v4("/proc/net/route");
    for (std::string line; std::getline(v4, line);) {
        std::istringstream fields(line);
        std::string name;
        std::string destination;
        fields >> name >> destination;
        if (name == interface && destination == "00000000") {
            return true;
        }
    }
    std::ifstream v6("/proc/net/ipv6_route");
    for (std::string line; std::getline(v6, line);) {
        std::istringstream fields(line);
        std::string destination;
        std::string bits;
        fields >> destination >> bits;
        const std::string name = line.substr(line.find_last_of(" \t") + 1);
        if (bits == "00" && name == interface && name != "lo") {
            return true;
        }
    }
    return false;
}

}  // namespace

Result<PortKind> port_kind(const std::string& device, std::string& why) {
    if (device.starts_with("kernel:")) {
        return PortKind::kernel;
    }
    if (device.starts_with("net_") || device.starts_with("eth_")) {
        return PortKind::dpdk_virtual;
    }
    if (looks_like_pci(device)) {
        return PortKind::dpdk_pci;
    }
    why = "--port " + device +
          ": expected kernel:ADDR (kernel:0.0.0.0), a DPDK virtual device "
          "(net_af_packet0,iface=veth0) or a PCI address (0000:01:00.0)";
    return fail(Errc::invalid_argument);
}

Result<std::unique_ptr<Port>> open_port(const PortOptions& options, std::string& why) {
    PENSTOCK_TRY(kind, port_kind(options.device, why));
    if (kind == PortKind::kernel) {
        return KernelPort::open(options, why);
    }
    const std::string interface = interface_of(options.device);
    // The tap driver makes its own interface; the others need one.
    if (!interface.empty() && !options.device.starts_with("net_tap")) {
        if (::if_nametoindex(interface.c_str()) == 0) {
            why = "--port " + options.device + ": there is no network interface '" + interface +
                  "'; `ip link` lists them";
            return fail(Errc::not_found);
        }
        if (!options.force && has_default_route(interface)) {
            why = "--port " + options.device + ": interface '" + interface +
                  "' carries the default route, and taking it may cut this machine off; use "
                  "another interface, or force it";
            return fail(Errc::invalid_argument);
        }
    }
    return DpdkPort::open(options, kind, why);
}

}  // namespace penstock
