#include "dataplane/lane/ring.h"

#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace penstock {
namespace {

struct Item {
    unsigned producer = 0;
    std::uint64_t number = 0;
};

TEST(MpscRing, GivesBackInOrderAndRefusesWhenFull) {
    MpscRing<Item> ring(4);
    std::vector<Item> items(5);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(ring.push(&items[i]));
    }
    EXPECT_FALSE(ring.push(&items[4]));
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(ring.pop(), &items[i]);
    }
    EXPECT_EQ(ring.pop(), nullptr);
    EXPECT_TRUE(ring.push(&items[4]));
    EXPECT_FALSE(ring.empty());
}

TEST(MpscRing, RoundsItsCapacityUp) {
    EXPECT_EQ(MpscRing<Item>(5).capacity(), 8U);
    EXPECT_EQ(MpscRing<Item>(0).capacity(), 2U);
}

TEST(MpscRing, SeveralProducersLoseNothingAndKeepTheirOrder) {
    constexpr unsigned producers = 3;
    constexpr std::uint64_t each = 1'000'000;
    MpscRing<Item> ring(1024);
    std::vector<std::vector<Item>> items(producers);
    for (unsigned p = 0; p < producers; ++p) {
        items[p].resize(each);
        for (std::uint64_t i = 0; i < each; ++i) {
            items[p][i] = {p, i};
        }
    }
    std::vector<std::thread> threads;
    for (unsigned p = 0; p < producers; ++p) {
        threads.emplace_back([&ring, &mine = items[p]] {
            for (Item& item : mine) {
                while (!ring.push(&item)) {
                    std::this_thread::yield();
                }
            }
        });
    }
    std::vector<std::uint64_t> next(producers, 0);
    for (std::uint64_t got = 0; got < producers * each;) {
        const Item* item = ring.pop();
        if (item == nullptr) {
            std::this_thread::yield();
            continue;
        }
        ASSERT_EQ(item->number, next[item->producer]);
        ++next[item->producer];
        ++got;
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(ring.pop(), nullptr);
}

TEST(SpscByteRing, ShowsNothingBeforeCommit) {
    SpscByteRing ring(4096);
    ASSERT_NE(ring.claim(10), nullptr);
    EXPECT_EQ(ring.front().data(), nullptr);
    EXPECT_TRUE(ring.commit());
    EXPECT_FALSE(ring.commit());
    EXPECT_EQ(ring.front().size(), 10U);
    ring.pop();
    EXPECT_EQ(ring.front().data(), nullptr);
}

TEST(SpscByteRing, KeepsRecordsWholeAcrossItsEnd) {
    SpscByteRing ring(4096);
    unsigned char fill = 0;
    // Sizes that meet the end at every possible place, several times round.
    for (std::size_t round = 0; round < 2000; ++round) {
        const std::size_t length = (round * 37) % (ring.record_bytes_max() + 1);
        std::byte* at = ring.claim(length);
        ASSERT_NE(at, nullptr) << "an empty ring must take any record, length " << length;
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(at) % 8, 0U);
        std::memset(at, ++fill, length);
        ASSERT_TRUE(ring.commit());
        const Bytes seen = ring.front();
        ASSERT_NE(seen.data(), nullptr);
        ASSERT_EQ(seen.size(), length);
        for (const std::byte b : seen) {
            ASSERT_EQ(b, std::byte{fill});
        }
        ring.pop();
        ring.release();
    }
}

TEST(SpscByteRing, RefusesWhatDoesNotFitAndTakesItAfterRelease) {
    SpscByteRing ring(4096);
    EXPECT_EQ(ring.claim(ring.record_bytes_max() + 1), nullptr);
    std::size_t count = 0;
    while (ring.claim(100) != nullptr) {
        ++count;
    }
    EXPECT_EQ(count, 4096U / 112);
    ring.commit();
    EXPECT_EQ(ring.front().size(), 100U);
    ring.pop();
    EXPECT_EQ(ring.claim(100), nullptr)
        << "popped but not released: the room is not the producer's";
    ring.release();
    // 4096 is no multiple of 112, so the free room is in two parts: padding and the first record's.
    ASSERT_NE(ring.front().data(), nullptr);
    ring.pop();
    ring.release();
    EXPECT_NE(ring.claim(100), nullptr);
}

TEST(SpscByteRing, TwoThreadsSeeEveryRecordIntactAndInOrder) {
    constexpr std::uint64_t count = 2'000'000;
    SpscByteRing ring(1U << 16);
    std::thread producer([&ring] {
        std::mt19937 random(7);
        for (std::uint64_t i = 0; i < count;) {
            const std::size_t length = 8 + random() % 200;
            std::byte* at = ring.claim(length);
            while (at == nullptr) {
                ring.commit();
                std::this_thread::yield();
                at = ring.claim(length);
            }
            std::memset(at, static_cast<int>(i & 0xff), length);
            store(at, i);
            if (++i % 7 == 0) {
                ring.commit();
            }
        }
        ring.commit();
    });
    std::mt19937 random(7);
    for (std::uint64_t i = 0; i < count;) {
        const Bytes seen = ring.front();
        if (seen.data() == nullptr) {
            ring.release();
            std::this_thread::yield();
            continue;
        }
        ASSERT_EQ(seen.size(), 8 + random() % 200);
        ASSERT_EQ(load<std::uint64_t>(seen.data()), i);
        if (seen.size() > 8) {
            ASSERT_EQ(seen.back(), static_cast<std::byte>(i & 0xff));
        }
        ring.pop();
        if (++i % 5 == 0) {
            ring.release();
        }
    }
    producer.join();
}

}  // namespace
}  // namespace penstock
