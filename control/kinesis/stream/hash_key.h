// The 128-bit hash space of a stream: decimal text, and ranges that tile it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/base/ids.h"

namespace penstock::kinesis {

__extension__ using Uint128 = unsigned __int128;

[[nodiscard]] constexpr Uint128 to_uint128(const Hash128& hash) noexcept {
    return (static_cast<Uint128>(hash.high) << 64) | hash.low;
}
[[nodiscard]] constexpr Hash128 to_hash(Uint128 number) noexcept {
    return {static_cast<std::uint64_t>(number >> 64), static_cast<std::uint64_t>(number)};
}
inline constexpr Hash128 hash_max{~std::uint64_t{0}, ~std::uint64_t{0}};

[[nodiscard]] std::string to_decimal(const Hash128& hash);
// Digits only, without leading zeros; nothing when it is not a number below 2^128.
[[nodiscard]] std::optional<Hash128> parse_hash_key(std::string_view text) noexcept;

struct HashRange {
    Hash128 start;
    Hash128 end;  // inclusive
    friend bool operator==(const HashRange&, const HashRange&) = default;
};
// `count` ranges of almost equal size that cover 0..2^128-1 without gap or overlap, the last one
// taking the remainder, as Kinesis cuts them. `count` is at least 1.
[[nodiscard]] std::vector<HashRange> tile_hash_space(std::uint32_t count);

}  // namespace penstock::kinesis
