// Where records of a shard are: the answer a lane gives to a reader on another thread.
//
// A lane never reads history for others; it says where the frames lie and the reader's own thread
// reads and verifies them (storage/segment/reader.h). A chunk may be freed and reused meanwhile:
// frames name their shard and chain, so the reader notices and asks again.
#pragma once

#include <array>
#include <cstdint>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/log/append.h"

namespace penstock {

enum class ReadFrom : std::uint8_t {
    sequence,      // the first record at or after `sequence`
    timestamp,     // the first record that arrived at or after `timestamp_ms`
    trim_horizon,  // the oldest record kept
    latest,        // after the newest committed record: an empty plan that only tells positions
};

struct ReadStart {
    ReadFrom from = ReadFrom::trim_horizon;
    Sequence sequence = 0;
    std::int64_t timestamp_ms = 0;
};

// A run of bytes in one container file, the same on each replica of `replicas`.
struct ReadExtent {
    std::uint32_t container = 0;
    ReplicaMask replicas = 0;
    std::uint64_t offset = 0;  // multiple of block_bytes
    std::uint64_t length = 0;  // multiple of block_bytes; later bytes belong to nobody or others
    Sequence before_sequence = 0;  // its first frame follows this one, or one after it
    std::uint32_t skip = 0;  // its first frame begins so many bytes behind `offset`
};

// A sealed frame in the lane's memory, lent read-only until the plan is released.
struct ReadFrame {
    const std::byte* data = nullptr;
    std::uint32_t length = 0;
    std::uint32_t buffer = 0;  // the lane's
};

struct ReadPlan {
    static constexpr std::size_t extents_max = 8;
    static constexpr std::size_t frames_max = 64;
    static constexpr std::uint64_t ahead_bytes = 8U << 20;

    Sequence first_sequence = 0;  // records from here on answer the request; skip earlier ones
    Sequence trim_sequence = 0;   // first record kept (trim horizon)
    Sequence end_sequence =
        0;  // first sequence after the newest committed record; show none from here on
    std::int64_t newest_arrival_ms = 0;  // of the newest committed record, 0 if none was ever
    std::int64_t timestamp_ms = 0;  // for ReadFrom::timestamp: skip records that arrived before
    std::uint32_t group = 0;
    std::uint64_t shard = 0;
    std::uint32_t extent_count = 0;  // read these first, in order,
    std::uint32_t frame_count = 0;   // then these
    // Extents behind those, with what the shard has next: not asked for, but a reader who goes on
    // comes to them, so that they may be read ahead.
    std::uint32_t ahead_count = 0;
    std::array<ReadExtent, extents_max> extents{};
    std::array<ReadFrame, frames_max> frames{};
    // The part of the request that is known to be lost on every replica, if it starts right at
    // first_sequence: [first_sequence, lost_until). Errc::lost is for exactly that range.
    Sequence lost_until = 0;
};

struct ShardStatus {
    Sequence trim_sequence = 0;
    Sequence end_sequence = 0;  // first sequence that will be given out after the committed ones
    std::int64_t newest_arrival_ms = 0;  // of the committed ones
    std::int64_t last_arrival_ms = 0;    // of all; the next record's is not before it
    std::uint64_t stored_bytes = 0;      // in segments, of one replica
    std::uint64_t pending_bytes = 0;     // in memory and journal, not in segments yet
};

// A decoded record, viewing the bytes it was read into.
struct RecordView {
    Sequence sequence = 0;
    std::int64_t arrival_ms = 0;
    Bytes partition_key;
    Bytes data;
    bool has_explicit_hash = false;
    Hash128 explicit_hash;
    // Of a sealed record (storage/format/seal.h), whose key and data above are not in clear: its
    // RecordSeal, and what was authenticated with it. Empty for one that is not sealed.
    Bytes seal;
    Bytes extras;
    std::uint8_t flags = 0;
    bool has_producer = false;
    ProducerMark producer{};
};

}  // namespace penstock
