// Shard ids as users see them: "shardId-000000000003".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::kinesis {

inline constexpr std::uint32_t shard_number_max = 0x7fffffff;

[[nodiscard]] std::string format_shard_id(std::uint32_t number);
// Takes "shardId-000000000003", and as Kinesis does also "shardId-3", "anything-3" and "3".
[[nodiscard]] std::optional<std::uint32_t> parse_shard_id(std::string_view text) noexcept;

}  // namespace penstock::kinesis
