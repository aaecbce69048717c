// One fixed story, crashed at its n-th I/O for every n, its recovery crashed too.
#include <gtest/gtest.h>

#include "tests/sim/model.h"

namespace penstock::test {
namespace {

NodeOptions options_for_story() {
    NodeOptions options;
    options.geometry = small_geometry();
    options.geometry.container_bytes = 2U << 20;
    options.geometry.chunk_unit_bytes = 64U << 10;
    options.geometry.chunk_units_max = 4;
    return options;
}

std::unique_ptr<SimNode> start_over_crashes(SimWorld& world, Model& model, std::uint64_t crash_at,
                                            CrashKind kind) {
    if (crash_at != 0) {
        world.crash_at(crash_at, io_changes, kind);
    }
    for (;;) {
        std::string message;
        auto node = SimNode::start(world, options_for_story(), message);
        if (world.down()) {
            if (node) {
                node->reset();
            }
            model.forget_waiters();
            world.restart();
            continue;
        }
        world.crash_at(0);
        if (!node) {
            throw Broken("does not start: " + describe(node.error()) + " " + message);
        }
        return std::move(*node);
    }
}

// Create, append to the journal, write directly, move, points, roll a chunk, trim, drop, close.
void tell_story(SimWorld& world, SimNode& node, Model& model) {
    const auto settle = [&] {
        node.step_until([&] { return model.collect(), model.waiting() == 0; }, 2'000'000'000);
    };
    model.add_shard(node, 0, 1, 3'600'000);
    model.add_shard(node, 0, 2, 86'400'000);
    settle();
    for (unsigned i = 0; i < 6 && !world.down(); ++i) {  // journaled
        model.append(node, 1, 100 + i, AckLevel::quorum);
        node.step();
    }
    settle();
    for (unsigned i = 0; i < 4 && !world.down(); ++i) {  // direct, rolls chunks of 64 KiB and more
        model.append(node, 1, 70'000, AckLevel::quorum);
        model.append(node, 2, 2'000, AckLevel::all);
        settle();
    }
    node.drain();  // moves, a flush, points
    for (unsigned step = 0; step < 45 && !world.down();
         ++step) {  // an hour and a half: shard 1 is trimmed
        world.advance(120'000'000'000);
        node.step();
    }
    for (unsigned i = 0; i < 4 && !world.down(); ++i) {
        model.append(node, 1, 900, AckLevel::quorum);
        node.step();
    }
    settle();
    if (!world.down()) {
        model.add_shard(node, 0, 3, 86'400'000);
        settle();
    }
    if (!world.down()) {
        model.append(node, 3, 30'000, AckLevel::quorum);
        settle();
        model.drop_shard(node, 3);
        settle();
    }
    if (!world.down()) {  // closed with records that are not committed yet, and read on
        model.append(node, 2, 700, AckLevel::quorum);
        model.append(node, 2, 700, AckLevel::all);
        model.close_shard(node, 2);
        model.close_shard(node, 2);
        EXPECT_FALSE(model.append(node, 2, 700, AckLevel::quorum));
        settle();
    }
}

// Returns how many I/Os the story took; 0 if it was crashed.
std::uint64_t tell_crashed(std::uint64_t n, std::uint64_t recovery_n, CrashKind kind) {
    SimWorld world(SimOptions{.seed = 1000 + n});
    Model model(world);
    const std::uint64_t before = world.io_count();
    model.next_life();
    if (n != 0) {
        world.crash_at(n, io_changes, kind);
    }
    std::string message;
    auto node = SimNode::start(world, options_for_story(), message);
    if (node && !world.down()) {
        tell_story(world, **node, model);
    } else if (!world.down()) {
        throw Broken("does not start: " + describe(node.error()));
    }
    const bool crashed = world.down();
    const std::uint64_t count = world.io_count() - before;
    world.crash_at(0);
    if (!crashed) {
        world.crash_power();
    }
    if (node) {
        node->reset();
    }
    model.forget_waiters();
    world.restart();
    auto again = start_over_crashes(world, model, recovery_n, kind);
    model.next_life();
    model.check(*again, true);
    // The log goes on from here.
    for (auto& [uid, shard] : model.shards()) {
        model.append(*again, uid, 500, AckLevel::quorum);
    }
    again->step_until([&] { return model.collect(), model.waiting() == 0; }, 2'000'000'000);
    model.check(*again, false);
    return crashed ? 0 : count;
}

void every_io(CrashKind kind, bool recovery_too) {
    std::uint64_t n = 1;
    for (;; ++n) {
        std::uint64_t untouched = 0;
        try {
            untouched = tell_crashed(n, recovery_too ? 1 + n % 37 : 0, kind);
        } catch (const Broken& broken) {
            FAIL() << "crash at I/O " << n << ": " << broken.what();
        }
        if (untouched != 0) {
            break;
        }
    }
    EXPECT_GT(n, 150U) << "the story got shorter than it should be";
}

TEST(CrashAtEveryIo, PowerLossLosesNothingAcknowledged) {
    every_io(CrashKind::power, false);
}
TEST(CrashAtEveryIo, KillLosesNothingAcknowledged) {
    every_io(CrashKind::kill, false);
}
TEST(CrashAtEveryIo, PowerLossDuringTheRecoveryToo) {
    every_io(CrashKind::power, true);
}
TEST(CrashAtEveryIo, KillDuringTheRecoveryToo) {
    every_io(CrashKind::kill, true);
}

// After one crash in the story, the recovery itself is crashed at every I/O of its own.
TEST(CrashAtEveryIo, EveryIoOfARecovery) {
    for (const CrashKind kind : {CrashKind::power, CrashKind::kill}) {
        for (const std::uint64_t story : {60U, 110U, 140U}) {
            for (std::uint64_t n = 1; n <= 60; ++n) {
                try {
                    tell_crashed(story, n, kind);
                } catch (const Broken& broken) {
                    FAIL() << "story " << story << ", recovery crashed at I/O " << n << ": "
                           << broken.what();
                }
            }
        }
    }
}

}  // namespace
}  // namespace penstock::test
