// A shard group: the shard logs of one group, their journal, their segments and the commit points,
// as one lane runs them.
//
// The unit of ownership, epoch and journal. Everything is single-threaded and driven by turn(); all
// I/O goes through one IoEngine, all time through one Clock, so that the simulator runs this code
// unchanged.
//
// Runs on: the lane that owns the group.
// Allocates: in recover() and for shards and chunk lists; nothing per record.
// Guarantees: I-1 acked ≤ committed ≤ submitted ≤ appended per shard; docs/invariants.md.
// Format: docs/formats/frame.md, journal.md, segment.md, manifest.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "storage/base/clock.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/io/engine.h"
#include "storage/log/append.h"
#include "storage/log/read_plan.h"
#include "storage/replica/geometry.h"

namespace penstock {

class FramePool;
struct ShardLog;
struct GroupCore;

struct GroupOptions {
    GroupId group{};
    Epoch epoch{};  // promised durably on two voting replicas already
    SetGeometry geometry;
    ReplicaMask voting = all_replicas;  // whose superblock says so; read by recovery
    ReplicaMask filling = 0;            // open, but neither vote nor count until filled
    // Commit interval of the journal: how long small frames gather before a block is written when
    // the drive is idle. While blocks are in flight the next one gathers anyway.
    std::uint64_t linger_ns = 200'000;
    // A shard with more pending than this skips the journal.
    std::uint32_t direct_threshold_bytes = 64U * 1024;
    // With this many direct writes under way no shard starts another batch. A threshold, not a
    // bound: a shard that starts hands over all its closed buffers at once.
    std::uint32_t writes_in_flight_enough = 4;
    // Past this many bytes in flight a replica is lagging: it is sent nothing more until refilled.
    std::uint64_t replica_lag_bytes_max = 32U << 20;
    // An operator accepts that ranges without any good copy are lost.
    bool accept_loss = false;
    // What is read back and verified in the background, at most so many bytes a second of all
    // copies together; 0: nothing is. A pass begins so long after the one before began.
    std::uint64_t scrub_bytes_per_s = 0;
    std::uint64_t scrub_interval_ns = 0;
};

// Counters a group keeps; read from other threads as relaxed atomics through a snapshot.
struct GroupCounters {
    std::uint64_t records_appended = 0;
    std::uint64_t records_repeated = 0;  // were there already
    std::uint64_t records_committed = 0;
    std::uint64_t bytes_committed = 0;
    std::uint64_t frames_journaled = 0;
    std::uint64_t frames_direct = 0;
    std::uint64_t journal_blocks = 0;
    std::uint64_t journal_bytes = 0;
    // Writes into segments that settled, of one replica. Direct ones commit their frames; the
    // others move what the journal holds and are covered by a flush.
    std::uint64_t segment_writes = 0;
    std::uint64_t segment_bytes = 0;
    std::uint64_t segment_direct_writes = 0;
    std::uint64_t segment_direct_bytes = 0;
    std::uint64_t segment_flushes = 0;  // of one container file, on whatever replicas take writes
    std::uint64_t manifest_entries = 0;
    std::uint64_t chunks_freed = 0;
    std::uint64_t unrepaired_pieces = 0;  // copied to a returning replica without a good source
    std::array<std::uint64_t, static_cast<std::size_t>(AppendVerdict::count_)> verdicts{};
    // Of scrubbing: bytes read back, of all copies; places of a copy that were bad; bytes rewritten
    // from a good copy; places a replica did not keep right when they were written again; places
    // without a good copy of which it cannot be said that they are lost; passes that ended.
    std::uint64_t scrub_read_bytes = 0;
    std::array<std::uint64_t, replica_count> scrub_damaged{};
    std::array<std::uint64_t, replica_count> scrub_repaired_bytes{};
    std::uint64_t scrub_unkept = 0;
    std::uint64_t scrub_doubts = 0;
    std::uint64_t scrub_passes = 0;
};

enum class ScrubState : std::uint8_t {
    off,
    resting,  // until the next pass
    running,
    paused,  // a replica is being refilled, or memory, journal or replicas are short
};

// What scrubbing found.
struct ScrubEvent {
    enum class Kind : std::uint8_t {
        repaired,    // a bad place of `replica` was written again from `source`
        unkept,      // it was, several times, and is still bad
        lost,        // no good copy of [from, until) is left
        unresolved,  // nor was one found, but a copy could not be looked at
    };
    Kind kind = Kind::repaired;
    unsigned replica = 0;
    unsigned source = 0;
    GroupId group{};
    ShardUid shard{};
    Sequence from = 0;
    Sequence until = 0;
    std::uint32_t container = 0;
    std::uint64_t offset = 0;  // in the container
    std::uint64_t bytes = 0;
};

struct GroupGauges {
    std::uint64_t journal_used_bytes = 0;
    std::uint64_t journal_size_bytes = 0;
    std::uint64_t memory_used_bytes = 0;
    std::uint64_t memory_size_bytes = 0;
    std::uint64_t segment_free_bytes = 0;
    std::uint64_t segment_size_bytes = 0;
    std::uint32_t shards = 0;
    std::uint32_t producers = 0;  // remembered, once per shard,
    std::uint32_t producer_runs = 0;
    ReplicaMask taking_writes = 0;  // replicas that get new writes
    ReplicaMask complete = 0;       // replicas that lack nothing
    bool disk_full = false;
    bool retention_held = false;  // the clock leapt
    std::array<std::uint64_t, replica_count> missing_chunks{};
    std::array<std::uint64_t, replica_count> missing_bytes{};  // that are still to be copied
    std::array<std::uint64_t, replica_count> stored_bytes{};   // with them
    std::uint64_t lost_records = 0;
    ScrubState scrub = ScrubState::off;
    bool scrub_slowed = false;            // because much is written
    std::uint64_t scrub_done_bytes = 0;   // of the pass that is under way
    std::uint64_t scrub_total_bytes = 0;  // when it began
    std::int64_t scrub_ended_ms = 0;      // wall clock, when the last pass ended; 0: none did
};

class ShardGroup {
public:
    // Recovers the group from its replicas and starts its epoch, or makes an empty one if the set
    // is new. Blocks on the engine; no other I/O may be in flight on it. Errors:
    // not_enough_replicas, wait_for_replica (detail = shard), corrupt, io_failed, no_space.
    [[nodiscard]] static Result<std::unique_ptr<ShardGroup>> recover(const GroupOptions& options,
                                                                     IoEngine& engine, Clock& clock,
                                                                     FramePool& pool);
    ~ShardGroup();
    ShardGroup(const ShardGroup&) = delete;
    ShardGroup& operator=(const ShardGroup&) = delete;

    // -- Hot path ---------------------------------------------------------------------------------
    // Null if there is none. The pointer stays good until the shard is dropped.
    [[nodiscard]] ShardLog* find(ShardUid shard) noexcept;
    [[nodiscard]] AppendVerdict append(ShardLog& shard, const RecordIn& record, AckLevel level,
                                       Appended& out) noexcept;
    // Whether a record is there already, which changes nothing: accepted and `out` if so, else
    // producer_window, as for one that is not remembered any more, or producer_fenced.
    [[nodiscard]] AppendVerdict known(const ShardLog& shard, const ProducerMark& mark,
                                      Appended& out) noexcept;
    void wait_commit(ShardLog& shard, CommitWaiter& waiter) noexcept;
    // Forgets a waiter without calling it. False when it does not wait any more.
    [[nodiscard]] bool cancel_wait(ShardLog& shard, CommitWaiter& waiter) noexcept;
    // One completion whose cookie names this group (see group_of_cookie).
    void complete(const IoCompletion& completion) noexcept;
    // Seals and queues what is due, advances commit points, runs timers. Returns the work done, 0
    // if none. The caller submits the engine afterwards.
    std::size_t turn() noexcept;
    // Monotonic time at which turn() has work without any new event; UINT64_MAX if none.
    [[nodiscard]] std::uint64_t next_due_ns() const noexcept;

    [[nodiscard]] static GroupId group_of_cookie(std::uint64_t cookie) noexcept {
        return static_cast<GroupId>((cookie >> 40) & 0xffffU);
    }

    // -- Control ----------------------------------------------------------------------------------
    // No record of it will have arrived before `first_arrival_ms`.
    void add_shard(ShardUid shard, std::int64_t retention_ms, CommitWaiter& done,
                   std::int64_t first_arrival_ms = 0) noexcept;
    // The shard takes no more records from now on, also after a restart. Done when everything that
    // it took is committed and its end is durable; from then on ShardStatus::end_sequence stays.
    // Closing again is no error. Errors: not_found, not_enough_replicas (close again).
    void close_shard(ShardUid shard, CommitWaiter& done) noexcept;
    void drop_shard(ShardUid shard, CommitWaiter& done) noexcept;
    // Whether the shard has a record: accepted and `out.repeated` if so, accepted alone if not,
    // otherwise why it is neither known nor to be stored. From now on the shard takes no new
    // records with marks, so that what it was asked for cannot come in afterwards.
    [[nodiscard]] AppendVerdict look_up(ShardLog& shard, const ProducerMark& mark,
                                        Appended& out) noexcept;
    [[nodiscard]] Status set_retention(ShardUid shard, std::int64_t retention_ms) noexcept;
    [[nodiscard]] Status plan_read(ShardUid shard, const ReadStart& start, std::uint32_t max_bytes,
                                   ReadPlan& out) noexcept;
    void release(const ReadPlan& plan) noexcept;
    [[nodiscard]] Status shard_status(ShardUid shard, ShardStatus& out) noexcept;
    // Everything appended so far becomes durable in segments; true when nothing is pending or in
    // flight. Call turn() between calls.
    [[nodiscard]] bool drain() noexcept;
    // Of frames, also of a recovery, that are not durable in their segment on every replica that
    // takes writes; the next recovery moves what was committed of them.
    [[nodiscard]] std::uint64_t undrained_bytes() const noexcept;

    // -- Replicas ---------------------------------------------------------------------------------
    // The replica is gone or must not be used: nothing more is sent to it. What is in flight there
    // counts for nothing any more.
    void replica_out(unsigned replica) noexcept;
    // The replica's directory is open again in the engine, fenced with this epoch; `counts` says
    // whether its superblock votes (a returning one) or not (one being filled). Refill starts.
    void replica_in(unsigned replica, bool counts) noexcept;
    // The refilled replica's superblock says voting now.
    void replica_counts(unsigned replica) noexcept;
    [[nodiscard]] bool replica_complete(unsigned replica) const noexcept;

    // -- Observation ------------------------------------------------------------------------------
    [[nodiscard]] const GroupCounters& counters() const noexcept;
    [[nodiscard]] GroupGauges gauges() const noexcept;
    // Called for each frame that commits: nanoseconds from its first record's append to its commit,
    // records and bytes. Set before the first append.
    using CommitObserver = void (*)(void* context, ShardUid shard, std::uint64_t latency_ns,
                                    std::uint32_t records, std::uint64_t bytes) noexcept;
    void observe_commits(CommitObserver observer, void* context) noexcept;
    // A replica failed an I/O and went out: once per event. Set before the first append.
    using ReplicaObserver = void (*)(void* context, unsigned replica, Error why) noexcept;
    void observe_replicas(ReplicaObserver observer, void* context) noexcept;
    // Called for each thing that scrubbing finds. Set before the first turn().
    using ScrubObserver = void (*)(void* context, const ScrubEvent& event) noexcept;
    void observe_scrub(ScrubObserver observer, void* context) noexcept;
    // What a shard committed since the group was opened.
    struct ShardTotals {
        ShardUid shard{};
        std::uint64_t records = 0;
        std::uint64_t bytes = 0;
    };
    void shard_totals(std::vector<ShardTotals>& out) const;
    // The shards this group knows.
    void list_shards(std::span<ShardUid> out, std::size_t& count) const noexcept;

private:
    explicit ShardGroup(std::unique_ptr<GroupCore> core) noexcept;
    std::unique_ptr<GroupCore> core_;
};

}  // namespace penstock
