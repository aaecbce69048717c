// Whether a set may be opened, made or must be refused, from what its three places hold.
//
// Pure and free of I/O, so that a test enumerates it. LOG-PROTOCOL 1, 2 and 4 as one table.
//
// Runs on: any thread.
// Guarantees: exactly one row of the table answers every combination; doubt never makes a new set.
// Format: docs/operations/replicas.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/replica/superblock.h"

namespace penstock {

// What was found at one of the three places.
enum class PlaceKind : std::uint8_t {
    absent = 0,        // cannot be opened or read
    missing = 1,       // no such directory, but it could be made
    locked = 2,        // another process holds it
    empty = 3,         // an empty directory, or one whose first superblock write did not finish
    foreign_data = 4,  // files, and no superblock
    readable = 5,      // a superblock
    damaged = 6,       // a superblock of which neither slot is intact
    unsupported = 7,   // a superblock of a newer format
    count_
};
[[nodiscard]] const char* describe(PlaceKind kind) noexcept;

struct PlaceState {
    PlaceKind kind = PlaceKind::absent;
    Superblock superblock;  // if readable
    Error error;            // why, for absent, locked, damaged and unsupported
};

// What a place counts for, once the set is known.
enum class PlaceVerdict : std::uint8_t {
    absent = 0,
    locked = 1,
    empty = 2,  // also missing
    foreign_data = 3,
    damaged = 4,
    unsupported = 5,
    voting = 6,
    filling = 7,
    founding = 8,     // of a set whose making was interrupted; nothing was ever stored in it
    other_set = 9,    // of another set than the one that has the majority
    doubled = 10,     // the same replica stands in two places: a copied directory
    superseded = 11,  // was replaced; its successor may vote, it may not
    misplaced = 12,   // its index is not that of its place
    count_
};
[[nodiscard]] const char* describe(PlaceVerdict verdict) noexcept;

enum class OpenAction : std::uint8_t { refuse, make_new, open, open_read_only };

// Counts of verdicts that the rows look at.
struct PlaceCounts {
    std::array<unsigned, static_cast<std::size_t>(PlaceVerdict::count_)> of{};
    bool existing = false;           // the operator says that there is a set
    bool sets_conflict = false;      // superblocks of several sets, none has two
    bool geometry_conflict = false;  // voting members of one set that disagree about its sizes
    bool read_only_feature = false;  // a voting member asks to be left unchanged
    [[nodiscard]] unsigned count(PlaceVerdict verdict) const noexcept {
        return of[static_cast<std::size_t>(verdict)];
    }
};

// A row of the decision table. Exactly one row's condition holds for any counts.
struct OpenRow {
    const char* label;
    bool (*holds)(const PlaceCounts& counts) noexcept;
    OpenAction action;
    Errc error;           // of a refusal, or why it is opened for reading only
    const char* message;  // what a person is told, without the places
};
[[nodiscard]] std::span<const OpenRow> open_table() noexcept;

struct OpenDecision {
    OpenAction action = OpenAction::refuse;
    Errc error = Errc::ok;
    const OpenRow* row = nullptr;
    std::array<PlaceVerdict, replica_count> verdicts{};
    ReplicaMask voting = 0;
    ReplicaMask filling = 0;
    SetGeometry geometry;                               // of the set, if one was found
    Epoch highest_promised{};                           // among all superblocks of the set
    std::array<std::uint64_t, replica_count> roster{};  // the newest
    std::uint64_t roster_version = 0;
};

[[nodiscard]] OpenDecision decide_open(const std::array<PlaceState, replica_count>& places,
                                       bool existing_flag) noexcept;

// The decision for people: the row's sentence, then each place that is not plainly in the set.
[[nodiscard]] std::string explain(const OpenDecision& decision,
                                  const std::array<PlaceState, replica_count>& places,
                                  const std::array<std::string, replica_count>& directories);

}  // namespace penstock
