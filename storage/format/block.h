// Headers of the two kinds of blocks that carry other things: journal blocks (frames of many
// shards) and state blocks (the manifest's and the catalog's changes). 4 KiB aligned on disk.
//
// Format: docs/formats/journal.md, docs/formats/manifest.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"

namespace penstock {

inline constexpr std::uint32_t journal_magic = 0x4b4c424a;  // "JBLK"
inline constexpr std::uint32_t state_magic = 0x4b4c4253;    // "SBLK"
inline constexpr std::uint8_t block_version = 1;
inline constexpr std::uint32_t journal_block_bytes_max = 1U << 20;

struct JournalBlockHeader {
    std::uint32_t magic = journal_magic;
    std::uint32_t header_crc = 0;  // CRC-32C of bytes 8..63
    std::uint8_t version = block_version;
    ReplicaMask sent_to = 0;  // replicas this block was handed to
    std::uint8_t refuse_flags = 0;
    std::uint8_t reserved = 0;
    std::uint32_t group = 0;
    std::uint64_t set_id = 0;
    std::uint64_t epoch = 0;
    std::uint64_t number = 0;  // counts up within an epoch, from 1
    std::uint32_t frame_count = 0;
    std::uint32_t used_bytes = 0;  // header and frames; zeroes follow up to the next 4 KiB
    std::uint64_t reserved2 = 0;
    std::uint64_t durable_through = 0;  // every block up to here was durable on two when sent
};
static_assert(sizeof(JournalBlockHeader) == 64);
static_assert(std::has_unique_object_representations_v<JournalBlockHeader>);

enum class StateKind : std::uint8_t { none = 0, snapshot = 1, snapshot_last = 2, delta = 3 };

struct StateBlockHeader {
    std::uint32_t magic = state_magic;
    std::uint32_t header_crc = 0;  // CRC-32C of bytes 8..63
    std::uint8_t version = block_version;
    StateKind kind = StateKind::none;
    std::uint8_t refuse_flags = 0;
    ReplicaMask sent_to = 0;  // replicas this block was handed to
    std::uint32_t group = 0;
    std::uint64_t set_id = 0;
    std::uint64_t epoch = 0;
    std::uint64_t generation = 0;
    std::uint64_t index = 0;  // within the generation, from 0
    std::uint32_t payload_bytes = 0;
    std::uint32_t payload_crc = 0;
    std::uint32_t previous_crc = 0;  // header CRC of block index - 1, 0 for index 0
    std::uint32_t reserved2 = 0;
};
static_assert(sizeof(StateBlockHeader) == 64);
static_assert(std::has_unique_object_representations_v<StateBlockHeader>);

enum class BlockFault : std::uint8_t {
    none,
    not_a_block,     // neither magic nor a header CRC that matches
    header_damaged,  // one of the two, not both
    payload_damaged,
    foreign,
    unknown_version,
    malformed,
    truncated
};
[[nodiscard]] const char* describe(BlockFault fault) noexcept;

void seal_header(JournalBlockHeader& header, std::byte* block) noexcept;
void seal_header(StateBlockHeader& header, std::byte* block) noexcept;

[[nodiscard]] BlockFault check_block(Bytes bytes, std::uint64_t set_id, std::uint32_t group,
                                     JournalBlockHeader& out) noexcept;
// Payload included: the block's bytes must be there whole.
[[nodiscard]] BlockFault check_block(Bytes bytes, std::uint64_t set_id, std::uint32_t group,
                                     StateBlockHeader& out) noexcept;

}  // namespace penstock
