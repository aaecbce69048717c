// One lane's sessions with a host of memory: shards that commit when the test says so, and
// datagrams that go to the test; and a client that has the keys.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "dataplane/session/session_lane.h"
#include "storage/base/check.h"

namespace penstock::session::test {

using Buffer = std::vector<std::byte>;

struct Stored {
    ProducerMark mark;
    std::string key;
    std::string data;
};

// Sequence i + 1 is records[i].
struct MemoryShard {
    Hash128 first;
    Hash128 last{UINT64_MAX, UINT64_MAX};
    PartStatus fault = PartStatus::none;
    AppendVerdict verdict = AppendVerdict::accepted;  // of new records
    std::size_t room = SIZE_MAX;                      // of them, then `verdict`
    std::int64_t arrival_ms = 1000;
    std::vector<Stored> records;
    std::map<std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>, Sequence> marks;
    Sequence committed = 0;
    std::deque<CommitWaiter*> waiters;
};

struct MemoryHost : SessionHost {
    std::map<std::uint64_t, MemoryShard> shards;
    CreditState credit_state{UINT64_MAX, CreditCause::none, 0};
    std::vector<std::pair<Peer, Buffer>> sent;
    bool can_send = true;
    std::vector<std::uint64_t> activated_ids;
    std::vector<std::pair<std::uint64_t, CloseCode>> ended_ids;
    unsigned keys_wanted = 0;
    bool busy_opening = false;
    bool can_open = true;
    std::vector<Buffer> opens;

    PartStatus place(const Session&, ShardUid shard, ShardPlace& out) noexcept override {
        const auto found = shards.find(value(shard));
        if (found == shards.end()) {
            return PartStatus::wrong_shard;
        }
        out.shard = &found->second;
        out.first = found->second.first;
        out.last = found->second.last;
        return found->second.fault;
    }
    AppendVerdict append(const ShardPlace& place, const RecordIn& record, AckLevel,
                         Appended& out) noexcept override {
        auto& shard = *static_cast<MemoryShard*>(place.shard);
        if (known(place, *record.producer, out) == AppendVerdict::accepted) {
            return AppendVerdict::accepted;
        }
        if (shard.room == 0) {
            return shard.verdict == AppendVerdict::accepted ? AppendVerdict::no_memory
                                                            : shard.verdict;
        }
        if (shard.verdict != AppendVerdict::accepted && shard.room == SIZE_MAX) {
            return shard.verdict;
        }
        shard.room -= shard.room == SIZE_MAX ? 0 : 1;
        shard.records.push_back({*record.producer, std::string(as_text(record.partition_key)),
                                 std::string(as_text(record.data))});
        out = {shard.records.size(), shard.arrival_ms, false};
        shard.marks[{record.producer->producer, record.producer->batch,
                     record.producer->offset_in_batch}] = out.sequence;
        return AppendVerdict::accepted;
    }
    AppendVerdict known(const ShardPlace& place, const ProducerMark& mark,
                        Appended& out) noexcept override {
        auto& shard = *static_cast<MemoryShard*>(place.shard);
        const auto found = shard.marks.find({mark.producer, mark.batch, mark.offset_in_batch});
        if (found == shard.marks.end()) {
            return AppendVerdict::producer_window;
        }
        out = {found->second, shard.arrival_ms, true};
        return AppendVerdict::accepted;
    }
    void wait_commit(const ShardPlace& place, CommitWaiter& waiter) noexcept override {
        auto& shard = *static_cast<MemoryShard*>(place.shard);
        if (waiter.sequence <= shard.committed) {
            waiter.on_done(waiter, Errc::ok);
        } else {
            shard.waiters.push_back(&waiter);
        }
    }
    std::size_t map(const Session&, const Hash128& from, std::span<MapEntry> out,
                    bool& more) noexcept override {
        std::size_t count = 0;
        for (const auto& [uid, shard] : shards) {
            if (shard.last < from) {
                continue;
            }
            more = count == out.size();
            if (more) {
                break;
            }
            out[count] = {};
            out[count].shard = uid;
            out[count].first = shard.first;
            out[count++].last = shard.last;
        }
        return count;
    }
    std::uint32_t map_epoch(const Session&) noexcept override { return 3; }
    CreditState credit() noexcept override { return credit_state; }
    bool send(const Peer& to, Bytes datagram) noexcept override {
        if (can_send) {
            sent.emplace_back(to, Buffer(datagram.begin(), datagram.end()));
        }
        return can_send;
    }
    bool is_busy_opening() noexcept override { return busy_opening; }
    bool opening(const Peer&, Bytes datagram) noexcept override {
        if (can_open) {
            opens.emplace_back(datagram.begin(), datagram.end());
        }
        return can_open;
    }
    void activated(const Session& session) noexcept override {
        activated_ids.push_back(session.id);
    }
    void ended(const Session& session) noexcept override {
        ended_ids.emplace_back(session.id, session.close_code);
    }
    void wants_keys(const Session&) noexcept override { ++keys_wanted; }

    // Everything that was appended by now is durable, or its fate is unknown.
    void commit(std::uint64_t uid, Errc outcome = Errc::ok, Sequence through = UINT64_MAX) {
        MemoryShard& shard = shards.at(uid);
        shard.committed =
            std::max(shard.committed, std::min<Sequence>(through, shard.records.size()));
        for (auto waiters = std::move(shard.waiters); !waiters.empty(); waiters.pop_front()) {
            CommitWaiter& waiter = *waiters.front();
            if (waiter.sequence <= shard.committed) {
                waiter.on_done(waiter, outcome);
            } else {
                shard.waiters.push_back(&waiter);
            }
        }
    }
};

// A SERVER datagram, opened.
struct Answer {
    Peer to;
    std::size_t bytes = 0;
    Header header;
    bool has_report = false;
    ReportBlock report;
    bool has_credit = false;
    CreditBlock credit;
    bool has_challenge = false;
    std::array<std::byte, 8> challenge{};
    CloseCode closed = CloseCode::none;
    std::uint64_t detail = 0;
    std::vector<std::pair<ResultsBlock, std::vector<ResultEntry>>> results;
    std::vector<MapEntry> map;
    std::uint8_t map_flags = 0;
};

inline KeyMaterial key_of(unsigned seed) {
    KeyMaterial out;
    std::memset(out.key.data(), static_cast<int>(seed), out.key.size());
    std::memset(out.salt.data(), static_cast<int>(seed + 1), out.salt.size());
    return out;
}

inline Peer peer_of(std::uint16_t port) {
    Peer peer;
    const std::uint8_t address[4] = {192, 0, 2, 1};
    peer.address = ipv4_address(address);
    peer.port = port;
    return peer;
}

constexpr std::uint64_t second_ns = 1'000'000'000;

struct SessionFixture : testing::Test {
    static SessionLane::Limits limits() {
        SessionLane::Limits out;
        out.table = {8, 16};
        out.results = 2048;
        return out;
    }

    std::unique_ptr<Aead> aead = Aead::open().value();
    MemoryHost host;
    SessionLane lane{1, limits(), *aead, key_of(200), Cmac::open(key_of(201).key).value(), host};
    std::uint64_t now_ns = 1000 * second_ns;
    Peer client = peer_of(5000);
    std::uint64_t number = 0;  // newest the client sent

    void SetUp() override { host.shards[5] = {}; }

    static SessionGrant grant(std::uint64_t id = 77) {
        SessionGrant out;
        out.id = id;
        out.receive = key_of(1);
        out.send = key_of(2);
        out.receive_next = key_of(3);
        out.send_next = key_of(4);
        out.producer = "meter-7";
        out.producer_epoch = 9;
        out.expires_ns = 10'000 * second_ns;
        out.activate_by_ns = 10'000 * second_ns;
        return out;
    }
    void open(std::uint64_t id = 77) { ASSERT_TRUE(lane.add(grant(id), now_ns)); }

    // -- The client
    // ---------------------------------------------------------------------------------
    Buffer seal(Bytes text, std::uint64_t packet, unsigned key = 1, std::uint64_t id = 77) const {
        Header header;
        header.type = DatagramType::data;
        header.key_epoch = key_epoch_of(packet);
        header.lane = 1;
        header.session = id;
        header.packet_number = packet;
        header.sent_at_us = static_cast<std::uint32_t>(packet * 10);
        Buffer out(header_bytes + text.size() + tag_bytes);
        store(out.data(), header);
        std::memcpy(out.data() + header_bytes, text.data(), text.size());
        PreparedKey prepared;
        aead->prepare(key_of(key), prepared);
        aead->seal(prepared, packet, out);
        return out;
    }
    struct PartOut {
        std::uint64_t batch = 1;
        std::uint16_t follows = 0;
        std::uint8_t flags = part_starts_flow | part_is_last;
        std::uint16_t first_offset = 0;
        std::uint32_t flow = 0;
        std::uint64_t shard = 5;
        std::vector<std::string> data{"hello"};
    };
    static Buffer text_of(const std::vector<PartOut>& parts) {
        Buffer memory(clear_bytes_max);
        TextWriter writer(memory);
        for (const PartOut& part : parts) {
            BatchBlock head;
            head.shard = part.shard;
            head.batch = part.batch;
            head.flow = part.flow;
            head.follows = part.follows;
            head.first_offset = part.first_offset;
            PENSTOCK_CHECK(writer.begin_part(head));
            for (const std::string& data : part.data) {
                PENSTOCK_CHECK(writer.add_record({as_bytes("pk"), as_bytes(data)}));
            }
            PENSTOCK_CHECK(writer.end_part(part.flags));
        }
        return {writer.text().begin(), writer.text().end()};
    }
    static Buffer ping(bool wants_size = false, std::size_t size = 0) {
        Buffer memory(clear_bytes_max);
        TextWriter writer(memory);
        writer.add_ping(wants_size);
        writer.pad_to(size);
        return {writer.text().begin(), writer.text().end()};
    }

    // -- The link
    // -----------------------------------------------------------------------------------
    DropReason deliver(Buffer datagram) { return deliver_from(client, std::move(datagram)); }
    DropReason deliver_from(const Peer& from, Buffer datagram) {
        SessionLane::Incoming incoming{datagram, from};
        DropReason verdict = DropReason::none;
        lane.receive({&incoming, 1}, {&verdict, 1}, now_ns, clock_ms());
        return verdict;
    }
    std::vector<DropReason> deliver_burst(std::vector<Buffer> datagrams) {
        std::vector<SessionLane::Incoming> burst;
        for (Buffer& datagram : datagrams) {
            burst.push_back({datagram, client});
        }
        std::vector<DropReason> verdicts(burst.size());
        lane.receive(burst, verdicts, now_ns, clock_ms());
        return verdicts;
    }
    DropReason say(Bytes text) { return deliver(seal(text, ++number)); }
    DropReason put(const PartOut& part) { return say(text_of({part})); }
    [[nodiscard]] std::int64_t clock_ms() const {
        return static_cast<std::int64_t>(now_ns / 1'000'000);
    }

    // What the lane sends now.
    std::vector<Answer> flush() {
        host.sent.clear();
        (void)lane.flush(now_ns, clock_ms());
        std::vector<Answer> out;
        for (auto& [to, datagram] : host.sent) {
            out.push_back(open_answer(to, datagram));
        }
        return out;
    }
    Answer open_answer(const Peer& to, Buffer datagram, unsigned key = 2) const {
        Answer out;
        out.to = to;
        out.bytes = datagram.size();
        EXPECT_EQ(check_at_client(datagram, out.header), DropReason::none);
        PreparedKey prepared;
        aead->prepare(key_of(out.header.key_epoch == 0 ? key : 4), prepared);
        OpenJob job;
        job.key = &prepared;
        job.datagram = datagram.data();
        job.size = static_cast<std::uint32_t>(datagram.size());
        job.packet_number = out.header.packet_number;
        aead->open(job);
        EXPECT_TRUE(job.authentic);
        BlockWalker walker(job.text());
        BlockHeader header;
        Bytes block;
        while (walker.next(header, block)) {
            read_block(header, block, out);
        }
        EXPECT_TRUE(walker.intact());
        return out;
    }
    static void read_block(const BlockHeader& header, Bytes block, Answer& out) {
        switch (header.type) {
            case BlockType::report:
                out.has_report = true;
                out.report = load<ReportBlock>(block.data());
                break;
            case BlockType::credit:
                out.has_credit = true;
                out.credit = load<CreditBlock>(block.data());
                break;
            case BlockType::path_challenge:
                out.has_challenge = true;
                out.challenge = load<PathBlock>(block.data()).value;
                break;
            case BlockType::closed:
                out.closed = load<ClosedBlock>(block.data()).code;
                out.detail = load<ClosedBlock>(block.data()).detail;
                break;
            case BlockType::results: {
                auto& [head, entries] = out.results.emplace_back();
                head = load<ResultsBlock>(block.data());
                for (std::size_t at = sizeof head; at < block.size(); at += sizeof(ResultEntry)) {
                    entries.push_back(load<ResultEntry>(block.data() + at));
                }
                break;
            }
            case BlockType::map:
                out.map_flags = header.flags;
                for (std::size_t at = sizeof(MapBlock); at < block.size(); at += sizeof(MapEntry)) {
                    out.map.push_back(load<MapEntry>(block.data() + at));
                }
                break;
            default:
                EXPECT_EQ(header.type, BlockType::padding);
        }
    }
    // All results of these answers.
    static std::vector<ResultEntry> entries_of(const std::vector<Answer>& answers) {
        std::vector<ResultEntry> out;
        for (const Answer& answer : answers) {
            for (const auto& [head, entries] : answer.results) {
                out.insert(out.end(), entries.begin(), entries.end());
            }
        }
        return out;
    }
    // The client answers the challenge to its address.
    void validate() {
        ASSERT_EQ(say(ping(false, 300)), DropReason::none);
        const auto answers = flush();
        ASSERT_EQ(answers.size(), 1U);
        ASSERT_TRUE(answers[0].has_challenge);
        respond(answers[0].challenge);
        (void)flush();
    }
    void respond(const std::array<std::byte, 8>& challenge) {
        std::array<std::byte, 12> memory;
        TextWriter writer(memory);
        ASSERT_TRUE(writer.add_path(BlockType::path_response, challenge));
        ASSERT_EQ(say(writer.text()), DropReason::none);
    }
    [[nodiscard]] std::uint64_t dropped(DropReason reason) const {
        return lane.counters().drops.get(reason);
    }
    [[nodiscard]] const std::vector<Stored>& records() const { return host.shards.at(5).records; }
};

}  // namespace penstock::session::test
