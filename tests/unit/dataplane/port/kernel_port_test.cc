#include "dataplane/port/kernel_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "storage/io/uring_engine.h"

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

    // What came within ten seconds, and from which port.
    std::pair<std::string, std::uint16_t> receive() const {
        pollfd ready{fd_, POLLIN, 0};
        EXPECT_EQ(::poll(&ready, 1, 10'000), 1);
        std::array<char, 2048> text;
        sockaddr_in6 from{};
        socklen_t size = sizeof from;
        const ssize_t got = ::recvfrom(fd_, text.data(), text.size(), MSG_DONTWAIT,
                                       reinterpret_cast<sockaddr*>(&from), &size);
        // The port stands at the same place in both families.
        return {std::string(text.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))),
                ntohs(from.sin6_port)};
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

// Queue 0 of a port as a lane uses it: by system calls of its own, or through the lane's ring.
class KernelPortReceive : public testing::TestWithParam<bool> {
protected:
    // `directories` stays empty: the ring has no files.
    void SetUp() override {
        if (GetParam()) {
            auto engine = UringEngine::open({});
            ASSERT_TRUE(engine) << UringEngine::explain_open_failure(engine.error());
            engine_ = std::move(*engine);
        }
    }
    void TearDown() override {
        if (port_ != nullptr) {
            port_->queue(0).detach();
        }
    }
    void open(const PortOptions& options) {
        port_ = open_or_fail(options);
        ASSERT_NE(port_, nullptr);
        if (engine_ != nullptr) {
            queue().attach(*engine_);
        }
    }
    PortQueue& queue() { return port_->queue(0); }
    Port& port() { return *port_; }
    // A lane's turn.
    std::uint16_t receive(std::span<Packet> burst) {
        const std::uint16_t count = queue().receive(burst);
        if (engine_ != nullptr) {
            engine_->submit();
            std::array<IoCompletion, 4> none;
            EXPECT_EQ(engine_->reap(none), 0U);
        }
        return count;
    }
    // Waits on the queue's descriptor as an idle lane would; false after ten seconds of silence.
    bool wait_readable() {
        if (!queue().arm_wait()) {
            return true;
        }
        pollfd ready{queue().wait_fd(), POLLIN, 0};
        return ::poll(&ready, 1, 10000) == 1;
    }
    // Until nothing came in several turns.
    template <typename Take>
    void receive_all(Take take) {
        std::array<Packet, burst_max> burst;
        for (int silent = 0; silent < 5; ++silent) {
            while (const std::uint16_t count = receive(burst)) {
                silent = 0;
                take(std::span<const Packet>(burst).first(count));
                queue().release(std::span(burst).first(count));
            }
        }
    }

private:
    std::unique_ptr<UringEngine> engine_;
    std::unique_ptr<Port> port_;
};
INSTANTIATE_TEST_SUITE_P(, KernelPortReceive, testing::Bool(), [](const auto& chosen) {
    return chosen.param ? "ThroughTheRing" : "BySystemCalls";
});

TEST_P(KernelPortReceive, TakesDatagramsOfSeveralDoorsOverLoopback) {
    const std::uint16_t first = free_udp_port();
    const std::uint16_t second = free_udp_port();
    if (first == second) {
        GTEST_SKIP() << "the kernel gave one free port twice";
    }
    open({"kernel:127.0.0.1", {}, {first, second}, 1});
    pollfd silent{queue().wait_fd(), POLLIN, 0};
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
        while (got.size() < expected.size() && wait_readable()) {
            const std::uint16_t count = receive(burst);
            for (std::uint16_t i = 0; i < count; ++i) {
                const Decoded d = decode(burst[i]);
                ASSERT_EQ(d.verdict, DropReason::none);
                EXPECT_EQ(to_text(d.source), "127.0.0.1");
                EXPECT_NE(d.source_port, 0);
                const std::string text(as_text(d.payload));
                EXPECT_EQ(d.destination_port, std::stoi(text) % 50 % 3 == 0 ? first : second);
                got.insert(text);
            }
            queue().release(std::span(burst).first(count));
        }
        ASSERT_EQ(got, expected);
    }
    EXPECT_EQ(port().stats().received_packets, 1000U);
    EXPECT_EQ(port().stats().missed, 0U);
}

TEST_P(KernelPortReceive, TakesIpv4AndIpv6OnTheAnyAddress) {
    const std::uint16_t udp_port = free_udp_port();
    open({"kernel:[::]", {}, {udp_port}, 1});
    Sender(AF_INET).send(udp_port, "four");
    // The largest that IPv6 carries over an interface of 65536 bytes.
    Sender(AF_INET6).send(udp_port, std::string(65488, '6'));
    std::map<std::string, std::size_t> got;
    std::array<Packet, burst_max> burst;
    while (got.size() < 2 && wait_readable()) {
        const std::uint16_t count = receive(burst);
        for (std::uint16_t i = 0; i < count; ++i) {
            got[to_text(burst[i].source)] = burst[i].length;
            EXPECT_EQ(burst[i].data[burst[i].length - 1],
                      std::byte{burst[i].length == 4 ? std::uint8_t{'r'} : std::uint8_t{'6'}});
        }
        queue().release(std::span(burst).first(count));
    }
    EXPECT_EQ(got, (std::map<std::string, std::size_t>{{"127.0.0.1", 4}, {"::1", 65488}}));
}

TEST_P(KernelPortReceive, AnswersFromTheUdpPortThatWasAsked) {
    for (const auto& [device, family] : {std::pair{"kernel:127.0.0.1", AF_INET},
                                         {"kernel:[::]", AF_INET},
                                         {"kernel:[::]", AF_INET6}}) {
        TearDown();
        const std::uint16_t other = free_udp_port();
        const std::uint16_t udp_port = free_udp_port();
        if (other == udp_port) {
            GTEST_SKIP() << "the kernel gave one free port twice";
        }
        open({device, {}, {other, udp_port}, 1});
        const Sender sender(family);
        sender.send(udp_port, "question");
        std::array<Packet, burst_max> burst;
        std::uint16_t count = 0;
        while (count == 0 && wait_readable()) {
            count = receive(burst);
        }
        ASSERT_EQ(count, 1);
        const Decoded asked = decode(burst[0]);
        queue().release(std::span(burst).first(1));
        UdpAddresses back;
        back.to = asked.source;
        back.to_port = asked.source_port;
        back.from_port = asked.destination_port;
        EXPECT_TRUE(queue().send_datagram(back, as_bytes("answer")));
        EXPECT_EQ(sender.receive(), (std::pair<std::string, std::uint16_t>{"answer", udp_port}))
            << device;
        back.from_port = 1;
        EXPECT_FALSE(queue().send_datagram(back, as_bytes("answer"))) << "no socket of ours";
    }
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

TEST(KernelPort, DeliversALanesOwnPortToItAlone) {
    PortOptions options;
    options.device = "kernel:127.0.0.1";
    options.lane_count = 2;
    const std::uint16_t base = free_udp_port();
    std::uint16_t second = free_udp_port();
    while (second == base) {
        second = free_udp_port();
    }
    options.lane_udp_ports = {{base, 0}, {second, 1}};
    std::string why;
    const auto port = open_port(options, why);
    ASSERT_TRUE(port) << why;
    ASSERT_EQ((*port)->queue_count(), 2U);
    std::vector<std::unique_ptr<Sender>> senders;
    for (int i = 0; i < 20; ++i) {  // flows, which would be spread
        senders.push_back(std::make_unique<Sender>(AF_INET));
        senders.back()->send(i % 2 == 0 ? base : second, std::to_string(i % 2));
    }
    std::array<Packet, burst_max> burst;
    for (unsigned q = 0; q < 2; ++q) {
        unsigned got = 0;
        while (const std::uint16_t count = (*port)->queue(q).receive(burst)) {
            for (std::uint16_t i = 0; i < count; ++i) {
                EXPECT_EQ(as_text(burst[i].bytes()), std::to_string(q));
                EXPECT_EQ(burst[i].destination_port, q == 0 ? base : second);
            }
            got += count;
            (*port)->queue(q).release(std::span(burst).first(count));
        }
        EXPECT_EQ(got, 10U);
    }
}

TEST_P(KernelPortReceive, CountsWhatTheKernelDropped) {
    const std::uint16_t udp_port = free_udp_port();
    open({"kernel:127.0.0.1", {}, {udp_port}, 1});
    const Sender sender(AF_INET);
    // More than the largest receive buffer that is asked for (32 MiB, which the kernel doubles).
    const std::string large(60000, 'x');
    constexpr unsigned sent = 2500;
    for (unsigned i = 0; i < sent; ++i) {
        sender.send(udp_port, large);
    }
    std::uint64_t got = 0;
    const auto count = [&](std::span<const Packet> packets) { got += packets.size(); };
    receive_all(count);
    sender.send(udp_port, "the next one tells");
    receive_all(count);
    EXPECT_LT(got, sent);
    EXPECT_EQ(got + port().stats().missed, sent + 1);
}

TEST_P(KernelPortReceive, LendsNoMoreThanItHasAndTheRestWaits) {
    const std::uint16_t udp_port = free_udp_port();
    open({"kernel:127.0.0.1", {}, {udp_port}, 1});
    const Sender sender(AF_INET);
    for (int i = 0; i < 400; ++i) {
        sender.send(udp_port, std::to_string(i));
    }
    std::array<Packet, 3 * burst_max> held;
    std::size_t count = 0;
    for (int turn = 0; turn < 20; ++turn) {
        count += receive(std::span(held).subspan(count));
    }
    EXPECT_EQ(count, 2U * burst_max);
    for (std::size_t i = 0; i < count; ++i) {
        EXPECT_EQ(as_text(held[i].bytes()), std::to_string(i));
    }
    queue().release(std::span(held).first(count));
    receive_all([&](std::span<const Packet> packets) {
        for (const Packet& packet : packets) {
            EXPECT_EQ(as_text(packet.bytes()), std::to_string(count++));
        }
    });
    EXPECT_EQ(count, 400U);
    EXPECT_EQ(port().stats().missed, 0U);
}

TEST_P(KernelPortReceive, ABusyDoorLeavesRoomForAnother) {
    const std::uint16_t busy = free_udp_port();
    const std::uint16_t quiet = free_udp_port();
    if (busy == quiet) {
        GTEST_SKIP() << "the kernel gave one free port twice";
    }
    open({"kernel:127.0.0.1", {}, {busy, quiet}, 1});
    const Sender sender(AF_INET);
    for (int i = 0; i < 2000; ++i) {
        sender.send(busy, "much");
    }
    sender.send(quiet, "little");
    // The busy door's backlog is 30 bursts; the quiet one's datagram is in one of the first.
    std::array<Packet, burst_max> burst;
    bool found = false;
    for (int turn = 0; turn < 6 && !found; ++turn) {
        const std::uint16_t count = receive(burst);
        found = std::any_of(burst.begin(), burst.begin() + count,
                            [&](const Packet& packet) { return packet.destination_port == quiet; });
        queue().release(std::span(burst).first(count));
    }
    EXPECT_TRUE(found);
}

// What a lane that sleeps in its engine relies on, having no file I/O under way.
TEST(KernelPortRing, ADatagramEndsTheEnginesWait) {
    const std::uint16_t udp_port = free_udp_port();
    auto engine = UringEngine::open({});
    ASSERT_TRUE(engine);
    const auto port = open_or_fail({"kernel:127.0.0.1", {}, {udp_port}, 1});
    ASSERT_NE(port, nullptr);
    PortQueue& queue = port->queue(0);
    queue.attach(**engine);
    (*engine)->wait(1'000'000);  // a quiet one ends by its time
    EXPECT_TRUE(queue.arm_wait());
    Sender(AF_INET).send(udp_port, "x");
    (*engine)->wait(3600'000'000'000);
    EXPECT_FALSE(queue.arm_wait()) << "there is a packet, sleeping now would leave it";
    std::array<Packet, burst_max> burst;
    EXPECT_EQ(queue.receive(burst), 1U);
    queue.release(std::span(burst).first(1));
    queue.detach();
    // What comes now waits in the socket, and system calls take it.
    Sender(AF_INET).send(udp_port, "y");
    EXPECT_EQ(queue.receive(burst), 1U);
    queue.release(std::span(burst).first(1));
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
