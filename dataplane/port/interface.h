// The kernel's network interfaces, as far as a port must know them before it takes one: which one a
// device string names, its size limits, and whether somebody depends on it.
//
// Runs on: control threads, before DPDK takes anything.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

// The value of `name=` among the comma-separated arguments after the device's own name; empty
// without it.
[[nodiscard]] std::string device_argument(std::string_view device, std::string_view name);

// Interfaces of the kernel that a device string takes traffic from. `sys` is where sysfs is.
[[nodiscard]] std::vector<std::string> interfaces_of(std::string_view device,
                                                     const std::string& sys = "/sys");

// The interface itself and all that stand on it: bridges, bonds, VLANs.
[[nodiscard]] std::vector<std::string> with_uppers(const std::string& interface,
                                                   const std::string& sys = "/sys");

// Reads /proc/net/route and /proc/net/ipv6_route under `proc`.
[[nodiscard]] bool has_default_route(const std::string& interface,
                                     const std::string& proc = "/proc");

// Whether a login session came over the interface: this process or one of its ancestors carries
// SSH_CONNECTION in its environment, and the address it was made to is the interface's.
[[nodiscard]] bool carries_login(const std::string& interface);

// Why the device must not be taken without force; empty when nothing speaks against it.
[[nodiscard]] std::string reason_not_to_take(std::string_view device);

// 0 when there is no such interface.
[[nodiscard]] std::uint16_t interface_mtu(const std::string& interface);
// Of an interface that we made.
[[nodiscard]] bool set_interface_mtu(const std::string& interface, std::uint16_t mtu);
struct InterfaceQueues {
    unsigned count = 1;
    bool combined = true;  // each with a transmit queue, as NICs have them
    friend bool operator==(const InterfaceQueues&, const InterfaceQueues&) = default;
};
// Receive queues the kernel uses of it, as `ethtool -l` says; one where it has no such choice.
[[nodiscard]] InterfaceQueues interface_queues(const std::string& interface);

}  // namespace penstock
