// The state log on simulated disks: what was committed is read back, whatever was torn or damaged.
#include "storage/log/state_log.h"

#include <gtest/gtest.h>

#include "storage/io/sim_world.h"

namespace penstock {
namespace {

constexpr std::uint64_t set_id = 99;

// A log of numbered entries; the state is all of them.
struct Writer {
    SimWorld& world;
    std::unique_ptr<IoEngine> engine;
    ReplicaView replicas{all_replicas, all_replicas};
    std::vector<std::vector<std::byte>> state;
    std::unique_ptr<StateLog> log;
    std::size_t committed = 0;  // entries whose commit was reported
    std::size_t entry_bytes;
    std::vector<Error> failures;  // of replicas, in order

    Writer(SimWorld& w, std::size_t bytes)
        : world(w), engine(w.make_engine()), entry_bytes(bytes) {}

    Status open(std::uint64_t epoch, ReplicaMask readable = all_replicas, ReplicaMask absent = 0) {
        PENSTOCK_TRY(read, read_state_log(*engine, set_id, GroupId{1}, readable, absent, false));
        state.clear();
        if (!replay_state(read, [this](bool, Bytes entry) {
                state.emplace_back(entry.begin(), entry.end());
                return true;
            })) {
            return fail(Errc::corrupt);
        }
        replicas = {readable, readable};
        StateLog::Options options;
        options.set_id = set_id;
        options.group = GroupId{1};
        options.epoch = Epoch{epoch};
        options.slot_bytes = 64U << 10;
        options.replicas = &replicas;
        options.snapshot = [this](StateEntries& out) {
            for (const auto& entry : state) {
                out.add(entry);
            }
        };
        options.on_replica_failed = [this](unsigned replica, Error why) {
            failures.push_back(why);
            if (why.code == Errc::unavailable || why.code == Errc::no_space) {
                replicas.taking = static_cast<ReplicaMask>(replicas.taking & ~(1U << replica));
                log->replica_lost(replica);
            }
        };
        PENSTOCK_TRY(opened, StateLog::open(*engine, std::move(options), read));
        log = std::move(opened);
        log->start_generation();
        return pump([this] { return log->idle(); }) ? Status{} : fail(Errc::canceled);
    }
    bool pump(const std::function<bool()>& done) {
        std::array<IoCompletion, 16> completions;
        while (!done()) {
            if (world.down()) {
                return false;
            }
            log->turn(world.now_ns());
            engine->submit();
            engine->wait(1'000'000);
            const std::size_t count = engine->reap(completions);
            for (std::size_t i = 0; i < count; ++i) {
                if (completions[i].result != -125) {
                    log->complete(Cookie::unpack(completions[i].cookie), completions[i].result);
                }
            }
        }
        return true;
    }
    void append() {
        const std::size_t number = state.size();
        state.emplace_back(entry_bytes, static_cast<std::byte>(number));
        store(state.back().data(), static_cast<std::uint64_t>(number));
        log->append(state.back(), [this, number] { committed = number + 1; });
    }
};

// Entries must be 0, 1, 2, … without holes, and at least the committed ones.
void expect_prefix(const Writer& writer, std::size_t at_least, std::size_t at_most,
                   const std::string& where) {
    ASSERT_GE(writer.state.size(), at_least) << where;
    ASSERT_LE(writer.state.size(), at_most) << where;
    for (std::size_t i = 0; i < writer.state.size(); ++i) {
        ASSERT_EQ(load<std::uint64_t>(writer.state[i].data()), i) << where;
        ASSERT_EQ(writer.state[i].size(), writer.entry_bytes) << where;
    }
}

// Small entries keep a generation's snapshot in one block; large ones spread it over several.
void crash_everywhere(std::size_t entry_bytes, unsigned entries, CrashKind kind) {
    for (std::uint64_t n = 1;; ++n) {
        SimWorld world(SimOptions{.seed = n});
        Writer writer(world, entry_bytes);
        world.crash_at(n, io_changes, kind);
        bool untouched = false;
        if (writer.open(1)) {
            untouched = true;
            for (unsigned i = 0; i < entries && untouched; ++i) {
                writer.append();
                if (i % 7 == 3) {
                    writer.log->start_generation();
                }
                untouched = writer.pump([&] { return writer.log->idle(); });
            }
        }
        const std::size_t committed = writer.committed;
        const std::size_t sent = writer.state.size();
        world.crash_at(0);
        if (!world.down()) {
            world.crash_power();
        }
        writer.log.reset();
        world.restart();
        for (const ReplicaMask readable : std::array<ReplicaMask, 4>{0b111, 0b011, 0b101, 0b110}) {
            Writer reader(world, entry_bytes);
            const auto read =
                read_state_log(*reader.engine, set_id, GroupId{1}, readable, 0, false);
            ASSERT_TRUE(read.has_value()) << "crash at " << n << ": " << describe(read.error());
            ASSERT_TRUE(replay_state(*read, [&](bool, Bytes entry) {
                reader.state.emplace_back(entry.begin(), entry.end());
                return true;
            }));
            expect_prefix(reader, committed, sent, "crash at " + std::to_string(n));
        }
        if (untouched) {
            EXPECT_GT(n, 30U);
            return;
        }
    }
}

TEST(StateLog, PowerLossAtEveryIoKeepsWhatWasCommitted) {
    crash_everywhere(60, 30, CrashKind::power);
}
TEST(StateLog, KillAtEveryIoKeepsWhatWasCommitted) {
    crash_everywhere(60, 30, CrashKind::kill);
}
TEST(StateLog, PowerLossAtEveryIoOfGenerationsOfManyBlocks) {
    crash_everywhere(50'000, 20, CrashKind::power);
}

// A drive that takes a few milliseconds for a while is no reason to be left out and copied anew.
TEST(StateLog, AReplicaThatIsOnlySlowerIsWaitedFor) {
    SimWorld world(SimOptions{.seed = 5});
    Writer writer(world, 60);
    ASSERT_TRUE(writer.open(1));
    world.faults(1).latency_factor = 60;
    for (unsigned i = 0; i < 40; ++i) {
        writer.append();
        ASSERT_TRUE(writer.pump([&] { return writer.log->idle(); }));
    }
    EXPECT_TRUE(writer.failures.empty());
    ASSERT_TRUE(writer.pump([&] { return !writer.log->has_in_flight(); }));
    EXPECT_TRUE(writer.log->holds(1));
}

// One that does not answer holds up nobody for long.
TEST(StateLog, AReplicaThatStallsIsLeftBehind) {
    SimWorld world(SimOptions{.seed = 6});
    Writer writer(world, 60);
    ASSERT_TRUE(writer.open(1));
    const std::uint64_t begin = world.now_ns();
    world.stall(1, 60'000'000'000);
    for (unsigned i = 0; i < 40; ++i) {
        writer.append();
        ASSERT_TRUE(writer.pump([&] { return writer.log->idle(); }));
    }
    ASSERT_EQ(writer.failures.size(), 1U);
    EXPECT_EQ(writer.failures[0].code, Errc::unavailable);
    EXPECT_EQ(writer.failures[0].detail, 1U);
    EXPECT_LT(world.now_ns() - begin, 1'000'000'000U);
    EXPECT_EQ(writer.committed, 40U);
}

// Two that each hold an answer back are not given up on at once: the first that goes lets the log
// go on.
TEST(StateLog, OfTwoLateReplicasOneIsLeftBehind) {
    SimWorld world(SimOptions{.seed = 7});
    Writer writer(world, 60);
    ASSERT_TRUE(writer.open(1));
    ASSERT_TRUE(writer.pump([&] { return !writer.log->has_in_flight(); }));
    const auto write_one = [&] {
        writer.append();
        const std::uint64_t until = world.now_ns() + 10'000'000'000;
        ASSERT_TRUE(writer.pump([&] { return writer.log->idle() || world.now_ns() > until; }));
        ASSERT_TRUE(writer.log->idle());
    };
    const auto pass = [&](std::uint64_t for_ns) {
        const std::uint64_t until = world.now_ns() + for_ns;
        ASSERT_TRUE(writer.pump([&] { return world.now_ns() > until; }));
    };
    world.stall(1, 60'000'000'000);
    write_one();
    pass(20'000'000);
    world.stall(1, 1);  // from now on it answers again; what it held back comes when it comes
    world.stall(2, 60'000'000'000);
    for (unsigned i = 0; i < 2; ++i) {
        write_one();
    }
    pass(200'000'000);
    EXPECT_TRUE(writer.failures.empty());  // fewer wait than may
    write_one();
    pass(1'000'000);
    world.stall(2, 1);
    write_one();
    ASSERT_EQ(writer.failures.size(), 1U);
    EXPECT_EQ(writer.failures[0].detail, 1U);
}

// The state outgrows its slots.
struct FullDrives : ::testing::Test {
    SimWorld world{SimOptions{.seed = 8}};
    Writer writer{world, 50'000};
    void fill(ReplicaMask full) {
        for (unsigned r = 0; r < replica_count; ++r) {
            world.faults(r).capacity_bytes =
                (full >> r & 1) != 0 ? world.used_bytes(r) : UINT64_MAX;
        }
    }
    // Until all is committed, at most so long.
    bool settles(std::uint64_t for_ns) {
        const std::uint64_t until = world.now_ns() + for_ns;
        EXPECT_TRUE(writer.pump([&] { return writer.log->idle() || world.now_ns() > until; }));
        return writer.log->idle();
    }
    bool append(unsigned entries, std::uint64_t for_ns = 10'000'000'000) {
        for (unsigned i = 0; i < entries; ++i) {
            writer.append();
            if (!settles(for_ns)) {
                return false;
            }
        }
        return true;
    }
    void expect_all_after_a_restart() {
        const std::size_t entries = writer.state.size();
        writer.log.reset();
        world.crash_power();
        world.restart();
        Writer reader(world, 50'000);
        ASSERT_TRUE(reader.open(2).has_value());
        expect_prefix(reader, entries, entries, "after a restart");
    }
};

TEST_F(FullDrives, AGenerationThatFitsGoesOnInTheSlotsAsTheyAre) {
    ASSERT_TRUE(writer.open(1));
    fill(all_replicas);
    // Three times as much as this, and two megabytes, would be wished for.
    ASSERT_TRUE(append(10));
    writer.log->start_generation();
    ASSERT_TRUE(append(10));
    writer.log->start_generation();
    EXPECT_TRUE(settles(10'000'000'000));
    EXPECT_FALSE(writer.log->out_of_space());
    EXPECT_TRUE(writer.failures.empty());
    expect_all_after_a_restart();
}

TEST_F(FullDrives, AGenerationThatDoesNotFitWaitsForSpace) {
    ASSERT_TRUE(writer.open(1));
    fill(all_replicas);
    while (append(1, 200'000'000)) {
        ASSERT_LT(writer.state.size(), 1000U);
    }
    EXPECT_FALSE(settles(5'000'000'000));
    EXPECT_TRUE(writer.log->out_of_space());
    EXPECT_TRUE(writer.failures.empty());  // no replica is worse than the others
    fill(0);
    EXPECT_TRUE(settles(5'000'000'000));
    EXPECT_FALSE(writer.log->out_of_space());
    EXPECT_EQ(writer.committed, writer.state.size());
    EXPECT_TRUE(append(100));
    expect_all_after_a_restart();
}

// Whatever a slot holds fits in the other one.
TEST_F(FullDrives, AStartNeedsNoMoreSpaceThanThereWas) {
    ASSERT_TRUE(writer.open(1));
    fill(all_replicas);
    while (append(1, 200'000'000)) {
        ASSERT_LT(writer.state.size(), 1000U);
    }
    const std::size_t committed = writer.committed;
    const std::size_t sent = writer.state.size();
    fill(0b011);  // one of them may have grown before
    EXPECT_FALSE(settles(3'000'000'000));
    for (unsigned r = 0; r < replica_count; ++r) {
        world.faults(r).capacity_bytes = 0;
    }
    writer.log.reset();
    world.crash_kill();
    world.restart();
    Writer again(world, 50'000);
    ASSERT_TRUE(again.open(2).has_value());
    expect_prefix(again, committed, sent, "after a restart");
    EXPECT_TRUE(again.failures.empty());
}

TEST_F(FullDrives, OneFullDriveAmongGoodOnesIsLeftOut) {
    ASSERT_TRUE(writer.open(1));
    fill(0b100);
    EXPECT_TRUE(append(100));
    ASSERT_EQ(writer.failures.size(), 1U);
    EXPECT_EQ(writer.failures[0].code, Errc::no_space);
    EXPECT_EQ(writer.failures[0].detail, 2U);
    EXPECT_EQ(writer.committed, 100U);
}

// Asked for twice, a generation may not begin before the one before it is whole: the slot it would
// overwrite holds the only one that can be read.
TEST(StateLog, AGenerationBeginsOnlyWhenTheOneBeforeIsWhole) {
    for (std::uint64_t n = 1; n < 40; ++n) {
        SimWorld world(SimOptions{.seed = n});
        Writer writer(world, 50'000);
        ASSERT_TRUE(writer.open(1).has_value());
        for (unsigned i = 0; i < 20; ++i) {
            writer.append();
        }
        ASSERT_TRUE(writer.pump([&] { return writer.log->idle(); }));
        world.crash_at(n, io_writes);
        writer.log->start_generation();
        unsigned turns = 0;
        writer.pump([&] {
            if (++turns < 8) {
                writer.log->start_generation();
            }
            return writer.log->idle();
        });
        world.crash_at(0);
        if (!world.down()) {
            world.crash_power();
        }
        writer.log.reset();
        world.restart();
        Writer reader(world, 50'000);
        ASSERT_TRUE(reader.open(2).has_value());
        expect_prefix(reader, 20, 20, "crash at " + std::to_string(n));
    }
}

struct Damaged : ::testing::Test {
    SimWorld world{SimOptions{.seed = 3}};
    void write(unsigned entries) {
        Writer writer(world, 60);
        ASSERT_TRUE(writer.open(1).has_value());
        for (unsigned i = 0; i < entries; ++i) {
            writer.append();
            ASSERT_TRUE(writer.pump([&] { return writer.log->idle(); }));
        }
        written = writer.state.size();
        writer.log.reset();
        world.crash_power();
        world.restart();
    }
    Result<std::size_t> read(ReplicaMask readable, ReplicaMask absent = 0) {
        const auto engine = world.make_engine();
        PENSTOCK_TRY(found, read_state_log(*engine, set_id, GroupId{1}, readable, absent, false));
        std::size_t count = 0;
        if (!replay_state(found, [&](bool, Bytes) { return ++count, true; })) {
            return fail(Errc::corrupt);
        }
        return count;
    }
    std::size_t written = 0;
};

TEST_F(Damaged, ADamagedBlockOnOneReplicaIsReadFromAnother) {
    for (std::uint64_t block = 0; block < 12; ++block) {
        write(4);
        const std::string name = "state-1-0";
        ASSERT_TRUE(world.corrupt_range(0, name, 0, 4096) || true);
        world.flip_bit(1, name, block * 4096 + 70);
        world.flip_bit(1, "state-1-1", block * 4096 + 70);
        const auto count = read(0b110);
        ASSERT_TRUE(count.has_value()) << describe(count.error());
        EXPECT_EQ(*count, written) << "block " << block;
    }
}

TEST_F(Damaged, ADamagedTailWaitsForTheReplicaThatIsAway) {
    write(5);  // block 0 is the snapshot, then one block for each entry
    for (const unsigned replica : {0U, 1U}) {
        ASSERT_TRUE(world.flip_bit(replica, "state-1-0", 5 * 4096 + 70));
    }
    const auto away = read(0b011, 0b100);
    ASSERT_FALSE(away.has_value());
    EXPECT_EQ(away.error().code, Errc::wait_for_replica);
    const auto all = read(0b111);
    ASSERT_TRUE(all.has_value());
    EXPECT_EQ(*all, 5U);
}

TEST_F(Damaged, ADamagedDeltaWithLaterOnesIsNeverTheEnd) {
    write(5);
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        ASSERT_TRUE(world.flip_bit(replica, "state-1-0", 2 * 4096 + 70));
    }
    const auto all = read(0b111);
    ASSERT_FALSE(all.has_value());
    EXPECT_EQ(all.error().code, Errc::corrupt);
    const auto away = read(0b011, 0b100);
    ASSERT_FALSE(away.has_value());
    EXPECT_EQ(away.error().code, Errc::wait_for_replica);
}

TEST_F(Damaged, ADamagedSnapshotInUseIsNotForgottenForAnOlderOne) {
    write(3);
    write(3);  // the second generation is in the other slot
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        ASSERT_TRUE(world.flip_bit(replica, "state-1-1", 70));
    }
    const auto all = read(0b111);
    ASSERT_FALSE(all.has_value());
    EXPECT_EQ(all.error().code, Errc::corrupt);
}

}  // namespace
}  // namespace penstock
