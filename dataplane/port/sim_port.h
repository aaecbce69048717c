// A port made of byte vectors, for tests and the simulator: frames pushed come out of receive(),
// frames sent are kept.
//
// Runs on: one thread. Allocates: freely.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/port/port.h"

namespace penstock {

class SimQueue final : public PortQueue {
public:
    // A whole Ethernet frame.
    void push_frame(Bytes frame, std::uint8_t flags = 0);
    // What a kernel socket would deliver.
    void push_payload(const IpAddress& source, std::uint16_t destination_port, Bytes payload);
    // Frames given to send(), oldest first; the test takes them.
    [[nodiscard]] std::vector<std::vector<std::byte>> take_sent();
    // Makes send() refuse while true.
    void set_transmit_full(bool full) noexcept { transmit_full_ = full; }
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }
    [[nodiscard]] std::size_t lent() const noexcept { return lent_; }

    std::uint16_t receive(std::span<Packet> burst) noexcept override;
    void release(std::span<const Packet> burst) noexcept override;
    bool send(Bytes frame) noexcept override;
    std::uint32_t ring_packets() const noexcept override { return 1024; }

private:
    struct Item {
        std::vector<std::byte> bytes;
        Packet packet;
    };
    std::deque<std::unique_ptr<Item>> waiting_;
    std::size_t lent_ = 0;
    std::vector<std::vector<std::byte>> sent_;
    bool transmit_full_ = false;

    friend class SimPort;
    std::uint64_t received_packets_ = 0;
    std::uint64_t received_bytes_ = 0;
};

class SimPort final : public Port {
public:
    explicit SimPort(unsigned queue_count, MacAddress mac = {},
                     std::vector<IpPrefix> addresses = {});

    std::string describe() const override { return "sim"; }
    unsigned queue_count() const noexcept override { return static_cast<unsigned>(queues_.size()); }
    SimQueue& queue(unsigned index) noexcept override { return *queues_[index]; }
    PortStats stats() noexcept override;

private:
    std::vector<std::unique_ptr<SimQueue>> queues_;
};

}  // namespace penstock
