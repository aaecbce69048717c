// Copies of the packets a lane sees, for people: DPDK takes them past the kernel, so tcpdump shows
// nothing. A control thread makes a tap, hands it to the lane between two turns, empties its ring,
// and takes it back the same way before it is destroyed.
//
// Runs on: offer() and commit() on the lane; take() and the counts on one control thread.
// Allocates: at construction. Guarantees: a lane never waits for who reads; what finds no room in
// the ring is counted and not shown. After `until_ns` nothing is copied any more.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/counter.h"
#include "dataplane/drop.h"
#include "dataplane/lane/ring.h"
#include "dataplane/wire/packet.h"

namespace penstock {

// A packet's fate is its drop reason; `none` is one that was taken.
static_assert(static_cast<unsigned>(DropReason::count_) <= 64, "CaptureFilter has a bit for each");

struct CaptureFilter {
    static constexpr std::uint32_t any_port = ~0U;
    std::uint32_t port = any_port;      // which of the node's ports, by number
    std::uint16_t udp_port = 0;         // destination of the datagram; 0: every packet
    std::uint16_t udp_port_count = 1;   // so many ports from there on: a door may have several
    std::uint64_t fates = ~0ULL;        // bit per DropReason
    std::uint32_t sample = 1;           // one in so many of those that match
    std::uint32_t snap_bytes = 65'535;  // at most so many of each
    std::uint64_t until_ns = 0;         // monotonic
};

// What the ring carries for each packet, before its bytes.
struct CapturedPacket {
    std::int64_t wall_ns = 0;
    std::uint32_t length = 0;    // as it was
    std::uint32_t captured = 0;  // as many bytes follow
    std::uint16_t port = 0;
    DropReason fate = DropReason::none;
    bool is_payload = false;  // of a kernel socket: no headers, and the addresses below
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    IpAddress source;
    IpAddress destination;
};

class CaptureTap {
public:
    CaptureTap(const CaptureFilter& filter, std::size_t ring_bytes);

    // -- The lane ---------------------------------------------------------------------------------
    void offer(unsigned port, const Packet& packet, const Decoded& decoded,
               DropReason fate) noexcept;
    // Once per burst.
    void commit(std::uint64_t now_ns) noexcept;

    // -- The control thread -----------------------------------------------------------------------
    struct Taken {
        CapturedPacket packet;
        Bytes bytes;  // until the next take() or done()
    };
    [[nodiscard]] std::optional<Taken> take() noexcept;
    // Gives the room of what was taken back.
    void done() noexcept;
    [[nodiscard]] std::uint64_t matched() const noexcept { return matched_.get(); }
    [[nodiscard]] std::uint64_t no_room() const noexcept { return no_room_.get(); }

private:
    void pass() noexcept;

    CaptureFilter filter_;
    bool over_ = false;
    bool shown_ = false;        // the front of the ring was taken
    std::int64_t wall_ns_ = 0;  // of the burst
    Counter matched_;
    Counter no_room_;
    SpscByteRing ring_;
};

}  // namespace penstock
