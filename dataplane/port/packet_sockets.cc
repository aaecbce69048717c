#include "dataplane/port/packet_sockets.h"

#include <dirent.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>

namespace penstock {

std::vector<int> open_packet_sockets() {
    std::vector<int> sockets;
    DIR* const directory = ::opendir("/proc/self/fd");
    if (directory == nullptr) {
        return sockets;
    }
    while (const dirent* const entry = ::readdir(directory)) {
        int fd = -1;
        const char* const name = entry->d_name;
        const bool is_number = std::from_chars(name, name + std::strlen(name), fd).ec ==
                               std::errc{};  // not "." and ".."
        int domain = 0;
        socklen_t size = sizeof domain;
        if (is_number && ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
            domain == AF_PACKET) {
            sockets.push_back(fd);
        }
    }
    ::closedir(directory);
    return sockets;
}

void ignore_outgoing(int socket) noexcept {
    // A kernel too old for it (before 4.20) shows us our own frames, which are then counted.
    const int on = 1;
    static_cast<void>(::setsockopt(socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on));
}

void widen_filter(int socket, const std::string& interface, bool all) noexcept {
    packet_mreq wanted{};
    wanted.mr_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
    wanted.mr_type = all ? PACKET_MR_PROMISC : PACKET_MR_ALLMULTI;
    static_cast<void>(
        ::setsockopt(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &wanted, sizeof wanted));
}

std::uint64_t take_packet_socket_drops(std::span<const int> sockets) noexcept {
    std::uint64_t drops = 0;
    for (const int fd : sockets) {
        tpacket_stats counted{};
        socklen_t size = sizeof counted;
        if (::getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &counted, &size) == 0) {
            drops += counted.tp_drops;
        }
    }
    return drops;
}

}  // namespace penstock
