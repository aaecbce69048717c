// The superblock: who a replica directory is, whether it votes, and the epoch it has promised.
//
// Runs on: any thread; pure functions.
// Allocates: nothing.
// Guarantees: I-2 a superblock that decodes is byte for byte what an encoder of this version wrote;
// a torn or lost write of one slot leaves the other slot's older generation readable.
// Format: docs/formats/superblock.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/replica/geometry.h"

namespace penstock {

inline constexpr std::string_view superblock_name = "superblock";
inline constexpr std::size_t superblock_slot_bytes = 4096;
inline constexpr std::size_t superblock_file_bytes = 2 * superblock_slot_bytes;
inline constexpr std::uint32_t superblock_version = 1;

// Feature bits this build knows. None exist yet.
inline constexpr std::uint64_t known_refuse_features = 0;
inline constexpr std::uint64_t known_read_only_features = 0;

enum class ReplicaState : std::uint8_t {
    blank = 0,    // never on disk
    filling = 1,  // being copied to, or of a set whose making has not finished; never votes
    voting = 2,
};
[[nodiscard]] const char* describe(ReplicaState state) noexcept;

// What a superblock says.
struct Superblock {
    SetGeometry geometry;            // with the set id
    std::uint64_t replica_id = 0;    // random, never 0; two directories with one are copies
    std::uint8_t replica_index = 0;  // 0..2
    ReplicaState state = ReplicaState::blank;
    Epoch epoch_promised{};        // 0: the set was never opened
    std::uint64_t generation = 0;  // of this superblock; ≥ 1
    std::int64_t created_ms = 0;   // of this replica, wall clock
    // The replica ids that may vote, by index, and the version of that list. A replica that was
    // replaced and comes back is in no newer list, so it cannot vote beside its successor's peers.
    std::array<std::uint64_t, replica_count> roster{};
    std::uint64_t roster_version = 0;
    std::uint64_t refuse_features = 0;
    std::uint64_t read_only_features = 0;

    friend bool operator==(const Superblock&, const Superblock&) = default;
    [[nodiscard]] bool must_be_read_only() const noexcept {
        return (read_only_features & ~known_read_only_features) != 0;
    }
};

// Why a slot was not accepted. Numbers appear in `detail` of the error.
enum class SuperblockReason : std::uint8_t {
    ok = 0,
    unwritten = 1,  // all zeroes, or the file ends before the slot
    bad_magic = 2,
    bad_checksum = 3,
    unknown_version = 4,
    unknown_feature = 5,  // a bit of the refuse word
    bad_set_id = 6,       // zero
    bad_replica_id = 7,   // zero, or not possible beside the roster
    bad_replica_index = 8,
    bad_state = 9,
    bad_generation = 10,  // zero, or of the other slot
    bad_geometry = 11,
    bad_reserved = 12,  // bytes that must be zero are not
    bad_roster = 13,
    count_
};
[[nodiscard]] const char* describe(SuperblockReason reason) noexcept;

using SuperblockSlot = std::array<std::byte, superblock_slot_bytes>;

// The slot's 4096 bytes. The caller keeps its fields within bounds (see valid_geometry).
void encode_superblock(const Superblock& superblock, SuperblockSlot& out) noexcept;

// Errors, with detail = SuperblockReason: corrupt, unsupported (unknown version or refuse feature),
// not_found (unwritten).
[[nodiscard]] Result<Superblock> decode_superblock(Bytes slot) noexcept;

// The slot a generation is written to.
[[nodiscard]] constexpr unsigned superblock_slot_of(std::uint64_t generation) noexcept {
    return static_cast<unsigned>(generation & 1);
}

// The newest valid of both slots of a file's bytes, which may be short. Errors as
// decode_superblock; with several reasons: unsupported before corrupt before not_found, but one
// slot damaged beside one never written is an unfinished first write, hence not_found
// (docs/formats/superblock.md).
[[nodiscard]] Result<Superblock> choose_superblock(Bytes file) noexcept;

// Whether the sizes can be worked with: bounds in docs/formats/superblock.md.
[[nodiscard]] bool valid_geometry(const SetGeometry& geometry) noexcept;

[[nodiscard]] inline SuperblockReason reason_of(const Error& error) noexcept {
    return error.detail < static_cast<std::uint32_t>(SuperblockReason::count_)
               ? static_cast<SuperblockReason>(error.detail)
               : SuperblockReason::ok;
}

}  // namespace penstock
