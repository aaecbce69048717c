// Sessions through a whole lane: frames in and out of a port, records through the shard log onto
// simulated disks.
#include "dataplane/lane/lane_sessions.h"

#include <cstring>

#include <gtest/gtest.h>

#include "dataplane/lane/lane.h"
#include "dataplane/port/sim_port.h"
#include "dataplane/session/encode.h"
#include "tests/unit/dataplane/lane/support.h"
#include "tests/unit/dataplane/wire/packet_builder.h"

namespace penstock {
namespace {

using namespace session;

constexpr ShardUid shard{10};
constexpr std::uint16_t base_port = 4600;

KeyMaterial key_of(unsigned seed) {
    KeyMaterial out;
    std::memset(out.key.data(), static_cast<int>(seed), out.key.size());
    return out;
}

class LaneSessionsTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto sessions = std::make_unique<LaneSessions>(LaneSessionsOptions{
            .lane = 0,
            .lane_count = 1,
            .base_port = base_port,
            .limits = {},
            .aead = aead.get(),
            .challenge_key = key_of(9),
            .cookies = Cmac::open(key_of(8).key).value(),
            .on_event =
                [](void* self, SessionEvent event, const Session&) noexcept {
                    static_cast<LaneSessionsTest*>(self)->events.push_back(event);
                },
            .event_context = this,
            .on_open = nullptr,
        });
        LaneOptions options;
        options.clock = &storage.world.clock();
        options.ports = {&port};
        options.routes = &routes;
        options.trap_allocations = false;  // simulated ports and disks allocate freely
        options.sessions = std::move(sessions);
        lane = std::make_unique<Lane>(std::move(options));
        const Status opened = storage.open(*lane, {GroupId{1}}, 1);
        ASSERT_TRUE(opened.has_value()) << describe(opened.error());
        AddShardRequest request;
        request.shard = shard;
        request.group = GroupId{1};
        request.reply_to = &replies;
        ASSERT_TRUE(lane->post(request));
        ASSERT_TRUE(turn_until([&] { return replies.pop() == &request; }));
        ASSERT_EQ(request.outcome, Errc::ok);
        ShardRoute route;
        route.shard = shard;
        route.group = GroupId{1};
        routes.publish(test::even_routes("logs", {route}));
    }
    void TearDown() override {
        lane.reset();  // before the engine its groups use
    }
    template <typename Is>
    bool turn_until(Is&& is) {
        for (int i = 0; i < 200'000; ++i) {
            if (is()) {
                return true;
            }
            if (lane->turn() == 0) {
                storage.world.advance(10'000);
            }
        }
        return false;
    }
    void open(std::uint64_t id) {
        SessionGrant grant;
        grant.id = id;
        grant.receive = key_of(1);
        grant.send = key_of(2);
        grant.producer = "meter-7";
        grant.producer_epoch = 3;
        grant.stream = "logs";
        grant.expires_ns = grant.activate_by_ns = UINT64_MAX;
        ASSERT_TRUE(lane->sessions()->sessions().add(grant, now()));
        session_id = id;
        number = 0;
    }
    std::uint64_t now() { return storage.world.clock().monotonic_ns(); }

    void say(Bytes text) {
        Header header;
        header.type = DatagramType::data;
        header.session = session_id;
        header.packet_number = ++number;
        std::string datagram(header_bytes + text.size() + tag_bytes, 0);
        std::memcpy(datagram.data(), &header, sizeof header);
        std::memcpy(datagram.data() + header_bytes, text.data(), text.size());
        PreparedKey key;
        aead->prepare(key_of(1), key);
        aead->seal(key, number, std::as_writable_bytes(std::span(datagram)));
        const IpAddress from = test::address("192.0.2.7");
        const IpAddress to = test::address("192.0.2.1");
        port.queue(0).push_frame(test::ethernet(
            0x0800, test::ipv4(from, to, 17, test::udp(from, to, 40000, base_port, datagram))));
    }
    void put(std::uint64_t batch, const std::vector<std::string>& data, std::uint64_t to = 10) {
        std::vector<std::byte> memory(1300);
        TextWriter writer(memory);
        BatchBlock head;
        head.shard = to;
        head.batch = batch;
        ASSERT_TRUE(writer.begin_part(head));
        for (const std::string& one : data) {
            ASSERT_TRUE(writer.add_record({as_bytes("key"), as_bytes(one)}));
        }
        ASSERT_TRUE(writer.end_part(part_starts_flow | part_is_last));
        writer.pad_to(500);  // so that an answer may be as large, too
        say(writer.text());
    }
    // Results that the lane sends, from now on until there is one.
    std::vector<ResultEntry> results() {
        std::vector<ResultEntry> out;
        EXPECT_TRUE(turn_until([&] {
            for (const auto& frame : port.queue(0).take_sent()) {
                read_frame(frame, out);
            }
            return !out.empty();
        }));
        return out;
    }
    void read_frame(const std::vector<std::byte>& frame, std::vector<ResultEntry>& out) {
        const Decoded decoded = decode_frame(frame, 0);
        ASSERT_EQ(decoded.verdict, DropReason::none);
        EXPECT_EQ(decoded.destination, test::address("192.0.2.7"));
        EXPECT_EQ(decoded.destination_port, 40000);
        EXPECT_EQ(decoded.source_port, base_port);
        EXPECT_EQ(decoded.destination_mac, test::their_mac);
        std::vector<std::byte> datagram(decoded.payload.begin(), decoded.payload.end());
        PreparedKey key;
        aead->prepare(key_of(2), key);
        OpenJob job;
        job.key = &key;
        job.datagram = datagram.data();
        job.size = static_cast<std::uint32_t>(datagram.size());
        job.packet_number = load<Header>(datagram.data()).packet_number;
        aead->open(job);
        ASSERT_TRUE(job.authentic);
        BlockWalker walker(job.text());
        BlockHeader header;
        Bytes block;
        while (walker.next(header, block)) {
            for (std::size_t at = sizeof(ResultsBlock);
                 header.type == BlockType::results && at < block.size();
                 at += sizeof(ResultEntry)) {
                out.push_back(load<ResultEntry>(block.data() + at));
            }
            map_entries += header.type == BlockType::map ? 1 : 0;
        }
    }
    Sequence end_of_shard() {
        ShardStatusRequest request;
        request.shard = shard;
        request.reply_to = &replies;
        EXPECT_TRUE(lane->post(request));
        EXPECT_TRUE(turn_until([&] { return replies.pop() == &request; }));
        return request.status.end_sequence;
    }

    std::unique_ptr<Aead> aead = Aead::open().value();
    std::vector<SessionEvent> events;
    test::SimStorage storage;
    SimPort port{1, test::our_mac, {parse_prefix("192.0.2.1/24").value()}};
    Routes routes{1};
    ReplyRing replies{64};
    std::unique_ptr<Lane> lane;
    std::uint64_t session_id = 0;
    std::uint64_t number = 0;
    unsigned map_entries = 0;
};

TEST_F(LaneSessionsTest, ABatchIsStoredAndAnswered) {
    open(77);
    const Sequence before = end_of_shard();
    put(1, {"one", "two", "three"});
    const auto entries = results();
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].status, PartStatus::stored);
    EXPECT_EQ(entries[0].level, 1);
    EXPECT_EQ(entries[0].first_sequence, before);
    EXPECT_EQ(entries[0].record_count, 3);
    EXPECT_GT(entries[0].value, 0);
    EXPECT_EQ(end_of_shard(), before + 3) << "committed, as its reader sees it";
    EXPECT_EQ(events, std::vector<SessionEvent>{SessionEvent::activated});
}

TEST_F(LaneSessionsTest, AnotherSessionOfTheSameProducerRepeatsWithoutADuplicate) {
    open(77);
    put(1, {"one", "two"});
    const auto first = results();
    const Sequence end = end_of_shard();
    open(78);
    put(1, {"one", "two"});
    const auto again = results();
    ASSERT_EQ(again.size(), 1U);
    EXPECT_EQ(again[0].status, PartStatus::repeated);
    EXPECT_EQ(again[0].first_sequence, first[0].first_sequence);
    EXPECT_EQ(again[0].value, first[0].value);
    EXPECT_EQ(end_of_shard(), end);
    // Before the position: looked up in the log, and not appended.
    put(1, {"one", "two"});
    EXPECT_EQ(results()[0].status, PartStatus::repeated);
    put(1, {"one", "two", "three"});
    EXPECT_EQ(results().back().status, PartStatus::window);
    EXPECT_EQ(end_of_shard(), end);
}

TEST_F(LaneSessionsTest, RecordsForOtherShardsAreToldTheMap) {
    open(77);
    put(1, {"one"}, 11);
    EXPECT_EQ(results()[0].status, PartStatus::wrong_shard);
    EXPECT_EQ(map_entries, 1U);
}

TEST_F(LaneSessionsTest, WhatIsNotTakenIsCountedByTheLaneAndNotAnswered) {
    open(77);
    session_id = 99;
    put(1, {"one"});
    ASSERT_TRUE(
        turn_until([&] { return lane->counters().drops.get(DropReason::session_unknown) == 1; }));
    for (int i = 0; i < 100; ++i) {
        (void)lane->turn();
        storage.world.advance(100'000);
    }
    EXPECT_TRUE(port.queue(0).take_sent().empty());
}

}  // namespace
}  // namespace penstock
