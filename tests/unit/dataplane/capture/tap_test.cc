#include "dataplane/capture/tap.h"

#include <string>

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr std::uint64_t never = UINT64_MAX;

// Offers a packet of `length` bytes to UDP port `destination`.
void offer(CaptureTap& tap, std::uint32_t length, std::uint16_t destination,
           DropReason fate = DropReason::none, unsigned port = 0) {
    std::string bytes(length, 'x');
    Packet packet;
    packet.data = reinterpret_cast<std::byte*>(bytes.data());
    packet.length = length;
    Decoded decoded;
    decoded.destination_port = destination;
    tap.offer(port, packet, decoded, fate);
}

unsigned count(CaptureTap& tap) {
    unsigned taken = 0;
    while (tap.take()) {
        ++taken;
    }
    tap.done();
    return taken;
}

TEST(CaptureTap, ShowsWhatItsFilterSays) {
    CaptureFilter filter;
    filter.port = 1;
    filter.udp_port = 5514;
    filter.fates = 1ULL << static_cast<unsigned>(DropReason::no_door);
    filter.snap_bytes = 10;
    filter.until_ns = never;
    CaptureTap tap(filter, 1U << 16);
    offer(tap, 100, 5514, DropReason::no_door, 0);
    offer(tap, 100, 5515, DropReason::no_door, 1);
    offer(tap, 100, 5514, DropReason::none, 1);
    offer(tap, 100, 5514, DropReason::no_door, 1);
    EXPECT_FALSE(tap.take());  // not committed
    tap.commit(0);
    const auto taken = tap.take();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->packet.length, 100U);
    EXPECT_EQ(taken->packet.captured, 10U);
    EXPECT_EQ(taken->bytes.size(), 10U);
    EXPECT_EQ(taken->packet.fate, DropReason::no_door);
    EXPECT_EQ(taken->packet.port, 1U);
    EXPECT_GT(taken->packet.wall_ns, 0);
    EXPECT_FALSE(tap.take());
    EXPECT_EQ(tap.matched(), 1U);
}

TEST(CaptureTap, ShowsEveryPortOfADoorThatHasSeveral) {
    CaptureFilter filter;
    filter.udp_port = 5600;
    filter.udp_port_count = 2;
    filter.until_ns = never;
    CaptureTap tap(filter, 1U << 16);
    for (const std::uint16_t port :
         std::initializer_list<std::uint16_t>{0, 5599, 5600, 5601, 5602}) {
        offer(tap, 20, port);
    }
    tap.commit(0);
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{5600, 5601}) {
        const auto taken = tap.take();
        ASSERT_TRUE(taken);
        EXPECT_EQ(taken->packet.destination_port, port);
    }
    EXPECT_FALSE(tap.take());
    EXPECT_EQ(tap.matched(), 2U);
}

TEST(CaptureTap, KeepsOneInSoMany) {
    CaptureFilter filter;
    filter.sample = 10;
    filter.until_ns = never;
    CaptureTap tap(filter, 1U << 16);
    for (int i = 0; i < 95; ++i) {
        offer(tap, 20, 1);
    }
    tap.commit(0);
    EXPECT_EQ(count(tap), 10U);
    EXPECT_EQ(tap.matched(), 95U);
}

TEST(CaptureTap, CountsWhatFoundNoRoomAndGoesOnWhenThereIsSome) {
    CaptureFilter filter;
    filter.until_ns = never;
    CaptureTap tap(filter, 1U << 16);
    for (int i = 0; i < 1000; ++i) {
        offer(tap, 500, 1);
        tap.commit(0);
    }
    EXPECT_GT(tap.no_room(), 800U);
    EXPECT_EQ(count(tap) + tap.no_room(), 1000U);
    offer(tap, 500, 1);
    tap.commit(0);
    EXPECT_EQ(count(tap), 1U);
}

TEST(CaptureTap, EndsAtItsTime) {
    CaptureFilter filter;
    filter.until_ns = 1000;
    CaptureTap tap(filter, 1U << 16);
    offer(tap, 20, 1);
    tap.commit(999);
    offer(tap, 20, 1);
    tap.commit(1000);
    offer(tap, 20, 1);
    tap.commit(1001);
    EXPECT_EQ(count(tap), 2U);
}

TEST(CaptureTap, APacketLargerThanTheRingIsCut) {
    CaptureFilter filter;
    filter.until_ns = never;
    CaptureTap tap(filter, 4096);
    offer(tap, 9000, 1);
    tap.commit(0);
    const auto taken = tap.take();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->packet.length, 9000U);
    EXPECT_LT(taken->packet.captured, 2048U);
}

}  // namespace
}  // namespace penstock
