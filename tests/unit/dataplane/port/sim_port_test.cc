#include "dataplane/port/sim_port.h"

#include <array>

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(SimPort, DeliversInOrderAndCounts) {
    SimPort port(2);
    for (int i = 0; i < 100; ++i) {
        port.queue(1).push_frame(as_bytes(std::to_string(i)));
    }
    std::array<Packet, burst_max> burst;
    EXPECT_EQ(port.queue(0).receive(burst), 0U);
    int next = 0;
    while (const std::uint16_t got = port.queue(1).receive(burst)) {
        for (std::uint16_t i = 0; i < got; ++i) {
            EXPECT_EQ(as_text(burst[i].bytes()), std::to_string(next++));
        }
        EXPECT_EQ(port.queue(1).lent(), got);
        port.queue(1).release(std::span(burst).first(got));
    }
    EXPECT_EQ(next, 100);
    EXPECT_EQ(port.queue(1).lent(), 0U);
    EXPECT_EQ(port.stats().received_packets, 100U);
    EXPECT_EQ(port.stats().received_bytes, 190U);
}

TEST(SimPort, KeepsWhatIsSentUnlessFull) {
    SimPort port(1);
    EXPECT_TRUE(port.queue(0).send(as_bytes("frame")));
    port.queue(0).set_transmit_full(true);
    EXPECT_FALSE(port.queue(0).send(as_bytes("lost")));
    const auto sent = port.queue(0).take_sent();
    ASSERT_EQ(sent.size(), 1U);
    EXPECT_EQ(as_text(sent[0]), "frame");
}

}  // namespace
}  // namespace penstock
