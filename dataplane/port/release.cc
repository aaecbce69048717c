#include "dataplane/port/release.h"

#include <net/if.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "dataplane/port/interface.h"
#include "dataplane/port/port.h"
#include "dataplane/port/xdp.h"

namespace penstock {
namespace {

using Outcome = PortRelease::Outcome;

void release_program(const std::string& interface, PortRelease& out) {
    const XdpState found = xdp_state(interface, true);
    const std::string where = " on interface '" + interface + "'";
    switch (found.attachment) {
        case XdpAttachment::none:
            out.detail = "no XDP program is attached" + where;
            break;
        case XdpAttachment::unknown:
            out.detail = "the XDP program" + where +
                         " could not be looked for: no such interface, or not run as root";
            break;
        case XdpAttachment::foreign:
            out.detail = "the XDP program '" + found.program + "'" + where + " is not ours";
            break;
        case XdpAttachment::ours_left:
            out.outcome = Outcome::released;
            out.detail = "our XDP program" + where + " had no node any more and was detached";
            break;
        case XdpAttachment::ours_in_use:
            out.outcome = Outcome::in_use;
            out.detail = "a running node holds our XDP program" + where + "; stop the node";
            break;
    }
}

// A socket file nobody listens on any more.
void release_socket(const std::string& path, PortRelease& out) {
    struct stat found{};
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (::stat(path.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode) ||
        path.size() >= sizeof name.sun_path) {
        out.detail = "there is no socket " + path;
        return;
    }
    path.copy(name.sun_path, sizeof name.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const bool refused =
        fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 &&
        errno == ECONNREFUSED;
    if (fd >= 0) {
        ::close(fd);
    }
    if (!refused) {
        out.outcome = Outcome::in_use;
        out.detail = "somebody listens on socket " + path + "; stop that process";
    } else if (::unlink(path.c_str()) == 0) {
        out.outcome = Outcome::released;
        out.detail = "nobody listened on socket " + path + ", which was removed";
    } else {
        out.outcome = Outcome::in_use;
        out.detail = "socket " + path + " could not be removed: " + std::strerror(errno);
    }
}

}  // namespace

Result<PortRelease> release_port(const std::string& device, std::string& why) {
    PENSTOCK_TRY(kind, port_kind(device, why));
    PortRelease out;
    out.subject = device;
    const std::vector<std::string> interfaces = interfaces_of(device);
    if (device.starts_with("net_af_xdp") && !interfaces.empty()) {
        release_program(interfaces.front(), out);
    } else if (device.starts_with("net_memif") && device_argument(device, "role") == "server" &&
               device_argument(device, "socket-abstract") == "no") {
        release_socket(device_argument(device, "socket"), out);
    } else if (kind == PortKind::dpdk_pci) {
        out.detail =
            "a node binds no NIC to a driver and leaves none bound; dpdk-devbind.py "
            "--bind gives it back to the kernel";
    } else {
        out.detail = "such a port ends with its process and leaves nothing";
    }
    return out;
}

std::vector<PortRelease> release_interfaces() {
    std::vector<PortRelease> all;
    struct if_nameindex* const names = ::if_nameindex();
    for (const struct if_nameindex* at = names; at != nullptr && at->if_index != 0; ++at) {
        PortRelease found;
        found.subject = at->if_name;
        release_program(at->if_name, found);
        if (found.outcome != Outcome::nothing_left) {
            all.push_back(std::move(found));
        }
    }
    ::if_freenameindex(names);
    return all;
}

}  // namespace penstock
