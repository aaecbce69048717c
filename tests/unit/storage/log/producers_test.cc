// What a shard group remembers of its producers.
#include "storage/log/producers.h"

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "storage/log/state_log.h"
#include "tests/unit/storage/format/golden.h"

namespace penstock {
namespace {

constexpr ShardUid shard{7};
constexpr std::int64_t now = 1'700'000'000'000;

ProducerMark mark_of(std::uint64_t batch, std::uint32_t offset = 0, std::uint32_t epoch = 0,
                     std::uint64_t producer = 5) {
    return {producer, epoch, offset, batch};
}

ProducerVerdict look(ProducerTable& table, const ProducerMark& mark) {
    Appended out;
    return table.look(shard, mark, now, out);
}

class Producers : public ::testing::Test {
protected:
    // As a shard would: the sequence of the record, or why there is none.
    std::pair<ProducerVerdict, Sequence> put(const ProducerMark& mark, std::int64_t at_ms = now,
                                             ShardUid to = shard) {
        Appended out;
        const ProducerVerdict verdict = table.look(to, mark, at_ms, out);
        if (verdict != ProducerVerdict::fresh) {
            return {verdict, out.sequence};
        }
        EXPECT_TRUE(table.make_room(to, mark, at_ms));
        table.note(to, mark, next, at_ms, at_ms);
        return {verdict, next++};
    }
    // Another table, as a restart makes it from entries.
    static ProducerTable restored(const std::vector<ProducerRunEntry>& entries,
                                  std::int64_t at_ms = now) {
        ProducerTable fresh;
        for (const ProducerRunEntry& entry : entries) {
            fresh.restore(entry, at_ms);
        }
        fresh.end_restore(at_ms);
        return fresh;
    }
    std::vector<ProducerRunEntry> unrecorded(Sequence through, ShardUid of = shard) {
        std::vector<ProducerRunEntry> entries;
        table.take_unrecorded(of, through,
                              [&](const ProducerRunEntry& entry) { entries.push_back(entry); });
        return entries;
    }

    ProducerTable table;
    Sequence next = 100;
};

TEST_F(Producers, ARecordThatComesAgainHasTheSameSequence) {
    std::map<std::uint32_t, Sequence> first;
    for (const std::uint32_t offset : {0U, 3U, 4U, 63U, 64U, 499U, 511U, 512U, 5000U}) {
        const auto [verdict, sequence] = put(mark_of(1, offset));
        ASSERT_EQ(verdict, ProducerVerdict::fresh);
        first[offset] = sequence;
    }
    EXPECT_EQ(table.run_count(), 3U);  // offsets below 512, 512 and 5000
    for (const auto& [offset, sequence] : first) {
        EXPECT_EQ(put(mark_of(1, offset)), std::pair(ProducerVerdict::repeated, sequence));
    }
    EXPECT_EQ(put(mark_of(1, 1)).first, ProducerVerdict::fresh);
    EXPECT_EQ(put(mark_of(1, 0, 0, 6)).first, ProducerVerdict::fresh);  // another producer
    EXPECT_EQ(put(mark_of(1, 0), now, ShardUid{8}).first, ProducerVerdict::fresh);
}

TEST_F(Producers, TheAnswerHasTheArrivalOfTheFirstTime) {
    (void)put(mark_of(1, 0), now);
    (void)put(mark_of(1, 1), now + 5);
    Appended out;
    ASSERT_EQ(table.look(shard, mark_of(1, 1), now + 900, out), ProducerVerdict::repeated);
    EXPECT_EQ(out.arrival_ms, now + 5);
    EXPECT_TRUE(out.repeated);
}

TEST_F(Producers, BatchesComeInAnyOrderWithinTheWindowAndAreRefusedBehindIt) {
    EXPECT_EQ(put(mark_of(100)).first, ProducerVerdict::fresh);
    EXPECT_EQ(put(mark_of(37)).first, ProducerVerdict::fresh);
    EXPECT_EQ(put(mark_of(36)).first, ProducerVerdict::too_old);
    EXPECT_EQ(put(mark_of(101)).first, ProducerVerdict::fresh);
    EXPECT_EQ(put(mark_of(37)).first, ProducerVerdict::too_old);  // stored, but not known any more
    EXPECT_EQ(put(mark_of(100)).first, ProducerVerdict::repeated);
}

TEST_F(Producers, ANewerEpochBeginsAnewAndFencesOlderOnes) {
    (void)put(mark_of(50, 0, 1));
    EXPECT_EQ(put(mark_of(1, 0, 2)).first, ProducerVerdict::fresh);
    EXPECT_EQ(put(mark_of(50, 0, 1)).first, ProducerVerdict::fenced);
    EXPECT_EQ(put(mark_of(51, 0, 1)).first, ProducerVerdict::fenced);
    EXPECT_EQ(put(mark_of(1, 0, 2)).first, ProducerVerdict::repeated);
    EXPECT_EQ(table.run_count(), 1U);
}

TEST_F(Producers, WhoIsSilentIsForgottenInTime) {
    (void)put(mark_of(1));
    EXPECT_EQ(put(mark_of(1), now + 3'600'000).first, ProducerVerdict::repeated);
    EXPECT_EQ(put(mark_of(1), now + 3'600'001).first, ProducerVerdict::fresh);
    EXPECT_EQ(table.producer_count(), 1U);
}

TEST_F(Producers, RestartFromEntriesKnowsTheSame) {
    std::mt19937 random(1);
    std::map<std::pair<std::uint64_t, std::uint32_t>, Sequence> known;
    std::vector<ProducerRunEntry> entries;
    for (std::uint64_t batch = 1; batch <= 40; ++batch) {
        for (std::uint32_t offset = 0; offset < 500; ++offset) {
            if (random() % 3 == 0) {
                known[{batch, offset}] = put(mark_of(batch, offset), now).second;
                next += random() % 50 == 0 ? 1 : 0;  // somebody else's record
            }
        }
        // Points come at any place, also in the middle of a run.
        const auto more = unrecorded(next - 1 - random() % 100);
        entries.insert(entries.end(), more.begin(), more.end());
    }
    const auto last = unrecorded(next);
    entries.insert(entries.end(), last.begin(), last.end());
    EXPECT_TRUE(unrecorded(next).empty());
    std::vector<ProducerRunEntry> snapshot;
    table.snapshot([&](ShardUid) { return next; },
                   [&](const ProducerRunEntry& entry) { snapshot.push_back(entry); });
    EXPECT_EQ(snapshot.size(), table.run_count());
    for (const auto& all : {entries, snapshot}) {
        ProducerTable again = restored(all);
        EXPECT_EQ(again.run_count(), table.run_count());
        for (std::uint64_t batch = 1; batch <= 40; ++batch) {
            for (std::uint32_t offset = 0; offset < 500; ++offset) {
                Appended out;
                const auto verdict = again.look(shard, mark_of(batch, offset), now, out);
                const auto at = known.find({batch, offset});
                ASSERT_EQ(verdict,
                          at == known.end() ? ProducerVerdict::fresh : ProducerVerdict::repeated);
                ASSERT_EQ(out.sequence, at == known.end() ? 0 : at->second);
                ASSERT_TRUE(at == known.end() || out.arrival_ms == now);
            }
        }
    }
}

// Producers of thousands of shards, each of which has its points when it has them.
TEST_F(Producers, AShardsPointTakesItsRunsAndLeavesTheOthers) {
    constexpr std::uint64_t shards = 3000;
    const auto put_to_all = [&](std::uint64_t batch) {
        for (std::uint64_t uid = 1; uid <= shards; ++uid) {
            for (std::uint64_t producer = 1; producer <= 3; ++producer) {
                (void)put(mark_of(batch, 0, 0, producer), now, ShardUid{uid});
            }
        }
    };
    put_to_all(1);
    const Sequence first_half = next - 1;
    put_to_all(2);
    for (std::uint64_t uid = 1; uid <= shards; ++uid) {
        for (const Sequence through : {first_half, next}) {
            const auto entries = unrecorded(through, ShardUid{uid});
            ASSERT_EQ(entries.size(), 3U);
            for (const ProducerRunEntry& entry : entries) {
                ASSERT_EQ(entry.uid, uid);
                ASSERT_EQ(entry.first_sequence <= first_half, through == first_half);
            }
        }
        ASSERT_TRUE(unrecorded(next, ShardUid{uid}).empty());
    }
}

// What is behind the point comes from frames, perhaps also what the entries have.
TEST_F(Producers, FramesReplayedOverEntriesChangeNothing) {
    std::vector<Sequence> sequences;
    for (std::uint32_t offset = 0; offset < 10; ++offset) {
        sequences.push_back(put(mark_of(1, offset)).second);
    }
    ProducerTable again = restored(unrecorded(sequences[4]));
    for (std::uint32_t offset = 3; offset < 10; ++offset) {
        again.restore(shard, mark_of(1, offset), sequences[offset], now, now);
    }
    EXPECT_EQ(again.run_count(), 1U);
    for (std::uint32_t offset = 0; offset < 10; ++offset) {
        Appended out;
        ASSERT_EQ(again.look(shard, mark_of(1, offset), now, out), ProducerVerdict::repeated);
        EXPECT_EQ(out.sequence, sequences[offset]);
    }
}

TEST_F(Producers, WindowAndEpochOutliveARestart) {
    (void)put(mark_of(100, 0, 3));
    ProducerTable again = restored(unrecorded(next));
    Appended out;
    EXPECT_EQ(again.look(shard, mark_of(36, 0, 3), now, out), ProducerVerdict::too_old);
    EXPECT_EQ(again.look(shard, mark_of(100, 0, 2), now, out), ProducerVerdict::fenced);
    ProducerTable later = restored(unrecorded(next), now + 3'600'001);
    EXPECT_EQ(later.producer_count(), 0U);
}

constexpr std::int64_t minute_ms = 60'000;

TEST_F(Producers, AWholeWindowOutlivesARestartHoweverOldItsBatchesAre) {
    std::vector<ProducerRunEntry> entries;
    std::int64_t at = now;
    for (std::uint64_t batch = 1; batch <= 64; ++batch) {
        at += 2 * minute_ms;
        (void)put(mark_of(batch), at);
        if (batch % 40 == 0) {  // points of a quiet shard are far apart
            entries = unrecorded(next);
        }
    }
    std::vector<ProducerRunEntry> snapshot;
    table.snapshot([&](ShardUid) { return next; },
                   [&](const ProducerRunEntry& entry) { snapshot.push_back(entry); });
    const std::vector<ProducerRunEntry> behind = unrecorded(next);
    ASSERT_EQ(entries.size() + behind.size(), 64U);
    // What is behind the last point comes in frames.
    ProducerTable of_frames;
    for (const ProducerRunEntry& entry : entries) {
        of_frames.restore(entry, at);
    }
    for (const ProducerRunEntry& run : behind) {
        of_frames.restore(shard, mark_of(run.batch), run.first_sequence, run.arrival_ms, at);
    }
    of_frames.end_restore(at);
    entries.insert(entries.end(), behind.begin(), behind.end());
    for (ProducerTable again : {restored(entries, at), restored(snapshot, at), of_frames}) {
        EXPECT_EQ(again.run_count(), 64U);
        for (std::uint64_t batch = 1; batch <= 64; ++batch) {
            Appended out;
            ASSERT_EQ(again.look(shard, mark_of(batch), at, out), ProducerVerdict::repeated)
                << "batch " << batch;
            EXPECT_EQ(out.sequence, 99 + batch);
        }
    }
}

// What a restart finds: the entries of the last generation.
class ProducersDropped : public Producers {
protected:
    std::vector<ProducerRunEntry> snapshot(Sequence through) {
        std::vector<ProducerRunEntry> entries;
        table.snapshot([&](ShardUid) { return through; },
                       [&](const ProducerRunEntry& entry) { entries.push_back(entry); });
        return entries;
    }
    // All of them are stored, whatever is remembered of them.
    static void expect_none_fresh(ProducerTable again, std::uint64_t until,
                                  std::uint32_t epoch = 0) {
        for (std::uint64_t batch = 1; batch < until; ++batch) {
            Appended out;
            EXPECT_NE(again.look(shard, mark_of(batch, 0, epoch), now, out), ProducerVerdict::fresh)
                << "batch " << batch;
        }
    }
};

TEST_F(ProducersDropped, AFloorOutlivesASwitchOfGenerationsBetweenAPutAndItsPoint) {
    for (std::uint64_t batch = 1; batch <= 10; ++batch) {
        (void)put(mark_of(batch));
    }
    (void)unrecorded(next);
    const Sequence settled = next - 1;
    (void)put(mark_of(200));  // its window begins above all of them, and it isn't durable yet
    const auto entries = snapshot(settled);
    ASSERT_EQ(entries.size(), 1U);
    expect_none_fresh(restored(entries), 137);
    ProducerTable again = restored(entries);
    EXPECT_EQ(look(again, mark_of(200)), ProducerVerdict::fresh);
}

TEST_F(ProducersDropped, AnEpochOutlivesASwitchOfGenerationsBetweenItsFirstPutAndThatsPoint) {
    (void)put(mark_of(1, 0, 1));
    (void)unrecorded(next);
    const Sequence settled = next - 1;
    (void)put(mark_of(1, 0, 2));
    expect_none_fresh(restored(snapshot(settled)), 2, 1);
}

TEST_F(ProducersDropped, APointTellsOfRunsThatWereDroppedBeforeIt) {
    (void)put(mark_of(1));
    auto entries = unrecorded(next);
    for (std::uint64_t batch = 2; batch <= 10; ++batch) {
        (void)put(mark_of(batch));
    }
    const Sequence settled = next - 1;
    (void)put(mark_of(200));
    // The point covers 2 to 10, which the table has no more, and not 200, which may be lost.
    for (const ProducerRunEntry& entry : unrecorded(settled)) {
        entries.push_back(entry);
    }
    EXPECT_EQ(entries.size(), 2U);
    expect_none_fresh(restored(entries), 11);
    EXPECT_EQ(unrecorded(next).size(), 1U);
    EXPECT_TRUE(unrecorded(next).empty());
}

TEST_F(ProducersDropped, ARecordOfAFrameWithoutRoomIsRefusedFromThenOn) {
    ProducerTable::Limits limits;
    limits.runs = 4;
    limits.producers = 4;
    ProducerTable full(limits);
    for (std::uint64_t producer = 1; producer <= 4; ++producer) {
        full.restore(shard, mark_of(7, 0, 0, producer), 10 + producer, now, now);
    }
    full.restore(shard, mark_of(7, 600, 0, 4), 20, now, now);
    full.end_restore(now);
    EXPECT_EQ(look(full, mark_of(7, 600, 0, 4)), ProducerVerdict::too_old);
    EXPECT_EQ(look(full, mark_of(7, 0, 0, 4)), ProducerVerdict::too_old);
    EXPECT_EQ(look(full, mark_of(8, 0, 0, 4)), ProducerVerdict::fresh);
    EXPECT_EQ(look(full, mark_of(7, 0, 0, 1)), ProducerVerdict::repeated);
    // The point that covers the frame says so as well.
    bool told = false;
    full.take_unrecorded(shard, 100, [&](const ProducerRunEntry& entry) {
        told = told || (entry.producer == 4 && entry.floor == 7);
    });
    EXPECT_TRUE(told);
}

// It may use its numbers anew, and the manifest still has what they meant first.
TEST_F(Producers, WhoWasForgottenBeginsAnewAfterARestartToo) {
    for (std::uint64_t batch = 1; batch <= 100; ++batch) {
        (void)put(mark_of(batch, 0, 1));
    }
    std::vector<ProducerRunEntry> entries = unrecorded(next);
    const std::int64_t later = now + 61 * minute_ms;
    std::map<std::uint64_t, Sequence> second;
    for (std::uint64_t batch = 1; batch <= 10; ++batch) {
        const auto [verdict, sequence] = put(mark_of(batch), later);
        ASSERT_EQ(verdict, ProducerVerdict::fresh);
        second[batch] = sequence;
    }
    ProducerTable of_frames;
    for (const ProducerRunEntry& entry : entries) {
        of_frames.restore(entry, later);
    }
    for (const auto& [batch, sequence] : second) {
        of_frames.restore(shard, mark_of(batch), sequence, later, later);
    }
    of_frames.end_restore(later);
    for (const ProducerRunEntry& entry : unrecorded(next)) {
        entries.push_back(entry);
    }
    for (ProducerTable again : {restored(entries, later), of_frames}) {
        EXPECT_EQ(again.run_count(), 10U);
        for (std::uint64_t batch = 1; batch <= 100; ++batch) {
            Appended out;
            EXPECT_EQ(again.look(shard, mark_of(batch), later, out),
                      second.contains(batch) ? ProducerVerdict::repeated : ProducerVerdict::fresh)
                << "batch " << batch;
            EXPECT_EQ(out.sequence, second.contains(batch) ? second[batch] : 0);
        }
    }
}

TEST_F(Producers, AfterARestartTheOldestAreForgottenFirst) {
    std::vector<ProducerRunEntry> entries;
    for (std::uint64_t producer = 1; producer <= 20; ++producer) {
        (void)put(mark_of(1, 0, 0, producer), now + static_cast<std::int64_t>(producer));
    }
    for (ProducerRunEntry entry : unrecorded(next)) {
        entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(entries.size() / 2), entry);
    }
    const std::int64_t later = now + 3'600'010;
    EXPECT_EQ(restored(entries, later).producer_count(), 11U);
}

// Batches of one record each, as far as they find room. The first that does not: its number.
std::uint64_t fill(ProducerTable& table, std::uint64_t producer, std::uint64_t from,
                   std::uint64_t until) {
    for (std::uint64_t batch = from; batch < until; ++batch) {
        const ProducerMark mark = mark_of(batch, 0, 0, producer);
        if (!table.make_room(shard, mark, now)) {
            return batch;
        }
        table.note(shard, mark, producer * 1000 + batch * 2, now, now);
    }
    return until;
}

// As many producers as there are places, and a full window of each would not fit by far.
ProducerTable::Limits few_runs() {
    ProducerTable::Limits limits;
    limits.runs = 64;
    limits.producers = 8;
    return limits;
}

TEST(ProducersAtTheirLimits, NewcomersGetTheirDueFromThoseWithMore) {
    ProducerTable table(few_runs());
    ASSERT_EQ(fill(table, 1, 1, 61), 61U);
    ASSERT_EQ(fill(table, 2, 1, 5), 5U);
    EXPECT_EQ(table.run_count(), 64U);
    for (std::uint64_t newcomer = 3; newcomer <= 8; ++newcomer) {
        EXPECT_EQ(fill(table, newcomer, 1, 9), 9U) << "producer " << newcomer;
    }
    // From the oldest ones of the one that had many, which knows that it lost them.
    EXPECT_EQ(look(table, mark_of(48, 0, 0, 1)), ProducerVerdict::too_old);
    EXPECT_EQ(look(table, mark_of(49, 0, 0, 1)), ProducerVerdict::repeated);
    for (std::uint64_t batch = 1; batch < 5; ++batch) {
        EXPECT_EQ(look(table, mark_of(batch, 0, 0, 2)), ProducerVerdict::repeated);
    }
    // Now that everybody has its due at most, each goes on with its own.
    for (std::uint64_t producer = 1; producer <= 8; ++producer) {
        EXPECT_EQ(fill(table, producer, 61, 80), 80U) << "producer " << producer;
    }
    EXPECT_EQ(table.run_count(), 64U);
}

TEST(ProducersAtTheirLimits, OneThatHasLittleTakesFromOneThatHasMuch) {
    ProducerTable table(few_runs());
    ASSERT_EQ(fill(table, 1, 1, 3), 3U);
    ASSERT_EQ(fill(table, 2, 1, 63), 63U);
    ASSERT_EQ(table.run_count(), 64U);
    EXPECT_EQ(fill(table, 1, 3, 9), 9U);
    EXPECT_EQ(look(table, mark_of(1, 0, 0, 1)), ProducerVerdict::repeated);
}

TEST(ProducersAtTheirLimits, ANewLifeHasTheRoomOfTheOneBefore) {
    ProducerTable table(few_runs());
    for (std::uint64_t producer = 1; producer <= 8; ++producer) {
        ASSERT_EQ(fill(table, producer, 100, 108), 108U);
    }
    ASSERT_EQ(table.run_count(), 64U);
    ASSERT_TRUE(table.make_room(shard, mark_of(1, 0, 1, 1), now));
    table.note(shard, mark_of(1, 0, 1, 1), 9000, now, now);
    EXPECT_EQ(table.run_count(), 57U);
    EXPECT_EQ(look(table, mark_of(107, 0, 0, 1)), ProducerVerdict::fenced);
}

TEST(ProducersAtTheirLimits, ABatchThatIsBeingPutIsNotTakenAway) {
    ProducerTable table(few_runs());
    // Other records stand between these, so each is a run of its own.
    for (std::uint32_t offset = 0; offset < 64; ++offset) {
        ASSERT_TRUE(table.make_room(shard, mark_of(1, offset, 0, 1), now));
        table.note(shard, mark_of(1, offset, 0, 1), 2 * offset + 1, now, now);
    }
    EXPECT_FALSE(table.make_room(shard, mark_of(1, 0, 0, 2), now));
    EXPECT_EQ(look(table, mark_of(1, 0, 0, 1)), ProducerVerdict::repeated);
}

TEST(ProducersAtTheirLimits, WhatIsForgottenEarlyIsRefusedAndNeverTakenForNew) {
    ProducerTable::Limits limits;
    limits.runs = 40;
    limits.producers = 4;
    ProducerTable table(limits);
    Sequence next = 1;
    std::map<std::uint64_t, std::set<std::uint64_t>> stored;
    std::mt19937 random(2);
    unsigned full = 0;
    for (unsigned i = 0; i < 20'000; ++i) {
        const std::uint64_t producer = 1 + random() % 6;
        const std::uint64_t batch = 1 + i / 100 + random() % 80;
        const ProducerMark mark = mark_of(batch, 0, 0, producer);
        Appended out;
        const ProducerVerdict verdict = table.look(shard, mark, now, out);
        ASSERT_TRUE(verdict != ProducerVerdict::fresh || !stored[producer].contains(batch))
            << "stored twice";
        if (verdict != ProducerVerdict::fresh) {
            continue;
        }
        if (!table.make_room(shard, mark, now)) {
            ++full;
            continue;
        }
        // A place in front of what was given up would have been refused.
        table.note(shard, mark, next, now, now);
        next += 2;
        stored[producer].insert(batch);
    }
    EXPECT_GT(full, 0U);
    EXPECT_LE(table.run_count(), 40U);
    EXPECT_LE(table.producer_count(), 4U);
    table.forget(shard);
    EXPECT_EQ(table.run_count(), 0U);
    EXPECT_EQ(table.producer_count(), 0U);
    // Who was forgotten while its runs were to be written is not written, nor who has its place.
    table.note(ShardUid{9}, mark_of(1), 5, now, now);
    unsigned entries = 0;
    for (const ShardUid of : {shard, ShardUid{9}, ShardUid{9}}) {
        table.take_unrecorded(of, 100, [&](const ProducerRunEntry& entry) {
            EXPECT_EQ(entry.uid, 9U);
            ++entries;
        });
    }
    EXPECT_EQ(entries, 1U);
}

// Four records of a batch, of which others went elsewhere; the page has it as an example.
TEST_F(Producers, ARunIsWrittenAsVersionOneWroteItAndReadAgain) {
    constexpr ShardUid fifth{5};
    constexpr std::uint64_t producer = 0x0123456789abcdef;
    const auto mark = [](std::uint64_t batch, std::uint32_t offset) {
        return mark_of(batch, offset, 3, producer);
    };
    // The batches before are remembered no more.
    ProducerTable::Limits limits;
    limits.batches = 35;
    ProducerTable writer(limits);
    Appended out;
    next = 4294967299;
    const std::vector<std::uint32_t> offsets{512, 513, 515, 1023};
    for (const std::uint32_t offset : offsets) {
        ASSERT_EQ(writer.look(fifth, mark(42, offset), now, out), ProducerVerdict::fresh);
        ASSERT_TRUE(writer.make_room(fifth, mark(42, offset), now));
        writer.note(fifth, mark(42, offset), next++, now, now);
    }
    StateEntries entries;
    writer.take_unrecorded(fifth, next - 1, [&](const ProducerRunEntry& entry) {
        entries.add(EncodedEntry<ProducerRunEntry>(entry).bytes());
    });
    const std::vector<std::byte> bytes(entries.bytes().begin(), entries.bytes().end());
    test::expect_golden("manifest-producer-run-v1.bin", bytes);

    ProducerRunEntry entry;
    ASSERT_EQ(load<std::uint32_t>(bytes.data()), bytes.size() - 4);
    const Bytes stored = Bytes(bytes).subspan(4);
    ASSERT_EQ(manifest_type(stored), ManifestType::producer_run);
    ASSERT_TRUE(decode(stored, entry));
    ProducerTable reader = restored({entry});
    for (std::size_t i = 0; i < offsets.size(); ++i) {
        EXPECT_EQ(reader.look(fifth, mark(42, offsets[i]), now, out), ProducerVerdict::repeated);
        EXPECT_EQ(out.sequence, 4294967299 + i);
    }
    EXPECT_EQ(reader.look(fifth, mark(42, 514), now, out), ProducerVerdict::fresh);
    EXPECT_EQ(reader.look(fifth, mark(7, 512), now, out), ProducerVerdict::too_old);
    EXPECT_EQ(reader.look(fifth, mark(8, 512), now, out), ProducerVerdict::fresh);
}

}  // namespace
}  // namespace penstock
