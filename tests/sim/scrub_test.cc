// Scrubbing on simulated disks: what one copy lost comes back from another, byte for byte; what no
// copy has is lost once, in the open, and nothing else with it.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "storage/format/frame.h"
#include "storage/segment/container_files.h"
#include "storage/segment/table.h"
#include "tests/sim/model.h"

namespace penstock::test {
namespace {

using Kind = ScrubEvent::Kind;

class Scrubbing : public ::testing::Test {
protected:
    Scrubbing() {
        options_.geometry = small_geometry();
        options_.scrub_bytes_per_s = 64U << 20;
    }

    void start() {
        std::string message;
        auto node = SimNode::start(world_, options_, message);
        ASSERT_TRUE(node.has_value()) << describe(node.error()) << " " << message;
        node_ = std::move(*node);
        model_.next_life();
    }
    void stop() {
        world_.crash_power();
        node_.reset();
        model_.forget_waiters();
        world_.restart();
    }
    // Records small and large in a few shards, all in segments in the end.
    void fill(unsigned count = 400, unsigned shards = 3) {
        for (unsigned uid = 1; uid <= shards; ++uid) {
            if (!model_.shards().contains(uid)) {
                model_.add_shard(*node_, 0, uid, 86'400'000);
            }
        }
        ASSERT_TRUE(node_->step_until([&] { return model_.collect(), model_.waiting() == 0; }));
        SimRandom random(7);
        for (unsigned i = 0; i < count; ++i) {
            const auto bytes =
                static_cast<std::uint32_t>(i % 5 == 0 ? 90'000 : 50 + random.below(3000));
            ASSERT_TRUE(node_->step_until(
                [&] { return model_.append(*node_, 1 + i % shards, bytes, AckLevel::quorum); },
                1'000'000'000));
            node_->step();
        }
        ASSERT_TRUE(node_->step_until([&] { return model_.collect(), model_.waiting() == 0; }));
        node_->drain();
        world_.settle();
    }
    // As many whole passes from now on.
    bool passes(std::uint64_t count, std::uint64_t timeout_ns = 120'000'000'000) {
        // The one under way may have been past the place already.
        const std::uint64_t wanted = node_->group(0).counters().scrub_passes + count + 1;
        return node_->step_until([&] { return node_->group(0).counters().scrub_passes >= wanted; },
                                 timeout_ns);
    }
    void check(bool after_start = false) {
        try {
            model_.check(*node_, after_start);
        } catch (const Broken& broken) {
            ADD_FAILURE() << broken.what();
        }
    }
    [[nodiscard]] std::string container(std::uint32_t number = 0) const {
        return container_name(1, number);
    }
    [[nodiscard]] std::vector<std::byte> bytes_of(unsigned replica, std::uint32_t number = 0) {
        auto bytes = world_.read_raw(replica, container(number));
        return bytes ? std::move(*bytes) : std::vector<std::byte>{};
    }
    struct Placed {
        std::uint64_t offset = 0;
        FrameHeader header;
    };
    // Frames of a shard in the first container, by where they stand.
    [[nodiscard]] std::vector<Placed> frames_of(std::uint64_t uid, unsigned replica = 0) {
        std::vector<Placed> found;
        const std::vector<std::byte> bytes = bytes_of(replica);
        for (std::uint64_t at = 0; at + sizeof(FrameHeader) <= bytes.size();) {
            FrameHeader header;
            if (check_frame(Bytes(bytes).subspan(at), 0, header) == FrameFault::none) {
                if (header.shard == uid) {
                    found.push_back({at, header});
                }
                at += header.total_bytes();
            } else {
                at += frame_alignment;
            }
        }
        return found;
    }
    [[nodiscard]] std::uint64_t count(Kind kind) const {
        return static_cast<std::uint64_t>(
            std::ranges::count(node_->scrubbed(), kind, &ScrubEvent::kind));
    }
    // Reads the shard and returns what is told to be lost; everything else has to be readable.
    std::vector<LostRange> lost_of(std::uint64_t uid) {
        std::vector<LostRange> lost;
        ShardGroup& group = node_->group(0);
        SimContainerFiles files(world_);
        SegmentReader reader(files, node_->set_id());
        std::set<Sequence> seen;
        ReadStart from;
        for (unsigned rounds = 0; rounds < 10'000; ++rounds) {
            ReadPlan plan;
            EXPECT_TRUE(group.plan_read(static_cast<ShardUid>(uid), from, 200'000, plan));
            from = {ReadFrom::sequence, plan.first_sequence, 0};
            if (plan.lost_until != 0) {
                lost.push_back({plan.first_sequence, plan.lost_until});
                from.sequence = plan.lost_until;
                group.release(plan);
                continue;
            }
            if (plan.first_sequence >= plan.end_sequence) {
                group.release(plan);
                break;
            }
            ReadOutcome outcome;
            const Status got = reader.read(
                plan, [&](const RecordView& record) { return seen.insert(record.sequence), true; },
                outcome);
            group.release(plan);
            EXPECT_TRUE(got) << "shard " << uid << " at " << outcome.next_sequence;
            if (!got || HasFailure()) {
                break;
            }
            from.sequence = outcome.next_sequence;
        }
        for (const auto& [sequence, record] : model_.shards().at(uid).records) {
            const bool is_lost = std::ranges::any_of(lost, [&, at = sequence](const LostRange& r) {
                return at >= r.from && at < r.until;
            });
            EXPECT_EQ(seen.contains(sequence), !is_lost) << "shard " << uid << " " << sequence;
        }
        return lost;
    }

    SimWorld world_{{.seed = 91}};
    Model model_{world_};
    NodeOptions options_;
    std::unique_ptr<SimNode> node_;
};

TEST_F(Scrubbing, WhatIsSoundIsReadBackAndLeftAlone) {
    start();
    fill();
    const auto before = bytes_of(1);
    ASSERT_TRUE(passes(2));
    const GroupCounters& counted = node_->group(0).counters();
    std::uint64_t stored = 0;
    for (const std::uint64_t bytes : node_->group(0).gauges().stored_bytes) {
        stored += bytes;
    }
    EXPECT_GE(counted.scrub_read_bytes, 2 * stored);
    EXPECT_EQ(counted.scrub_doubts + counted.scrub_unkept, 0U);
    EXPECT_TRUE(node_->scrubbed().empty());
    EXPECT_TRUE(bytes_of(1) == before);
    EXPECT_NE(node_->group(0).gauges().scrub_ended_ms, 0);
    check();
}

TEST_F(Scrubbing, OffItReadsNothing) {
    options_.scrub_bytes_per_s = 0;
    start();
    fill();
    const std::uint64_t reads = world_.io_count(io_reads);
    node_->step_until([] { return false; }, 90'000'000'000);
    EXPECT_EQ(world_.io_count(io_reads), reads);
    EXPECT_EQ(node_->group(0).gauges().scrub, ScrubState::off);
}

TEST_F(Scrubbing, ItKeepsToItsRate) {
    options_.scrub_bytes_per_s = 2U << 20;
    start();
    fill(800);
    const GroupCounters& counted = node_->group(0).counters();
    // A pass takes longer than this.
    ASSERT_GT(node_->group(0).gauges().stored_bytes[0], 4U << 20);
    const std::uint64_t before = counted.scrub_read_bytes;
    const std::uint64_t since_ns = world_.now_ns();
    node_->step_until([] { return false; }, 4'000'000'000);
    const double seconds = static_cast<double>(world_.now_ns() - since_ns) / 1e9;
    const double rate = static_cast<double>(counted.scrub_read_bytes - before) / seconds;
    EXPECT_LE(rate, static_cast<double>(2U << 20) * 1.15);
    EXPECT_GT(rate, static_cast<double>(2U << 20) * 0.5);
    EXPECT_EQ(node_->group(0).gauges().scrub, ScrubState::running);
}

// Each kind of damage to each replica in turn, and at last to all three at places of their own:
// every byte comes back.
TEST_F(Scrubbing, DamagedCopiesBecomeWhatTheyWere) {
    start();
    fill();
    const auto good = bytes_of(0);
    ASSERT_TRUE(good == bytes_of(1) && good == bytes_of(2));
    const auto frames = frames_of(2);
    ASSERT_GT(frames.size(), 20U);
    SimRandom random(3);
    const auto damage = [&](unsigned replica, unsigned kind, const Placed& place) {
        const std::uint64_t total = place.header.total_bytes();
        const std::uint64_t block = align_down(place.offset, block_bytes);
        switch (kind) {
            case 0:
                return world_.flip_bit(replica, container(), place.offset + 200);
            case 1:
                return world_.flip_bit(replica, container(), place.offset + 44);  // its header
            case 2:
                return world_.corrupt_range(replica, container(), place.offset, total);
            case 3:  // a write that was lost
                return world_.overwrite(replica, container(), block,
                                        std::vector<std::byte>(2 * block_bytes));
            case 4:  // one that went elsewhere
                return world_.overwrite(
                    replica, container(), block,
                    Bytes(good).subspan(frames[1].offset / block_bytes * block_bytes, block_bytes));
            default:
                return world_.truncate(replica, container(), place.offset + 64);
        }
    };
    for (unsigned kind = 0; kind < 6; ++kind) {
        const auto replica = kind % replica_count;
        ASSERT_TRUE(damage(replica, kind, frames[frames.size() / 2 + kind]));
        ASSERT_FALSE(bytes_of(replica) == good) << kind;
        ASSERT_TRUE(passes(1)) << kind;
        // A truncated file ends where the last frame does.
        auto now = bytes_of(replica);
        now.resize(good.size());
        EXPECT_TRUE(now == good) << "kind " << kind;
    }
    for (unsigned i = 0; i < 60; ++i) {
        ASSERT_TRUE(damage(i % replica_count, i % 3, frames[i % (frames.size() - 2)]) || true);
        if (i % 12 == 11) {
            ASSERT_TRUE(passes(1));
        }
    }
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        auto now = bytes_of(replica);
        now.resize(good.size());
        EXPECT_TRUE(now == good) << "replica " << replica;
    }
    EXPECT_EQ(count(Kind::lost) + count(Kind::unkept) + count(Kind::unresolved), 0U);
    EXPECT_GT(count(Kind::repaired), 10U);
    check();
    stop();
    start();
    check(true);
}

// An error of the drive is a bad copy, too; one that stays is the replica's end.
TEST_F(Scrubbing, ASectorThatCannotBeReadIsWrittenAgain) {
    start();
    fill();
    world_.fail_at(3, 5, io_reads, 0b010);
    ASSERT_TRUE(passes(1));
    EXPECT_EQ(count(Kind::repaired), 1U);
    EXPECT_EQ(node_->failures(), 0U);
    world_.faults(1).read_error_per_million = 1'000'000;
    world_.faults(1).write_error_per_million = 1'000'000;
    node_->hold_back(true);
    ASSERT_TRUE(node_->step_until([&] { return (node_->out() & 0b010) != 0; }));
    EXPECT_EQ(count(Kind::lost), 0U);
    world_.faults(1) = {};
    node_->hold_back(false);
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    ASSERT_TRUE(passes(1));
    check();
}

TEST_F(Scrubbing, WhatNoCopyHasIsLostOnceAndNothingElse) {
    start();
    fill();
    // The first, one in the middle of a write, the last, and two side by side.
    for (const std::uint64_t uid : {1U, 2U, 3U}) {
        const auto frames = frames_of(uid);
        ASSERT_GT(frames.size(), 12U);
        std::vector<Placed> gone;
        if (uid == 1) {
            gone = {frames.front()};
        } else if (uid == 2) {
            gone = {frames[5], frames[6], frames[10]};
        } else {
            gone = {frames.back()};
        }
        for (const Placed& place : gone) {
            for (unsigned replica = 0; replica < replica_count; ++replica) {
                ASSERT_TRUE(world_.corrupt_range(replica, container(), place.offset,
                                                 place.header.total_bytes()));
            }
        }
        const std::uint64_t records_before = node_->group(0).gauges().lost_records;
        ASSERT_TRUE(passes(3));
        std::uint64_t records = 0;
        for (const Placed& place : gone) {
            records += place.header.record_count;
        }
        EXPECT_EQ(node_->group(0).gauges().lost_records - records_before, records) << uid;
        for (unsigned life = 0; life < 2; ++life) {
            std::uint64_t told = 0;
            for (const LostRange& range : lost_of(uid)) {
                told += range.until - range.from;
            }
            EXPECT_EQ(told, records) << "shard " << uid << " life " << life;
            if (life == 0) {
                stop();
                start();
                ASSERT_TRUE(passes(1));
                EXPECT_EQ(count(Kind::lost), 0U) << "told again";
            }
        }
    }
    // New records come behind it as ever, and retention does not stumble over it.
    fill(60);
    for (const std::uint64_t uid : {1U, 2U, 3U}) {
        (void)lost_of(uid);
    }
}

// While a copy cannot be looked at nothing is lost (R8): it may be the good one.
TEST_F(Scrubbing, NothingIsLostWhileAReplicaIsAway) {
    start();
    fill();
    const auto good = bytes_of(0);
    node_->hold_back(true);
    world_.set_gone(2);
    const auto place = frames_of(1)[4];
    for (const unsigned replica : {0U, 1U}) {
        ASSERT_TRUE(
            world_.corrupt_range(replica, container(), place.offset, place.header.total_bytes()));
    }
    ASSERT_TRUE(passes(2));
    EXPECT_EQ(count(Kind::lost), 0U);
    EXPECT_GT(count(Kind::unresolved), 0U);
    EXPECT_EQ(node_->group(0).gauges().lost_records, 0U);
    world_.set_gone(2, false);
    node_->hold_back(false);
    ASSERT_TRUE(node_->step_until([&] { return node_->whole(); }));
    ASSERT_TRUE(passes(1));
    EXPECT_EQ(count(Kind::lost), 0U);
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        const auto now = bytes_of(replica);
        EXPECT_TRUE(std::equal(
            good.begin() + static_cast<std::ptrdiff_t>(place.offset),
            good.begin() + static_cast<std::ptrdiff_t>(place.offset + place.header.total_bytes()),
            now.begin() + static_cast<std::ptrdiff_t>(place.offset)))
            << replica;
    }
    check();
}

// Drives that answer a read wrongly now and then make nothing worse.
TEST_F(Scrubbing, WrongAnswersOfReadsLoseNothing) {
    start();
    fill();
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        world_.faults(replica).read_flip_per_million = 60'000;
    }
    ASSERT_TRUE(passes(6, 600'000'000'000));
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        world_.faults(replica) = {};
    }
    EXPECT_EQ(count(Kind::lost), 0U);
    EXPECT_EQ(node_->group(0).gauges().lost_records, 0U);
    check();
    stop();
    start();
    check(true);
}

// A drive that takes writes and keeps the old bytes does not hold the pass up.
TEST_F(Scrubbing, AReplicaThatKeepsNothingIsToldAndPassedOver) {
    start();
    fill();
    const auto place = frames_of(1)[4];
    ASSERT_TRUE(world_.corrupt_range(1, container(), place.offset, place.header.total_bytes()));
    world_.faults(1).lost_write_per_million = 1'000'000;
    ASSERT_TRUE(passes(1));
    EXPECT_GT(count(Kind::unkept), 0U);
    EXPECT_GT(node_->group(0).counters().scrub_unkept, 0U);
    EXPECT_EQ(count(Kind::lost), 0U);
}

// Trims, drops, new records, a replica that comes and goes, crashes: all beside it.
TEST_F(Scrubbing, BesideEverythingElse) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        SimWorld world{{.seed = 500 + seed}};
        Model model(world);
        NodeOptions options;
        options.geometry = small_geometry();
        options.geometry.chunk_unit_bytes = 64U << 10;
        options.scrub_bytes_per_s = 256U << 20;
        SimRandom random(seed);
        std::unique_ptr<SimNode> node;
        for (unsigned life = 0; life < 3; ++life) {
            std::string message;
            auto started = SimNode::start(world, options, message);
            ASSERT_TRUE(started.has_value()) << message;
            node = std::move(*started);
            model.next_life();
            ASSERT_NO_THROW(model.check(*node, true)) << seed;
            for (std::uint64_t uid = 1 + 10 * life; uid < 5 + 10 * life; ++uid) {
                model.add_shard(*node, 0, uid, 3'600'000);
            }
            node->step_until([&] { return model.collect(), model.waiting() == 0; });
            for (unsigned step = 0; step < 1500; ++step) {
                const std::uint64_t uid = 1 + 10 * life + random.below(4);
                if (model.shards().contains(uid) && !model.shards().at(uid).dropping) {
                    (void)model.append(*node, uid, static_cast<std::uint32_t>(random.below(20'000)),
                                       AckLevel::quorum);
                }
                node->step();
                model.collect();
                const bool is_whole = step < 500 || step > 800;  // with the third replica
                if (step % 200 == 150 && is_whole) {
                    const auto bytes = world.read_raw(step / 200 % 2, container_name(1, 0));
                    if (bytes && !bytes->empty()) {
                        (void)world.corrupt_range(step / 200 % 2, container_name(1, 0),
                                                  random.below(bytes->size()), 100);
                    }
                }
                if (step == 500) {
                    world.set_gone(2);
                }
                if (step == 700) {
                    world.set_gone(2, false);
                    world.advance(1'900'000'000'000);
                }
                if (step == 1100) {
                    model.drop_shard(*node, 2 + 10 * life);
                    world.advance(1'900'000'000'000);
                }
                // One bad copy at a time: the next damage waits for a pass.
                if (step % 200 == 149 && is_whole) {
                    ASSERT_TRUE(node->step_until([&] { return node->whole(); })) << seed;
                    const std::uint64_t passes = node->group(0).counters().scrub_passes + 2;
                    ASSERT_TRUE(node->step_until([&] {
                        return node->group(0).counters().scrub_passes >= passes;
                    })) << seed;
                }
            }
            node->step_until([&] { return model.collect(), model.waiting() == 0; });
            for (const ScrubEvent& event : node->scrubbed()) {
                EXPECT_NE(event.kind, Kind::lost) << seed;
            }
            ASSERT_NO_THROW(model.check(*node, false)) << seed;
            world.crash_power();
            node.reset();
            model.forget_waiters();
            world.restart();
        }
    }
}

}  // namespace
}  // namespace penstock::test
