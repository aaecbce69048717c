// What a datagram of a producer session costs a lane, stage by stage, beside AES-GCM alone. Bursts
// are sealed anew outside the time that counts, since each packet number is taken once.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "dataplane/session/session_lane.h"
#include "storage/base/check.h"

namespace penstock::bench {
namespace {

using namespace session;

constexpr std::size_t burst = 32;
constexpr std::size_t datagram_bytes = 1400;
constexpr std::uint64_t id = 77;

// What a 1400-byte datagram holds: one record, or records of 100 bytes, with keys of 12 bytes to be
// hashed or with explicit hash keys.
enum class Filling : std::int64_t { one_record, small_records, small_with_hash };

KeyMaterial key_of(unsigned seed) {
    KeyMaterial out;
    std::memset(out.key.data(), static_cast<int>(seed), out.key.size());
    return out;
}

struct Sender {
    explicit Sender(Filling how, std::size_t devices = 1000) : filling(how) {
        aead->prepare(key_of(1), key);
        for (std::size_t i = 0; i < devices; ++i) {
            keys.push_back("device-" + std::to_string(1'000'000 + i).substr(2));
        }
    }

    // Sizes are the same for all; numbers go on.
    void seal_burst() {
        for (auto& datagram : datagrams) {
            datagram.resize(datagram_bytes);
            ++number;
            Header header;
            header.type = DatagramType::data;
            header.key_epoch = key_epoch_of(number);
            header.session = id;
            header.packet_number = number;
            store(datagram.data(), header);
            TextWriter text(MutableBytes(datagram).subspan(
                header_bytes, datagram_bytes - header_bytes - tag_bytes));
            fill(text);
            aead->seal(key, number, datagram);
        }
    }
    void fill(TextWriter& text) {
        static const std::string data(1400, 'd');
        static const Hash128 hash{1, 1};
        BatchBlock head;
        head.shard = 5;
        head.batch = number;
        head.follows = number == 1 ? 0 : 1;
        PENSTOCK_CHECK(text.begin_part(head));
        RecordOut record{as_bytes(next_key()), as_bytes(data).first(100)};
        if (filling == Filling::one_record) {
            record.data = as_bytes(data).first(text.room() - sizeof(RecordHeader) - 12);
        } else if (filling == Filling::small_with_hash) {
            record.explicit_hash = &hash;
        }
        records = 0;
        while (text.add_record(record)) {
            ++records;
            record.key = as_bytes(next_key());
        }
        PENSTOCK_CHECK(text.end_part(number == 1 ? 3 : part_is_last));
        text.pad_to(datagram_bytes - header_bytes - tag_bytes);
    }

    std::string_view next_key() { return keys[next++ % keys.size()]; }

    Filling filling;
    std::vector<std::string> keys;
    std::size_t next = 0;
    std::unique_ptr<Aead> aead = Aead::open().value();
    PreparedKey key;
    std::uint64_t number = 0;
    std::size_t records = 0;
    std::vector<std::vector<std::byte>> datagrams{burst};
};

// Takes everything, durable at once.
struct NullHost : SessionHost {
    Sequence sequence = 0;
    PartStatus place(const Session&, ShardUid, ShardPlace& out) noexcept override {
        out.last = {UINT64_MAX, UINT64_MAX};
        return PartStatus::none;
    }
    AppendVerdict append(const ShardPlace&, const RecordIn& record, AckLevel,
                         Appended& out) noexcept override {
        benchmark::DoNotOptimize(&record);
        out = {++sequence, 1, false};
        return AppendVerdict::accepted;
    }
    AppendVerdict known(const ShardPlace&, const ProducerMark&, Appended&) noexcept override {
        return AppendVerdict::producer_window;
    }
    void wait_commit(const ShardPlace&, CommitWaiter& waiter) noexcept override {
        waiter.on_done(waiter, Errc::ok);
    }
    std::size_t map(const Session&, const Hash128&, std::span<MapEntry>, bool&) noexcept override {
        return 0;
    }
    std::uint32_t map_epoch(const Session&) noexcept override { return 1; }
    CreditState credit() noexcept override { return {UINT64_MAX, CreditCause::none, 0}; }
    bool send(const Peer&, Bytes datagram) noexcept override {
        benchmark::DoNotOptimize(datagram.data());
        return true;
    }
    bool is_busy_opening() noexcept override { return false; }
    bool opening(const Peer&, Bytes) noexcept override { return true; }
    void activated(const Session&) noexcept override {}
    void ended(const Session&) noexcept override {}
    void wants_keys(const Session&) noexcept override {}
};

// One iteration is one burst; `work` is what counts.
template <typename Work>
void run(benchmark::State& state, Sender& sender, Work&& work) {
    for (auto _ : state) {
        sender.seal_burst();
        const auto begin = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        state.SetIterationTime(took.count());
    }
    const auto datagrams = static_cast<double>(state.iterations()) * burst;
    state.SetItemsProcessed(static_cast<std::int64_t>(datagrams));
    state.SetBytesProcessed(static_cast<std::int64_t>(datagrams * datagram_bytes));
    state.counters["records"] = benchmark::Counter(datagrams * static_cast<double>(sender.records),
                                                   benchmark::Counter::kIsRate);
}

std::vector<OpenJob> jobs_of(Sender& sender) {
    std::vector<OpenJob> jobs(burst);
    for (std::size_t i = 0; i < burst; ++i) {
        jobs[i].key = &sender.key;
        jobs[i].datagram = sender.datagrams[i].data();
        jobs[i].size = datagram_bytes;
    }
    return jobs;
}

void aead_alone(benchmark::State& state) {
    Sender sender(static_cast<Filling>(state.range(0)));
    sender.seal_burst();
    auto jobs = jobs_of(sender);
    run(state, sender, [&] {
        for (std::size_t i = 0; i < burst; ++i) {
            jobs[i].packet_number = sender.number - burst + 1 + i;
        }
        PENSTOCK_CHECK(sender.aead->open(jobs) == burst);
    });
}
BENCHMARK(aead_alone)->DenseRange(0, 2)->UseManualTime();

void open_replay_decode(benchmark::State& state) {
    Sender sender(static_cast<Filling>(state.range(0)));
    sender.seal_burst();
    auto jobs = jobs_of(sender);
    ReplayWindow replay;
    ClientText text;
    run(state, sender, [&] {
        for (std::size_t i = 0; i < burst; ++i) {
            Header header;
            PENSTOCK_CHECK(check_at_server(sender.datagrams[i], header) == DropReason::none &&
                           replay.check(header.packet_number) == DropReason::none);
            jobs[i].packet_number = header.packet_number;
        }
        PENSTOCK_CHECK(sender.aead->open(jobs) == burst);
        for (const OpenJob& job : jobs) {
            replay.set(job.packet_number);
            BlockType fault = BlockType::none;
            PENSTOCK_CHECK(decode_client(job.text(), text, fault));
            benchmark::DoNotOptimize(text.parts.data());
        }
    });
}
BENCHMARK(open_replay_decode)->DenseRange(0, 2)->UseManualTime();

// All that a lane does but the shard log and the port: the table, hashes of keys, order, results,
// answers.
void session_lane(benchmark::State& state) {
    Sender sender(static_cast<Filling>(state.range(0)), static_cast<std::size_t>(state.range(1)));
    NullHost host;
    SessionLane lane(0, {}, *sender.aead, key_of(9), Cmac::open(key_of(8).key).value(), host);
    SessionGrant grant;
    grant.id = id;
    grant.receive = key_of(1);
    grant.producer = "p";
    grant.expires_ns = grant.activate_by_ns = UINT64_MAX;
    PENSTOCK_CHECK(lane.add(grant, 0));
    Session& session = lane.table()[lane.table().find(id)];
    session.is_validated = true;
    std::vector<SessionLane::Incoming> incoming(burst);
    std::array<DropReason, burst> verdicts;
    run(state, sender, [&] {
        for (std::size_t i = 0; i < burst; ++i) {
            incoming[i].datagram = sender.datagrams[i];
        }
        lane.receive(incoming, verdicts, 1, 1);
        (void)lane.flush(1, 1);
    });
    PENSTOCK_CHECK(host.sequence ==
                   lane.counters().datagrams.get() * static_cast<std::uint64_t>(sender.records));
}
BENCHMARK(session_lane)
    ->ArgNames({"filling", "devices"})
    ->Args({0, 1000})
    ->Args({1, 1000})
    ->Args({1, 100'000})
    ->Args({2, 1000})
    ->UseManualTime();

// A flood: of garbage for no session, and of forged datagrams for one.
void garbage(benchmark::State& state) {
    Sender sender(Filling::one_record);
    NullHost host;
    SessionLane lane(0, {}, *sender.aead, key_of(9), Cmac::open(key_of(8).key).value(), host);
    SessionGrant grant;
    grant.id = state.range(0) == 0 ? id + 1 : id;
    grant.receive = key_of(2);
    grant.producer = "p";
    grant.expires_ns = grant.activate_by_ns = UINT64_MAX;
    PENSTOCK_CHECK(lane.add(grant, 0));
    std::vector<SessionLane::Incoming> incoming(burst);
    std::array<DropReason, burst> verdicts;
    run(state, sender, [&] {
        for (std::size_t i = 0; i < burst; ++i) {
            incoming[i].datagram = sender.datagrams[i];
        }
        lane.receive(incoming, verdicts, 1, 1);
    });
    PENSTOCK_CHECK(verdicts[0] == (state.range(0) == 0 ? DropReason::session_unknown
                                                       : DropReason::session_forged));
}
BENCHMARK(garbage)->ArgName("known_session")->Arg(0)->Arg(1)->UseManualTime();

}  // namespace
}  // namespace penstock::bench

BENCHMARK_MAIN();
