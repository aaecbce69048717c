#include "storage/replica/set.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "storage/io/directory.h"
#include "storage/io/durability_probe.h"
#include "tests/unit/storage/replica/directories.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

class ReplicaSetTest : public ReplicaDirectories {};

TEST_F(ReplicaSetTest, FirstOpeningMakesTheDirectoriesAndASet) {
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_TRUE((*set)->made_new());
    EXPECT_EQ((*set)->epoch(), Epoch{1});
    EXPECT_EQ((*set)->voting(), all_replicas);
    EXPECT_EQ((*set)->check(), 0);
    for (unsigned i = 0; i < replica_count; ++i) {
        EXPECT_EQ((*set)->directory(i).path, paths_[i]);
        EXPECT_GE((*set)->directory(i).fd, 0);
        EXPECT_GE((*set)->directory(i).lock_fd, 0);
        EXPECT_EQ(fs::file_size(paths_[i] + "/superblock"), superblock_file_bytes);
    }
}

TEST_F(ReplicaSetTest, ReopeningRaisesTheEpochAndKeepsTheSet) {
    SetGeometry geometry;
    for (std::uint64_t epoch = 1; epoch <= 4; ++epoch) {
        auto set = open();
        ASSERT_TRUE(set.has_value()) << message_;
        EXPECT_EQ((*set)->epoch(), Epoch{epoch});
        EXPECT_TRUE(epoch == 1 || (*set)->geometry() == geometry);
        EXPECT_TRUE(epoch == 1 || message_.empty()) << message_;
        geometry = (*set)->geometry();
    }
}

TEST_F(ReplicaSetTest, ASecondProcessFindsTheDirectoriesLocked) {
    int ready[2];
    int finish[2];
    ASSERT_EQ(::pipe(ready), 0);
    ASSERT_EQ(::pipe(finish), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ::close(finish[1]);
        auto set = open();
        char byte = set ? 'y' : 'n';
        const bool told = ::write(ready[1], &byte, 1) == 1;
        const bool waited = ::read(finish[0], &byte, 1) == 0;  // until the parent closes its end
        ::_exit(told && waited ? 0 : 1);
    }
    ::close(finish[0]);
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ASSERT_EQ(byte, 'y');
    const auto second = open();
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::locked) << message_;
    EXPECT_NE(message_.find("another process"), std::string::npos) << message_;
    // Looking needs no lock.
    EXPECT_EQ(inspect_place(paths_[0]).kind, PlaceKind::readable);
    ::close(finish[1]);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(open().has_value()) << message_;
}

// A killed node's locks end one after the other: who starts in between must be able to tell that
// waiting helps.
TEST_F(ReplicaSetTest, LocksThatLeaveNoQuorumAreTheCauseOfReadingOnly) {
    make();
    ReplicaSetOptions lenient = options();
    lenient.allow_read_only = true;
    auto first = ReplicaDirectory::open(paths_[0], ReplicaDirectory::Create::no);
    auto second = ReplicaDirectory::open(paths_[1], ReplicaDirectory::Create::no);
    ASSERT_TRUE(first.has_value() && second.has_value());
    {
        const auto refused = open();
        ASSERT_FALSE(refused.has_value());
        EXPECT_EQ(refused.error().code, Errc::locked) << message_;
        auto set = open(lenient);
        ASSERT_TRUE(set.has_value()) << message_;
        EXPECT_TRUE((*set)->read_only());
        EXPECT_EQ((*set)->read_only_cause(), Errc::locked);
    }
    first->reset();
    auto set = open(lenient);
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_FALSE((*set)->read_only());
    EXPECT_EQ((*set)->read_only_cause(), Errc::ok);
}

TEST_F(ReplicaSetTest, OneRemovedDirectoryIsNotMadeAgain) {
    make();
    fs::remove_all(paths_[1]);
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->voting(), 0b101);
    EXPECT_EQ((*set)->directory(1).fd, -1);
    EXPECT_FALSE(fs::exists(paths_[1]));
}

TEST_F(ReplicaSetTest, ABlankDirectoryIsLeftAloneAndTheMessageSaysWhatMendsIt) {
    make();
    blank(1);
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->voting(), 0b101);
    EXPECT_TRUE(fs::is_empty(paths_[1]));
    EXPECT_NE(message_.find("penstock replica replace " + paths_[1]), std::string::npos)
        << message_;
}

TEST_F(ReplicaSetTest, ACopyOverAnotherReplicaCountsForNeither) {
    make();
    copy(paths_[0], paths_[1]);
    auto set = open();
    ASSERT_FALSE(set.has_value());
    EXPECT_EQ(set.error().code, Errc::not_enough_replicas);
    EXPECT_NE(message_.find(paths_[0]), std::string::npos) << message_;
    EXPECT_NE(message_.find(paths_[1]), std::string::npos) << message_;
    EXPECT_NE(message_.find("copy"), std::string::npos) << message_;
}

TEST_F(ReplicaSetTest, ThreeFailedMountsWithExistingAreRefused) {
    make();
    for (unsigned i = 0; i < replica_count; ++i) {
        blank(i);
    }
    ReplicaSetOptions existing = options();
    existing.existing = true;
    const auto set = open(existing);
    ASSERT_FALSE(set.has_value());
    EXPECT_EQ(set.error().code, Errc::not_found);
    EXPECT_TRUE(fs::is_empty(paths_[0]));
}

TEST_F(ReplicaSetTest, OneReplicaIsOpenedForReadingOnlyIfTheCallerAgrees) {
    make();
    fs::remove_all(paths_[0]);
    fs::remove_all(paths_[2]);
    const auto refused = open();
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::not_enough_replicas);
    ReplicaSetOptions lenient = options();
    lenient.allow_read_only = true;
    {
        auto set = open(lenient);
        ASSERT_TRUE(set.has_value()) << message_;
        EXPECT_TRUE((*set)->read_only());
        EXPECT_EQ((*set)->read_only_cause(), Errc::not_enough_replicas);
        EXPECT_EQ((*set)->voting(), 0b010);
        EXPECT_EQ((*set)->check(), 0);
        EXPECT_EQ((*set)->look_for_return(0).kind, ReturnKind::none);
    }
    // Nothing was promised.
    EXPECT_EQ(inspect_place(paths_[1]).superblock.epoch_promised, Epoch{1});
}

TEST_F(ReplicaSetTest, DirectoriesInAnotherOrderArePutInPlace) {
    make();
    std::swap(paths_[0], paths_[2]);
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->voting(), all_replicas);
    EXPECT_EQ((*set)->directory(0).path, paths_[2]);
}

TEST_F(ReplicaSetTest, OneDirectoryGivenTwiceIsRefused) {
    make();
    paths_[1] = paths_[0];
    const auto set = open();
    ASSERT_FALSE(set.has_value());
    EXPECT_EQ(set.error().code, Errc::invalid_argument);
}

TEST_F(ReplicaSetTest, ADirectoryWithOtherFilesIsNeverMadeAReplica) {
    fs::create_directories(paths_[1]);
    std::ofstream(paths_[1] + "/holiday.jpg") << "x";
    const auto set = open();
    ASSERT_FALSE(set.has_value());
    EXPECT_EQ(set.error().code, Errc::not_empty);
    EXPECT_FALSE(fs::exists(paths_[0]));
}

TEST_F(ReplicaSetTest, AZeroedSuperblockBesideDataIsDamageAndNotAFirstStart) {
    make();
    for (unsigned i = 0; i < replica_count; ++i) {
        std::ofstream(paths_[i] + "/journal-1-0") << "frames";
        fs::resize_file(paths_[i] + "/superblock", 0);
    }
    const auto set = open();
    ASSERT_FALSE(set.has_value());
    EXPECT_EQ(set.error().code, Errc::corrupt) << message_;
}

TEST_F(ReplicaSetTest, CheckNoticesARemovedAReplacedAndARewrittenDirectory) {
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    fs::rename(paths_[0], paths_[0] + ".away");
    EXPECT_EQ((*set)->check(), 0b001);
    EXPECT_NE((*set)->reason(0).find("path"), std::string::npos) << (*set)->reason(0);
    copy(paths_[0] + ".away", paths_[0]);
    EXPECT_EQ((*set)->check(), 0b001);
    (*set)->drop(0);
    EXPECT_EQ((*set)->present(), 0b110);
    EXPECT_EQ((*set)->check(), 0);
    fs::copy_file(paths_[1] + "/superblock", paths_[2] + "/superblock",
                  fs::copy_options::overwrite_existing);
    EXPECT_EQ((*set)->check(), 0b100);
    damage(paths_[1], 20);
    EXPECT_EQ((*set)->check(), 0b100) << "one slot is enough";
    damage(paths_[1], 4096 + 20);
    EXPECT_EQ((*set)->check(), 0b110);
}

// Rewrites a superblock with something changed, as another process would.
void rewrite(const std::string& directory, const std::function<void(Superblock&)>& change) {
    Superblock s = inspect_place(directory).superblock;
    change(s);
    for (unsigned round = 0; round < 2; ++round) {
        ++s.generation;
        SuperblockSlot slot;
        encode_superblock(s, slot);
        std::fstream file(directory + "/superblock",
                          std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(superblock_slot_of(s.generation) * 4096));
        file.write(reinterpret_cast<const char*>(slot.data()), 4096);
        ASSERT_TRUE(file.good());
    }
}

TEST_F(ReplicaSetTest, AReplicaThatPromisedANewerEpochLeavesAndDoesNotReturn) {
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    rewrite(paths_[2], [](Superblock& s) { s.epoch_promised = Epoch{2}; });
    EXPECT_EQ((*set)->check(), 0b100);
    EXPECT_NE((*set)->reason(2).find("epoch 2"), std::string::npos) << (*set)->reason(2);
    (*set)->drop(2);
    const ReturnOffer offer = (*set)->look_for_return(2);
    EXPECT_EQ(offer.kind, ReturnKind::none);
    EXPECT_NE(offer.reason.find("epoch 2"), std::string::npos) << offer.reason;
}

TEST_F(ReplicaSetTest, AReturningReplicaIsFencedWithTheEpochItMissed) {
    make();
    fs::rename(paths_[1], paths_[1] + ".away");
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->epoch(), Epoch{2});
    EXPECT_EQ((*set)->look_for_return(1).kind, ReturnKind::none);
    fs::rename(paths_[1] + ".away", paths_[1]);
    EXPECT_EQ(inspect_place(paths_[1]).superblock.epoch_promised, Epoch{1});
    const ReturnOffer offer = (*set)->look_for_return(1);
    ASSERT_EQ(offer.kind, ReturnKind::returning) << offer.reason;
    EXPECT_EQ(inspect_place(paths_[1]).superblock.epoch_promised, Epoch{2});
    EXPECT_EQ((*set)->voting(), all_replicas);
    EXPECT_EQ((*set)->check(), 0);
    EXPECT_GE((*set)->directory(1).fd, 0);
}

TEST_F(ReplicaSetTest, ADroppedReplicaWhoseLockARingStillHoldsDoesNotReturn) {
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    const int ring_copy = ::dup((*set)->directory(1).lock_fd);
    (*set)->drop(1);
    EXPECT_EQ((*set)->look_for_return(1).kind, ReturnKind::none);
    ::close(ring_copy);
    EXPECT_EQ((*set)->look_for_return(1).kind, ReturnKind::returning);
}

TEST_F(ReplicaSetTest, ACopyOrAStrangerInAReplicasPlaceDoesNotReturn) {
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    (*set)->drop(1);
    copy(paths_[0], paths_[1]);
    EXPECT_EQ((*set)->look_for_return(1).kind, ReturnKind::none);
    rewrite(paths_[1], [](Superblock& s) { s.geometry.set_id = 99; });
    const ReturnOffer offer = (*set)->look_for_return(1);
    EXPECT_EQ(offer.kind, ReturnKind::none);
    EXPECT_NE(offer.reason.find("another replica set"), std::string::npos) << offer.reason;
    blank(1);
    EXPECT_NE((*set)->look_for_return(1).reason.find("replica replace"), std::string::npos);
    EXPECT_TRUE(fs::is_empty(paths_[1]));
}

TEST_F(ReplicaSetTest, AReplicaToBeFilledAgainDoesNotVoteUntilItIsComplete) {
    {
        auto set = open();
        ASSERT_TRUE(set.has_value()) << message_;
        ASSERT_TRUE((*set)->mark_filling(2).has_value());
        EXPECT_EQ((*set)->voting(), 0b011);
        EXPECT_EQ((*set)->filling(), 0b100);
        EXPECT_EQ((*set)->check(), 0);
        // Two must be left.
        EXPECT_EQ((*set)->mark_filling(0).error().code, Errc::not_enough_replicas);
    }
    auto set = open();
    ASSERT_TRUE(set.has_value()) << message_;
    EXPECT_EQ((*set)->filling(), 0b100);
    ASSERT_TRUE((*set)->mark_voting(2).has_value());
    EXPECT_EQ((*set)->voting(), all_replicas);
    set->reset();
    auto again = open();
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ((*again)->voting(), all_replicas);
}

TEST_F(ReplicaSetTest, DrivesAreMeasuredWhenOpened) {
    ReplicaSetOptions measured = options();
    measured.probe_durability = true;
    auto set = open(measured);
    ASSERT_TRUE(set.has_value()) << message_;
    for (unsigned i = 0; i < replica_count; ++i) {
        ASSERT_TRUE((*set)->durability(i).status.has_value());
        EXPECT_GT((*set)->durability(i).dsync_4k_us, 0.0);
    }
}

}  // namespace
}  // namespace penstock
