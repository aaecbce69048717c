#include "storage/io/sim_world.h"

#include <algorithm>
#include <set>

#include "tests/unit/storage/io/support.h"

namespace penstock {
namespace {

using test::Block;
using test::collect;
using test::make_blocks;
using test::one;
using test::same;

constexpr std::uint64_t kib = 1024;

SimOptions seeded(std::uint64_t seed) {
    SimOptions options;
    options.seed = seed;
    return options;
}

bool content_is(const SimWorld& world, unsigned replica, std::string_view name,
                std::uint64_t offset, const std::byte* data, std::size_t bytes) {
    std::vector<std::byte> got(bytes);
    const auto count = world.read_raw(replica, name, offset, got);
    return count && *count == bytes && same(got.data(), data, bytes);
}

// A little of everything, as a digest.
std::uint64_t busy_run(std::uint64_t seed) {
    SimWorld world(seeded(seed));
    auto engine = world.make_engine();
    Block data = make_blocks(64 * kib, 5);
    Block back = make_blocks(64 * kib);
    std::array<FileHandle, 3> files{};
    for (unsigned replica = 0; replica < 3; ++replica) {
        files[replica] = *engine->open(replica, "a", OpenMode::create_or_existing);
    }
    for (std::uint64_t i = 0; i < 60; ++i) {
        const auto kind = static_cast<IoKind>(i % 5);
        std::byte* memory = kind == IoKind::read ? back.get() : data.get();
        EXPECT_TRUE(engine->queue({kind, files[i % 3], i * 4 * kib, memory, 16 * kib, i}));
    }
    EXPECT_EQ(collect(*engine, 60).size(), 60U);
    world.crash_power();
    world.restart();
    std::uint64_t digest = world.trace_digest();
    for (unsigned replica = 0; replica < 3; ++replica) {
        const auto content = *world.read_raw(replica, "a");
        for (std::size_t at = 0; at + 8 <= content.size(); at += 512) {
            digest = mix64(digest ^ load<std::uint64_t>(content.data() + at));
        }
    }
    return digest;
}

TEST(SimWorld, SameSeedGivesTheSameRun) {
    EXPECT_EQ(busy_run(7), busy_run(7));
    EXPECT_NE(busy_run(7), busy_run(8));
}

TEST(SimWorld, CompletionsComeOutOfOrderAndTakeTime) {
    SimWorld world(seeded(3));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 5);
    const std::uint64_t start = world.now_ns();
    for (std::uint64_t i = 0; i < 50; ++i) {
        ASSERT_TRUE(engine->queue({IoKind::write, file, i * 4 * kib, data.get(), 4 * kib, i}));
    }
    engine->submit();
    IoCompletion early[1];
    EXPECT_EQ(engine->reap(early), 0U);
    const auto done = collect(*engine, 50);
    ASSERT_EQ(done.size(), 50U);
    EXPECT_GE(world.now_ns() - start, 10'000U);
    EXPECT_FALSE(std::is_sorted(done.begin(), done.end(),
                                [](const auto& a, const auto& b) { return a.cookie < b.cookie; }));
    std::set<std::uint64_t> cookies;
    for (const auto& completion : done) {
        cookies.insert(completion.cookie);
        EXPECT_EQ(completion.result, 4 * kib);
    }
    EXPECT_EQ(cookies.size(), 50U);
    EXPECT_EQ(engine->in_flight(), 0U);
}

TEST(SimWorld, QueueIsBounded) {
    SimOptions options = seeded(1);
    options.queue_depth = 4;
    SimWorld world(options);
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    for (std::uint64_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(engine->queue({IoKind::flush, file, 0, nullptr, 0, i}));
    }
    EXPECT_FALSE(engine->queue({IoKind::flush, file, 0, nullptr, 0, 9}));
    EXPECT_EQ(collect(*engine, 4).size(), 4U);
    EXPECT_TRUE(engine->queue({IoKind::flush, file, 0, nullptr, 0, 9}));
}

TEST(SimWorld, WaitEndsAtItsTimeout) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const std::uint64_t start = world.now_ns();
    engine->wait(5'000'000);
    EXPECT_GE(world.now_ns() - start, 5'000'000U);
    EXPECT_LT(world.now_ns() - start, 5'100'000U);
}

TEST(SimWorld, DurableWritesSurviveEveryPowerLoss) {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        SimWorld world(seeded(seed));
        Block data = make_blocks(64 * kib, seed);
        auto engine = world.make_engine();
        const auto file = *engine->open(1, "a", OpenMode::create_or_existing);
        ASSERT_EQ(one(*engine, IoKind::write_durable, file, 4 * kib, data.get(), 32 * kib),
                  32 * kib);
        ASSERT_EQ(one(*engine, IoKind::write, file, 36 * kib, data.get() + 32 * kib, 32 * kib),
                  32 * kib);
        ASSERT_EQ(one(*engine, IoKind::flush, file, 0, nullptr, 0), 0);
        world.crash_power();
        engine.reset();
        world.restart();
        EXPECT_TRUE(content_is(world, 1, "a", 4 * kib, data.get(), 64 * kib));
    }
}

TEST(SimWorld, UnflushedWritesAreLostKeptAndTorn) {
    unsigned lost = 0;
    unsigned kept = 0;
    unsigned torn = 0;
    unsigned reordered = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SimWorld world(seeded(seed));
        const Block before = make_blocks(16 * kib, 100);
        Block base = make_blocks(16 * kib, 100);
        Block data = make_blocks(16 * kib, 101);
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, base.get(), 16 * kib), 16 * kib);
        for (std::uint64_t at = 0; at < 16 * kib; at += 4 * kib) {
            ASSERT_EQ(one(*engine, IoKind::write, file, at, data.get() + at, 4 * kib), 4 * kib);
        }
        EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 16 * kib));
        world.crash_power();
        engine.reset();
        world.restart();
        bool earlier_lost = false;
        for (std::uint64_t at = 0; at < 16 * kib; at += 4 * kib) {
            if (content_is(world, 0, "a", at, data.get() + at, 4 * kib)) {
                ++kept;
                reordered += earlier_lost ? 1 : 0;
            } else if (content_is(world, 0, "a", at, before.get() + at, 4 * kib)) {
                ++lost;
                earlier_lost = true;
            } else {
                ++torn;
                for (std::uint64_t sector = at; sector < at + 4 * kib; sector += 512) {
                    EXPECT_TRUE(content_is(world, 0, "a", sector, data.get() + sector, 512) ||
                                content_is(world, 0, "a", sector, before.get() + sector, 512));
                }
            }
        }
    }
    EXPECT_GT(lost, 20U);
    EXPECT_GT(kept, 20U);
    EXPECT_GT(torn, 5U);
    EXPECT_GT(reordered, 5U);
}

TEST(SimWorld, FlushCoversOnlyWhatWasFinishedBeforeIt) {
    unsigned lost = 0;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SimWorld world(seeded(seed));
        Block data = make_blocks(8 * kib, 1);
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_EQ(one(*engine, IoKind::write, file, 0, data.get(), 4 * kib), 4 * kib);
        // Queued together: the flush promises nothing about this write.
        ASSERT_TRUE(
            engine->queue({IoKind::write, file, 4 * kib, data.get() + 4 * kib, 4 * kib, 1}));
        ASSERT_TRUE(engine->queue({IoKind::flush, file, 0, nullptr, 0, 2}));
        ASSERT_EQ(collect(*engine, 2).size(), 2U);
        world.crash_power();
        engine.reset();
        world.restart();
        EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 4 * kib));
        lost += content_is(world, 0, "a", 4 * kib, data.get() + 4 * kib, 4 * kib) ? 0 : 1;
    }
    EXPECT_GT(lost, 5U);
}

TEST(SimWorld, DurableWriteIsNotUndoneByAnEarlierUnflushedOne) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        SimWorld world(seeded(seed));
        Block before = make_blocks(4 * kib, 1);
        Block data = make_blocks(4 * kib, 2);
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_EQ(one(*engine, IoKind::write, file, 0, before.get(), 4 * kib), 4 * kib);
        ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 4 * kib), 4 * kib);
        world.crash_power();
        EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 4 * kib));
    }
}

TEST(SimWorld, DurableWriteInFlightMayBeLostOrKept) {
    unsigned lost = 0;
    unsigned kept = 0;
    unsigned partly = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SimWorld world(seeded(seed));
        Block data = make_blocks(16 * kib, 1);
        const Block zeroes = make_blocks(16 * kib);
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 16 * kib), 16 * kib);
        ASSERT_TRUE(engine->queue({IoKind::write_durable, file, 0, data.get(), 16 * kib, 1}));
        engine->submit();
        world.crash_power();
        const auto done = collect(*engine, 1);
        ASSERT_EQ(done.size(), 1U);
        EXPECT_EQ(done[0].result, -ECANCELED);
        engine.reset();
        world.restart();
        if (content_is(world, 0, "a", 0, data.get(), 16 * kib)) {
            ++kept;
        } else if (content_is(world, 0, "a", 0, zeroes.get(), 16 * kib)) {
            ++lost;
        } else {
            ++partly;
        }
    }
    EXPECT_GT(lost, 5U);
    EXPECT_GT(kept, 5U);
    EXPECT_GT(partly, 5U);
}

TEST(SimWorld, KillLosesNothingSubmittedAndEverythingOnlyQueued) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        SimWorld world(seeded(seed));
        Block data = make_blocks(16 * kib, 1);
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_TRUE(engine->queue({IoKind::write, file, 0, data.get(), 8 * kib, 1}));
        engine->submit();
        ASSERT_TRUE(engine->queue({IoKind::write, file, 8 * kib, data.get(), 8 * kib, 2}));
        world.crash_kill();
        engine.reset();
        world.restart();
        EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 8 * kib));
        EXPECT_EQ(world.read_raw(0, "a")->size(), 8 * kib);
    }
}

TEST(SimWorld, WithoutLocksAKilledProcessWritesIntoTheNext) {
    SimOptions options = seeded(1);
    options.locks_hold = false;
    options.write = {1'000'000, 1'000'000};
    SimWorld world(options);
    Block data = make_blocks(4 * kib, 1);
    auto first = world.make_engine();
    const auto file = *first->open(0, "a", OpenMode::create_or_existing);
    ASSERT_TRUE(first->queue({IoKind::write, file, 0, data.get(), 4 * kib, 1}));
    first->submit();
    world.crash_kill();
    first.reset();
    world.restart();
    auto second = world.make_engine();
    EXPECT_EQ(world.read_raw(0, "a")->size(), 0U);
    world.settle();
    EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 4 * kib));
}

TEST(SimWorld, CrashAtTheNthIoStopsEveryEngineUntilRestart) {
    SimWorld world(seeded(1));
    auto lane = world.make_engine();
    auto catalog = world.make_engine();
    const auto file = *lane->open(0, "a", OpenMode::create_or_existing);
    const auto other = *catalog->open(1, "b", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    EXPECT_EQ(world.io_count(), 2U);
    world.crash_at(3, io_writes);
    EXPECT_EQ(one(*lane, IoKind::write, file, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(one(*lane, IoKind::flush, file, 0, nullptr, 0), 0);
    EXPECT_EQ(one(*catalog, IoKind::write_durable, other, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_FALSE(world.down());
    EXPECT_EQ(one(*lane, IoKind::write, file, 0, data.get(), 4 * kib), -ECANCELED);
    EXPECT_TRUE(world.down());
    EXPECT_EQ(one(*catalog, IoKind::read, other, 0, data.get(), 4 * kib), -ECANCELED);
    EXPECT_EQ(lane->open(0, "c", OpenMode::create_or_existing).error().code, Errc::canceled);
    EXPECT_EQ(world.io_count(io_writes), 3U);
    world.restart();
    EXPECT_EQ(one(*lane, IoKind::read, file, 0, data.get(), 4 * kib), -ECANCELED);
    auto fresh = world.make_engine();
    const auto again = *fresh->open(1, "b", OpenMode::existing);
    EXPECT_EQ(one(*fresh, IoKind::read, again, 0, data.get(), 4 * kib), 4 * kib);
}

TEST(SimWorld, FailAtFailsThatIoOnly) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto a = *engine->open(0, "a", OpenMode::create_or_existing);
    const auto b = *engine->open(1, "b", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    world.fail_at(2, ENXIO, io_writes, 0b010);
    EXPECT_EQ(one(*engine, IoKind::write, b, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(one(*engine, IoKind::write, a, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(one(*engine, IoKind::write, b, 0, data.get(), 4 * kib), -ENXIO);
    EXPECT_EQ(one(*engine, IoKind::write, b, 0, data.get(), 4 * kib), 4 * kib);
}

TEST(SimWorld, FailedFlushIsNotMadeGoodByTheNext) {
    unsigned lost = 0;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        SimWorld world(seeded(seed));
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        Block data = make_blocks(4 * kib, 1);
        ASSERT_EQ(one(*engine, IoKind::write, file, 0, data.get(), 4 * kib), 4 * kib);
        world.fail_at(1, EIO, io_flushes);
        ASSERT_EQ(one(*engine, IoKind::flush, file, 0, nullptr, 0), -EIO);
        ASSERT_EQ(one(*engine, IoKind::flush, file, 0, nullptr, 0), 0);
        world.crash_power();
        lost += content_is(world, 0, "a", 0, data.get(), 4 * kib) ? 0 : 1;
    }
    EXPECT_GT(lost, 5U);
}

TEST(SimWorld, LyingDriveAnswersFlushesAndLosesTheBytes) {
    unsigned lost = 0;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        SimWorld world(seeded(seed));
        world.faults(0).lies_about_flush = true;
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        Block data = make_blocks(4 * kib, 1);
        ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 4 * kib), 4 * kib);
        ASSERT_EQ(one(*engine, IoKind::flush, file, 0, nullptr, 0), 0);
        world.crash_power();
        lost += content_is(world, 0, "a", 0, data.get(), 4 * kib) ? 0 : 1;
    }
    EXPECT_GT(lost, 5U);
}

TEST(SimWorld, LostAndMisdirectedWritesAreAcknowledged) {
    SimWorld world(seeded(5));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    ASSERT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 256 * kib), 256 * kib);
    Block data = make_blocks(4 * kib, 1);
    const Block zeroes = make_blocks(4 * kib);
    world.faults(0).lost_write_per_million = 1'000'000;
    EXPECT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_TRUE(content_is(world, 0, "a", 0, zeroes.get(), 4 * kib));
    world.faults(0).lost_write_per_million = 0;
    world.faults(0).misdirected_write_per_million = 1'000'000;
    EXPECT_EQ(one(*engine, IoKind::write_durable, file, 8 * kib, data.get(), 4 * kib), 4 * kib);
    unsigned found = 0;
    for (std::uint64_t at = 0; at < 256 * kib; at += 4 * kib) {
        found += content_is(world, 0, "a", at, data.get(), 4 * kib) ? 1 : 0;
    }
    EXPECT_EQ(found, 1U);
    EXPECT_FALSE(content_is(world, 0, "a", 8 * kib, data.get(), 4 * kib));
}

TEST(SimWorld, StalledReplicaAnswersLaterAndHoldsUpNoOther) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto slow = *engine->open(0, "a", OpenMode::create_or_existing);
    const auto quick = *engine->open(1, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    const std::uint64_t start = world.now_ns();
    world.stall(0, 10'000'000'000);
    ASSERT_TRUE(engine->queue({IoKind::write_durable, slow, 0, data.get(), 4 * kib, 1}));
    ASSERT_TRUE(engine->queue({IoKind::write_durable, quick, 0, data.get(), 4 * kib, 2}));
    const auto first = collect(*engine, 1);
    ASSERT_EQ(first.size(), 1U);
    EXPECT_EQ(first[0].cookie, 2U);
    EXPECT_LT(world.now_ns() - start, 1'000'000'000U);
    const auto second = collect(*engine, 1);
    ASSERT_EQ(second.size(), 1U);
    EXPECT_GE(world.now_ns() - start, 10'000'000'000U);
    world.stall(0, 10'000'000'000);
    ASSERT_TRUE(engine->queue({IoKind::write_durable, slow, 0, data.get(), 4 * kib, 3}));
    engine->wait(1'000'000);
    EXPECT_EQ(engine->in_flight(), 1U);
    world.unstall(0);
    const std::uint64_t freed = world.now_ns();
    ASSERT_EQ(collect(*engine, 1).size(), 1U);
    EXPECT_LT(world.now_ns() - freed, 1'000'000'000U);
}

TEST(SimWorld, KilledProcessWithAStalledDiskIsWaitedFor) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    world.stall(0, 3'000'000'000);
    ASSERT_TRUE(engine->queue({IoKind::write, file, 0, data.get(), 4 * kib, 1}));
    engine->submit();
    const std::uint64_t killed = world.now_ns();
    world.crash_kill();
    engine.reset();
    world.restart();
    EXPECT_GE(world.now_ns() - killed, 2'900'000'000U);
    EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 4 * kib));
}

TEST(SimWorld, ReservedSpaceIsKeptWhenTheDiskFills) {
    SimWorld world(seeded(1));
    world.faults(0).capacity_bytes = 64 * kib;
    auto engine = world.make_engine();
    const auto kept = *engine->open(0, "a", OpenMode::create_or_existing);
    const auto other = *engine->open(0, "b", OpenMode::create_or_existing);
    EXPECT_EQ(one(*engine, IoKind::reserve, kept, 0, nullptr, 48 * kib), 48 * kib);
    EXPECT_EQ(*engine->size_bytes(kept), 0U);
    EXPECT_EQ(one(*engine, IoKind::allocate, other, 0, nullptr, 20 * kib), -ENOSPC);
    EXPECT_EQ(one(*engine, IoKind::allocate, other, 0, nullptr, 16 * kib), 16 * kib);
    world.crash_power();
    engine.reset();
    world.restart();
    engine = world.make_engine();
    const auto again = *engine->open(0, "a", OpenMode::existing);
    EXPECT_EQ(one(*engine, IoKind::allocate, again, 0, nullptr, 52 * kib), -ENOSPC);
    EXPECT_EQ(one(*engine, IoKind::allocate, again, 0, nullptr, 48 * kib), 48 * kib);
}

TEST(SimWorld, FullDiskRefusesGrowthAndCreation) {
    SimWorld world(seeded(1));
    world.faults(0).capacity_bytes = 64 * kib;
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 64 * kib), 64 * kib);
    EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 68 * kib), -ENOSPC);
    Block data = make_blocks(4 * kib, 1);
    EXPECT_EQ(one(*engine, IoKind::write, file, 64 * kib, data.get(), 4 * kib), -ENOSPC);
    EXPECT_EQ(one(*engine, IoKind::write, file, 60 * kib, data.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(engine->open(0, "b", OpenMode::create_or_existing).error().code, Errc::no_space);
    EXPECT_TRUE(engine->remove(0, "a"));
    EXPECT_TRUE(engine->open(0, "b", OpenMode::create_or_existing));
    EXPECT_EQ(world.used_bytes(0), 0U);
}

TEST(SimWorld, GoneDiskFailsUntilAttachedAgain) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 4 * kib), 4 * kib);
    ASSERT_TRUE(engine->queue({IoKind::write_durable, file, 0, data.get(), 4 * kib, 1}));
    engine->submit();
    world.set_gone(0);
    const auto done = collect(*engine, 1);
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].result, -EIO);
    EXPECT_EQ(engine->open(0, "a", OpenMode::existing).error().code, Errc::not_found);
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, data.get(), 4 * kib), -EIO);
    world.set_gone(0, false);
    EXPECT_EQ(engine->open(0, "a", OpenMode::existing).error().code, Errc::not_found);
    world.attach(*engine, 0);
    const auto back = engine->open(0, "a", OpenMode::existing);
    ASSERT_TRUE(back);
    EXPECT_EQ(one(*engine, IoKind::read, *back, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, data.get(), 4 * kib), -EIO);
}

TEST(SimWorld, DirectoryReplacedUnderAnEngineIsNotSeenByIt) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 4 * kib), 4 * kib);
    const auto old_copy = world.snapshot(0);
    const std::uint64_t identity = world.directory_identity(0);
    world.set_blank(0);
    EXPECT_NE(world.directory_identity(0), identity);
    EXPECT_TRUE(world.list(0).empty());
    EXPECT_EQ(one(*engine, IoKind::write_durable, file, 4 * kib, data.get(), 4 * kib), 4 * kib);
    EXPECT_TRUE(world.list(0).empty());
    world.restore(0, old_copy);
    EXPECT_EQ(world.read_raw(0, "a")->size(), 4 * kib);
    world.clone(0, 2);
    EXPECT_TRUE(content_is(world, 2, "a", 0, data.get(), 4 * kib));
    EXPECT_EQ(world.list(2), std::vector<std::string>{"a"});
}

TEST(SimWorld, DamageIsVisibleAndDurable) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(16 * kib, 1);
    ASSERT_EQ(one(*engine, IoKind::write, file, 0, data.get(), 16 * kib), 16 * kib);
    EXPECT_TRUE(world.flip_bit(0, "a", 5000, 3));
    EXPECT_EQ(world.read_raw(0, "a")->at(5000), data.get()[5000] ^ std::byte{8});
    EXPECT_EQ(world.read_durable(0, "a")->at(5000), data.get()[5000] ^ std::byte{8});
    EXPECT_TRUE(world.corrupt_range(0, "a", 8192, 100));
    EXPECT_FALSE(content_is(world, 0, "a", 8192, data.get() + 8192, 100));
    EXPECT_TRUE(content_is(world, 0, "a", 8292, data.get() + 8292, 1000));
    EXPECT_FALSE(world.flip_bit(0, "a", 16 * kib));
    EXPECT_FALSE(world.flip_bit(0, "b", 0));
    EXPECT_TRUE(world.truncate(0, "a", 6000));
    Block back = make_blocks(16 * kib);
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, back.get(), 16 * kib), 6000);
    EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 8192), 8192);
    EXPECT_EQ(world.read_raw(0, "a")->at(7000), std::byte{0});
}

TEST(SimWorld, ReadErrorsAndFlippedBitsLeaveTheDiskAsItIs) {
    SimWorld world(seeded(1));
    auto engine = world.make_engine();
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    Block back = make_blocks(4 * kib);
    ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 4 * kib), 4 * kib);
    world.faults(0).read_error_per_million = 1'000'000;
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, back.get(), 4 * kib), -EIO);
    world.faults(0).read_error_per_million = 0;
    world.faults(0).read_flip_per_million = 1'000'000;
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, back.get(), 4 * kib), 4 * kib);
    EXPECT_FALSE(same(back.get(), data.get(), 4 * kib));
    EXPECT_TRUE(content_is(world, 0, "a", 0, data.get(), 4 * kib));
}

TEST(SimWorld, AllocateInterruptedByPowerLossLeavesZeroesOnly) {
    std::set<std::uint64_t> sizes;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        SimWorld world(seeded(seed));
        auto engine = world.make_engine();
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_TRUE(engine->queue({IoKind::allocate, file, 0, nullptr, 64 * kib, 1}));
        engine->submit();
        world.crash_power();
        const auto content = *world.read_raw(0, "a");
        sizes.insert(content.size());
        EXPECT_TRUE(std::all_of(content.begin(), content.end(),
                                [](std::byte byte) { return byte == std::byte{}; }));
    }
    EXPECT_TRUE(sizes.contains(0));
    EXPECT_TRUE(sizes.contains(64 * kib));
    EXPECT_GT(sizes.size(), 3U);
}

TEST(SimWorld, ClockStandsStillUnlessLookedAtAndLeaps) {
    SimWorld world(seeded(1));
    const std::uint64_t now = world.now_ns();
    EXPECT_EQ(world.now_ns(), now);
    EXPECT_GT(world.clock().monotonic_ns(), now);
    const std::int64_t wall = world.clock().wall_ms();
    world.leap_wall(-3'600'000);
    EXPECT_LT(world.clock().wall_ms(), wall - 3'500'000);
    world.advance(7'200'000'000'000);
    EXPECT_GT(world.clock().wall_ms(), wall + 3'500'000);
}

}  // namespace
}  // namespace penstock
