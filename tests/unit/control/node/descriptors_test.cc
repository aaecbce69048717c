#include "control/node/descriptors.h"

#include <sys/resource.h>

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(Descriptors, ConnectionsLeaveRoomForFiles) {
    EXPECT_EQ(connections_within(1024, 1, 16384), 512U);
    EXPECT_EQ(connections_within(1024, 4, 16384), 128U);
    EXPECT_EQ(connections_within(20000, 1, 16384), 15904U);
    EXPECT_EQ(connections_within(524288, 2, 16384), 16384U);
    EXPECT_EQ(connections_within(8, 64, 16384), 16U);
}

TEST(Descriptors, TheLimitIsRaisedToWhatTheSystemAllows) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit low{before.rlim_max / 2, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
    EXPECT_EQ(raise_descriptor_limit(), before.rlim_max);
    rlimit after{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &after), 0);
    EXPECT_EQ(after.rlim_cur, before.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace penstock
