// A lane: one pinned thread that never blocks, and everything it owns. Packets become records of
// its shards, requests of other threads are served, commits are answered.
//
// One turn: receive a burst from each port queue and append its records (or hand them to the lane
// that owns their shard); take what other lanes handed over; serve the inbox; let the groups seal
// and queue what is due and submit it; reap completions; send replies and wake-ups. Every step has
// a budget, so that none starves the others.
//
// Runs on: its own thread between start() and stop(); post(), counters() and request_stop() on any.
// Allocates: before it runs. In a turn only ShardGroup's control operations and chunk lists may.
// Guarantees: every request that post() took is answered exactly once, also when the lane stops;
// every packet and record refused is counted with its reason (promise 5).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "dataplane/capture/tap.h"
#include "dataplane/door/door.h"
#include "dataplane/door/routes.h"
#include "dataplane/lane/counters.h"
#include "dataplane/lane/idle.h"
#include "dataplane/lane/lane_sessions.h"
#include "dataplane/lane/loudness.h"
#include "dataplane/lane/request.h"
#include "dataplane/lane/ring.h"
#include "dataplane/lane/wake_flag.h"
#include "dataplane/port/port.h"
#include "storage/base/clock.h"
#include "storage/io/engine.h"
#include "storage/log/group.h"

namespace penstock {

struct LaneBudgets {
    // Per turn and port queue.
    std::uint16_t packets = burst_max;
    // Per turn and other lane.
    std::uint32_t handed_over_records = 256;
    // Per turn, of all requests together; a larger AppendRequest goes on in the next turn.
    std::uint64_t append_bytes = 1U << 20;
    std::uint32_t requests = 64;
    std::uint32_t completions = 256;
};

struct LaneOptions {
    unsigned index = 0;
    int cpu = -1;  // pinned there; -1: wherever the kernel likes
    IdleOptions idle;
    LaneBudgets budgets;
    Clock* clock = nullptr;
    std::vector<Port*> ports;                // the lane polls queue `index` of each that has one
    std::unique_ptr<DoorSet> doors;          // null: every datagram is dropped as no_door
    std::unique_ptr<LaneSessions> sessions;  // null: no UDP port is of sessions
    Routes* routes = nullptr;  // the lane is reader `index`; null: every stream is missing
    std::size_t inbox_capacity = 4096;
    unsigned group_count = 1;  // data groups of all lanes; a shard's is 1 + uid % group_count
    std::uint64_t slow_turn_ns = 1'000'000;
    // How long a stopping lane tries to make everything durable before it cancels what waits.
    std::uint64_t stop_deadline_ns = 10'000'000'000;
    // Packets stay in the port's ring for at most this long, or until an I/O has completed, after
    // an append found no memory that any shard could have had, and after one shard was refused and
    // the rings are empty anyway.
    std::uint64_t no_memory_hold_ns = 200'000;
    bool trap_allocations = true;  // debug builds: abort when a turn allocates (no_alloc.h)
    // Told of every committed frame after the lane's own histogram, on the lane's thread.
    ShardGroup::CommitObserver on_commit = nullptr;
    void* on_commit_context = nullptr;
    // Gets I/O completions that name no group of this lane.
    void (*on_foreign_completion)(void* context, const IoCompletion& completion) noexcept = nullptr;
    void* on_foreign_completion_context = nullptr;
};

// What the rings between lanes carry for one record, then its key and its data.
struct HandedRecord {
    std::uint64_t shard = 0;
    std::uint32_t group = 0;
    std::uint32_t door = 0;
    std::uint32_t key_bytes = 0;
    std::uint32_t data_bytes = 0;
};
static_assert(sizeof(HandedRecord) == 24);

// How far a lane came before it ended.
struct DrainOutcome {
    // Everything appended is in its segment, durable, and no request was canceled.
    bool finished = true;
    std::uint64_t left_bytes = 0;  // see ShardGroup::undrained_bytes()

    friend bool operator==(const DrainOutcome&, const DrainOutcome&) = default;
};

class Lane {
public:
    explicit Lane(LaneOptions options);
    ~Lane();
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    // -- Before it runs, or in `prepare`
    // ------------------------------------------------------------ `wakes`: the engine's wait()
    // also watches wake_fd(). Must outlive the lane and its thread.
    void set_engine(IoEngine& engine, bool wakes) noexcept;
    void add_group(std::unique_ptr<ShardGroup> group, GroupId id);
    // Records for `lane` go into `out`, its records come from `in`.
    void connect(unsigned lane, SpscByteRing& out, SpscByteRing& in, WakeFlag& wake);
    // To be given to an engine that can watch it.
    [[nodiscard]] int wake_fd() const noexcept { return idler_.wake_fd(); }
    [[nodiscard]] WakeFlag& wake_flag() noexcept { return wake_; }

    // -- Its thread
    // ----------------------------------------------------------------------------------- Starts
    // the thread, pins it and runs `prepare` there: the place to open the engine and recover the
    // groups, since an engine belongs to the thread that first uses it. Returns what `prepare`
    // returned; on an error the thread has ended.
    // Errors besides: invalid_argument (the CPU cannot be used; os_errno says why).
    [[nodiscard]] Status start(std::function<Status(Lane&)> prepare);
    // Two steps, so that no lane ends while another still hands records to it: first every lane
    // stops taking packets, then each finishes.
    void quiesce() noexcept;
    [[nodiscard]] bool quiesced() const noexcept;
    // Takes no more requests, serves those it has, drains the groups, cancels what is left when the
    // deadline passes, and ends the thread.
    void request_stop() noexcept;
    void join();

    // -- Any thread
    // ----------------------------------------------------------------------------------- False
    // when the inbox is full, which is counted, or the lane has stopped.
    [[nodiscard]] bool post(LaneRequest& request) noexcept;
    [[nodiscard]] bool running() const noexcept { return running_.load(std::memory_order_acquire); }
    // Takes no requests any more.
    [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
    [[nodiscard]] const LaneCounters& counters() const noexcept { return counters_; }
    [[nodiscard]] const DoorSet* doors() const noexcept { return options_.doors.get(); }
    [[nodiscard]] unsigned index() const noexcept { return options_.index; }
    // Once the thread is joined, or finish() has returned.
    [[nodiscard]] const DrainOutcome& drain_outcome() const noexcept { return drain_outcome_; }
    // Data groups of all lanes.
    [[nodiscard]] unsigned group_count() const noexcept { return options_.group_count; }

    // -- The lane's own thread: `prepare`, CallRequest, a test that drives turns itself -----------
    // One turn; returns the work done, 0 if there was none.
    std::size_t turn() noexcept;
    [[nodiscard]] ShardGroup* group(GroupId id) noexcept {
        return value(id) < groups_by_id_.size() ? groups_by_id_[value(id)] : nullptr;
    }
    [[nodiscard]] IoEngine* engine() noexcept { return engine_; }
    // Null without sessions.
    [[nodiscard]] LaneSessions* sessions() noexcept { return options_.sessions.get(); }
    // The lane's queue of that port of LaneOptions::ports; null if it has none.
    [[nodiscard]] PortQueue* port_queue(unsigned number) noexcept;
    // Copies of packets go to `tap` from now on; null: nowhere. It must outlive its use here.
    void set_capture(CaptureTap* tap) noexcept { capture_ = tap; }
    // Serves and drains what there is, within the deadline, answers the rest as canceled and
    // destroys the groups. What the thread does before it ends.
    void finish() noexcept;

private:
    struct Peer {
        SpscByteRing* out = nullptr;
        SpscByteRing* in = nullptr;
        WakeFlag* wake = nullptr;
    };
    struct Polled {
        PortQueue* queue = nullptr;
        PortIdentity identity;
        unsigned number = 0;  // of the port, in LaneOptions::ports
    };
    // Where a shard is, as the last lookup found it.
    struct Found {
        ShardGroup* group = nullptr;
        ShardLog* shard = nullptr;
    };

    // Steps of a turn, lane.cc.
    [[nodiscard]] std::size_t receive() noexcept;
    [[nodiscard]] std::size_t receive_from(Polled& port) noexcept;
    void refuse_packet(Polled& port, const Packet& packet, const Decoded& decoded) noexcept;
    // False if the datagram is not of sessions.
    [[nodiscard]] bool offer_to_sessions(const Polled& port, const Decoded& decoded) noexcept;
    // Why it was not taken, or not all of it; counted.
    DropReason take_datagram(const Polled& port, const Decoded& decoded) noexcept;
    void take_record(std::size_t door, const DoorRecord& record) noexcept;
    void hand_over(std::size_t door, const ShardRoute& route, const DoorRecord& record) noexcept;
    // `record.yields` is set here.
    void append_from_door(std::size_t door, const StreamRoute& stream, GroupId group,
                          ShardUid shard, RecordIn record) noexcept;
    void enter_routes() noexcept;
    void hold_packets() noexcept;
    void drop_record(std::size_t door, DropReason reason) noexcept;
    [[nodiscard]] std::size_t take_over() noexcept;
    // All that other lanes have handed over by now.
    void take_over_all() noexcept;
    // The record at the ring's front goes to its shard.
    void take_handed(SpscByteRing& ring, Bytes bytes) noexcept;
    [[nodiscard]] std::size_t run_groups() noexcept;
    [[nodiscard]] std::size_t reap() noexcept;
    void count_io_calls() noexcept;
    void send_signals() noexcept;

    // Requests, lane_requests.cc.
    [[nodiscard]] std::size_t serve_inbox() noexcept;
    void serve_control(LaneRequest& request) noexcept;
    void change_shards(LaneRequest& request) noexcept;
    void begin_tail(TailReadRequest& request) noexcept;
    // False when it does not wait for a commit any more.
    [[nodiscard]] bool cancel_tail(TailReadRequest& request) noexcept;
    void cancel_tails() noexcept;
    void answer_tails() noexcept;
    void close_shard(CloseShardRequest& request) noexcept;
    void look_up(ProducerLookupRequest& request) noexcept;
    void begin_append(AppendRequest& request) noexcept;
    // True when all its runs are appended; false when the budget ended before.
    [[nodiscard]] bool go_on_appending(AppendRequest& request, std::uint64_t& budget) noexcept;
    [[nodiscard]] bool append_run(AppendRequest& request, AppendRequest::Run& run,
                                  std::uint64_t& budget) noexcept;
    void run_done(AppendRequest::Run& run, Errc outcome) noexcept;
    [[nodiscard]] Found locate(ShardUid shard) noexcept;
    void await(LaneRequest& request) noexcept;
    void reply(LaneRequest& request, Errc outcome) noexcept;
    void cancel_all() noexcept;
    static void on_run_committed(CommitWaiter& waiter, Errc outcome) noexcept;
    static void on_control_committed(CommitWaiter& waiter, Errc outcome) noexcept;
    static void on_tail_reached(CommitWaiter& waiter, Errc outcome) noexcept;
    static void on_closed(CommitWaiter& waiter, Errc outcome) noexcept;
    static void observe_commit(void* self, ShardUid shard, std::uint64_t latency_ns,
                               std::uint32_t records, std::uint64_t bytes) noexcept;

    // The thread, lane.cc.
    void run(const std::function<Status(Lane&)>& prepare);
    [[nodiscard]] Status pin() const noexcept;
    void loop() noexcept;
    void account(std::uint64_t now_ns, std::size_t work) noexcept;
    void idle(std::uint64_t now_ns) noexcept;
    [[nodiscard]] bool anything_waiting() noexcept;
    [[nodiscard]] bool anything_in_rings() noexcept;
    [[nodiscard]] std::uint64_t next_due_ns() const noexcept;

    LaneOptions options_;
    LaneCounters counters_;
    MpscRing<LaneRequest> inbox_;
    WakeFlag wake_;
    Idler idler_;
    IoEngine* engine_ = nullptr;
    bool engine_wakes_ = false;
    std::vector<std::unique_ptr<ShardGroup>> groups_;
    std::vector<ShardGroup*> groups_by_id_;
    std::vector<Peer> peers_;  // by lane; none for itself
    std::vector<Polled> ports_;

    CaptureTap* capture_ = nullptr;

    std::uint64_t turn_number_ = 0;

    // Of the turn under way.
    DropReason record_drop_ = DropReason::none;  // of the datagram under way
    std::uint64_t now_ns_ = 0;
    const RouteTable* routes_ = nullptr;
    std::uint64_t hold_packets_until_ns_ = 0;
    bool shard_refused_ = false;  // since this turn began to receive
    Loudness loudness_;
    IoCalls io_calls_;  // counted so far
    std::array<Packet, burst_max> burst_;
    std::array<Decoded, burst_max> decoded_;
    // As many as a turn takes (LaneBudgets), so that it asks the engine once.
    std::array<IoCompletion, 256> completions_;
    std::array<std::byte, 10'240> answer_;  // a jumbo frame, for echo replies
    // The last shard a door record went to: a burst mostly has one.
    ShardUid last_shard_{};
    Found last_found_;

    AppendRequest* appending_ = nullptr;    // begun, budget ended
    LaneRequest* waiting_ = nullptr;        // for a commit
    TailReadRequest* tails_due_ = nullptr;  // reached this turn; answered at its end
    std::vector<ReplyRing*> touched_;       // this turn; signalled at its end
    bool packets_wanted_ = true;

    // Of the loop.
    std::uint64_t idle_since_ns_ = 0;  // 0: not idle

    std::thread thread_;
    Status prepared_;
    DrainOutcome drain_outcome_;
    std::atomic<int> started_{0};  // 0 not yet, 1 prepare is done
    std::atomic<bool> running_{false};
    std::atomic<bool> quiesce_wanted_{false};
    std::atomic<bool> quiesced_{false};
    std::atomic<bool> stop_wanted_{false};
    // A post that passed the closed check is counted until it is in the inbox, so that the lane
    // knows when the last one is in.
    std::atomic<bool> closed_{false};
    std::atomic<std::uint32_t> posting_{0};
};

}  // namespace penstock
