// The kernel's own count of packets that a packet socket's ring could not take. The af_packet
// driver of DPDK 22.11 keeps its sockets to itself and does not report these drops, so they are
// found among the process' descriptors.
//
// Runs on: control threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace penstock {

// All packet sockets this process has open.
[[nodiscard]] std::vector<int> open_packet_sockets();

// What this machine itself sends on the interface is not for us to receive.
void ignore_outgoing(int socket) noexcept;

// Lets the interface's own filter pass frames to every address (`all`), or to every multicast
// address. Ends with the socket, also when the process crashes; the interface's flags stay as they
// are.
void widen_filter(int socket, const std::string& interface, bool all) noexcept;

// Packets dropped since the last call: the kernel forgets what it told.
[[nodiscard]] std::uint64_t take_packet_socket_drops(std::span<const int> sockets) noexcept;

}  // namespace penstock
