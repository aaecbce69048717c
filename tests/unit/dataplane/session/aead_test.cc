#include "dataplane/session/aead.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/dataplane/session/vectors.h"

namespace penstock::session {
namespace {

using Buffer = std::vector<std::byte>;

KeyMaterial material(unsigned seed) {
    KeyMaterial out;
    for (std::size_t i = 0; i < out.key.size(); ++i) {
        out.key[i] = static_cast<std::byte>(seed + i);
    }
    for (std::size_t i = 0; i < out.salt.size(); ++i) {
        out.salt[i] = static_cast<std::byte>(seed * 3 + i);
    }
    return out;
}

struct SessionAead : testing::Test {
    std::unique_ptr<Aead> aead = Aead::open().value();

    Buffer sealed(const PreparedKey& key, std::uint64_t number, std::size_t size) const {
        Buffer out(size, std::byte{0x5a});
        aead->seal(key, number, out);
        return out;
    }
    bool opens(const PreparedKey& key, std::uint64_t number, Buffer datagram) const {
        OpenJob job;
        job.key = &key;
        job.datagram = datagram.data();
        job.size = static_cast<std::uint32_t>(datagram.size());
        job.packet_number = number;
        aead->open(job);
        return job.authentic;
    }
};

TEST_F(SessionAead, ABurstOfManySizesAndKeysOpensAndOneForgedAmongItDoesNot) {
    std::vector<PreparedKey> keys(3);
    for (unsigned i = 0; i < keys.size(); ++i) {
        aead->prepare(material(i), keys[i]);
    }
    std::vector<Buffer> datagrams;
    std::vector<OpenJob> jobs;
    const std::size_t sizes[] = {52, 53, 63, 64, 65, 100, 300, 1200, 1400, 1472, 8972};
    std::uint64_t number = 1;
    for (const std::size_t size : sizes) {
        datagrams.push_back(sealed(keys[number % 3], number, size));
        ++number;
    }
    datagrams[4][40] ^= std::byte{1};
    for (std::size_t i = 0; i < datagrams.size(); ++i) {
        OpenJob job;
        job.key = &keys[(i + 1) % 3];
        job.datagram = datagrams[i].data();
        job.size = static_cast<std::uint32_t>(datagrams[i].size());
        job.packet_number = i + 1;
        jobs.push_back(job);
    }
    EXPECT_EQ(aead->open(jobs), jobs.size() - 1);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        EXPECT_EQ(jobs[i].authentic, i != 4) << i;
        if (i != 4) {
            for (const std::byte byte : jobs[i].text()) {
                ASSERT_EQ(byte, std::byte{0x5a}) << i;
            }
        }
    }
}

TEST_F(SessionAead, EveryBitOfADatagramCounts) {
    PreparedKey key;
    aead->prepare(material(1), key);
    const Buffer good = sealed(key, 7, 70);
    ASSERT_TRUE(opens(key, 7, good));
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        Buffer bad = good;
        bad[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        EXPECT_FALSE(opens(key, 7, bad)) << "bit " << bit;
    }
}

TEST_F(SessionAead, AnotherNumberOrKeyOrLengthDoesNotOpen) {
    PreparedKey key;
    PreparedKey other;
    aead->prepare(material(1), key);
    aead->prepare(material(2), other);
    const Buffer good = sealed(key, 7, 70);
    EXPECT_FALSE(opens(key, 8, good));
    EXPECT_FALSE(opens(key, 7 + (std::uint64_t{1} << 40), good));
    EXPECT_FALSE(opens(other, 7, good));
    for (std::size_t size = datagram_bytes_min; size < good.size(); ++size) {
        EXPECT_FALSE(opens(key, 7, Buffer(good.begin(), good.begin() + static_cast<long>(size))));
    }
}

TEST_F(SessionAead, KeysAreApartByEverythingThatTheyAreOf) {
    const Secret prk{};
    const KeyContext context{1, 2, 3};
    const KeyMaterial base = lane_key(prk, context, 4, Direction::to_server, 5);
    EXPECT_EQ(base, lane_key(prk, context, 4, Direction::to_server, 5));
    EXPECT_NE(base, lane_key(prk, {9, 2, 3}, 4, Direction::to_server, 5));
    EXPECT_NE(base, lane_key(prk, {1, 9, 3}, 4, Direction::to_server, 5));
    EXPECT_NE(base, lane_key(prk, {1, 2, 9}, 4, Direction::to_server, 5));
    EXPECT_NE(base, lane_key(prk, context, 9, Direction::to_server, 5));
    EXPECT_NE(base, lane_key(prk, context, 4, Direction::to_client, 5));
    EXPECT_NE(base, lane_key(prk, context, 4, Direction::to_server, 9));
}

// RFC 4493, section 4.
TEST(SessionCmac, IsThatOfTheStandard) {
    const auto key = test::array_of<16>("2b7e151628aed2a6abf7158809cf4f3c");
    const auto cmac = Cmac::open(key).value();
    const Buffer message = test::from_hex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    const auto of = [&](std::size_t size) {
        return test::to_hex(cmac->of(Bytes(message).first(size)));
    };
    EXPECT_EQ(of(16), "070a16b46b4d4144f79bdd9dd04a287c");
    EXPECT_EQ(of(40), "dfa66747de9ae63030ca32611497c827");
    EXPECT_EQ(of(64), "51f0bebf7e3b9d92fc49741779363cfe");
}

TEST_F(SessionAead, AWipedKeyIsGone) {
    PreparedKey key;
    aead->prepare(material(1), key);
    key.wipe();
    for (const std::byte byte : key.expanded) {
        ASSERT_EQ(byte, std::byte{0});
    }
}

}  // namespace
}  // namespace penstock::session
