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
#include <vector>

#include "bench/null_engine.h"
#include "dataplane/eal.h"
#include "dataplane/lane/lane_set.h"
#include "dataplane/port/port.h"
#include "storage/log/frame_pool.h"

namespace penstock {
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
        EalOptions eal;
        eal.cpus = {options_.cpu};
        eal.memory_mb = eal_memory_mb(1, 1);
        auto started = Eal::start(eal, why);
        if (!started) {
            return false;
        }
        eal_ = std::move(*started);
        PortOptions port;
        port.device = options_.device;
        port.udp_ports = {options_.udp_port};
        auto opened = open_port(port, why);
        if (!opened) {
            return false;
        }
        port_ = std::move(*opened);
        DoorSpec door;
        door.port = options_.udp_port;
        door.stream = "bench";
        LaneSetOptions lanes;
        lanes.cpus = {options_.cpu};
        lanes.doors = {door};
        lanes.ports = {port_.get()};
        lanes.idle.policy = IdlePolicy::busy;
        lanes.clock = &clock_;
        lanes.stop_deadline_ns = 1'000'000'000;
        auto made = LaneSet::make(std::move(lanes), why);
        if (!made) {
            return false;
        }
        lanes_ = std::move(*made);
        const Status running = lanes_->start([this](Lane& lane) { return prepare(lane); }, why);
        if (!running) {
            return false;
        }
        publish();
        return true;
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

    void close() {
        lanes_->stop();
        lanes_.reset();
        port_.reset();
        eal_.reset();
    }

private:
    static std::chrono::nanoseconds seconds(double value) {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(value * 1e9));
    }

    Status prepare(Lane& lane) {
        engine_ = std::make_unique<bench::NullEngine>();
        PENSTOCK_TRY(pool, FramePool::open(*engine_, options_.memory_mib << 20));
        pool_ = std::move(pool);
        lane.set_engine(*engine_, false);
        GroupOptions group;
        group.group = GroupId{1};
        group.epoch = Epoch{1};
        group.geometry.set_id = 1;
        group.geometry.data_groups = 1;
        PENSTOCK_TRY(recovered, ShardGroup::recover(group, *engine_, clock_, *pool_));
        for (std::uint64_t uid = 1; uid <= options_.shards; ++uid) {
            // Freed soon, so that space is used again as in a node that has run for long.
            recovered->add_shard(ShardUid{uid}, 1000, added_);
        }
        lane.add_group(std::move(recovered), GroupId{1});
        return {};
    }

    void publish() {
        std::vector<ShardRoute> shards(options_.shards);
        const std::uint64_t step = UINT64_MAX / options_.shards;
        for (std::uint64_t i = 0; i < options_.shards; ++i) {
            const bool last = i + 1 == options_.shards;
            shards[i] = {{i * step, 0},
                         {last ? UINT64_MAX : (i + 1) * step - 1, UINT64_MAX},
                         ShardUid{i + 1},
                         GroupId{1},
                         0};
        }
        std::vector<StreamRoute> streams;
        streams.push_back(StreamRoute::make("bench", std::move(shards)).value());
        const std::vector<std::string> doors{"bench"};
        lanes_->publish(RouteTable::make(std::move(streams), doors).value());
    }

    Look look() {
        const LaneCounters& counters = lanes_->lane(0).counters();
        Look found;
        found.packets = counters.packets.get();
        found.bytes = counters.packet_bytes.get();
        found.records = counters.records_from_doors.get();
        for (unsigned i = 1; i < static_cast<unsigned>(DropReason::count_); ++i) {
            found.drops += counters.drops.get(static_cast<DropReason>(i));
        }
        found.missed = port_->stats().missed;
        found.turns = counters.turns.get();
        found.busy_ns = counters.busy_ns.get();
        found.at = std::chrono::steady_clock::now();
        return found;
    }

    struct Added : CommitWaiter {
        Added() {
            on_done = [](CommitWaiter&, Errc) noexcept {};
        }
    };

    const Options& options_;
    SystemClock clock_;
    std::unique_ptr<Eal> eal_;
    std::unique_ptr<Port> port_;
    std::unique_ptr<bench::NullEngine> engine_;
    std::unique_ptr<FramePool> pool_;
    Added added_;
    std::unique_ptr<LaneSet> lanes_;
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
}  // namespace penstock

int main(int argc, char** argv) {
    penstock::Options options;
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
    return penstock::run(options);
}
