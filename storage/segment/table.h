// What a group's manifest says: per shard its chunks, how far they are filled, where it was cut.
//
// The table is the state that manifest entries change: replaying them builds it, snapshot() writes
// it back as entries. Recovery, the running group and `penstock inspect` share it.
//
// Runs on: the lane that owns the group, or an offline tool.
// Allocates: per shard, chunk and index point.
// Format: docs/formats/manifest.md.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/format/manifest.h"
#include "storage/segment/space.h"

namespace penstock {

// A place in a chunk where a frame begins, and what stands before it.
struct IndexPoint {
    std::uint64_t offset = 0;     // multiple of block_bytes, or of 8 behind a lost range
    Sequence sequence = 0;        // last one before the place
    std::int64_t arrival_ms = 0;  // of that record
};

struct Chunk {
    std::uint64_t ordinal = 0;
    UnitRun run;
    ReplicaMask missing = 0;  // replicas without a whole copy
    bool sealed = false;
    std::uint64_t end_offset = 0;  // durable up to here
    Sequence before_sequence = 0;  // last sequence before the chunk
    Sequence end_sequence = 0;     // last one in it (== before_sequence while empty)
    std::int64_t end_arrival_ms = 0;
    std::vector<IndexPoint> index;  // sparse, growing offsets
};

struct LostRange {
    Sequence from = 0;
    Sequence until = 0;
};

// A shard's identity of its last frame: what the next one must name as predecessor.
struct ChainEnd {
    Sequence sequence = 0;
    std::uint64_t epoch = 0;
    std::uint32_t crc = 0;
    friend bool operator==(const ChainEnd&, const ChainEnd&) = default;
};

struct ShardTable {
    ShardUid uid{};
    Sequence next_sequence = 1;  // first one the started epoch could give out
    Sequence trim_sequence = 1;
    std::int64_t last_arrival_ms = 0;
    std::int64_t retention_ms = 24LL * 3600 * 1000;
    std::uint64_t next_ordinal = 0;
    ChainEnd end;  // of what is durable in segments
    bool closed = false;
    Sequence close_sequence = 0;  // first one it will never have; 0: not closed, or not known
    std::deque<Chunk> chunks;     // by ordinal
    std::vector<LostRange> lost;

    // Up to here it had records when it was closed that were not found to be lost; 0: not known.
    [[nodiscard]] Sequence closed_through() const noexcept;
    [[nodiscard]] Chunk* chunk(std::uint64_t ordinal) noexcept;
    // Whether a lost range ends right behind `sequence`: who wants what follows it has to be led
    // there, past what cannot be read.
    [[nodiscard]] bool ends_lost_range(Sequence sequence) const noexcept;
    // Adds an index point behind a lost range, in its order. False: there is one.
    bool add_point(Chunk& chunk, const IndexPoint& point) const;
};

class GroupTable {
public:
    GroupTable(std::uint32_t units_per_container) : space_(units_per_container) {}

    // Applies one entry. False: it contradicts the state (a damaged or foreign manifest).
    [[nodiscard]] bool apply(Bytes entry);
    // Writes the whole state as entries.
    void snapshot(const EpochBegunEntry& begun, const std::function<void(Bytes)>& add) const;

    [[nodiscard]] ShardTable* find(ShardUid uid) noexcept;
    [[nodiscard]] std::map<std::uint64_t, ShardTable>& shards() noexcept { return shards_; }
    [[nodiscard]] const std::map<std::uint64_t, ShardTable>& shards() const noexcept {
        return shards_;
    }
    [[nodiscard]] SegmentSpace& space() noexcept { return space_; }
    [[nodiscard]] const SegmentSpace& space() const noexcept { return space_; }
    [[nodiscard]] std::uint64_t writer_epoch() const noexcept { return writer_epoch_; }
    [[nodiscard]] std::uint64_t started_epoch() const noexcept { return started_epoch_; }
    [[nodiscard]] ReplicaMask taking() const noexcept { return taking_; }
    // Replicas that took writes at any time in the writer's epoch.
    [[nodiscard]] ReplicaMask taken_part() const noexcept { return taken_part_; }
    [[nodiscard]] std::int64_t written_wall_ms() const noexcept { return wall_ms_; }

    // What entries said of producers until now, in order; what they say later is not kept. Whoever
    // does not ask keeps all of it.
    [[nodiscard]] std::vector<ProducerRunEntry> take_producer_runs();

    // Distance between index points kept in memory and snapshots.
    static constexpr std::uint64_t index_distance_bytes = 1U << 20;

private:
    bool apply_shard(const ShardEntry& entry);
    bool apply_take(const TakeChunkEntry& entry);
    bool apply_point(const PointEntry& entry);
    bool apply_seal(const SealChunkEntry& entry);
    bool apply_trim(const TrimEntry& entry);

    SegmentSpace space_;
    std::map<std::uint64_t, ShardTable> shards_;
    std::uint64_t writer_epoch_ = 0;
    std::uint64_t started_epoch_ = 0;
    std::int64_t wall_ms_ = 0;
    ReplicaMask taking_ = 0;
    ReplicaMask taken_part_ = 0;
    std::vector<ProducerRunEntry> producer_runs_;
    bool keeps_producer_runs_ = true;
};

}  // namespace penstock
