// The hot loop as the design has it: no allocation in a turn, one submit and one look at the
// completions per turn, everything counted.
#include <array>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "dataplane/lane/no_alloc.h"
#include "dataplane/port/sim_port.h"
#include "tests/unit/dataplane/lane/real_storage.h"
#include "tests/unit/dataplane/lane/support.h"
#include "tests/unit/dataplane/wire/packet_builder.h"

namespace penstock::test {
namespace {

constexpr std::uint16_t datagram_port = 5140;
constexpr std::uint16_t lines_port = 5141;
constexpr std::uint16_t other_lane_port = 5142;
constexpr ShardUid here{10};

// Gives the same frames over and over, from memory that was made before.
class RepeatingQueue final : public PortQueue {
public:
    explicit RepeatingQueue(std::vector<Buffer> frames) : frames_(std::move(frames)) {}

    std::uint16_t receive(std::span<Packet> burst) noexcept override {
        for (Packet& packet : burst) {
            Buffer& frame = frames_[next_++ % frames_.size()];
            packet = Packet{};
            packet.data = frame.data();
            packet.length = static_cast<std::uint32_t>(frame.size());
        }
        return static_cast<std::uint16_t>(burst.size());
    }
    void release(std::span<const Packet>) noexcept override {}
    bool send(Bytes) noexcept override { return ++sent_ % 2 == 0; }
    std::uint32_t ring_packets() const noexcept override { return 1024; }

private:
    std::vector<Buffer> frames_;
    std::size_t next_ = 0;
    std::uint64_t sent_ = 0;
};

class RepeatingPort final : public Port {
public:
    explicit RepeatingPort(std::vector<Buffer> frames) : queue_(std::move(frames)) {
        mac_ = our_mac;
        addresses_ = {parse_prefix("192.0.2.1/24").value()};
    }
    std::string describe() const override { return "repeating"; }
    unsigned queue_count() const noexcept override { return 1; }
    PortQueue& queue(unsigned) noexcept override { return queue_; }
    PortStats stats() noexcept override { return {}; }

private:
    RepeatingQueue queue_;
};

Buffer datagram(unsigned to_port, std::string_view payload, std::string_view from = "192.0.2.2",
                std::string_view to = "192.0.2.1") {
    return ethernet(0x0800, ipv4(address(from), address(to), 17,
                                 udp(address(from), address(to), 40000, to_port, payload)));
}

// One of each kind that takes another path through the lane.
std::vector<Buffer> frames_of_every_kind() {
    std::vector<Buffer> frames;
    for (unsigned i = 0; i < 40; ++i) {
        frames.push_back(datagram(datagram_port, std::string(100 + 30 * i, 'd'),
                                  "192.0.2." + std::to_string(2 + i)));
    }
    frames.push_back(datagram(lines_port, "one\r\n\ntwo\nthree"));
    frames.push_back(datagram(other_lane_port, "for another lane"));
    frames.push_back(datagram(9, "no door"));
    frames.push_back(datagram(datagram_port, ""));
    frames.push_back(datagram(datagram_port, "not ours", "192.0.2.2", "192.0.2.99"));
    Buffer damaged = datagram(datagram_port, "damaged");
    damaged.back() ^= std::byte{1};
    frames.push_back(damaged);
    frames.push_back(ethernet(0x88B5, Buffer(60)));
    Buffer arp;
    put16(arp, 1);
    put16(arp, 0x0800);
    put8(arp, 6);
    put8(arp, 4);
    put16(arp, 1);
    put(arp, their_mac.bytes);
    for (const unsigned byte : {192U, 0U, 2U, 2U, 0U, 0U, 0U, 0U, 0U, 0U, 192U, 0U, 2U, 1U}) {
        put8(arp, byte);
    }
    frames.push_back(ethernet(0x0806, arp));
    return frames;
}

std::vector<DoorSpec> three_doors() {
    std::vector<DoorSpec> doors(3);
    doors[0].port = datagram_port;
    doors[0].stream = "here";
    doors[0].quota_bytes_per_s = 200'000'000;
    doors[1].port = lines_port;
    doors[1].stream = "here";
    doors[1].framing = DoorFraming::lines;
    doors[1].key = DoorKey::fixed;
    doors[1].fixed_key = "meter";
    doors[2].port = other_lane_port;
    doors[2].stream = "there";
    return doors;
}

std::unique_ptr<const RouteTable> two_streams() {
    const Hash128 last{UINT64_MAX, UINT64_MAX};
    std::vector<StreamRoute> streams;
    streams.push_back(StreamRoute::make("here", {{{}, last, here, GroupId{1}, 0}}).value());
    streams.push_back(
        StreamRoute::make("there", {{{}, last, ShardUid{11}, GroupId{2}, 1}}).value());
    const std::vector<std::string> doors{"here", "here", "there"};
    return RouteTable::make(std::move(streams), doors).value();
}

// Aborts at the first allocation where the build traps them; counts turns and kernel entries in
// every build.
TEST(HotLoop, NothingIsAllocatedAndTheKernelIsEnteredOnceForATurnsRequests) {
    RealStorage storage;
    if (!storage.usable()) {
        GTEST_SKIP() << "io_uring cannot be used here: " << storage.reason();
    }
    SystemClock clock;
    RepeatingPort port(frames_of_every_kind());
    Routes routes(1);
    const std::vector<DoorSpec> specs = three_doors();
    const auto quotas = make_quotas(specs);
    LaneOptions options;
    options.clock = &clock;
    options.ports = {&port};
    options.routes = &routes;
    options.doors = std::make_unique<DoorSet>(specs, quotas);
    Lane lane(std::move(options));
    SpscByteRing out(1U << 20);
    SpscByteRing in(1U << 20);
    WakeFlag wake(false);
    lane.connect(1, out, in, wake);
    const Status opened = storage.open(lane, {GroupId{1}}, 2, clock);
    ASSERT_TRUE(opened.has_value()) << describe(opened.error());
    lane.set_engine(*lane.engine(), true);  // what recovery asked of it is not counted
    ReplyRing replies(16);
    AddShardRequest add;
    add.shard = here;
    add.group = GroupId{1};
    add.reply_to = &replies;
    ASSERT_TRUE(lane.post(add));
    std::uint64_t turns = 0;
    const std::uint64_t deadline_ns = clock.monotonic_ns() + 20'000'000'000;
    while (replies.pop() == nullptr && clock.monotonic_ns() < deadline_ns) {
        (void)lane.turn();
        ++turns;
    }
    ASSERT_EQ(add.outcome, Errc::ok);
    routes.publish(two_streams());

    const std::vector<std::string> texts(100, std::string(700, 'r'));
    AppendRequest append;
    add_run(append, here, texts);
    append.reply_to = &replies;
    ASSERT_TRUE(lane.post(append));
    bool answered = false;
    // The other lane gives records back.
    const std::string given = "from another lane";
    while ((!answered || turns < 3000) && clock.monotonic_ns() < deadline_ns) {
        if (turns % 16 == 0) {
            const std::size_t bytes = sizeof(HandedRecord) + 1 + given.size();
            if (std::byte* at = in.claim(bytes); at != nullptr) {
                store(at,
                      HandedRecord{value(here), 1, 1, 1, static_cast<std::uint32_t>(given.size())});
                at[sizeof(HandedRecord)] = std::byte{'k'};
                std::copy(as_bytes(given).begin(), as_bytes(given).end(),
                          at + sizeof(HandedRecord) + 1);
                (void)in.commit();
            }
            while (out.front().data() != nullptr) {
                out.pop();
            }
            out.release();
        }
        (void)lane.turn();
        ++turns;
        answered = answered || replies.pop() == &append;
    }
    ASSERT_TRUE(answered);
    EXPECT_EQ(append.runs[0].committed, Errc::ok);
    const LaneCounters& counted = lane.counters();
    EXPECT_EQ(counted.records_from_api.get(), texts.size());
    EXPECT_GT(counted.records_from_doors.get(), 0U);
    EXPECT_GT(counted.handed_over.get(), 0U);
    EXPECT_GT(counted.taken_over.get(), 0U);
    EXPECT_GT(counted.answered.get(), 0U);
    for (const DropReason reason :
         {DropReason::no_door, DropReason::empty_datagram, DropReason::not_ours,
          DropReason::bad_udp_checksum, DropReason::not_ip, DropReason::tx_full}) {
        EXPECT_GT(counted.drops.get(reason), 0U) << label(reason);
    }
    EXPECT_GT(counted.io_submits.get(), 0U);
    EXPECT_LE(counted.io_submits.get(), turns);
    EXPECT_GT(counted.io_advances.get(), 0U);
    EXPECT_LE(counted.io_advances.get(), turns);
    EXPECT_LE(counted.io_follow_ups.get(), counted.io_advances.get());
    lane.finish();
}

// An engine that counts what is asked of it.
class CountingEngine final : public IoEngine {
public:
    explicit CountingEngine(IoEngine& inner) : inner_(inner) {}

    Result<FileHandle> open(unsigned replica, std::string_view name, OpenMode mode) override {
        return inner_.open(replica, name, mode);
    }
    void close(FileHandle file) override { inner_.close(file); }
    Result<std::uint64_t> size_bytes(FileHandle file) override { return inner_.size_bytes(file); }
    Status remove(unsigned replica, std::string_view name) override {
        return inner_.remove(replica, name);
    }
    bool queue(const IoRequest& request) noexcept override {
        ++queued;
        return inner_.queue(request);
    }
    void submit() noexcept override {
        ++submits;
        inner_.submit();
    }
    std::size_t reap(std::span<IoCompletion> out) noexcept override {
        ++reaps;
        const std::size_t count = inner_.reap(out);
        completed += count;
        return count;
    }
    void wait(std::uint64_t timeout_ns) noexcept override { inner_.wait(timeout_ns); }
    std::size_t in_flight() const noexcept override { return inner_.in_flight(); }
    std::byte* allocate_buffer(std::size_t bytes) override { return inner_.allocate_buffer(bytes); }

    std::uint64_t queued = 0;
    std::uint64_t submits = 0;
    std::uint64_t reaps = 0;
    std::uint64_t completed = 0;

private:
    IoEngine& inner_;
};

TEST(HotLoop, ATurnSubmitsOnceAndReapsOnceHoweverMuchThereIs) {
    SimWorld world(SimOptions{});
    const auto inner = world.make_engine();
    CountingEngine engine(*inner);
    auto pool = FramePool::open(engine, 64U << 20).value();
    SimPort port(1);
    Routes routes(1);
    LaneOptions options;
    options.clock = &world.clock();
    options.ports = {&port};
    options.routes = &routes;
    options.trap_allocations = false;
    DoorSpec door;
    door.port = datagram_port;
    door.stream = "logs";
    std::vector<std::unique_ptr<DoorQuota>> quotas(1);
    options.doors = std::make_unique<DoorSet>(std::vector{door}, quotas);
    Lane lane(std::move(options));
    lane.set_engine(engine, false);
    GroupOptions group;
    group.group = GroupId{1};
    group.epoch = Epoch{1};
    group.geometry = small_geometry(1);
    lane.add_group(ShardGroup::recover(group, engine, world.clock(), *pool).value(), GroupId{1});
    ReplyRing replies(64);
    std::vector<ShardRoute> shards;
    for (std::uint64_t uid = 1; uid <= 32; ++uid) {
        AddShardRequest add;
        add.shard = ShardUid{uid};
        add.group = GroupId{1};
        add.reply_to = &replies;
        ASSERT_TRUE(lane.post(add));
        while (replies.pop() == nullptr) {
            (void)lane.turn();
            world.advance(100'000);
        }
        shards.push_back({{}, {}, ShardUid{uid}, GroupId{1}, 0});
    }
    routes.publish(even_routes("logs", std::move(shards)));
    const std::string payload(1200, 'x');
    const std::uint64_t queued_before = engine.queued;
    for (unsigned turn = 0; turn < 3000; ++turn) {
        for (unsigned i = 0; i < 64; ++i) {
            const std::string from = "10.0.0." + std::to_string(i + 1);
            port.queue(0).push_payload(address(from), datagram_port, as_bytes(payload));
        }
        const std::uint64_t submits = engine.submits;
        const std::uint64_t reaps = engine.reaps;
        const std::uint64_t completed = engine.completed;
        (void)lane.turn();
        ASSERT_EQ(engine.submits, submits + 1);
        ASSERT_EQ(engine.reaps, reaps + 1) << engine.completed - completed << " completions";
        world.advance(20'000);
    }
    EXPECT_GT(engine.queued, queued_before + 1000) << "there was too little to do";
    lane.finish();
}

}  // namespace
}  // namespace penstock::test
