// Sends UDP datagrams over a DPDK port, as fast as the other side takes them or at a fixed rate:
// what the doors of a node are measured with. Each record comes from another of --keys source
// addresses, which a door with key=source makes its partition key.
//
// The schedule is open: record i is due at start + i / rate. What the port refuses is sent again
// and not lost, so that all that was sent arrives; how far the schedule fell behind is printed.
//
// Ends after --seconds or at SIGTERM, and prints one line of JSON with what it sent.
//
// Runs on: one thread, pinned with --cpu, that never sleeps.
#include <CLI/CLI.hpp>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_pause.h>

#include "dataplane/eal.h"
#include "dataplane/port/dpdk_log.h"
#include "dataplane/wire/checksum.h"
#include "dataplane/wire/headers.h"

namespace penstock {
namespace {

constexpr std::uint16_t burst_max = 32;
constexpr unsigned mbuf_count = 4095;
constexpr std::size_t ip_at = wire::ethernet_bytes;
constexpr std::size_t udp_at = ip_at + wire::ipv4_bytes_min;
constexpr std::size_t payload_at = udp_at + wire::udp_bytes;
// 10.0.0.0 and the addresses after it are the sources, 198.18.0.1 (RFC 2544) the destination.
constexpr std::uint32_t first_source = 0x0A000000;
constexpr std::array<std::uint8_t, 4> destination{198, 18, 0, 1};

struct Options {
    std::string device;
    unsigned cpu = 0;
    std::uint16_t udp_port = 9;
    std::uint32_t record_bytes = 1024;
    std::uint32_t keys = 131'072;
    double rate = 0;
    double seconds = 5;
    double wait_seconds = 20;
    bool udp_checksum = false;
};

struct Sent {
    std::uint64_t records = 0;
    std::uint64_t refused_bursts = 0;  // the ring was full: the receiver is slower than we are
    std::uint64_t behind_cycles_max = 0;
    double seconds = 0;
};

volatile std::sig_atomic_t stop_wanted = 0;

void want_stop(int) {
    stop_wanted = 1;
}

// The frame that every packet buffer holds beforehand; sending changes source and counter only.
class Template {
public:
    explicit Template(const Options& options)
        : frame_(payload_at + options.record_bytes), udp_checksum_(options.udp_checksum) {
        std::mt19937_64 random(20260101);
        for (std::byte& byte : frame_) {
            byte = static_cast<std::byte>(random());
        }
        static constexpr std::array<std::uint8_t, 12> macs{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
        std::memcpy(frame_.data(), macs.data(), macs.size());
        store_u16_be(&frame_[12], wire::ethertype_ipv4);
        std::byte* const ip = &frame_[ip_at];
        std::fill_n(ip, wire::ipv4_bytes_min + wire::udp_bytes, std::byte{0});
        ip[0] = std::byte{0x45};
        store_u16_be(ip + 2, static_cast<std::uint16_t>(frame_.size() - ip_at));
        ip[8] = std::byte{64};
        ip[9] = std::byte{wire::protocol_udp};
        std::memcpy(ip + 16, destination.data(), destination.size());
        std::byte* const udp = &frame_[udp_at];
        store_u16_be(udp, 49'152);
        store_u16_be(udp + 2, options.udp_port);
        store_u16_be(udp + 4, static_cast<std::uint16_t>(frame_.size() - udp_at));
        std::fill_n(&frame_[payload_at], sizeof(std::uint64_t), std::byte{0});
        ip_sum_ = checksum_add(0, {ip, wire::ipv4_bytes_min});
        udp_sum_ = pseudo_header_sum({ip + 12, 4}, {ip + 16, 4}, wire::protocol_udp,
                                     frame_.size() - udp_at) +
                   checksum_add(0, {udp, frame_.size() - udp_at});
    }

    void write_whole(std::byte* at) const noexcept {
        std::memcpy(at, frame_.data(), frame_.size());
    }

    void write_changes(std::byte* at, std::uint32_t source, std::uint64_t number) const noexcept {
        const std::uint32_t address = __builtin_bswap32(source);
        store(at + ip_at + 12, address);
        store(at + payload_at, number);
        const Bytes changed{at + ip_at + 12, 4};
        store(at + ip_at + 10, finished(checksum_add(ip_sum_, changed)));
        if (udp_checksum_) {
            const std::uint64_t sum =
                checksum_add(checksum_add(udp_sum_, changed), {at + payload_at, sizeof number});
            const std::uint16_t checksum = finished(sum);
            // Zero would say that there is none (RFC 768).
            store(at + udp_at + 6, checksum == 0 ? std::uint16_t{0xFFFF} : checksum);
        }
    }

    [[nodiscard]] std::uint16_t size() const noexcept {
        return static_cast<std::uint16_t>(frame_.size());
    }

private:
    static std::uint16_t finished(std::uint64_t sum) noexcept {
        return static_cast<std::uint16_t>(~checksum_fold(sum));
    }

    std::vector<std::byte> frame_;
    bool udp_checksum_;
    std::uint64_t ip_sum_ = 0;
    std::uint64_t udp_sum_ = 0;
};

// The device, with one queue each way.
class Device {
public:
    Device() = default;
    ~Device() {
        if (started_) {
            static_cast<void>(rte_eth_dev_stop(port_));
        }
        if (port_ != none) {
            static_cast<void>(rte_eth_dev_close(port_));
        }
        rte_mempool_free(pool_);
    }
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    bool open(const std::string& device, const Template& frame, std::string& why) {
        const DpdkLog log;  // drivers complain that they cannot share, which is meant
        const std::size_t comma = std::min(device.find(','), device.size());
        const std::string name = device.substr(0, comma);
        const std::string arguments = device.substr(std::min(comma + 1, device.size()));
        if (rte_eal_hotplug_add("vdev", name.c_str(), arguments.c_str()) != 0 ||
            rte_eth_dev_get_port_by_name(name.c_str(), &port_) != 0) {
            why = device + ": DPDK cannot make it: " + rte_strerror(rte_errno);
            return false;
        }
        pool_ = rte_pktmbuf_pool_create("source", mbuf_count, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
        if (pool_ == nullptr) {
            why = std::string("no packet memory: ") + rte_strerror(rte_errno);
            return false;
        }
        rte_mempool_obj_iter(
            pool_,
            [](rte_mempool*, void* template_frame, void* object, unsigned) {
                auto* const mbuf = static_cast<rte_mbuf*>(object);
                static_cast<const Template*>(template_frame)
                    ->write_whole(static_cast<std::byte*>(mbuf->buf_addr) + RTE_PKTMBUF_HEADROOM);
            },
            const_cast<Template*>(&frame));
        const rte_eth_conf conf{};
        int error = rte_eth_dev_configure(port_, 1, 1, &conf);
        error = error != 0 ? error : rte_eth_rx_queue_setup(port_, 0, 1024, 0, nullptr, pool_);
        error = error != 0 ? error : rte_eth_tx_queue_setup(port_, 0, 1024, 0, nullptr);
        error = error != 0 ? error : rte_eth_dev_start(port_);
        if (error != 0) {
            // What net_memif says when there is no socket to connect to is "not permitted".
            why = device + ": DPDK does not start it (" + rte_strerror(-error) +
                  "); expected somebody at the other end: start the receiver first";
            return false;
        }
        started_ = true;
        return true;
    }

    [[nodiscard]] bool link_up() const noexcept {
        rte_eth_link link{};
        return rte_eth_link_get_nowait(port_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    }

    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    [[nodiscard]] rte_mempool* pool() const noexcept { return pool_; }

private:
    static constexpr std::uint16_t none = UINT16_MAX;
    std::uint16_t port_ = none;
    rte_mempool* pool_ = nullptr;
    bool started_ = false;
};

// A burst on its way: what the port refused of it is offered again before the next is made.
class Source {
public:
    Source(const Options& options, const Device& device, const Template& frame)
        : options_(options), device_(device), frame_(frame) {}
    ~Source() { rte_pktmbuf_free_bulk(burst_.data() + first_, count_ - first_); }
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

    // False when the receiver went away.
    bool run(Sent& sent) {
        const std::uint64_t hz = rte_get_tsc_hz();
        const std::uint64_t begin = rte_rdtsc();
        const auto length = static_cast<std::uint64_t>(options_.seconds * static_cast<double>(hz));
        const double cycles_per_record =
            options_.rate > 0 ? static_cast<double>(hz) / options_.rate : 0;
        std::uint64_t elapsed = 0;
        bool link = true;
        while (link && stop_wanted == 0 && (elapsed = rte_rdtsc() - begin) < length) {
            if (first_ == count_) {
                std::uint64_t wanted = burst_max;
                if (cycles_per_record > 0) {
                    const double since = static_cast<double>(elapsed);
                    const auto due = static_cast<std::uint64_t>(since / cycles_per_record);
                    wanted = std::min<std::uint64_t>(wanted, due - std::min(due, made_));
                    const double first_due = static_cast<double>(made_) * cycles_per_record;
                    sent.behind_cycles_max =
                        std::max(sent.behind_cycles_max,
                                 static_cast<std::uint64_t>(std::max(0.0, since - first_due)));
                }
                if (wanted == 0 || !make(static_cast<std::uint16_t>(wanted))) {
                    rte_pause();
                    continue;
                }
            }
            const std::uint16_t taken =
                rte_eth_tx_burst(device_.port(), 0, burst_.data() + first_,
                                 static_cast<std::uint16_t>(count_ - first_));
            first_ = static_cast<std::uint16_t>(first_ + taken);
            sent.records += taken;
            if (first_ != count_) {
                link = (++sent.refused_bursts & 0xFFFFU) != 0 || device_.link_up();
                rte_pause();
            }
        }
        sent.seconds = static_cast<double>(elapsed) / static_cast<double>(hz);
        return link && device_.link_up();
    }

private:
    bool make(std::uint16_t count) noexcept {
        if (rte_pktmbuf_alloc_bulk(device_.pool(), burst_.data(), count) != 0) {
            return false;
        }
        for (std::uint16_t i = 0; i < count; ++i) {
            rte_mbuf* const mbuf = burst_[i];
            mbuf->data_len = frame_.size();
            mbuf->pkt_len = frame_.size();
            frame_.write_changes(rte_pktmbuf_mtod(mbuf, std::byte*), first_source + key_, made_++);
            key_ = key_ + 1 == options_.keys ? 0 : key_ + 1;
        }
        first_ = 0;
        count_ = count;
        return true;
    }

    const Options& options_;
    const Device& device_;
    const Template& frame_;
    std::array<rte_mbuf*, burst_max> burst_{};
    std::uint16_t first_ = 0;
    std::uint16_t count_ = 0;
    std::uint32_t key_ = 0;
    std::uint64_t made_ = 0;
};

bool pin(unsigned cpu, std::string& why) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    if (const int error = pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus); error != 0) {
        why = "CPU " + std::to_string(cpu) + " cannot be used: " + std::strerror(error);
        return false;
    }
    return true;
}

bool wait_for_link(const Device& device, const Options& options, std::string& why) {
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::duration<double>(options.wait_seconds);
    while (!device.link_up()) {
        if (stop_wanted != 0) {
            why = options.device + ": ended before the receiver at the other end had answered";
            return false;
        }
        if (std::chrono::steady_clock::now() > until) {
            why = options.device + ": nobody is at the other end (waited " +
                  std::to_string(options.wait_seconds) + " s); start the receiver first";
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

bool run(const Options& options, Sent& sent, std::string& why) {
    EalOptions eal_options;
    eal_options.cpus = {options.cpu};
    eal_options.memory_mb = eal_memory_mb(1, 1);
    auto eal = Eal::start(eal_options, why);
    if (!eal || !pin(options.cpu, why)) {
        return false;
    }
    const Template frame(options);
    Device device;
    if (!device.open(options.device, frame, why) || !wait_for_link(device, options, why)) {
        return false;
    }
    Source source(options, device, frame);
    if (!source.run(sent)) {
        why = options.device + ": the receiver went away after " + std::to_string(sent.records) +
              " records";
        return false;
    }
    // net_memif unmaps the ring under a receiver that is copying from it (DPDK 22.11: the interrupt
    // thread does not wait for the polling one), which crashes that one. Let it come to the end.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return true;
}

void print(const Options& options, const Sent& sent) {
    const double per_s = sent.seconds > 0 ? static_cast<double>(sent.records) / sent.seconds : 0;
    std::printf(
        "{\"seconds\":%.3f,\"records\":%llu,\"records_per_s\":%.0f,\"payload_bytes_per_s\":%.0f,"
        "\"refused_bursts\":%llu,\"behind_us_max\":%.0f,\"keys\":%u,\"record_bytes\":%u}\n",
        sent.seconds, static_cast<unsigned long long>(sent.records), per_s,
        per_s * options.record_bytes, static_cast<unsigned long long>(sent.refused_bursts),
        static_cast<double>(sent.behind_cycles_max) * 1e6 / static_cast<double>(rte_get_tsc_hz()),
        options.keys, options.record_bytes);
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
    penstock::Options options;
    CLI::App app{
        "Sends UDP datagrams over a virtual DPDK device and prints what it sent as one line of "
        "JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--device", options.device,
                   "The device: net_memif0,role=client,socket=/run/x.sock,socket-abstract=no")
        ->required();
    app.add_option("--cpu", options.cpu, "CPU of the sender");
    app.add_option("--udp-port", options.udp_port, "Destination port: the door");
    app.add_option("--record-bytes", options.record_bytes, "Payload of a datagram")
        ->check(CLI::Range(8, 1472));
    app.add_option("--keys", options.keys, "Source addresses, used in turn")
        ->check(CLI::Range(1, 1 << 24));
    app.add_option("--rate", options.rate, "Records per second; 0: as many as are taken")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--seconds", options.seconds, "How long")->check(CLI::PositiveNumber);
    app.add_option("--wait", options.wait_seconds, "Longest wait for the other end");
    app.add_flag("--udp-checksum", options.udp_checksum, "Send one; over IPv4 it may be left out");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGTERM, &penstock::want_stop);
    std::signal(SIGINT, &penstock::want_stop);
    penstock::Sent sent;
    std::string why;
    if (!penstock::run(options, sent, why)) {
        std::fprintf(stderr, "packet_source: %s\n", why.c_str());
        return 1;
    }
    penstock::print(options, sent);
    return 0;
}
