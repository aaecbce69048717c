#include "control/keys/stream_crypt.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "storage/format/frame.h"

namespace penstock::keys {
namespace {

constexpr std::uint64_t stream = 42;
constexpr ShardUid shard{7};

struct StreamCryptTest : ::testing::Test {
    StreamCryptTest() {
        key_a = *ring.make_key({});
        key_b = *ring.make_key({});
        encryption.key_id = key_a;
        encryption.data_keys = {make_data_key(*ring.find(key_a), stream, 1, 1000)};
        crypt.emplace(encryption, stream, &ring, 2);
    }

    // A record as it stands in a frame, sealed by the stream's sealer of lane 0.
    std::vector<std::byte> sealed(std::string_view key, std::string_view data,
                                  const RecordPlace& place, const Hash128* hash = nullptr,
                                  const ProducerMark* mark = nullptr) {
        RecordIn in;
        in.partition_key = as_bytes(key);
        in.data = as_bytes(data);
        in.explicit_hash = hash;
        in.producer = mark;
        in.sealer = crypt->sealers()->of_lane(0);
        std::vector<std::byte> bytes(record_bytes(in));
        EXPECT_EQ(encode_record(in, 0, bytes.data(), place), bytes.size());
        return bytes;
    }
    // What a reader finds at `place`.
    static RecordView view_of(const std::vector<std::byte>& bytes, const RecordPlace& place) {
        FrameHeader header;
        header.record_count = 1;
        header.first_sequence = place.sequence;
        header.first_arrival_ms = place.arrival_ms;
        RecordWalker walker(header, bytes);
        RecordView view;
        EXPECT_TRUE(walker.next(view));
        return view;
    }
    bool opens(RecordView& view, ShardUid of = shard, std::uint32_t generation = 1) {
        return opener.open(*crypt->find(generation), of, view);
    }

    KeyRing ring;
    std::string key_a;
    std::string key_b;
    Encryption encryption;
    std::optional<StreamCrypt> crypt;
    RecordOpener opener;
    const RecordPlace here{value(shard), 4711, 1'700'000'000'123};
};

TEST_F(StreamCryptTest, WhatIsSealedOpensAndIsNotInClearBefore) {
    const Hash128 hash{1, 2};
    const ProducerMark mark{3, 4, 5, 6};
    const std::string large(3 << 20, 'x');
    for (const std::string_view data : {std::string_view("much to hide"), std::string_view(""),
                                        std::string_view(large), std::string_view("again")}) {
        for (const Hash128* explicit_hash : {static_cast<const Hash128*>(nullptr), &hash}) {
            const auto bytes = sealed("who it is", data, here, explicit_hash, &mark);
            const std::string_view text = as_text(Bytes(bytes));
            EXPECT_EQ(text.find("who it is"), std::string_view::npos);
            EXPECT_TRUE(data.empty() || text.find(data.substr(0, 12)) == std::string_view::npos);
            RecordView view = view_of(bytes, here);
            ASSERT_EQ(view.seal.size(), sizeof(RecordSeal));
            EXPECT_EQ(view.data.size(), data.size()) << "sizes are those in clear";
            EXPECT_EQ(view.has_explicit_hash, explicit_hash != nullptr);
            ASSERT_TRUE(opens(view));
            EXPECT_EQ(as_text(view.partition_key), "who it is");
            EXPECT_TRUE(as_text(view.data) == data);
            EXPECT_TRUE(view.seal.empty());
        }
    }
}

// Made by another implementation of AES-256-GCM; the example of docs/formats/frame.md.
TEST_F(StreamCryptTest, OpensTheExampleOfTheFormat) {
    constexpr std::uint8_t example[] = {
        0x37, 0x00, 0x00, 0x00, 0x01, 0x04, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00,
        0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
        0xa8, 0xa9, 0xaa, 0xab, 0x0a, 0xf0, 0xc2, 0xc5, 0xaa, 0xf3, 0x29, 0xa3, 0xdc, 0xa9,
        0x7b, 0x78, 0xd5, 0x5e, 0x84, 0x0d, 0x96, 0x73, 0x14, 0x48, 0x29, 0xa7, 0x6d};
    const auto bytes = std::as_bytes(std::span(example));
    const RecordPlace at{5, 4294967299, 1'700'000'000'000};
    StreamCrypt::Opened data_key;
    data_key.generation = 1;
    for (char i = 0; i < 32; ++i) {
        data_key.secret += i;
    }
    std::vector<std::byte> own(bytes.begin(), bytes.end());
    RecordView view = view_of(own, at);
    ASSERT_TRUE(opener.open(data_key, ShardUid{5}, view));
    EXPECT_EQ(as_text(view.partition_key), "pk");
    EXPECT_EQ(as_text(view.data), "hello");
}

TEST_F(StreamCryptTest, ARecordWithoutAKeyOpensToo) {
    const auto bytes = sealed("", "data", here);
    RecordView view = view_of(bytes, here);
    ASSERT_TRUE(opens(view));
    EXPECT_EQ(as_text(view.data), "data");
    EXPECT_TRUE(view.partition_key.empty());
}

TEST_F(StreamCryptTest, NothingOpensThatWasMovedOrChanged) {
    const Hash128 hash{1, 2};
    const auto bytes = sealed("key", "data", here, &hash);
    RecordView view = view_of(bytes, here);
    EXPECT_TRUE(opens(view));
    view = view_of(bytes, here);
    EXPECT_FALSE(opens(view, ShardUid{8})) << "in another shard";
    for (const RecordPlace& other : {RecordPlace{value(shard), 4712, here.arrival_ms},
                                     RecordPlace{value(shard), 4711, here.arrival_ms + 1}}) {
        view = view_of(bytes, other);
        EXPECT_FALSE(opens(view)) << "at another sequence or time";
    }
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        // Length, type, reserved arrival delta and the generation are judged before.
        const bool is_checked_before =
            at < sizeof(RecordHeader) || (at >= 32 && at < 32 + sizeof(std::uint32_t));
        if (is_checked_before) {
            continue;
        }
        auto damaged = bytes;
        damaged[at] ^= std::byte{1};
        view = view_of(damaged, here);
        EXPECT_FALSE(opens(view)) << "byte " << at;
    }
    // Bytes that the key and the data exchange.
    auto shifted = bytes;
    auto header = load<RecordHeader>(shifted.data());
    ++header.key_bytes;
    --header.data_bytes;
    store(shifted.data(), header);
    view = view_of(shifted, here);
    EXPECT_FALSE(opens(view));
}

TEST_F(StreamCryptTest, EachGenerationOpensWithItsOwnKey) {
    const auto before = sealed("k", "before", here);
    encryption.data_keys[0].ended_ms = 2000;
    encryption.data_keys.push_back(make_data_key(*ring.find(key_b), stream, 2, 2000));
    crypt.emplace(encryption, stream, &ring, 2);
    EXPECT_EQ(crypt->seal_key_id(), key_b);
    const auto after = sealed("k", "after", here);
    RecordView view = view_of(after, here);
    EXPECT_EQ(load<RecordSeal>(view.seal.data()).generation, 2U);
    EXPECT_FALSE(opens(view, shard, 1));
    EXPECT_TRUE(opens(view, shard, 2));
    view = view_of(before, here);
    EXPECT_TRUE(opens(view, shard, 1));
    EXPECT_EQ(crypt->find(3), nullptr);

    // Nothing seals any more, everything still opens.
    encryption.key_id.clear();
    crypt.emplace(encryption, stream, &ring, 2);
    EXPECT_EQ(crypt->sealers(), nullptr);
    EXPECT_EQ(crypt->seal_fault(), KeyFault::none);
    view = view_of(before, here);
    EXPECT_TRUE(opens(view, shard, 1));
}

TEST_F(StreamCryptTest, WithoutItsKeyAStreamHasNoSealers) {
    const auto fault_with = [&](const KeyRing* with) {
        const StreamCrypt other(encryption, stream, with, 2);
        EXPECT_NE(other.sealers(), nullptr);
        EXPECT_EQ(other.sealers()->of_lane(0), nullptr);
        EXPECT_EQ(other.find(1)->fault, other.seal_fault());
        EXPECT_TRUE(other.find(1)->secret.empty());
        return other.seal_fault();
    };
    EXPECT_EQ(fault_with(nullptr), KeyFault::opt_in);
    const KeyRing empty;
    EXPECT_EQ(fault_with(&empty), KeyFault::not_found);
    KeyRing changed = ring;
    ASSERT_TRUE(changed.set_enabled(key_a, false));
    EXPECT_EQ(fault_with(&changed), KeyFault::disabled);
    // The right id with another secret.
    std::string text = ring.to_text();
    const std::size_t secret = text.find("enabled ") + 8;
    text[secret] = text[secret] == '0' ? '1' : '0';
    const auto other = KeyRing::parse(text);
    ASSERT_TRUE(other);
    EXPECT_EQ(fault_with(&*other), KeyFault::invalid_state);
}

TEST_F(StreamCryptTest, ADataKeyOpensForItsStreamAndGenerationOnly) {
    const DataKey& data_key = encryption.data_keys[0];
    ASSERT_TRUE(open_data_key(*ring.find(key_a), stream, data_key));
    EXPECT_EQ(open_data_key(*ring.find(key_a), stream, data_key)->size(), data_key_bytes);
    EXPECT_FALSE(open_data_key(*ring.find(key_a), stream + 1, data_key));
    EXPECT_FALSE(open_data_key(*ring.find(key_b), stream, data_key));
    DataKey other = data_key;
    other.generation = 2;
    EXPECT_FALSE(open_data_key(*ring.find(key_a), stream, other));
    other = data_key;
    other.sealed.pop_back();
    EXPECT_FALSE(open_data_key(*ring.find(key_a), stream, other));
}

TEST_F(StreamCryptTest, NoNonceComesTwiceOverLanesAndStarts) {
    constexpr int starts = 50;
    constexpr int records = 200;
    std::set<std::string> nonces;
    for (int start = 0; start < starts; ++start) {
        const StreamCrypt again(encryption, stream, &ring, 2);
        for (unsigned lane = 0; lane < 2; ++lane) {
            for (int i = 0; i < records; ++i) {
                RecordSeal seal;
                std::byte out[2];
                again.sealers()->of_lane(lane)->seal(
                    {here, record_is_sealed, {}, as_bytes("k"), as_bytes("d")}, seal, out);
                nonces.insert({reinterpret_cast<const char*>(seal.nonce), sizeof seal.nonce});
            }
        }
    }
    EXPECT_EQ(nonces.size(), std::size_t{starts} * 2 * records);
}

}  // namespace
}  // namespace penstock::keys
