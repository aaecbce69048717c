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

}  // namespace
}  // namespace penstock
