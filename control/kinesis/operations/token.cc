#include "control/kinesis/operations/token.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <array>
#include <type_traits>
#include <vector>

#include "control/kinesis/input/base64.h"
#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace penstock::kinesis {

namespace {

constexpr std::size_t mac_bytes = 16;
constexpr std::size_t token_characters_max = 512;
constexpr std::size_t stream_name_bytes_max = 128;
constexpr std::uint8_t current_version = 1;

struct Payload {
    std::uint8_t version;
    std::uint8_t kind;
    std::uint8_t filter;
    std::uint8_t stream_bytes;
    std::uint32_t shard;
    std::uint64_t incarnation;
    std::uint64_t number;  // sequence, or shard of the filter
    std::int64_t timestamp_ms;
    std::int64_t issued_ms;
};
static_assert(sizeof(Payload) == 40 && std::has_unique_object_representations_v<Payload>);

std::array<unsigned char, 32> mac_of(std::string_view key, std::string_view payload) {
    std::array<unsigned char, 32> mac{};
    unsigned length = 0;
    const auto* done = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                            reinterpret_cast<const unsigned char*>(payload.data()), payload.size(),
                            mac.data(), &length);
    PENSTOCK_CHECK(done != nullptr && length == mac.size());
    return mac;
}

std::string seal_payload(const TokenSealer& sealer, Payload payload, std::string_view stream) {
    payload.version = current_version;
    payload.stream_bytes = static_cast<std::uint8_t>(stream.size());
    std::string bytes(reinterpret_cast<const char*>(&payload), sizeof(payload));
    bytes += stream;
    return sealer.seal(bytes);
}

std::optional<Payload> open_payload(const TokenSealer& sealer, std::string_view token,
                                    std::string& stream) {
    const auto bytes = sealer.open(token);
    if (!bytes || bytes->size() < sizeof(Payload)) {
        return std::nullopt;
    }
    const auto payload = load<Payload>(bytes->data());
    if (payload.version != current_version ||
        bytes->size() != sizeof(Payload) + payload.stream_bytes ||
        payload.stream_bytes > stream_name_bytes_max) {
        return std::nullopt;
    }
    stream = bytes->substr(sizeof(Payload));
    return payload;
}

}  // namespace

std::string TokenSealer::seal(std::string_view payload) const {
    const auto mac = mac_of(key_, payload);
    std::string bytes(payload);
    bytes.append(reinterpret_cast<const char*>(mac.data()), mac_bytes);
    std::string token;
    base64_append(token, as_bytes(bytes));
    return token;
}

std::optional<std::string> TokenSealer::open(std::string_view token) const {
    if (token.size() > token_characters_max) {
        return std::nullopt;
    }
    std::array<std::byte, base64_decoded_size_max(token_characters_max) + base64_decode_slack> room;
    const auto size = base64_decode(token, room.data());
    if (!size || *size < mac_bytes) {
        return std::nullopt;
    }
    const std::string_view bytes = as_text(Bytes(room).first(*size));
    const std::string_view payload = bytes.substr(0, bytes.size() - mac_bytes);
    const auto mac = mac_of(key_, payload);
    if (CRYPTO_memcmp(mac.data(), bytes.data() + payload.size(), mac_bytes) != 0) {
        return std::nullopt;
    }
    return std::string(payload);
}

std::string encode_iterator(const TokenSealer& sealer, const ShardIterator& iterator) {
    Payload payload{};
    payload.kind = static_cast<std::uint8_t>(iterator.kind);
    payload.shard = iterator.shard_number;
    payload.incarnation = iterator.incarnation;
    payload.number = iterator.sequence;
    payload.timestamp_ms = iterator.timestamp_ms;
    payload.issued_ms = iterator.issued_ms;
    return seal_payload(sealer, payload, iterator.stream);
}

std::optional<ShardIterator> decode_iterator(const TokenSealer& sealer, std::string_view token) {
    if (token.size() >= 2 && token.front() == '"' && token.back() == '"') {
        token = token.substr(1, token.size() - 2);
    }
    ShardIterator iterator;
    const auto payload = open_payload(sealer, token, iterator.stream);
    if (!payload || payload->kind < 1 || payload->kind > 3) {
        return std::nullopt;
    }
    iterator.kind = static_cast<ShardIterator::Kind>(payload->kind);
    iterator.shard_number = payload->shard;
    iterator.incarnation = payload->incarnation;
    iterator.sequence = payload->number;
    iterator.timestamp_ms = payload->timestamp_ms;
    iterator.issued_ms = payload->issued_ms;
    return iterator;
}

std::string encode_page(const TokenSealer& sealer, const PageToken& page) {
    Payload payload{};
    payload.kind = static_cast<std::uint8_t>(page.kind);
    payload.filter = page.filter;
    payload.shard = page.after_shard;
    payload.incarnation = page.incarnation;
    payload.number = page.filter_shard;
    payload.timestamp_ms = page.filter_ms;
    payload.issued_ms = page.issued_ms;
    return seal_payload(sealer, payload, page.stream);
}

std::optional<PageToken> decode_page(const TokenSealer& sealer, std::string_view token) {
    PageToken page;
    const auto payload = open_payload(sealer, token, page.stream);
    if (!payload || payload->kind < 16 || payload->kind > 18) {
        return std::nullopt;
    }
    page.kind = static_cast<PageToken::Kind>(payload->kind);
    page.filter = payload->filter;
    page.filter_shard = static_cast<std::uint32_t>(payload->number);
    page.after_shard = payload->shard;
    page.incarnation = payload->incarnation;
    page.filter_ms = payload->timestamp_ms;
    page.issued_ms = payload->issued_ms;
    return page;
}

}  // namespace penstock::kinesis
