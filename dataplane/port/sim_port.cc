#include "dataplane/port/sim_port.h"

#include <algorithm>

#include "storage/base/check.h"

namespace penstock {

void SimQueue::push_frame(Bytes frame, std::uint8_t flags) {
    auto item = std::make_unique<Item>();
    item->bytes.assign(frame.begin(), frame.end());
    item->packet.data = item->bytes.data();
    item->packet.length = static_cast<std::uint32_t>(item->bytes.size());
    item->packet.flags = flags;
    item->packet.owner = item.get();
    waiting_.push_back(std::move(item));
}

void SimQueue::push_payload(const IpAddress& source, std::uint16_t destination_port,
                            Bytes payload) {
    push_frame(payload, packet_is_payload);
    Packet& packet = waiting_.back()->packet;
    packet.source = source;
    packet.source_port = 40000;
    packet.destination_port = destination_port;
}

std::vector<std::vector<std::byte>> SimQueue::take_sent() {
    return std::exchange(sent_, {});
}

std::uint16_t SimQueue::receive(std::span<Packet> burst) noexcept {
    const std::size_t count =
        std::min({burst.size(), waiting_.size(), static_cast<std::size_t>(burst_max)});
    for (std::size_t i = 0; i < count; ++i) {
        burst[i] = waiting_.front()->packet;
        received_bytes_ += burst[i].length;
        // Owned by the packet's view until released.
        static_cast<void>(waiting_.front().release());
        waiting_.pop_front();
    }
    lent_ += count;
    received_packets_ += count;
    PENSTOCK_CHECK(lent_ <= 2U * burst_max);
    return static_cast<std::uint16_t>(count);
}

void SimQueue::release(std::span<const Packet> burst) noexcept {
    PENSTOCK_CHECK(burst.size() <= lent_);
    lent_ -= burst.size();
    for (const Packet& packet : burst) {
        delete static_cast<Item*>(packet.owner);
    }
}

bool SimQueue::send(Bytes frame) noexcept {
    if (transmit_full_) {
        return false;
    }
    sent_.emplace_back(frame.begin(), frame.end());
    return true;
}

SimPort::SimPort(unsigned queue_count, MacAddress mac, std::vector<IpPrefix> addresses) {
    name_ = "sim";
    mac_ = mac;
    addresses_ = std::move(addresses);
    for (unsigned i = 0; i < queue_count; ++i) {
        queues_.push_back(std::make_unique<SimQueue>());
    }
}

PortStats SimPort::stats() noexcept {
    PortStats stats;
    for (const auto& queue : queues_) {
        stats.received_packets += queue->received_packets_;
        stats.received_bytes += queue->received_bytes_;
    }
    return stats;
}

}  // namespace penstock
