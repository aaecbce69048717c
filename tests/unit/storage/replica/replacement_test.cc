#include <gtest/gtest.h>

#include "tests/unit/storage/replica/directories.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

class Replacement : public ReplicaDirectories {
protected:
    [[nodiscard]] Status replace(unsigned index, const std::string& target) {
        message_.clear();
        return prepare_replacement(paths_, index, target, message_);
    }
};

TEST_F(Replacement, AnEmptyDirectoryBecomesAReplicaToBeFilledWhileTheNodeRuns) {
    make();
    blank(1);
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    ASSERT_TRUE(replace(1, paths_[1]).has_value()) << message_;
    const PlaceState place = inspect_place(paths_[1]);
    ASSERT_EQ(place.kind, PlaceKind::readable);
    EXPECT_EQ(place.superblock.state, ReplicaState::filling);
    EXPECT_EQ(place.superblock.replica_index, 1);
    ASSERT_EQ((*set)->look_for_return(1).kind, ReturnKind::filling);
    EXPECT_EQ((*set)->filling(), 0b010);
    EXPECT_EQ((*set)->voting(), 0b101);
    ASSERT_TRUE((*set)->mark_voting(1).has_value());
    EXPECT_EQ((*set)->check(), 0);
    set->reset();
    auto again = open();
    ASSERT_TRUE(again.has_value()) << message_;
    EXPECT_EQ((*again)->voting(), all_replicas);
}

TEST_F(Replacement, AMissingDirectoryIsMadeAndAnUnfinishedFillIsOpenedAsFilling) {
    make();
    fs::remove_all(paths_[2]);
    ASSERT_TRUE(replace(2, paths_[2]).has_value()) << message_;
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->filling(), 0b100);
    EXPECT_EQ((*set)->voting(), 0b011);
}

TEST_F(Replacement, TheReplicaThatWasReplacedNeverVotesAgain) {
    make();
    fs::rename(paths_[0], base_ + "/old");
    {
        auto set = open();
        ASSERT_TRUE(set.has_value());
        ASSERT_TRUE(replace(0, paths_[0]).has_value()) << message_;
        ASSERT_EQ((*set)->look_for_return(0).kind, ReturnKind::filling);
        ASSERT_TRUE((*set)->mark_voting(0).has_value());
        // Not while the node runs,
        (*set)->drop(0);
        fs::rename(paths_[0], base_ + "/new");
        fs::rename(base_ + "/old", paths_[0]);
        const ReturnOffer offer = (*set)->look_for_return(0);
        EXPECT_EQ(offer.kind, ReturnKind::none);
        EXPECT_NE(offer.reason.find("replaced"), std::string::npos) << offer.reason;
    }
    // nor beside either of the others alone.
    for (const unsigned away : {1U, 2U}) {
        fs::rename(paths_[away], base_ + "/away");
        const auto set = open();
        ASSERT_FALSE(set.has_value());
        EXPECT_EQ(set.error().code, Errc::not_enough_replicas);
        EXPECT_NE(message_.find("replaced"), std::string::npos) << message_;
        fs::rename(base_ + "/away", paths_[away]);
    }
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->voting(), 0b110);
}

TEST_F(Replacement, ANewReplicaVotesOnlyAfterTwoOthersKnowIt) {
    make();
    blank(1);
    auto set = open();
    ASSERT_TRUE(set.has_value());
    ASSERT_TRUE(replace(1, paths_[1]).has_value()) << message_;
    ASSERT_EQ((*set)->look_for_return(1).kind, ReturnKind::filling);
    (*set)->drop(2);
    EXPECT_EQ((*set)->mark_voting(1).error().code, Errc::not_enough_replicas);
    EXPECT_EQ(inspect_place(paths_[1]).superblock.state, ReplicaState::filling);
    ASSERT_EQ((*set)->look_for_return(2).kind, ReturnKind::returning);
    ASSERT_TRUE((*set)->mark_voting(1).has_value());
    EXPECT_EQ((*set)->voting(), all_replicas);
    EXPECT_EQ((*set)->check(), 0);
}

TEST_F(Replacement, ADirectoryThatIsNotEmptyIsRefusedAndUntouched) {
    make();
    blank(1);
    std::ofstream(paths_[1] + "/photo.jpg") << "x";
    const Status status = replace(1, paths_[1]);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::not_empty);
    EXPECT_NE(message_.find("photo.jpg"), std::string::npos) << message_;
    EXPECT_FALSE(fs::exists(paths_[1] + "/superblock"));
}

TEST_F(Replacement, ALivingReplicaIsNotReplaced) {
    make();
    const Status status = replace(1, base_ + "/other");
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::already_exists) << message_;
    EXPECT_FALSE(fs::exists(base_ + "/other"));
    const Status alive = replace(1, paths_[1]);
    ASSERT_FALSE(alive.has_value());
    EXPECT_EQ(alive.error().code, Errc::already_exists) << message_;
}

TEST_F(Replacement, WithoutAnySuperblockThereIsNothingToReplaceIn) {
    const Status status = replace(1, paths_[1]);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::not_found) << message_;
    EXPECT_FALSE(fs::exists(paths_[1]));
}

}  // namespace
}  // namespace penstock
