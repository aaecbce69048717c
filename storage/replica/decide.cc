#include "storage/replica/decide.h"

#include <algorithm>

#include "storage/base/check.h"

namespace penstock {
namespace {

using enum PlaceVerdict;

[[nodiscard]] unsigned voting_of(const PlaceCounts& c) noexcept {
    return c.count(voting);
}
[[nodiscard]] unsigned filling_of(const PlaceCounts& c) noexcept {
    return c.count(filling);
}
[[nodiscard]] unsigned founding_of(const PlaceCounts& c) noexcept {
    return c.count(founding);
}
[[nodiscard]] unsigned empty_of(const PlaceCounts& c) noexcept {
    return c.count(empty);
}

// The conditions narrow from row to row; each `after_` is what all rows above leave over.
[[nodiscard]] bool after_conflicts(const PlaceCounts& c) noexcept {
    return !c.sets_conflict && !c.geometry_conflict;
}
[[nodiscard]] bool after_making(const PlaceCounts& c) noexcept {
    return after_conflicts(c) && empty_of(c) < replica_count && founding_of(c) == 0;
}
[[nodiscard]] bool after_voting(const PlaceCounts& c) noexcept {
    return after_making(c) && voting_of(c) == 0;
}
[[nodiscard]] bool after_copies(const PlaceCounts& c) noexcept {
    return after_voting(c) && c.count(doubled) == 0;
}
[[nodiscard]] bool after_filling(const PlaceCounts& c) noexcept {
    return after_copies(c) && filling_of(c) == 0;
}
[[nodiscard]] bool after_unsupported(const PlaceCounts& c) noexcept {
    return after_filling(c) && c.count(unsupported) == 0;
}
[[nodiscard]] bool after_locked(const PlaceCounts& c) noexcept {
    return after_unsupported(c) && c.count(locked) == 0;
}
[[nodiscard]] bool after_damaged(const PlaceCounts& c) noexcept {
    return after_locked(c) && c.count(damaged) == 0;
}
[[nodiscard]] bool has_stranger(const PlaceCounts& c) noexcept {
    return c.count(superseded) + c.count(misplaced) + c.count(other_set) > 0;
}
[[nodiscard]] bool after_strangers(const PlaceCounts& c) noexcept {
    return after_damaged(c) && !has_stranger(c);
}

constexpr OpenRow rows[] = {
    {"sets-conflict", [](const PlaceCounts& c) noexcept { return c.sets_conflict; },
     OpenAction::refuse, Errc::foreign,
     "the directories belong to different replica sets and no set has two of them: give the three "
     "directories of one set"},
    {"sizes-conflict",
     [](const PlaceCounts& c) noexcept { return !c.sets_conflict && c.geometry_conflict; },
     OpenAction::refuse, Errc::corrupt,
     "the superblocks of one set disagree about its sizes: take away the directory that is wrong"},
    {"new-set",
     [](const PlaceCounts& c) noexcept {
         return after_conflicts(c) && empty_of(c) == replica_count && !c.existing;
     },
     OpenAction::make_new, Errc::ok, "all three directories are empty: a new replica set is made"},
    {"existing-all-empty",
     [](const PlaceCounts& c) noexcept {
         return after_conflicts(c) && empty_of(c) == replica_count && c.existing;
     },
     OpenAction::refuse, Errc::not_found,
     "expected an existing replica set (--existing), found three empty directories: mount the "
     "drives, or leave out --existing to make a new set"},
    {"unfinished-set",
     [](const PlaceCounts& c) noexcept {
         return after_conflicts(c) && founding_of(c) > 0 &&
                founding_of(c) + empty_of(c) == replica_count && !c.existing;
     },
     OpenAction::make_new, Errc::ok,
     "the making of this replica set was interrupted before anything was stored: it is finished "
     "now"},
    {"unfinished-set-existing",
     [](const PlaceCounts& c) noexcept {
         return after_conflicts(c) && founding_of(c) > 0 &&
                founding_of(c) + empty_of(c) == replica_count && c.existing;
     },
     OpenAction::refuse, Errc::not_found,
     "expected an existing replica set (--existing), found one whose making was interrupted before "
     "anything was stored: leave out --existing to finish it"},
    {"unfinished-set-incomplete",
     [](const PlaceCounts& c) noexcept {
         return after_conflicts(c) && founding_of(c) > 0 &&
                founding_of(c) + empty_of(c) < replica_count;
     },
     OpenAction::refuse, Errc::not_enough_replicas,
     "the making of this replica set was interrupted before anything was stored, and finishing it "
     "needs all three directories: make them available, or empty them to make another set"},
    {"newer-feature",
     [](const PlaceCounts& c) noexcept {
         return after_making(c) && voting_of(c) > 0 && c.read_only_feature;
     },
     OpenAction::open_read_only, Errc::unsupported,
     "the set uses a feature that this version cannot write: it is opened for reading only"},
    {"write-quorum",
     [](const PlaceCounts& c) noexcept {
         return after_making(c) && voting_of(c) >= quorum_count && !c.read_only_feature;
     },
     OpenAction::open, Errc::ok, "two or more voting replicas: opened for reading and writing"},
    {"one-voting-rest-held",
     [](const PlaceCounts& c) noexcept {
         return after_making(c) && voting_of(c) == 1 && !c.read_only_feature && c.count(locked) > 0;
     },
     OpenAction::open_read_only, Errc::locked,
     "only one voting replica is there that no other process holds, and writing needs two: stop "
     "that process, or open the set for reading only"},
    {"one-voting",
     [](const PlaceCounts& c) noexcept {
         return after_making(c) && voting_of(c) == 1 && !c.read_only_feature &&
                c.count(locked) == 0;
     },
     OpenAction::open_read_only, Errc::not_enough_replicas,
     "only one voting replica is there and writing needs two: make another one available, or open "
     "the set for reading only"},
    {"copies",
     [](const PlaceCounts& c) noexcept { return after_voting(c) && c.count(doubled) > 0; },
     OpenAction::refuse, Errc::foreign,
     "one replica stands in two directories, so one of them is a copy: take away the copy"},
    {"filling-rest-held",
     [](const PlaceCounts& c) noexcept {
         return after_copies(c) && filling_of(c) > 0 && c.count(locked) > 0;
     },
     OpenAction::refuse, Errc::locked,
     "only replicas that were still being filled are there that no other process holds: stop that "
     "process, or give other directories"},
    {"filling-only",
     [](const PlaceCounts& c) noexcept {
         return after_copies(c) && filling_of(c) > 0 && c.count(locked) == 0;
     },
     OpenAction::refuse, Errc::not_enough_replicas,
     "only replicas that were still being filled are there: make a voting one available"},
    {"newer-format",
     [](const PlaceCounts& c) noexcept { return after_filling(c) && c.count(unsupported) > 0; },
     OpenAction::refuse, Errc::unsupported,
     "the set was written by a newer version: run that version"},
    {"locked",
     [](const PlaceCounts& c) noexcept { return after_unsupported(c) && c.count(locked) > 0; },
     OpenAction::refuse, Errc::locked,
     "another process holds the directories: stop it, or give other directories"},
    {"damaged",
     [](const PlaceCounts& c) noexcept { return after_locked(c) && c.count(damaged) > 0; },
     OpenAction::refuse, Errc::corrupt,
     "no superblock is intact: restore one replica's directory, nothing was changed"},
    {"strangers", [](const PlaceCounts& c) noexcept { return after_damaged(c) && has_stranger(c); },
     OpenAction::refuse, Errc::foreign,
     "none of the superblocks may vote in its place: give the set's directories in their order"},
    {"foreign-data",
     [](const PlaceCounts& c) noexcept { return after_strangers(c) && c.count(foreign_data) > 0; },
     OpenAction::refuse, Errc::not_empty,
     "expected empty directories or those of a replica set, found other files: give empty "
     "directories"},
    {"some-absent",
     [](const PlaceCounts& c) noexcept { return after_strangers(c) && c.count(foreign_data) == 0; },
     OpenAction::refuse, Errc::not_found,
     "no replica is there, and a new set is made only when all three directories can be opened and "
     "are empty"},
};

// The set that has two of the readable places, or the only one there is; 0 if none.
[[nodiscard]] std::uint64_t choose_set(const std::array<PlaceState, replica_count>& places,
                                       bool& conflict) noexcept {
    std::uint64_t only = 0;
    unsigned readable = 0;
    for (unsigned i = 0; i < replica_count; ++i) {
        if (places[i].kind != PlaceKind::readable) {
            continue;
        }
        ++readable;
        const std::uint64_t id = places[i].superblock.geometry.set_id;
        only = id;
        for (unsigned j = 0; j < i; ++j) {
            if (places[j].kind == PlaceKind::readable &&
                places[j].superblock.geometry.set_id == id) {
                return id;
            }
        }
    }
    conflict = readable > 1;
    return conflict ? 0 : only;
}

[[nodiscard]] PlaceVerdict verdict_of_kind(PlaceKind kind) noexcept {
    switch (kind) {
        case PlaceKind::absent:
            return absent;
        case PlaceKind::missing:
        case PlaceKind::empty:
            return empty;
        case PlaceKind::locked:
            return locked;
        case PlaceKind::foreign_data:
            return foreign_data;
        case PlaceKind::damaged:
            return damaged;
        case PlaceKind::unsupported:
            return unsupported;
        case PlaceKind::readable:
        case PlaceKind::count_:
            break;
    }
    return other_set;
}

[[nodiscard]] bool in_set(const PlaceState& place, std::uint64_t set_id) noexcept {
    return place.kind == PlaceKind::readable && place.superblock.geometry.set_id == set_id;
}

[[nodiscard]] bool is_doubled(const std::array<PlaceState, replica_count>& places, unsigned place,
                              std::uint64_t set_id) noexcept {
    for (unsigned i = 0; i < replica_count; ++i) {
        if (i != place && in_set(places[i], set_id) &&
            places[i].superblock.replica_id == places[place].superblock.replica_id) {
            return true;
        }
    }
    return false;
}

struct SetFacts {
    std::uint64_t set_id = 0;
    Epoch highest{};
    bool unfinished = false;
    std::array<std::uint64_t, replica_count> roster{};
    std::uint64_t roster_version = 0;
};

[[nodiscard]] SetFacts learn(const std::array<PlaceState, replica_count>& places,
                             std::uint64_t set_id) noexcept {
    SetFacts facts{.set_id = set_id, .highest = {}, .roster = {}};
    unsigned never_opened = 0;
    for (const PlaceState& place : places) {
        if (!in_set(place, set_id)) {
            continue;
        }
        const Superblock& s = place.superblock;
        facts.highest = std::max(facts.highest, s.epoch_promised);
        never_opened += s.epoch_promised == Epoch{0} ? 1U : 0U;
        facts.unfinished |= s.state == ReplicaState::filling && s.epoch_promised == Epoch{0};
        if (s.roster_version > facts.roster_version) {
            facts.roster_version = s.roster_version;
            facts.roster = s.roster;
        }
    }
    // The first opening needs all three voting and promises on two, so nothing was ever stored if
    // one is not voting yet or two have promised nothing. One voting replica without a promise
    // proves nothing: the other two may have gone on without it. And a set that was opened once was
    // finished before; a place that knows nothing of it is an old copy, to be filled.
    facts.unfinished =
        (facts.unfinished || never_opened >= quorum_count) && facts.highest == Epoch{0};
    return facts;
}

[[nodiscard]] PlaceVerdict judge(const std::array<PlaceState, replica_count>& places,
                                 unsigned place, const SetFacts& facts) noexcept {
    if (!in_set(places[place], facts.set_id)) {
        return verdict_of_kind(places[place].kind);
    }
    const Superblock& s = places[place].superblock;
    if (is_doubled(places, place, facts.set_id)) {
        return doubled;
    }
    const bool named = facts.roster[s.replica_index] == s.replica_id;
    if (s.state == ReplicaState::voting && !named) {
        return superseded;
    }
    if (s.replica_index != place) {
        return misplaced;
    }
    if (s.must_be_read_only() && (s.state == ReplicaState::filling || facts.unfinished)) {
        return unsupported;
    }
    if (facts.unfinished) {
        return named ? founding : superseded;
    }
    return s.state == ReplicaState::voting ? voting : filling;
}

}  // namespace

const char* describe(PlaceKind kind) noexcept {
    switch (kind) {
        case PlaceKind::absent:
            return "cannot be opened";
        case PlaceKind::missing:
            return "missing";
        case PlaceKind::locked:
            return "locked by another process";
        case PlaceKind::empty:
            return "empty";
        case PlaceKind::foreign_data:
            return "not a replica";
        case PlaceKind::readable:
            return "replica";
        case PlaceKind::damaged:
            return "damaged superblock";
        case PlaceKind::unsupported:
            return "newer format";
        case PlaceKind::count_:
            break;
    }
    return "unknown";
}

const char* describe(PlaceVerdict verdict) noexcept {
    switch (verdict) {
        case absent:
            return "cannot be opened";
        case locked:
            return "is held by another process";
        case empty:
            return "is empty or missing";
        case foreign_data:
            return "holds files but no superblock";
        case damaged:
            return "has a damaged superblock";
        case unsupported:
            return "was written by a newer version";
        case voting:
            return "votes";
        case filling:
            return "is being filled";
        case founding:
            return "is of a set whose making was interrupted";
        case other_set:
            return "belongs to another replica set";
        case doubled:
            return "holds the same replica as another directory: one of them is a copy";
        case superseded:
            return "holds a replica that was replaced";
        case misplaced:
            return "holds a replica with another index than its place";
        case PlaceVerdict::count_:
            break;
    }
    return "unknown";
}

std::span<const OpenRow> open_table() noexcept {
    return rows;
}

OpenDecision decide_open(const std::array<PlaceState, replica_count>& places,
                         bool existing_flag) noexcept {
    OpenDecision decision;
    PlaceCounts counts;
    counts.existing = existing_flag;
    const std::uint64_t set_id = choose_set(places, counts.sets_conflict);
    const SetFacts facts = learn(places, set_id);
    decision.highest_promised = facts.highest;
    decision.roster = facts.roster;
    decision.roster_version = facts.roster_version;
    for (unsigned i = 0; i < replica_count; ++i) {
        const PlaceVerdict verdict = judge(places, i, facts);
        decision.verdicts[i] = verdict;
        ++counts.of[static_cast<std::size_t>(verdict)];
        const auto bit = static_cast<ReplicaMask>(1U << i);
        if (verdict != voting && verdict != filling && verdict != founding) {
            continue;
        }
        decision.voting |= verdict == voting ? bit : ReplicaMask{0};
        decision.filling |= verdict == filling ? bit : ReplicaMask{0};
        const Superblock& s = places[i].superblock;
        counts.read_only_feature |= verdict == voting && s.must_be_read_only();
        counts.geometry_conflict |=
            decision.geometry.set_id != 0 && decision.geometry != s.geometry;
        decision.geometry = s.geometry;
    }
    for (const OpenRow& row : rows) {
        if (row.holds(counts)) {
            decision.row = &row;
            break;
        }
    }
    PENSTOCK_CHECK(decision.row != nullptr);
    decision.action = decision.row->action;
    decision.error = decision.row->error;
    return decision;
}

namespace {

[[nodiscard]] std::string explain_place(const OpenDecision& decision, const PlaceState& place,
                                        unsigned index, const std::string& directory) {
    const PlaceVerdict verdict = decision.verdicts[index];
    std::string line = "replica " + std::to_string(index) + " (" + directory + ") ";
    line += describe(verdict);
    if (place.kind == PlaceKind::damaged || place.kind == PlaceKind::unsupported) {
        line += std::string(": ") + describe(reason_of(place.error));
    } else if (place.kind == PlaceKind::absent && place.error.code != Errc::ok) {
        line += ": " + describe(place.error);
    }
    if (verdict == misplaced) {
        line += ": it is replica " + std::to_string(place.superblock.replica_index);
    }
    // A directory that is empty may be a failed mount, so it is never taken without being told.
    const bool open = decision.action == OpenAction::open;
    if (open && (verdict == empty || verdict == foreign_data || verdict == damaged ||
                 verdict == superseded || verdict == other_set)) {
        line += verdict == empty
                    ? "; it is left alone: mount its drive, or `penstock replica replace "
                    : "; it is left alone: move its contents away, then `penstock "
                      "replica replace ";
        line += directory + "` makes it a new replica";
    }
    return line;
}

}  // namespace

std::string explain(const OpenDecision& decision,
                    const std::array<PlaceState, replica_count>& places,
                    const std::array<std::string, replica_count>& directories) {
    std::string text;
    if (decision.action != OpenAction::open) {
        text = decision.row->message;
    }
    for (unsigned i = 0; i < replica_count; ++i) {
        const PlaceVerdict verdict = decision.verdicts[i];
        if (verdict == voting || decision.action == OpenAction::make_new) {
            continue;
        }
        if (!text.empty()) {
            text += "\n";
        }
        text += explain_place(decision, places[i], i, directories[i]);
    }
    return text;
}

}  // namespace penstock
