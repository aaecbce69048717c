#include "dataplane/port/interface.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>

#include "dataplane/wire/address.h"

namespace penstock {
namespace {

// Deeper than any stack of bridges, bonds and VLANs; a loop must not hold the start.
constexpr std::size_t uppers_max = 64;
constexpr unsigned ancestors_max = 64;

std::vector<std::string> names_in(const std::string& directory, std::string_view prefix) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(directory.c_str()), ::closedir);
    if (open == nullptr) {
        return names;
    }
    while (const dirent* const entry = ::readdir(open.get())) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != ".." && name.starts_with(prefix)) {
            names.emplace_back(name.substr(prefix.size()));
        }
    }
    return names;
}

std::string text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// What SSH_CONNECTION says of a process: "client port server port", empty without it.
std::string ssh_connection(const std::string& process) {
    constexpr std::string_view variable = "SSH_CONNECTION=";
    const std::string environment = text_of("/proc/" + process + "/environ");
    for (std::size_t at = 0; at < environment.size();) {
        const std::size_t end = std::min(environment.find('\0', at), environment.size());
        const std::string_view entry = std::string_view(environment).substr(at, end - at);
        if (entry.starts_with(variable)) {
            return std::string(entry.substr(variable.size()));
        }
        at = end + 1;
    }
    return {};
}

std::string parent_of(const std::string& process) {
    std::istringstream status(text_of("/proc/" + process + "/status"));
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("PPid:")) {
            const std::size_t at = line.find_first_not_of(" \t", 5);
            return at == std::string::npos ? std::string() : line.substr(at);
        }
    }
    return {};
}

std::vector<IpAddress> login_addresses() {
    std::vector<IpAddress> addresses;
    std::string process = "self";
    for (unsigned i = 0; i < ancestors_max && !process.empty() && process != "0"; ++i) {
        std::istringstream fields(ssh_connection(process));
        std::string client;
        std::string client_port;
        std::string server;
        if (fields >> client >> client_port >> server) {
            if (const auto address = parse_address(server.substr(0, server.find('%')))) {
                addresses.push_back(*address);
            }
        }
        process = parent_of(process);
    }
    return addresses;
}

// An ioctl on an interface by name, over any socket.
bool ask(unsigned long request, ifreq& about) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool answered = fd >= 0 && ::ioctl(fd, request, &about) == 0;
    if (fd >= 0) {
        ::close(fd);
    }
    return answered;
}

ifreq named(const std::string& interface) {
    ifreq about{};
    interface.copy(about.ifr_name, IFNAMSIZ - 1);
    return about;
}

}  // namespace

std::string device_argument(std::string_view device, std::string_view name) {
    for (std::size_t at = device.find(','); at != std::string_view::npos;) {
        const std::size_t end = std::min(device.find(',', at + 1), device.size());
        const std::string_view argument = device.substr(at + 1, end - at - 1);
        if (argument.size() > name.size() && argument.starts_with(name) &&
            argument[name.size()] == '=') {
            return std::string(argument.substr(name.size() + 1));
        }
        at = end == device.size() ? std::string_view::npos : end;
    }
    return {};
}

std::vector<std::string> interfaces_of(std::string_view device, const std::string& sys) {
    std::vector<std::string> found;
    if (!device.starts_with("net_") && !device.starts_with("eth_")) {
        std::string address(device.substr(0, device.find(',')));
        if (address.size() == std::string_view("01:00.0").size()) {
            address.insert(0, "0000:");
        }
        return names_in(sys + "/bus/pci/devices/" + address + "/net", "");
    }
    // The tap driver's and virtio_user's `iface` is the one they make.
    const bool makes_its_own =
        device.starts_with("net_tap") || device.starts_with("net_virtio_user");
    for (const std::string_view name : {"iface", "remote", "rx_iface", "rx_iface_in", "tx_iface"}) {
        std::string value = device_argument(device, name);
        if (!value.empty() && !(makes_its_own && name == "iface")) {
            found.push_back(std::move(value));
        }
    }
    return found;
}

std::vector<std::string> with_uppers(const std::string& interface, const std::string& sys) {
    std::vector<std::string> all{interface};
    for (std::size_t i = 0; i < all.size() && all.size() < uppers_max; ++i) {
        for (std::string& upper : names_in(sys + "/class/net/" + all[i], "upper_")) {
            if (std::find(all.begin(), all.end(), upper) == all.end()) {
                all.push_back(std::move(upper));
            }
        }
    }
    return all;
}

// route: "Iface Destination Gateway Flags RefCnt Use Metric Mask …", in hexadecimal. ipv6_route:
// destination, prefix length, …, interface last; lo carries the reject routes.
bool has_default_route(const std::string& interface, const std::string& proc) {
    std::ifstream v4(proc + "/net/route");
    for (std::string line; std::getline(v4, line);) {
        std::istringstream fields(line);
        std::string name;
        std::array<std::string, 7> rest;  // destination first, mask last
        fields >> name;
        for (std::string& field : rest) {
            fields >> field;
        }
        if (name == interface && rest[0] == "00000000" && rest[6] == "00000000") {
            return true;
        }
    }
    std::ifstream v6(proc + "/net/ipv6_route");
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

bool carries_login(const std::string& interface) {
    const std::vector<IpAddress> logins = login_addresses();
    ifaddrs* list = nullptr;
    if (logins.empty() || ::getifaddrs(&list) != 0) {
        return false;
    }
    bool carries = false;
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
        if (entry->ifa_addr == nullptr || interface != entry->ifa_name) {
            continue;
        }
        std::array<char, INET6_ADDRSTRLEN> text{};
        const int family = entry->ifa_addr->sa_family;
        const void* const bytes =
            family == AF_INET
                ? static_cast<const void*>(
                      &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr)
                : static_cast<const void*>(
                      &reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr)->sin6_addr);
        if ((family == AF_INET || family == AF_INET6) &&
            ::inet_ntop(family, bytes, text.data(), text.size()) != nullptr) {
            const auto own = parse_address(text.data());
            carries |= own && std::find(logins.begin(), logins.end(), *own) != logins.end();
        }
    }
    ::freeifaddrs(list);
    return carries;
}

std::string reason_not_to_take(std::string_view device) {
    for (const std::string& taken : interfaces_of(device)) {
        for (const std::string& interface : with_uppers(taken)) {
            const std::string found =
                interface == taken
                    ? "interface '" + taken + "'"
                    : "'" + interface + "', which stands on interface '" + taken + "',";
            if (has_default_route(interface)) {
                return found + " carries the default route";
            }
            if (carries_login(interface)) {
                return found + " carries the login this was started from";
            }
        }
    }
    return {};
}

std::uint16_t interface_mtu(const std::string& interface) {
    ifreq about = named(interface);
    return ask(SIOCGIFMTU, about) ? static_cast<std::uint16_t>(std::clamp(about.ifr_mtu, 0, 65535))
                                  : std::uint16_t{0};
}

bool set_interface_mtu(const std::string& interface, std::uint16_t mtu) {
    ifreq about = named(interface);
    about.ifr_mtu = mtu;
    return ask(SIOCSIFMTU, about);
}

InterfaceQueues interface_queues(const std::string& interface) {
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    ifreq about = named(interface);
    about.ifr_data = reinterpret_cast<char*>(&channels);
    if (ask(SIOCETHTOOL, about)) {
        return {std::max(1U, channels.combined_count + channels.rx_count), channels.rx_count == 0};
    }
    return {};
}

}  // namespace penstock
