// Requests that other threads put into a lane's inbox, and the ring they come back on.
//
// Ownership: the requester allocates a request, posts it, and must not touch it until the lane
// pushes it to `reply_to`, after which it is the requester's again. Lanes never allocate or free
// requests. Every posted request comes back exactly once, also when the lane stops.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/log/append.h"
#include "storage/log/read_plan.h"

namespace penstock {

class ReplyRing;

enum class RequestKind : std::uint8_t {
    append, read_plan, release_lease, add_shard, drop_shard, set_retention, shard_status, snapshot
};

struct LaneRequest {
    explicit LaneRequest(RequestKind k) noexcept : kind(k) {}
    RequestKind kind;
    Errc outcome = Errc::ok;          // set by the lane
    ReplyRing* reply_to = nullptr;    // set by the requester; null: the lane drops it silently
    void* context = nullptr;          // the requester's own
};

// Appends items, sorted by shard, order within a shard kept. Answered when every accepted item is
// committed at `level` (or failed).
struct AppendRequest : LaneRequest {
    AppendRequest() noexcept : LaneRequest(RequestKind::append) {}

    struct Item {
        RecordIn record;                                      // in
        AppendVerdict verdict = AppendVerdict::no_memory;     // out
        Appended appended;                                    // out, if accepted
    };
    // A run of items for one shard. The waiter is the lane's to use.
    struct Run {
        ShardUid shard{};
        std::uint32_t first_item = 0;
        std::uint32_t item_count = 0;
        Errc committed = Errc::ok;                            // out: fate of the accepted items
        CommitWaiter waiter;
        AppendRequest* owner = nullptr;                       // set by the lane
    };
    AckLevel level = AckLevel::quorum;
    std::vector<Item> items;
    std::vector<Run> runs;
    std::uint32_t runs_pending = 0;                           // the lane's
};

// Asks where records of a shard are. See ReadPlan for what to do with the answer.
struct ReadPlanRequest : LaneRequest {
    ReadPlanRequest() noexcept : LaneRequest(RequestKind::read_plan) {}
    ShardUid shard{};
    ReadStart start;
    std::uint32_t max_bytes = 1U << 20;
    ReadPlan plan;                                            // out
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
};

// Removes a shard and frees its space; answered when that is durable on two replicas. Dropping an
// unknown shard is no error.
struct DropShardRequest : LaneRequest {
    DropShardRequest() noexcept : LaneRequest(RequestKind::drop_shard) {}
    ShardUid shard{};
    GroupId group{};
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
    ShardStatus status;                                       // out
};

// Bounded ring on which lanes hand requests back to one other thread, with an eventfd to wake it.
// Many producers, one consumer.
class ReplyRing {
  public:
    // `capacity` must cover every request the owner can have posted: a lane never waits here.
    explicit ReplyRing(std::size_t capacity);
    ReplyRing(const ReplyRing&) = delete;
    ReplyRing& operator=(const ReplyRing&) = delete;
    ~ReplyRing();

    // Lane side. Aborts when full, since the capacity is the owner's promise.
    void push(LaneRequest& request) noexcept;
    // Owner side.
    [[nodiscard]] LaneRequest* pop() noexcept;
    // Readable while requests wait. The owner reads it to clear it before popping.
    [[nodiscard]] int event_fd() const noexcept { return event_fd_; }

  private:
    struct Slot {
        std::atomic<std::size_t> turn{0};
        LaneRequest* request = nullptr;
    };
    std::vector<Slot> slots_;
    alignas(64) std::atomic<std::size_t> head_{0};
    alignas(64) std::size_t tail_ = 0;
    int event_fd_ = -1;
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
