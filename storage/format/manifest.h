// Entries of a group's manifest: what its segments are made of and where its epochs began.
//
// Each entry is one type byte, seven zero bytes and a fixed struct of little-endian integers.
// Format: docs/formats/manifest.md.
#pragma once

#include <cstdint>
#include <type_traits>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"

namespace penstock {

enum class ManifestType : std::uint8_t {
    none = 0,
    epoch_begun = 1,     // first entry of every generation: who writes, which epoch's frames count
    shard = 2,           // a shard: added, or its whole state in a snapshot
    drop_shard = 3,      // gone; its id is never used again
    container = 4,       // a segment file exists, this many units
    take_chunk = 5,      // units of a container belong to a shard, before they are first written
    point = 6,           // a shard's frames up to here are durable in its segment
    trim = 7,            // chunks before this one are free, records before this one are gone
    replica_left = 8,    // chunks not yet sealed lack this replica's copy
    chunk_refilled = 9,  // the replica has its copy again
    lost_range = 10,     // no good copy is left
    next_sequence = 11,  // a shard's first sequence in the epoch that begins
    epoch_started = 12,  // every cut stands above: from now on only this epoch's frames count
    retention = 13,      // a shard's retention time
    seal_chunk = 14,     // nothing more is written to the chunk
    replica_blank = 15,  // the replica begins with nothing: it lacks every chunk
    close_shard = 16,    // takes no more records; everything appended is committed
    producer_run = 17,   // records of a producer that are known if they come again
};

struct EpochBegunEntry {
    static constexpr auto type = ManifestType::epoch_begun;
    std::uint64_t epoch = 0;          // of the writer of this generation
    std::uint64_t started_epoch = 0;  // the newest epoch with an epoch_started entry; 0: none
    std::int64_t wall_ms = 0;
    std::uint64_t taking = 0;      // replicas that take writes now
    std::uint64_t taken_part = 0;  // or did at any time in the epoch
};
struct ShardEntry {
    static constexpr auto type = ManifestType::shard;
    std::uint64_t uid = 0;
    std::uint64_t next_sequence = 1;
    std::uint64_t trim_sequence = 1;  // first record kept
    std::uint64_t end_sequence = 0;   // last record in segments,
    std::uint64_t end_epoch = 0;      // its frame's epoch
    std::int64_t last_arrival_ms = 0;
    std::uint64_t next_ordinal = 0;  // of the next chunk
    std::int64_t retention_ms = 0;
    std::uint32_t end_crc = 0;  // and header CRC
    std::uint32_t closed = 0;
};
struct DropShardEntry {
    static constexpr auto type = ManifestType::drop_shard;
    std::uint64_t uid = 0;
};
struct ContainerEntry {
    static constexpr auto type = ManifestType::container;
    std::uint32_t container = 0;
    std::uint32_t units = 0;
};
struct TakeChunkEntry {
    static constexpr auto type = ManifestType::take_chunk;
    std::uint64_t uid = 0;
    std::uint64_t ordinal = 0;  // counts up within the shard
    std::uint32_t container = 0;
    std::uint32_t unit = 0;
    std::uint32_t units = 0;
    std::uint32_t missing = 0;  // replicas without a whole copy
};
struct PointEntry {
    static constexpr auto type = ManifestType::point;
    std::uint64_t uid = 0;
    std::uint64_t ordinal = 0;
    std::uint64_t offset = 0;     // within the chunk: where the next frame goes
    std::uint64_t sequence = 0;   // last one before it
    std::uint64_t epoch = 0;      // of its frame
    std::int64_t arrival_ms = 0;  // of that record
    std::uint32_t crc = 0;        // of its frame's header
    std::uint32_t sealed = 0;     // 1: nothing more is written to the chunk
};
struct TrimEntry {
    static constexpr auto type = ManifestType::trim;
    std::uint64_t uid = 0;
    std::uint64_t trim_sequence = 0;
    std::uint64_t first_ordinal = 0;  // first chunk kept
};
struct ReplicaLeftEntry {
    static constexpr auto type = ManifestType::replica_left;
    std::uint64_t replica = 0;
};
struct ChunkRefilledEntry {
    static constexpr auto type = ManifestType::chunk_refilled;
    std::uint64_t uid = 0;
    std::uint64_t ordinal = 0;
    std::uint64_t replica = 0;
};
struct LostRangeEntry {
    static constexpr auto type = ManifestType::lost_range;
    std::uint64_t uid = 0;
    std::uint64_t from = 0;
    std::uint64_t until = 0;  // first sequence after it
};
struct NextSequenceEntry {
    static constexpr auto type = ManifestType::next_sequence;
    std::uint64_t uid = 0;
    std::uint64_t next_sequence = 0;
};
struct EpochStartedEntry {
    static constexpr auto type = ManifestType::epoch_started;
    std::uint64_t epoch = 0;
};
struct RetentionEntry {
    static constexpr auto type = ManifestType::retention;
    std::uint64_t uid = 0;
    std::int64_t retention_ms = 0;
};

struct SealChunkEntry {
    static constexpr auto type = ManifestType::seal_chunk;
    std::uint64_t uid = 0;
    std::uint64_t ordinal = 0;
};

struct ReplicaBlankEntry {
    static constexpr auto type = ManifestType::replica_blank;
    std::uint64_t replica = 0;
};

struct CloseShardEntry {
    static constexpr auto type = ManifestType::close_shard;
    std::uint64_t uid = 0;
    std::uint64_t end_sequence = 0;  // first one it will never have
};

inline constexpr std::uint32_t producer_run_offsets = 512;
struct ProducerRunEntry {
    static constexpr auto type = ManifestType::producer_run;
    std::uint64_t uid = 0;
    std::uint64_t producer = 0;
    std::uint64_t batch = 0;
    std::uint64_t floor = 0;  // batches up to this one are not known any more
    std::uint64_t first_sequence = 0;
    std::int64_t arrival_ms = 0;  // of each of the records
    std::uint32_t epoch = 0;
    std::uint32_t base = 0;                              // offset in the batch of bit 0
    std::uint64_t bits[producer_run_offsets / 64] = {};  // which offsets, in sequence
};

// Encodes an entry into a small buffer; view it with bytes().
template <typename Entry>
class EncodedEntry {
public:
    explicit EncodedEntry(const Entry& entry) noexcept {
        static_assert(std::has_unique_object_representations_v<Entry>);
        bytes_[0] = static_cast<std::byte>(Entry::type);
        store(bytes_ + 8, entry);
    }
    [[nodiscard]] Bytes bytes() const noexcept { return bytes_; }

private:
    std::byte bytes_[8 + sizeof(Entry)] = {};
};

[[nodiscard]] inline ManifestType manifest_type(Bytes entry) noexcept {
    return entry.size() < 8 ? ManifestType::none : static_cast<ManifestType>(entry[0]);
}

// False when the entry has another size than the format says.
template <typename Entry>
[[nodiscard]] bool decode(Bytes entry, Entry& out) noexcept {
    if (entry.size() != 8 + sizeof(Entry)) {
        return false;
    }
    out = load<Entry>(entry.data() + 8);
    return true;
}

}  // namespace penstock
