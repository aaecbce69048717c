// The clear text of a session's datagrams: blocks, as structs of fixed layout.
//
// Format: docs/formats/session.md, "Blocks".
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"

namespace penstock::session {

enum class BlockType : std::uint8_t {
    none = 0,
    padding = 1,
    batch = 2,
    fragment = 3,
    ping = 4,
    path_response = 5,
    ask_map = 6,
    close = 7,
    subscribe = 8,
    pull = 9,
    report = 16,
    results = 17,
    credit = 18,
    map = 19,
    path_challenge = 20,
    closed = 21,
    push = 22,
    push_fragment = 23,
    push_end = 24,
};

struct BlockHeader {
    BlockType type = BlockType::none;
    std::uint8_t flags = 0;
    std::uint16_t length = 0;  // of the block, this header included
};
static_assert(sizeof(BlockHeader) == 4);

inline constexpr std::uint8_t part_starts_flow = 1;
inline constexpr std::uint8_t part_is_last = 2;
// One run of a producer that a group remembers has that many offsets.
inline constexpr std::uint16_t batch_records_max = 512;
inline constexpr std::uint64_t batch_number_max = (std::uint64_t{1} << 63) - 1;

struct BatchBlock {
    BlockHeader block{BlockType::batch};
    std::uint16_t record_count = 0;
    std::uint16_t first_offset = 0;
    std::uint64_t shard = 0;
    std::uint64_t batch = 0;
    std::uint32_t flow = 0;
    std::uint16_t follows = 0;
    std::uint16_t reserved = 0;
};
static_assert(sizeof(BatchBlock) == 32);

inline constexpr std::uint16_t fragment_bytes_min = 1024;
inline constexpr std::uint16_t fragment_bytes_max = 8192;
// A part may have this much beyond the stream's record size.
inline constexpr std::uint32_t fragmented_extra_bytes = 2048;

struct FragmentBlock {
    BatchBlock part;  // its block header is the fragment's
    std::uint32_t total_bytes = 0;
    std::uint32_t offset = 0;
    std::uint16_t fragment_bytes = 0;
    std::uint16_t reserved = 0;
    std::uint32_t reserved_too = 0;
};
static_assert(sizeof(FragmentBlock) == 48);

inline constexpr std::uint8_t record_explicit_hash = 1;
inline constexpr std::uint8_t record_uses_alias = 2;
inline constexpr std::uint8_t record_defines_alias = 4;
inline constexpr std::uint8_t record_skips = 8;

struct RecordHeader {
    std::uint8_t flags = 0;
    std::uint8_t reserved = 0;
    std::uint16_t key_bytes = 0;  // or the alias
    std::uint32_t data_bytes = 0;
};
static_assert(sizeof(RecordHeader) == 8);

inline constexpr std::uint8_t ping_wants_size = 1;

struct PathBlock {
    BlockHeader block;
    std::array<std::byte, 8> value{};
    friend bool operator==(const PathBlock& a, const PathBlock& b) { return a.value == b.value; }
};
static_assert(sizeof(PathBlock) == 12);

inline constexpr std::uint16_t ask_map_bytes = 20;

struct CloseBlock {
    BlockHeader block{BlockType::close, 0, 8};
    std::uint16_t code = 0;
    std::uint16_t reserved = 0;
};
static_assert(sizeof(CloseBlock) == 8);

enum class SubscribeStart : std::uint8_t {
    none,
    oldest,
    newest,
    at_sequence,
    after_sequence,
    at_time
};

struct SubscribeBlock {
    BlockHeader block{BlockType::subscribe, 0, 48};
    std::uint32_t subscription = 0;
    std::uint64_t shard = 0;
    SubscribeStart start = SubscribeStart::none;
    std::uint8_t reserved[3] = {};
    std::uint32_t window_bytes = 0;
    std::uint64_t value = 0;
    std::uint8_t reserved_too[16] = {};
};
static_assert(sizeof(SubscribeBlock) == 48);

inline constexpr std::uint8_t pull_again = 1;

struct PullBlock {
    BlockHeader block{BlockType::pull, 0, 24};
    std::uint32_t subscription = 0;
    std::uint64_t received = 0;
    std::uint32_t window_bytes = 0;
    std::uint32_t reserved = 0;
};
static_assert(sizeof(PullBlock) == 24);

struct ReportBlock {
    BlockHeader block{BlockType::report, 0, 64};
    std::uint32_t echo_us = 0;
    std::uint64_t highest = 0;
    std::uint32_t delay_us = 0;
    std::uint32_t reserved = 0;
    std::uint64_t received = 0;  // datagrams authenticated so far
    std::array<std::uint8_t, 32> bitmap{};
};
static_assert(sizeof(ReportBlock) == 64);

// What became of a part; the numbers stand on the wire.
enum class PartStatus : std::uint8_t {
    none,
    stored,
    repeated,
    throttled,
    out_of_order,
    wrong_shard,
    shard_closed,
    fenced,
    window,
    too_large,
    unknown_alias,
    unknown,
    key_unavailable,
    fragments_lost,
};
[[nodiscard]] constexpr bool is_stored(PartStatus status) noexcept {
    return status == PartStatus::stored || status == PartStatus::repeated;
}

enum class CreditCause : std::uint8_t {
    none,
    memory,
    disk,
    quota,
    replicas,
    session,
    producers,
    reassembly,
};

struct ResultsBlock {
    BlockHeader block{BlockType::results};
    std::uint32_t flow = 0;
    std::uint64_t shard = 0;
    std::uint64_t through = 0;
    std::uint32_t map_epoch = 0;
    std::uint32_t reserved = 0;
};
static_assert(sizeof(ResultsBlock) == 32);

struct ResultEntry {
    std::uint64_t batch = 0;
    std::uint16_t first_offset = 0;
    std::uint16_t record_count = 0;
    PartStatus status = PartStatus::none;
    std::uint8_t level = 0;   // AckLevel reached; 0 unless stored
    std::uint16_t cause = 0;  // CreditCause of `throttled`
    std::uint64_t first_sequence = 0;
    // Stored: arrival in milliseconds since 1970. Throttled: microseconds to wait. Fenced: the
    // newer epoch.
    std::int64_t value = 0;
    friend bool operator==(const ResultEntry&, const ResultEntry&) = default;
};
static_assert(sizeof(ResultEntry) == 32);

struct CreditBlock {
    BlockHeader block{BlockType::credit, 0, 32};
    std::uint16_t batches = 0;
    CreditCause cause = CreditCause::none;
    std::uint8_t reserved = 0;
    std::uint64_t bytes = 0;
    std::uint32_t retry_after_us = 0;
    std::uint32_t expires_in_s = 0;
    std::int64_t clock_ms = 0;
};
static_assert(sizeof(CreditBlock) == 32);

inline constexpr std::uint8_t map_has_more = 1;

struct MapBlock {
    BlockHeader block{BlockType::map};
    std::uint32_t map_epoch = 0;
};
static_assert(sizeof(MapBlock) == 8);

struct MapEntry {
    std::uint64_t shard = 0;
    Hash128 first;
    Hash128 last;  // inclusive
    std::int64_t created_s = 0;
    std::uint32_t shard_number = 0;
    std::uint16_t lane = 0;
    std::uint16_t port = 0;
    std::array<std::byte, 16> address{};  // zeroes: the one that was asked
    std::uint8_t state = 0;               // 1 open, 2 closed
    std::array<std::uint8_t, 7> reserved{};
    friend bool operator==(const MapEntry&, const MapEntry&) = default;
};
static_assert(sizeof(MapEntry) == 80);

enum class CloseCode : std::uint16_t {
    none,
    closed,
    expired,
    revoked,
    fenced,
    replaced,
    epoch_over,
    protocol_error,
    idle,
    keys_used_up,
};

struct ClosedBlock {
    BlockHeader block{BlockType::closed, 0, 16};
    CloseCode code = CloseCode::none;
    std::uint16_t reserved = 0;
    std::uint64_t detail = 0;
};
static_assert(sizeof(ClosedBlock) == 16);

// The beginning of ACCEPT's clear text.
struct Grant {
    std::uint64_t session = 0;
    std::uint64_t owner_epoch = 0;
    std::uint64_t node = 0;
    std::uint64_t producer = 0;
    std::uint32_t producer_epoch = 0;
    std::uint32_t lifetime_s = 0;
    std::int64_t clock_ms = 0;
    std::uint16_t lanes = 0;
    std::uint16_t port = 0;
    std::uint16_t aliases = 0;
    std::uint16_t flows = 0;
    friend bool operator==(const Grant&, const Grant&) = default;
};
static_assert(sizeof(Grant) == 56);

// The beginning of OPEN's clear text; zeroes follow.
struct OpenRequest {
    std::uint32_t producer_epoch = 0;  // 0: the server chooses
    std::uint32_t lifetime_s = 0;
    std::uint8_t level = 0;  // AckLevel
    std::uint8_t role = 0;   // 1 produce, 2 consume, 3 both
    std::uint16_t reserved = 0;
    std::uint32_t reserved_too = 0;
    Hash128 map_from;
};

}  // namespace penstock::session
