// A lane under more load than its drives take, on simulated disks and a simulated clock: flows of
// datagrams over rings of a bounded size, and what became of each.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "dataplane/port/sim_port.h"
#include "tests/unit/dataplane/lane/support.h"

namespace penstock::test {

// Every request takes tens of milliseconds, as on a drive with a long queue.
inline SimOptions slow_disks() {
    SimOptions options;
    options.read = {1'000'000, 2'000'000};
    options.write = {40'000'000, 80'000'000};
    options.write_durable = {40'000'000, 80'000'000};
    options.flush = {40'000'000, 80'000'000};
    options.allocate = {1'000'000, 5'000'000};
    options.outlier_per_million = 0;
    return options;
}

// Datagrams to one door at an even rate, from sources that take turns.
struct Flow {
    std::uint16_t door_port = 0;
    std::uint64_t per_second = 0;
    std::size_t bytes = 100;
    unsigned sources = 1;
    unsigned port = 0;
    // What became of them.
    std::uint64_t sent = 0;
    std::uint64_t missed = 0;  // the ring was full
    std::uint64_t next_ns = 0;
};

class OverloadTest : public ::testing::Test {
protected:
    static constexpr std::size_t ring_packets = 1024;
    // What a turn with a full burst takes.
    static constexpr std::uint64_t turn_ns = 20'000;

    struct Setup {
        std::size_t memory_bytes = 32U << 20;
        unsigned ports = 1;
        SimOptions disks = slow_disks();
        SetGeometry geometry = small_geometry(1);
        // Stream names by door, door i on UDP port 5000 + i.
        std::vector<std::string> doors;
    };

    void TearDown() override { lane.reset(); }

    void make(Setup wanted) {
        world = std::make_unique<SimWorld>(wanted.disks);
        LaneOptions options;
        options.clock = &world->clock();
        for (unsigned i = 0; i < wanted.ports; ++i) {
            ports.push_back(std::make_unique<SimPort>(1));
            options.ports.push_back(ports.back().get());
        }
        options.routes = &routes;
        options.trap_allocations = false;  // simulated ports and disks allocate freely
        options.on_commit = &OverloadTest::on_commit;
        options.on_commit_context = this;
        std::vector<DoorSpec> specs;
        for (const std::string& stream : wanted.doors) {
            DoorSpec spec;
            spec.port = static_cast<std::uint16_t>(5000 + specs.size());
            spec.stream = stream;
            specs.push_back(spec);
        }
        std::vector<std::unique_ptr<DoorQuota>> quotas(specs.size());
        options.doors = std::make_unique<DoorSet>(specs, quotas);
        door_streams = wanted.doors;
        lane = std::make_unique<Lane>(std::move(options));
        engine = world->make_engine();
        pool = FramePool::open(*engine, wanted.memory_bytes).value();
        lane->set_engine(*engine, false);
        GroupOptions group;
        group.group = GroupId{1};
        group.epoch = Epoch{1};
        group.geometry = wanted.geometry;
        auto recovered = ShardGroup::recover(group, *engine, world->clock(), *pool);
        ASSERT_TRUE(recovered.has_value()) << describe(recovered.error());
        lane->add_group(std::move(*recovered), GroupId{1});
    }

    // Shards of a stream get the numbers from `first` on.
    void add_stream(const std::string& name, std::uint64_t first, unsigned shards) {
        std::vector<ShardRoute> found;
        for (std::uint64_t uid = first; uid < first + shards; ++uid) {
            AddShardRequest request;
            request.shard = ShardUid{uid};
            request.group = GroupId{1};
            ask(request);
            ASSERT_EQ(request.outcome, Errc::ok);
            found.push_back({{}, {}, ShardUid{uid}, GroupId{1}, 0});
        }
        const std::uint64_t step = UINT64_MAX / found.size();
        for (std::size_t i = 0; i < found.size(); ++i) {
            found[i].first = {i * step, 0};
            found[i].last = {i + 1 == found.size() ? UINT64_MAX : (i + 1) * step - 1, UINT64_MAX};
        }
        streams[name] = std::move(found);
        std::vector<StreamRoute> all;
        for (const auto& [stream, stream_shards] : streams) {
            all.push_back(StreamRoute::make(stream, stream_shards).value());
        }
        routes.publish(RouteTable::make(std::move(all), door_streams).value());
    }

    template <typename Request>
    void ask(Request& request) {
        request.reply_to = &replies;
        ASSERT_TRUE(lane->post(request));
        for (int i = 0; i < 500'000; ++i) {
            if (LaneRequest* answered = replies.pop(); answered != nullptr) {
                ASSERT_EQ(answered, &request);
                return;
            }
            if (lane->turn() == 0) {
                world->advance(100'000);
            }
        }
        FAIL() << "no answer";
    }

    void offer(Flow& flow) {
        SimQueue& queue = ports[flow.port]->queue(0);
        const std::uint64_t source = flow.sent++ % flow.sources;
        if (queue.waiting() >= ring_packets) {
            ++flow.missed;
            return;
        }
        const std::string address = "10." + std::to_string(flow.door_port % 256) + "." +
                                    std::to_string(source / 250) + "." +
                                    std::to_string(source % 250 + 1);
        payload.resize(flow.bytes, std::byte{'x'});
        queue.push_payload(parse_address(address).value(), flow.door_port, payload);
    }

    // Lets the flows run for so long, or until done(), which is asked after every turn.
    template <typename Done>
    bool run_until(std::span<Flow> flows, std::uint64_t for_ns, Done&& done) {
        const std::uint64_t until_ns = world->now_ns() + for_ns;
        for (Flow& flow : flows) {
            flow.next_ns = std::max(flow.next_ns, world->now_ns());
        }
        while (world->now_ns() < until_ns) {
            for (Flow& flow : flows) {
                while (flow.next_ns <= world->now_ns()) {
                    flow.next_ns += 1'000'000'000 / flow.per_second;
                    offer(flow);
                }
            }
            (void)lane->turn();
            if (done()) {
                return true;
            }
            world->advance(turn_ns);
        }
        return false;
    }
    template <typename EachTurn>
    void run(std::span<Flow> flows, std::uint64_t for_ns, EachTurn&& each_turn) {
        run_until(flows, for_ns, [&] {
            each_turn();
            return false;
        });
    }
    void run(std::span<Flow> flows, std::uint64_t for_ns) {
        run(flows, for_ns, [] {});
    }
    // Until everything in the rings was taken.
    void empty_rings() {
        for (int i = 0; i < 100'000; ++i) {
            std::size_t waiting = 0;
            for (const auto& port : ports) {
                waiting += port->queue(0).waiting();
            }
            if (waiting == 0) {
                return;
            }
            (void)lane->turn();
            world->advance(turn_ns);
        }
        FAIL() << "packets stay in the ring";
    }

    [[nodiscard]] const DoorCounters& door(std::size_t index) const {
        return (*lane->doors())[index].counters();
    }
    [[nodiscard]] std::uint64_t dropped_at(std::size_t index) const {
        std::uint64_t sum = 0;
        for (const Counter& counter : door(index).drops.by_reason) {
            sum += counter.get();
        }
        return sum;
    }
    [[nodiscard]] std::uint64_t drops(DropReason reason) const {
        return lane->counters().drops.get(reason);
    }
    // Every datagram of these flows is a record, a counted drop, or was missed by the ring.
    void expect_all_accounted_for(std::span<const Flow> flows) {
        std::uint64_t sent = 0;
        std::uint64_t missed = 0;
        for (const Flow& flow : flows) {
            sent += flow.sent;
            missed += flow.missed;
        }
        std::uint64_t dropped = 0;
        for (const Counter& counter : lane->counters().drops.by_reason) {
            dropped += counter.get();
        }
        EXPECT_EQ(sent, missed + dropped + lane->counters().records_from_doors.get());
    }

    struct Committed {
        std::uint64_t records = 0;
        std::uint64_t bytes = 0;
        std::uint64_t slowest_ns = 0;
    };
    static void on_commit(void* self, ShardUid shard, std::uint64_t latency_ns,
                          std::uint32_t records, std::uint64_t bytes) noexcept {
        Committed& found = static_cast<OverloadTest*>(self)->committed[value(shard)];
        found.records += records;
        found.bytes += bytes;
        found.slowest_ns = std::max(found.slowest_ns, latency_ns);
    }

    std::unique_ptr<SimWorld> world;
    std::vector<std::unique_ptr<SimPort>> ports;
    Routes routes{1};
    ReplyRing replies{64};
    std::unique_ptr<IoEngine> engine;
    std::unique_ptr<FramePool> pool;
    std::vector<std::string> door_streams;
    std::map<std::string, std::vector<ShardRoute>> streams;
    std::vector<std::byte> payload;
    std::map<std::uint64_t, Committed> committed;
    std::unique_ptr<Lane> lane;
};

}  // namespace penstock::test
