// DPDK over a veth pair whose other end is in a network namespace of the test's own: real packets
// of the kernel's own stack, made and removed here. Needs root.
#include "dataplane/port/dpdk_port.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "dataplane/eal.h"
#include "dataplane/port/port.h"
#include "dataplane/wire/checksum.h"

namespace penstock {
namespace {

bool run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

// A namespace with a veth pair, gone with this object.
class Link {
public:
    explicit Link(int number)
        : tag_(std::to_string(::getpid() % 100000) + "x" + std::to_string(number)) {
        made_ =
            run("ip netns add " + space()) &&
            run("ip link add " + ours() + " type veth peer name " + theirs() + " netns " +
                space()) &&
            run("sysctl -qw net.ipv6.conf." + ours() + ".disable_ipv6=1 || true") &&
            run("ip link set " + ours() + " up") &&
            run("ip -n " + space() + " address add 198.18.0.2/24 dev " + theirs()) &&
            run("ip -n " + space() + " address add 2001:db8:5::2/64 dev " + theirs() + " nodad") &&
            run("ip -n " + space() + " link set " + theirs() + " up");
    }
    ~Link() {
        run("ip link del " + ours());
        run("ip netns del " + space());
    }
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    [[nodiscard]] bool made() const { return made_; }
    [[nodiscard]] std::string ours() const { return "psa" + tag_; }
    [[nodiscard]] std::string theirs() const { return "psb" + tag_; }
    [[nodiscard]] std::string space() const { return "psn" + tag_; }

    // Runs `work` on a thread inside the namespace.
    [[nodiscard]] std::thread inside(std::function<void()> work) const {
        return std::thread([path = "/var/run/netns/" + space(), work = std::move(work)] {
            const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
            ASSERT_EQ(::setns(fd, CLONE_NEWNET), 0);
            ::close(fd);
            work();
        });
    }

private:
    std::string tag_;
    bool made_ = false;
};

sockaddr_storage name_of(const char* text, std::uint16_t port, socklen_t& size) {
    sockaddr_storage name{};
    if (::inet_pton(AF_INET, text, &reinterpret_cast<sockaddr_in&>(name).sin_addr) == 1) {
        auto& in = reinterpret_cast<sockaddr_in&>(name);
        in.sin_family = AF_INET;
        in.sin_port = htons(port);
        size = sizeof in;
        return name;
    }
    auto& in = reinterpret_cast<sockaddr_in6&>(name);
    EXPECT_EQ(::inet_pton(AF_INET6, text, &in.sin6_addr), 1);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    size = sizeof in;
    return name;
}

void send_udp(const char* to, std::uint16_t port, int count) {
    socklen_t size = 0;
    const sockaddr_storage name = name_of(to, port, size);
    const int fd = ::socket(name.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < count; ++i) {
        const std::string text = std::string(to) + " " + std::to_string(i);
        EXPECT_EQ(::sendto(fd, text.data(), text.size(), 0,
                           reinterpret_cast<const sockaddr*>(&name), size),
                  static_cast<ssize_t>(text.size()));
    }
    ::close(fd);
}

// One echo request through the kernel's raw socket; true when the reply comes within five seconds.
bool ping(const char* to) {
    socklen_t size = 0;
    const sockaddr_storage name = name_of(to, 0, size);
    const bool six = name.ss_family == AF_INET6;
    const int fd =
        ::socket(name.ss_family, SOCK_RAW | SOCK_CLOEXEC, six ? +IPPROTO_ICMPV6 : +IPPROTO_ICMP);
    std::array<std::byte, 64> echo{};
    echo[0] = static_cast<std::byte>(six ? 128 : 8);
    echo[4] = std::byte{0x77};
    echo[63] = std::byte{0x42};
    if (!six) {
        store(echo.data() + 2, static_cast<std::uint16_t>(~checksum_fold(checksum_add(0, echo))));
    }
    bool answered = false;
    if (::sendto(fd, echo.data(), echo.size(), 0, reinterpret_cast<const sockaddr*>(&name), size) ==
        64) {
        pollfd ready{fd, POLLIN, 0};
        while (!answered && ::poll(&ready, 1, 5000) == 1) {
            std::array<std::byte, 256> got{};
            const ssize_t length = ::recv(fd, got.data(), got.size(), 0);
            const std::size_t header = six ? 0 : 20;
            answered = length == static_cast<ssize_t>(64 + header) &&
                       got[header] == static_cast<std::byte>(six ? 129 : 0) &&
                       got[header + 4] == std::byte{0x77} && got[header + 63] == std::byte{0x42};
        }
    }
    ::close(fd);
    return answered;
}

class DpdkPortTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        if (::geteuid() != 0 || eal_ != nullptr) {
            return;
        }
        cpu_set_t before;
        ::pthread_getaffinity_np(::pthread_self(), sizeof before, &before);
        std::string why;
        EalOptions options;
        options.memory_mb = eal_memory_mb(1, 2);
        auto started = Eal::start(options, why);
        ASSERT_TRUE(started) << why;
        eal_ = started->release();
        cpu_set_t after;
        ::pthread_getaffinity_np(::pthread_self(), sizeof after, &after);
        EXPECT_TRUE(CPU_EQUAL(&before, &after));
    }
    static void TearDownTestSuite() {
        delete eal_;
        eal_ = nullptr;
    }
    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP()
                << "network namespaces and packet sockets need root: run the tests as root";
        }
        ASSERT_NE(eal_, nullptr);
    }
    // Polls every queue of the port until `done`, answering what wants an answer; at most 20 s.
    void poll(Port& port, const std::function<bool()>& done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        std::array<Packet, burst_max> burst;
        std::array<std::byte, 2048> reply;
        while (!done() && std::chrono::steady_clock::now() < end) {
            for (unsigned q = 0; q < port.queue_count(); ++q) {
                PortQueue& queue = port.queue(q);
                const std::uint16_t count = queue.receive(burst);
                for (std::uint16_t i = 0; i < count; ++i) {
                    const Decoded d = decode(burst[i]);
                    if (d.verdict == DropReason::none && port.identity().accepts(d.destination)) {
                        payloads.emplace(as_text(d.payload));
                        sources.insert(to_text(d.source));
                    } else if (d.maybe_answerable) {
                        if (const std::size_t size =
                                respond(burst[i].bytes(), port.identity(), reply)) {
                            answered += queue.send(std::span(reply).first(size)) ? 1U : 0U;
                        }
                    } else {
                        drops.add(d.verdict);
                    }
                }
                queue.release(std::span(burst).first(count));
            }
        }
    }
    static inline Eal* eal_ = nullptr;
    std::multiset<std::string> payloads;
    std::set<std::string> sources;
    DropCounters drops;
    unsigned answered = 0;
};

TEST_F(DpdkPortTest, TakesPacketsOverVeth) {
    const Link link(1);
    ASSERT_TRUE(link.made());
    std::string why;
    PortOptions options;
    options.device = "net_af_packet_t1,iface=" + link.ours();
    options.addresses = {parse_prefix("198.18.0.1/24").value(),
                         parse_prefix("2001:db8:5::1/64").value()};
    auto port = open_port(options, why);
    ASSERT_TRUE(port) << why;
    std::atomic<bool> done{false};
    std::atomic<bool> pinged_v4{false};
    std::atomic<bool> pinged_v6{false};
    std::thread producer = link.inside([&] {
        pinged_v4 = ping("198.18.0.1");
        pinged_v6 = ping("2001:db8:5::1");
        send_udp("198.18.0.1", 5514, 500);
        send_udp("2001:db8:5::1", 5514, 500);
        done = true;
    });
    poll(**port, [&] { return done && payloads.size() >= 1000; });
    producer.join();
    EXPECT_TRUE(pinged_v4);
    EXPECT_TRUE(pinged_v6);
    EXPECT_EQ(payloads.size(), 1000U);
    EXPECT_EQ(payloads.count("198.18.0.1 499"), 1U);
    EXPECT_EQ(payloads.count("2001:db8:5::1 0"), 1U);
    EXPECT_EQ(sources, (std::set<std::string>{"198.18.0.2", "2001:db8:5::2"}));
    EXPECT_GE(answered, 4U);  // ARP, ND and two pings
    for (std::size_t i = 0; i < drop_reason_count; ++i) {
        const auto reason = static_cast<DropReason>(i);
        if (loses_data(reason)) {
            EXPECT_EQ(drops.get(reason), 0U) << label(reason);
        }
    }
    EXPECT_GE((*port)->stats().received_packets, 1000U);
    EXPECT_EQ((*port)->stats().missed, 0U);
}

TEST_F(DpdkPortTest, TakesSyslogOfARealLoggerOnASilentPort) {
    if (!run("command -v logger")) {
        GTEST_SKIP() << "logger (bsdutils) is not installed";
    }
    const Link link(2);
    ASSERT_TRUE(link.made());
    std::string why;
    PortOptions options;
    options.device = "net_af_packet_t2,iface=" + link.ours();
    auto port = open_port(options, why);
    ASSERT_TRUE(port) << why;
    // Nobody answers ARP on this port, so the producer's side is told where to send.
    ASSERT_TRUE(run("ip -n " + link.space() +
                    " neighbor add 198.18.0.9 lladdr 02:00:00:00:00:99 dev " + link.theirs()));
    std::thread producer([&] {
        EXPECT_TRUE(run("ip netns exec " + link.space() +
                        " logger -d -n 198.18.0.9 -P 5514 --rfc5424 'a real line of syslog'"));
    });
    poll(**port, [&] { return !payloads.empty(); });
    producer.join();
    ASSERT_EQ(payloads.size(), 1U);
    EXPECT_NE(payloads.begin()->find("a real line of syslog"), std::string::npos)
        << *payloads.begin();
    EXPECT_EQ(answered, 0U);
}

TEST_F(DpdkPortTest, SpreadsOverTwoQueues) {
    const Link link(3);
    ASSERT_TRUE(link.made());
    std::string why;
    PortOptions options;
    options.device = "net_af_packet_t3,iface=" + link.ours();
    options.addresses = {parse_prefix("198.18.0.1/24").value()};
    options.lane_count = 2;
    auto port = open_port(options, why);
    ASSERT_TRUE(port) << why;
    EXPECT_EQ((*port)->queue_count(), 2U);
    std::thread producer = link.inside([] {
        for (int i = 0; i < 20; ++i) {
            send_udp("198.18.0.1", 5514, 10);  // a new socket, so another flow
        }
    });
    poll(**port, [&] { return payloads.size() >= 200; });
    producer.join();
    EXPECT_EQ(payloads.size(), 200U);
}

TEST_F(DpdkPortTest, SaysThatAVirtualDeviceDoesNotSteer) {
    std::string why;
    PortOptions options;
    options.lane_count = 2;
    options.udp_ports = {514};
    options.lane_udp_ports = {{5600, 0}, {5601, 1}};
    for (const char* device : {"net_null_s1", "net_ring_s1"}) {
        options.device = device;
        const auto port = open_port(options, why);
        ASSERT_TRUE(port) << why;
        EXPECT_EQ((*port)->queue_count(), 2U);
        const std::string said = (*port)->describe();
        EXPECT_NE(said.find(", no steering by UDP port (UDP port 5600 over IPv4 to queue 0: "
                            "Function not implemented): lanes hand records over"),
                  std::string::npos)
            << said;
    }
    options.lane_udp_ports.clear();
    options.device = "net_null_s2";
    const auto plain = open_port(options, why);
    ASSERT_TRUE(plain) << why;
    EXPECT_EQ((*plain)->describe().find("steer"), std::string::npos) << (*plain)->describe();
}

TEST_F(DpdkPortTest, SpreadsAsToldWhereTheDeviceCan) {
    std::string why;
    PortOptions options;
    options.lane_count = 2;
    const auto said = [&](const char* device, RssMode rss) {
        options.device = device;
        options.rss = rss;
        const auto port = open_port(options, why);
        return port ? std::to_string((*port)->queue_count()) + (*port)->describe() : "no: " + why;
    };
    // This device takes the hash functions and knows no packets to use them on.
    for (const RssMode mode : {RssMode::automatic, RssMode::on}) {
        EXPECT_NE(said("net_null_r1", mode).find("2 queues, spread by RSS over addresses"),
                  std::string::npos)
            << said("net_null_r1", mode);
    }
    EXPECT_NE(said("net_null_r2", RssMode::off).find("1 queue, not spread (RSS off)"),
              std::string::npos);
    options.lane_udp_ports = {{5600, 0}, {5601, 1}};
    EXPECT_NE(said("net_null_r3", RssMode::off).find("2 queues, not spread (RSS off), no steer"),
              std::string::npos);
    EXPECT_EQ(
        said("net_ring_r3", RssMode::on),
        "no: --port net_ring_r3: --rss on found, but driver net_ring offers no RSS over IP or "
        "UDP; leave it out");
    const Link link(5);
    ASSERT_TRUE(link.made());
    const std::string device = "net_af_packet_r4,iface=" + link.ours();
    EXPECT_EQ(said(device.c_str(), RssMode::on),
              "no: --port " + device +
                  ": --rss on found, but the kernel fills the queues of net_af_packet by a hash of "
                  "its own; leave it out");
    EXPECT_NE(said(device.c_str(), RssMode::automatic).find("2 queues, spread by the kernel"),
              std::string::npos);
    EXPECT_NE(said(device.c_str(), RssMode::off).find("1 queue, not spread (RSS off)"),
              std::string::npos);
    EXPECT_NE(said((device + ",qpairs=4").c_str(), RssMode::automatic).find("leave qpairs= out"),
              std::string::npos);
}

TEST_F(DpdkPortTest, CountsWhatTheRingCouldNotHold) {
    const Link link(4);
    ASSERT_TRUE(link.made());
    std::string why;
    PortOptions options;
    options.device = "net_af_packet_t4,iface=" + link.ours();
    auto port = open_port(options, why);
    ASSERT_TRUE(port) << why;
    ASSERT_TRUE(run("ip -n " + link.space() +
                    " neighbor add 198.18.0.9 lladdr 02:00:00:00:00:99 dev " + link.theirs()));
    constexpr int sent = 12000;
    ASSERT_GT(sent, static_cast<int>((*port)->queue(0).ring_packets()));
    link.inside([] { send_udp("198.18.0.9", 5514, sent); }).join();
    std::size_t before = 1;
    poll(**port, [&] { return payloads.size() == std::exchange(before, payloads.size()); });
    EXPECT_LT(payloads.size(), static_cast<std::size_t>(sent));
    EXPECT_GE(payloads.size() + (*port)->stats().missed, static_cast<std::size_t>(sent));
}

TEST_F(DpdkPortTest, RegistersLaneThreadsAndStartsOnce) {
    bool registered = false;
    std::thread([&] { registered = EalThread().registered(); }).join();
    EXPECT_TRUE(registered);
    std::string why;
    EXPECT_EQ(Eal::start({}, why).error().code, Errc::already_exists);
    EXPECT_NE(eal_->describe().find("huge pages"), std::string::npos) << eal_->describe();
}

TEST_F(DpdkPortTest, SaysWhyItCannotOpen) {
    std::string why;
    PortOptions options;
    options.device = "net_af_packet_t5,iface=nosuchif0";
    EXPECT_EQ(open_port(options, why).error().code, Errc::not_found);
    EXPECT_NE(why.find("'nosuchif0'"), std::string::npos) << why;
    options.device = "net_nothing0";
    EXPECT_FALSE(open_port(options, why));
    EXPECT_NE(why.find("virtual device"), std::string::npos) << why;
    options.device = "ffff:ff:1f.7";
    EXPECT_FALSE(open_port(options, why));
    EXPECT_NE(why.find("vfio-pci"), std::string::npos) << why;
}

}  // namespace
}  // namespace penstock
