#include <random>

#include <gtest/gtest.h>

#include "control/kinesis/operations/token.h"
#include "control/kinesis/stream/hash_key.h"
#include "control/kinesis/stream/sequence_number.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {
namespace {

TEST(HashKey, DecimalRoundTripsAndIsBounded) {
    EXPECT_EQ(to_decimal({}), "0");
    EXPECT_EQ(to_decimal(hash_max), "340282366920938463463374607431768211455");
    EXPECT_EQ(parse_hash_key("340282366920938463463374607431768211455"), hash_max);
    for (const char* bad :
         {"", "340282366920938463463374607431768211456", "-1", "01", "1a", " 1",
          "999999999999999999999999999999999999999", "1000000000000000000000000000000000000000"}) {
        EXPECT_FALSE(parse_hash_key(bad)) << bad;
    }
    std::mt19937_64 random(1);
    for (int i = 0; i < 1000; ++i) {
        const Hash128 hash{random() >> random() % 64, random()};
        EXPECT_EQ(parse_hash_key(to_decimal(hash)), hash);
    }
}

TEST(HashRanges, TileTheWholeSpaceForEveryShardCount) {
    for (std::uint32_t count = 1; count <= 3000; count += count < 600 ? 1 : 97) {
        const auto ranges = tile_hash_space(count);
        ASSERT_EQ(ranges.size(), count);
        ASSERT_EQ(ranges.front().start, Hash128{});
        ASSERT_EQ(ranges.back().end, hash_max);
        for (std::size_t i = 1; i < count; ++i) {
            ASSERT_EQ(to_uint128(ranges[i].start), to_uint128(ranges[i - 1].end) + 1) << count;
            ASSERT_LE(ranges[i].start, ranges[i].end);
        }
    }
}

TEST(HashRanges, AreKinesisOwnForThreeShards) {
    const auto ranges = tile_hash_space(3);
    EXPECT_EQ(to_decimal(ranges[0].end), "113427455640312821154458202477256070484");
    EXPECT_EQ(to_decimal(ranges[1].start), "113427455640312821154458202477256070485");
    EXPECT_EQ(to_decimal(ranges[1].end), "226854911280625642308916404954512140969");
    EXPECT_EQ(to_decimal(ranges[2].start), "226854911280625642308916404954512140970");
    EXPECT_EQ(to_decimal(tile_hash_space(4)[0].end), "85070591730234615865843651857942052863");
}

TEST(ShardId, FormatsAndAcceptsTheLenientForms) {
    EXPECT_EQ(format_shard_id(3), "shardId-000000000003");
    EXPECT_EQ(format_shard_id(2147483647), "shardId-002147483647");
    for (const char* text : {"shardId-000000000003", "shardId-3", "3", "x-3", "shard-0003-9"}) {
        EXPECT_EQ(parse_shard_id(text), 3U) << text;
    }
    for (const char* text : {"", "shardId-", "shardId", "shardId-2147483648", "shardId-x", "-",
                             "3a", "99999999999999999999999999"}) {
        EXPECT_FALSE(parse_shard_id(text)) << text;
    }
}

TEST(SequenceNumber, HasTheKnownFormOf56Digits) {
    // 2 | 052a0a1f3 | 1 | 000000000000000a | 00 | 052a0a1f4 | 00000001 | 2
    SequenceNumber number;
    number.shard_created_s = 0x052a0a1f3;
    number.shard_number = 1;
    number.index = 10;
    number.written_s = 0x052a0a1f4;
    const std::string text = format_sequence_number(number);
    EXPECT_EQ(text.size(), sequence_number_digits);
    EXPECT_EQ(*parse_sequence_number(text), number);
    EXPECT_EQ(text, "49534491022921439323176822156138857894094346376232042514");
}

SequenceNumber random_number(std::mt19937_64& random) {
    SequenceNumber number;
    number.shard_created_s = static_cast<std::int64_t>(random() % (std::uint64_t{1} << 36));
    number.shard_number = static_cast<std::uint32_t>(random() % 0x80000000U);
    number.index = random() >> (1 + random() % 63);
    number.written_s = static_cast<std::int64_t>(random() % (std::uint64_t{1} << 36));
    return number;
}

TEST(SequenceNumber, RoundTripsAndGrowsWithTheIndex) {
    std::mt19937_64 random(2);
    for (int i = 0; i < 20000; ++i) {
        const SequenceNumber number = random_number(random);
        const std::string text = format_sequence_number(number);
        ASSERT_EQ(text.size(), sequence_number_digits);
        ASSERT_EQ(*parse_sequence_number(text), number);
        SequenceNumber later = number;
        later.index += 1 + random() % 1000;
        later.written_s = static_cast<std::int64_t>(random() % (std::uint64_t{1} << 36));
        if (later.index >> 63 == 0) {
            ASSERT_LT(text, format_sequence_number(later));
        }
        SequenceNumber child = random_number(random);
        child.shard_created_s = number.shard_created_s + 1;
        if (child.shard_created_s >> 36 == 0) {
            ASSERT_LT(text, format_sequence_number(child));
        }
    }
}

TEST(SequenceNumber, WriterAgreesWithFormatAcrossRunsAndJumps) {
    std::mt19937_64 random(3);
    SequenceNumberWriter writer;
    SequenceNumber number = random_number(random);
    for (int i = 0; i < 20000; ++i) {
        std::string out;
        writer.append(out, number);
        ASSERT_EQ(out, format_sequence_number(number));
        number.index += 1;
        if (random() % 50 == 0 || number.index >> 63 != 0) {
            number = random_number(random);
        } else if (random() % 20 == 0) {
            number.written_s ^= 1;
        }
    }
}

TEST(SequenceNumber, ForeignAndBrokenNumbersAreRefused) {
    using Fault = SequenceNumberFault;
    const auto fault_of = [](std::string_view text) { return parse_sequence_number(text).error(); };
    for (const char* text : {"", "x", "-1", "4959x",
                             "049590338271490256608559692538361571095921575989136588898", "00"}) {
        EXPECT_EQ(fault_of(text), Fault::malformed) << text;
    }
    EXPECT_EQ(fault_of(std::string(58, '9')), Fault::malformed);
    EXPECT_EQ(fault_of("0"), Fault::unknown_version);
    EXPECT_EQ(fault_of("12345"), Fault::unknown_version);
    SequenceNumber number;
    number.shard_created_s = 1'790'000'000;
    number.index = std::uint64_t{1} << 63;
    EXPECT_EQ(fault_of(format_sequence_number(number)), Fault::index_too_high);
    number.index = 1;
    number.shard_number = 0x80000000U;
    EXPECT_EQ(fault_of(format_sequence_number(number)), Fault::shard_too_high);
    // Version 1 ends in 1.
    number.shard_number = 3;
    std::string text = format_sequence_number(number);
    ASSERT_GT(text.back(), '0');
    text.back() = static_cast<char>(text.back() - 1);
    EXPECT_EQ(fault_of(text), Fault::unknown_version);
}

TEST(Token, IteratorRoundTripsAlsoInQuotes) {
    const TokenSealer sealer("key");
    ShardIterator iterator;
    iterator.kind = ShardIterator::Kind::sequence;
    iterator.shard_number = 7;
    iterator.incarnation = 9;
    iterator.sequence = 1ULL << 62;
    iterator.timestamp_ms = 5;
    iterator.issued_ms = 6;
    iterator.stream = std::string(128, 'n');
    const std::string token = encode_iterator(sealer, iterator);
    EXPECT_LE(token.size(), 512U);
    EXPECT_EQ(*decode_iterator(sealer, token), iterator);
    EXPECT_EQ(*decode_iterator(sealer, '"' + token + '"'), iterator);
    EXPECT_FALSE(decode_iterator(TokenSealer("other"), token));
    EXPECT_FALSE(decode_page(sealer, token));
}

TEST(Token, AnyChangedCharacterIsRefused) {
    const TokenSealer sealer("key");
    ShardIterator iterator;
    iterator.stream = "s";
    const std::string token = encode_iterator(sealer, iterator);
    for (std::size_t i = 0; i < token.size(); ++i) {
        std::string bad = token;
        bad[i] = bad[i] == 'A' ? 'B' : 'A';
        EXPECT_FALSE(decode_iterator(sealer, bad)) << i;
        EXPECT_FALSE(decode_iterator(sealer, token.substr(0, i))) << i;
    }
    for (const std::string& bad : {std::string("\""), std::string("\"\""), std::string(600, 'A')}) {
        EXPECT_FALSE(decode_iterator(sealer, bad));
    }
}

}  // namespace
}  // namespace penstock::kinesis
