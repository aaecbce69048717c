// What a request costs by itself: its signature and policy, base64, and JSON and CBOR of PutRecords
// and GetRecords.
#include <simdjson.h>

#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "control/auth/policy.h"
#include "control/auth/sigv4.h"
#include "control/keys/stream_crypt.h"
#include "control/kinesis/input/arena.h"
#include "control/kinesis/input/base64.h"
#include "control/kinesis/input/inputs.h"
#include "control/kinesis/reply/record_reply.h"
#include "storage/base/check.h"
#include "storage/format/frame.h"

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

// The same in CBOR, as the SDKs for Java write it.
void read_put_records_cbor(benchmark::State& state) {
    const auto records = static_cast<std::size_t>(state.range(0));
    const auto data = filled(static_cast<std::size_t>(state.range(1)));
    std::string body;
    CborWriter writer(body);
    writer.begin_object();
    writer.key("StreamName");
    writer.text("clicks");
    writer.key("Records");
    writer.begin_array();
    for (std::size_t i = 0; i < records; ++i) {
        writer.begin_object();
        writer.key("PartitionKey");
        writer.text("key-" + std::to_string(i));
        writer.key("Data");
        writer.blob(data);
        writer.end_object();
    }
    writer.end_array();
    writer.end_object();
    simdjson::ondemand::parser parser;
    Arena arena;
    PutRecordsInput input;
    for (auto _ : state) {
        arena.clear(64U << 20);
        input.entries.clear();
        PENSTOCK_CHECK(!read_input({parser, arena, {body, Dialect::cbor}}, input));
        PENSTOCK_CHECK(input.entries.size() == records);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(records));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(read_put_records_cbor)->Args({500, 1024})->Args({500, 100})->Args({1, 1024});

// What PutRecords and GetRecords answer of 500 records.
template <typename Writer>
void write_put_records(benchmark::State& state) {
    std::string body;
    for (auto _ : state) {
        body.clear();
        Writer writer(body);
        NumberWriter numbers;
        for (unsigned i = 0; i < 500; ++i) {
            write_stored(writer, numbers, {1'700'000'000, 3, i, 1'700'000'100}, 3);
        }
        benchmark::DoNotOptimize(body.data());
    }
    state.SetItemsProcessed(state.iterations() * 500);
}
BENCHMARK(write_put_records<JsonWriter>);
BENCHMARK(write_put_records<CborWriter>);

template <typename Writer>
void write_get_records(benchmark::State& state) {
    const auto data = filled(static_cast<std::size_t>(state.range(0)));
    std::string body;
    for (auto _ : state) {
        body.clear();
        Writer writer(body);
        NumberWriter numbers;
        for (unsigned i = 0; i < 500; ++i) {
            RecordView record;
            record.arrival_ms = 1'700'000'100'123;
            record.data = data;
            record.partition_key = as_bytes("some-key");
            write_record(writer, numbers, {1'700'000'000, 3, i, 1'700'000'100}, record, false);
        }
        benchmark::DoNotOptimize(body.data());
    }
    state.SetItemsProcessed(state.iterations() * 500);
}
BENCHMARK(write_get_records<JsonWriter>)->Arg(100)->Arg(1024);
BENCHMARK(write_get_records<CborWriter>)->Arg(100)->Arg(1024);

// A record into a frame, in clear and sealed: the difference is what encryption costs a lane.
void append_record(benchmark::State& state, bool seals) {
    const auto data = filled(static_cast<std::size_t>(state.range(0)));
    const auto sealer = keys::make_record_sealer(std::string(keys::data_key_bytes, 'k'), 1);
    RecordIn record;
    record.partition_key = as_bytes("some-key");
    record.data = data;
    record.sealer = seals ? sealer.get() : nullptr;
    std::vector<std::byte> frame(record_bytes(record));
    RecordPlace place{1, 1, 1'700'000'100'123};
    for (auto _ : state) {
        ++place.sequence;
        encode_record(record, 0, frame.data(), place);
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(append_record, clear, false)->Arg(100)->Arg(1024)->Arg(1 << 16);
BENCHMARK_CAPTURE(append_record, sealed, true)->Arg(100)->Arg(1024)->Arg(1 << 16);

void open_record(benchmark::State& state) {
    const auto data = filled(static_cast<std::size_t>(state.range(0)));
    keys::StreamCrypt::Opened key;
    key.generation = 1;
    key.secret = std::string(keys::data_key_bytes, 'k');
    const auto sealer = keys::make_record_sealer(key.secret, 1);
    RecordIn record;
    record.partition_key = as_bytes("some-key");
    record.data = data;
    record.sealer = sealer.get();
    std::vector<std::byte> frame(record_bytes(record));
    encode_record(record, 0, frame.data(), {1, 1, 0});
    FrameHeader header;
    header.record_count = 1;
    header.first_sequence = 1;
    RecordView sealed;
    PENSTOCK_CHECK(RecordWalker(header, frame).next(sealed));
    keys::RecordOpener opener;
    for (auto _ : state) {
        RecordView view = sealed;
        PENSTOCK_CHECK(opener.open(key, ShardUid{1}, view));
        benchmark::DoNotOptimize(view.data.data());
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(open_record)->Arg(100)->Arg(1024)->Arg(1 << 16);

// A PutRecords signed as boto3 signs it, with a body of so many bytes.
std::unique_ptr<http::HttpRequest> signed_request(std::size_t bytes, std::string_view signature) {
    const std::vector<std::pair<std::string, std::string>> headers = {
        {"Host", "127.0.0.1:4567"},
        {"Accept-Encoding", "identity"},
        {"X-Amz-Target", "Kinesis_20131202.PutRecords"},
        {"Content-Type", "application/x-amz-json-1.1"},
        {"User-Agent", "Boto3/1.26.27 Python/3.11.2 Linux/6.1.0 Botocore/1.29.27"},
        {"X-Amz-Date", "20261123T084142Z"},
        {"Authorization",
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/us-east-1/kinesis/aws4_request, "
         "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" +
             std::string(signature)},
        {"Content-Length", std::to_string(bytes)}};
    return http::HttpRequest::make("POST", "/", headers, std::string(bytes, 'a'));
}

// What proving a request costs. hash_body is its ceiling: nothing but the body's SHA-256.
void check_signature(benchmark::State& state) {
    const auto bytes = static_cast<std::size_t>(state.range(0));
    auth::SignatureReader reader;
    auth::HmacKey key = auth::derive_signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                                                 "20261123", "us-east-1", "kinesis");
    // The canonical request does not hold the signature: one with a wrong one gives the right one.
    auto request = signed_request(bytes, std::string(64, '0'));
    PENSTOCK_CHECK(reader.check_signature(*request, *reader.read(*request), key).has_value());
    auth::Sha256 sha256;
    const std::string text =
        "AWS4-HMAC-SHA256\n20261123T084142Z\n20261123/us-east-1/kinesis/aws4_request\n" +
        auth::to_hex(auth::as_text(sha256.of(reader.canonical_request())));
    request = signed_request(bytes, auth::to_hex(auth::as_text(key.of(text))));
    for (auto _ : state) {
        const auto claim = reader.read(*request);
        PENSTOCK_CHECK(claim.has_value());
        PENSTOCK_CHECK(!auth::SignatureReader::check_scope(*claim, "us-east-1", "kinesis"));
        PENSTOCK_CHECK(!auth::SignatureReader::check_time(*claim, claim->time_s));
        PENSTOCK_CHECK(!auth::SignatureReader::check_signed_headers(*request, *claim));
        PENSTOCK_CHECK(!reader.check_signature(*request, *claim, key));
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(check_signature)->Arg(1024)->Arg(1 << 20);

void hash_body(benchmark::State& state) {
    const std::string body(static_cast<std::size_t>(state.range(0)), 'a');
    auth::Sha256 sha256;
    for (auto _ : state) {
        benchmark::DoNotOptimize(sha256.of(body));
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(hash_body)->Arg(1024)->Arg(1 << 20);

// A policy of four statements, asked for a stream that the last one allows.
void ask_policy(benchmark::State& state) {
    const auto policy = auth::Policy::parse(
        R"({"Statement":[)"
        R"({"Effect":"Deny","Action":"kinesis:Delete*","Resource":"*"},)"
        R"({"Effect":"Allow","Action":"penstock:*","Resource":"*"},)"
        R"({"Effect":"Allow","Action":"kinesis:Get*","Resource":"arn:aws:kinesis:*:*:stream/b*"},)"
        R"({"Effect":"Allow","Action":"kinesis:Put*","Resource":"arn:aws:kinesis:*:*:stream/c*"}]})",
        auth::Policy::Kind::of_credential);
    PENSTOCK_CHECK(policy.has_value());
    for (auto _ : state) {
        benchmark::DoNotOptimize(policy->decide(
            "kinesis:PutRecords", "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"));
    }
}
BENCHMARK(ask_policy);

}  // namespace
}  // namespace penstock::kinesis

BENCHMARK_MAIN();
