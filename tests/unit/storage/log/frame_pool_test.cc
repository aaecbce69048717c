#include "storage/log/frame_pool.h"

#include <map>

#include <gtest/gtest.h>

#include "storage/io/sim_world.h"

namespace penstock {
namespace {

TEST(FramePool, BlocksNeverOverlapAndEverythingComesBack) {
    SimWorld world(SimOptions{});
    const auto engine = world.make_engine();
    auto pool = FramePool::open(*engine, 40U << 20);
    ASSERT_TRUE(pool.has_value());
    EXPECT_EQ((*pool)->size_bytes(), 48U << 20);
    SimRandom random(9);
    std::map<std::byte*, std::size_t> held;
    std::size_t used = 0;
    for (unsigned step = 0; step < 20'000; ++step) {
        if (random.below(5) < 3) {
            const std::size_t wish = 1 + random.below(std::size_t{1} << (8 + random.below(17)));
            std::byte* block = (*pool)->take(wish);
            if (wish > FramePool::largest) {
                ASSERT_EQ(block, nullptr);
            }
            if (block == nullptr) {
                continue;
            }
            const std::size_t size = FramePool::rounded(wish);
            ASSERT_GE(size, wish);
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % 4096, 0U);
            const auto after = held.lower_bound(block);
            ASSERT_TRUE(after == held.end() || block + size <= after->first);
            ASSERT_TRUE(after == held.begin() ||
                        std::prev(after)->first + std::prev(after)->second <= block);
            held[block] = size;
            used += size;
        } else if (!held.empty()) {
            auto it = held.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random.below(held.size())));
            (*pool)->give(it->first);
            used -= it->second;
            held.erase(it);
        }
        ASSERT_EQ((*pool)->used_bytes(), used);
    }
    for (const auto& [block, size] : held) {
        (*pool)->give(block);
    }
    EXPECT_EQ((*pool)->used_bytes(), 0U);
    // Whole again: the largest blocks are all there.
    EXPECT_NE((*pool)->take(FramePool::largest), nullptr);
    EXPECT_NE((*pool)->take(FramePool::largest), nullptr);
    EXPECT_NE((*pool)->take(FramePool::largest), nullptr);
    EXPECT_EQ((*pool)->take(1), nullptr);
}

TEST(FramePool, SharesAreAQuarterDividedByTheHoldersWithinBounds) {
    SimWorld world(SimOptions{});
    const auto engine = world.make_engine();
    auto pool = std::move(FramePool::open(*engine, 32U << 20).value());
    EXPECT_EQ(pool->share_bytes(), FramePool::share_largest);
    for (unsigned i = 0; i < 64; ++i) {
        pool->add_holder();
    }
    EXPECT_EQ(pool->share_bytes(), 128U << 10);
    for (unsigned i = 64; i < 100'000; ++i) {
        pool->add_holder();
    }
    EXPECT_EQ(pool->share_bytes(), 0U) << "too many for shares";
    for (unsigned i = 1; i < 100'000; ++i) {
        pool->remove_holder();
    }
    EXPECT_EQ(pool->share_bytes(), FramePool::share_largest);
}

TEST(FramePool, WhatIsKeptForOthersIsNotSpared) {
    SimWorld world(SimOptions{});
    const auto engine = world.make_engine();
    auto pool = std::move(FramePool::open(*engine, 16U << 20).value());
    constexpr std::size_t mib = 1U << 20;
    pool->keep(0, mib);  // the one who asks
    pool->keep(0, mib);  // another
    EXPECT_TRUE(pool->spares(8 * mib, mib, 0));
    ASSERT_NE(pool->take(8 * mib), nullptr);
    ASSERT_NE(pool->take(4 * mib), nullptr);
    ASSERT_NE(pool->take(2 * mib), nullptr);
    // 2 MiB are left, one of them is kept for the other.
    EXPECT_TRUE(pool->spares(mib, mib, 0));
    EXPECT_FALSE(pool->spares(mib, mib, 1));
    EXPECT_FALSE(pool->spares(2 * mib, mib, 0));
    EXPECT_FALSE(pool->spares(mib, 0, 0)) << "the share of the one who asks is taken";
    pool->keep(mib, 0);
    EXPECT_TRUE(pool->spares(2 * mib, mib, 0));
}

}  // namespace
}  // namespace penstock
