// What callers of a shard log hand in and get back: records, verdicts, commit waiters.
#pragma once

#include <cstdint>
#include <span>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/seal.h"

namespace penstock {

// Who made a record, for producers with idempotent sessions. Stored with the record unchanged.
struct ProducerMark {
    std::uint64_t producer = 0;
    std::uint32_t epoch = 0;
    std::uint32_t offset_in_batch = 0;
    std::uint64_t batch = 0;
    friend bool operator==(const ProducerMark&, const ProducerMark&) = default;
};

// One record to append. Views must live during the call only: the bytes are copied once, into the
// shard's open frame.
struct RecordIn {
    Bytes partition_key;                     // 1..256 bytes of UTF-8 (Kinesis' limit)
    Bytes data;                              // up to max_record_bytes
    const Hash128* explicit_hash = nullptr;  // kept for readers if the producer gave one
    const ProducerMark* producer = nullptr;
    // Nobody waits for this record and its kind comes in plenty: where memory is short it gives way
    // to those that don't say so.
    bool yields = false;
    // Of an encrypted stream, on the lane that appends: key and data go into the frame sealed.
    RecordSealer* sealer = nullptr;
};

// Largest data + key of one record that the format takes (10 MiB, Kinesis' largest).
inline constexpr std::uint32_t max_record_bytes = 10U * 1024 * 1024;
inline constexpr std::uint32_t max_key_bytes = 1024;  // 256 Unicode characters

enum class AppendVerdict : std::uint8_t {
    accepted,
    no_memory,     // the lane's buffers are full, for everybody: push back, retry soon
    shard_behind,  // this shard's share of them is, others' are not: push back, retry soon
    no_room,       // the file systems have not promised space for it yet: push back, retry soon
    disk_full,     // they cannot: push back until retention or an operator helps
    no_quorum,     // fewer than two replicas take writes
    needs_all,     // level `all` was asked for and a replica is out
    unknown_shard,
    shard_closed,
    too_large,
    producer_fenced,  // its epoch is over
    producer_window,  // its batch is not remembered any more: it may be stored, or not
    producers_full,   // no room to remember it: push back
    count_            // number of verdicts, for counters
};
[[nodiscard]] const char* describe(AppendVerdict verdict) noexcept;

struct Appended {
    Sequence sequence = 0;
    std::int64_t arrival_ms = 0;  // max(clock, the shard's last)
    bool repeated = false;        // its producer had put it before: these are the first one's
};

// Waits until a shard's commit point reaches `sequence` at `level`. The caller owns it and keeps it
// alive until on_done ran, which happens exactly once, on the lane's thread: Errc::ok when the
// records are durable at that level, otherwise their fate is unknown ("may exist").
struct CommitWaiter {
    Sequence sequence = 0;
    AckLevel level = AckLevel::quorum;
    void (*on_done)(CommitWaiter& self, Errc outcome) noexcept = nullptr;
    CommitWaiter* next = nullptr;  // the shard's list; not the caller's
};

}  // namespace penstock
