#include "dataplane/port/port.h"

#include <array>

namespace penstock {

// Where the port sends frames.
bool PortQueue::send_datagram(const UdpAddresses& addresses, Bytes payload) noexcept {
    std::array<std::byte, port_mtu_max + udp_frame_headers_max> frame;
    const std::size_t size = write_udp_frame(addresses, payload, frame);
    return size != 0 && send(Bytes(frame).first(size));
}

}  // namespace penstock
