// What each stage between a port and the shard log costs by itself: decoding, doors, hashing,
// rings.
#include <array>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "dataplane/door/door.h"
#include "dataplane/door/routes.h"
#include "dataplane/lane/ring.h"
#include "dataplane/wire/packet.h"
#include "dataplane/wire/partition_hash.h"
#include "storage/base/check.h"

namespace penstock::bench {
namespace {

constexpr std::size_t burst = 32;
constexpr std::uint16_t door_port = 5514;

void put(std::vector<std::byte>& out, std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes) {
        out.push_back(static_cast<std::byte>(byte));
    }
}

// The one's complement sum of RFC 1071 over `bytes`, added to `sum`.
std::uint32_t add_words(Bytes bytes, std::uint32_t sum) {
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        sum += static_cast<std::uint32_t>(bytes[i]) << 8;
        sum += i + 1 < bytes.size() ? static_cast<std::uint32_t>(bytes[i + 1]) : 0;
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}
void set_word(std::vector<std::byte>& out, std::size_t at, std::uint32_t word) {
    out[at] = static_cast<std::byte>(word >> 8);
    out[at + 1] = static_cast<std::byte>(word);
}

// An Ethernet frame of `bytes` with UDP over IPv4 from 192.0.2.`host`, both checksums right.
std::vector<std::byte> make_packet(std::size_t bytes, unsigned host) {
    constexpr std::size_t ip_at = 14;
    constexpr std::size_t udp_at = ip_at + 20;
    const auto ip_bytes = static_cast<std::uint32_t>(bytes - ip_at);
    const std::uint32_t udp_bytes = ip_bytes - 20;
    std::vector<std::byte> out;
    put(out, {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00});
    put(out,
        {0x45, 0, ip_bytes >> 8, ip_bytes & 255, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, host, 192, 0,
         2,    1});
    put(out, {0x9c, 0x40, door_port >> 8, door_port & 255, udp_bytes >> 8, udp_bytes & 255, 0, 0});
    while (out.size() < bytes) {
        out.push_back(static_cast<std::byte>('a' + out.size() % 26));
    }
    set_word(out, ip_at + 10, ~add_words(Bytes(out).subspan(ip_at, 20), 0) & 0xffff);
    const std::uint32_t pseudo = add_words(Bytes(out).subspan(ip_at + 12, 8), 17 + udp_bytes);
    set_word(out, udp_at + 6, ~add_words(Bytes(out).subspan(udp_at), pseudo) & 0xffff);
    return out;
}

std::vector<std::vector<std::byte>> make_burst(std::size_t bytes) {
    std::vector<std::vector<std::byte>> out;
    for (unsigned i = 0; i < burst; ++i) {
        out.push_back(make_packet(bytes, 2 + i % 16));
    }
    return out;
}

std::vector<Packet> views(std::vector<std::vector<std::byte>>& frames) {
    std::vector<Packet> out(frames.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
        out[i].data = frames[i].data();
        out[i].length = static_cast<std::uint32_t>(frames[i].size());
    }
    return out;
}

// Headers and both checksums, in software.
void decode_packets(benchmark::State& state) {
    auto frames = make_burst(static_cast<std::size_t>(state.range(0)));
    const std::vector<Packet> packets = views(frames);
    std::vector<Decoded> decoded(packets.size());
    for (auto _ : state) {
        decode_burst(packets, decoded);
        benchmark::ClobberMemory();
    }
    for (const Decoded& one : decoded) {
        PENSTOCK_CHECK(one.verdict == DropReason::none);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(burst));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(burst) * state.range(0));
}
BENCHMARK(decode_packets)->Arg(64)->Arg(142)->Arg(1400)->Arg(1442);

// Allow-list, key and hash of the source, and the record itself.
void take_at_door(benchmark::State& state, const char* text) {
    std::string why;
    const auto spec = parse_door(text, why);
    PENSTOCK_CHECK(spec);
    Door door(*spec, nullptr);
    auto frames = make_burst(static_cast<std::size_t>(state.range(0)));
    const std::vector<Packet> packets = views(frames);
    std::vector<Decoded> decoded(packets.size());
    decode_burst(packets, decoded);
    std::uint64_t records = 0;
    for (auto _ : state) {
        for (const Decoded& datagram : decoded) {
            (void)door.take(datagram, 0, [&](const DoorRecord& record) {
                benchmark::DoNotOptimize(&record);
                ++records;
            });
        }
    }
    PENSTOCK_CHECK(records != 0);
    state.SetItemsProcessed(static_cast<std::int64_t>(records));
}
BENCHMARK_CAPTURE(take_at_door, source, "udp:5514=s,key=source")
    ->Arg(64)
    ->Arg(142)
    ->Arg(1400)
    ->Arg(1442);
BENCHMARK_CAPTURE(take_at_door, fixed_lines, "udp:5514=s,key=fixed:k,framing=lines")->Arg(1400);

void hash_key(benchmark::State& state) {
    const std::string key(static_cast<std::size_t>(state.range(0)), 'k');
    for (auto _ : state) {
        benchmark::DoNotOptimize(partition_hash(as_bytes(key)));
    }
}
BENCHMARK(hash_key)->Arg(12)->Arg(100);

void find_shard(benchmark::State& state) {
    const auto count = static_cast<std::uint64_t>(state.range(0));
    std::vector<ShardRoute> shards(count);
    const std::uint64_t step = UINT64_MAX / count + 1;
    for (std::uint64_t i = 0; i < count; ++i) {
        shards[i].first = {i * step, 0};
        shards[i].last = {i + 1 == count ? UINT64_MAX : (i + 1) * step - 1, UINT64_MAX};
        shards[i].shard = ShardUid{i + 1};
    }
    const auto stream = StreamRoute::make("s", shards);
    PENSTOCK_CHECK(stream);
    Hash128 hash{1, 1};
    for (auto _ : state) {
        hash.high = hash.high * 6364136223846793005U + 1442695040888963407U;
        benchmark::DoNotOptimize(stream->find(hash));
    }
}
BENCHMARK(find_shard)->Arg(4)->Arg(16)->Arg(1024);

// Push and pop on one thread: what the instructions cost without a line changing cores.
void mpsc_ring(benchmark::State& state) {
    MpscRing<int> ring(1024);
    int item = 0;
    for (auto _ : state) {
        PENSTOCK_CHECK(ring.push(&item));
        benchmark::DoNotOptimize(ring.pop());
    }
}
BENCHMARK(mpsc_ring);

void spsc_ring(benchmark::State& state) {
    SpscByteRing ring(1U << 20);
    const auto bytes = static_cast<std::size_t>(state.range(0));
    for (auto _ : state) {
        for (std::size_t i = 0; i < burst; ++i) {
            std::byte* at = ring.claim(bytes);
            PENSTOCK_CHECK(at != nullptr);
            std::memset(at, 1, bytes);
        }
        ring.commit();
        for (std::size_t i = 0; i < burst; ++i) {
            benchmark::DoNotOptimize(ring.front());
            ring.pop();
        }
        ring.release();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(burst));
}
BENCHMARK(spsc_ring)->Arg(64)->Arg(1024);

// The same between two threads; wall time, since one of them waits for the other.
void spsc_ring_across_threads(benchmark::State& state) {
    SpscByteRing ring(1U << 20);
    constexpr std::size_t bytes = 256;
    std::atomic<bool> stop{false};
    std::thread consumer([&] {
        while (!stop.load(std::memory_order_relaxed)) {
            while (!ring.front().empty()) {
                ring.pop();
            }
            ring.release();
        }
    });
    for (auto _ : state) {
        for (std::size_t i = 0; i < burst; ++i) {
            std::byte* at = ring.claim(bytes);
            while (at == nullptr) {
                ring.commit();
                at = ring.claim(bytes);
            }
            std::memset(at, 1, bytes);
        }
        ring.commit();
    }
    stop.store(true, std::memory_order_relaxed);
    consumer.join();
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(burst));
}
BENCHMARK(spsc_ring_across_threads)->UseRealTime();

}  // namespace
}  // namespace penstock::bench

BENCHMARK_MAIN();
