// A port of plain UDP sockets: no privileges, no DPDK; for containers, loopback and small loads.
//
// One socket per door port and lane (SO_REUSEPORT spreads the producers over the lanes); a port
// that is one lane's own has a socket on that lane alone. The kernel verifies checksums, puts
// fragments together and answers ARP, neighbour discovery and ping.
//
// Runs on: opening on a control thread, each queue on its lane's thread.
// Allocates: while opening only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dataplane/port/port.h"

namespace penstock {

class KernelQueue;

class KernelPort final : public Port {
public:
    // `options.device` is "kernel:ADDR" with an IPv4 address or an IPv6 address in brackets.
    // "kernel:[::]" takes IPv4 too.
    [[nodiscard]] static Result<std::unique_ptr<KernelPort>> open(const PortOptions& options,
                                                                  std::string& why);
    ~KernelPort() override;

    std::string describe() const override;
    unsigned queue_count() const noexcept override;
    PortQueue& queue(unsigned index) noexcept override;
    PortStats stats() noexcept override;

private:
    KernelPort();
    IpAddress address_;
    std::vector<std::uint16_t> udp_ports_;
    std::vector<std::unique_ptr<KernelQueue>> queues_;
};

}  // namespace penstock
