// What reading a request costs by itself: base64 and the JSON of PutRecords.
#include <simdjson.h>

#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "control/kinesis/arena.h"
#include "control/kinesis/base64.h"
#include "control/kinesis/inputs.h"
#include "storage/base/check.h"

namespace penstock::kinesis {
namespace {

std::vector<std::byte> filled(std::size_t bytes) {
    std::vector<std::byte> out(bytes);
    for (std::size_t i = 0; i < bytes; ++i) {
        out[i] = static_cast<std::byte>(i * 131 + (i >> 8));
    }
    return out;
}

void encode(benchmark::State& state, void (*function)(Bytes, char*) noexcept) {
    const auto bytes = filled(static_cast<std::size_t>(state.range(0)));
    std::string out(base64_encoded_size(bytes.size()), ' ');
    for (auto _ : state) {
        function(bytes, out.data());
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(encode, best, &base64_encode)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(encode, scalar, &detail::encode_scalar)->Arg(1024);

void decode(benchmark::State& state,
            std::expected<std::size_t, Base64Fault> (*function)(std::string_view,
                                                                std::byte*) noexcept) {
    std::string text;
    base64_append(text, filled(static_cast<std::size_t>(state.range(0))));
    std::vector<std::byte> out(base64_decoded_size_max(text.size()) + base64_decode_slack);
    for (auto _ : state) {
        PENSTOCK_CHECK(function(text, out.data()).has_value());
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(decode, best, &base64_decode)->Arg(100)->Arg(1024);
BENCHMARK_CAPTURE(decode, scalar, &detail::decode_scalar)->Arg(1024);

// A body of `records` records of `bytes` each, read and decoded into an arena as the server does.
void read_put_records(benchmark::State& state) {
    const auto records = static_cast<std::size_t>(state.range(0));
    const auto data = filled(static_cast<std::size_t>(state.range(1)));
    std::string body = "{\"StreamName\":\"clicks\",\"Records\":[";
    for (std::size_t i = 0; i < records; ++i) {
        body += (i == 0 ? "{\"PartitionKey\":\"key-" : ",{\"PartitionKey\":\"key-") +
                std::to_string(i) + "\",\"Data\":\"";
        base64_append(body, data);
        body += "\"}";
    }
    body += "]}";
    const std::size_t length = body.size();
    body.resize(length + simdjson::SIMDJSON_PADDING);
    simdjson::ondemand::parser parser;
    Arena arena;
    PutRecordsInput input;
    for (auto _ : state) {
        arena.clear(64U << 20);
        input.entries.clear();
        PENSTOCK_CHECK(!read_input({parser, arena, std::string_view(body.data(), length)}, input));
        PENSTOCK_CHECK(input.entries.size() == records);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(records));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(length));
}
BENCHMARK(read_put_records)->Args({500, 1024})->Args({500, 100})->Args({1, 1024});

}  // namespace
}  // namespace penstock::kinesis

BENCHMARK_MAIN();
