// What a lane takes from a port when drives cost nothing: receive, decode, door, frame, checksum,
// commit. Packets come from another process, for example dpdk-testpmd in txonly mode over memif.
//
// Prints one line of JSON with what was received, committed and dropped over the time measured.
//
// Runs on: one lane thread, pinned; main() only waits.
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "bench/null_engine.h"
#include "bench/one_lane.h"

namespace penstock::bench {
namespace {

struct Options {
    std::string device;
    std::uint16_t udp_port = 9;  // discard, where testpmd sends
    unsigned cpu = 0;
    unsigned shards = 16;
    double seconds = 5;
    double wait_seconds = 20;  // for the first packet
    double warm_seconds = 1;
    std::uint64_t memory_mib = 128;
};

// What one moment's counters say.
struct Look {
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint64_t records = 0;
    std::uint64_t drops = 0;
    std::uint64_t missed = 0;
    std::uint64_t turns = 0;
    std::uint64_t busy_ns = 0;  // of turns that did something
    std::chrono::steady_clock::time_point at;
};

class PacketPath {
public:
    explicit PacketPath(const Options& options) : options_(options) {}

    bool open(std::string& why) {
        return lane_.open({.device = options_.device,
                           .address = {},
                           .udp_port = options_.udp_port,
                           .cpu = options_.cpu,
                           .shards = options_.shards,
                           .memory_mib = options_.memory_mib,
                           .idle = IdlePolicy::busy,
                           .make_engine = [](Lane&) -> Result<std::unique_ptr<IoEngine>> {
                               return std::make_unique<NullEngine>();
                           }},
                          why);
    }

    bool measure(Look& before, Look& after, std::string& why) {
        const auto until = std::chrono::steady_clock::now() + seconds(options_.wait_seconds);
        while (look().records == 0) {
            if (std::chrono::steady_clock::now() > until) {
                why = "no datagram to UDP port " + std::to_string(options_.udp_port) +
                      " came within " + std::to_string(options_.wait_seconds) + " s";
                return false;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        std::this_thread::sleep_for(seconds(options_.warm_seconds));
        before = look();
        std::this_thread::sleep_for(seconds(options_.seconds));
        after = look();
        return true;
    }

    void close() { lane_.close(); }

private:
    static std::chrono::nanoseconds seconds(double value) {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(value * 1e9));
    }

    Look look() {
        const LaneCounters& counters = lane_.counters();
        Look found;
        found.packets = counters.packets.get();
        found.bytes = counters.packet_bytes.get();
        found.records = counters.records_from_doors.get();
        found.drops = lane_.drops();
        found.missed = lane_.missed();
        found.turns = counters.turns.get();
        found.busy_ns = counters.busy_ns.get();
        found.at = std::chrono::steady_clock::now();
        return found;
    }

    const Options& options_;
    OneLane lane_;
};

int run(const Options& options) {
    PacketPath path(options);
    std::string why;
    Look before;
    Look after;
    if (!path.open(why) || !path.measure(before, after, why)) {
        std::fprintf(stderr, "packet_path: %s\n", why.c_str());
        std::_Exit(1);  // lanes may run
    }
    path.close();
    const double took = std::chrono::duration<double>(after.at - before.at).count();
    const auto per_s = [took](std::uint64_t from, std::uint64_t to) {
        return static_cast<double>(to - from) / took;
    };
    std::printf(
        "{\"packets_per_s\":%.0f,\"bytes_per_s\":%.0f,\"records_per_s\":%.0f,\"drops_per_s\":%.0f,"
        "\"missed_per_s\":%.0f,\"packets_per_turn\":%.1f,\"busy_ns_per_packet\":%.1f,"
        "\"seconds\":%.3f}\n",
        per_s(before.packets, after.packets), per_s(before.bytes, after.bytes),
        per_s(before.records, after.records), per_s(before.drops, after.drops),
        per_s(before.missed, after.missed),
        static_cast<double>(after.packets - before.packets) /
            static_cast<double>(std::max<std::uint64_t>(after.turns - before.turns, 1)),
        static_cast<double>(after.busy_ns - before.busy_ns) /
            static_cast<double>(std::max<std::uint64_t>(after.packets - before.packets, 1)),
        took);
    return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
    penstock::bench::Options options;
    CLI::App app{
        "Takes datagrams of a port into shards on drives that cost nothing, and prints the rate as "
        "one line of JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--device", options.device, "The port, as serve's --port")->required();
    app.add_option("--udp-port", options.udp_port, "The door");
    app.add_option("--cpu", options.cpu, "CPU of the lane");
    app.add_option("--shards", options.shards, "Of the door's stream")
        ->check(CLI::Range(1, 65'536));
    app.add_option("--seconds", options.seconds, "Time measured")->check(CLI::PositiveNumber);
    app.add_option("--warm", options.warm_seconds, "Time between the first record and that");
    app.add_option("--wait", options.wait_seconds, "Longest wait for the first record");
    app.add_option("--memory-mib", options.memory_mib, "The lane's buffers");
    CLI11_PARSE(app, argc, argv);
    return penstock::bench::run(options);
}
