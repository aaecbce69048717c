// Chooses the back end for a --port value and refuses what must not be taken.
#include <net/if.h>

#include <cctype>

#include "dataplane/port/dpdk_port.h"
#include "dataplane/port/interface.h"
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

}  // namespace

std::vector<std::uint16_t> PortOptions::all_udp_ports() const {
    std::vector<std::uint16_t> all = udp_ports;
    for (const LaneUdpPort& own : lane_udp_ports) {
        all.push_back(own.port);
    }
    return all;
}

std::vector<std::uint16_t> PortOptions::udp_ports_of(unsigned lane) const {
    std::vector<std::uint16_t> ports = udp_ports;
    for (const LaneUdpPort& own : lane_udp_ports) {
        if (own.lane == lane) {
            ports.push_back(own.port);
        }
    }
    return ports;
}

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

bool port_takes_jumbo(const std::string& device, std::uint16_t mtu) {
    constexpr std::uint16_t plain = 1500;
    const std::vector<std::string> interfaces = interfaces_of(device);
    return mtu > plain || (device.starts_with("net_") && !interfaces.empty() &&
                           interface_mtu(interfaces.front()) > plain);
}

Result<std::unique_ptr<Port>> open_port(const PortOptions& options, std::string& why) {
    PENSTOCK_TRY(kind, port_kind(options.device, why));
    if (kind == PortKind::kernel) {
        return KernelPort::open(options, why);
    }
    if (kind == PortKind::dpdk_virtual) {
        for (const std::string& interface : interfaces_of(options.device)) {
            if (::if_nametoindex(interface.c_str()) == 0) {
                why = "--port " + options.device + ": there is no network interface '" + interface +
                      "'; `ip link` lists them";
                return fail(Errc::not_found);
            }
        }
    }
    if (const std::string reason = reason_not_to_take(options.device);
        !options.force && !reason.empty()) {
        why = "--port " + options.device + ": " + reason +
              ", and taking it may cut this machine off; use another interface, or force it";
        return fail(Errc::invalid_argument);
    }
    return DpdkPort::open(options, kind, why);
}

}  // namespace penstock
