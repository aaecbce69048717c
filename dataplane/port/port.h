// A port: where packets come from. One interface over DPDK, kernel sockets and tests.
//
// A Port is the whole device, opened once and closed by a control thread. A PortQueue is one lane's
// view of it. Lane i polls queue i while i < queue_count(); lanes beyond that poll nothing of this
// port and get their records from the others over the inter-lane rings.
//
// Runs on: Port on a control thread, stats() on any; each PortQueue on its lane's thread alone.
// Allocates: while opening only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/drop.h"
#include "dataplane/wire/packet.h"
#include "dataplane/wire/responder.h"
#include "dataplane/wire/udp_frame.h"
#include "storage/base/result.h"

namespace penstock {

class IoEngine;

// Largest burst receive() is asked for.
inline constexpr std::uint16_t burst_max = 64;

class PortQueue {
public:
    virtual ~PortQueue() = default;

    // Fills `burst` from its front and returns how many packets there were. They stay valid until
    // released; a queue lends at most 2 × burst_max at a time. Never blocks.
    [[nodiscard]] virtual std::uint16_t receive(std::span<Packet> burst) noexcept = 0;
    // Gives received packets back, in the order received (several bursts may be given together).
    virtual void release(std::span<const Packet> burst) noexcept = 0;
    // Queues a copy of one Ethernet frame for sending. False: the transmit ring is full or this
    // back end sends no frames; the caller counts tx_full.
    [[nodiscard]] virtual bool send(Bytes frame) noexcept = 0;

    // Queues one UDP datagram; its memory is free again when this returns. The same answer.
    [[nodiscard]] virtual bool send_datagram(const UdpAddresses& addresses, Bytes payload) noexcept;

    // On the lane's thread, before its first turn: from now on the queue may receive through the
    // ring of the lane's engine, which outlives it until detach().
    virtual void attach(IoEngine&) {}
    // On the lane's thread, after its last turn.
    virtual void detach() noexcept {}

    // A descriptor that is readable while packets wait, to sleep on when everything is idle; -1
    // where the back end has none, so that the lane sleeps for bounded times instead.
    [[nodiscard]] virtual int wait_fd() const noexcept { return -1; }
    // Call before sleeping on wait_fd(). False: packets came meanwhile, do not sleep.
    [[nodiscard]] virtual bool arm_wait() noexcept { return true; }
    // Call after waking.
    virtual void disarm_wait() noexcept {}
    // How many packets the back end holds before it must drop: bounds the longest sleep.
    [[nodiscard]] virtual std::uint32_t ring_packets() const noexcept = 0;
    // Packets that the queue itself refused (segment_chain_too_long, truncated, …).
    [[nodiscard]] const DropCounters& drops() const noexcept { return drops_; }

protected:
    DropCounters drops_;
};

// Since the port was opened; all queues together.
struct PortStats {
    std::uint64_t received_packets = 0;
    std::uint64_t received_bytes = 0;
    std::uint64_t missed = 0;     // dropped by the device or kernel: our ring was full
    std::uint64_t errors = 0;     // damaged on arrival
    std::uint64_t no_buffer = 0;  // our packet memory was empty
    std::uint64_t sent_packets = 0;
};

class Port {
public:
    virtual ~Port() = default;
    // As configured, for labels and messages.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    // One line for start-up: driver, link, queues, MTU, addresses.
    [[nodiscard]] virtual std::string describe() const = 0;
    [[nodiscard]] virtual unsigned queue_count() const noexcept = 0;
    [[nodiscard]] virtual PortQueue& queue(unsigned index) noexcept = 0;
    // Not for the hot path: it may ask the device.
    [[nodiscard]] virtual PortStats stats() noexcept = 0;
    // Valid as long as the port. Kernel sockets have no addresses here: the kernel filters for us.
    [[nodiscard]] PortIdentity identity() const noexcept { return {mac_, addresses_}; }

protected:
    std::string name_;
    MacAddress mac_;
    std::vector<IpPrefix> addresses_;
};

// How packets that nothing else steers come to the queues of a DPDK port. `automatic`: the device
// spreads flows by hashing (RSS) where it offers that. `off`: all on queue 0.
enum class RssMode : std::uint8_t { automatic, on, off };

// A UDP port whose datagrams are meant for one lane. Where nothing can steer them, whichever lane
// they come to takes them.
struct LaneUdpPort {
    std::uint16_t port = 0;
    unsigned lane = 0;
    friend bool operator==(const LaneUdpPort&, const LaneUdpPort&) = default;
};

struct PortOptions {
    // "kernel:ADDR", or a DPDK vdev ("net_af_packet0,iface=veth0") or PCI address ("0000:01:00.0").
    std::string device;
    std::vector<IpPrefix> addresses;       // --address after this --port
    std::vector<std::uint16_t> udp_ports;  // for every lane; kernel sockets listen on these
    unsigned lane_count = 1;
    // 0: the interface's own, or the driver's default where the device makes its own link.
    std::uint16_t mtu = 0;
    // Take the interface even if it carries the default route (that may end the operator's login).
    bool force = false;
    RssMode rss = RssMode::automatic;
    // Listened on, too, and steered to their lanes where the device offers that.
    std::vector<LaneUdpPort> lane_udp_ports = {};

    // Both kinds: all, and those that one lane has of its own or shares.
    [[nodiscard]] std::vector<std::uint16_t> all_udp_ports() const;
    [[nodiscard]] std::vector<std::uint16_t> udp_ports_of(unsigned lane) const;
};

inline constexpr std::uint16_t port_mtu_min = 1280;  // IPv6 allows no less
inline constexpr std::uint16_t port_mtu_max = 9000;

enum class PortKind : std::uint8_t { kernel, dpdk_virtual, dpdk_pci };
// What `device` names. Errc::invalid_argument, with the reason in `why`, when it is nothing of
// ours.
[[nodiscard]] Result<PortKind> port_kind(const std::string& device, std::string& why);

// Whether packets above 1500 bytes will be taken, which needs larger buffers.
[[nodiscard]] bool port_takes_jumbo(const std::string& device, std::uint16_t mtu);

// Opens either back end; EAL must run already for DPDK ports (dataplane/eal.h). On failure `why`
// says what was expected, what was found and what to do.
[[nodiscard]] Result<std::unique_ptr<Port>> open_port(const PortOptions& options, std::string& why);

}  // namespace penstock
