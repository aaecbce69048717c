// Requests that other threads put into a lane's inbox, and the ring they come back on.
//
// Ownership: the requester allocates a request, posts it, and must not touch it until the lane
// pushes it to `reply_to`, after which it is the requester's again. Lanes never allocate or free
// requests. Every posted request comes back exactly once, also when the lane stops.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/lane/ring.h"
#include "dataplane/lane/wake_flag.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/log/append.h"
#include "storage/log/group.h"
#include "storage/log/read_plan.h"

namespace penstock {

class Lane;
class ReplyRing;
struct LaneRequest;

// A commit waiter that knows the request it is for.
struct RequestWaiter : CommitWaiter {
    LaneRequest* request = nullptr;
};

enum class RequestKind : std::uint8_t {
    append,
    read_plan,
    tail_read,
    cancel_tail,
    release_lease,
    add_shard,
    drop_shard,
    close_shard,
    set_retention,
    shard_status,
    producer_lookup,
    snapshot,
    turn,
    call
};

struct LaneRequest {
    explicit LaneRequest(RequestKind k) noexcept : kind(k) {}
    virtual ~LaneRequest() = default;
    LaneRequest(LaneRequest&&) = default;  // before it is posted
    LaneRequest& operator=(LaneRequest&&) = default;
    RequestKind kind;
    Errc outcome = Errc::ok;        // set by the lane
    ReplyRing* reply_to = nullptr;  // set by the requester; null: the lane drops it silently
    void* context = nullptr;        // the requester's own

    // The lane's while the request is its: the lane itself, and its list of unanswered requests.
    Lane* lane = nullptr;
    LaneRequest* lane_next = nullptr;
    LaneRequest* lane_previous = nullptr;
};

// Appends items, sorted by shard, order within a shard kept. Answered when every accepted item is
// committed at `level` (or failed).
struct AppendRequest : LaneRequest {
    AppendRequest() noexcept : LaneRequest(RequestKind::append) {}

    struct Item {
        RecordIn record;                                   // in
        AppendVerdict verdict = AppendVerdict::no_memory;  // out
        Appended appended;                                 // out, if accepted
    };
    // A run of items for one shard. The waiter is the lane's to use.
    struct Run {
        ShardUid shard{};
        std::uint32_t first_item = 0;
        std::uint32_t item_count = 0;
        Errc committed = Errc::ok;  // out: fate of the accepted items
        CommitWaiter waiter;
        AppendRequest* owner = nullptr;  // set by the lane
    };
    AckLevel level = AckLevel::quorum;
    std::vector<Item> items;
    std::vector<Run> runs;
    // The lane's: runs not answered yet, and how far it got when a large request takes several
    // turns.
    std::uint32_t runs_pending = 0;
    std::uint32_t next_run = 0;
    std::uint32_t next_item = 0;  // within next_run
};

// Asks where records of a shard are. See ReadPlan for what to do with the answer.
struct ReadPlanRequest : LaneRequest {
    ReadPlanRequest() noexcept : LaneRequest(RequestKind::read_plan) {}
    ShardUid shard{};
    ReadStart start;
    std::uint32_t max_bytes = 1U << 20;
    ReadPlan plan;  // out

protected:
    explicit ReadPlanRequest(RequestKind k) noexcept : LaneRequest(k) {}
};

// The same for somebody who wants to be told of new records: answered in the turn that commits
// start.sequence, at once if it is committed already. start.from is ReadFrom::sequence. It costs
// the lane nothing until then. Outcomes besides a plan's: not_found when the shard is dropped,
// not_enough_replicas while no record can be committed, canceled.
struct TailReadRequest : ReadPlanRequest {
    TailReadRequest() noexcept : ReadPlanRequest(RequestKind::tail_read) {}
    // The lane's.
    RequestWaiter waiter;
    TailReadRequest* due_next = nullptr;
};

// Takes back a TailReadRequest of the same requester, which comes back as canceled unless it was
// answered already. That one is not posted again before this one is back.
struct CancelTailRequest : LaneRequest {
    CancelTailRequest() noexcept : LaneRequest(RequestKind::cancel_tail) {}
    TailReadRequest* tail = nullptr;
};

// Gives back the memory a ReadPlan lent.
struct ReleaseLeaseRequest : LaneRequest {
    ReleaseLeaseRequest() noexcept : LaneRequest(RequestKind::release_lease) {}
    ShardUid shard{};
    ReadPlan* plan = nullptr;
};

// Makes a shard known to its group; answered when that is durable on two replicas. Adding a shard
// that exists is no error (creation is retried after a crash).
struct AddShardRequest : LaneRequest {
    AddShardRequest() noexcept : LaneRequest(RequestKind::add_shard) {}
    ShardUid shard{};
    GroupId group{};
    std::int64_t retention_ms = 24LL * 3600 * 1000;
    std::int64_t first_arrival_ms = 0;  // of a child: not before its parents' last
    RequestWaiter waiter;               // the lane's
};

// Ends a shard: what other lanes have handed over by now is taken, then nothing more; answered when
// every record is committed and the end is durable on two replicas. Closing twice is no error.
// Outcomes besides: not_found, not_enough_replicas (ask again; it takes no records meanwhile).
struct CloseShardRequest : LaneRequest {
    CloseShardRequest() noexcept : LaneRequest(RequestKind::close_shard) {}
    ShardUid shard{};
    GroupId group{};
    ShardStatus status;    // out: it stays as it is but for what retention trims
    RequestWaiter waiter;  // the lane's
};

// Removes a shard and frees its space; answered when that is durable on two replicas. Dropping an
// unknown shard is no error.
struct DropShardRequest : LaneRequest {
    DropShardRequest() noexcept : LaneRequest(RequestKind::drop_shard) {}
    ShardUid shard{};
    GroupId group{};
    RequestWaiter waiter;  // the lane's
};

// In which turn the lane serves this. A turn looks at the routes once, before it takes packets, and
// what it hands to other lanes is in their rings when the next turn begins.
struct TurnRequest : LaneRequest {
    TurnRequest() noexcept : LaneRequest(RequestKind::turn) {}
    std::uint64_t turn = 0;  // out
};

struct SetRetentionRequest : LaneRequest {
    SetRetentionRequest() noexcept : LaneRequest(RequestKind::set_retention) {}
    ShardUid shard{};
    std::int64_t retention_ms = 0;
};

// First and last sequence, bytes kept, newest arrival.
struct ShardStatusRequest : LaneRequest {
    ShardStatusRequest() noexcept : LaneRequest(RequestKind::shard_status) {}
    ShardUid shard{};
    ShardStatus status;  // out
};

// Whether a shard that is closed, or about to be, has records of producers that come again. From
// then on it takes no new records with marks: what it does not have may go to its children.
// Answered when what it has is committed. Outcomes besides: not_found.
struct ProducerLookupRequest : LaneRequest {
    ProducerLookupRequest() noexcept : LaneRequest(RequestKind::producer_lookup) {}
    struct Item {
        ProducerMark mark;
        AppendVerdict verdict = AppendVerdict::accepted;  // out; see ShardGroup::look_up
        Appended appended;                                // out, if repeated
    };
    ShardUid shard{};
    AckLevel level = AckLevel::quorum;
    std::vector<Item> items;
    RequestWaiter waiter;  // the lane's
};

// Counters and gauges of one group. Outcome not_found if this lane does not run it.
struct SnapshotRequest : LaneRequest {
    SnapshotRequest() noexcept : LaneRequest(RequestKind::snapshot) {}
    GroupId group{};
    GroupCounters counters;  // out
    GroupGauges gauges;      // out
};

// Runs a function on the lane's thread between two turns, for rare control operations such as
// replicas going out of the set or coming back. It may block and allocate, at the price of a long
// turn, which is counted. The outcome is what it returns.
struct CallRequest : LaneRequest {
    CallRequest() noexcept : LaneRequest(RequestKind::call) {}
    Errc (*function)(Lane& lane, void* argument) = nullptr;
    void* argument = nullptr;
};

// Bounded ring on which lanes hand requests back to one other thread, with an eventfd to wake it.
// Many producers, one consumer.
//
// The owner waits for event_fd(), reads it, then pops until it gets null, then waits again. Only a
// pop that found the ring empty asks for the next wake-up, so an owner that is busy costs lanes no
// system call, and one that stops popping early must pop again without waiting.
class ReplyRing {
public:
    // `capacity` must cover every request the owner can have posted: a lane never waits here.
    explicit ReplyRing(std::size_t capacity);
    ReplyRing(const ReplyRing&) = delete;
    ReplyRing& operator=(const ReplyRing&) = delete;
    ~ReplyRing();

    // Lane side. Aborts when full, since the capacity is the owner's promise.
    void push(LaneRequest& request) noexcept;
    // The same in two steps, so that a lane signals each ring once per turn.
    void push_quietly(LaneRequest& request) noexcept;
    void signal() noexcept;
    // Owner side.
    [[nodiscard]] LaneRequest* pop() noexcept;
    // Readable while requests wait. The owner reads it to clear it before popping.
    [[nodiscard]] int event_fd() const noexcept { return wake_.fd(); }

private:
    MpscRing<LaneRequest> ring_;
    WakeFlag wake_;
};

// Everything the control plane may ask of the lanes; the lanes implement it, tests replace it.
// Runs on: any thread.
class ShardService {
public:
    virtual ~ShardService() = default;
    // Puts a request into the inbox of the lane that owns its group. False when the inbox is full:
    // push back to the caller (throttle). The lane of an AppendRequest is that of its first run;
    // all runs of one request must belong to one lane.
    [[nodiscard]] virtual bool post(unsigned lane, LaneRequest& request) noexcept = 0;
    [[nodiscard]] virtual unsigned lane_of(GroupId group) const noexcept = 0;
    [[nodiscard]] virtual unsigned lane_count() const noexcept = 0;
    // Data groups are 1..group_count(); a new shard goes to group 1 + uid % group_count().
    [[nodiscard]] virtual unsigned group_count() const noexcept = 0;
};

}  // namespace penstock
