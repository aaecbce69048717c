// DatagramReceiver by multishot receives: one request per socket stands in the ring and completes
// once for each datagram, into a slot that the kernel picks from the socket's own buffer ring. A
// request ends when its socket has no slot left; it is made again when slots were given back.
//
// Runs on: the thread that owns the engine.
// Allocates: when made.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <vector>

#include "storage/io/datagrams.h"
#include "storage/io/uring_engine.h"

namespace penstock {

class UringDatagrams final : public DatagramReceiver, private RingGuest {
public:
    // Null when the kernel knows no multishot receives (before 6.0) or no memory is left.
    [[nodiscard]] static std::unique_ptr<UringDatagrams> open(UringEngine& engine,
                                                              const DatagramOptions& options);
    ~UringDatagrams() override;

    [[nodiscard]] std::size_t take(std::span<Datagram> out) noexcept override;
    void give_back(const std::byte* data) noexcept override;
    [[nodiscard]] bool waiting() const noexcept override { return ready_count_ != 0; }
    [[nodiscard]] std::uint64_t errors() const noexcept override { return errors_; }

private:
    // A slot that holds a datagram with the kernel's header.
    struct Filled {
        std::uint16_t slot = 0;  // of this socket
        std::uint32_t bytes = 0;
    };
    struct Socket {
        int fd = -1;
        io_uring_buf_ring* slots = nullptr;  // shared with the kernel
        bool registered = false;
        bool armed = false;             // its request stands in the ring
        std::uint16_t with_kernel = 0;  // slots
        std::vector<Filled> ready;      // a circle, as many as there are slots
        std::uint16_t first = 0;
        std::uint16_t count = 0;
    };

    UringDatagrams(UringEngine& engine, const DatagramOptions& options);
    [[nodiscard]] bool start() noexcept;
    void arm(std::uint32_t index) noexcept;
    void offer(Socket& socket, std::uint32_t index, std::uint16_t slot) noexcept;
    void complete(std::uint32_t what, std::int32_t result, std::uint32_t flags) noexcept override;
    [[nodiscard]] Datagram read(std::uint32_t index, const Filled& filled) noexcept;
    [[nodiscard]] std::uint16_t group_of(std::uint32_t index) const noexcept;

    UringEngine& engine_;
    DatagramOptions options_;
    unsigned guest_ = 0;
    bool admitted_ = false;
    bool unsupported_ = false;
    bool closing_ = false;
    std::vector<Socket> sockets_;
    msghdr layout_{};  // how much room names and control messages get
    std::size_t ready_count_ = 0;
    std::size_t armed_count_ = 0;
    std::size_t next_ = 0;  // socket whose turn it is
    std::uint64_t errors_ = 0;
};

}  // namespace penstock
