// A port over any DPDK poll mode driver: a vdev made from its device string, or a PCI device.
//
// Runs on: opening and closing on a control thread while EAL runs; each queue on its lane's thread,
// which should be registered (EalThread).
// Allocates: while opening only; packet buffers come from the port's own mempool.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dataplane/port/port.h"

struct rte_mempool;

namespace penstock {

class DpdkQueue;
class FlowSteering;
class XdpProgramFile;
class XdpSteering;

class DpdkPort final : public Port {
public:
    [[nodiscard]] static Result<std::unique_ptr<DpdkPort>> open(const PortOptions& options,
                                                                PortKind kind, std::string& why);
    // All packets must have been released.
    ~DpdkPort() override;

    std::string describe() const override;
    unsigned queue_count() const noexcept override;
    PortQueue& queue(unsigned index) noexcept override;
    PortStats stats() noexcept override;

private:
    struct Setup;
    DpdkPort();
    Status attach(const PortOptions& options, std::string& why);
    [[nodiscard]] std::string arguments_for(const PortOptions& options) const;
    Status configure(const PortOptions& options, std::string& why);
    Status choose_queues(const PortOptions& options, Setup& setup, std::string& why);
    void steer(const PortOptions& options);
    Status make_pool(const Setup& setup, std::string& why);
    Status start_queues(Setup& setup, std::string& why);
    Status prepare_xdp(const PortOptions& options, std::string& why);
    Status check_xdp_queues(bool rss_off, std::string& why) const;
    Status choose_mtu(const PortOptions& options, Setup& setup, std::string& why);
    [[nodiscard]] std::uint32_t ring_packets(const Setup& setup) const;
    void discard_foreign_frames(const Setup& setup);
    void choose_filter();

    static constexpr std::uint16_t no_port = 0xFFFF;
    std::string device_name_;  // the vdev's or PCI device's, without arguments
    std::string driver_;
    std::string interface_;      // of the kernel, which keeps it; empty where the device is our own
    unsigned lanes_wanted_ = 1;  // as many queues as the device offers of these
    bool virtual_ = false;
    bool attached_ = false;
    bool started_ = false;
    std::uint16_t port_id_ = no_port;
    std::uint16_t mtu_ = 0;
    rte_mempool* pool_ = nullptr;
    // Of a net_af_xdp port: made before the device, taken over once its queues run.
    std::unique_ptr<XdpProgramFile> xdp_program_;
    std::unique_ptr<XdpSteering> xdp_;
    std::unique_ptr<FlowSteering> flows_;
    // What the start-up line says of the queues, with a comma before each part.
    std::string spread_text_;
    std::string steering_text_;
    std::string checksum_text_;
    // Of the af_packet driver, closed by it; and what they dropped so far.
    std::vector<int> packet_sockets_;
    std::atomic<std::uint64_t> packet_socket_drops_{0};
    std::vector<std::unique_ptr<DpdkQueue>> queues_;
    // What the driver counted, never less than before: memif's shows nothing while no peer is
    // there.
    std::mutex counting_;
    PortStats counted_;
};

}  // namespace penstock
