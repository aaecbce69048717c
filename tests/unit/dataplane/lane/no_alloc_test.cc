#include "dataplane/lane/no_alloc.h"

#include <memory>
#include <thread>

#include <gtest/gtest.h>

namespace penstock {
namespace {

// Kept from being optimized away with the pair of calls.
void allocate_something() {
    auto* volatile keep = new int(1);
    delete keep;
}

TEST(NoAllocDeathTest, AnAllocationInAScopeAborts) {
    if (!allocation_trap_built_in()) {
        GTEST_SKIP() << "this build does not trap";
    }
    EXPECT_DEATH(
        {
            const NoAllocScope none;
            allocate_something();
        },
        "inside a lane's turn");
}

TEST(NoAlloc, AllowedScopesInactiveScopesAndOtherThreadsAllocate) {
    std::thread other;
    {
        const NoAllocScope inactive(false);
        allocate_something();
    }
    {
        const NoAllocScope none;
        {
            const AllowAllocScope some;
            allocate_something();
            other = std::thread([] { allocate_something(); });
        }
    }
    other.join();
    allocate_something();
}

TEST(NoAllocDeathTest, AnAllowedScopeEndsWhereItEnds) {
    if (!allocation_trap_built_in()) {
        GTEST_SKIP() << "this build does not trap";
    }
    EXPECT_DEATH(
        {
            const NoAllocScope none;
            {
                const AllowAllocScope some;
            }
            allocate_something();
        },
        "inside a lane's turn");
}

}  // namespace
}  // namespace penstock
