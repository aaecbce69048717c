// The frame: the unit of commit and replication, and the records in it.
//
// A frame is a 128-byte header and the records of one shard behind it. It is self-describing: found
// anywhere, it says whose it is, what it follows and how far its shard was committed when it was
// handed to the devices.
//
// Allocates: nothing. Pure functions over spans.
// Guarantees: I-6 (nothing unverified is decoded): records are only walked after check_frame().
// Format: docs/formats/frame.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/format/seal.h"
#include "storage/log/append.h"
#include "storage/log/read_plan.h"

namespace penstock {

enum class FrameKind : std::uint8_t {
    none = 0,            // illegal, so that zeroes never parse
    records = 1,         // records of one shard
    epoch_start = 2,     // reserved: cut and next sequence of a shard that is moved between groups
    close = 3,           // the shard ends here (split, merge)
    dedup_snapshot = 4,  // producers' windows, so that older frames need not be read for them
};

inline constexpr std::uint32_t frame_magic = 0x4d524650;  // "PFRM"
inline constexpr std::uint8_t frame_version = 1;
inline constexpr std::size_t frame_alignment = 8;
// Largest payload a reader accepts: the largest record, its key and headers, and room.
inline constexpr std::uint32_t frame_payload_max = 16U * 1024 * 1024 - 128;

struct FrameHeader {
    std::uint32_t magic = frame_magic;
    std::uint32_t header_crc = 0;  // CRC-32C of bytes 8..127
    std::uint8_t version = frame_version;
    FrameKind kind = FrameKind::records;
    std::uint8_t refuse_flags = 0;     // an unknown bit: this build must not use the frame
    std::uint8_t read_only_flags = 0;  // an unknown bit: readable, but do not append after it
    std::uint32_t payload_crc = 0;     // CRC-32C of the payload
    std::uint32_t payload_bytes = 0;
    std::uint32_t record_count = 0;
    std::uint64_t shard = 0;
    std::uint64_t epoch = 0;
    std::uint64_t first_sequence = 0;
    std::uint64_t previous_epoch = 0;     // of the frame this one follows in its shard,
    std::uint64_t previous_sequence = 0;  // its last sequence,
    std::uint64_t committed_through = 0;  // shard's commit point when this frame was handed out
    std::int64_t first_arrival_ms = 0;
    std::int64_t last_arrival_ms = 0;
    std::uint32_t previous_crc = 0;  // and its header CRC; 0 for a shard's first frame
    std::uint32_t group = 0;
    std::uint32_t key_id = 0;    // 0: payloads are not encrypted as a whole, records may be sealed
    std::uint32_t reserved = 0;  // 0
    std::uint8_t tag[16] = {};   // 0, of the same
    std::uint64_t set_id = 0;

    [[nodiscard]] std::uint64_t last_sequence() const noexcept {
        return first_sequence + (record_count == 0 ? 0 : record_count - 1);
    }
    [[nodiscard]] std::uint64_t total_bytes() const noexcept {
        return align_up(sizeof(FrameHeader) + payload_bytes, frame_alignment);
    }
};
static_assert(sizeof(FrameHeader) == 128);
static_assert(offsetof(FrameHeader, payload_crc) == 12);
static_assert(offsetof(FrameHeader, shard) == 24);
static_assert(offsetof(FrameHeader, first_sequence) == 40);
static_assert(offsetof(FrameHeader, committed_through) == 64);
static_assert(offsetof(FrameHeader, previous_crc) == 88);
static_assert(offsetof(FrameHeader, tag) == 104);
static_assert(std::has_unique_object_representations_v<FrameHeader>);

// Why a frame was not accepted. `none` of the others means intact.
enum class FrameFault : std::uint8_t {
    none,
    not_a_frame,      // neither magic nor a header CRC that matches: never written, or else
    truncated,        // the bytes at hand end before the frame does
    header_damaged,   // one of the two, not both
    payload_damaged,  // the header is sound, the payload is not
    unknown_version,  // sound, but of a format this build does not know
    foreign,          // sound, but of another set
    malformed,        // checksums hold, contents contradict themselves: a bug wrote this
};
[[nodiscard]] const char* describe(FrameFault fault) noexcept;

// Computes the header's CRC and stores header into the first 128 bytes of `frame`.
void seal_header(FrameHeader& header, std::byte* frame) noexcept;

// Verifies the frame at the start of `bytes`. Fills `out` if the header is sound. `set_id` 0 takes
// any set.
[[nodiscard]] FrameFault check_frame(Bytes bytes, std::uint64_t set_id, FrameHeader& out) noexcept;
// The same for the header alone; the payload may not be there yet.
[[nodiscard]] FrameFault check_frame_header(Bytes bytes, std::uint64_t set_id,
                                            FrameHeader& out) noexcept;

// -- Records ------------------------------------------------------------------------------------

enum class RecordType : std::uint8_t { none = 0, data = 1 };

inline constexpr std::uint8_t record_has_hash = 1;
inline constexpr std::uint8_t record_has_producer = 2;
inline constexpr std::uint8_t record_is_sealed = 4;

struct RecordHeader {
    std::uint32_t length = 0;  // of the whole record, this header included
    RecordType type = RecordType::data;
    std::uint8_t flags = 0;
    std::uint16_t key_bytes = 0;
    std::uint32_t arrival_delta_ms = 0;  // after the frame's first_arrival_ms
    std::uint32_t data_bytes = 0;
};
static_assert(sizeof(RecordHeader) == 16);
static_assert(std::has_unique_object_representations_v<RecordHeader>);

// Bytes `record` takes in a frame.
[[nodiscard]] std::uint64_t record_bytes(const RecordIn& record) noexcept;
// Writes it at `to`, which has room for record_bytes(record). Returns the bytes written. A record
// with a sealer is sealed for `place`.
std::uint64_t encode_record(const RecordIn& record, std::uint32_t arrival_delta_ms, std::byte* to,
                            const RecordPlace& place = {}) noexcept;

// Walks the records of a frame that check_frame() accepted.
class RecordWalker {
public:
    RecordWalker(const FrameHeader& header, Bytes payload) noexcept;
    // False at the end, or on a malformed record (see malformed()).
    [[nodiscard]] bool next(RecordView& out) noexcept;
    [[nodiscard]] bool malformed() const noexcept { return malformed_; }

private:
    Bytes rest_;
    std::uint64_t sequence_;
    std::int64_t first_arrival_ms_;
    std::uint32_t left_;
    bool malformed_ = false;
};

// Whether the records of an accepted frame add up to what its header says.
[[nodiscard]] bool records_add_up(const FrameHeader& header, Bytes payload) noexcept;

}  // namespace penstock
