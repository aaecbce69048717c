// What is not a text is refused as a whole; the golden test has what is.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "dataplane/session/decode.h"
#include "dataplane/session/encode.h"

namespace penstock::session {
namespace {

using Buffer = std::vector<std::byte>;

struct SessionCodec : testing::Test {
    ClientText out;
    BlockType fault = BlockType::none;

    bool decodes(Bytes text) { return decode_client(text, out, fault); }
    // With this part's header and one record of it changed.
    bool decodes(const BatchBlock& head, RecordHeader record, std::string_view rest,
                 std::uint16_t length_more = 0) {
        Buffer text(sizeof head + sizeof record + rest.size());
        BatchBlock block = head;
        block.block.type = BlockType::batch;
        block.block.length = static_cast<std::uint16_t>(text.size() + length_more);
        store(text.data(), block);
        store(text.data() + sizeof head, record);
        std::memcpy(text.data() + sizeof head + sizeof record, rest.data(), rest.size());
        return decodes(text);
    }
    static BatchBlock head() {
        BatchBlock block;
        block.block.flags = part_starts_flow;
        block.record_count = 1;
        block.shard = 5;
        block.batch = 9;
        return block;
    }
    static RecordHeader record() { return {0, 0, 2, 3}; }
};

TEST_F(SessionCodec, ThePartThatOthersAreComparedWithIsGood) {
    EXPECT_TRUE(decodes(head(), record(), "kkddd"));
    EXPECT_TRUE(out.wants_answer);
}

TEST_F(SessionCodec, EveryFieldOfAPartHasItsBounds) {
    const auto refused = [&](auto&& change) {
        BatchBlock block = head();
        change(block);
        return !decodes(block, record(), "kkddd") && fault == BlockType::batch;
    };
    EXPECT_TRUE(refused([](BatchBlock& b) { b.block.flags = 4; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.block.flags = 0; })) << "follows nothing";
    EXPECT_TRUE(refused([](BatchBlock& b) { b.record_count = 0; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.record_count = 2; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.record_count = 513; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.first_offset = 512; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.shard = 0; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.batch = 0; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.batch = batch_number_max + 1; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.follows = 9; }));
    EXPECT_TRUE(refused([](BatchBlock& b) { b.reserved = 1; }));
    EXPECT_FALSE(refused([](BatchBlock& b) { b.follows = 8; }));
    EXPECT_FALSE(refused([](BatchBlock& b) { b.first_offset = 511; }));
}

TEST_F(SessionCodec, EveryFieldOfARecordHasItsBounds) {
    EXPECT_FALSE(decodes(head(), {16, 0, 2, 3}, "kkddd"));
    EXPECT_FALSE(decodes(head(), {0, 1, 2, 3}, "kkddd"));
    EXPECT_FALSE(decodes(head(), {0, 0, 0, 3}, "ddd")) << "a record without a key";
    EXPECT_FALSE(decodes(head(), {0, 0, 2, 4}, "kkddd")) << "data past the block";
    EXPECT_FALSE(decodes(head(), {0, 0, 2, 0xffffffff}, "kkddd"));
    EXPECT_FALSE(decodes(head(), {0, 0, 2, 2}, "kkddd")) << "a byte that no record has";
    EXPECT_FALSE(decodes(head(), {6, 0, 2, 3}, "kkddd")) << "an alias used and made";
    EXPECT_TRUE(decodes(head(), {2, 0, 2, 3}, "ddd"));
    EXPECT_TRUE(decodes(head(), {8, 0, 2, 3}, std::string_view("\x01\x00kkddd", 7)));
    EXPECT_EQ(out.parts[0].records[0].offset, 1);
    EXPECT_FALSE(decodes(head(), {8, 0, 2, 3}, std::string_view("\x00\x00kkddd", 7)));
    EXPECT_FALSE(decodes(head(), {8, 0, 2, 3}, std::string_view("\x00\x02kkddd", 7)));
    EXPECT_FALSE(decodes(head(), {1, 0, 2, 3}, "0123456789abcde"));
    EXPECT_FALSE(decodes(head(), record(), "kkddd", 1)) << "a block past the text";
}

TEST_F(SessionCodec, KeysAreCharacters) {
    const auto is_key = [](std::string_view text) { return is_partition_key(as_bytes(text)); };
    EXPECT_FALSE(is_key(""));
    EXPECT_TRUE(is_key("\x7f"));
    EXPECT_TRUE(is_key(std::string(256, 'k')));
    EXPECT_FALSE(is_key(std::string(257, 'k')));
    std::string wide;
    for (int i = 0; i < 256; ++i) {
        wide += "\xf0\x9f\x98\x80";
    }
    EXPECT_TRUE(is_key(wide));
    EXPECT_FALSE(is_key(wide + "k"));
    EXPECT_TRUE(is_key("\xc3\xa9t\xc3\xa9"));
    EXPECT_TRUE(is_key("\xed\x9f\xbf"));
    EXPECT_TRUE(is_key("\xf4\x8f\xbf\xbf"));
    for (const char* const bad : {"\x80", "\xc3", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80",
                                  "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
                                  "\xf5\x80\x80\x80", "\xe2\x82", "\xe2\x82x", "abcdefgh\xff"}) {
        EXPECT_FALSE(is_key(bad)) << testing::PrintToString(bad);
    }
}

TEST_F(SessionCodec, BlocksHaveTheirSizesAndFlags) {
    const auto block = [](unsigned type, unsigned flags, unsigned length, std::size_t size) {
        Buffer text(size);
        store(text.data(),
              BlockHeader{static_cast<BlockType>(type), static_cast<std::uint8_t>(flags),
                          static_cast<std::uint16_t>(length)});
        return text;
    };
    EXPECT_FALSE(decodes({})) << "a datagram without a block";
    EXPECT_FALSE(decodes(block(1, 0, 4, 5))) << "a byte behind the last block";
    EXPECT_FALSE(decodes(block(1, 0, 3, 4)));
    EXPECT_FALSE(decodes(block(1, 0, 5, 4)));
    EXPECT_FALSE(decodes(block(1, 1, 4, 4)));
    EXPECT_TRUE(decodes(block(1, 0, 4, 4)));
    EXPECT_FALSE(out.wants_answer) << "padding alone";
    EXPECT_TRUE(decodes(block(4, 0, 4, 4)));
    EXPECT_TRUE(decodes(block(4, 1, 4, 4)));
    EXPECT_FALSE(decodes(block(4, 2, 4, 4)));
    EXPECT_FALSE(decodes(block(4, 0, 8, 8)));
    for (const auto& [type, size] : {std::pair{5, 12}, {6, 20}, {7, 8}, {9, 24}, {16, 64}}) {
        const auto right = static_cast<std::size_t>(size);
        const auto kind = static_cast<unsigned>(type);
        EXPECT_TRUE(decodes(block(kind, 0, static_cast<unsigned>(size), right))) << type;
        EXPECT_FALSE(decodes(block(kind, 0, static_cast<unsigned>(size) - 1, right - 1))) << type;
        EXPECT_FALSE(decodes(block(kind, 0, static_cast<unsigned>(size) + 1, right + 1))) << type;
        EXPECT_FALSE(decodes(block(kind, 2, static_cast<unsigned>(size), right))) << type;
    }
    EXPECT_FALSE(decodes(block(8, 0, 48, 48))) << "a subscription to no shard";
    for (const unsigned type : {0U, 10U, 15U, 17U, 18U, 19U, 20U, 21U, 22U, 23U, 24U, 255U}) {
        EXPECT_FALSE(decodes(block(type, 0, 64, 64))) << type;
        EXPECT_EQ(static_cast<unsigned>(fault), type);
    }
}

TEST_F(SessionCodec, PiecesTileTheirPart) {
    const auto piece = [&](std::uint32_t total, std::uint32_t offset, std::uint16_t unit,
                           std::size_t size) {
        FragmentBlock head;
        head.part = SessionCodec::head();
        head.total_bytes = total;
        head.offset = offset;
        head.fragment_bytes = unit;
        Buffer memory(sizeof head + size + 16);
        TextWriter writer(memory);
        EXPECT_TRUE(writer.add_fragment(head, Buffer(size)));
        return decodes(writer.text());
    };
    EXPECT_TRUE(piece(3000, 0, 1024, 1024));
    EXPECT_TRUE(piece(3000, 2048, 1024, 952));
    EXPECT_TRUE(piece(2048, 1024, 1024, 1024));
    EXPECT_FALSE(piece(3000, 1, 1024, 1024));
    EXPECT_FALSE(piece(3000, 0, 1024, 1023));
    EXPECT_FALSE(piece(3000, 2048, 1024, 953)) << "past the end";
    EXPECT_FALSE(piece(3000, 2048, 1024, 951));
    EXPECT_FALSE(piece(3000, 0, 1023, 1023));
    EXPECT_FALSE(piece(20'000, 0, 8193, 8193));
    EXPECT_FALSE(piece(3000, 0, 4096, 0));
    EXPECT_FALSE(piece(max_record_bytes + fragmented_extra_bytes + 1, 0, 1024, 1024));
    EXPECT_FALSE(piece(3000, 0xfffffc00, 1024, 1024));
}

// A datagram of the smallest records there are, as large as one can be.
TEST_F(SessionCodec, AFullDatagramHasRoomInTheStores) {
    Buffer memory(clear_bytes_max);
    TextWriter writer(memory);
    RecordOut record;
    record.uses_alias = true;
    std::uint64_t batch = 1;
    for (bool any = true; any; ++batch) {
        BatchBlock part = head();
        part.batch = batch;
        any = writer.begin_part(part);
        while (any && writer.add_record(record)) {
        }
        any = any && writer.end_part(part_starts_flow);
    }
    ASSERT_TRUE(decodes(writer.text()));
    Buffer small(clear_bytes_max / 40 * 40);
    TextWriter singles(small);
    for (batch = 1; singles.room() >= 40; ++batch) {
        BatchBlock part = head();
        part.batch = batch;
        ASSERT_TRUE(singles.begin_part(part) && singles.add_record(record) &&
                    singles.end_part(part_starts_flow));
    }
    ASSERT_TRUE(decodes(singles.text()));
    EXPECT_EQ(out.parts.size(), clear_bytes_max / 40);
}

TEST_F(SessionCodec, WhatDoesNotFitIsNotWritten) {
    std::array<std::byte, 64> memory;
    TextWriter writer(memory);
    BatchBlock part = head();
    ASSERT_TRUE(writer.begin_part(part));
    EXPECT_FALSE(writer.add_record({as_bytes("k"), Bytes(memory)}));
    EXPECT_FALSE(writer.end_part(0));
    EXPECT_EQ(writer.size(), 0U);
    const std::array<ResultEntry, 2> entries;
    EXPECT_EQ(writer.add_results({}, entries), 1U) << "one of two";
    EXPECT_EQ(writer.add_results({}, entries), 0U);
    EXPECT_EQ(writer.size(), 64U);
    EXPECT_FALSE(writer.add(ReportBlock{}));
    std::array<std::byte, 100> more;
    TextWriter maps(more);
    const std::array<MapEntry, 2> shards;
    EXPECT_EQ(maps.add_map({}, shards), 1U);
    EXPECT_EQ(load<BlockHeader>(more.data()).flags, map_has_more);
}

}  // namespace
}  // namespace penstock::session
