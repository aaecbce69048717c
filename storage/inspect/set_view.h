// A replica set looked at from outside: which directory is which replica, nothing locked or
// written.
//
// Runs on: an offline tool's thread; may run beside a node.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/inspect/difference.h"
#include "storage/replica/decide.h"

namespace penstock {

struct SetView {
    std::array<std::string, replica_count> directories;  // by replica index where known
    std::array<PlaceState, replica_count> places;
    std::array<bool, replica_count> locked{};  // a running node holds it
    OpenDecision decision;
    ReplicaMask members = 0;  // of the set, voting or being filled; what can be verified
    [[nodiscard]] bool any_locked() const noexcept { return locked[0] || locked[1] || locked[2]; }
};

// Whether a process holds the directory's lock. Takes none.
[[nodiscard]] bool lock_is_held(const std::string& directory);

// Reads the three superblocks and puts directories in the order of their indices.
[[nodiscard]] SetView look_at_set(const std::array<std::string, replica_count>& directories);

// What is not as it should be about directories, superblocks and rosters.
void compare_superblocks(const SetView& view, std::vector<Difference>& out);

}  // namespace penstock
