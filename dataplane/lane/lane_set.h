// All lanes of a node: starts and stops them, connects them, finds the one a request is for, and
// publishes which shard takes what.
//
// Runs on: control threads; post(), lane_of() and the counts on any thread.
// Allocates: freely, never on a lane.
// Guarantees: every request that post() took is answered exactly once, also when the lanes stop.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "dataplane/door/door.h"
#include "dataplane/door/routes.h"
#include "dataplane/lane/lane.h"
#include "dataplane/lane/request.h"
#include "dataplane/lane/ring.h"

namespace penstock {

struct LaneSetOptions {
    // One lane per CPU; empty: `lane_count` lanes that the kernel places.
    std::vector<unsigned> cpus;
    unsigned lane_count = 1;
    unsigned group_count = 1;  // data groups 1..group_count, on all lanes
    std::vector<DoorSpec> doors;
    std::vector<Port*> ports;                    // must outlive the set's run
    std::size_t handover_ring_bytes = 1U << 20;  // per pair of lanes and direction
    std::size_t inbox_capacity = 4096;
    IdleOptions idle;
    LaneBudgets budgets;
    std::uint64_t slow_turn_ns = 1'000'000;
    std::uint64_t stop_deadline_ns = 10'000'000'000;
    bool trap_allocations = true;
    Clock* clock = nullptr;
    // As in LaneOptions, the same for every lane.
    ShardGroup::CommitObserver on_commit = nullptr;
    void* on_commit_context = nullptr;
    void (*on_foreign_completion)(void* context, const IoCompletion& completion) noexcept = nullptr;
    void* on_foreign_completion_context = nullptr;
};

class LaneSet;

// What was refused so far by lanes, by port queues and by the devices under them, by DropReason.
[[nodiscard]] std::array<std::uint64_t, drop_reason_count> drop_totals(
    const LaneSet& lanes, std::span<Port* const> ports);

class LaneSet final : public ShardService {
public:
    // Errors: invalid_argument, with `why` (no lane, more lanes than data groups, a CPU that cannot
    // be used); already_exists (two doors on one UDP port).
    [[nodiscard]] static Result<std::unique_ptr<LaneSet>> make(LaneSetOptions options,
                                                               std::string& why);
    // Stops.
    ~LaneSet() override;

    // Starts the lanes one after the other, each on its own thread. `prepare` runs there and opens
    // the lane's engine and groups: those for which lane_of() names it. On an error the lanes
    // started before are stopped and `why` names the lane.
    [[nodiscard]] Status start(const std::function<Status(Lane&)>& prepare, std::string& why);
    // First all lanes stop taking packets, then all finish. Idempotent. Requests still unanswered
    // at the deadline come back as canceled. Returns how far all lanes together came.
    DrainOutcome stop();

    // -- ShardService -----------------------------------------------------------------------------
    // False also when there is no such lane, or it has stopped.
    [[nodiscard]] bool post(unsigned lane, LaneRequest& request) noexcept override;
    [[nodiscard]] unsigned lane_of(GroupId group) const noexcept override;
    [[nodiscard]] unsigned lane_count() const noexcept override {
        return static_cast<unsigned>(lanes_.size());
    }
    [[nodiscard]] unsigned group_count() const noexcept override { return options_.group_count; }

    // Where a new shard goes, and with it its records.
    [[nodiscard]] GroupId group_for(ShardUid shard) const noexcept {
        return static_cast<GroupId>(1 + value(shard) % options_.group_count);
    }
    // Replaces what the lanes route by. One publisher at a time is let in; the table before is
    // freed once no lane can hold it.
    void publish(std::unique_ptr<const RouteTable> table);
    // Frees replaced tables; returns how many are still held. publish() does it, too.
    std::size_t reclaim_routes();

    [[nodiscard]] Lane& lane(unsigned index) noexcept { return *lanes_[index]; }
    [[nodiscard]] const Lane& lane(unsigned index) const noexcept { return *lanes_[index]; }
    [[nodiscard]] const std::vector<DoorSpec>& doors() const noexcept { return options_.doors; }

private:
    explicit LaneSet(LaneSetOptions options);

    LaneSetOptions options_;
    std::vector<std::unique_ptr<DoorQuota>> quotas_;
    std::mutex publishing_;
    Routes routes_;
    // rings_[from * lanes + to]; null where from == to.
    std::vector<std::unique_ptr<SpscByteRing>> rings_;
    std::vector<std::unique_ptr<Lane>> lanes_;  // after the rings they use
    bool stopped_ = false;
    DrainOutcome drain_outcome_;
};

}  // namespace penstock
