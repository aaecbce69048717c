// One shard's log in memory: its open frame, the buffers not yet durable in its segment, its commit
// point and who waits for it.
//
// A buffer is both where records are appended and, later, one write to the segment: frames stand
// in it back to back. A frame is sealed when it is journaled or its buffer is closed.
//
// Runs on: the lane that owns the group.
// Guarantees: I-1 acked ≤ committed ≤ submitted ≤ appended.
#pragma once

#include <cstdint>

#include "storage/base/ids.h"
#include "storage/log/append.h"
#include "storage/segment/table.h"

namespace penstock {

struct FrameBuffer;
struct GroupCore;

// A sealed frame that is in memory.
struct FrameMeta {
    FrameMeta* next = nullptr;  // in its shard, in order
    FrameBuffer* buffer = nullptr;
    std::uint32_t generation = 0;  // of this slot's use
    std::uint32_t offset = 0;      // in the buffer
    std::uint32_t bytes = 0;       // total, aligned
    std::uint32_t records = 0;
    Sequence first_sequence = 0;
    std::uint64_t journal_block = 0;  // 0: never journaled
    std::uint64_t opened_ns = 0;      // first record's append
    std::uint64_t data_bytes = 0;     // data and keys of its records
    std::int64_t last_arrival_ms = 0;
    ChainEnd identity;        // what the next frame names
    ReplicaMask durable = 0;  // replicas with a copy that counts
    bool submitted = false;

    [[nodiscard]] Sequence last_sequence() const noexcept { return first_sequence + records - 1; }
};

enum class BufferState : std::uint8_t {
    open,     // records are appended
    closed,   // full, or to be written; waits for its place and a free write
    writing,  // handed to the devices
    written,  // plain write done on every replica that takes writes; not flushed
    settled,  // durable in the segment on a quorum and on every replica that takes writes
};

struct ShardLog;

struct FrameBuffer {
    FrameBuffer* next = nullptr;        // in its shard
    FrameBuffer* queue_next = nullptr;  // in the group's write queue
    ShardLog* shard = nullptr;
    std::byte* data = nullptr;
    std::uint32_t capacity = 0;
    std::uint32_t used = 0;
    std::uint32_t length = 0;  // on disk: used, rounded up
    BufferState state = BufferState::open;
    bool queued = false;
    bool direct = false;  // its write commits its frames
    bool orphan = false;  // only outstanding I/O or leases keep it
    std::uint16_t generation = 0;
    std::uint16_t leases = 0;
    std::uint64_t ordinal = 0;  // chunk, once placed
    std::uint64_t offset = 0;   // in the chunk
    bool placed = false;
    ReplicaMask outstanding = 0;
    ReplicaMask done = 0;     // write completed well
    ReplicaMask flushed = 0;  // and survives a power loss
    ReplicaMask to_queue = 0;
    ReplicaMask discount = 0;  // outstanding writes that prove nothing once they are done
    std::uint64_t issued_ns = 0;
    std::uint64_t flush_ticket = 0;
    FrameMeta* first = nullptr;
    FrameMeta* last = nullptr;
};

// The shard's own wait for its last record, and who is told when its end is durable.
struct CloseWait : CommitWaiter {
    ShardLog* shard = nullptr;
    GroupCore* core = nullptr;
    CommitWaiter* tell = nullptr;
    bool waits = false;
};

struct ShardLog {
    ShardUid uid{};
    ShardTable* table = nullptr;

    // -- The open frame, at the end of the last buffer
    // ---------------------------------------------
    std::uint32_t frame_offset = 0;   // where its header will stand
    std::uint32_t frame_records = 0;  // 0: no open frame
    std::uint32_t frame_crc = 0;      // of its payload so far
    std::uint32_t frame_crc_at = 0;   // place in the buffer up to which frame_crc goes
    Sequence frame_first = 0;
    std::int64_t frame_first_arrival_ms = 0;
    std::uint64_t frame_opened_ns = 0;
    std::uint64_t frame_data_bytes = 0;

    // -- Positions
    // ---------------------------------------------------------------------------------
    Sequence next_sequence = 1;  // appended + 1
    Sequence committed = 0;      // last one durable on a quorum, everything before too
    Sequence committed_all = 0;  // the same for all three
    Sequence submitted = 0;
    std::uint64_t committed_records = 0;  // since the group was opened
    std::uint64_t committed_bytes = 0;
    std::int64_t last_arrival_ms = 0;
    std::int64_t committed_arrival_ms = 0;
    ChainEnd chain;  // last sealed frame

    // -- Buffers and frames, oldest first
    // ----------------------------------------------------------
    FrameBuffer* buffers = nullptr;
    FrameBuffer* buffers_last = nullptr;
    FrameMeta* frames = nullptr;  // sealed, of the buffers above
    FrameMeta* frames_last = nullptr;
    FrameMeta* unsubmitted = nullptr;     // first sealed frame not handed out yet
    FrameMeta* commit_next = nullptr;     // first frame beyond `committed`
    FrameMeta* all_next = nullptr;        // first frame beyond `committed_all`
    std::uint64_t unsubmitted_bytes = 0;  // the open frame included
    std::uint64_t pending_bytes = 0;      // in buffers that are not settled
    std::uint64_t pending_since_ns = 0;   // oldest append not in the segment; 0: none
    std::uint32_t unflushed = 0;  // buffers in state `writing` by a plain write, or `written`

    // -- Place in the segment
    // ----------------------------------------------------------------------
    bool has_chunk = false;  // `chunk_ordinal` can be written to
    std::uint64_t chunk_ordinal = 0;
    std::uint64_t chunk_offset = 0;  // next write
    std::uint64_t chunk_bytes = 0;
    bool next_chunk_asked = false;  // a take_chunk entry is on its way
    bool next_chunk_ready = false;  // ordinal chunk_ordinal + 1 (or the first) is durable
    std::uint64_t next_chunk_ordinal = 0;
    std::uint64_t next_chunk_bytes = 0;
    std::uint32_t chunk_units = 1;  // wish for the next one
    std::uint64_t chunk_taken_ns = 0;

    // -- Settled end: what is in the segment for good, ahead of the manifest's points
    // ----------------
    std::uint64_t settled_ordinal = 0;
    std::uint64_t settled_offset = 0;
    std::int64_t settled_arrival_ms = 0;
    ChainEnd settled;
    bool settled_any = false;  // in this epoch, beyond the table
    bool point_due = false;
    std::uint64_t settled_since_point = 0;

    std::uint32_t buffer_wish = 0;  // capacity of the next buffer
    bool leaves = false;  // goes to its segment as soon as the journal has all of its frames
    bool bulk = false;    // what was handed out last went directly: its buffers may be large
    std::uint64_t went_direct_ns = 0;  // the last time it did
    // Of the lane's memory; see FramePool.
    std::uint64_t held_bytes = 0;       // capacity of its buffers, orphans too
    std::uint64_t kept_bytes = 0;       // what of its share it told the pool to keep
    std::uint64_t blocked_in_pass = 0;  // of issue_writes(): waits for a chunk
    bool dirty = false;                 // in the group's dirty list
    bool closing = false;  // takes no more records; its table says closed when that is durable
    // Its children were asked for what a producer had put here: it takes no more records with
    // marks.
    bool producers_moved = false;
    bool has_share = true;  // of the pool
    bool dropping = false;
    CloseWait close;
    CommitWaiter* waiters = nullptr;
    CommitWaiter* waiters_last = nullptr;
    CommitWaiter* drop_waiter = nullptr;
    ShardLog* dirty_next = nullptr;
    bool in_relief = false;  // in the group's list of what has to leave memory and journal
    ShardLog* relief_next = nullptr;
    ShardLog* relief_previous = nullptr;
};

}  // namespace penstock
