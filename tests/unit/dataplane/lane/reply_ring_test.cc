#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "dataplane/lane/request.h"

namespace penstock {
namespace {

bool readable(int fd, int timeout_ms) {
    pollfd one{fd, POLLIN, 0};
    return poll(&one, 1, timeout_ms) == 1;
}

void clear(int fd) {
    std::uint64_t count = 0;
    (void)!read(fd, &count, sizeof count);
}

TEST(ReplyRing, PushMakesItsDescriptorReadable) {
    ReplyRing ring(8);
    EXPECT_FALSE(readable(ring.event_fd(), 0));
    ShardStatusRequest request;
    ring.push(request);
    EXPECT_TRUE(readable(ring.event_fd(), 0));
    clear(ring.event_fd());
    EXPECT_EQ(ring.pop(), &request);
    EXPECT_EQ(ring.pop(), nullptr);
    EXPECT_FALSE(readable(ring.event_fd(), 0));
}

TEST(ReplyRing, QuietPushesNeedOneSignal) {
    ReplyRing ring(8);
    std::vector<ShardStatusRequest> requests(3);
    for (ShardStatusRequest& request : requests) {
        ring.push_quietly(request);
    }
    EXPECT_FALSE(readable(ring.event_fd(), 0));
    ring.signal();
    EXPECT_TRUE(readable(ring.event_fd(), 0));
}

TEST(ReplyRing, AnOwnerThatIsBusyIsNotSignalledAgain) {
    ReplyRing ring(8);
    std::vector<ShardStatusRequest> requests(3);
    ring.push(requests[0]);
    clear(ring.event_fd());
    ring.push(requests[1]);
    EXPECT_FALSE(readable(ring.event_fd(), 0));
    EXPECT_NE(ring.pop(), nullptr);
    EXPECT_NE(ring.pop(), nullptr);
    EXPECT_EQ(ring.pop(), nullptr);
    ring.push(requests[2]);
    EXPECT_TRUE(readable(ring.event_fd(), 0)) << "an owner that found nothing wants to be woken";
}

TEST(ReplyRingDeathTest, OverflowIsABugOfTheOwner) {
    ReplyRing ring(2);
    std::vector<ShardStatusRequest> requests(3);
    ring.push(requests[0]);
    ring.push(requests[1]);
    EXPECT_DEATH(ring.push(requests[2]), "");
}

// The owner sleeps on the descriptor whenever it finds nothing, which the producers see to now and
// then; a lost wake-up shows as a time-out.
TEST(ReplyRing, NoWakeUpIsLost) {
    constexpr unsigned producers = 2;
    constexpr std::size_t each = 200'000;
    constexpr std::size_t pause_every = 10'000;
    ReplyRing ring(producers * each);
    std::vector<std::vector<ShardStatusRequest>> requests(producers);
    std::vector<std::thread> threads;
    std::atomic<std::size_t> slept{0};
    std::atomic<bool> gave_up{false};
    for (unsigned p = 0; p < producers; ++p) {
        requests[p] = std::vector<ShardStatusRequest>(each);
    }
    for (unsigned p = 0; p < producers; ++p) {
        threads.emplace_back([&ring, &mine = requests[p], &slept, &gave_up, p] {
            for (std::size_t i = 0; i < mine.size(); ++i) {
                if (i % pause_every == pause_every - 1) {
                    // Read before the signal: the owner may answer it at once.
                    const std::size_t before = slept;
                    ring.signal();
                    while (slept == before && !gave_up) {
                        std::this_thread::yield();
                    }
                }
                if (p == 0) {
                    ring.push(mine[i]);
                } else {
                    ring.push_quietly(mine[i]);
                    if (i % 3 == 2 || i + 1 == mine.size()) {
                        ring.signal();
                    }
                }
                if (i % 64 == 0) {
                    std::this_thread::yield();
                }
            }
        });
    }
    std::size_t got = 0;
    while (got < producers * each) {
        if (ring.pop() != nullptr) {
            ++got;
            continue;
        }
        ++slept;
        if (!readable(ring.event_fd(), 20'000)) {
            ADD_FAILURE() << "a wake-up was lost after " << got;
            gave_up = true;
            break;
        }
        clear(ring.event_fd());
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_GE(slept, each / pause_every);
}

}  // namespace
}  // namespace penstock
