#include "dataplane/session/replay_window.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace penstock::session {
namespace {

TEST(ReplayWindow, ANumberIsTakenOnce) {
    ReplayWindow window;
    EXPECT_EQ(window.check(1), DropReason::none);
    window.set(1);
    EXPECT_EQ(window.check(1), DropReason::session_replayed);
    EXPECT_EQ(window.check(2), DropReason::none);
}

TEST(ReplayWindow, WhatFallsOutIsTooOld) {
    ReplayWindow window;
    window.set(5000);
    EXPECT_EQ(window.check(5000 - ReplayWindow::size + 1), DropReason::none);
    EXPECT_EQ(window.check(5000 - ReplayWindow::size), DropReason::session_replay_old);
    EXPECT_EQ(window.check(1), DropReason::session_replay_old);
}

TEST(ReplayWindow, CheckingChangesNothing) {
    ReplayWindow window;
    window.set(10);
    EXPECT_EQ(window.check(1'000'000), DropReason::none);
    EXPECT_EQ(window.highest(), 10U);
    EXPECT_EQ(window.check(9), DropReason::none);
}

TEST(ReplayWindow, FarLeapsForgetTheOld) {
    for (const std::uint64_t leap : {std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{64},
                                     std::uint64_t{65}, ReplayWindow::size - 1, ReplayWindow::size,
                                     ReplayWindow::size + 1, std::uint64_t{1} << 35}) {
        ReplayWindow window;
        for (std::uint64_t number = 1; number <= 3000; ++number) {
            window.set(number);
        }
        window.set(3000 + leap);
        for (std::uint64_t back = 1; back < ReplayWindow::size; ++back) {
            const std::uint64_t number = 3000 + leap - back;
            EXPECT_EQ(window.check(number),
                      number <= 3000 ? DropReason::session_replayed : DropReason::none)
                << leap << " " << number;
        }
    }
}

// Against a set of all numbers that came.
TEST(ReplayWindow, AgreesWithASetInAnyOrder) {
    std::mt19937_64 random(7);
    ReplayWindow window;
    std::set<std::uint64_t> came;
    std::uint64_t around = 1;
    for (int i = 0; i < 200'000; ++i) {
        around += random() % 64 == 0 ? random() % 5000 : random() % 3;
        const std::uint64_t back = random() % (random() % 16 == 0 ? 4000 : 40);
        const std::uint64_t number = around > back ? around - back : 1;
        const std::uint64_t highest = came.empty() ? 0 : *came.rbegin();
        const DropReason wanted = number <= highest && highest - number >= ReplayWindow::size
                                      ? DropReason::session_replay_old
                                  : came.contains(number) ? DropReason::session_replayed
                                                          : DropReason::none;
        ASSERT_EQ(window.check(number), wanted) << number << " after " << highest;
        if (wanted == DropReason::none) {
            window.set(number);
            came.insert(number);
        }
    }
    const auto newest = window.newest();
    for (unsigned i = 0; i < 256; ++i) {
        EXPECT_EQ((newest[i / 8] >> i % 8 & 1) != 0, came.contains(window.highest() - i));
    }
}

}  // namespace
}  // namespace penstock::session
