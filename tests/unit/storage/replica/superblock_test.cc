#include "storage/replica/superblock.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/base/crc32c.h"
#include "tests/unit/storage/replica/sample.h"

namespace penstock {
namespace {

using File = std::vector<std::byte>;

// Generation 8 in slot 0, generation 9 in slot 1.
File sample_file() {
    File file(superblock_file_bytes);
    for (const std::uint64_t generation : {8U, 9U}) {
        Superblock s = sample_superblock();
        s.generation = generation;
        SuperblockSlot slot;
        encode_superblock(s, slot);
        std::copy(slot.begin(), slot.end(), file.begin() + superblock_slot_of(generation) * 4096);
    }
    return file;
}

// A slot with bytes changed and the checksum made right again.
SuperblockSlot forged(const Superblock& s, std::size_t at, std::uint64_t bytes, std::size_t size) {
    SuperblockSlot slot;
    encode_superblock(s, slot);
    std::memcpy(slot.data() + at, &bytes, size);
    store(slot.data() + 12, std::uint32_t{0});
    store(slot.data() + 12, crc32c(slot));
    return slot;
}

void expect_refused(Bytes slot, Errc code, SuperblockReason reason) {
    const auto decoded = decode_superblock(slot);
    ASSERT_FALSE(decoded.has_value()) << describe(reason);
    EXPECT_EQ(decoded.error().code, code) << describe(reason_of(decoded.error()));
    EXPECT_EQ(reason_of(decoded.error()), reason) << describe(reason_of(decoded.error()));
}

TEST(Superblock, DecodesWhatWasEncoded) {
    SuperblockSlot slot;
    encode_superblock(sample_superblock(), slot);
    const auto decoded = decode_superblock(slot);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(*decoded, sample_superblock());
}

TEST(Superblock, EveryFlippedByteIsDetected) {
    SuperblockSlot slot;
    encode_superblock(sample_superblock(), slot);
    for (std::size_t at = 0; at < slot.size(); ++at) {
        SuperblockSlot bad = slot;
        bad[at] ^= std::byte{0x10};
        ASSERT_FALSE(decode_superblock(bad).has_value()) << "byte " << at;
        ASSERT_EQ(decode_superblock(bad).error().code, Errc::corrupt) << "byte " << at;
    }
}

TEST(Superblock, EveryFlippedByteOfTheFileLeavesTheOtherSlot) {
    const File file = sample_file();
    ASSERT_EQ(choose_superblock(file)->generation, 9U);
    for (std::size_t at = 0; at < file.size(); ++at) {
        File bad = file;
        bad[at] ^= std::byte{0x01};
        const auto chosen = choose_superblock(bad);
        ASSERT_TRUE(chosen.has_value()) << "byte " << at;
        ASSERT_EQ(chosen->generation, at < 4096 ? 9U : 8U) << "byte " << at;
    }
}

TEST(Superblock, TornWriteOfOneSlotLeavesTheOther) {
    const File file = sample_file();
    Superblock next = sample_superblock();
    next.generation = 10;
    next.epoch_promised = Epoch{8};
    SuperblockSlot slot;
    encode_superblock(next, slot);
    for (std::size_t kept = 0; kept <= 4096; ++kept) {
        File torn = file;
        std::copy(slot.begin(), slot.begin() + static_cast<std::ptrdiff_t>(kept), torn.begin());
        const auto chosen = choose_superblock(torn);
        ASSERT_TRUE(chosen.has_value()) << kept;
        ASSERT_TRUE(chosen->generation == 9 || chosen->generation == 10) << kept;
        if (chosen->generation == 10) {
            ASSERT_EQ(*chosen, next);
        }
    }
}

TEST(Superblock, TornFirstWriteIsCompleteOrUnwritten) {
    // By sectors of 512 bytes, in any combination.
    SuperblockSlot slot;
    Superblock first = sample_superblock();
    first.generation = 1;
    encode_superblock(first, slot);
    for (unsigned sectors = 0; sectors < 256; ++sectors) {
        File torn(superblock_file_bytes);
        for (unsigned s = 0; s < 8; ++s) {
            if ((sectors >> s & 1) != 0) {
                std::copy_n(slot.begin() + s * 512, 512, torn.begin() + 4096 + s * 512);
            }
        }
        const auto chosen = choose_superblock(torn);
        if (chosen) {
            EXPECT_EQ(*chosen, first);
        } else {
            EXPECT_EQ(chosen.error().code, Errc::not_found);
        }
    }
}

TEST(Superblock, TruncatedFilesNeverGiveABadOne) {
    const File file = sample_file();
    for (std::size_t length = 0; length <= file.size(); ++length) {
        const auto chosen = choose_superblock(Bytes{file}.first(length));
        if (length < 4096) {
            ASSERT_FALSE(chosen.has_value()) << length;
        } else {
            ASSERT_TRUE(chosen.has_value()) << length;
            ASSERT_EQ(chosen->generation, length == 8192 ? 9U : 8U);
        }
    }
}

TEST(Superblock, ZeroedAndEmptyFilesAreUnwritten) {
    for (const std::size_t length : {0U, 1U, 4096U, 5000U, 8192U}) {
        const File zero(length);
        const auto chosen = choose_superblock(zero);
        ASSERT_FALSE(chosen.has_value());
        EXPECT_EQ(chosen.error().code, Errc::not_found) << length;
    }
}

TEST(Superblock, BothSlotsDamagedIsDamageAndNotAbsence) {
    File file = sample_file();
    file[100] ^= std::byte{1};
    file[4096 + 100] ^= std::byte{1};
    ASSERT_FALSE(choose_superblock(file).has_value());
    EXPECT_EQ(choose_superblock(file).error().code, Errc::corrupt);
    const File garbage(superblock_file_bytes, std::byte{0x5a});
    EXPECT_EQ(choose_superblock(garbage).error().code, Errc::corrupt);
    EXPECT_EQ(reason_of(choose_superblock(garbage).error()), SuperblockReason::bad_magic);
}

TEST(Superblock, ASlotWrittenInTheOthersPlaceIsRefused) {
    File file = sample_file();
    std::copy_n(file.begin() + 4096, 4096, file.begin());  // generation 9 in slot 0
    file[4096 + 20] ^= std::byte{1};
    ASSERT_FALSE(choose_superblock(file).has_value());
    EXPECT_EQ(reason_of(choose_superblock(file).error()), SuperblockReason::bad_generation);
}

TEST(Superblock, NewerVersionIsUnsupportedAndNotFallenBackFrom) {
    const auto newer = forged(sample_superblock(), 8, 2, 4);
    expect_refused(newer, Errc::unsupported, SuperblockReason::unknown_version);
    File file = sample_file();
    std::copy(newer.begin(), newer.end(), file.begin() + 4096);
    ASSERT_FALSE(choose_superblock(file).has_value());
    EXPECT_EQ(choose_superblock(file).error().code, Errc::unsupported);
}

TEST(Superblock, UnknownFeatureBitsRefuseOrAskForReadOnly) {
    for (unsigned b = 0; b < 64; ++b) {
        Superblock s = sample_superblock();
        s.refuse_features = 1ULL << b;
        SuperblockSlot slot;
        encode_superblock(s, slot);
        expect_refused(slot, Errc::unsupported, SuperblockReason::unknown_feature);
        s = sample_superblock();
        s.read_only_features = 1ULL << b;
        encode_superblock(s, slot);
        const auto decoded = decode_superblock(slot);
        ASSERT_TRUE(decoded.has_value());
        EXPECT_TRUE(decoded->must_be_read_only());
    }
}

TEST(Superblock, EachFieldOutOfBoundsHasItsReason) {
    const Superblock s = sample_superblock();
    const auto corrupt = [&](std::size_t at, std::uint64_t bytes, std::size_t size,
                             SuperblockReason reason) {
        expect_refused(forged(s, at, bytes, size), Errc::corrupt, reason);
    };
    corrupt(0, 1, 8, SuperblockReason::bad_magic);
    corrupt(8, 0, 4, SuperblockReason::unknown_version);
    corrupt(16, 0, 8, SuperblockReason::bad_set_id);
    corrupt(24, 0, 8, SuperblockReason::bad_replica_id);
    corrupt(24, 5, 8, SuperblockReason::bad_roster);            // voting, not in the roster
    corrupt(24, s.roster[0], 8, SuperblockReason::bad_roster);  // another's id
    corrupt(32, 0, 8, SuperblockReason::bad_generation);
    corrupt(72, 3, 1, SuperblockReason::bad_replica_index);
    corrupt(73, 0, 1, SuperblockReason::bad_state);
    corrupt(73, 3, 1, SuperblockReason::bad_state);
    corrupt(74, 1, 2, SuperblockReason::bad_reserved);
    corrupt(76, 0, 4, SuperblockReason::bad_geometry);
    corrupt(80, 2, 4, SuperblockReason::bad_geometry);
    corrupt(84, 100, 4, SuperblockReason::bad_geometry);
    corrupt(88, 0, 4, SuperblockReason::bad_geometry);
    corrupt(92, 1, 4, SuperblockReason::bad_reserved);
    corrupt(96, 4097, 8, SuperblockReason::bad_geometry);
    corrupt(104, 4096, 8, SuperblockReason::bad_geometry);  // less than a chunk
    corrupt(112, 0, 8, SuperblockReason::bad_geometry);
    corrupt(120, 0, 8, SuperblockReason::bad_roster);
    corrupt(128, 0, 8, SuperblockReason::bad_roster);
    corrupt(128, s.roster[2], 8, SuperblockReason::bad_roster);
    corrupt(152, 1, 1, SuperblockReason::bad_reserved);
    corrupt(4095, 1, 1, SuperblockReason::bad_reserved);
}

TEST(Superblock, AFillingReplicaNeedNotBeInTheRoster) {
    Superblock s = sample_superblock();
    s.state = ReplicaState::filling;
    s.replica_id = 5;
    SuperblockSlot slot;
    encode_superblock(s, slot);
    ASSERT_TRUE(decode_superblock(slot).has_value());
    EXPECT_EQ(*decode_superblock(slot), s);
}

TEST(Superblock, GoldenFileOfVersion1Decodes) {
    if (const char* path = std::getenv("PENSTOCK_WRITE_GOLDEN"); path != nullptr) {
        const File file = sample_file();
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(file.data()),
                   static_cast<std::streamsize>(file.size()));
    }
    const char* root = std::getenv("PENSTOCK_SOURCE_ROOT");
    ASSERT_NE(root, nullptr) << "set PENSTOCK_SOURCE_ROOT to the source directory";
    std::ifstream in(std::string(root) + "/tests/golden/superblock-v1.bin", std::ios::binary);
    ASSERT_TRUE(in.good());
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    ASSERT_EQ(text.size(), superblock_file_bytes);
    const auto chosen = choose_superblock(as_bytes(text));
    ASSERT_TRUE(chosen.has_value());
    EXPECT_EQ(*chosen, sample_superblock());
    // And the encoder still writes the same bytes.
    const File file = sample_file();
    EXPECT_EQ(text, as_text(file));
}

}  // namespace
}  // namespace penstock
