// What LOG-PROTOCOL demands of a proof, each as a named test on simulated disks (R15), and R8.
#include <gtest/gtest.h>

#include "storage/format/frame.h"
#include "storage/journal/ring.h"
#include "tests/sim/model.h"
#include "tests/sim/scenario.h"

namespace penstock::test {
namespace {

class Protocol : public ::testing::Test {
protected:
    explicit Protocol(const SimOptions& disks = {.seed = 77}) : world_(disks) {
        options_.geometry = small_geometry();
    }

    Result<std::unique_ptr<SimNode>> try_start() {
        std::string message;
        auto node = SimNode::start(world_, options_, message);
        message_ = message;
        return node;
    }
    void start() {
        auto node = try_start();
        ASSERT_TRUE(node.has_value()) << describe(node.error()) << " " << message_;
        node_ = std::move(*node);
        model_.next_life();
    }
    void stop(CrashKind kind = CrashKind::power) {
        if (kind == CrashKind::power) {
            world_.crash_power();
        } else {
            world_.crash_kill();
        }
        node_.reset();
        model_.forget_waiters();
        world_.restart();
    }
    void settle(std::uint64_t for_ns = 5'000'000'000) {
        EXPECT_TRUE(
            node_->step_until([&] { return model_.collect(), model_.waiting() == 0; }, for_ns));
    }
    void add_shards(unsigned count) {
        for (unsigned uid = 1; uid <= count; ++uid) {
            model_.add_shard(*node_, 0, uid, 86'400'000);
        }
        settle();
    }
    // `journaled` records are small, so that they stay in the journal; others are written directly.
    void append(unsigned count, std::uint64_t uid, bool journaled,
                AckLevel level = AckLevel::quorum) {
        for (unsigned i = 0; i < count; ++i) {
            // At first the disks are still asked for room.
            const std::uint32_t bytes = journaled ? 200 : 100'000;
            ASSERT_TRUE(node_->step_until([&] { return model_.append(*node_, uid, bytes, level); },
                                          1'000'000'000));
            node_->step();
        }
        settle();
    }
    void check(bool after_start) {
        try {
            model_.check(*node_, after_start);
        } catch (const Broken& broken) {
            FAIL() << broken.what();
        }
    }
    bool damage_last_journal_frame(unsigned replica, bool magic = false);
    void erase_journal(unsigned replica);
    void close_first_shard();

    SimWorld world_;
    Model model_{world_};
    NodeOptions options_;
    std::unique_ptr<SimNode> node_;
    std::string message_;
};

// Flips a bit in the payload, or the magic, of the last block of the newest journal file's frames.
bool Protocol::damage_last_journal_frame(unsigned replica, bool header) {
    std::uint64_t best = 0;
    std::uint32_t best_file = 0;
    std::uint64_t best_at = 0;
    for (std::uint32_t file = 0; file < options_.geometry.journal_files; ++file) {
        const auto bytes = world_.read_raw(replica, journal_name(GroupId{1}, file));
        for (std::uint64_t at = 0; bytes && at + block_bytes <= bytes->size(); at += block_bytes) {
            JournalBlockHeader found;
            const BlockFault fault = check_block(Bytes(*bytes).subspan(at), 0, 1, found);
            if ((fault == BlockFault::none || fault == BlockFault::foreign) &&
                found.epoch * 1'000'000 + found.number > best) {
                best = found.epoch * 1'000'000 + found.number;
                best_file = file;
                best_at = at;
            }
        }
    }
    return best != 0 &&
           world_.flip_bit(
               replica, journal_name(GroupId{1}, best_file),
               best_at + (header ? 20 : sizeof(JournalBlockHeader) + sizeof(FrameHeader) + 40));
}

void Protocol::erase_journal(unsigned replica) {
    for (std::uint32_t file = 0; file < options_.geometry.journal_files; ++file) {
        const std::string name = journal_name(GroupId{1}, file);
        const auto bytes = world_.read_raw(replica, name);
        ASSERT_TRUE(bytes.has_value());
        ASSERT_TRUE(world_.overwrite(replica, name, 0, std::vector<std::byte>(bytes->size())));
    }
}

// -- The checker itself
// -----------------------------------------------------------------------------

// A kill loses no issued write, so it cannot find that an ack came before the flush; power loss
// does.
TEST(CheckerCanFail, TwoDrivesThatLieAboutFlushesAreFoundByPowerLoss) {
    unsigned found = 0;
    for (std::uint64_t seed = 1; seed <= 25; ++seed) {
        found += run_scenario({.seed = seed, .verbose = false, .two_liars = true}).broken.empty()
                     ? 0
                     : 1;
    }
    EXPECT_GT(found, 12U);
}

TEST(CheckerCanFail, TwoLyingDrivesAreNotFoundByAKill) {
    SimWorld world(SimOptions{.seed = 5});
    world.faults(0).lies_about_flush = true;
    world.faults(1).lies_about_flush = true;
    Model model(world);
    NodeOptions options;
    options.geometry = small_geometry();
    std::string message;
    auto node = SimNode::start(world, options, message);
    ASSERT_TRUE(node.has_value());
    model.add_shard(**node, 0, 1, 86'400'000);
    (*node)->step_until([&] { return model.collect(), model.waiting() == 0; });
    for (unsigned i = 0; i < 50; ++i) {
        model.append(**node, 1, 300, AckLevel::quorum);
    }
    (*node)->step_until([&] { return model.collect(), model.waiting() == 0; });
    EXPECT_EQ(model.acked(), 50U);
    world.crash_kill();
    node->reset();
    world.restart();
    auto again = SimNode::start(world, options, message);
    ASSERT_TRUE(again.has_value());
    EXPECT_NO_THROW(model.check(**again, true));
}

TEST(Simulator, SameSeedGivesTheSameRun) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        const auto one = run_scenario({.seed = seed});
        const auto two = run_scenario({.seed = seed});
        EXPECT_EQ(one.trace_digest, two.trace_digest) << "seed " << seed;
        EXPECT_EQ(one.acked, two.acked);
    }
}

// -- R15
// ----------------------------------------------------------------------------------------------

TEST_F(Protocol, EveryTwoReplicaStartOrderAfterACrash) {
    for (const CrashKind kind : {CrashKind::power, CrashKind::kill}) {
        // Each start lacks another replica; the one that was away comes back with an old log.
        for (unsigned first = 0; first < replica_count; ++first) {
            for (unsigned second = 0; second < replica_count; ++second) {
                options_.reachable = all_replicas;
                start();
                if (model_.shards().empty()) {
                    add_shards(3);
                }
                check(true);
                append(5, 1, true);
                append(2, 2, false);
                stop(kind);
                for (const unsigned away : {first, second}) {
                    options_.reachable = static_cast<ReplicaMask>(all_replicas & ~(1U << away));
                    start();
                    node_->hold_back(true);
                    check(true);
                    append(3, 1, true);
                    append(1, 2, false);
                    append(4, 3, true);
                    stop(kind);
                }
                options_.reachable = all_replicas;
                start();
                check(true);
                EXPECT_TRUE(node_->step_until([&] { return node_->whole(); }));
                check(false);
                stop(kind);
            }
        }
    }
}

TEST_F(Protocol, ThreeFailedMountsAreNoFirstStart) {
    start();
    add_shards(1);
    append(3, 1, true);
    stop();
    options_.reachable = 0;
    options_.existing = true;
    EXPECT_FALSE(try_start().has_value());
    options_.reachable = all_replicas;
    start();
    check(true);
}

TEST_F(Protocol, OneMountLeftIsReadOnlyAndShowsAPrefix) {
    start();
    add_shards(2);
    append(20, 1, true);
    append(3, 2, false);
    stop();
    options_.reachable = 0b010;
    EXPECT_FALSE(try_start().has_value());
    options_.allow_read_only = true;
    auto node = try_start();
    ASSERT_TRUE(node.has_value()) << describe(node.error());
    EXPECT_TRUE((*node)->opened().read_only);
    ShardLog* shard = (*node)->group(0).find(ShardUid{1});
    ASSERT_NE(shard, nullptr);
    Appended appended;
    RecordIn record;
    record.partition_key = as_bytes("k");
    EXPECT_EQ((*node)->group(0).append(*shard, record, AckLevel::quorum, appended),
              AppendVerdict::no_quorum);
    ShardStatus status;
    ASSERT_TRUE((*node)->group(0).shard_status(ShardUid{1}, status).has_value());
    EXPECT_GE(status.end_sequence, 15U);  // all but what no later frame says was committed
    EXPECT_LE(status.end_sequence, 21U);
    node->reset();
    options_.allow_read_only = false;
    options_.reachable = all_replicas;
    start();
    check(true);
}

TEST_F(Protocol, AClonedReplicaDoesNotCountTwice) {
    start();
    add_shards(1);
    append(5, 1, true);
    stop();
    const SimSnapshot good = world_.snapshot(1);
    world_.clone(0, 1);  // which of the two is the original cannot be known: neither votes
    const auto node = try_start();
    ASSERT_FALSE(node.has_value());
    EXPECT_EQ(node.error().code, Errc::not_enough_replicas);
    world_.restore(1, good);
    start();
    check(true);
}

TEST_F(Protocol, ADirectoryRemovedWhileOpenLeavesTheSetAndIsRefilled) {
    start();
    add_shards(2);
    append(10, 1, true);
    append(3, 2, false);
    world_.set_blank(1);  // writes through the old descriptor succeed and go nowhere
    append(10, 1, true);
    ASSERT_TRUE(node_->step_until([&] { return (node_->out() & 0b010) != 0; }));
    append(10, 1, true);
    check(false);
    ASSERT_TRUE(prepare_blank(world_, 1).has_value());
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    append(5, 2, false);
    node_->drain();
    stop();
    world_.set_gone(0);  // what was acknowledged is on the refilled one and its peer
    options_.accept_loss = true;
    start();
    check(true);
}

// What was admitted has its room: in the journal of a node killed on full drives, it finds a place
// in the next one's segments, though somebody else has taken every free byte meanwhile.
TEST_F(Protocol, KilledOnFullDrivesItStartsAgain) {
    constexpr std::uint64_t capacity = 72U << 20;
    for (unsigned r = 0; r < replica_count; ++r) {
        world_.faults(r).capacity_bytes = capacity;
    }
    start();
    add_shards(4);
    SimRandom random(5);
    for (int life = 0; life < 6; ++life) {
        unsigned refused = 0;
        for (int i = 0; i < 60'000 && refused < 400; ++i) {
            const auto uid = 1 + random.below(4);
            const auto bytes = static_cast<std::uint32_t>(random.chance(500'000) ? 20'000 : 400);
            const bool taken = model_.append(*node_, uid, bytes, AckLevel::quorum);
            refused += !taken && node_->group(0).gauges().disk_full ? 1 : 0;
            node_->step();
            model_.collect();
        }
        EXPECT_EQ(refused, 400U);
        EXPECT_TRUE(node_->group(0).gauges().disk_full);
        for (unsigned r = 0; r < replica_count; ++r) {
            // Files keep what they were promised; nothing else is left for them.
            world_.faults(r).capacity_bytes = 0;
        }
        stop(life % 2 == 0 ? CrashKind::kill : CrashKind::power);
        start();
        check(true);
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        world_.faults(r).capacity_bytes = UINT64_MAX;
    }
    node_->step_until([] { return false; }, 2'000'000'000);  // asked for room again
    append(10, 1, false);
    check(false);
}

// With so many shards none has as much in memory as a direct write takes, and what the journal
// holds of one goes to its segment only with what the journal has no room for.
TEST_F(Protocol, MemoryAndJournalThatManyShardsFilledEmptyAgain) {
    constexpr unsigned shard_count = 300;
    options_.pool_bytes = 16U << 20;
    options_.geometry.chunk_unit_bytes = 64U << 10;
    start();
    add_shards(shard_count);
    // Several times what memory and journal hold, faster than the drives take it.
    unsigned taken = 0;
    EXPECT_TRUE(node_->step_until([&] {
        for (std::uint64_t uid = 1; uid <= shard_count; ++uid) {
            taken += model_.append(*node_, uid, 1000, AckLevel::quorum) ? 1 : 0;
        }
        model_.collect();
        return taken >= 40'000;
    })) << taken;
    settle(20'000'000'000);
    check(false);
}

// At a pace that the drives keep, what many shards have in the journal leaves it in plain writes, a
// few at a time, before its place is needed: a record waits for the journal's block and nothing
// else. (Relieved in direct writes, or all at once, the others' records waited for that, too.)
TEST_F(Protocol, WhatManyShardsHaveInTheJournalLeavesItBehindTheirBacks) {
    constexpr unsigned shard_count = 300;
    options_.pool_bytes = 16U << 20;
    options_.geometry.container_bytes = 256U << 20;
    options_.geometry.chunk_unit_bytes = 64U << 10;
    options_.geometry.manifest_bytes = 16U << 20;  // nor waits for larger slots
    start();
    add_shards(shard_count);
    const std::uint64_t journal_bytes =
        options_.geometry.journal_files * options_.geometry.journal_file_bytes;
    constexpr double per_second = 100'000;
    const std::uint64_t began_ns = world_.clock().monotonic_ns();
    std::uint64_t tried = 0;
    std::uint64_t refused = 0;
    std::size_t waiting_most = 0;
    const auto step = [&] {
        const double passed_s = static_cast<double>(world_.clock().monotonic_ns() - began_ns) / 1e9;
        for (; static_cast<double>(tried) < passed_s * per_second; ++tried) {
            refused +=
                model_.append(*node_, 1 + tried * 7 % shard_count, 1000, AckLevel::quorum) ? 0 : 1;
        }
        model_.collect();
        waiting_most = std::max(waiting_most, model_.waiting());
        return node_->group(0).counters().journal_bytes > 4 * journal_bytes;
    };
    EXPECT_TRUE(node_->step_until(step));
    const GroupCounters& counted = node_->group(0).counters();
    EXPECT_EQ(counted.segment_direct_writes, 0U);
    EXPECT_EQ(refused, 0U);
    // What comes in 20 ms: many times what a block takes to gather and to be written.
    EXPECT_LT(waiting_most, static_cast<std::size_t>(per_second / 50));
    settle();
    check(false);
}

class ProtocolSlowToGrow : public Protocol {
protected:
    ProtocolSlowToGrow() : Protocol({.seed = 78, .allocate = {20'000'000, 400'000'000}}) {}
};

// A container is reserved and grown while a replica leaves and comes back: each is made once, and
// in the end every replica has all of it.
TEST_F(ProtocolSlowToGrow, ContainersGrownWhileAReplicaComesBackAreWholeEverywhere) {
    start();
    add_shards(3);
    for (std::uint64_t round = 0; round < 12; ++round) {
        world_.fail_at(1 + round % 3, 5, io_writes, 0b100);
        std::uint64_t steps = 0;
        unsigned more = 300;  // space goes on growing while it is out, comes back, and after that
        ASSERT_TRUE(node_->step_until([&] {
            if (steps++ % 4 == 0 &&
                model_.append(*node_, 1 + steps % 3, 60'000, AckLevel::quorum)) {
                more -= more != 0 ? 1 : 0;
            }
            model_.collect();
            return more == 0 && node_->whole();
        }));
    }
    settle(60'000'000'000);
    node_->drain();
    node_->step_until([] { return false; }, 2'000'000'000);
    const auto engine = world_.make_engine();
    unsigned containers = 0;
    for (std::uint32_t number = 0;; ++number) {
        const auto first = engine->open(0, container_name(1, number), OpenMode::read_only);
        if (!first || *engine->size_bytes(*first) == 0) {
            break;  // only reserved
        }
        ++containers;
        for (unsigned r = 0; r < replica_count; ++r) {
            const auto file = engine->open(r, container_name(1, number), OpenMode::read_only);
            ASSERT_TRUE(file.has_value());
            EXPECT_EQ(*engine->size_bytes(*file), options_.geometry.container_bytes)
                << "replica " << r << " container " << number;
        }
    }
    EXPECT_GT(containers, 5U);
    check(false);
}

// Whatever is being asked for when a replica comes back, in the end it keeps what the others keep.
TEST_F(ProtocolSlowToGrow, AReplicaThatCameBackKeepsTheSpaceThatWasPromisedMeanwhile) {
    start();
    add_shards(3);
    for (std::uint64_t round = 0; round < 12; ++round) {
        world_.fail_at(1 + round % 3, 5, io_writes, 0b100);
        std::uint64_t steps = 0;
        const auto write_some = [&] {
            if (steps++ % 4 == 0) {
                (void)model_.append(*node_, 1 + steps % 3, 60'000, AckLevel::quorum);
            }
            model_.collect();
        };
        ASSERT_TRUE(node_->step_until([&] { return write_some(), node_->out() != 0; }));
        ASSERT_TRUE(node_->step_until([&] { return write_some(), node_->whole(); }));
        settle();
        node_->step_until([] { return false; }, 30'000'000'000);  // growing is over
        EXPECT_EQ(world_.used_bytes(2), world_.used_bytes(0)) << "round " << round;
    }
    check(false);
}

TEST_F(Protocol, AStalledDeviceAcrossARestart) {
    start();
    add_shards(2);
    append(5, 1, true);
    world_.stall(2, 30'000'000'000);
    append(10, 1, true);
    append(4, 2, false);
    stop(CrashKind::kill);
    start();
    check(true);
    append(10, 1, true);
    world_.unstall(2);
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    node_->drain();
    check(false);
    stop();
    start();
    check(true);
}

TEST_F(Protocol, AClockLeapStopsRetention) {
    start();
    add_shards(1);
    append(4, 1, false);
    node_->drain();
    ASSERT_TRUE(node_->step_until([&] { return false; }, 3'000'000'000) == false);
    world_.leap_wall(400LL * 24 * 3600 * 1000);
    node_->step_until([&] { return false; }, 10'000'000'000);
    EXPECT_TRUE(node_->group(0).gauges().retention_held);
    ShardStatus status;
    ASSERT_TRUE(node_->group(0).shard_status(ShardUid{1}, status).has_value());
    EXPECT_EQ(status.trim_sequence, 1U);
}

TEST_F(Protocol, TenSecondsStallOfOneReplicaKeepsMemoryBoundedAndWritesGoing) {
    start();
    add_shards(3);
    append(5, 1, true);
    world_.stall(1, 10'000'000'000);
    const std::uint64_t until = world_.now_ns() + 10'000'000'000;
    std::uint64_t accepted = 0;
    std::size_t most = 0;
    std::uint64_t last_progress = world_.now_ns();
    std::uint64_t longest_gap = 0;
    std::uint64_t acked = model_.acked();
    while (world_.now_ns() < until) {
        accepted += model_.append(*node_, 1 + accepted % 3, accepted % 3 == 0 ? 20'000 : 300,
                                  AckLevel::quorum);
        node_->step();
        world_.advance(1'000'000);
        model_.collect();
        if (model_.acked() != acked) {
            acked = model_.acked();
            longest_gap = std::max(longest_gap, world_.now_ns() - last_progress);
            last_progress = world_.now_ns();
        }
        most = std::max(most, node_->pool(0).used_bytes());
    }
    EXPECT_GT(accepted, 5'000U);
    EXPECT_LT(longest_gap, 200'000'000U);  // two replicas go on while the third is stalled
    EXPECT_LT(most, node_->pool(0).size_bytes() / 4 * 3);
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    settle();
    node_->drain();
    EXPECT_EQ(node_->pool(0).used_bytes(), 0U);
    check(false);
}

TEST_F(Protocol, TwoReplicasSlowAtOnceKeepEveryCopyReadable) {
    start();
    add_shards(2);
    append(5, 1, true);
    for (unsigned round = 0; round < 6; ++round) {
        world_.stall(round % 3, 2'500'000'000);
        world_.stall((round + 1) % 3, 2'000'000'000);
        for (unsigned i = 0; i < 200; ++i) {
            model_.append(*node_, 1 + i % 2, i % 20 == 0 ? 90'000 : 300, AckLevel::quorum);
            node_->step();
            world_.advance(5'000'000);
        }
        check(false);
    }
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    settle();
    check(false);
}

TEST_F(Protocol, EioOfOneReplicaIsNoticedAndMended) {
    start();
    add_shards(2);
    for (unsigned n = 1; n < 12; ++n) {
        world_.fail_at(n, 5, io_writes | io_flushes, 0b100);
        append(6, 1, true);
        append(1, 2, false);
        node_->drain();
        ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    }
    EXPECT_GT(node_->failures(), 0U);
    check(false);
    stop();
    start();
    check(true);
}

TEST_F(Protocol, AReplicaThatCannotBeReadDoesNotStopTheStart) {
    start();
    add_shards(2);
    append(6, 1, true);
    stop();
    for (std::uint64_t n = 1; n < 20; ++n) {
        world_.fail_at(n, 5, io_reads, 0b001);
        start();
        check(true);
        append(2, 1, true);
        stop();
    }
}

// -- R9
// -------------------------------------------------------------------------------------------------

TEST_F(Protocol, LevelAllIsRefusedWhileAReplicaIsOutAndNeverAckedWithoutIt) {
    start();
    add_shards(1);
    append(3, 1, true, AckLevel::all);
    world_.set_gone(2);
    node_->hold_back(true);
    append(3, 1, true);
    ASSERT_TRUE(node_->step_until([&] { return (node_->out() & 0b100) != 0; }));
    EXPECT_FALSE(model_.append(*node_, 1, 100, AckLevel::all));
    world_.set_gone(2, false);
    node_->hold_back(false);
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    append(3, 1, true, AckLevel::all);
    check(false);
}

// -- R8
// -------------------------------------------------------------------------------------------------

TEST_F(Protocol, DamagedTailWithAVotingReplicaAwayWaits) {
    start();
    add_shards(1);
    append(12, 1, true);
    node_->step_until([] { return false; }, 20'000'000);  // the third copy lands too
    stop();
    ASSERT_TRUE(damage_last_journal_frame(0));
    ASSERT_TRUE(damage_last_journal_frame(1));
    options_.reachable = 0b011;  // the good copy is on the one that is away
    auto node = try_start();
    ASSERT_FALSE(node.has_value());
    EXPECT_EQ(node.error().code, Errc::wait_for_replica);
    options_.reachable = all_replicas;
    start();
    check(true);
}

TEST_F(Protocol, DamagedJournalHeaderWithAVotingReplicaAwayWaits) {
    start();
    add_shards(1);
    append(12, 1, true);
    node_->step_until([] { return false; }, 20'000'000);  // the third copy lands too
    stop();
    ASSERT_TRUE(damage_last_journal_frame(0, true));
    ASSERT_TRUE(damage_last_journal_frame(1, true));
    options_.reachable = 0b011;
    auto node = try_start();
    ASSERT_FALSE(node.has_value());
    EXPECT_EQ(node.error().code, Errc::wait_for_replica);
    options_.reachable = all_replicas;
    start();
    check(true);
}

// Waiting is right only where something may be lost. Power losses in the midst of writes, on drives
// whose places are used for the second time and differ, are no such thing as a rule.
TEST(StartsWithOneReplicaAway, SeldomWaitAfterAPowerLossUnderLoad) {
    unsigned waits = 0;
    unsigned starts = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SimWorld world(SimOptions{.seed = seed});
        SimRandom random(seed);
        Model model(world);
        NodeOptions options;
        options.geometry = small_geometry();
        std::string message;
        auto node = SimNode::start(world, options, message);
        ASSERT_TRUE(node.has_value());
        const auto load = [&](unsigned count) {
            for (unsigned i = 0; i < count; ++i) {
                const auto uid = 1 + random.below(4);
                const auto bytes = random.below(uid == 1 ? 120'000 : uid == 2 ? 30'000 : 900);
                model.append(**node, uid, static_cast<std::uint32_t>(bytes), AckLevel::quorum);
                (*node)->step();
            }
        };
        for (std::uint64_t uid = 1; uid <= 4; ++uid) {
            model.add_shard(**node, 0, uid, 3'600'000);
        }
        (*node)->step_until([&] { return model.collect(), model.waiting() == 0; });
        if (seed % 2 == 0) {
            world.set_gone(1);  // what it misses is trimmed before it is back
            load(150);
            for (unsigned minute = 0; minute < 80; minute += 2) {
                world.advance(120'000'000'000);
                (*node)->step();
            }
            world.set_gone(1, false);
            ASSERT_TRUE((*node)->step_until([&] { return (*node)->whole(); }));
        }
        load(100 + static_cast<unsigned>(random.below(100)));
        world.crash_power();
        node->reset();
        model.forget_waiters();
        world.restart();
        std::array<SimSnapshot, replica_count> disks;
        for (unsigned r = 0; r < replica_count; ++r) {
            disks[r] = world.snapshot(r);
        }
        for (unsigned away = 0; away < replica_count; ++away) {
            for (unsigned r = 0; r < replica_count; ++r) {
                world.restore(r, disks[r]);
            }
            options.reachable = static_cast<ReplicaMask>(all_replicas & ~(1U << away));
            const auto again = SimNode::start(world, options, message);
            waits += !again && again.error().code == Errc::wait_for_replica ? 1 : 0;
            ASSERT_TRUE(again || again.error().code == Errc::wait_for_replica);
            ++starts;
        }
    }
    // What is torn on both replicas that are left, and only that: more than a third would mean that
    // damage is believed which another copy explains.
    EXPECT_LT(waits * 3, starts);
}

TEST_F(Protocol, AHoleBelowACommitPointIsReportedAndNothingBehindItIsCut) {
    start();
    add_shards(1);
    append(6, 1, true);
    node_->step_until([] { return false; }, 20'000'000);  // the third copy lands too
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        ASSERT_TRUE(damage_last_journal_frame(replica));
    }
    append(6, 1, true);  // these say that what was damaged had been committed
    stop();
    start();
    model_.tolerate_lost = true;
    EXPECT_GT(node_->group(0).gauges().lost_records, 0U);
    EXPECT_THROW(model_.check(*node_, true), Broken);  // the damaged record alone is gone
    EXPECT_GT(model_.lost_ranges, 0U);
    ShardStatus status;
    ASSERT_TRUE(node_->group(0).shard_status(ShardUid{1}, status).has_value());
    EXPECT_EQ(status.end_sequence, 13U);
}

// -- Closing a shard (docs/resharding.md)
// -----------------------------------------------------------

struct Ending : CommitWaiter {
    ShardGroup* group = nullptr;
    ShardStatus status;  // as it was when the end was told
    bool told = false;
};

TEST_F(Protocol, AShardEndsBehindEverythingItTook) {
    start();
    add_shards(1);
    append(3, 1, true);
    for (unsigned i = 0; i < 5; ++i) {
        ASSERT_TRUE(model_.append(*node_, 1, 300, AckLevel::quorum));
    }
    const Sequence end = model_.shards().at(1).records.rbegin()->first + 1;
    Ending ending;
    ending.group = &node_->group(0);
    ending.on_done = [](CommitWaiter& self, Errc outcome) noexcept {
        auto& told = static_cast<Ending&>(self);
        told.told = outcome == Errc::ok && told.group->shard_status(ShardUid{1}, told.status);
    };
    node_->group(0).close_shard(ShardUid{1}, ending);
    EXPECT_FALSE(model_.append(*node_, 1, 300, AckLevel::quorum));
    ASSERT_TRUE(node_->step_until([&] { return ending.told; }));
    EXPECT_EQ(ending.status.end_sequence, end);
    for (unsigned life = 0; life < 3; ++life) {
        stop();
        start();
        check(true);
        ShardStatus status;
        ASSERT_TRUE(node_->group(0).shard_status(ShardUid{1}, status));
        EXPECT_EQ(status.end_sequence, end);
        EXPECT_FALSE(model_.append(*node_, 1, 300, AckLevel::quorum));
    }
}

// Its manifest knows where it ended, also when no frame is left that would tell.
void Protocol::close_first_shard() {
    append(6, 1, true);
    Ending ending;
    ending.on_done = [](CommitWaiter& self, Errc outcome) noexcept {
        static_cast<Ending&>(self).told = outcome == Errc::ok;
    };
    node_->group(0).close_shard(ShardUid{1}, ending);
    ASSERT_TRUE(node_->step_until([&] { return ending.told; }));
    node_->step_until([] { return false; }, 20'000'000);  // the third copy lands too
}

TEST_F(Protocol, AClosedShardWhoseLastRecordsAreOnAReplicaThatIsAwayWaits) {
    start();
    add_shards(1);
    close_first_shard();
    stop();
    erase_journal(0);
    erase_journal(1);
    options_.reachable = 0b011;
    auto node = try_start();
    ASSERT_FALSE(node.has_value());
    EXPECT_EQ(node.error().code, Errc::wait_for_replica);
    options_.reachable = all_replicas;
    start();
    check(true);
}

TEST_F(Protocol, AClosedShardWhoseLastRecordsAreNowhereLosesThemInTheOpen) {
    start();
    add_shards(1);
    close_first_shard();
    stop();
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        erase_journal(replica);
    }
    for (unsigned life = 0; life < 3; ++life) {  // told once, and not forgotten
        start();
        EXPECT_EQ(node_->group(0).gauges().lost_records, 6U);
        stop();
    }
}

TEST_F(Protocol, AShardThatIsDroppedWhileItClosesAnswersBoth) {
    start();
    add_shards(2);
    ASSERT_TRUE(node_->step_until([&] { return model_.append(*node_, 1, 300, AckLevel::quorum); },
                                  1'000'000'000));
    model_.close_shard(*node_, 1);
    model_.drop_shard(*node_, 1);
    settle();
    EXPECT_EQ(model_.waiting(), 0U);
    stop();
    start();
    check(true);
    EXPECT_EQ(node_->group(0).find(ShardUid{1}), nullptr);
    EXPECT_NE(node_->group(0).find(ShardUid{2}), nullptr);
}

}  // namespace
}  // namespace penstock::test
