// The open algorithm on simulated disks: crashes and errors at every I/O of it.
#include <bit>

#include <gtest/gtest.h>

#include "storage/io/sim_world.h"
#include "storage/replica/set.h"

namespace penstock {
namespace {

OpenSetOptions options_for(SimWorld& world) {
    OpenSetOptions options;
    options.now_ms = world.clock().wall_ms();
    options.random = [&world] { return world.random().next(); };
    return options;
}

Result<OpenedSet> open_on(SimWorld& world, const OpenSetOptions& options) {
    const auto engine = world.make_engine();
    std::string message;
    return open_set_on(*engine, options, message);
}

TEST(SetOnEngine, FirstOpeningMakesASetAndEachLaterOneRaisesTheEpoch) {
    SimWorld world(SimOptions{.seed = 3});
    const auto first = open_on(world, options_for(world));
    ASSERT_TRUE(first.has_value());
    EXPECT_TRUE(first->made_new);
    EXPECT_EQ(first->epoch, Epoch{1});
    EXPECT_EQ(first->voting, all_replicas);
    EXPECT_NE(first->geometry.set_id, 0U);
    for (std::uint64_t epoch = 2; epoch < 6; ++epoch) {
        const auto again = open_on(world, options_for(world));
        ASSERT_TRUE(again.has_value());
        EXPECT_FALSE(again->made_new);
        EXPECT_EQ(again->epoch, Epoch{epoch});
        EXPECT_EQ(again->geometry, first->geometry);
    }
}

// Crashes at the n-th change, with growing n, until an opening passes untouched. After each crash
// the set must open by itself, under an epoch above any that was given out.
void crash_at_every_change(CrashKind kind, unsigned openings_before) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        bool untouched = false;
        for (std::uint64_t n = 1; !untouched; ++n) {
            SimWorld world(SimOptions{.seed = seed * 1000 + n});
            std::uint64_t last = 0;
            std::uint64_t set_id = 0;
            for (unsigned i = 0; i < openings_before; ++i) {
                const auto opened = open_on(world, options_for(world));
                ASSERT_TRUE(opened.has_value());
                last = value(opened->epoch);
                set_id = opened->geometry.set_id;
            }
            world.crash_at(n, io_changes, kind);
            if (const auto opened = open_on(world, options_for(world)); opened) {
                untouched = true;
                last = value(opened->epoch);
                set_id = opened->geometry.set_id;
            }
            world.crash_at(0);
            if (!world.down()) {
                world.crash_power();
            }
            world.restart();
            OpenSetOptions options = options_for(world);
            const auto again = open_on(world, options);
            ASSERT_TRUE(again.has_value())
                << "seed " << seed << " n " << n << ": " << describe(again.error());
            ASSERT_GT(value(again->epoch), last) << "seed " << seed << " n " << n;
            ASSERT_EQ(again->voting, all_replicas);
            if (set_id != 0) {
                ASSERT_EQ(again->geometry.set_id, set_id);
                ASSERT_FALSE(again->made_new);
            }
        }
    }
}

TEST(SetOnEngine, MakingASetSurvivesPowerLossAtEveryChange) {
    crash_at_every_change(CrashKind::power, 0);
}
TEST(SetOnEngine, MakingASetSurvivesAKillAtEveryChange) {
    crash_at_every_change(CrashKind::kill, 0);
}
TEST(SetOnEngine, PromisingAnEpochSurvivesPowerLossAtEveryChange) {
    crash_at_every_change(CrashKind::power, 2);
}

// Any two of three replicas know every epoch that an opening was given.
TEST(SetOnEngine, AnyTwoReplicasKnowEveryEpochGivenOut) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        SimWorld world(SimOptions{.seed = seed});
        ASSERT_TRUE(open_on(world, options_for(world)).has_value());
        std::uint64_t last = 1;
        for (unsigned round = 0; round < 12; ++round) {
            OpenSetOptions options = options_for(world);
            options.existing = true;
            const auto away = static_cast<unsigned>(world.random().below(4));
            if (away < replica_count) {
                options.reachable = static_cast<ReplicaMask>(all_replicas & ~(1U << away));
            }
            if (world.random().below(3) == 0) {
                world.crash_at(1 + world.random().below(8));
            }
            const auto opened = open_on(world, options);
            if (opened) {
                ASSERT_GT(value(opened->epoch), last) << "seed " << seed;
                ASSERT_GE(std::popcount(opened->voting), 2);
                last = value(opened->epoch);
            }
            world.crash_at(0);
            if (!world.down()) {
                world.crash_power();
            }
            world.restart();
        }
    }
}

TEST(SetOnEngine, AReplicaWhoseSuperblockCannotBeWrittenIsLeftOut) {
    SimWorld world(SimOptions{.seed = 5});
    ASSERT_TRUE(open_on(world, options_for(world)).has_value());
    world.fail_at(1, EIO, io_writes, 0b010);
    const auto opened = open_on(world, options_for(world));
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(opened->voting, 0b101);
    EXPECT_NE(opened->message.find("replica 1"), std::string::npos) << opened->message;
}

TEST(SetOnEngine, APromiseThatReachesOnlyOneReplicaIsNoOpening) {
    SimWorld world(SimOptions{.seed = 6});
    ASSERT_TRUE(open_on(world, options_for(world)).has_value());
    world.fail_at(1, EIO, io_writes, 0b010);
    world.fail_at(1, EIO, io_writes, 0b100);
    const auto opened = open_on(world, options_for(world));
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, Errc::not_enough_replicas);
    // The next one goes above what the one replica may have promised.
    const auto next = open_on(world, options_for(world));
    ASSERT_TRUE(next.has_value());
    EXPECT_GE(value(next->epoch), 3U);
}

TEST(SetOnEngine, AClonedDiskDoesNotVote) {
    SimWorld world(SimOptions{.seed = 7});
    ASSERT_TRUE(open_on(world, options_for(world)).has_value());
    world.clone(0, 1);
    const auto opened = open_on(world, options_for(world));
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, Errc::not_enough_replicas);
}

TEST(SetOnEngine, DamageOfOneSlotTakesNoPromiseBack) {
    for (const std::uint64_t at : {0U, 4096U}) {
        SimWorld world(SimOptions{.seed = 8});
        ASSERT_TRUE(open_on(world, options_for(world)).has_value());
        for (unsigned i = 0; i < replica_count; ++i) {
            ASSERT_TRUE(world.flip_bit(i, superblock_name, at + 41));
        }
        const auto opened = open_on(world, options_for(world));
        ASSERT_TRUE(opened.has_value());
        EXPECT_EQ(opened->epoch, Epoch{2});
    }
}

TEST(SetOnEngine, ABlankDiskBesideTwoVotingIsNotTouched) {
    SimWorld world(SimOptions{.seed = 9});
    ASSERT_TRUE(open_on(world, options_for(world)).has_value());
    world.set_blank(2);
    const auto opened = open_on(world, options_for(world));
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(opened->voting, 0b011);
    EXPECT_TRUE(world.list(2).empty());
}

}  // namespace
}  // namespace penstock
