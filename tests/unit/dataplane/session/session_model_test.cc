// A client that keeps to the protocol's rules and a link that loses, doubles, delays and damages:
// in the end each record is in its shard once, in the order of its flow, under the number the
// client was told.
#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "dataplane/lane/no_alloc.h"
#include "dataplane/session/key_hashes.h"
#include "dataplane/wire/partition_hash.h"
#include "tests/unit/dataplane/session/session_fixture.h"

namespace penstock::session {
namespace {

using namespace test;

struct Link {
    std::mt19937_64 random;
    unsigned lost;  // of 100; half as many are doubled, delayed and damaged
    struct Flying {
        Peer peer;
        Buffer datagram;
        std::uint64_t due;
    };
    std::deque<Flying> flying;

    bool one_in(unsigned percent) { return random() % 100 < percent; }
    void send(const Peer& peer, const Buffer& datagram, std::uint64_t now) {
        if (one_in(lost)) {
            return;
        }
        for (int copies = one_in(lost / 2) ? 2 : 1; copies > 0; --copies) {
            Flying one{peer, datagram, now + (one_in(lost / 2) ? random() % 30 : 1)};
            if (one_in(lost / 2)) {
                one.datagram[random() % one.datagram.size()] ^= std::byte{16};
            }
            flying.push_back(std::move(one));
        }
    }
    // What has come by now, in any order of those delayed alike.
    std::vector<Flying> arrived(std::uint64_t now) {
        std::vector<Flying> out;
        for (std::size_t i = 0; i < flying.size();) {
            if (flying[i].due <= now) {
                out.push_back(std::move(flying[i]));
                flying.erase(flying.begin() + static_cast<std::ptrdiff_t>(i));
            } else {
                ++i;
            }
        }
        if (lost != 0) {
            std::shuffle(out.begin(), out.end(), random);
        }
        return out;
    }
};

// One flow of a client: its batches in parts, and which records were answered.
struct FlowClient {
    std::uint32_t flow = 0;
    std::uint64_t shard = 5;
    struct Part {
        std::uint64_t batch = 0;
        std::uint16_t first_offset = 0;
        std::vector<std::string> data;
        bool is_last = false;
        std::uint64_t sent_at = 0;
        std::map<std::uint16_t, Sequence> told;
        [[nodiscard]] bool is_resolved() const { return told.size() == data.size(); }
    };
    std::vector<Part> parts;

    [[nodiscard]] bool is_done() const { return std::ranges::all_of(parts, &Part::is_resolved); }
};

struct SessionModel : SessionFixture {
    std::mt19937_64 random;
    std::vector<FlowClient> flows;
    std::uint64_t turn = 0;

    void make_flows() {
        host.shards[6] = {};
        for (std::uint32_t flow = 0; flow < 3; ++flow) {
            FlowClient& client_flow = flows.emplace_back();
            client_flow.flow = flow;
            client_flow.shard = flow == 2 ? 6 : 5;
            for (std::uint64_t batch = 1; batch <= 40; ++batch) {
                const std::size_t part_count = 1 + random() % 3;
                std::uint16_t offset = 0;
                for (std::size_t i = 0; i < part_count; ++i) {
                    FlowClient::Part part;
                    part.batch = batch;
                    part.first_offset = offset;
                    part.is_last = i + 1 == part_count;
                    for (std::size_t n = 1 + random() % 4; n > 0; --n) {
                        part.data.push_back(std::to_string(flow) + "/" + std::to_string(batch) +
                                            "/" + std::to_string(offset++));
                    }
                    client_flow.parts.push_back(std::move(part));
                }
            }
        }
    }
    // Up to eight unresolved parts of a flow, again after a while without an answer. Those of
    // the first batch say that the flow starts there.
    void send_parts(Link& link, FlowClient& flow) {
        unsigned unresolved = 0;
        for (FlowClient::Part& part : flow.parts) {
            if (part.is_resolved()) {
                continue;
            }
            if (++unresolved > 8) {
                return;
            }
            if (part.sent_at != 0 && turn < part.sent_at + 20) {
                continue;
            }
            part.sent_at = turn;
            const bool starts = part.batch == 1;
            const auto flags = static_cast<std::uint8_t>((starts ? part_starts_flow : 0) |
                                                         (part.is_last ? part_is_last : 0));
            const Buffer text =
                text_of({{part.batch, static_cast<std::uint16_t>(starts ? 0 : 1), flags,
                          part.first_offset, flow.flow, flow.shard, part.data}});
            link.send(client, seal(text, ++number), turn);
        }
    }
    void hear(const Answer& answer) {
        for (const auto& [head, entries] : answer.results) {
            FlowClient& flow = flows.at(head.flow);
            EXPECT_EQ(head.shard, flow.shard);
            for (const ResultEntry& entry : entries) {
                hear_entry(flow, entry);
            }
        }
    }
    static void hear_entry(FlowClient& flow, const ResultEntry& entry) {
        ASSERT_TRUE(is_stored(entry.status) || entry.status == PartStatus::out_of_order ||
                    entry.status == PartStatus::throttled)
            << static_cast<int>(entry.status);
        for (FlowClient::Part& part : flow.parts) {
            for (std::uint16_t i = 0; part.batch == entry.batch && i < part.data.size(); ++i) {
                const int at = part.first_offset + i - entry.first_offset;
                if (at < 0 || at >= entry.record_count) {
                    continue;
                }
                if (!is_stored(entry.status)) {
                    part.sent_at = 0;
                    continue;
                }
                const Sequence sequence = entry.first_sequence + static_cast<unsigned>(at);
                const auto [told, fresh] = part.told.emplace(i, sequence);
                EXPECT_EQ(told->second, sequence) << "told two numbers";
            }
        }
    }
    void one_turn(Link& up, Link& down) {
        ++turn;
        now_ns += 100'000;
        for (FlowClient& flow : flows) {
            send_parts(up, flow);
        }
        if (turn % 16 == 0) {
            up.send(client, seal(ping(), ++number), turn);
        }
        auto arrived = up.arrived(turn);
        for (std::size_t first = 0; first < arrived.size(); first += SessionLane::burst_max) {
            std::vector<SessionLane::Incoming> burst;
            for (std::size_t i = first;
                 i < std::min(arrived.size(), first + SessionLane::burst_max); ++i) {
                burst.push_back({arrived[i].datagram, arrived[i].peer});
            }
            std::vector<DropReason> verdicts(burst.size());
            lane.receive(burst, verdicts, now_ns, clock_ms());
        }
        if (random() % 4 == 0) {
            host.commit(5, Errc::ok, random() % (host.shards[5].records.size() + 1));
        }
        if (random() % 8 == 0) {
            host.commit(6);
        }
        host.sent.clear();
        (void)lane.flush(now_ns, clock_ms());
        for (const auto& [to, datagram] : host.sent) {
            down.send(to, datagram, turn);
        }
        for (auto& [peer, datagram, when] : down.arrived(turn)) {
            hear_datagram(up, std::move(datagram));
        }
    }
    // A damaged one does not open; which the fixture takes for a failure, so it is looked at
    // before.
    void hear_datagram(Link& up, Buffer datagram) {
        Header header;
        if (check_at_client(datagram, header) != DropReason::none) {
            return;
        }
        PreparedKey prepared;
        aead->prepare(key_of(2), prepared);
        OpenJob job;
        Buffer copy = datagram;
        job.key = &prepared;
        job.datagram = copy.data();
        job.size = static_cast<std::uint32_t>(copy.size());
        job.packet_number = header.packet_number;
        aead->open(job);
        if (!job.authentic || header.key_epoch != 0) {
            return;
        }
        const Answer answer = open_answer(client, std::move(datagram));
        hear(answer);
        if (answer.has_challenge) {
            std::array<std::byte, 12> memory;
            TextWriter writer(memory);
            writer.add_path(BlockType::path_response, answer.challenge);
            up.send(client, seal(writer.text(), ++number), turn);
        }
    }
    void check() {
        for (const FlowClient& flow : flows) {
            const auto& records = host.shards[flow.shard].records;
            Sequence last = 0;
            std::size_t wanted = 0;
            for (const FlowClient::Part& part : flow.parts) {
                for (std::uint16_t i = 0; i < part.data.size(); ++i, ++wanted) {
                    const Sequence sequence = part.told.at(i);
                    ASSERT_LT(last, sequence) << "out of order";
                    last = sequence;
                    EXPECT_EQ(records.at(sequence - 1).data, part.data[i]);
                }
            }
            const std::uint64_t producer = flow_producer("meter-7", flow.flow);
            EXPECT_EQ(
                std::ranges::count_if(
                    records, [&](const Stored& one) { return one.mark.producer == producer; }),
                static_cast<std::ptrdiff_t>(wanted))
                << "lost or stored twice";
        }
    }
};

TEST_F(SessionModel, EachRecordIsStoredOnceAndInOrderWhateverTheLinkDoes) {
    for (const unsigned lost : {0U, 2U, 10U, 30U}) {
        for (std::uint64_t seed = 1; seed <= 8; ++seed) {
            SCOPED_TRACE(testing::Message() << lost << " % lost, seed " << seed);
            const std::uint64_t id = lost * 100 + seed;
            host.shards.clear();
            host.shards[5] = {};
            flows.clear();
            number = turn = 0;
            random.seed(seed);
            make_flows();
            ASSERT_TRUE(lane.add(grant(77), now_ns)) << id;
            Link up{std::mt19937_64(seed * 2), lost, {}};
            Link down{std::mt19937_64(seed * 2 + 1), lost, {}};
            while (turn < 200'000 && !std::ranges::all_of(flows, &FlowClient::is_done)) {
                one_turn(up, down);
                if (HasFatalFailure()) {
                    return;
                }
            }
            ASSERT_TRUE(std::ranges::all_of(flows, &FlowClient::is_done));
            check();
            EXPECT_EQ(dropped(DropReason::session_malformed), 0U);
            // The next seed has a new one of the same id: the test's, not the protocol's, way.
            host.commit(5);
            host.commit(6);
            ASSERT_TRUE(lane.close(77, CloseCode::closed, 0, now_ns));
            now_ns += 6 * second_ns;
            (void)lane.flush(now_ns, clock_ms());
            ASSERT_EQ(lane.table().session_count(), 0U);
        }
    }
}

// Takes everything, durable at once, and allocates nothing.
struct QuietHost : MemoryHost {
    Sequence sequence = 0;
    PartStatus place(const Session&, ShardUid, ShardPlace& out) noexcept override {
        out.last = {UINT64_MAX, UINT64_MAX};
        return PartStatus::none;
    }
    AppendVerdict append(const ShardPlace&, const RecordIn&, AckLevel,
                         Appended& out) noexcept override {
        out = {++sequence, 1, false};
        return AppendVerdict::accepted;
    }
    void wait_commit(const ShardPlace&, CommitWaiter& waiter) noexcept override {
        waiter.on_done(waiter, Errc::ok);
    }
    bool send(const Peer&, Bytes) noexcept override { return true; }
    void activated(const Session&) noexcept override {}
    void ended(const Session&) noexcept override {}
    bool opening(const Peer&, Bytes) noexcept override { return false; }
};

// What is trapped where the build traps: a burst of everything, and the turn's end.
TEST_F(SessionModel, ATurnAllocatesNothing) {
    QuietHost quiet;
    SessionLane quiet_lane(1, limits(), *aead, key_of(200), Cmac::open(key_of(201).key).value(),
                           quiet);
    ASSERT_TRUE(quiet_lane.add(grant(), now_ns));
    for (std::uint64_t round = 0; round < 50; ++round) {
        const std::uint64_t batch = round + 1;
        const auto flags = static_cast<std::uint8_t>(round == 0 ? 3 : part_is_last);
        std::vector<Buffer> datagrams{
            seal(text_of({{batch,
                           static_cast<std::uint16_t>(round == 0 ? 0 : 1),
                           flags,
                           0,
                           0,
                           5,
                           {"a", std::string(round, 'b')}}}),
                 number + 1),
            seal(ping(true, 600), number + 2),
            seal(ping(), number + 3, 2),  // forged
            seal(text_of({{batch + 7, 1, 2, 0, 0, 5, {"out of order"}}}), number + 4),
            Buffer(open_bytes),
            Buffer(20),
        };
        Header opening;
        opening.type = DatagramType::open;
        opening.session = opening.packet_number = 1;
        store(datagrams[4].data(), opening);
        number += 4;
        std::vector<SessionLane::Incoming> burst;
        for (Buffer& datagram : datagrams) {
            burst.push_back({datagram, client});
        }
        std::vector<DropReason> verdicts(burst.size());
        quiet.busy_opening = round % 2 == 0;
        now_ns += 1'000'000;
        const NoAllocScope trapped;
        quiet_lane.receive(burst, verdicts, now_ns, clock_ms());
        (void)quiet_lane.flush(now_ns, clock_ms());
    }
    EXPECT_EQ(quiet.sequence, 100U);
    EXPECT_GT(quiet_lane.counters().sent_datagrams.get(), 0U);
}

TEST(KeyHashes, AreThoseOfTheKeysWhateverCame) {
    KeyHashes hashes;
    std::mt19937_64 random(3);
    unsigned hits = 0;
    for (int i = 0; i < 100'000; ++i) {
        const std::string key(1 + random() % 60, static_cast<char>('a' + random() % 26));
        KeyHashes::Place place;
        const Hash128* const found = hashes.find(as_bytes(key), place);
        if (found == nullptr) {
            hashes.set(place, as_bytes(key), partition_hash(as_bytes(key)));
        } else {
            ++hits;
            ASSERT_EQ(*found, partition_hash(as_bytes(key)));
            ASSERT_LE(key.size(), KeyHashes::key_bytes_max);
        }
    }
    EXPECT_GT(hits, 10'000U);
}

}  // namespace
}  // namespace penstock::session
