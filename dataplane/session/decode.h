// What a client's datagram says once it is open, and what a server's does.
//
// A datagram is decoded as a whole before any of it takes effect: one that breaks the format
// anywhere changes nothing.
//
// Runs on: any thread; pure functions over the bytes given, into memory of the caller's.
// Allocates: a ClientText when it is made, nothing while decoding.
// Guarantees: never reads outside the text; every view lies within it.
// Format: docs/formats/session.md, "Blocks".
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/session/blocks.h"
#include "dataplane/session/datagram.h"
#include "storage/base/bytes.h"

namespace penstock::session {

struct RecordView {
    Bytes key;  // empty if it is an alias
    Bytes data;
    Hash128 explicit_hash;
    std::uint16_t offset = 0;  // in the batch
    std::uint16_t alias = 0;
    std::uint8_t flags = 0;

    [[nodiscard]] bool has_explicit_hash() const noexcept {
        return (flags & record_explicit_hash) != 0;
    }
    [[nodiscard]] bool uses_alias() const noexcept { return (flags & record_uses_alias) != 0; }
    [[nodiscard]] bool defines_alias() const noexcept {
        return (flags & record_defines_alias) != 0;
    }
};

// A BATCH or FRAGMENT block.
struct PartView {
    BatchBlock header;
    std::span<const RecordView> records;  // none of a fragment
    std::uint16_t end_offset = 0;         // behind the last record; of a fragment unknown
    bool is_fragment = false;
    FragmentBlock fragment;
    Bytes piece;  // of a fragment

    [[nodiscard]] bool starts_flow() const noexcept {
        return (header.block.flags & part_starts_flow) != 0;
    }
    [[nodiscard]] bool is_last() const noexcept { return (header.block.flags & part_is_last) != 0; }
};

// Everything that DATA can hold. Of blocks that say one thing the last one counts.
struct ClientText {
    // A part is a header and a record at least, and a record 8 bytes.
    static constexpr std::size_t parts_max = clear_bytes_max / (sizeof(BatchBlock) + 8);
    static constexpr std::size_t records_max = clear_bytes_max / sizeof(RecordHeader);
    static constexpr std::size_t consumer_blocks_max = 16;

    ClientText();
    // Every view lies in the text that was decoded last.
    std::span<const PartView> parts;
    std::span<const SubscribeBlock> subscribes;
    std::span<const PullBlock> pulls;
    bool wants_report = false;
    bool wants_size = false;  // of the answer: the datagram's own
    bool wants_map = false;
    Hash128 map_from;
    bool has_path_response = false;
    std::array<std::byte, 8> path_response{};
    bool closes = false;
    std::uint16_t close_code = 0;
    bool has_report = false;
    ReportBlock report;
    // Something besides answers to answers: it is to be reported.
    bool wants_answer = false;

private:
    friend struct ClientDecoder;
    std::unique_ptr<PartView[]> part_store_;
    std::unique_ptr<RecordView[]> record_store_;
    std::array<SubscribeBlock, consumer_blocks_max> subscribe_store_;
    std::array<PullBlock, consumer_blocks_max> pull_store_;
};

// False when `text` is not what a client may send; `out` must not be used then, but for
// `fault_block`, the type of the block that broke the format.
[[nodiscard]] bool decode_client(Bytes text, ClientText& out, BlockType& fault_block) noexcept;

// The records of a part that was put together of fragments. False when they are not what its header
// says. `records` has room for header.record_count.
[[nodiscard]] bool decode_records(Bytes bytes, const BatchBlock& header,
                                  std::span<RecordView> records,
                                  std::uint16_t& end_offset) noexcept;

// Bytes of UTF-8, 1 to 256 characters.
[[nodiscard]] bool is_partition_key(Bytes key) noexcept;

// Walks the blocks of any clear text, looking at types and lengths alone.
class BlockWalker {
public:
    explicit BlockWalker(Bytes text) noexcept : rest_(text) {}
    // False at the end, or when what is left is no block: see intact().
    [[nodiscard]] bool next(BlockHeader& header, Bytes& block) noexcept;
    [[nodiscard]] bool intact() const noexcept { return rest_.empty(); }

private:
    Bytes rest_;
};

}  // namespace penstock::session
