#include "dataplane/port/kernel_port.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "dataplane/wire/checksum.h"
#include "storage/base/check.h"
#include "storage/base/counted.h"
#include "storage/io/engine.h"

namespace penstock {
namespace {

// What receive() may lend at a time, and how much of one socket the lane's ring may hold.
constexpr std::size_t slot_count = 2U * burst_max;
// A UDP payload has at most 65527 bytes. Pages, and an odd number of them, since what is read of
// most slots is their beginning: an even one would put all of these into few sets of a cache.
constexpr std::size_t slot_bytes = 17 * std::size_t{4096};
static_assert(slot_bytes >= 65527 + datagram_overhead_bytes);
// Asked for; the kernel grants at most net.core.rmem_max to the unprivileged.
constexpr int receive_buffer_bytes_wanted = 32 << 20;
// What the kernel charges for a small packet.
constexpr unsigned packet_charge_bytes = 2304;
constexpr int sockets_ready_max = 16;

std::string system_text(int error) {
    return std::strerror(error);
}

}  // namespace

class KernelQueue final : public PortQueue {
public:
    KernelQueue() {
        for (std::size_t i = 0; i < slot_count; ++i) {
            free_slots_[i] = static_cast<std::uint16_t>(i);
        }
    }
    ~KernelQueue() override {
        for (const Socket& socket : sockets_) {
            ::close(socket.fd);
        }
        if (epoll_fd_ >= 0) {
            ::close(epoll_fd_);
        }
        if (memory_ != MAP_FAILED) {
            ::munmap(memory_, memory_bytes_);
        }
    }
    KernelQueue(const KernelQueue&) = delete;
    KernelQueue& operator=(const KernelQueue&) = delete;

    Status open(const IpAddress& address, std::span<const std::uint16_t> udp_ports, bool shared,
                std::string& why) {
        memory_bytes_ = std::max<std::size_t>(udp_ports.size(), 1) * slot_count * slot_bytes;
        memory_ = ::mmap(nullptr, memory_bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
        if (memory_ == MAP_FAILED || epoll_fd_ < 0) {
            why = "no memory or descriptors for the receive buffers: " + system_text(errno);
            return fail(Errc::io_failed, errno);
        }
        sockets_.reserve(udp_ports.size());
        for (const std::uint16_t udp_port : udp_ports) {
            PENSTOCK_TRY_VOID(open_socket(address, udp_port, shared, why));
        }
        return {};
    }

    std::uint16_t receive(std::span<Packet> burst) noexcept override {
        const std::span<Packet> room =
            burst.first(std::min({burst.size(), free_count_, static_cast<std::size_t>(burst_max)}));
        if (receiver_ != nullptr) {
            return receive_through_ring(room);
        }
        if (sockets_.size() == 1) {
            return receive_from(sockets_.front(), room);
        }
        std::array<epoll_event, sockets_ready_max> ready;
        const int ready_count = ::epoll_wait(epoll_fd_, ready.data(), sockets_ready_max, 0);
        std::size_t filled = 0;
        // The kernel reports ready sockets in turn, so that one busy door does not starve another.
        for (int i = 0; i < ready_count && filled < room.size(); ++i) {
            const std::size_t share =
                (room.size() - filled + static_cast<unsigned>(ready_count - i) - 1) /
                static_cast<unsigned>(ready_count - i);
            Socket& socket = sockets_[ready[static_cast<std::size_t>(i)].data.u32];
            filled += receive_from(socket, room.subspan(filled, share));
        }
        return static_cast<std::uint16_t>(filled);
    }

    void release(std::span<const Packet> burst) noexcept override {
        PENSTOCK_CHECK(free_count_ + burst.size() <= slot_count);
        if (receiver_ != nullptr) {
            for (const Packet& packet : burst) {
                receiver_->give_back(packet.data);
            }
            free_count_ += burst.size();
            return;
        }
        for (const Packet& packet : burst) {
            const auto offset = packet.data - static_cast<std::byte*>(memory_);
            free_slots_[free_count_++] =
                static_cast<std::uint16_t>(static_cast<std::size_t>(offset) / slot_bytes);
        }
    }

    void attach(IoEngine& engine) override {
        // Without doors there is nothing to receive.
        if (sockets_.empty()) {
            return;
        }
        std::vector<int> descriptors;
        for (const Socket& socket : sockets_) {
            descriptors.push_back(socket.fd);
        }
        receiver_ =
            engine.receive_datagrams({.sockets = descriptors,
                                      .memory = {static_cast<std::byte*>(memory_), memory_bytes_},
                                      .slot_bytes = slot_bytes,
                                      .slots_per_socket = slot_count});
    }

    void detach() noexcept override { receiver_.reset(); }

    bool send(Bytes) noexcept override { return false; }
    // By the socket of the port it comes from, at once.
    bool send_datagram(const UdpAddresses& addresses, Bytes payload) noexcept override {
        for (const Socket& socket : sockets_) {
            if (socket.udp_port == addresses.from_port) {
                return send_from(socket.fd, addresses, payload);
            }
        }
        return false;
    }
    // Readable also while a receive stands in the ring, since that takes a datagram only when the
    // lane enters the kernel.
    int wait_fd() const noexcept override { return epoll_fd_; }
    bool arm_wait() noexcept override { return receiver_ == nullptr || !receiver_->waiting(); }
    std::uint32_t ring_packets() const noexcept override {
        return static_cast<std::uint32_t>(granted_bytes_) / packet_charge_bytes;
    }

    int granted_bytes() const noexcept { return granted_bytes_; }
    void add_to(PortStats& stats) const noexcept {
        stats.received_packets += packets_.get();
        stats.received_bytes += bytes_.get();
        stats.missed += missed_.get();
        stats.errors += errors_.get();
    }

private:
    static bool send_from(int fd, const UdpAddresses& addresses, Bytes payload) noexcept {
        sockaddr_storage to{};
        socklen_t size = 0;
        sockaddr_storage own{};
        socklen_t own_size = sizeof own;
        if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) != 0) {
            return false;
        }
        if (own.ss_family == AF_INET6) {
            auto& v6 = reinterpret_cast<sockaddr_in6&>(to);
            v6.sin6_family = AF_INET6;
            v6.sin6_port = to_network(addresses.to_port);
            if (addresses.to.family == IpFamily::v4) {
                v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
                std::memcpy(v6.sin6_addr.s6_addr + 12, addresses.to.bytes.data(), 4);
            } else {
                std::memcpy(v6.sin6_addr.s6_addr, addresses.to.bytes.data(), 16);
            }
            size = sizeof v6;
        } else {
            auto& v4 = reinterpret_cast<sockaddr_in&>(to);
            v4.sin_family = AF_INET;
            v4.sin_port = to_network(addresses.to_port);
            std::memcpy(&v4.sin_addr, addresses.to.bytes.data(), 4);
            size = sizeof v4;
        }
        const ssize_t sent =
            ::sendto(fd, payload.data(), payload.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                     reinterpret_cast<const sockaddr*>(&to), size);
        return sent == static_cast<ssize_t>(payload.size());
    }

    struct Socket {
        int fd = -1;
        std::uint16_t udp_port = 0;
        std::uint32_t overflows = 0;  // SO_RXQ_OVFL as last told; wraps
    };

    Status open_socket(const IpAddress& address, std::uint16_t udp_port, bool shared,
                       std::string& why) {
        const bool v6 = address.family == IpFamily::v6;
        const auto refuse = [&](const char* step) {
            const int error = errno;
            why = std::string(step) + " " + to_text(address) + " UDP port " +
                  std::to_string(udp_port) + ": " + system_text(error);
            if (error == EADDRINUSE) {
                why += "; another program has this port: stop it or choose another door port";
            } else if (error == EACCES) {
                why += "; ports below 1024 need privileges: choose another door port";
            } else if (error == EADDRNOTAVAIL) {
                why += "; no interface has this address: see `ip address`";
            }
            return fail(Errc::io_failed, error);
        };
        const int fd =
            ::socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            return refuse("cannot make a socket for");
        }
        const auto index = static_cast<std::uint32_t>(sockets_.size());
        sockets_.push_back({fd, udp_port, 0});
        const int on = 1;
        const int off = 0;
        if ((shared && ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
            ::setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on) != 0 ||
            (v6 && ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0)) {
            return refuse("cannot set options of the socket for");
        }
        if (::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer_bytes_wanted,
                         sizeof(int)) != 0) {
            ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes_wanted, sizeof(int));
        }
        socklen_t size = sizeof granted_bytes_;
        ::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted_bytes_, &size);
        sockaddr_storage name{};
        socklen_t name_bytes = 0;
        if (v6) {
            auto& in = reinterpret_cast<sockaddr_in6&>(name);
            in.sin6_family = AF_INET6;
            in.sin6_port = to_network(udp_port);
            std::memcpy(&in.sin6_addr, address.bytes.data(), 16);
            name_bytes = sizeof in;
        } else {
            auto& in = reinterpret_cast<sockaddr_in&>(name);
            in.sin_family = AF_INET;
            in.sin_port = to_network(udp_port);
            std::memcpy(&in.sin_addr, address.bytes.data(), 4);
            name_bytes = sizeof in;
        }
        if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), name_bytes) != 0) {
            return refuse("cannot listen on");
        }
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = index;
        if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
            return refuse("cannot watch");
        }
        return {};
    }

    std::uint16_t receive_through_ring(std::span<Packet> room) noexcept {
        std::array<Datagram, burst_max> datagrams;
        const std::size_t got = receiver_->take(std::span(datagrams).first(room.size()));
        errors_.add(receiver_->errors() - receiver_errors_);
        receiver_errors_ = receiver_->errors();
        if (got == 0) {
            return 0;
        }
        std::uint64_t bytes = 0;
        for (std::size_t i = 0; i < got; ++i) {
            const Datagram& datagram = datagrams[i];
            Socket& socket = sockets_[datagram.socket];
            Packet& packet = room[i];
            packet = Packet{};
            packet.data = datagram.data;
            packet.length = datagram.length;
            packet.flags = packet_is_payload;
            packet.destination_port = socket.udp_port;
            read_source(datagram.name, packet);
            read_overflows(datagram.control, socket);
            bytes += packet.length;
        }
        free_count_ -= got;
        packets_.add(got);
        bytes_.add(bytes);
        return static_cast<std::uint16_t>(got);
    }

    std::uint16_t receive_from(Socket& socket, std::span<Packet> room) noexcept {
        const auto wanted = static_cast<unsigned>(room.size());
        if (wanted == 0) {
            return 0;
        }
        for (unsigned i = 0; i < wanted; ++i) {
            iovecs_[i] = {slot(free_slots_[free_count_ - 1 - i]), slot_bytes};
            msghdr& header = messages_[i].msg_hdr;
            header.msg_name = &names_[i];
            header.msg_namelen = sizeof names_[i];
            header.msg_iov = &iovecs_[i];
            header.msg_iovlen = 1;
            header.msg_control = controls_[i].data();
            header.msg_controllen = controls_[i].size();
            header.msg_flags = 0;
        }
        const int got = ::recvmmsg(socket.fd, messages_.data(), wanted, MSG_DONTWAIT, nullptr);
        if (got <= 0) {
            if (got < 0 && errno != EAGAIN && errno != EINTR) {
                errors_.add();
            }
            return 0;
        }
        free_count_ -= static_cast<unsigned>(got);
        std::uint64_t bytes = 0;
        for (unsigned i = 0; i < static_cast<unsigned>(got); ++i) {
            Packet& packet = room[i];
            packet = Packet{};
            packet.data = static_cast<std::byte*>(iovecs_[i].iov_base);
            packet.length = messages_[i].msg_len;
            packet.flags = packet_is_payload;
            packet.destination_port = socket.udp_port;
            read_source(&names_[i], packet);
            bytes += packet.length;
        }
        // The count is cumulative, so the newest message says it all.
        const msghdr& newest = messages_[static_cast<unsigned>(got) - 1].msg_hdr;
        read_overflows({static_cast<const std::byte*>(newest.msg_control), newest.msg_controllen},
                       socket);
        packets_.add(static_cast<unsigned>(got));
        bytes_.add(bytes);
        return static_cast<std::uint16_t>(got);
    }

    static void read_source(const void* name, Packet& packet) noexcept {
        if (static_cast<const sockaddr*>(name)->sa_family == AF_INET) {
            const auto& in = *static_cast<const sockaddr_in*>(name);
            packet.source = ipv4_address(&in.sin_addr);
            packet.source_port = to_network(in.sin_port);
            return;
        }
        const auto& in = *static_cast<const sockaddr_in6*>(name);
        packet.source_port = to_network(in.sin6_port);
        packet.source = IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)
                            ? ipv4_address(&in.sin6_addr.s6_addr[12])
                            : ipv6_address(&in.sin6_addr);
    }

    void read_overflows(Bytes control, Socket& socket) noexcept {
        msghdr header{};
        header.msg_control = const_cast<std::byte*>(control.data());
        header.msg_controllen = control.size();
        for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
                const auto told = load<std::uint32_t>(CMSG_DATA(c));
                missed_.add(told - socket.overflows);
                socket.overflows = told;
            }
        }
    }

    std::byte* slot(std::uint16_t index) const noexcept {
        return static_cast<std::byte*>(memory_) + index * slot_bytes;
    }

    void* memory_ = MAP_FAILED;
    std::size_t memory_bytes_ = 0;
    std::unique_ptr<DatagramReceiver> receiver_;  // null: by recvmmsg(2)
    std::uint64_t receiver_errors_ = 0;           // of it, counted so far
    int epoll_fd_ = -1;
    int granted_bytes_ = 0;
    std::vector<Socket> sockets_;
    std::array<std::uint16_t, slot_count> free_slots_{};
    std::size_t free_count_ = slot_count;
    std::array<mmsghdr, burst_max> messages_{};
    std::array<iovec, burst_max> iovecs_{};
    std::array<sockaddr_storage, burst_max> names_{};
    struct alignas(cmsghdr) Control : std::array<std::byte, CMSG_SPACE(sizeof(std::uint32_t))> {};
    std::array<Control, burst_max> controls_{};
    Counter packets_;
    Counter bytes_;
    Counter missed_;
    Counter errors_;
};

KernelPort::KernelPort() = default;
KernelPort::~KernelPort() = default;

Result<std::unique_ptr<KernelPort>> KernelPort::open(const PortOptions& options, std::string& why) {
    const auto prefixed = [&](const std::string& problem) {
        why = "--port " + options.device + ": " + problem;
    };
    std::string_view text = options.device;
    text.remove_prefix(std::min(text.size(), std::string_view("kernel:").size()));
    const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
    const auto address = parse_address(bracketed ? text.substr(1, text.size() - 2) : text);
    if (!address || bracketed != (address->family == IpFamily::v6)) {
        prefixed(
            "'" + std::string(text) +
            "' found; expected an address such as kernel:127.0.0.1, kernel:0.0.0.0 or kernel:[::]");
        return fail(Errc::invalid_argument);
    }
    if (!options.addresses.empty()) {
        prefixed("--address " + to_text(options.addresses.front()) +
                 " found; kernel sockets use the interface's own addresses: leave it out");
        return fail(Errc::invalid_argument);
    }
    std::unique_ptr<KernelPort> port(new KernelPort);
    port->name_ = options.device;
    port->address_ = *address;
    port->udp_ports_ = options.all_udp_ports();
    // Without doors there is nothing to listen on; one idle queue keeps the lanes' loops uniform.
    const unsigned queues = port->udp_ports_.empty() ? 1 : std::max(1U, options.lane_count);
    for (unsigned i = 0; i < queues; ++i) {
        port->queues_.push_back(std::make_unique<KernelQueue>());
        std::string problem;
        if (auto opened =
                port->queues_.back()->open(*address, options.udp_ports_of(i), queues > 1, problem);
            !opened) {
            prefixed(problem);
            return std::unexpected(opened.error());
        }
    }
    return port;
}

std::string KernelPort::describe() const {
    return name_ + ": kernel UDP sockets, " + counted(udp_ports_.size(), "door port") + ", " +
           counted(queues_.size(), "queue") + ", receive buffer " +
           std::to_string(queues_.front()->granted_bytes() / 1024) + " KiB each";
}

unsigned KernelPort::queue_count() const noexcept {
    return static_cast<unsigned>(queues_.size());
}
PortQueue& KernelPort::queue(unsigned index) noexcept {
    return *queues_[index];
}

PortStats KernelPort::stats() noexcept {
    PortStats stats;
    for (const auto& queue : queues_) {
        queue->add_to(stats);
    }
    return stats;
}

}  // namespace penstock
