// Journal and state blocks: damage, foreign blocks, and the bytes of version 1.
#include "storage/format/block.h"

#include <gtest/gtest.h>

#include "tests/unit/storage/format/golden.h"

namespace penstock {
namespace {

constexpr std::uint64_t set_id = 0x1122334455667788;

std::vector<std::byte> journal_block(const std::function<void(JournalBlockHeader&)>& change = {}) {
    std::vector<std::byte> block(block_bytes);
    JournalBlockHeader header;
    header.sent_to = 0b111;
    header.group = 2;
    header.set_id = set_id;
    header.epoch = 5;
    header.number = 77;
    header.frame_count = 1;
    header.used_bytes = 64 + 136;
    header.durable_through = 75;
    for (std::size_t at = sizeof header; at < header.used_bytes; ++at) {
        block[at] = static_cast<std::byte>(at);
    }
    if (change) {
        change(header);
    }
    seal_header(header, block.data());
    return block;
}

std::vector<std::byte> state_block(const std::function<void(StateBlockHeader&)>& change = {}) {
    std::vector<std::byte> block(block_bytes);
    StateBlockHeader header;
    header.kind = StateKind::snapshot_last;
    header.sent_to = 0b011;
    header.group = 2;
    header.set_id = set_id;
    header.epoch = 5;
    header.generation = 3;
    header.index = 1;
    header.payload_bytes = 100;
    header.previous_crc = 0x01020304;
    for (std::size_t at = 0; at < header.payload_bytes; ++at) {
        block[sizeof header + at] = static_cast<std::byte>(at * 7);
    }
    header.payload_crc = test::crc_of(Bytes(block).subspan(sizeof header, header.payload_bytes));
    if (change) {
        change(header);
    }
    seal_header(header, block.data());
    return block;
}

template <typename Header>
BlockFault check(const std::vector<std::byte>& block, std::size_t length = block_bytes) {
    Header header;
    return check_block(Bytes(block).first(length), set_id, 2, header);
}

TEST(JournalBlock, EveryFlippedHeaderBitIsNoticed) {
    ASSERT_EQ(check<JournalBlockHeader>(journal_block()), BlockFault::none);
    for (std::size_t bit = 0; bit < sizeof(JournalBlockHeader) * 8; ++bit) {
        auto block = journal_block();
        block[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_EQ(check<JournalBlockHeader>(block), BlockFault::header_damaged);
    }
}

TEST(JournalBlock, WithoutMagicAndChecksumItIsNone) {
    auto block = journal_block();
    block[0] ^= std::byte{1};
    block[4] ^= std::byte{1};
    EXPECT_EQ(check<JournalBlockHeader>(block), BlockFault::not_a_block);
    EXPECT_EQ(check<JournalBlockHeader>(std::vector<std::byte>(4096)), BlockFault::not_a_block);
}

TEST(JournalBlock, OthersAndImpossibleOnesAreTold) {
    using H = JournalBlockHeader;
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.set_id ^= 1; })), BlockFault::foreign);
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.group = 3; })), BlockFault::foreign);
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.version = 2; })), BlockFault::unknown_version);
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.refuse_flags = 4; })),
              BlockFault::unknown_version);
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.number = 0; })), BlockFault::malformed);
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.used_bytes = 63; })), BlockFault::malformed);
    EXPECT_EQ(check<H>(journal_block([](H& h) { h.used_bytes = journal_block_bytes_max + 1; })),
              BlockFault::malformed);
    for (std::size_t length = 0; length < sizeof(H); ++length) {
        EXPECT_EQ(check<H>(journal_block(), length), BlockFault::truncated);
    }
}

TEST(StateBlock, EveryFlippedBitIsNoticed) {
    ASSERT_EQ(check<StateBlockHeader>(state_block()), BlockFault::none);
    for (std::size_t bit = 0; bit < (sizeof(StateBlockHeader) + 100) * 8; ++bit) {
        auto block = state_block();
        block[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_EQ(check<StateBlockHeader>(block),
                  bit < 512 ? BlockFault::header_damaged : BlockFault::payload_damaged);
    }
}

TEST(StateBlock, OthersAndImpossibleOnesAreTold) {
    using H = StateBlockHeader;
    EXPECT_EQ(check<H>(state_block([](H& h) { h.set_id ^= 1; })), BlockFault::foreign);
    EXPECT_EQ(check<H>(state_block([](H& h) { h.group = 3; })), BlockFault::foreign);
    EXPECT_EQ(check<H>(state_block([](H& h) { h.version = 2; })), BlockFault::unknown_version);
    EXPECT_EQ(check<H>(state_block([](H& h) { h.refuse_flags = 1; })), BlockFault::unknown_version);
    EXPECT_EQ(check<H>(state_block([](H& h) { h.kind = StateKind::none; })), BlockFault::malformed);
    EXPECT_EQ(check<H>(state_block([](H& h) { h.kind = static_cast<StateKind>(4); })),
              BlockFault::malformed);
    EXPECT_EQ(check<H>(state_block([](H& h) { h.payload_bytes = 8192; })), BlockFault::truncated);
    for (std::size_t length = 0; length < sizeof(H) + 100; ++length) {
        EXPECT_EQ(check<H>(state_block(), length), BlockFault::truncated);
    }
}

TEST(JournalBlock, BytesAreThoseOfVersionOne) {
    test::expect_golden("journal-block-v1.bin", journal_block());
}
TEST(StateBlock, BytesAreThoseOfVersionOne) {
    test::expect_golden("state-block-v1.bin", state_block());
}

}  // namespace
}  // namespace penstock
