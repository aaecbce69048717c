#include "storage/replica/decide.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/storage/replica/sample.h"

namespace penstock {
namespace {

using Places = std::array<PlaceState, replica_count>;

constexpr std::size_t verdict_count = static_cast<std::size_t>(PlaceVerdict::count_);

unsigned matching_rows(const PlaceCounts& counts) {
    unsigned matching = 0;
    for (const OpenRow& row : open_table()) {
        matching += row.holds(counts) ? 1U : 0U;
    }
    return matching;
}

TEST(OpenTable, ExactlyOneRowAnswersEveryCombinationOfVerdictsAndFlags) {
    std::set<std::string> used;
    for (std::size_t code = 0; code < verdict_count * verdict_count * verdict_count * 16; ++code) {
        PlaceCounts counts;
        std::size_t rest = code;
        for (unsigned i = 0; i < replica_count; ++i) {
            ++counts.of[rest % verdict_count];
            rest /= verdict_count;
        }
        counts.existing = (rest & 1) != 0;
        counts.sets_conflict = (rest & 2) != 0;
        counts.geometry_conflict = (rest & 4) != 0;
        counts.read_only_feature = (rest & 8) != 0;
        ASSERT_EQ(matching_rows(counts), 1U) << "combination " << code;
        for (const OpenRow& row : open_table()) {
            if (row.holds(counts)) {
                used.insert(row.label);
            }
        }
    }
    EXPECT_EQ(used.size(), open_table().size()) << "a row that no combination reaches";
}

TEST(OpenTable, LabelsAreUnique) {
    std::set<std::string> labels;
    for (const OpenRow& row : open_table()) {
        EXPECT_TRUE(labels.insert(row.label).second) << row.label;
    }
}

// Everything a place can hold, for the sake of enumeration: states, indices, ids, epochs.
std::vector<PlaceState> all_places() {
    std::vector<PlaceState> all;
    for (unsigned kind = 0; kind < static_cast<unsigned>(PlaceKind::count_); ++kind) {
        if (static_cast<PlaceKind>(kind) != PlaceKind::readable) {
            all.push_back({.kind = static_cast<PlaceKind>(kind), .superblock = {}, .error = {}});
        }
    }
    for (const std::uint64_t set_id : {1U, 2U}) {
        for (unsigned index = 0; index < replica_count; ++index) {
            for (const ReplicaState state : {ReplicaState::filling, ReplicaState::voting}) {
                for (const std::uint64_t epoch : {0U, 4U}) {
                    for (const bool replaced : {false, true}) {
                        PlaceState place;
                        place.kind = PlaceKind::readable;
                        place.superblock = sample_superblock(index);
                        place.superblock.geometry.set_id = set_id;
                        place.superblock.state = state;
                        place.superblock.epoch_promised = Epoch{epoch};
                        if (replaced) {
                            // A newer roster in which this index has another id.
                            place.superblock.replica_id += 1;
                            place.superblock.roster[index] += 1;
                            place.superblock.roster_version = 5;
                        }
                        all.push_back(place);
                    }
                }
            }
        }
    }
    return all;
}

void expect_sound(const Places& places, bool existing) {
    const OpenDecision d = decide_open(places, existing);
    ASSERT_NE(d.row, nullptr);
    const unsigned votes = static_cast<unsigned>(std::popcount(d.voting));
    const bool any_data = std::ranges::any_of(places, [](const PlaceState& p) {
        return p.kind != PlaceKind::empty && p.kind != PlaceKind::missing &&
               !(p.kind == PlaceKind::readable && p.superblock.epoch_promised == Epoch{0});
    });
    switch (d.action) {
        case OpenAction::make_new:
            ASSERT_FALSE(existing);
            ASSERT_FALSE(any_data) << d.row->label;
            break;
        case OpenAction::open: {
            ASSERT_GE(votes, quorum_count);
            for (unsigned i = 0; i < replica_count; ++i) {
                if ((d.voting >> i & 1) == 0) {
                    continue;
                }
                const Superblock& s = places[i].superblock;
                ASSERT_EQ(places[i].kind, PlaceKind::readable);
                ASSERT_EQ(s.state, ReplicaState::voting);
                ASSERT_EQ(s.geometry.set_id, d.geometry.set_id);
                ASSERT_EQ(s.replica_index, i);
                ASSERT_EQ(s.replica_id, d.roster[i]);
                ASSERT_LE(s.epoch_promised, d.highest_promised);
            }
            break;
        }
        case OpenAction::open_read_only:
            ASSERT_GE(votes, 1U);
            break;
        case OpenAction::refuse:
            ASSERT_NE(d.error, Errc::ok);
            break;
    }
    ASSERT_FALSE(explain(d, places, {"a", "b", "c"}).empty() && d.action != OpenAction::open);
}

TEST(DecideOpen, EveryCombinationOfWhatThreePlacesHoldIsSound) {
    const std::vector<PlaceState> all = all_places();
    for (const PlaceState& a : all) {
        for (const PlaceState& b : all) {
            for (const PlaceState& c : all) {
                for (const bool existing : {false, true}) {
                    expect_sound({a, b, c}, existing);
                    if (testing::Test::HasFatalFailure()) {
                        return;
                    }
                }
            }
        }
    }
}

PlaceState of_kind(PlaceKind kind) {
    return {.kind = kind, .superblock = {}, .error = {}};
}
PlaceState member(unsigned index, const std::function<void(Superblock&)>& change = nullptr) {
    PlaceState place{
        .kind = PlaceKind::readable, .superblock = sample_superblock(index), .error = {}};
    if (change) {
        change(place.superblock);
    }
    return place;
}
const auto fills = [](Superblock& s) { s.state = ReplicaState::filling; };
const auto founds = [](Superblock& s) {
    s.state = ReplicaState::filling;
    s.epoch_promised = Epoch{0};
};
const auto never_opened = [](Superblock& s) { s.epoch_promised = Epoch{0}; };

struct Case {
    const char* what;
    Places places;
    bool existing;
    const char* row;
    ReplicaMask voting;
    ReplicaMask filling;
};

TEST(DecideOpen, NamedCases) {
    const PlaceState nothing = of_kind(PlaceKind::empty);
    const PlaceState gone = of_kind(PlaceKind::absent);
    const PlaceState held = of_kind(PlaceKind::locked);
    const Case cases[] = {
        {"first start", {nothing, nothing, nothing}, false, "new-set", 0, 0},
        {"first start, directories missing",
         {of_kind(PlaceKind::missing), nothing, of_kind(PlaceKind::missing)},
         false,
         "new-set",
         0,
         0},
        {"three failed mounts", {nothing, nothing, nothing}, true, "existing-all-empty", 0, 0},
        {"one cannot be opened, two empty", {gone, nothing, nothing}, false, "some-absent", 0, 0},
        {"all there", {member(0), member(1), member(2)}, false, "write-quorum", 0b111, 0},
        {"one removed", {member(0), gone, member(2)}, true, "write-quorum", 0b101, 0},
        {"one blank", {nothing, member(1), member(2)}, true, "write-quorum", 0b110, 0},
        {"one damaged",
         {member(0), member(1), of_kind(PlaceKind::damaged)},
         true,
         "write-quorum",
         0b011,
         0},
        {"one held elsewhere", {member(0), member(1), held}, true, "write-quorum", 0b011, 0},
        {"one being filled",
         {member(0), member(1, fills), member(2)},
         true,
         "write-quorum",
         0b101,
         0b010},
        {"one voting, one filling",
         {member(0), member(1, fills), gone},
         true,
         "one-voting",
         0b001,
         0b010},
        {"one voting", {gone, gone, member(2)}, true, "one-voting", 0b100, 0},
        {"one voting, two blank", {nothing, nothing, member(2)}, false, "one-voting", 0b100, 0},
        {"cloned over another place",
         {member(0), member(0), member(2)},
         true,
         "one-voting",
         0b100,
         0},
        {"cloned twice", {member(0), member(0), member(0)}, true, "copies", 0, 0},
        {"one foreign",
         {member(0), member(1), member(2, [](Superblock& s) { s.geometry.set_id = 9; })},
         true,
         "write-quorum",
         0b011,
         0},
        {"two sets, one each",
         {member(0), member(1, [](Superblock& s) { s.geometry.set_id = 9; }), nothing},
         true,
         "sets-conflict",
         0,
         0},
        {"only filling",
         {member(0, fills), member(1, fills), gone},
         true,
         "filling-only",
         0,
         0b011},
        {"two held by another node",
         {held, member(1), held},
         true,
         "one-voting-rest-held",
         0b010,
         0},
        {"one held, one gone", {held, gone, member(2)}, true, "one-voting-rest-held", 0b100, 0},
        {"one held beside two voting",
         {held, member(1), member(2)},
         true,
         "write-quorum",
         0b110,
         0},
        {"held beside one to be filled",
         {held, held, member(2, fills)},
         true,
         "filling-rest-held",
         0,
         0b100},
        {"a feature only for reading, others held",
         {member(0, [](Superblock& s) { s.read_only_features = 1; }), held, held},
         true,
         "newer-feature",
         0b001,
         0},
        {"all held by another node", {held, held, held}, true, "locked", 0, 0},
        {"another format",
         {of_kind(PlaceKind::unsupported), gone, gone},
         true,
         "newer-format",
         0,
         0},
        {"other people's files",
         {of_kind(PlaceKind::foreign_data), nothing, nothing},
         false,
         "foreign-data",
         0,
         0},
        {"damaged and blank",
         {of_kind(PlaceKind::damaged), nothing, nothing},
         false,
         "damaged",
         0,
         0},
        {"making interrupted",
         {member(0, founds), nothing, nothing},
         false,
         "unfinished-set",
         0,
         0},
        {"making interrupted in the second round",
         {member(0, never_opened), member(1, founds), member(2, founds)},
         false,
         "unfinished-set",
         0,
         0},
        {"made, never opened",
         {member(0, never_opened), member(1, never_opened), member(2, never_opened)},
         false,
         "unfinished-set",
         0,
         0},
        {"making interrupted, one gone",
         {member(0, founds), nothing, gone},
         false,
         "unfinished-set-incomplete",
         0,
         0},
        {"one that never promised beside two failed mounts",
         {member(0, never_opened), nothing, nothing},
         false,
         "one-voting",
         0b001,
         0},
        {"promise reached one of three",
         {member(0), member(1, never_opened), member(2, never_opened)},
         true,
         "write-quorum",
         0b111,
         0},
        {"sizes disagree",
         {member(0), member(1, [](Superblock& s) { s.geometry.data_groups = 3; }), gone},
         true,
         "sizes-conflict",
         0b011,
         0},
        {"a feature only for reading",
         {member(0), member(1, [](Superblock& s) { s.read_only_features = 1; }), member(2)},
         true,
         "newer-feature",
         0b111,
         0},
        {"swapped", {member(1), member(0), member(2)}, true, "one-voting", 0b100, 0},
    };
    for (const Case& c : cases) {
        const OpenDecision d = decide_open(c.places, c.existing);
        EXPECT_STREQ(d.row->label, c.row) << c.what;
        EXPECT_EQ(d.voting, c.voting) << c.what;
        EXPECT_EQ(d.filling, c.filling) << c.what;
    }
}

TEST(DecideOpen, AReplacedReplicaDoesNotVoteBesideANewerRoster) {
    const PlaceState newer = member(2, [](Superblock& s) {
        s.roster[0] = 0x77;
        s.roster_version = 2;
    });
    const OpenDecision d = decide_open({member(0), of_kind(PlaceKind::absent), newer}, true);
    EXPECT_EQ(d.verdicts[0], PlaceVerdict::superseded);
    EXPECT_STREQ(d.row->label, "one-voting");
}

TEST(DecideOpen, TheMessageNamesCopiedDirectoriesAndHowToMendAnEmptyOne) {
    const std::array<std::string, replica_count> names{"/d/a", "/d/b", "/d/c"};
    const Places cloned{member(0), member(0), member(2)};
    const std::string text = explain(decide_open(cloned, true), cloned, names);
    EXPECT_NE(text.find("/d/a"), std::string::npos) << text;
    EXPECT_NE(text.find("/d/b"), std::string::npos) << text;
    EXPECT_EQ(text.find("/d/c"), std::string::npos) << text;
    const Places blank{member(0), of_kind(PlaceKind::empty), member(2)};
    const std::string mend = explain(decide_open(blank, true), blank, names);
    EXPECT_NE(mend.find("penstock replica replace /d/b"), std::string::npos) << mend;
}

}  // namespace
}  // namespace penstock
