// Ids as types, so that a shard cannot be passed where a group is meant.
#pragma once

#include <compare>
#include <cstdint>

namespace penstock {

// Internal shard id, assigned once by the catalog and never reused. 0 is no shard.
// What users see (shardId-000000000003) is another number, local to the stream.
enum class ShardUid : std::uint64_t {};
// Shard group; 0 is the catalog's, data groups start at 1.
enum class GroupId : std::uint32_t {};
// Epoch under which a node writes. 0 is before any.
enum class Epoch : std::uint64_t {};
// Position of a record within its shard. 0 is before the first record.
using Sequence = std::uint64_t;

// Replicas of one set, 0..2.
inline constexpr unsigned replica_count = 3;
inline constexpr unsigned quorum_count = 2;
using ReplicaMask = std::uint8_t;
inline constexpr ReplicaMask all_replicas = 0b111;

[[nodiscard]] constexpr std::uint64_t value(ShardUid id) noexcept {
    return static_cast<std::uint64_t>(id);
}
[[nodiscard]] constexpr std::uint32_t value(GroupId id) noexcept {
    return static_cast<std::uint32_t>(id);
}
[[nodiscard]] constexpr std::uint64_t value(Epoch id) noexcept {
    return static_cast<std::uint64_t>(id);
}

// The 128-bit hash space partition keys map into, as Kinesis has it.
struct Hash128 {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    friend auto operator<=>(const Hash128&, const Hash128&) = default;
};

// What an acknowledgement promises.
enum class AckLevel : std::uint8_t {
    quorum = 1,  // durable on two of three replicas
    all = 2,     // durable on all three
};

}  // namespace penstock
