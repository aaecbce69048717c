// Verifies a replica set that nobody writes to: state logs, journals, and every frame of every
// segment on every replica. `penstock inspect verify` is this; tests of recovery use it too.
//
// Runs on: any thread that may block. Writes nothing, anywhere.
// Guarantees: what it calls sound can be read back from any replica that should have it.
// Format: docs/operations/inspect.md says how the differences read.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "storage/base/result.h"
#include "storage/inspect/chunk_walk.h"
#include "storage/inspect/difference.h"
#include "storage/inspect/journal_view.h"
#include "storage/inspect/state_view.h"
#include "storage/io/engine.h"
#include "storage/log/state_log.h"
#include "storage/replica/geometry.h"
#include "storage/segment/table.h"

namespace penstock {

// Makes an engine over the three directories. One is made for each group, so that its memory is
// given back.
using EngineFactory = std::function<Result<std::unique_ptr<IoEngine>>()>;

struct VerifyOptions {
    SetGeometry geometry;
    ReplicaMask readable = all_replicas;  // members of the set that are there
    ReplicaMask voting = all_replicas;    // of those, which vote
};

// The state log of a group as its newest generation has it, and what is wrong with its copies.
struct StateView {
    StateRead read;
    std::array<std::array<StateSlotCopy, 2>, replica_count> slots;
    std::vector<SeenStateBlock> blocks;  // of the newest generation
    ReplicaMask sent_to = 0;             // of its last block
};
[[nodiscard]] Result<StateView> view_state_log(IoEngine& engine, const VerifyOptions& options,
                                               GroupId group, std::vector<Difference>& out);

// The group's manifest. Errors: corrupt (entries contradict each other).
[[nodiscard]] Result<GroupTable> table_of(const SetGeometry& geometry, const StateRead& read);

// Verifies everything. Errors: io_failed, unsupported, no_memory_room: what could not even be
// tried.
[[nodiscard]] Result<SetReport> verify_set(const VerifyOptions& options,
                                           const EngineFactory& make_engine);

}  // namespace penstock
