// Frames: every kind of damage is told for what it is, and the bytes are those of version 1.
#include "storage/format/frame.h"

#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/storage/format/golden.h"

namespace penstock {
namespace {

constexpr std::uint64_t set_id = 0x1122334455667788;

// Three records: plain, with an explicit hash, with a producer's mark.
std::vector<std::byte> sample_frame(FrameHeader* out = nullptr) {
    std::vector<std::byte> frame(sizeof(FrameHeader));
    const Hash128 hash{0x0102030405060708, 0x090a0b0c0d0e0f10};
    const ProducerMark mark{.producer = 7, .epoch = 3, .offset_in_batch = 1, .batch = 42};
    const std::array<RecordIn, 3> records{
        RecordIn{as_bytes("key-1"), as_bytes("first"), nullptr, nullptr},
        RecordIn{as_bytes("key-2"), as_bytes("second record"), &hash, nullptr},
        RecordIn{as_bytes("k"), as_bytes(""), nullptr, &mark}};
    for (std::uint32_t i = 0; i < records.size(); ++i) {
        const std::size_t at = frame.size();
        frame.resize(at + record_bytes(records[i]));
        EXPECT_EQ(encode_record(records[i], i * 10, frame.data() + at), record_bytes(records[i]));
    }
    FrameHeader header;
    header.payload_bytes = static_cast<std::uint32_t>(frame.size() - sizeof header);
    header.payload_crc = test::crc_of(Bytes(frame).subspan(sizeof header));
    header.record_count = 3;
    header.shard = 9;
    header.epoch = 4;
    header.first_sequence = 101;
    header.previous_epoch = 3;
    header.previous_sequence = 100;
    header.committed_through = 99;
    header.first_arrival_ms = 1'700'000'000'000;
    header.last_arrival_ms = 1'700'000'000'020;
    header.previous_crc = 0xabcdef01;
    header.group = 2;
    header.set_id = set_id;
    seal_header(header, frame.data());
    frame.resize(header.total_bytes());
    if (out != nullptr) {
        *out = header;
    }
    return frame;
}

// Turns every byte round instead of encrypting it.
class TurningSealer final : public RecordSealer {
public:
    void seal(const SealInput& input, RecordSeal& seal, std::byte* to) noexcept override {
        EXPECT_EQ(input.flags, record_is_sealed | record_has_hash | record_has_producer);
        EXPECT_EQ(input.extras.size(), sizeof(Hash128) + sizeof(ProducerMark));
        seal.generation = 3;
        for (const Bytes part : {input.partition_key, input.data}) {
            for (const std::byte one : part) {
                *to++ = ~one;
            }
        }
    }
};

TEST(Frame, ASealedRecordHasItsSealBeforeItsContents) {
    TurningSealer sealer;
    const Hash128 hash{1, 2};
    const ProducerMark mark{3, 4, 5, 6};
    RecordIn in{as_bytes("key"), as_bytes("data"), &hash, &mark};
    const std::uint64_t clear_bytes = record_bytes(in);
    in.sealer = &sealer;
    std::vector<std::byte> record(record_bytes(in));
    EXPECT_EQ(record.size(), clear_bytes + sizeof(RecordSeal));
    EXPECT_EQ(encode_record(in, 0, record.data(), {1, 2, 3}), record.size());
    FrameHeader header;
    header.record_count = 1;
    RecordView view;
    RecordWalker walker(header, record);
    ASSERT_TRUE(walker.next(view));
    EXPECT_EQ(view.seal.size(), sizeof(RecordSeal));
    EXPECT_EQ(load<RecordSeal>(view.seal.data()).generation, 3U);
    EXPECT_EQ(view.extras.size(), sizeof(Hash128) + sizeof(ProducerMark));
    EXPECT_EQ(view.explicit_hash, hash);
    EXPECT_EQ(view.partition_key.size(), 3U);
    EXPECT_EQ(view.partition_key[0], ~std::byte{'k'});
    EXPECT_EQ(view.data[3], ~std::byte{'a'});
    EXPECT_FALSE(walker.next(view));
    EXPECT_FALSE(walker.malformed());
    // Lengths that leave no room for the seal, and a flag that nobody knows.
    for (const std::size_t at : {std::size_t{0}, std::size_t{5}}) {
        auto damaged = record;
        damaged[at] = at == 0 ? damaged[at] ^ std::byte{32} : damaged[at] | std::byte{8};
        RecordWalker over(header, damaged);
        EXPECT_FALSE(over.next(view));
        EXPECT_TRUE(over.malformed());
    }
}

TEST(Frame, AnIntactOneGivesItsRecordsBack) {
    const auto frame = sample_frame();
    FrameHeader header;
    ASSERT_EQ(check_frame(frame, set_id, header), FrameFault::none);
    const Bytes payload = Bytes(frame).subspan(sizeof header, header.payload_bytes);
    EXPECT_TRUE(records_add_up(header, payload));
    RecordWalker walker(header, payload);
    RecordView record;
    ASSERT_TRUE(walker.next(record));
    EXPECT_EQ(record.sequence, 101U);
    EXPECT_EQ(as_text(record.data), "first");
    ASSERT_TRUE(walker.next(record));
    EXPECT_TRUE(record.has_explicit_hash);
    EXPECT_EQ(record.explicit_hash.low, 0x090a0b0c0d0e0f10U);
    EXPECT_EQ(record.arrival_ms, 1'700'000'000'010);
    ASSERT_TRUE(walker.next(record));
    EXPECT_EQ(record.sequence, 103U);
    EXPECT_TRUE(record.data.empty());
    EXPECT_FALSE(walker.next(record));
    EXPECT_FALSE(walker.malformed());
}

TEST(Frame, EveryFlippedHeaderBitIsNoticed) {
    for (std::size_t bit = 0; bit < sizeof(FrameHeader) * 8; ++bit) {
        auto frame = sample_frame();
        frame[bit / 8] ^= std::byte{1} << (bit % 8);
        FrameHeader header;
        EXPECT_EQ(check_frame(frame, set_id, header), FrameFault::header_damaged) << "bit " << bit;
    }
}

// A magic that rotted leaves a CRC that matches, and the other way round. Without both nothing says
// that there was a frame.
TEST(Frame, WithoutMagicAndChecksumItIsNone) {
    auto frame = sample_frame();
    FrameHeader header;
    frame[0] ^= std::byte{1};
    frame[4] ^= std::byte{1};
    EXPECT_EQ(check_frame(frame, set_id, header), FrameFault::not_a_frame);
    EXPECT_EQ(check_frame(std::vector<std::byte>(4096), set_id, header), FrameFault::not_a_frame);
}

TEST(Frame, EveryFlippedPayloadBitIsNoticed) {
    FrameHeader sealed;
    const auto good = sample_frame(&sealed);
    for (std::size_t bit = 0; bit < std::size_t{sealed.payload_bytes} * 8; ++bit) {
        auto frame = good;
        frame[sizeof(FrameHeader) + bit / 8] ^= std::byte{1} << (bit % 8);
        FrameHeader header;
        EXPECT_EQ(check_frame(frame, set_id, header), FrameFault::payload_damaged) << "bit " << bit;
    }
}

TEST(Frame, EveryTruncationIsNoticed) {
    FrameHeader sealed;
    const auto frame = sample_frame(&sealed);
    for (std::size_t length = 0; length < sizeof(FrameHeader) + sealed.payload_bytes; ++length) {
        FrameHeader header;
        EXPECT_EQ(check_frame(Bytes(frame).first(length), set_id, header), FrameFault::truncated)
            << "length " << length;
    }
}

FrameFault fault_of(const std::function<void(FrameHeader&)>& change) {
    FrameHeader header;
    auto frame = sample_frame(&header);
    change(header);
    seal_header(header, frame.data());
    FrameHeader out;
    return check_frame(frame, set_id, out);
}

TEST(Frame, SoundOnesThatAreNotOursAreTold) {
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.set_id ^= 1; }), FrameFault::foreign);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.version = 2; }), FrameFault::unknown_version);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.refuse_flags = 1; }), FrameFault::unknown_version);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.read_only_flags = 1; }), FrameFault::none);
}

TEST(Frame, ContradictionsAreMalformed) {
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.kind = FrameKind::none; }), FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.kind = static_cast<FrameKind>(5); }),
              FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.shard = 0; }), FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.record_count = 0; }), FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.previous_sequence = 101; }), FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.committed_through = 101; }), FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.last_arrival_ms = 0; }), FrameFault::malformed);
    EXPECT_EQ(fault_of([](FrameHeader& h) { h.payload_bytes = frame_payload_max + 1; }),
              FrameFault::malformed);
}

TEST(Frame, RecordsThatDoNotAddUpAreMalformedAndNeverReadBeyondThePayload) {
    FrameHeader header;
    const auto good = sample_frame(&header);
    for (std::size_t at = 0; at < header.payload_bytes; ++at) {
        for (const unsigned value : {0x00U, 0x01U, 0x7fU, 0xffU}) {
            std::vector<std::byte> payload(good.begin() + sizeof header,
                                           good.begin() + sizeof header + header.payload_bytes);
            payload[at] = static_cast<std::byte>(value);
            RecordWalker walker(header, payload);
            RecordView record;
            while (walker.next(record)) {
                EXPECT_LE(record.data.data() + record.data.size(), payload.data() + payload.size());
            }
        }
    }
    header.record_count = 2;
    EXPECT_FALSE(records_add_up(header, Bytes(good).subspan(sizeof header, header.payload_bytes)));
    header.record_count = 4;
    EXPECT_FALSE(records_add_up(header, Bytes(good).subspan(sizeof header, header.payload_bytes)));
}

TEST(Frame, BytesAreThoseOfVersionOne) {
    test::expect_golden("frame-v1.bin", sample_frame());
}

}  // namespace
}  // namespace penstock
