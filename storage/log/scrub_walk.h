// What one copy of a chunk holds from a place on: its frames one after another, verified, up to the
// first place where none follows; and where frames begin again behind such a place.
//
// Runs on: any thread. Pure functions over spans.
// Allocates: nothing.
// Guarantees: I-6: what is passed over was verified: checksums, set, group, shard and chain.
// Format: docs/formats/segment.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "storage/base/bytes.h"
#include "storage/format/frame.h"
#include "storage/segment/table.h"

namespace penstock {

// A place in a chunk, and what stands before it.
struct WalkPlace {
    std::uint64_t set_id = 0;
    std::uint64_t shard = 0;
    std::uint32_t group = 0;
    std::uint64_t offset = 0;         // in the chunk: a frame or padding is expected here
    std::uint64_t until = 0;          // the chunk's end, a multiple of block_bytes
    Sequence last = 0;                // last one before the place
    Sequence end_sequence = 0;        // last one before `until`
    std::span<const LostRange> lost;  // of the shard, known
};

enum class WalkEnd : std::uint8_t {
    chunk,    // the chunk's end, and it is the right one
    bytes,    // what follows is not within the bytes at hand: `need` of them would do
    bad,      // no frame that belongs there
    unknown,  // sound, but of a format this build does not know, or contradicting itself
};

struct FrameWalk {
    std::uint64_t offset = 0;  // behind the last thing that was verified, in the chunk
    Sequence last = 0;
    WalkEnd end = WalkEnd::bad;
    std::uint64_t need = 0;
};

// `bytes` begin at align_down(place.offset, block_bytes) of the chunk.
[[nodiscard]] FrameWalk walk_frames(const WalkPlace& place, Bytes bytes) noexcept;

// Where frames begin again.
struct FoundFrame {
    std::uint64_t offset = 0;  // in the chunk, a multiple of frame_alignment
    Sequence before = 0;       // the last one before it, as it says
    std::int64_t first_arrival_ms = 0;
};

// The first whole frame in `bytes` that can stand behind place.last, at `from` or later and before
// `limit`, all in the chunk. `bytes` begin at `bytes_at` of the chunk. A frame that ends behind
// them is not found.
[[nodiscard]] std::optional<FoundFrame> find_frame(const WalkPlace& place, Bytes bytes,
                                                   std::uint64_t bytes_at, std::uint64_t from,
                                                   std::uint64_t limit) noexcept;

// Whether the records from `from` up to and without `until` are all known to be lost.
[[nodiscard]] bool known_lost(std::span<const LostRange> lost, Sequence from,
                              Sequence until) noexcept;

}  // namespace penstock
