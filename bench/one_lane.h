// A lane of the product behind one port, with one stream behind one door, on drives of the bench's
// choice: for benchmarks of the way from the port to the commit.
//
// Runs on: the thread that opens it; the lane has its own, pinned.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/lane/lane_set.h"
#include "dataplane/port/port.h"
#include "storage/io/engine.h"
#include "storage/log/frame_pool.h"

namespace penstock::bench {

class OneLane {
public:
    struct Options {
        std::string device;   // as serve's --port
        std::string address;  // of the port, with its prefix length, if it has one
        std::uint16_t udp_port = 9;
        unsigned cpu = 0;
        unsigned shards = 16;
        std::uint64_t memory_mib = 128;
        IdlePolicy idle = IdlePolicy::busy;
        // Makes the lane's drives, on its thread. `waits`: the engine can be slept in.
        std::function<Result<std::unique_ptr<IoEngine>>(Lane&)> make_engine;
        bool engine_waits = false;
    };

    bool open(Options options, std::string& why) {
        options_ = std::move(options);
        const auto kind = port_kind(options_.device, why);
        if (!kind || (*kind != PortKind::kernel && !start_eal(why)) || !open_port(why)) {
            return false;
        }
        DoorSpec door;
        door.port = options_.udp_port;
        door.stream = "bench";
        LaneSetOptions lanes;
        lanes.cpus = {options_.cpu};
        lanes.doors = {door};
        lanes.ports = {port_.get()};
        lanes.idle.policy = options_.idle;
        lanes.clock = &clock_;
        lanes.stop_deadline_ns = 1'000'000'000;
        auto made = LaneSet::make(std::move(lanes), why);
        if (!made) {
            return false;
        }
        lanes_ = std::move(*made);
        if (!lanes_->start([this](Lane& lane) { return prepare(lane); }, why)) {
            return false;
        }
        publish();
        return true;
    }

    void close() {
        lanes_->stop();
        lanes_.reset();
        port_.reset();
        eal_.reset();
    }
    [[nodiscard]] const LaneCounters& counters() { return lanes_->lane(0).counters(); }
    // Of all kinds, so far.
    [[nodiscard]] std::uint64_t drops() {
        std::uint64_t sum = 0;
        for (unsigned i = 1; i < static_cast<unsigned>(DropReason::count_); ++i) {
            sum += counters().drops.get(static_cast<DropReason>(i));
        }
        return sum;
    }
    [[nodiscard]] std::uint64_t missed() { return port_->stats().missed; }

private:
    bool start_eal(std::string& why) {
        EalOptions eal;
        eal.cpus = {options_.cpu};
        eal.memory_mb = eal_memory_mb(1, 1);
        auto started = Eal::start(eal, why);
        if (!started) {
            return false;
        }
        eal_ = std::move(*started);
        return true;
    }

    bool open_port(std::string& why) {
        PortOptions port;
        port.device = options_.device;
        port.udp_ports = {options_.udp_port};
        if (!options_.address.empty()) {
            const auto prefix = parse_prefix(options_.address);
            if (!prefix) {
                why = "--address: expected IP/PREFIX, found " + options_.address;
                return false;
            }
            port.addresses.push_back(*prefix);
        }
        auto opened = penstock::open_port(port, why);
        if (!opened) {
            return false;
        }
        port_ = std::move(*opened);
        return true;
    }

    Status prepare(Lane& lane) {
        PENSTOCK_TRY(engine, options_.make_engine(lane));
        engine_ = std::move(engine);
        PENSTOCK_TRY(pool, FramePool::open(*engine_, options_.memory_mib << 20));
        pool_ = std::move(pool);
        lane.set_engine(*engine_, options_.engine_waits);
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

    struct Added : CommitWaiter {
        Added() {
            on_done = [](CommitWaiter&, Errc) noexcept {};
        }
    };

    Options options_;
    SystemClock clock_;
    std::unique_ptr<Eal> eal_;
    std::unique_ptr<Port> port_;
    std::unique_ptr<IoEngine> engine_;
    std::unique_ptr<FramePool> pool_;
    Added added_;
    std::unique_ptr<LaneSet> lanes_;
};

}  // namespace penstock::bench
