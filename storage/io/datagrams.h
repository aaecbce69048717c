// Datagrams received through the ring of a thread's engine, beside its file I/O: sockets that have
// nothing cost no system call, and what they have arrives with the completions of everything else.
//
// Runs on: the thread that owns the engine.
// Allocates: when made.
// Guarantees: the order of each socket; a socket at full blast takes no buffer of another.
#pragma once

#include <cstdint>
#include <span>

#include "storage/base/bytes.h"

namespace penstock {

struct DatagramOptions {
    // Non-blocking UDP sockets, not owned.
    std::span<const int> sockets;
    // One slot after the other, `slots_per_socket` for each socket in turn; not owned.
    std::span<std::byte> memory;
    // Room for what the kernel tells of a datagram (datagram_overhead_bytes) and for the datagram.
    std::uint32_t slot_bytes = 0;
    std::uint16_t slots_per_socket = 0;  // a power of two
};

// In a slot before the payload: the kernel's header, a sockaddr_in6 with what aligns the next, one
// control message of 4 bytes.
inline constexpr std::uint32_t datagram_overhead_bytes = 16 + 32 + 24;

struct Datagram {
    unsigned socket = 0;  // index into DatagramOptions::sockets
    std::byte* data = nullptr;
    std::uint32_t length = 0;
    const void* name = nullptr;  // of the sender, a sockaddr of the socket's family
    Bytes control;               // messages as recvmsg(2) puts them
};

class DatagramReceiver {
public:
    DatagramReceiver() = default;
    DatagramReceiver(const DatagramReceiver&) = delete;
    DatagramReceiver& operator=(const DatagramReceiver&) = delete;
    // On the engine's thread and before the engine; what was not taken is gone.
    virtual ~DatagramReceiver() = default;

    // Fills `out` from its front, from the sockets in turn, with what the engine's last reap() or
    // wait() found; returns how many. Each stays where it is until it is given back.
    [[nodiscard]] virtual std::size_t take(std::span<Datagram> out) noexcept = 0;
    // `data` as taken, or any address within its slot.
    virtual void give_back(const std::byte* data) noexcept = 0;
    // Something is there to be taken without asking the kernel.
    [[nodiscard]] virtual bool waiting() const noexcept = 0;
    // Receives that failed, other than for want of a slot.
    [[nodiscard]] virtual std::uint64_t errors() const noexcept = 0;
};

}  // namespace penstock
