#include "control/kinesis/reply/request_ids.h"

#include <openssl/rand.h>

#include <cstdio>
#include <span>

#include "control/kinesis/input/base64.h"
#include "storage/base/check.h"

namespace penstock::kinesis {

RequestIds::RequestIds() {
    PENSTOCK_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(state_.data()), sizeof(state_)) ==
                   1);
    state_[0] |= 1;
}

// xorshift128+: ids need to differ, not to be secret.
std::uint64_t RequestIds::next() noexcept {
    std::uint64_t x = state_[0];
    const std::uint64_t y = state_[1];
    state_[0] = y;
    x ^= x << 23;
    state_[1] = x ^ y ^ (x >> 17) ^ (y >> 26);
    return state_[1] + y;
}

std::string RequestIds::request_id() {
    const std::uint64_t a = next();
    const std::uint64_t b = next();
    char text[40];
    const int size = std::snprintf(
        text, sizeof(text), "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(a >> 32),
        static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
        static_cast<unsigned>(0x8000 | (b >> 48 & 0x3fff)),
        static_cast<unsigned long long>(b & 0xffff'ffff'ffffULL));
    return {text, static_cast<std::size_t>(size)};
}

std::string RequestIds::extended_id() {
    std::array<std::uint64_t, 9> bytes;
    for (std::uint64_t& word : bytes) {
        word = next();
    }
    std::string text;
    base64_append(text, std::as_bytes(std::span(bytes)));
    return text;
}

std::vector<std::pair<std::string, std::string>> cors_headers(const http::HttpRequest& request) {
    if (!request.has_header("Origin")) {
        return {};
    }
    return {{"Access-Control-Allow-Origin", "*"},
            {"Access-Control-Expose-Headers",
             "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,"
             "Date"}};
}

void add_headers(RequestIds& ids, http::HttpExchange& exchange) {
    exchange.add_header("x-amzn-RequestId", ids.request_id());
    exchange.add_header("x-amz-id-2", ids.extended_id());
    for (auto& [name, value] : cors_headers(exchange.request())) {
        exchange.add_header(std::move(name), std::move(value));
    }
}

}  // namespace penstock::kinesis
