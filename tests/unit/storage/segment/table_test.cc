// The group table: a snapshot says the same as the entries before it, and contradictions are
// refused.
#include "storage/segment/table.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "storage/io/sim_random.h"

namespace penstock {
namespace {

template <typename Entry>
bool apply(GroupTable& table, const Entry& entry) {
    return table.apply(EncodedEntry<Entry>(entry).bytes());
}

std::unique_ptr<GroupTable> replayed(const GroupTable& table) {
    auto copy = std::make_unique<GroupTable>(32);
    bool good = true;
    table.snapshot({.epoch = 3, .started_epoch = 2},
                   [&](Bytes entry) { good = copy->apply(entry) && good; });
    return good ? std::move(copy) : nullptr;
}

void expect_same(const GroupTable& a, const GroupTable& b) {
    ASSERT_EQ(a.shards().size(), b.shards().size());
    EXPECT_EQ(a.space().free_units(), b.space().free_units());
    for (const auto& [uid, shard] : a.shards()) {
        const ShardTable& other = b.shards().at(uid);
        EXPECT_EQ(shard.end, other.end) << "shard " << uid;
        EXPECT_EQ(shard.next_sequence, other.next_sequence);
        EXPECT_EQ(shard.trim_sequence, other.trim_sequence);
        EXPECT_EQ(shard.next_ordinal, other.next_ordinal);
        EXPECT_EQ(shard.last_arrival_ms, other.last_arrival_ms);
        EXPECT_EQ(shard.retention_ms, other.retention_ms);
        ASSERT_EQ(shard.lost.size(), other.lost.size());
        ASSERT_EQ(shard.chunks.size(), other.chunks.size());
        for (std::size_t i = 0; i < shard.chunks.size(); ++i) {
            const Chunk& chunk = shard.chunks[i];
            const Chunk& copy = other.chunks[i];
            EXPECT_EQ(chunk.ordinal, copy.ordinal);
            EXPECT_EQ(chunk.end_offset, copy.end_offset)
                << "shard " << uid << " chunk " << chunk.ordinal;
            EXPECT_EQ(chunk.sealed, copy.sealed);
            EXPECT_EQ(chunk.missing, copy.missing);
            if (chunk.end_offset != 0) {
                EXPECT_EQ(chunk.before_sequence, copy.before_sequence);
                EXPECT_EQ(chunk.end_sequence, copy.end_sequence);
                EXPECT_EQ(chunk.end_arrival_ms, copy.end_arrival_ms);
            }
            ASSERT_EQ(chunk.index.size(), copy.index.size());
        }
    }
}

TEST(GroupTable, ASnapshotReplaysToTheSameTable) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SimRandom random(seed);
        GroupTable table(32);
        for (std::uint32_t container = 0; container < 8; ++container) {
            ASSERT_TRUE(apply(table, ContainerEntry{container, 32}));
        }
        std::uint64_t next_uid = 1;
        std::int64_t now = 1000;
        std::map<std::uint64_t, std::uint64_t> filling;  // ordinal written now, by shard
        for (unsigned step = 0; step < 400; ++step) {
            ++now;
            if (table.shards().size() < 3) {
                ASSERT_TRUE(apply(table, ShardEntry{.uid = next_uid, .retention_ms = 5}));
                filling[next_uid++] = 0;
                continue;
            }
            auto it = table.shards().begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random.below(table.shards().size())));
            auto& [uid, shard] = *it;
            const auto what = random.below(12);
            if (what < 3 || shard.chunks.empty()) {
                if (shard.next_ordinal > filling[uid] + 1) {
                    continue;  // one is ahead already
                }
                const auto run =
                    table.space().find(1 + static_cast<std::uint32_t>(random.below(3)));
                if (run) {
                    ASSERT_TRUE(apply(table, TakeChunkEntry{.uid = uid,
                                                            .ordinal = shard.next_ordinal,
                                                            .container = run->container,
                                                            .unit = run->unit,
                                                            .units = run->units,
                                                            .missing = static_cast<std::uint32_t>(
                                                                random.below(8))}));
                }
            } else if (what < 9) {
                Chunk* chunk = shard.chunk(filling[uid]);
                if (chunk == nullptr) {
                    continue;
                }
                const bool seal = random.below(4) == 0;
                ASSERT_TRUE(apply(
                    table, PointEntry{.uid = uid,
                                      .ordinal = chunk->ordinal,
                                      .offset = chunk->end_offset + 4096 * (1 + random.below(200)),
                                      .sequence = shard.end.sequence + 1 + random.below(50),
                                      .epoch = 2,
                                      .arrival_ms = now,
                                      .crc = static_cast<std::uint32_t>(random.next()),
                                      .sealed = seal ? 1U : 0U}));
                if (seal) {
                    ++filling[uid];
                }
            } else if (what == 9) {
                const std::uint64_t first = shard.chunks.front().ordinal;
                if (shard.chunks.front().sealed) {
                    ASSERT_TRUE(apply(
                        table, TrimEntry{uid, shard.chunks.front().end_sequence + 1, first + 1}));
                }
            } else if (what == 10) {
                ASSERT_TRUE(apply(table, ReplicaLeftEntry{random.below(3)}));
            } else if (random.below(10) == 0) {
                const std::uint64_t gone = uid;
                ASSERT_TRUE(apply(table, DropShardEntry{gone}));
                continue;
            }
            if (step % 20 == 0) {
                const auto copy = replayed(table);
                ASSERT_NE(copy, nullptr) << "seed " << seed << " step " << step;
                expect_same(table, *copy);
                ASSERT_FALSE(HasFailure()) << "seed " << seed << " step " << step;
            }
        }
    }
}

// The chunk taken ahead kept the end its predecessor had then; after a trim a snapshot ended there.
TEST(GroupTable, ASnapshotKeepsWhereAShardEnded) {
    GroupTable table(32);
    ASSERT_TRUE(apply(table, ShardEntry{.uid = 1}));
    ASSERT_TRUE(apply(table, CloseShardEntry{1, 41}));
    const auto copy = replayed(table);
    ASSERT_NE(copy, nullptr);
    EXPECT_TRUE(copy->find(ShardUid{1})->closed);
    EXPECT_EQ(copy->find(ShardUid{1})->closed_through(), 40U);
    ASSERT_TRUE(apply(table, LostRangeEntry{1, 30, 41}));
    EXPECT_EQ(table.find(ShardUid{1})->closed_through(), 0U);
}

TEST(GroupTable, TrimmingBeforeAChunkTakenAheadKeepsTheShardsEnd) {
    GroupTable table(32);
    ASSERT_TRUE(apply(table, ContainerEntry{0, 32}));
    ASSERT_TRUE(apply(table, ShardEntry{.uid = 1}));
    ASSERT_TRUE(apply(
        table, TakeChunkEntry{.uid = 1, .ordinal = 0, .container = 0, .unit = 0, .units = 1}));
    ASSERT_TRUE(apply(
        table, TakeChunkEntry{.uid = 1, .ordinal = 1, .container = 0, .unit = 1, .units = 1}));
    ASSERT_TRUE(apply(table, PointEntry{.uid = 1,
                                        .ordinal = 0,
                                        .offset = 4096,
                                        .sequence = 200,
                                        .epoch = 1,
                                        .arrival_ms = 5,
                                        .crc = 9,
                                        .sealed = 1}));
    ASSERT_TRUE(apply(table, TrimEntry{1, 201, 1}));
    const auto copy = replayed(table);
    ASSERT_NE(copy, nullptr);
    EXPECT_EQ(copy->find(ShardUid{1})->end, (ChainEnd{200, 1, 9}));
}

// Behind a lost range there is a point of its own, wherever it stands, and snapshots keep it.
TEST(GroupTable, APointBehindALostRangeIsKept) {
    constexpr std::uint64_t mib = 1U << 20;
    GroupTable table(32);
    ASSERT_TRUE(apply(table, ContainerEntry{0, 32}));
    ASSERT_TRUE(apply(table, ShardEntry{.uid = 1}));
    ASSERT_TRUE(apply(
        table, TakeChunkEntry{.uid = 1, .ordinal = 0, .container = 0, .unit = 0, .units = 16}));
    const auto point = [&](std::uint64_t offset, Sequence sequence) {
        return apply(table, PointEntry{.uid = 1, .offset = offset, .sequence = sequence});
    };
    for (std::uint64_t i = 1; i <= 8; ++i) {
        ASSERT_TRUE(point(i * mib / 2, 100 * i));
    }
    ShardTable& shard = *table.find(ShardUid{1});
    Chunk& chunk = shard.chunks.front();
    const std::size_t before = chunk.index.size();
    ASSERT_TRUE(apply(table, LostRangeEntry{1, 150, 161}));
    EXPECT_TRUE(shard.add_point(chunk, {mib + 808, 160, 5}));
    EXPECT_FALSE(shard.add_point(chunk, {mib + 808, 160, 5}));
    EXPECT_FALSE(shard.add_point(chunk, {4 * mib, 800, 5})) << "the chunk ends there";
    for (std::uint64_t i = 9; i <= 14; ++i) {
        ASSERT_TRUE(point(i * mib / 2, 100 * i));
    }
    const auto copy = replayed(table);
    ASSERT_NE(copy, nullptr);
    const auto& index = copy->find(ShardUid{1})->chunks.front().index;
    ASSERT_EQ(index.size(), chunk.index.size());
    EXPECT_EQ(index.size(), before + 1 + 3);
    for (std::size_t i = 0; i < index.size(); ++i) {
        EXPECT_EQ(index[i].offset, chunk.index[i].offset);
        EXPECT_EQ(index[i].sequence, chunk.index[i].sequence);
    }
    EXPECT_TRUE(std::ranges::any_of(
        index, [](const IndexPoint& p) { return p.offset == mib + 808 && p.sequence == 160; }));
}

TEST(GroupTable, ProducerRunsAreKeptForWhoAsksAndThenNoMore) {
    GroupTable table(32);
    ProducerRunEntry run{.uid = 1, .producer = 5, .batch = 7, .first_sequence = 3};
    EXPECT_FALSE(apply(table, run)) << "there is no such shard";
    ASSERT_TRUE(apply(table, ShardEntry{.uid = 1}));
    EXPECT_TRUE(apply(table, run));
    run.batch = 8;
    EXPECT_TRUE(apply(table, run));
    const auto runs = table.take_producer_runs();
    ASSERT_EQ(runs.size(), 2U);
    EXPECT_EQ(runs[1].batch, 8U);
    EXPECT_TRUE(apply(table, run));
    EXPECT_TRUE(table.take_producer_runs().empty());
    static_assert(sizeof(ProducerRunEntry) == 120 && offsetof(ProducerRunEntry, bits) == 56);
}

TEST(GroupTable, ContradictingEntriesAreRefused) {
    GroupTable table(32);
    EXPECT_TRUE(apply(table, ContainerEntry{0, 32}));
    EXPECT_FALSE(apply(table, ContainerEntry{0, 32}));
    EXPECT_FALSE(apply(table, ContainerEntry{1, 0}));
    EXPECT_FALSE(apply(table, ContainerEntry{(1U << 20) + 1, 4}));
    EXPECT_TRUE(apply(table, ShardEntry{.uid = 1}));
    EXPECT_FALSE(apply(table, ShardEntry{.uid = 1}));
    EXPECT_FALSE(apply(table, ShardEntry{.uid = 0}));
    EXPECT_FALSE(apply(table, ShardEntry{.uid = 2, .next_sequence = 0}));
    EXPECT_FALSE(apply(table, DropShardEntry{2}));
    EXPECT_FALSE(apply(table, TakeChunkEntry{.uid = 2, .container = 0, .unit = 0, .units = 1}));
    EXPECT_FALSE(apply(table, TakeChunkEntry{.uid = 1, .container = 3, .unit = 0, .units = 1}));
    EXPECT_FALSE(apply(table, TakeChunkEntry{.uid = 1, .container = 0, .unit = 31, .units = 2}));
    EXPECT_FALSE(apply(table, TakeChunkEntry{.uid = 1, .container = 0, .unit = 0, .units = 0}));
    EXPECT_TRUE(apply(table, TakeChunkEntry{.uid = 1, .container = 0, .unit = 0, .units = 2}));
    EXPECT_FALSE(apply(
        table, TakeChunkEntry{.uid = 1, .ordinal = 1, .container = 0, .unit = 1, .units = 1}));
    EXPECT_FALSE(apply(
        table, TakeChunkEntry{.uid = 1, .ordinal = 5, .container = 0, .unit = 2, .units = 1}));
    EXPECT_TRUE(apply(table, PointEntry{.uid = 1, .offset = 8192, .sequence = 4}));
    EXPECT_FALSE(apply(table, PointEntry{.uid = 1, .offset = 4096, .sequence = 5}));
    EXPECT_FALSE(apply(table, PointEntry{.uid = 1, .ordinal = 9, .offset = 4096}));
    EXPECT_FALSE(apply(table, SealChunkEntry{1, 7}));
    EXPECT_FALSE(apply(table, TrimEntry{4, 1, 1}));
    EXPECT_FALSE(apply(table, ReplicaLeftEntry{3}));
    EXPECT_FALSE(apply(table, ChunkRefilledEntry{1, 0, 3}));
    EXPECT_FALSE(apply(table, LostRangeEntry{1, 5, 5}));
    EXPECT_FALSE(apply(table, NextSequenceEntry{8, 1}));
    EXPECT_FALSE(apply(table, RetentionEntry{8, 1}));
    EXPECT_FALSE(table.apply({}));
    const std::array<std::byte, 16> nonsense{std::byte{99}};
    EXPECT_FALSE(table.apply(nonsense));
    const EncodedEntry<TrimEntry> trim({1, 1, 1});
    EXPECT_FALSE(table.apply(trim.bytes().first(trim.bytes().size() - 1)));
}

TEST(SegmentSpace, TakesAndGivesAsAModelSays) {
    SimRandom random(4);
    SegmentSpace space(16);
    std::vector<std::vector<bool>> model(5, std::vector<bool>(16, false));
    for (std::uint32_t container = 0; container < 5; ++container) {
        space.add_container(container, 16);
    }
    std::vector<UnitRun> held;
    for (unsigned step = 0; step < 5000; ++step) {
        if (random.below(2) == 0) {
            const auto units = 1 + static_cast<std::uint32_t>(random.below(6));
            const auto run = space.find(units);
            bool possible = false;
            for (const auto& container : model) {
                std::uint32_t length = 0;
                for (const bool taken : container) {
                    length = taken ? 0 : length + 1;
                    possible = possible || length == units;
                }
            }
            ASSERT_EQ(run.has_value(), possible);
            if (run) {
                ASSERT_TRUE(space.mark_taken(*run));
                ASSERT_FALSE(space.mark_taken(*run));
                for (std::uint32_t unit = 0; unit < run->units; ++unit) {
                    ASSERT_FALSE(model[run->container][run->unit + unit]);
                    model[run->container][run->unit + unit] = true;
                }
                held.push_back(*run);
            }
        } else if (!held.empty()) {
            const std::size_t which = random.below(held.size());
            for (std::uint32_t unit = 0; unit < held[which].units; ++unit) {
                model[held[which].container][held[which].unit + unit] = false;
            }
            space.give(held[which]);
            held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
        }
        std::uint64_t free = 0;
        for (const auto& container : model) {
            free +=
                static_cast<std::uint64_t>(std::count(container.begin(), container.end(), false));
        }
        ASSERT_EQ(space.free_units(), free);
    }
}

}  // namespace
}  // namespace penstock
