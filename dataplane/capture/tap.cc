#include "dataplane/capture/tap.h"

#include <algorithm>
#include <ctime>

namespace penstock {

namespace {

std::int64_t wall_now_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

CaptureTap::CaptureTap(const CaptureFilter& filter, std::size_t ring_bytes)
    : filter_(filter), ring_(ring_bytes) {
    filter_.sample = std::max(filter_.sample, 1U);
    const std::size_t most = ring_.record_bytes_max() - sizeof(CapturedPacket);
    filter_.snap_bytes =
        static_cast<std::uint32_t>(std::min<std::size_t>(filter_.snap_bytes, most));
}

void CaptureTap::offer(unsigned port, const Packet& packet, const Decoded& decoded,
                       DropReason fate) noexcept {
    const bool wanted = !over_ &&
                        (filter_.port == CaptureFilter::any_port || filter_.port == port) &&
                        (filter_.udp_port == 0 ||
                         static_cast<std::uint16_t>(decoded.destination_port - filter_.udp_port) <
                             filter_.udp_port_count) &&
                        (filter_.fates >> static_cast<unsigned>(fate) & 1) != 0;
    if (!wanted) {
        return;
    }
    matched_.add();
    if ((matched_.get() - 1) % filter_.sample != 0) {
        return;
    }
    if (wall_ns_ == 0) {
        wall_ns_ = wall_now_ns();
    }
    CapturedPacket header;
    header.wall_ns = wall_ns_;
    header.length = packet.length;
    header.captured = std::min(packet.length, filter_.snap_bytes);
    header.port = static_cast<std::uint16_t>(port);
    header.fate = fate;
    header.is_payload = (packet.flags & packet_is_payload) != 0;
    header.source_port = decoded.source_port;
    header.destination_port = decoded.destination_port;
    header.source = decoded.source;
    header.destination = decoded.destination;
    std::byte* at = ring_.claim(sizeof header + header.captured);
    if (at == nullptr) {
        no_room_.add();
        return;
    }
    store(at, header);
    std::copy_n(packet.data, header.captured, at + sizeof header);
}

void CaptureTap::commit(std::uint64_t now_ns) noexcept {
    ring_.commit();
    wall_ns_ = 0;
    over_ = over_ || now_ns >= filter_.until_ns;
}

void CaptureTap::pass() noexcept {
    if (shown_) {
        ring_.pop();
        shown_ = false;
    }
}

void CaptureTap::done() noexcept {
    pass();
    ring_.release();
}

std::optional<CaptureTap::Taken> CaptureTap::take() noexcept {
    pass();
    const Bytes record = ring_.front();
    if (record.data() == nullptr) {
        return std::nullopt;
    }
    shown_ = true;
    Taken taken;
    taken.packet = load<CapturedPacket>(record.data());
    taken.bytes = record.subspan(sizeof(CapturedPacket), taken.packet.captured);
    return taken;
}

}  // namespace penstock
