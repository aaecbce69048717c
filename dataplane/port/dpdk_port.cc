#include "dataplane/port/dpdk_port.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/port/dpdk_log.h"
#include "dataplane/port/flow_steering.h"
#include "dataplane/port/interface.h"
#include "dataplane/port/packet_sockets.h"
#include "dataplane/port/release.h"
#include "dataplane/port/rss.h"
#include "dataplane/port/xdp.h"
#include "storage/base/counted.h"

namespace penstock {
namespace {

constexpr std::uint16_t descriptors_wanted = 1024;
constexpr unsigned mempool_cache = 256;
// af_packet's own default of 512 frames is 3 ms of a 150 kpps sender; a sleeping lane needs more.
constexpr unsigned af_packet_frames = 4096;
// Whole pages that hold a jumbo packet; the memory of the ring stays about that of plain frames.
constexpr unsigned af_packet_jumbo_frame_bytes = 3 * 4096;
constexpr unsigned af_packet_jumbo_frames = 768;
// XDP_PACKET_HEADROOM of the kernel, which it keeps free before each packet in our buffers.
constexpr unsigned xdp_headroom = 256;
// A buffer with all that stands before the packet in it must fit a page.
constexpr std::uint16_t xdp_mtu_max = 3400;
constexpr unsigned frame_ends = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
constexpr unsigned frame_overhead = frame_ends + 2 * RTE_VLAN_HLEN;

std::string dpdk_text(int error) {
    return rte_strerror(error < 0 ? -error : error);
}

// We share nothing with other DPDK processes; some drivers complain that they cannot.
bool says_nothing_new(const std::string& line) {
    return line.find("mp action") != std::string::npos ||
           line.find("secondary") != std::string::npos;
}

}  // namespace

class DpdkQueue final : public PortQueue {
public:
    DpdkQueue(std::uint16_t port_id, std::uint16_t index, rte_mempool* pool) noexcept
        : port_id_(port_id), index_(index), pool_(pool) {}

    std::uint16_t receive(std::span<Packet> burst) noexcept override {
        const auto wanted =
            static_cast<std::uint16_t>(std::min(burst.size(), static_cast<std::size_t>(burst_max)));
        std::array<rte_mbuf*, burst_max> mbufs;
        const std::uint16_t got = rte_eth_rx_burst(port_id_, index_, mbufs.data(), wanted);
        std::uint16_t kept = 0;
        for (std::uint16_t i = 0; i < got; ++i) {
            rte_mbuf* const mbuf = mbufs[i];
            if (mbuf->nb_segs > 1 && rte_pktmbuf_linearize(mbuf) != 0) {
                drops_.add(DropReason::segment_chain_too_long);
                rte_pktmbuf_free(mbuf);
                continue;
            }
            Packet& packet = burst[kept++];
            packet = Packet{};
            packet.data = rte_pktmbuf_mtod(mbuf, std::byte*);
            packet.length = mbuf->pkt_len;
            packet.flags = flags_of(mbuf->ol_flags);
            packet.owner = mbuf;
        }
        return kept;
    }

    void release(std::span<const Packet> burst) noexcept override {
        std::array<rte_mbuf*, burst_max> mbufs;
        unsigned count = 0;
        for (const Packet& packet : burst) {
            mbufs[count++] = static_cast<rte_mbuf*>(packet.owner);
            if (count == burst_max) {
                rte_pktmbuf_free_bulk(mbufs.data(), count);
                count = 0;
            }
        }
        rte_pktmbuf_free_bulk(mbufs.data(), count);
    }

    bool send(Bytes frame) noexcept override {
        rte_mbuf* mbuf = rte_pktmbuf_alloc(pool_);
        if (mbuf == nullptr) {
            return false;
        }
        char* const room = frame.size() > 0xFFFF
                               ? nullptr
                               : rte_pktmbuf_append(mbuf, static_cast<std::uint16_t>(frame.size()));
        if (room == nullptr) {
            rte_pktmbuf_free(mbuf);
            return false;
        }
        std::memcpy(room, frame.data(), frame.size());
        if (rte_eth_tx_burst(port_id_, index_, &mbuf, 1) != 1) {
            rte_pktmbuf_free(mbuf);
            return false;
        }
        return true;
    }

    int wait_fd() const noexcept override { return wait_fd_; }

    bool arm_wait() noexcept override {
        // The interrupt comes for packets after enabling it; those before are still in the ring.
        return wait_fd_ < 0 || (rte_eth_dev_rx_intr_enable(port_id_, index_) == 0 &&
                                rte_eth_rx_queue_count(port_id_, index_) <= 0);
    }

    void disarm_wait() noexcept override {
        if (wait_fd_ < 0) {
            return;
        }
        static_cast<void>(rte_eth_dev_rx_intr_disable(port_id_, index_));
        pollfd ready{wait_fd_, POLLIN, 0};
        // PCI interrupts come as an event counter, which stays readable until read. The descriptor
        // of a virtual device is the packet source itself.
        if (clear_by_reading_ && ::poll(&ready, 1, 0) == 1) {
            std::uint64_t events = 0;
            static_cast<void>(!::read(wait_fd_, &events, sizeof events));
        }
    }

    std::uint32_t ring_packets() const noexcept override { return ring_packets_; }

private:
    std::uint8_t flags_of(std::uint64_t offload) const noexcept {
        std::uint8_t flags = base_flags_;
        if (trust_ip_ && (offload & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD) {
            flags |= packet_ip_checksum_good;
        }
        if (trust_l4_ && (offload & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD) {
            flags |= packet_l4_checksum_good;
        }
        return flags;
    }

    friend class DpdkPort;
    std::uint16_t port_id_;
    std::uint16_t index_;
    rte_mempool* pool_;
    std::uint8_t base_flags_ = 0;
    bool trust_ip_ = false;
    bool trust_l4_ = false;
    int wait_fd_ = -1;
    bool clear_by_reading_ = false;
    std::uint32_t ring_packets_ = descriptors_wanted;
};

struct DpdkPort::Setup {
    rte_eth_dev_info info{};
    rte_eth_conf conf{};
    std::uint16_t queues = 1;
    std::uint16_t rx_descriptors = descriptors_wanted;
    std::uint16_t tx_descriptors = descriptors_wanted;
};

DpdkPort::DpdkPort() = default;

DpdkPort::~DpdkPort() {
    queues_.clear();
    flows_.reset();
    xdp_.reset();  // before the driver looks for what it attached
    if (started_) {
        static_cast<void>(rte_eth_dev_stop(port_id_));
    }
    if (port_id_ != no_port) {
        static_cast<void>(rte_eth_dev_close(port_id_));
    }
    if (attached_) {
        static_cast<void>(rte_eal_hotplug_remove("vdev", device_name_.c_str()));
    }
    rte_mempool_free(pool_);
}

std::string DpdkPort::arguments_for(const PortOptions& options) const {
    const std::size_t comma = std::min(options.device.find(','), options.device.size());
    std::string arguments = options.device.substr(std::min(comma + 1, options.device.size()));
    const auto has = [&](std::string_view name) {
        return !device_argument(options.device, name).empty();
    };
    const auto add = [&](const std::string& name, std::size_t value) {
        arguments += (arguments.empty() ? "" : ",") + name + "=" + std::to_string(value);
    };
    if (device_name_.starts_with("net_af_packet")) {
        if (!has("qpairs") && lanes_wanted_ > 1) {
            add("qpairs", lanes_wanted_);
        }
        if (!has("framecnt") && !has("blocksz") && !has("framesz")) {
            const bool jumbo = mtu_ > RTE_ETHER_MTU;
            add("framecnt", jumbo ? af_packet_jumbo_frames : af_packet_frames);
            if (jumbo) {
                add("framesz", af_packet_jumbo_frame_bytes);
                add("blocksz", af_packet_jumbo_frame_bytes);
            }
        }
    }
    if (xdp_program_ != nullptr) {
        arguments += ",xdp_prog=" + xdp_program_->path();
        if (!has("queue_count") && lanes_wanted_ > 1) {
            add("queue_count", std::min(lanes_wanted_, interface_queues(interface_).count));
        }
    }
    return arguments;
}

// What arrives on a queue that no lane polls would be lost.
Status DpdkPort::check_xdp_queues(bool rss_off, std::string& why) const {
    const InterfaceQueues queues = interface_queues(interface_);
    std::string problem;
    std::string or_else;
    if (queues.count > lanes_wanted_) {
        problem = rss_off ? "with --rss off there is one queue only"
                          : "there are lanes for " + std::to_string(lanes_wanted_) + " only";
        or_else = rss_off ? ", or leave --rss out" : ", or run more lanes";
    }
    if (!queues.combined && queues.count > 1) {
        problem = "DPDK's driver takes several only where they are combined with transmit queues";
        or_else.clear();
    }
    if (problem.empty()) {
        return {};
    }
    why = "interface '" + interface_ + "' spreads packets over " + std::to_string(queues.count) +
          " receive queues, but " + problem + "; `ethtool -L " + interface_ +
          (queues.combined ? " combined " + std::to_string(lanes_wanted_) : " rx 1") + "` first" +
          or_else;
    return fail(Errc::invalid_argument);
}

// Everything that would otherwise fail within the driver, which says little, or would be lost.
Status DpdkPort::prepare_xdp(const PortOptions& options, std::string& why) {
    if (!device_argument(options.device, "xdp_prog").empty()) {
        why = "xdp_prog= is not for you to give: the port brings its own program";
        return fail(Errc::invalid_argument);
    }
    if (interface_.empty()) {
        why = "expected an interface: " + device_name_ + ",iface=eth1";
        return fail(Errc::invalid_argument);
    }
    PENSTOCK_TRY_VOID(check_xdp_queues(options.rss == RssMode::off, why));
    if (mtu_ > xdp_mtu_max) {
        why = "interface '" + interface_ + "' has an MTU of " + std::to_string(mtu_) +
              ", but AF_XDP takes packets within one page; `ip link set " + interface_ + " mtu " +
              std::to_string(xdp_mtu_max) + "` or less first";
        return fail(Errc::unsupported);
    }
    const XdpState found = xdp_state(interface_, true);
    if (found.attachment == XdpAttachment::ours_in_use) {
        why = "another node has interface '" + interface_ + "'";
        return fail(Errc::already_exists);
    }
    if (found.attachment == XdpAttachment::foreign) {
        why = "interface '" + interface_ + "' runs the XDP program '" + found.program +
              "' already; `ip link set " + interface_ + " xdp off` if nobody needs it";
        return fail(Errc::already_exists);
    }
    xdp_program_ = std::make_unique<XdpProgramFile>();
    if (xdp_program_->path().empty()) {
        why = "this program was built without its XDP program, which takes clang";
        return fail(Errc::unsupported);
    }
    return {};
}

Status DpdkPort::attach(const PortOptions& options, std::string& why) {
    device_name_ = options.device.substr(0, options.device.find(','));
    // What the kernel spreads stays together on one queue alone, as does what nobody steers.
    const bool one = options.rss == RssMode::off &&
                     (kernel_spreads(device_name_) || options.lane_udp_ports.empty());
    lanes_wanted_ = one ? 1 : std::max(1U, options.lane_count);
    const std::vector<std::string> interfaces = interfaces_of(options.device);
    if (virtual_ && !interfaces.empty()) {
        interface_ = interfaces.front();
        mtu_ = std::min(interface_mtu(interface_), port_mtu_max);
    }
    if (device_name_.starts_with("net_af_xdp")) {
        PENSTOCK_TRY_VOID(prepare_xdp(options, why));
    }
    if (device_name_.starts_with("net_memif")) {
        std::string unused;
        static_cast<void>(release_port(options.device, unused));  // a crashed node's socket
    }
    if (virtual_) {
        const std::vector<int> before = open_packet_sockets();
        DpdkLog log;
        const int error =
            rte_eal_hotplug_add("vdev", device_name_.c_str(), arguments_for(options).c_str());
        if (error != 0) {
            std::string said;
            for (const std::string& line : log.lines()) {
                // EAL's lines about a device it does not know add nothing to ours.
                if (!line.starts_with("EAL: ") && !says_nothing_new(line)) {
                    said += (said.empty() ? ": " : "; ") + line;
                }
            }
            why = "DPDK cannot make the virtual device (" + dpdk_text(error) + ")" + said +
                  "; check driver name and arguments, and that the program runs as root";
            return fail(Errc::io_failed, error);
        }
        attached_ = true;
        for (const int fd : open_packet_sockets()) {
            if (std::find(before.begin(), before.end(), fd) == before.end()) {
                packet_sockets_.push_back(fd);
                ignore_outgoing(fd);
            }
        }
    }
    if (const int error = rte_eth_dev_get_port_by_name(device_name_.c_str(), &port_id_);
        error != 0) {
        port_id_ = no_port;
        why = "no Ethernet device came of it (" + dpdk_text(error) + ")" +
              (virtual_ ? "" : "; bind the NIC to vfio-pci first (dpdk-devbind.py --status)");
        return fail(Errc::not_found, error);
    }
    return {};
}

Status DpdkPort::make_pool(const Setup& setup, std::string& why) {
    // Whole frames in one buffer: what a driver delivers in pieces is put together there.
    unsigned frame = mtu_ + frame_overhead;
    if (driver_ == "net_af_packet" && mtu_ > RTE_ETHER_MTU) {
        frame = std::max(frame, af_packet_jumbo_frame_bytes);  // it asks for room for its ring's
    }
    if (xdp_program_ != nullptr) {
        frame += xdp_headroom;
    }
    const unsigned data_room =
        std::max(RTE_MBUF_DEFAULT_BUF_SIZE + 0U, RTE_PKTMBUF_HEADROOM + frame);
    // Per queue: both rings full, what receive() lends, and what the lane's cache keeps (DPDK lets
    // it grow to one and a half times its size).
    const unsigned per_queue = setup.rx_descriptors + setup.tx_descriptors + 2U * burst_max +
                               mempool_cache + mempool_cache / 2;
    const unsigned count = std::bit_ceil(setup.queues * per_queue) - 1;
    const std::string pool_name = "penstock_port_" + std::to_string(port_id_);
    pool_ = rte_pktmbuf_pool_create(pool_name.c_str(), count, mempool_cache, 0,
                                    static_cast<std::uint16_t>(std::min(data_room, 65535U)),
                                    rte_eth_dev_socket_id(port_id_));
    if (pool_ == nullptr) {
        why = "no memory for " + std::to_string(count) + " packet buffers of " +
              std::to_string(data_room) + " bytes (" + dpdk_text(rte_errno) +
              "); give EAL more memory or huge pages";
        return fail(Errc::no_memory_room, rte_errno);
    }
    return {};
}

Status DpdkPort::start_queues(Setup& setup, std::string& why) {
    const auto refuse = [&](const char* step, int error) {
        why =
            std::string("DPDK driver ") + driver_ + " refused to " + step + ": " + dpdk_text(error);
        return fail(Errc::io_failed, error);
    };
    const int socket = rte_eth_dev_socket_id(port_id_);
    for (std::uint16_t i = 0; i < setup.queues; ++i) {
        if (const int error = rte_eth_rx_queue_setup(port_id_, i, setup.rx_descriptors,
                                                     static_cast<unsigned>(socket), nullptr, pool_);
            error != 0) {
            return refuse("set up a receive queue", error);
        }
        if (const int error = rte_eth_tx_queue_setup(port_id_, i, setup.tx_descriptors,
                                                     static_cast<unsigned>(socket), nullptr);
            error != 0) {
            return refuse("set up a transmit queue", error);
        }
    }
    if (const int error = rte_eth_dev_start(port_id_); error != 0) {
        return refuse("start", error);
    }
    started_ = true;
    discard_foreign_frames(setup);
    const bool software_link = driver_ == "net_af_packet" || driver_ == "net_af_xdp" ||
                               driver_ == "net_tap" || driver_ == "net_virtio_user";
    for (std::uint16_t i = 0; i < setup.queues; ++i) {
        auto queue = std::make_unique<DpdkQueue>(port_id_, i, pool_);
        queue->base_flags_ = software_link ? packet_partial_checksum_ok : 0;
        queue->trust_ip_ = (setup.conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
        queue->trust_l4_ = (setup.conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_UDP_CKSUM) != 0;
        queue->ring_packets_ = ring_packets(setup);
        // Sleeping needs both: a descriptor, and a driver that can say whether packets wait.
        if (setup.conf.intr_conf.rxq != 0 && rte_eth_dev_rx_intr_enable(port_id_, i) == 0) {
            static_cast<void>(rte_eth_dev_rx_intr_disable(port_id_, i));
            queue->wait_fd_ = rte_eth_rx_queue_count(port_id_, i) >= 0
                                  ? rte_eth_dev_rx_intr_ctl_q_get_fd(port_id_, i)
                                  : -1;
            queue->clear_by_reading_ = !virtual_;
        }
        queues_.push_back(std::move(queue));
    }
    return {};
}

// Between making its sockets and binding them to the interface, the driver gets frames of every
// interface of the machine. What waits now may be such frames: no record may come of them.
void DpdkPort::discard_foreign_frames(const Setup& setup) {
    if (packet_sockets_.empty()) {
        return;
    }
    std::array<rte_mbuf*, burst_max> mbufs;
    for (std::uint16_t queue = 0; queue < setup.queues; ++queue) {
        unsigned discarded = 0;
        std::uint16_t got = 0;
        do {
            got = rte_eth_rx_burst(port_id_, queue, mbufs.data(), burst_max);
            rte_pktmbuf_free_bulk(mbufs.data(), got);
            discarded += got;
        } while (got != 0 && discarded < af_packet_frames);
    }
    static_cast<void>(take_packet_socket_drops(packet_sockets_));
    static_cast<void>(rte_eth_stats_reset(port_id_));
}

// A port without an address takes every frame of its link; one with an address needs its own MAC
// and, for neighbour discovery, multicast.
void DpdkPort::choose_filter() {
    const bool multicast =
        std::any_of(addresses_.begin(), addresses_.end(),
                    [](const IpPrefix& own) { return own.address.family == IpFamily::v6; });
    if (!interface_.empty()) {
        // The drivers would set flags of the interface, which outlive a crash.
        for (const int fd : packet_sockets_) {
            if (addresses_.empty() || multicast) {
                widen_filter(fd, interface_, addresses_.empty());
            }
        }
        return;
    }
    if (addresses_.empty() || (multicast && rte_eth_allmulticast_enable(port_id_) != 0)) {
        static_cast<void>(rte_eth_promiscuous_enable(port_id_));
    }
}

std::uint32_t DpdkPort::ring_packets(const Setup& setup) const {
    if (driver_ == "net_af_packet") {
        return mtu_ > RTE_ETHER_MTU ? af_packet_jumbo_frames : af_packet_frames;
    }
    return setup.rx_descriptors;
}

// The interface's own where there is one: it is not ours to change. Else what was asked for, within
// what the driver says it can. net_memif and net_tap describe plain Ethernet and take more: the one
// chains its buffers, the other has an interface of its own.
Status DpdkPort::choose_mtu(const PortOptions& options, Setup& setup, std::string& why) {
    if (options.mtu == 0) {
        return {};
    }
    if (!interface_.empty()) {
        why = "--mtu " + std::to_string(options.mtu) +
              " is not for a port on an interface, whose " + "MTU is " + std::to_string(mtu_) +
              "; `ip link set " + interface_ + " mtu ...` before the start";
        return fail(Errc::invalid_argument);
    }
    mtu_ = options.mtu;
    if (driver_ == "net_memif") {
        return {};
    }
    if (driver_ == "net_tap") {
        const std::string made = device_argument(options.device, "iface");
        if (made.empty() || !set_interface_mtu(made, mtu_)) {
            why = "--mtu " + std::to_string(mtu_) + ": the interface of " + device_name_ +
                  " did not take it; name it with iface=NAME";
            return fail(Errc::unsupported);
        }
        return {};
    }
    const std::uint32_t frame_max =
        setup.info.max_rx_pktlen == 0 ? UINT32_MAX : setup.info.max_rx_pktlen;
    const std::uint16_t mtu_max = setup.info.max_mtu == 0 ? UINT16_MAX : setup.info.max_mtu;
    if (mtu_ > mtu_max || mtu_ + frame_ends > frame_max) {
        why = "--mtu " + std::to_string(options.mtu) + ": driver " + driver_ + " takes at most " +
              std::to_string(std::min<std::uint32_t>(mtu_max, frame_max - frame_ends));
        return fail(Errc::unsupported);
    }
    setup.conf.rxmode.mtu = mtu_;
    return {};
}

// How many queues, and by what they are filled.
Status DpdkPort::choose_queues(const PortOptions& options, Setup& setup, std::string& why) {
    setup.queues = static_cast<std::uint16_t>(
        std::min({static_cast<unsigned>(setup.info.max_rx_queues),
                  static_cast<unsigned>(setup.info.max_tx_queues), lanes_wanted_}));
    if (driver_ == "net_memif") {
        // The other side says how many rings it makes, later. The driver takes ring 0 for one that
        // was never made: a second lane would take every packet again.
        setup.queues = std::min<std::uint16_t>(setup.queues, 1);
    }
    if (setup.queues == 0) {
        why = "driver " + driver_ + " offers no receive or transmit queue";
        return fail(Errc::unsupported);
    }
    if (driver_ == "net_af_packet" && setup.info.max_rx_queues > setup.queues) {
        // The kernel would fill them all, and nobody would read the others.
        why = "qpairs=" + std::to_string(setup.info.max_rx_queues) + " found, but the port is to " +
              "have " + counted(setup.queues, "queue") + "; leave qpairs= out";
        return fail(Errc::invalid_argument);
    }
    PENSTOCK_TRY(functions, choose_rss({.mode = options.rss,
                                        .driver = driver_,
                                        .offered = setup.info.flow_type_rss_offloads,
                                        .queues = setup.queues,
                                        .lanes = std::max(1U, options.lane_count)},
                                       why));
    if (functions != 0) {
        setup.conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        setup.conf.rx_adv_conf.rss_conf.rss_hf = functions;
    }
    if (options.lane_count > 1 && (setup.queues > 1 || options.rss == RssMode::off)) {
        spread_text_ = ", " + rss_text(options.rss, driver_, functions);
    }
    return {};
}

// Asks the device to deliver each lane's UDP ports to its queue. Where it does not, lanes hand each
// other what they take.
void DpdkPort::steer(const PortOptions& options) {
    if (options.lane_udp_ports.empty() || options.lane_count <= 1) {
        return;
    }
    std::string why = "one queue";
    if (queues_.size() > 1) {
        // net_tap's rules are the kernel's (tc), where one priority has one protocol.
        const FlowSteeringOptions how{.queue_count = static_cast<unsigned>(queues_.size()),
                                      .priority_per_family = driver_ == "net_tap"};
        auto steering = FlowSteering::open(flow_api_of(port_id_), options.lane_udp_ports, how, why);
        if (steering) {
            flows_ = std::move(*steering);
            steering_text_ = ", " + std::to_string(flows_->rule_count()) +
                             " rte_flow rules steer UDP ports to their lanes";
            return;
        }
    }
    steering_text_ = ", no steering by UDP port (" + why + "): lanes hand records over";
}

Status DpdkPort::configure(const PortOptions& options, std::string& why) {
    Setup setup;
    if (const int error = rte_eth_dev_info_get(port_id_, &setup.info); error != 0) {
        why = "DPDK cannot describe the device: " + dpdk_text(error);
        return fail(Errc::io_failed, error);
    }
    driver_ = setup.info.driver_name;
    PENSTOCK_TRY_VOID(choose_queues(options, setup, why));
    PENSTOCK_TRY_VOID(choose_mtu(options, setup, why));
    setup.conf.rxmode.offloads =
        setup.info.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
    if ((setup.conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_UDP_CKSUM) != 0) {
        checksum_text_ = ", UDP checksums verified by the driver";
    }
    if (setup.conf.rxmode.mtu > RTE_ETHER_MTU) {
        // Some NICs deliver a jumbo frame in pieces even into large buffers.
        setup.conf.rxmode.offloads |= setup.info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
    }
    setup.conf.intr_conf.rxq = 1;
    int error = rte_eth_dev_configure(port_id_, setup.queues, setup.queues, &setup.conf);
    if (error != 0) {
        setup.conf.intr_conf.rxq = 0;
        error = rte_eth_dev_configure(port_id_, setup.queues, setup.queues, &setup.conf);
    }
    if (error == 0) {
        error = rte_eth_dev_adjust_nb_rx_tx_desc(port_id_, &setup.rx_descriptors,
                                                 &setup.tx_descriptors);
    }
    if (error != 0) {
        why = "DPDK driver " + driver_ + " refused " + counted(setup.queues, "queue") + ": " +
              dpdk_text(error);
        return fail(Errc::io_failed, error);
    }
    rte_ether_addr mac{};
    static_cast<void>(rte_eth_macaddr_get(port_id_, &mac));
    std::memcpy(mac_.bytes.data(), mac.addr_bytes, 6);
    if (driver_ == "net_tap") {
        // The driver names the kernel's end of the link. Ours is another station: an answer from
        // the asker's own address would be no answer.
        mac_.bytes[5] ^= std::byte{1};
    }
    if (setup.conf.rxmode.mtu != 0) {
        // Drivers that make an interface set its MTU here; those that cannot have it configured.
        error = rte_eth_dev_set_mtu(port_id_, mtu_);
        if (error != 0 && error != -ENOTSUP) {
            why = "DPDK driver " + driver_ + " refused an MTU of " + std::to_string(mtu_) + ": " +
                  dpdk_text(error);
            return fail(Errc::io_failed, error);
        }
    }
    if (mtu_ == 0 && (rte_eth_dev_get_mtu(port_id_, &mtu_) != 0 || mtu_ == 0)) {
        mtu_ = RTE_ETHER_MTU;
    }
    PENSTOCK_TRY_VOID(make_pool(setup, why));
    PENSTOCK_TRY_VOID(start_queues(setup, why));
    if (xdp_program_ != nullptr) {
        PENSTOCK_TRY(steering,
                     XdpSteering::take_over(interface_, options.all_udp_ports(), addresses_, why));
        xdp_ = std::move(steering);
    }
    steer(options);
    choose_filter();
    return {};
}

Result<std::unique_ptr<DpdkPort>> DpdkPort::open(const PortOptions& options, PortKind kind,
                                                 std::string& why) {
    std::unique_ptr<DpdkPort> port(new DpdkPort);
    port->name_ = options.device;
    port->addresses_ = options.addresses;
    port->virtual_ = kind == PortKind::dpdk_virtual;
    std::string problem;
    Status opened = port->attach(options, problem);
    if (opened) {
        DpdkLog log;
        opened = port->configure(options, problem);
        for (const std::string& line : log.lines()) {
            if (!opened) {
                problem += "; " + line;
            }
        }
    }
    if (!opened) {
        why = "--port " + options.device + ": " + problem;
        return std::unexpected(opened.error());
    }
    return port;
}

std::string DpdkPort::describe() const {
    rte_eth_link link{};
    const bool up =
        rte_eth_link_get_nowait(port_id_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    std::string out = name_ + ": DPDK " + driver_ + ", link " + (up ? "up" : "down") + ", MAC " +
                      to_text(mac_) + ", MTU " + std::to_string(mtu_) + ", " +
                      counted(queues_.size(), "queue") + spread_text_ + steering_text_ +
                      checksum_text_ + ", ";
    if (xdp_ != nullptr) {
        out += std::string("XDP ") + xdp_->mode() +
               ": the kernel keeps the interface, our UDP ports are taken of ";
        if (addresses_.empty()) {
            return out + "every destination";
        }
    }
    if (addresses_.empty()) {
        return out + "no address: takes every destination, answers nothing";
    }
    out += addresses_.size() == 1 ? "address" : "addresses";
    for (const IpPrefix& own : addresses_) {
        out += " " + to_text(own);
    }
    return out;
}

unsigned DpdkPort::queue_count() const noexcept {
    return static_cast<unsigned>(queues_.size());
}
PortQueue& DpdkPort::queue(unsigned index) noexcept {
    return *queues_[index];
}

PortStats DpdkPort::stats() noexcept {
    rte_eth_stats counted{};
    const std::uint64_t dropped = take_packet_socket_drops(packet_sockets_);
    const std::lock_guard lock(counting_);
    if (rte_eth_stats_get(port_id_, &counted) == 0) {
        const auto count = [&](std::uint64_t PortStats::* what, std::uint64_t now) {
            counted_.*what = std::max(counted_.*what, now);
        };
        count(&PortStats::received_packets, counted.ipackets);
        count(&PortStats::received_bytes, counted.ibytes);
        count(&PortStats::missed, counted.imissed);
        count(&PortStats::errors, counted.ierrors);
        count(&PortStats::no_buffer, counted.rx_nombuf);
        count(&PortStats::sent_packets, counted.opackets);
    }
    PortStats stats = counted_;
    stats.missed += packet_socket_drops_.fetch_add(dropped) + dropped;
    return stats;
}

}  // namespace penstock
