// Opaque tokens that users carry from one call to the next: shard iterators and page tokens.
//
// A token is base64 of a payload and its HMAC-SHA-256 (first 16 bytes) under the catalog's key, so
// that one made up or damaged is recognised. It isn't encrypted: it says nothing that its holder
// could not ask for.
//
// Runs on: any control thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "storage/base/ids.h"

namespace penstock::kinesis {

inline constexpr std::int64_t token_life_ms = 300'000;

class TokenSealer {
public:
    explicit TokenSealer(std::string_view key) : key_(key) {}
    [[nodiscard]] std::string seal(std::string_view payload) const;
    // Nothing when it isn't a token of ours.
    [[nodiscard]] std::optional<std::string> open(std::string_view token) const;

private:
    std::string key_;
};

// Where a shard iterator stands. Payload format: docs/kinesis-api.md.
struct ShardIterator {
    enum class Kind : std::uint8_t { sequence = 1, timestamp = 2, trim_horizon = 3 };
    Kind kind = Kind::trim_horizon;
    std::uint32_t shard_number = 0;
    std::uint64_t incarnation = 0;  // of the stream
    Sequence sequence = 0;          // Kind::sequence: the first record wanted
    std::int64_t timestamp_ms = 0;  // records that arrived before are skipped, whatever the kind
    std::int64_t issued_ms = 0;
    std::string stream;
    friend bool operator==(const ShardIterator&, const ShardIterator&) = default;
};
[[nodiscard]] std::string encode_iterator(const TokenSealer& sealer, const ShardIterator& iterator);
// Accepts a token in double quotes, as Kinesis does.
[[nodiscard]] std::optional<ShardIterator> decode_iterator(const TokenSealer& sealer,
                                                           std::string_view token);

// Where a list goes on.
struct PageToken {
    enum class Kind : std::uint8_t { list_streams = 16, list_shards = 17, list_consumers = 18 };
    Kind kind = Kind::list_streams;
    std::uint8_t filter = 0;  // list_shards: the ShardFilter's type and its values
    std::uint32_t filter_shard = 0;
    std::uint32_t after_shard = 0;  // the last shard, or number of a consumer, given out
    std::uint64_t incarnation = 0;
    std::int64_t filter_ms = 0;
    std::int64_t issued_ms = 0;
    std::string stream;  // list_streams: the last one given out
    friend bool operator==(const PageToken&, const PageToken&) = default;
};
[[nodiscard]] std::string encode_page(const TokenSealer& sealer, const PageToken& page);
[[nodiscard]] std::optional<PageToken> decode_page(const TokenSealer& sealer,
                                                   std::string_view token);

}  // namespace penstock::kinesis
