#include "dataplane/session/session_lane.h"

#include <numeric>

#include "tests/unit/dataplane/session/session_fixture.h"

namespace penstock::session {
namespace {

using namespace test;

struct SessionLaneTest : SessionFixture {};

TEST_F(SessionLaneTest, ABatchIsAnsweredWhenItIsDurableAndNotBefore) {
    open();
    validate();
    EXPECT_EQ(host.activated_ids, std::vector<std::uint64_t>{77});
    ASSERT_EQ(put({.batch = 4, .data = {"a", "b", "c"}}), DropReason::none);
    ASSERT_EQ(records().size(), 3U);
    EXPECT_EQ(records()[1].mark, (ProducerMark{flow_producer("meter-7", 0), 9, 1, 4}));
    EXPECT_TRUE(entries_of(flush()).empty());
    now_ns += second_ns;
    EXPECT_TRUE(entries_of(flush()).empty()) << "time alone makes nothing durable";
    host.commit(5);
    const auto answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    ASSERT_EQ(answers[0].results.size(), 1U);
    const auto& [head, entries] = answers[0].results[0];
    EXPECT_EQ(head.shard, 5U);
    EXPECT_EQ(head.through, 4U);
    EXPECT_EQ(head.map_epoch, 3U);
    EXPECT_EQ(entries, (std::vector<ResultEntry>{{4, 0, 3, PartStatus::stored, 1, 0, 1, 1000}}));
    EXPECT_TRUE(answers[0].has_report && answers[0].has_credit);
    EXPECT_EQ(lane.counters().records_stored.get(), 3U);
    EXPECT_TRUE(flush().empty()) << "told once";
}

TEST_F(SessionLaneTest, ADatagramThatComesAgainIsDroppedAlsoWithinOneBurst) {
    open();
    const Buffer datagram = seal(text_of({{}}), 1);
    EXPECT_EQ(deliver_burst({datagram, datagram}),
              (std::vector{DropReason::none, DropReason::session_replayed}));
    EXPECT_EQ(deliver(datagram), DropReason::session_replayed);
    EXPECT_EQ(records().size(), 1U);
    EXPECT_EQ(deliver(seal(ping(), 5000)), DropReason::none);
    EXPECT_EQ(deliver(datagram), DropReason::session_replay_old);
    EXPECT_EQ(dropped(DropReason::session_replayed), 2U);
    EXPECT_EQ(dropped(DropReason::session_replay_old), 1U);
}

TEST_F(SessionLaneTest, ABatchThatComesAgainHasTheSameAnswer) {
    open();
    validate();
    const PartOut part{.batch = 4, .data = {"a", "b"}};
    ASSERT_EQ(put(part), DropReason::none);
    ASSERT_EQ(put(part), DropReason::none);
    host.commit(5);
    auto entries = entries_of(flush());
    ASSERT_EQ(entries.size(), 2U);
    EXPECT_EQ(entries[1].status, PartStatus::repeated);
    ASSERT_EQ(put(part), DropReason::none);
    entries = entries_of(flush());
    ASSERT_EQ(entries.size(), 1U) << "durable already: answered at once";
    EXPECT_EQ(entries[0].first_sequence, 1U);
    EXPECT_EQ(entries[0].record_count, 2);
    EXPECT_EQ(records().size(), 2U);
}

TEST_F(SessionLaneTest, WhatIsForgedChangesNothingAndIsNotAnswered) {
    open();
    const Buffer good = seal(text_of({{}}), 1);
    for (const std::size_t at :
         {std::size_t{24}, std::size_t{28}, std::size_t{40}, good.size() - 1}) {
        Buffer bad = good;
        bad[at] ^= std::byte{1};
        EXPECT_EQ(deliver_from(peer_of(6000), bad), DropReason::session_forged);
    }
    EXPECT_EQ(deliver(seal(text_of({{}}), 1, 2)), DropReason::session_forged)
        << "under the server's own key";
    now_ns += second_ns;
    EXPECT_TRUE(flush().empty());
    EXPECT_TRUE(records().empty());
    EXPECT_TRUE(host.activated_ids.empty());
    EXPECT_EQ(deliver(good), DropReason::none) << "its number was not used up";
    EXPECT_EQ(dropped(DropReason::session_forged), 5U);
}

TEST_F(SessionLaneTest, WhatIsNotForASessionHereIsNotAnswered) {
    open();
    EXPECT_EQ(deliver(seal(ping(), 1, 1, 78)), DropReason::session_unknown);
    Buffer datagram = seal(ping(), 1);
    datagram[4] = std::byte{2};
    EXPECT_EQ(deliver(datagram), DropReason::session_unknown) << "of another lane";
    datagram = seal(ping(), 1);
    datagram[1] = std::byte{5};
    EXPECT_EQ(deliver(datagram), DropReason::session_direction);
    datagram.resize(40);
    EXPECT_EQ(deliver(datagram), DropReason::session_truncated);
    datagram = seal(ping(), 1);
    datagram[0] = std::byte{9};
    EXPECT_EQ(deliver(datagram), DropReason::session_version);
    EXPECT_TRUE(flush().empty());
}

TEST_F(SessionLaneTest, OrderIsKeptByRefusal) {
    open();
    validate();
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last}), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::out_of_order) << "nothing to follow";
    ASSERT_EQ(put({.batch = 1, .data = {"1"}}), DropReason::none);
    ASSERT_EQ(put({.batch = 3, .follows = 1, .flags = part_is_last}), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::out_of_order);
    EXPECT_EQ(records().size(), 1U);
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = 0, .data = {"2"}}), DropReason::none);
    ASSERT_EQ(put({.batch = 3, .follows = 1, .flags = part_is_last}), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::out_of_order) << "2 is not whole";
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last, .first_offset = 2}),
              DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::out_of_order) << "offset 1 is missing";
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last, .data = {"2", "2b"}}),
              DropReason::none);
    ASSERT_EQ(put({.batch = 3, .follows = 1, .flags = part_is_last, .data = {"3"}}),
              DropReason::none);
    EXPECT_EQ(put({.batch = 1, .flow = 1, .data = {"other flow"}}), DropReason::none);
    std::vector<std::string> data;
    for (const Stored& record : records()) {
        data.push_back(record.data);
    }
    EXPECT_EQ(data, (std::vector<std::string>{"1", "2", "2b", "3", "other flow"}));
    EXPECT_EQ(lane.counters().parts_held_back.get(), 4U);
    (void)flush();
    const PartOut longer{.batch = 3, .follows = 1, .flags = part_is_last, .data = {"3", "3b"}};
    ASSERT_EQ(put(longer), DropReason::none);
    EXPECT_EQ(entries_of(flush()).back().status, PartStatus::window)
        << "more than there was when the batch was complete";
    EXPECT_EQ(records().size(), 5U);
}

TEST_F(SessionLaneTest, WhatWasLeftOutDoesNotComeBehindWhatFollowsIt) {
    open();
    validate();
    Buffer memory(200);
    TextWriter writer(memory);
    BatchBlock head;
    head.shard = 5;
    head.batch = 1;
    RecordOut second{as_bytes("pk"), as_bytes("second")};
    second.skip = 1;
    ASSERT_TRUE(writer.begin_part(head) && writer.add_record(second) &&
                writer.end_part(part_starts_flow));
    ASSERT_EQ(say(writer.text()), DropReason::none);
    ASSERT_EQ(put({.data = {"first", "second", "third"}}), DropReason::none);
    const auto entries = entries_of(flush());
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].status, PartStatus::window);
    EXPECT_EQ(records().size(), 1U);
    // Nor after a part that was refused behind a record that is there: offsets 1, 2 and 3.
    TextWriter again(memory);
    RecordOut left_out{as_bytes("pk"), as_bytes("left out")};
    ASSERT_TRUE(again.begin_part(head) && again.add_record(second) && again.add_record(left_out) &&
                again.end_part(part_starts_flow));
    ASSERT_EQ(say(again.text()), DropReason::none);  // offset 2 is stored
    left_out.skip = 1;
    head.first_offset = 3;
    TextWriter ahead(memory);
    ASSERT_TRUE(ahead.begin_part(head) && ahead.add_record(left_out) &&
                ahead.end_part(part_starts_flow));
    ASSERT_EQ(say(ahead.text()), DropReason::none);  // offset 4 is, and 3 was left out
    ASSERT_EQ(records().size(), 3U);
    for (int i = 0; i < 2; ++i) {
        ASSERT_EQ(put({.data = {"0", "1", "2", "3", "4", "5"}}), DropReason::none);
        ASSERT_EQ(put({.first_offset = 1, .data = {"1", "2", "3", "4", "5"}}), DropReason::none);
    }
    EXPECT_EQ(records().size(), 3U);
}

TEST_F(SessionLaneTest, WhatTheLogRefusesIsToldAndHoldsUpItsFlow) {
    const std::pair<AppendVerdict, PartStatus> cases[] = {
        {AppendVerdict::no_memory, PartStatus::throttled},
        {AppendVerdict::shard_behind, PartStatus::throttled},
        {AppendVerdict::no_room, PartStatus::throttled},
        {AppendVerdict::disk_full, PartStatus::throttled},
        {AppendVerdict::no_quorum, PartStatus::throttled},
        {AppendVerdict::needs_all, PartStatus::throttled},
        {AppendVerdict::producers_full, PartStatus::throttled},
        {AppendVerdict::unknown_shard, PartStatus::wrong_shard},
        {AppendVerdict::shard_closed, PartStatus::shard_closed},
        {AppendVerdict::too_large, PartStatus::too_large},
        {AppendVerdict::producer_fenced, PartStatus::fenced},
        {AppendVerdict::producer_window, PartStatus::window},
    };
    open();
    validate();
    for (const auto& [verdict, status] : cases) {
        host.shards[5].verdict = verdict;
        ASSERT_EQ(put({}), DropReason::none);
        ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last}), DropReason::none);
        const auto entries = entries_of(flush());
        ASSERT_EQ(entries.size(), 2U);
        EXPECT_EQ(entries[0].status, status);
        EXPECT_EQ(entries[0].value > 0, status == PartStatus::throttled);
        EXPECT_EQ(entries[1].status, PartStatus::out_of_order);
    }
    EXPECT_TRUE(records().empty());
}

TEST_F(SessionLaneTest, APartTakenInPartGoesOnWhereItEnded) {
    open();
    validate();
    host.shards[5].room = 2;
    const PartOut part{.data = {"a", "b", "c", "d"}};
    ASSERT_EQ(put(part), DropReason::none);
    auto entries = entries_of(flush());
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].first_offset, 2);
    EXPECT_EQ(entries[0].record_count, 2);
    host.shards[5].room = SIZE_MAX;
    ASSERT_EQ(put(part), DropReason::none);
    host.commit(5);
    const auto answers = flush();
    EXPECT_EQ(answers[0].results[0].first.through, 1U);
    entries = entries_of(answers);
    EXPECT_EQ(entries, (std::vector<ResultEntry>{{1, 0, 2, PartStatus::stored, 1, 0, 1, 1000},
                                                 {1, 0, 2, PartStatus::repeated, 1, 0, 1, 1000},
                                                 {1, 2, 2, PartStatus::stored, 1, 0, 3, 1000}}));
    EXPECT_EQ(records().size(), 4U);
}

// The repetition of an old record commits before what stands in front of it in the flow.
TEST_F(SessionLaneTest, ThroughWaitsForTheOldestPart) {
    open();
    validate();
    // Stored in an earlier session of the same producer epoch.
    host.shards[5].marks[{flow_producer("meter-7", 0), 2, 0}] = 1;
    host.shards[5].records.resize(1);
    host.shards[5].committed = 1;
    ASSERT_EQ(put({.batch = 1}), DropReason::none);
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last}), DropReason::none);
    auto answers = flush();
    ASSERT_EQ(entries_of(answers).size(), 1U);
    EXPECT_EQ(entries_of(answers)[0].status, PartStatus::repeated);
    EXPECT_EQ(answers[0].results[0].first.through, 0U) << "batch 1 is not durable";
    host.commit(5);
    answers = flush();
    EXPECT_EQ(answers[0].results[0].first.through, 2U);
    // Every place of a result is free again: as many parts as there are, several times over.
    for (std::uint64_t batch = 3; batch < 6000; ++batch) {
        ASSERT_EQ(put({.batch = batch, .follows = 1, .flags = part_is_last}), DropReason::none);
        host.commit(5);
        answers = flush();
        ASSERT_EQ(answers[0].results[0].first.through, batch);
    }
}

TEST_F(SessionLaneTest, AWriteWhoseFateIsUnknownIsToldSoAndMayBeAskedForAgain) {
    open();
    validate();
    ASSERT_EQ(put({}), DropReason::none);
    host.commit(5, Errc::not_enough_replicas);
    auto answers = flush();
    EXPECT_EQ(entries_of(answers)[0].status, PartStatus::unknown);
    EXPECT_EQ(entries_of(answers)[0].level, 0);
    EXPECT_EQ(answers[0].results[0].first.through, 0U);
    ASSERT_EQ(put({}), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::repeated);
}

TEST_F(SessionLaneTest, RecordsOutsideTheShardAreNotTakenAndTheMapIsSent) {
    open();
    validate();
    host.shards[5].last = {0, 1};  // "pk" lies above
    host.shards[6].first = {0, 2};
    ASSERT_EQ(put({}), DropReason::none);
    auto answers = flush();
    EXPECT_EQ(entries_of(answers)[0].status, PartStatus::wrong_shard);
    ASSERT_EQ(answers[0].map.size(), 1U);
    EXPECT_EQ(answers[0].map[0].shard, 6U);
    ASSERT_EQ(put({.shard = 99}), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::wrong_shard);
    host.shards[6].fault = PartStatus::key_unavailable;
    ASSERT_EQ(put({.shard = 6}), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::key_unavailable);
    EXPECT_TRUE(records().empty() && host.shards[6].records.empty());
    for (std::uint64_t uid = 100; uid < 130; ++uid) {
        host.shards[uid] = {};
    }
    std::array<std::byte, ask_map_bytes> memory;
    TextWriter ask(memory);
    ASSERT_TRUE(ask.add_ask_map({}));
    ASSERT_EQ(say(ask.text()), DropReason::none);
    answers = flush();
    EXPECT_GE(answers[0].map.size(), 12U);
    EXPECT_EQ(answers[0].map_flags, map_has_more);
}

TEST_F(SessionLaneTest, AMalformedTextHasNoEffectAndEndsTheSession) {
    open();
    validate();
    Buffer text = text_of({{}});
    text.resize(text.size() + 4);  // a block of type 0 behind a good part
    EXPECT_EQ(say(text), DropReason::session_malformed);
    EXPECT_TRUE(records().empty());
    const auto answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].closed, CloseCode::protocol_error);
    EXPECT_EQ(say(ping()), DropReason::session_unknown);
    EXPECT_EQ(host.ended_ids,
              (std::vector<std::pair<std::uint64_t, CloseCode>>{{77, CloseCode::protocol_error}}));
    EXPECT_EQ(lane.table().session_count(), 0U);
}

TEST_F(SessionLaneTest, AnAddressGetsNoMoreThanItSentUntilItHasAnswered) {
    open();
    std::size_t received = 0;
    std::size_t sent = 0;
    for (int i = 0; i < 50; ++i) {
        const Buffer datagram = seal(ping(), ++number);
        received += datagram.size();
        ASSERT_EQ(deliver(datagram), DropReason::none);
        for (const Answer& answer : flush()) {
            sent += answer.bytes;
        }
        ASSERT_LE(sent, received);
    }
    EXPECT_GT(sent, 0U);
    ASSERT_EQ(put({.data = std::vector<std::string>(20, std::string(40, 'x'))}), DropReason::none);
    host.commit(5);
    auto answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    ASSERT_TRUE(answers[0].has_challenge);
    std::array<std::byte, 8> wrong = answers[0].challenge;
    wrong[0] ^= std::byte{1};
    respond(wrong);
    EXPECT_FALSE(lane.table()[lane.table().find(77)].is_validated);
    respond(answers[0].challenge);
    EXPECT_TRUE(lane.table()[lane.table().find(77)].is_validated);
    (void)flush();
    ASSERT_EQ(say(ping()), DropReason::none);
    answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_FALSE(answers[0].has_challenge);
    EXPECT_GT(answers[0].bytes, datagram_bytes_min) << "more than was asked with";
}

TEST_F(SessionLaneTest, AnotherAddressIsChallengedAndGetsNothingElse) {
    open();
    validate();
    const Peer thief = peer_of(6666);
    const Buffer datagram = seal(text_of({{.data = {std::string(300, 'x')}}}), ++number);
    ASSERT_EQ(deliver_from(thief, datagram), DropReason::none);
    EXPECT_EQ(deliver(datagram), DropReason::session_replayed);
    host.commit(5);
    auto answers = flush();
    ASSERT_EQ(answers.size(), 2U);
    EXPECT_TRUE(answers[0].to.is_same(thief) && answers[0].has_challenge);
    EXPECT_TRUE(answers[0].results.empty() && !answers[0].has_report);
    EXPECT_TRUE(answers[1].to.is_same(client));
    EXPECT_EQ(entries_of(answers).size(), 1U);
    // The client itself moved: it answers from there.
    const auto challenge = answers[0].challenge;
    client = thief;
    respond(challenge);
    (void)flush();
    ASSERT_EQ(say(ping()), DropReason::none);
    answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_TRUE(answers[0].to.is_same(thief));
}

TEST_F(SessionLaneTest, KeysChangeWithThePacketNumber) {
    constexpr std::uint64_t epoch_1 = std::uint64_t{1} << 28;
    constexpr std::uint64_t epoch_2 = std::uint64_t{2} << 28;
    open();
    ASSERT_EQ(deliver(seal(ping(), epoch_1 - 1)), DropReason::none);
    EXPECT_EQ(deliver(seal(ping(), epoch_1, 1)), DropReason::session_forged)
        << "under the key that is over";
    EXPECT_EQ(host.keys_wanted, 0U);
    EXPECT_EQ(deliver_burst({seal(ping(), epoch_1 - 2), seal(ping(), epoch_1 + 1, 3),
                             seal(ping(), epoch_1, 3), seal(ping(), epoch_1 - 3)}),
              (std::vector{DropReason::none, DropReason::none, DropReason::none,
                           DropReason::session_key_epoch}));
    EXPECT_EQ(host.keys_wanted, 1U);
    EXPECT_EQ(deliver(seal(ping(), epoch_1 + 5, 3)), DropReason::none);
    EXPECT_EQ(deliver(seal(ping(), epoch_2, 6)), DropReason::session_key_epoch) << "not there yet";
    lane.add_keys(77, key_of(6), key_of(7));
    EXPECT_EQ(deliver(seal(ping(), epoch_2, 6)), DropReason::none);
    lane.add_keys(78, key_of(6), key_of(7));
}

TEST_F(SessionLaneTest, TheServersKeysChangeTheSameWay) {
    open();
    validate();
    Session& session = lane.table()[lane.table().find(77)];
    session.sent_number = (std::uint64_t{1} << 28) - 2;
    for (const unsigned epoch : {0U, 1U, 1U}) {
        ASSERT_EQ(say(ping()), DropReason::none);
        const auto answers = flush();
        ASSERT_EQ(answers.size(), 1U);
        EXPECT_EQ(answers[0].header.key_epoch, epoch);
    }
    EXPECT_EQ(host.keys_wanted, 1U);
    session.sent_number = (std::uint64_t{2} << 28) - 1;
    ASSERT_EQ(say(ping()), DropReason::none);
    EXPECT_TRUE(flush().empty()) << "no key, no datagram";
    EXPECT_EQ(lane.counters().not_sent.get(), 1U);
}

TEST_F(SessionLaneTest, ReportsComeAfterManyDatagramsOrSomeTimeOrAGapOrAPing) {
    open();
    validate();
    ASSERT_EQ(put({.batch = 1}), DropReason::none);
    EXPECT_TRUE(flush().empty());
    now_ns += 999'999;
    EXPECT_TRUE(flush().empty());
    now_ns += 1;
    auto answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].report.highest, number);
    EXPECT_EQ(answers[0].report.echo_us, number * 10);
    EXPECT_EQ(answers[0].report.delay_us, 1000U);
    EXPECT_EQ(answers[0].report.received, number);
    EXPECT_EQ(answers[0].report.bitmap[0], (1U << number) - 1);
    for (std::uint64_t i = 2; i <= 33; ++i) {
        EXPECT_TRUE(flush().empty()) << i;
        ASSERT_EQ(put({.batch = i, .follows = 1, .flags = part_is_last}), DropReason::none);
    }
    EXPECT_EQ(flush().size(), 1U);
    ++number;  // lost
    ASSERT_EQ(put({.batch = 34, .follows = 1, .flags = part_is_last}), DropReason::none);
    answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].report.bitmap[0] & 7, 0b101);
    ASSERT_EQ(say(ping()), DropReason::none);
    EXPECT_EQ(flush().size(), 1U);
    now_ns += second_ns;
    EXPECT_TRUE(flush().empty()) << "everything is reported";
    ASSERT_EQ(put({.batch = 35, .follows = 1, .flags = part_is_last}), DropReason::none);
    now_ns += 1'000'000;
    EXPECT_EQ(flush().size(), 1U) << "time counts again";
    ASSERT_EQ(say(ping(true, 1700)), DropReason::none);
    answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].bytes, 1700 + header_bytes + tag_bytes);
}

TEST_F(SessionLaneTest, AnswersToAnswersAreNotReported) {
    open();
    validate();
    std::array<std::byte, 64> memory;
    TextWriter writer(memory);
    ASSERT_TRUE(writer.add(ReportBlock{}));
    ASSERT_EQ(say(writer.text()), DropReason::none);
    now_ns += second_ns;
    EXPECT_TRUE(flush().empty());
}

TEST_F(SessionLaneTest, CreditIsWhatMayBeUnresolved) {
    open();
    validate();
    const PartOut large{.batch = 1, .data = {std::string(7000, 'x')}};
    host.credit_state = {10'000, CreditCause::memory, 5000};
    ASSERT_EQ(put(large), DropReason::none);
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last, .data = large.data}),
              DropReason::none);
    auto answers = flush();
    auto entries = entries_of(answers);
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].status, PartStatus::throttled);
    EXPECT_EQ(entries[0].cause, static_cast<std::uint16_t>(CreditCause::memory));
    EXPECT_EQ(entries[0].value, 5000);
    EXPECT_EQ(answers[0].credit.bytes, 10'000U);
    EXPECT_EQ(answers[0].credit.cause, CreditCause::memory);
    EXPECT_EQ(answers[0].credit.retry_after_us, 5000U);
    EXPECT_EQ(answers[0].credit.expires_in_s, 9000U);
    host.commit(5);
    ASSERT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last, .data = large.data}),
              DropReason::none);
    EXPECT_EQ(records().size(), 2U);
}

TEST_F(SessionLaneTest, ResultsThatFindNoPlaceAreRefused) {
    open();
    validate();
    std::uint64_t batch = 1;
    for (; records().size() == batch - 1; ++batch) {
        const std::uint8_t flags = batch == 1 ? 3 : part_is_last;
        ASSERT_EQ(put({.batch = batch,
                       .follows = static_cast<std::uint16_t>(batch == 1 ? 0 : 1),
                       .flags = flags}),
                  DropReason::none);
        (void)flush();
        ASSERT_LE(batch, limits().results);
    }
    EXPECT_GE(records().size(), limits().results - 2);
    host.commit(5);
    for (int turn = 0; turn < 100 && lane.flush(now_ns, clock_ms()) != 0; ++turn) {
    }
    ASSERT_EQ(put({.batch = batch - 1, .follows = 1, .flags = part_is_last}), DropReason::none);
    EXPECT_EQ(records().size(), batch - 1);
}

TEST_F(SessionLaneTest, ASessionThatIsClosedAnswersWhatItHasTaken) {
    open();
    validate();
    ASSERT_EQ(put({}), DropReason::none);
    EXPECT_TRUE(lane.close(77, CloseCode::fenced, 10, now_ns));
    EXPECT_EQ(put({.batch = 2, .follows = 1, .flags = part_is_last}), DropReason::session_unknown);
    EXPECT_TRUE(host.ended_ids.empty());
    (void)flush();
    host.commit(5);
    const auto answers = flush();
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(entries_of(answers)[0].status, PartStatus::stored);
    EXPECT_EQ(answers[0].closed, CloseCode::fenced);
    EXPECT_EQ(answers[0].detail, 10U);
    EXPECT_EQ(host.ended_ids.size(), 1U);
    EXPECT_FALSE(lane.close(77, CloseCode::fenced, 10, now_ns));
}

TEST_F(SessionLaneTest, ACommitAfterItsSessionIsGoneHurtsNobody) {
    open();
    validate();
    ASSERT_EQ(put({}), DropReason::none);
    ASSERT_TRUE(lane.close(77, CloseCode::revoked, 0, now_ns));
    now_ns += 6 * second_ns;
    (void)flush();
    EXPECT_EQ(host.ended_ids.size(), 1U);
    open(78);  // in the same slot
    host.commit(5);
    EXPECT_TRUE(flush().empty());
    EXPECT_EQ(lane.table()[lane.table().find(78)].in_flight, 0U);
}

TEST_F(SessionLaneTest, SessionsEndByThemselves) {
    SessionGrant waiting = grant(1);
    waiting.activate_by_ns = now_ns + 10 * second_ns;
    SessionGrant short_lived = grant(2);
    short_lived.expires_ns = now_ns + 20 * second_ns;
    ASSERT_TRUE(lane.add(waiting, now_ns) && lane.add(short_lived, now_ns));
    open();
    validate();
    lane.renew(2, now_ns + 30 * second_ns);
    const auto ended_after = [&](std::uint64_t seconds) {
        now_ns += seconds * second_ns;
        (void)lane.flush(now_ns, clock_ms());
        return host.ended_ids.size();
    };
    EXPECT_EQ(ended_after(9), 0U);
    EXPECT_EQ(ended_after(1), 1U);
    EXPECT_EQ(ended_after(15), 1U);
    EXPECT_EQ(ended_after(5), 2U);
    EXPECT_EQ(host.ended_ids[1], (std::pair<std::uint64_t, CloseCode>{2, CloseCode::expired}));
    EXPECT_EQ(ended_after(269), 2U);
    EXPECT_EQ(ended_after(1), 3U);
    EXPECT_EQ(host.ended_ids[2], (std::pair<std::uint64_t, CloseCode>{77, CloseCode::idle}));
    EXPECT_EQ(lane.counters().sessions_ended.get(), 3U);
}

TEST_F(SessionLaneTest, AClientClosesItsSession) {
    open();
    validate();
    const CloseBlock block;
    ASSERT_EQ(say({reinterpret_cast<const std::byte*>(&block), sizeof block}), DropReason::none);
    EXPECT_EQ(flush()[0].closed, CloseCode::closed);
    EXPECT_EQ(host.ended_ids.size(), 1U);
}

TEST_F(SessionLaneTest, ATableAtItsLimitRefusesNewSessionsAndServesTheOthers) {
    for (std::uint64_t id = 77; id < 77 + 8; ++id) {
        ASSERT_TRUE(lane.add(grant(id), now_ns));
    }
    EXPECT_FALSE(lane.add(grant(1000), now_ns));
    EXPECT_FALSE(lane.add(grant(77), now_ns));
    EXPECT_EQ(put({}), DropReason::none);
    ASSERT_TRUE(lane.close(80, CloseCode::revoked, 0, now_ns));
    (void)lane.flush(now_ns, clock_ms());
    EXPECT_TRUE(lane.add(grant(1000), now_ns));
}

TEST_F(SessionLaneTest, FlowsHaveALimitToo) {
    SessionGrant few = grant();
    few.flows = 2;
    ASSERT_TRUE(lane.add(few, now_ns));
    validate();
    for (std::uint32_t flow = 0; flow < 3; ++flow) {
        ASSERT_EQ(put({.flow = flow}), DropReason::none);
    }
    const auto entries = entries_of(flush());
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].status, PartStatus::throttled);
    EXPECT_EQ(entries[0].cause, static_cast<std::uint16_t>(CreditCause::producers));
    EXPECT_EQ(records().size(), 2U);
}

TEST_F(SessionLaneTest, AliasesAndPiecesThatAreNotOfferedAreRefused) {
    open();
    validate();
    Buffer memory(2000);
    TextWriter writer(memory);
    BatchBlock head;
    head.shard = 5;
    head.batch = 1;
    RecordOut record{{}, as_bytes("x")};
    record.uses_alias = true;
    ASSERT_TRUE(writer.begin_part(head) && writer.add_record(record) && writer.end_part(3));
    ASSERT_EQ(say(writer.text()), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::unknown_alias);
    TextWriter piece(memory);
    FragmentBlock fragment;
    fragment.part = head;
    fragment.part.record_count = 1;
    fragment.part.block.flags = 3;
    fragment.total_bytes = 2000;
    fragment.fragment_bytes = 1024;
    ASSERT_TRUE(piece.add_fragment(fragment, Buffer(1024)));
    ASSERT_EQ(say(piece.text()), DropReason::none);
    EXPECT_EQ(entries_of(flush())[0].status, PartStatus::too_large);
}

TEST_F(SessionLaneTest, WhatCannotBeSentIsCounted) {
    open();
    validate();
    host.can_send = false;
    ASSERT_EQ(say(ping()), DropReason::none);
    EXPECT_TRUE(flush().empty());
    EXPECT_EQ(lane.counters().not_sent.get(), 1U);
}

struct SessionOpening : SessionFixture {
    static Buffer open_datagram() {
        Buffer out(open_bytes);
        Header header;
        header.type = DatagramType::open;
        header.session = 4;
        header.packet_number = 1;
        store(out.data(), header);
        out[40] = std::byte{7};  // of the client's random
        return out;
    }
    // With the RETRY's cookie put in.
    static Buffer again(Buffer datagram, const Buffer& retry) {
        std::copy(retry.begin() + 64, retry.end(), datagram.begin() + 64);
        return datagram;
    }
    Buffer retried() {
        host.busy_opening = true;
        host.sent.clear();
        EXPECT_EQ(deliver(open_datagram()), DropReason::none);
        EXPECT_EQ(host.sent.size(), 1U);
        return host.sent.at(0).second;
    }
};

TEST_F(SessionOpening, GoesToAControlThread) {
    EXPECT_EQ(deliver(open_datagram()), DropReason::none);
    EXPECT_EQ(host.opens, std::vector<Buffer>{open_datagram()});
    EXPECT_TRUE(host.sent.empty());
    EXPECT_EQ(lane.counters().opens_passed.get(), 1U);
    Buffer cut = open_datagram();
    cut.resize(open_bytes - 1);
    EXPECT_EQ(deliver(cut), DropReason::session_open_size);
    host.can_open = false;
    EXPECT_EQ(deliver(open_datagram()), DropReason::session_open_busy);
    EXPECT_EQ(lane.table().session_count(), 0U);
}

TEST_F(SessionOpening, UnderLoadTheAddressMustBeReached) {
    const Buffer retry = retried();
    ASSERT_EQ(retry.size(), retry_bytes);
    Header header;
    EXPECT_EQ(check_at_client(retry, header), DropReason::none);
    EXPECT_EQ(header.type, DatagramType::retry);
    EXPECT_EQ(header.session, 4U);
    EXPECT_EQ(retry[40], std::byte{7});
    EXPECT_TRUE(host.opens.empty());
    const Buffer good = again(open_datagram(), retry);
    EXPECT_EQ(deliver(good), DropReason::none);
    EXPECT_EQ(host.opens.size(), 1U);
    EXPECT_EQ(deliver_from(peer_of(5001), good), DropReason::session_cookie);
    Peer elsewhere = client;
    elsewhere.address.bytes[3] = std::byte{9};
    EXPECT_EQ(deliver_from(elsewhere, good), DropReason::session_cookie);
    for (const std::size_t at :
         {std::size_t{8}, std::size_t{40}, std::size_t{64}, std::size_t{87}}) {
        Buffer bad = good;
        bad[at] ^= std::byte{1};
        EXPECT_EQ(deliver(bad), DropReason::session_cookie) << at;
    }
    now_ns += 60 * second_ns;
    EXPECT_EQ(deliver(good), DropReason::none) << "the minute before";
    now_ns += 60 * second_ns;
    EXPECT_EQ(deliver(good), DropReason::session_cookie);
    EXPECT_EQ(host.opens.size(), 2U);
}

TEST_F(SessionOpening, ManyAtOnceAreLoad) {
    for (int i = 0; i < 500; ++i) {
        ASSERT_EQ(deliver(open_datagram()), DropReason::none);
    }
    EXPECT_EQ(host.opens.size(), 100U) << "a tenth of a second's";
    EXPECT_EQ(lane.counters().retries.get(), 400U);
    now_ns += second_ns / 100;
    for (int i = 0; i < 500; ++i) {
        ASSERT_EQ(deliver(open_datagram()), DropReason::none);
    }
    EXPECT_EQ(host.opens.size(), 110U);
}

TEST(SlotIndex, AgreesWithAMap) {
    SlotIndex index(64);
    std::map<std::uint64_t, std::uint32_t> model;
    std::vector<std::uint64_t> key_of(64);
    std::vector<std::uint32_t> free(64);
    std::iota(free.begin(), free.end(), 0);
    std::uint64_t random = 1;
    for (int i = 0; i < 100'000; ++i) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        // Few hashes, so that they collide.
        const std::uint64_t key = random >> 57;
        const std::uint64_t hash = key % 16 * 8;
        const auto is = [&](std::uint32_t slot) { return key_of[slot] == key; };
        const auto found = model.find(key);
        ASSERT_EQ(index.find(hash, is), found == model.end() ? no_slot : found->second);
        if (found != model.end()) {
            index.erase(hash, found->second);
            free.push_back(found->second);
            model.erase(found);
        } else if (!free.empty()) {
            key_of[free.back()] = key;
            index.insert(hash, free.back());
            model[key] = free.back();
            free.pop_back();
        }
    }
}

}  // namespace
}  // namespace penstock::session
