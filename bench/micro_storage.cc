// What each stage of the storage layer costs by itself, on drives that take no time.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/null_engine.h"
#include "storage/base/check.h"
#include "storage/base/clock.h"
#include "storage/base/crc32c.h"
#include "storage/base/histogram.h"
#include "storage/format/frame.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"

namespace penstock::bench {
namespace {

constexpr std::size_t record_budget = 1024;  // appended between two turns

// One group with some shards on a null engine.
class Bench {
public:
    Bench(unsigned shards, std::uint32_t direct_threshold_bytes) {
        auto pool = FramePool::open(engine_, 128U << 20);
        PENSTOCK_CHECK(pool);
        pool_ = std::move(*pool);
        GroupOptions options;
        options.group = GroupId{1};
        options.epoch = Epoch{1};
        options.geometry.set_id = 77;
        options.linger_ns = 0;
        options.direct_threshold_bytes = direct_threshold_bytes;
        auto group = ShardGroup::recover(options, engine_, clock_, *pool_);
        PENSTOCK_CHECK(group);
        group_ = std::move(*group);
        for (unsigned i = 1; i <= shards; ++i) {
            Waiter waiter;
            waiter.on_done = [](CommitWaiter& self, Errc) noexcept {
                static_cast<Waiter&>(self).done = true;
            };
            group_->add_shard(ShardUid{i}, 1000, waiter);
            while (!waiter.done) {
                turn();
            }
            shards_.push_back(group_->find(ShardUid{i}));
        }
    }
    void turn() noexcept {
        (void)group_->turn();
        std::array<IoCompletion, 256> done;
        for (std::size_t n = engine_.reap(done); n != 0; n = engine_.reap(done)) {
            for (std::size_t i = 0; i < n; ++i) {
                group_->complete(done[i]);
            }
        }
    }
    // Appends until `count` are accepted, turning when there is no room, and until all of them are
    // committed.
    void append(const RecordIn& record, std::size_t count) noexcept {
        Appended out;
        for (std::size_t i = 0; i < count; ++i) {
            next_ = next_ + 1 == shards_.size() ? 0 : next_ + 1;
            while (group_->append(*shards_[next_], record, AckLevel::quorum, out) !=
                   AppendVerdict::accepted) {
                turn();
            }
        }
        // One journal block is sealed per turn: nothing may be left over for the next batch.
        do {
            turn();
        } while (group_->counters().records_committed < group_->counters().records_appended);
    }
    [[nodiscard]] const GroupCounters& counters() const noexcept { return group_->counters(); }

private:
    struct Waiter : CommitWaiter {
        bool done = false;
    };
    SystemClock clock_;
    NullEngine engine_;
    std::unique_ptr<FramePool> pool_;
    std::unique_ptr<ShardGroup> group_;
    std::vector<ShardLog*> shards_;
    std::size_t next_ = 0;
};

std::vector<std::byte> filled(std::size_t bytes) {
    std::vector<std::byte> out(bytes);
    for (std::size_t i = 0; i < bytes; ++i) {
        out[i] = static_cast<std::byte>(i * 131 + (i >> 8));
    }
    return out;
}

void append_records(benchmark::State& state, unsigned shards, std::uint32_t direct_threshold) {
    const auto bytes = static_cast<std::size_t>(state.range(0));
    Bench bench(shards, direct_threshold);
    const std::vector<std::byte> data = filled(bytes);
    const RecordIn record{as_bytes("sensor-0017"), data, nullptr, nullptr};
    for (auto _ : state) {
        bench.append(record, record_budget);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(record_budget));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(record_budget * bytes));
    const GroupCounters& counters = bench.counters();
    state.counters["journaled"] = static_cast<double>(counters.frames_journaled);
    state.counters["direct"] = static_cast<double>(counters.frames_direct);
}

// Record to committed frame: encoding, checksum, sealing, write and commit bookkeeping.
void append_direct(benchmark::State& state) {
    append_records(state, 1, 16U << 10);
}
BENCHMARK(append_direct)->Arg(100)->Arg(1000)->Arg(1400)->Arg(8192);

// The same through the journal: small frames of 64 shards, copied into a block and moved later.
void append_journaled(benchmark::State& state) {
    append_records(state, 64, 256U << 10);
}
BENCHMARK(append_journaled)->Arg(100)->Arg(1000);

void crc(benchmark::State& state) {
    const std::vector<std::byte> data = filled(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) {
        benchmark::DoNotOptimize(crc32c(data));
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(crc)->Arg(100)->Arg(128)->Arg(1024)->Arg(1400)->Arg(512 << 10);

// A sealed frame of `count` records of `bytes` data each.
std::vector<std::byte> make_frame(std::size_t count, std::size_t bytes) {
    const std::vector<std::byte> data = filled(bytes);
    const RecordIn record{as_bytes("sensor-0017"), data, nullptr, nullptr};
    std::vector<std::byte> out(sizeof(FrameHeader) + count * record_bytes(record));
    std::size_t at = sizeof(FrameHeader);
    for (std::size_t i = 0; i < count; ++i) {
        at += encode_record(record, 0, out.data() + at);
    }
    FrameHeader header;
    header.payload_bytes = static_cast<std::uint32_t>(at - sizeof(FrameHeader));
    header.record_count = static_cast<std::uint32_t>(count);
    header.payload_crc = crc32c(Bytes(out).subspan(sizeof(FrameHeader), header.payload_bytes));
    header.shard = 1;
    header.epoch = 1;
    header.group = 1;
    header.set_id = 77;
    header.first_sequence = 1;
    header.first_arrival_ms = header.last_arrival_ms = 1'700'000'000'000;
    seal_header(header, out.data());
    out.resize(header.total_bytes());
    return out;
}

void seal(benchmark::State& state) {
    std::vector<std::byte> frame = make_frame(1, 100);
    FrameHeader header;
    PENSTOCK_CHECK(check_frame(frame, 77, header) == FrameFault::none);
    for (auto _ : state) {
        seal_header(header, frame.data());
        benchmark::ClobberMemory();
    }
}
BENCHMARK(seal);

void check(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    const std::vector<std::byte> frame = make_frame(count, 1000);
    for (auto _ : state) {
        FrameHeader header;
        benchmark::DoNotOptimize(check_frame(frame, 77, header));
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(frame.size()));
}
BENCHMARK(check)->Arg(1)->Arg(500);

void walk_records(benchmark::State& state) {
    constexpr std::size_t count = 500;
    const std::vector<std::byte> frame =
        make_frame(count, static_cast<std::size_t>(state.range(0)));
    FrameHeader header;
    PENSTOCK_CHECK(check_frame(frame, 77, header) == FrameFault::none);
    const Bytes payload = Bytes(frame).subspan(sizeof(FrameHeader), header.payload_bytes);
    for (auto _ : state) {
        RecordWalker walker(header, payload);
        RecordView record;
        std::size_t seen = 0;
        while (walker.next(record)) {
            benchmark::DoNotOptimize(record);
            ++seen;
        }
        PENSTOCK_CHECK(seen == count);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
}
BENCHMARK(walk_records)->Arg(100)->Arg(1000);

void pool_take_give(benchmark::State& state) {
    NullEngine engine;
    auto pool = FramePool::open(engine, 64U << 20);
    PENSTOCK_CHECK(pool);
    for (auto _ : state) {
        std::byte* block = (*pool)->take(static_cast<std::size_t>(state.range(0)));
        benchmark::DoNotOptimize(block);
        (*pool)->give(block);
    }
}
BENCHMARK(pool_take_give)->Arg(16 << 10)->Arg(512 << 10);

void histogram_add(benchmark::State& state) {
    Histogram histogram;
    std::uint64_t value = 1;
    for (auto _ : state) {
        value = value * 6364136223846793005U + 1442695040888963407U;
        histogram.add(value >> 34);
    }
}
BENCHMARK(histogram_add);

}  // namespace
}  // namespace penstock::bench

BENCHMARK_MAIN();
