// Idempotent appends on simulated disks: killed and powered off at any moment, every record that is
// put again is stored once and has the sequence that was told first (docs/idempotent-puts.md).
#include <map>

#include <gtest/gtest.h>

#include "tests/sim/node.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t window = 64;

struct Waiting : CommitWaiter {
    bool done = false;
    Errc outcome = Errc::ok;
};

class SimProducers : public ::testing::Test {
protected:
    void open(std::uint64_t seed) {
        world_ = std::make_unique<SimWorld>(SimOptions{.seed = seed});
        options_.geometry = small_geometry();
        random_ = std::make_unique<SimRandom>(seed * 7919);
    }
    void start() {
        std::string message;
        auto node = SimNode::start(*world_, options_, message);
        ASSERT_TRUE(node.has_value()) << describe(node.error()) << " " << message;
        node_ = std::move(*node);
    }
    void add_shard() {
        Waiting added;
        added.on_done = tell;
        node_->group(0).add_shard(ShardUid{1}, 86'400'000, added);
        ASSERT_TRUE(node_->step_until([&] { return added.done; }));
    }
    static void tell(CommitWaiter& self, Errc outcome) noexcept {
        static_cast<Waiting&>(self).done = true;
        static_cast<Waiting&>(self).outcome = outcome;
    }
    AppendVerdict put(std::uint64_t batch, std::uint32_t offset, Appended& out,
                      std::uint64_t producer = 5) {
        const ProducerMark mark{producer, 0, offset, batch};
        const std::string key = "k" + std::to_string(batch);
        const std::string data(batch % 5 == 0 ? 60'000 : 300, 'x');
        RecordIn record;
        record.partition_key = as_bytes(key);
        record.data = as_bytes(data);
        record.producer = &mark;
        ShardGroup& group = node_->group(0);
        return group.append(*group.find(ShardUid{1}), record, AckLevel::quorum, out);
    }
    // Puts one record, at the latest when there is room. Whether it was there already.
    bool put_again(std::uint64_t batch, std::uint64_t producer = 5) {
        Appended out;
        EXPECT_TRUE(node_->step_until(
            [&] { return put(batch, 0, out, producer) == AppendVerdict::accepted; }));
        return out.repeated;
    }
    void pass_minutes(unsigned minutes) {
        for (; minutes != 0; --minutes) {
            world_->advance(60'000'000'000);
            node_->step_until([] { return false; }, 50'000'000);
        }
    }
    // Marks of all records that are there, and their sequences.
    void read(std::map<std::pair<std::uint64_t, std::uint32_t>, Sequence>& found) {
        SimContainerFiles files(*world_);
        SegmentReader reader(files, node_->set_id());
        for (Sequence at = 0;;) {
            ReadPlan plan;
            const ReadStart from{.from = at == 0 ? ReadFrom::trim_horizon : ReadFrom::sequence,
                                 .sequence = at};
            ASSERT_TRUE(node_->group(0).plan_read(ShardUid{1}, from, 4U << 20, plan));
            if (plan.first_sequence >= plan.end_sequence) {
                node_->group(0).release(plan);
                return;
            }
            ReadOutcome outcome;
            const Status got = reader.read(
                plan,
                [&](const RecordView& record) {
                    EXPECT_TRUE(record.has_producer);
                    const std::pair place(record.producer.batch, record.producer.offset_in_batch);
                    EXPECT_TRUE(found.emplace(place, record.sequence).second)
                        << "batch " << place.first << " offset " << place.second
                        << " is there twice";
                    return true;
                },
                outcome);
            node_->group(0).release(plan);
            ASSERT_TRUE(got);
            at = outcome.next_sequence;
        }
    }
    // One life: new batches, and those whose answers did not come again; then it ends somehow.
    void live() {
        const std::uint64_t steps = 5 + random_->below(60);
        for (std::uint64_t step = 0; step < steps; ++step) {
            const bool repeats = last_ != 0 && random_->below(3) == 0;
            const std::uint64_t back = std::min(last_, window);
            const std::uint64_t batch = repeats ? last_ - random_->below(back) : ++last_;
            const auto count = static_cast<std::uint32_t>(1 + batch % 7);
            for (std::uint32_t offset = 0; offset < count; ++offset) {
                one(batch, offset, random_->below(4) == 0);
            }
            for (std::uint64_t turn = random_->below(20); turn > 0; --turn) {
                node_->step();
            }
        }
        const bool quiet = random_->below(4) == 0;
        if (quiet) {
            node_->step_until([] { return false; }, 3'000'000'000);
        }
    }
    void one(std::uint64_t batch, std::uint32_t offset, bool waits) {
        Appended out;
        AppendVerdict verdict{};
        ASSERT_TRUE(node_->step_until(
            [&] {
                verdict = put(batch, offset, out);
                return verdict == AppendVerdict::accepted ||
                       verdict == AppendVerdict::producer_window;
            },
            5'000'000'000));
        if (verdict == AppendVerdict::producer_window) {
            // Only what lies as far back as the window is.
            ASSERT_LE(batch + window, last_);
            return;
        }
        repeated_ += out.repeated ? 1U : 0U;
        const auto told = told_.find({batch, offset});
        ASSERT_TRUE(told == told_.end() || (out.repeated && out.sequence == told->second))
            << "batch " << batch << " offset " << offset << ": told " << told->second << ", now "
            << out.sequence;
        auto waiter = std::make_unique<Waiting>();
        waiter->sequence = out.sequence;
        waiter->on_done = tell;
        ShardGroup& group = node_->group(0);
        group.wait_commit(*group.find(ShardUid{1}), *waiter);
        if (waits) {
            ASSERT_TRUE(node_->step_until([&] { return waiter->done; }));
            ASSERT_EQ(waiter->outcome, Errc::ok);
            told_[{batch, offset}] = out.sequence;
        }
        waiting_.push_back(std::move(waiter));
    }
    void die() {
        random_->below(2) == 0 ? world_->crash_power() : world_->crash_kill();
        node_.reset();
        waiting_.clear();
        world_->restart();
    }

    std::unique_ptr<SimWorld> world_;
    std::unique_ptr<SimRandom> random_;
    NodeOptions options_;
    std::unique_ptr<SimNode> node_;
    std::vector<std::unique_ptr<Waiting>> waiting_;
    std::uint64_t last_ = 0;
    std::uint64_t repeated_ = 0;
    std::map<std::pair<std::uint64_t, std::uint32_t>, Sequence> told_;
};

TEST_F(SimProducers, NothingIsStoredTwiceHoweverANodeDies) {
    for (std::uint64_t seed = 1; seed <= 40 && !HasFailure(); ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        open(seed);
        last_ = 0;
        told_.clear();
        start();
        add_shard();
        for (int life = 0; life < 8 && !HasFailure(); ++life) {
            live();
            die();
            start();
        }
        if (HasFailure()) {
            return;
        }
        std::map<std::pair<std::uint64_t, std::uint32_t>, Sequence> found;
        read(found);
        for (const auto& [place, sequence] : told_) {
            ASSERT_TRUE(found.contains(place));
            ASSERT_EQ(found[place], sequence);
        }
        node_.reset();
    }
    EXPECT_GT(repeated_, 1000U);
}

TEST_F(SimProducers, AShardThatWasAskedTakesNoMoreMarkedRecords) {
    open(3);
    start();
    add_shard();
    Appended first;
    ASSERT_TRUE(node_->step_until([&] { return put(1, 0, first) == AppendVerdict::accepted; }));
    ShardGroup& group = node_->group(0);
    ShardLog& shard = *group.find(ShardUid{1});
    Appended out;
    EXPECT_EQ(group.look_up(shard, {5, 0, 0, 1}, out), AppendVerdict::accepted);
    EXPECT_TRUE(out.repeated);
    EXPECT_EQ(out.sequence, first.sequence);
    EXPECT_EQ(group.look_up(shard, {5, 0, 1, 1}, out), AppendVerdict::accepted);
    EXPECT_FALSE(out.repeated);
    EXPECT_EQ(put(1, 1, out), AppendVerdict::shard_closed);
    EXPECT_EQ(put(1, 0, out), AppendVerdict::accepted);  // what it has it still tells
    EXPECT_TRUE(out.repeated);
    RecordIn plain;
    plain.data = as_bytes(std::string_view("x"));
    EXPECT_EQ(group.append(shard, plain, AckLevel::quorum, out), AppendVerdict::accepted);
}

TEST_F(SimProducers, AShardThatIsDroppedIsForgotten) {
    open(4);
    start();
    add_shard();
    Appended out;
    ASSERT_TRUE(node_->step_until([&] { return put(1, 0, out) == AppendVerdict::accepted; }));
    EXPECT_EQ(node_->group(0).gauges().producers, 1U);
    Waiting dropped;
    dropped.on_done = tell;
    node_->group(0).drop_shard(ShardUid{1}, dropped);
    ASSERT_TRUE(node_->step_until([&] { return dropped.done; }));
    EXPECT_EQ(node_->group(0).gauges().producers, 0U);
    node_.reset();
    world_->crash_kill();
    world_->restart();
    start();
    EXPECT_EQ(node_->group(0).gauges().producers, 0U);
}

constexpr std::int64_t days_ms = 86'400'000;

TEST_F(SimProducers, AClockThatWasAheadKeepsNobodyForEver) {
    open(5);
    start();
    add_shard();
    world_->leap_wall(10 * days_ms);
    pass_minutes(1);
    EXPECT_FALSE(put_again(1));
    world_->leap_wall(-10 * days_ms);
    pass_minutes(5);
    EXPECT_TRUE(put_again(1));
    pass_minutes(150);  // longer than a leap holds up anything
    EXPECT_FALSE(put_again(1, 6));
    EXPECT_EQ(node_->group(0).gauges().producers, 1U);
    // Nor does it after a start, though the records' arrivals are ahead.
    EXPECT_FALSE(put_again(2));
    pass_minutes(1);
    world_->crash_kill();
    node_.reset();
    world_->restart();
    start();
    EXPECT_TRUE(put_again(2));
    pass_minutes(61);
    EXPECT_FALSE(put_again(7, 7));
    EXPECT_EQ(node_->group(0).gauges().producers, 1U);
}

TEST_F(SimProducers, AClockThatLeapsAheadMakesNobodyForgotten) {
    open(6);
    start();
    add_shard();
    EXPECT_FALSE(put_again(1));
    world_->leap_wall(10 * days_ms);
    for (std::uint64_t batch = 2; batch < 12; ++batch) {
        pass_minutes(10);
        EXPECT_TRUE(put_again(batch - 1)) << "batch " << batch - 1;
        EXPECT_FALSE(put_again(batch));
    }
}

}  // namespace
}  // namespace penstock::test
