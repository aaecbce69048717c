// What an inspection of a replica set finds, and what it counted.
//
// Runs on: any thread; plain values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/ids.h"

namespace penstock {

enum class DifferenceLevel : std::uint8_t {
    note,    // expected of a set that was killed, or of a replica that is being refilled
    damage,  // a copy is bad or missing; another is good, or no acknowledged record is concerned
    lost,    // no good copy of something that was committed
};
[[nodiscard]] const char* describe(DifferenceLevel level) noexcept;

enum class DifferenceKind : std::uint8_t {
    place,  // a directory is not there, or not what it should be
    superblock,
    state_log,  // a block of a manifest or of the catalog
    manifest,   // entries that contradict each other
    journal,    // a journal block
    file,       // a segment file is missing or cannot be read
    frame,      // a frame's copy in a segment
    padding,    // bytes behind a write that should be zeroes
    chain,      // frames that do not follow each other
    records,    // a shard's records, lost
    lagging,    // chunks a replica does not have yet
    pending,    // frames that are not in segments yet
};
[[nodiscard]] const char* describe(DifferenceKind kind) noexcept;

// One line of a report. Fields that do not apply are empty or zero; replica -1 is none or all.
struct Difference {
    DifferenceLevel level = DifferenceLevel::note;
    DifferenceKind kind = DifferenceKind::place;
    int replica = -1;
    std::string file;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint64_t shard = 0;
    Sequence first = 0;
    Sequence last = 0;
    ReplicaMask good = 0;  // replicas with an intact copy
    std::string what;
};
// "damage: replica 1 segment-1-0 at 8192, 4096 bytes: header damaged; shard 3, records 5..9; …"
[[nodiscard]] std::string describe(const Difference& difference);

// Records first..last, without a hole between them.
struct SequenceRange {
    Sequence first = 0;
    Sequence last = 0;
    friend bool operator==(const SequenceRange&, const SequenceRange&) = default;
};

struct ShardReport {
    std::uint64_t uid = 0;
    std::uint32_t group = 0;
    Sequence trim_sequence = 0;
    Sequence end_sequence = 0;  // last in segments, as the manifest says
    std::uint64_t chunks = 0;
    std::uint64_t frames = 0;           // in segments
    std::uint64_t records = 0;          // of all ranges
    std::uint64_t pending_frames = 0;   // beyond the manifest's end, in journal or segment
    std::uint64_t void_frames = 0;      // beyond the end, and following nothing
    std::vector<SequenceRange> ranges;  // what can be read, pending frames included
    std::vector<SequenceRange> lost;    // noted as lost in the manifest
};

struct GroupReport {
    std::uint32_t group = 0;
    bool found = false;       // it has a state log
    std::uint64_t epoch = 0;  // of the newest generation's writer
    std::uint64_t started_epoch = 0;
    std::uint64_t generation = 0;
    std::uint64_t state_blocks = 0;
    std::uint64_t journal_blocks = 0;  // of the started epoch
    std::uint64_t journal_frames = 0;
    ReplicaMask taking = 0;
};

struct SetReport {
    std::vector<GroupReport> groups;
    std::vector<ShardReport> shards;
    std::vector<Difference> differences;
    std::array<std::uint64_t, replica_count> verified_bytes{};  // of segments, intact
    std::uint64_t chunks = 0;
    std::uint64_t frames = 0;
    std::uint64_t records = 0;
    std::uint64_t pending_frames = 0;
    std::uint64_t tail_frames = 0;  // in segments behind the recorded ends

    [[nodiscard]] std::uint64_t count(DifferenceLevel level) const noexcept;
    [[nodiscard]] bool sound() const noexcept {
        return count(DifferenceLevel::damage) == 0 && count(DifferenceLevel::lost) == 0;
    }
};

// "replicas 0 and 2"
[[nodiscard]] std::string replica_names(ReplicaMask replicas);

}  // namespace penstock
