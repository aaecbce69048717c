#include "dataplane/port/kernel_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <map>
#include <set>

#include <gtest/gtest.h>

namespace penstock {
namespace {

// A UDP port that was free a moment ago.
std::uint16_t free_udp_port() {
    const int fd = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    socklen_t size = sizeof name;
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&name), size), 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
    ::close(fd);
    return ntohs(name.sin6_port);
}

class Sender {
public:
    explicit Sender(int family)
        : fd_(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)), family_(family) {}
    ~Sender() { ::close(fd_); }
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;
    void send(std::uint16_t port, std::string_view text) const {
        if (family_ == AF_INET) {
            sockaddr_in to{};
            to.sin_family = AF_INET;
            to.sin_port = htons(port);
            to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            ASSERT_EQ(::sendto(fd_, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&to),
                               sizeof to),
                      static_cast<ssize_t>(text.size()));
        } else {
            sockaddr_in6 to{};
            to.sin6_family = AF_INET6;
            to.sin6_port = htons(port);
            to.sin6_addr = in6addr_loopback;
            ASSERT_EQ(::sendto(fd_, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&to),
                               sizeof to),
                      static_cast<ssize_t>(text.size()));
        }
    }

private:
    int fd_;
    int family_;
};

std::unique_ptr<Port> open_or_fail(const PortOptions& options) {
    std::string why;
    auto port = open_port(options, why);
    EXPECT_TRUE(port) << why;
    return port ? std::move(*port) : nullptr;
}

// Waits on the queue's descriptor as an idle lane would; false after ten seconds of silence.
bool wait_readable(PortQueue& queue) {
    pollfd ready{queue.wait_fd(), POLLIN, 0};
    return ::poll(&ready, 1, 10000) == 1;
}

TEST(KernelPort, TakesDatagramsOfSeveralDoorsOverLoopback) {
    const std::uint16_t first = free_udp_port();
    const std::uint16_t second = free_udp_port();
    if (first == second) {
        GTEST_SKIP() << "the kernel gave one free port twice";
    }
    const auto port = open_or_fail({"kernel:127.0.0.1", {}, {first, second}, 1});
    ASSERT_NE(port, nullptr);
    PortQueue& queue = port->queue(0);
    pollfd silent{queue.wait_fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&silent, 1, 0), 0);
    const Sender sender(AF_INET);
    std::set<std::string> expected;
    std::set<std::string> got;
    std::array<Packet, burst_max> burst;
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 50; ++i) {
            const std::string text = std::to_string(round * 50 + i);
            sender.send(i % 3 == 0 ? first : second, text);
            expected.insert(text);
        }
        while (got.size() < expected.size() && wait_readable(queue)) {
            const std::uint16_t count = queue.receive(burst);
            for (std::uint16_t i = 0; i < count; ++i) {
                const Decoded d = decode(burst[i]);
                ASSERT_EQ(d.verdict, DropReason::none);
                EXPECT_EQ(to_text(d.source), "127.0.0.1");
                EXPECT_NE(d.source_port, 0);
                const std::string text(as_text(d.payload));
                EXPECT_EQ(d.destination_port, std::stoi(text) % 50 % 3 == 0 ? first : second);
                got.insert(text);
            }
            queue.release(std::span(burst).first(count));
        }
        ASSERT_EQ(got, expected);
    }
    EXPECT_EQ(port->stats().received_packets, 1000U);
    EXPECT_EQ(port->stats().missed, 0U);
}

TEST(KernelPort, TakesIpv4AndIpv6OnTheAnyAddress) {
    const std::uint16_t udp_port = free_udp_port();
    const auto port = open_or_fail({"kernel:[::]", {}, {udp_port}, 1});
    ASSERT_NE(port, nullptr);
    Sender(AF_INET).send(udp_port, "four");
    Sender(AF_INET6).send(udp_port, std::string(60000, '6'));
    std::map<std::string, std::size_t> got;
    std::array<Packet, burst_max> burst;
    while (got.size() < 2 && wait_readable(port->queue(0))) {
        const std::uint16_t count = port->queue(0).receive(burst);
        for (std::uint16_t i = 0; i < count; ++i) {
            got[to_text(burst[i].source)] = burst[i].length;
        }
        port->queue(0).release(std::span(burst).first(count));
    }
    EXPECT_EQ(got, (std::map<std::string, std::size_t>{{"127.0.0.1", 4}, {"::1", 60000}}));
}

TEST(KernelPort, SpreadsProducersOverLanes) {
    const std::uint16_t udp_port = free_udp_port();
    const auto port = open_or_fail({"kernel:[::1]", {}, {udp_port}, 2});
    ASSERT_NE(port, nullptr);
    ASSERT_EQ(port->queue_count(), 2U);
    std::vector<std::unique_ptr<Sender>> senders;
    for (int i = 0; i < 64; ++i) {
        senders.push_back(std::make_unique<Sender>(AF_INET6));
        senders.back()->send(udp_port, "x");
    }
    std::array<unsigned, 2> got{};
    std::array<Packet, burst_max> burst;
    for (unsigned q = 0; q < 2; ++q) {
        while (const std::uint16_t count = port->queue(q).receive(burst)) {
            got[q] += count;
            port->queue(q).release(std::span(burst).first(count));
        }
    }
    EXPECT_EQ(got[0] + got[1], 64U);
    EXPECT_GT(got[0], 0U);
    EXPECT_GT(got[1], 0U);
}

TEST(KernelPort, CountsWhatTheKernelDropped) {
    const std::uint16_t udp_port = free_udp_port();
    const auto port = open_or_fail({"kernel:127.0.0.1", {}, {udp_port}, 1});
    ASSERT_NE(port, nullptr);
    const Sender sender(AF_INET);
    // More than the largest receive buffer that is asked for (32 MiB, which the kernel doubles).
    const std::string large(60000, 'x');
    constexpr unsigned sent = 2500;
    for (unsigned i = 0; i < sent; ++i) {
        sender.send(udp_port, large);
    }
    std::uint64_t got = 0;
    std::array<Packet, burst_max> burst;
    const auto drain = [&] {
        while (const std::uint16_t count = port->queue(0).receive(burst)) {
            got += count;
            port->queue(0).release(std::span(burst).first(count));
        }
    };
    drain();
    sender.send(udp_port, "the next one tells");
    drain();
    EXPECT_LT(got, sent);
    EXPECT_EQ(got + port->stats().missed, sent + 1);
}

TEST(KernelPort, LendsNoMoreThanItHas) {
    const std::uint16_t udp_port = free_udp_port();
    const auto port = open_or_fail({"kernel:127.0.0.1", {}, {udp_port}, 1});
    ASSERT_NE(port, nullptr);
    const Sender sender(AF_INET);
    for (int i = 0; i < 200; ++i) {
        sender.send(udp_port, std::to_string(i));
    }
    std::array<Packet, 3 * burst_max> held;
    std::size_t count = 0;
    while (const std::uint16_t got = port->queue(0).receive(std::span(held).subspan(count))) {
        count += got;
    }
    EXPECT_EQ(count, 2U * burst_max);
    for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(as_text(held[i].bytes()), std::to_string(i));
    }
    port->queue(0).release(std::span(held).first(count));
    EXPECT_EQ(port->queue(0).receive(held), burst_max);
    port->queue(0).release(std::span(held).first(burst_max));
}

TEST(KernelPort, SaysWhyItCannotListen) {
    std::string why;
    for (const char* device :
         {"kernel:", "kernel:localhost", "kernel:::1", "kernel:[127.0.0.1]", "eth0", ""}) {
        EXPECT_FALSE(open_port({device, {}, {9999}, 1}, why)) << device;
        EXPECT_TRUE(why.starts_with(std::string("--port ") + device)) << why;
        EXPECT_NE(why.find("kernel:"), std::string::npos) << why;
    }
    const std::uint16_t udp_port = free_udp_port();
    const auto holder = open_or_fail({"kernel:127.0.0.1", {}, {udp_port}, 1});
    EXPECT_FALSE(open_port({"kernel:127.0.0.1", {}, {udp_port}, 1}, why));
    EXPECT_NE(why.find("UDP port " + std::to_string(udp_port)), std::string::npos) << why;
    EXPECT_NE(why.find("another program"), std::string::npos) << why;
    EXPECT_FALSE(open_port({"kernel:192.0.2.99", {}, {udp_port}, 1}, why));
    EXPECT_NE(why.find("no interface has this address"), std::string::npos) << why;
}

}  // namespace
}  // namespace penstock
