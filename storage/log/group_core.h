// The inside of a ShardGroup, shared by the files that implement it:
//   group.cc     the interface, append, turn
//   commit.cc    completions, commit points, waiters
//   writes.cc    journal blocks, segment writes, flushes, points
//   space.cc     containers, chunks, what may still be admitted
//   recover.cc   start-up
//   refill.cc    replicas that leave and come back
//   scrub.cc     reading back what is stored, and mending it
//   gauges.cc    what a group says of itself
//   retention.cc trim and drop
//   plan.cc      reads
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "storage/base/check.h"
#include "storage/base/clock.h"
#include "storage/format/frame.h"
#include "storage/format/manifest.h"
#include "storage/io/engine.h"
#include "storage/journal/ring.h"
#include "storage/log/cookie.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/log/producers.h"
#include "storage/log/scrub_walk.h"
#include "storage/log/shard_log.h"
#include "storage/log/state_log.h"
#include "storage/segment/table.h"

namespace penstock {

// Objects of one kind in slots that never move; a slot is named by its number.
template <typename T>
class SlotTable {
public:
    explicit SlotTable(std::uint32_t count) : slots_(count), free_(count) {
        for (std::uint32_t i = 0; i < count; ++i) {
            free_[i] = count - 1 - i;
        }
    }
    [[nodiscard]] T* take() noexcept {
        if (free_.empty()) {
            return nullptr;
        }
        const std::uint32_t slot = free_.back();
        free_.pop_back();
        return &slots_[slot];
    }
    void give(T* object) noexcept { free_.push_back(slot_of(object)); }  // capacity is reserved
    [[nodiscard]] std::uint32_t slot_of(const T* object) const noexcept {
        return static_cast<std::uint32_t>(object - slots_.data());
    }
    [[nodiscard]] T& at(std::uint32_t slot) noexcept { return slots_[slot]; }
    [[nodiscard]] std::size_t free_count() const noexcept { return free_.size(); }
    [[nodiscard]] std::size_t count() const noexcept { return slots_.size(); }

private:
    std::vector<T> slots_;
    std::vector<std::uint32_t> free_;
};

// One flush of all containers with unflushed writes, on every replica that takes writes.
struct FlushRound {
    bool active = false;
    std::uint64_t ticket = 0;  // buffers written with a ticket ≤ this are covered
    std::array<std::uint32_t, replica_count> outstanding{};
    ReplicaMask failed = 0;
    ReplicaMask sent = 0;
};

// A request to every replica that takes writes for one container: its space, or its zeroes.
struct ContainerRound {
    bool active = false;
    std::uint32_t container = 0;
    std::uint16_t round =
        0;                  // in its requests' cookies: late answers of an earlier one are ignored
    ReplicaMask asked = 0;  // when it began; one that came back since has to be asked again
    ReplicaMask outstanding = 0;
    ReplicaMask ok = 0;
    ReplicaMask no_space = 0;
    bool hurried = false;  // a paced one is waited for now
};

// A container that is not there yet, whose space file systems keep for it.
struct PromisedContainer {
    std::uint32_t container = 0;
    ReplicaMask asked = 0;
    ReplicaMask on = 0;
};

// A replica on its way back: its files are opened and grown, then it takes writes again, then its
// missing chunks are copied.
struct Joining {
    enum class Step : std::uint8_t { none, waiting, files, taking };
    Step step = Step::none;
    bool counts = false;
    std::uint16_t round = 0;        // as in ContainerGrowth
    std::uint32_t outstanding = 0;  // grow requests
    bool failed = false;
};

struct RefillCopy {
    bool active = false;
    unsigned target = 0;
    unsigned source = 0;
    std::uint64_t uid = 0;
    std::uint64_t ordinal = 0;
    std::uint64_t offset = 0;
    std::uint64_t until = 0;  // what has to be copied ends here
    std::uint64_t length = 0;
    std::uint64_t window = 0;
    Sequence last = 0;        // last one copied, or before the chunk
    Sequence piece_last = 0;  // last one of the piece that is written now
    std::uint16_t generation = 0;
    ReplicaMask tried = 0;
    bool relaxed = false;  // a hole in the chain is passed over
    enum class Step : std::uint8_t {
        idle,
        reading,
        writing,
        flushing,
        recording
    } step = Step::idle;
};

// One chunk after another is read back from every replica that has it and verified, side by side: a
// *stretch* from one place on. Where a copy ends earlier than another one it is mended from that;
// where all of them end, frames are looked for behind the place.
struct Scrub {
    // What the next I/O is for.
    enum class Doing : std::uint8_t {
        look,    // a copy of the stretch, one replica after the other
        source,  // the good copy, to mend another one
        splice,  // the block where what is mended ends, of the one that is mended
        mend,    // the write
        search,  // what stands behind the place, one replica after the other
    };
    bool in_flight = false;
    bool in_pass = false;
    bool in_chunk = false;
    bool is_void = false;  // what is in flight is not wanted any more
    bool writes = false;   // it is a write: its place must not become anybody else's
    Doing doing = Doing::look;
    std::uint16_t generation = 0;
    // The chunk.
    std::uint64_t uid = 0;
    std::uint64_t ordinal = 0;
    std::uint64_t until = 0;
    Sequence end_sequence = 0;
    // The stretch.
    std::uint64_t offset = 0;
    Sequence last = 0;
    std::uint64_t window = 0;
    ReplicaMask holders = 0;     // have the chunk, and are there
    ReplicaMask looked = 0;      // at, of those
    ReplicaMask unreadable = 0;  // gave an error
    ReplicaMask given_up = 0;    // do not keep what is written
    std::array<FrameWalk, replica_count> looks{};
    unsigned confirmed = 0;  // times that all were bad
    unsigned mended = 0;     // times that one was
    // The I/O.
    unsigned replica = 0;
    std::uint64_t io_offset = 0;
    std::uint64_t io_bytes = 0;
    // Mending.
    unsigned target = 0;
    std::uint64_t mend_until = 0;
    // Searching.
    std::uint64_t search_at = 0;
    std::optional<FoundFrame> found;
    // The passes.
    std::uint64_t due_ns = 0;
    std::uint64_t next_pass_ns = 0;
    std::uint64_t pass_began_ns = 0;
    std::uint64_t done_bytes = 0;
    std::uint64_t total_bytes = 0;
    bool has_doubts = false;  // of the last pass, that a replica which was away may settle
    std::int64_t ended_ms = 0;
    // How much is written beside it.
    std::uint64_t load_since_ns = 0;
    std::uint64_t load_bytes = 0;
    bool loaded = false;
};

struct RecoveredShard;

struct GroupCore {
    GroupCore(const GroupOptions& o, IoEngine& e, Clock& c, FramePool& p);
    ~GroupCore();

    // -- group.cc
    // ----------------------------------------------------------------------------------
    AppendVerdict append(ShardLog& shard, const RecordIn& record, AckLevel level,
                         Appended& out) noexcept;
    AppendVerdict admit(const ShardLog& shard, std::uint64_t bytes, AckLevel level,
                        bool yields) noexcept;
    AppendVerdict open_frame(ShardLog& shard, std::uint64_t bytes, bool yields) noexcept;
    void extend_frame_crc(ShardLog& shard) noexcept;
    void seal_frame(ShardLog& shard) noexcept;
    void close_buffer(ShardLog& shard) noexcept;
    // `yields` as in RecordIn.
    FrameBuffer* open_buffer(ShardLog& shard, std::uint64_t at_least, bool yields) noexcept;
    std::byte* take_memory(const ShardLog& shard, std::uint64_t at_least, bool yields,
                           std::uint64_t& capacity) noexcept;
    [[nodiscard]] bool in_bulk(const ShardLog& shard) const noexcept;
    void hold(ShardLog& shard, std::uint64_t held_bytes) noexcept;
    void give_up_share(ShardLog& shard) noexcept;
    void record_close(ShardLog& shard) noexcept;
    void tell_closed(ShardLog& shard, Errc outcome) noexcept;
    void mark_dirty(ShardLog& shard) noexcept;
    void add_unsubmitted(ShardLog& shard, std::uint64_t bytes) noexcept;
    void none_unsubmitted(ShardLog& shard) noexcept;
    [[nodiscard]] std::uint32_t buffer_limit() const noexcept;
    std::size_t turn() noexcept;
    std::uint64_t next_due_ns() const noexcept;
    ShardLog* add_shard_log(ShardTable& table);
    void timers() noexcept;
    bool drain() noexcept;

    // -- commit.cc
    // ---------------------------------------------------------------------------------
    void complete(const IoCompletion& completion) noexcept;
    void complete_journal(const Cookie& cookie, std::int64_t result) noexcept;
    void complete_segment(const Cookie& cookie, std::int64_t result) noexcept;
    void complete_flush(const Cookie& cookie, std::int64_t result) noexcept;
    void end_flush_round() noexcept;
    void mark_durable(FrameBuffer& buffer, ReplicaMask on) noexcept;
    void advance(ShardLog& shard) noexcept;
    void wake(ShardLog& shard) noexcept;
    void fail_waiters(ShardLog& shard, Errc outcome, bool only_all) noexcept;
    void settle_buffer(FrameBuffer& buffer) noexcept;
    void pop_settled(ShardLog& shard) noexcept;
    void free_buffer(FrameBuffer& buffer) noexcept;
    void release_orphan(FrameBuffer& buffer) noexcept;

    // -- writes.cc
    // ---------------------------------------------------------------------------------
    std::size_t gather() noexcept;
    void journal_shard(ShardLog& shard) noexcept;
    void go_direct(ShardLog& shard, bool bulk) noexcept;
    void move_shard(ShardLog& shard) noexcept;
    void move_closed(ShardLog& shard) noexcept;
    void queue_buffer(FrameBuffer& buffer, bool direct) noexcept;
    std::size_t issue_writes() noexcept;
    bool place(FrameBuffer& buffer) noexcept;
    bool queue_segment_writes(FrameBuffer& buffer) noexcept;
    std::size_t flush_if_due() noexcept;
    [[nodiscard]] bool frees_journal() const noexcept;
    void write_points() noexcept;
    [[nodiscard]] std::size_t relief_writes() const noexcept;
    [[nodiscard]] std::size_t relieve() noexcept;
    void relieve_shard(ShardLog& shard, bool hurry) noexcept;
    void enter_relief(ShardLog& shard) noexcept;
    void leave_relief(ShardLog& shard) noexcept;
    void seal_journal_block() noexcept;
    template <typename Entry>
    void record(const Entry& entry, std::function<void()> done = {}) {
        const EncodedEntry<Entry> encoded(entry);
        PENSTOCK_CHECK(table.apply(encoded.bytes()));
        state->append(encoded.bytes(), std::move(done));
        ++counters.manifest_entries;
    }
    [[nodiscard]] std::uint64_t container_offset(const Chunk& chunk) const noexcept {
        return std::uint64_t{chunk.run.unit} * options.geometry.chunk_unit_bytes;
    }
    [[nodiscard]] std::uint64_t chunk_capacity(const Chunk& chunk) const noexcept {
        return std::uint64_t{chunk.run.units} * options.geometry.chunk_unit_bytes;
    }

    // -- space.cc
    // ----------------------------------------------------------------------------------
    [[nodiscard]] std::uint64_t needed_units(std::uint64_t more_bytes,
                                             std::uint64_t waiting) const noexcept;
    [[nodiscard]] std::uint64_t room_units() const noexcept;
    [[nodiscard]] std::uint64_t margin_units() const noexcept;
    [[nodiscard]] bool has_room(const ShardLog& shard, std::uint64_t bytes,
                                std::uint64_t margin) noexcept;
    [[nodiscard]] PromisedContainer* promise_to_ask_for() noexcept;
    void reserve_space() noexcept;
    void complete_reserve(const Cookie& cookie, std::int64_t result) noexcept;
    void grow_space() noexcept;
    [[nodiscard]] std::uint64_t growth_pace_ns() noexcept;
    void hurry_growth() noexcept;
    void complete_grow(const Cookie& cookie, std::int64_t result) noexcept;
    void begin_round(ContainerRound& round, std::uint32_t container, IoKind kind,
                     std::uint64_t pace_ns) noexcept;
    bool round_over(ContainerRound& round, const Cookie& cookie, std::int64_t result) noexcept;
    void refresh_full() noexcept;
    void want_chunk(ShardLog& shard, std::uint64_t at_least, bool ahead) noexcept;
    bool ensure_container_file(unsigned replica, std::uint32_t container) noexcept;

    // -- refill.cc
    // ---------------------------------------------------------------------------------
    void replica_failed(unsigned replica, Error why) noexcept;
    void leave(unsigned replica) noexcept;
    void begin_join(unsigned replica, bool counts) noexcept;
    [[nodiscard]] bool has_outstanding(unsigned replica) const noexcept;
    void forget_copies(unsigned replica) noexcept;
    [[nodiscard]] bool refill_in_flight(std::uint64_t uid,
                                        std::uint64_t before_ordinal) const noexcept;
    void finish_join(unsigned replica) noexcept;
    [[nodiscard]] bool has_spare(unsigned without) const noexcept;
    void watch_lag() noexcept;
    void rewrite_pending() noexcept;
    std::size_t refill_step() noexcept;
    bool pick_refill() noexcept;
    bool next_source(const Chunk& chunk) noexcept;
    void complete_refill(const Cookie& cookie, std::int64_t result) noexcept;
    void refill_read_done() noexcept;
    [[nodiscard]] bool complete_on(unsigned replica) const noexcept;
    void abandon_refill() noexcept;

    // -- scrub.cc
    // ----------------------------------------------------------------------------------
    std::size_t scrub_step() noexcept;
    void complete_scrub(const Cookie& cookie, std::int64_t result) noexcept;
    void abandon_scrub() noexcept;
    [[nodiscard]] bool scrub_must_wait() noexcept;
    [[nodiscard]] bool scrub_pauses() const noexcept;
    void weigh_load() noexcept;
    void begin_scrub_pass() noexcept;
    void end_scrub_pass() noexcept;
    [[nodiscard]] bool next_scrub_chunk() noexcept;
    [[nodiscard]] bool doubts_can_settle() noexcept;
    void begin_stretch(std::uint64_t offset, Sequence last) noexcept;
    [[nodiscard]] bool issue_scrub(const Chunk& chunk) noexcept;
    void scrub_looked(std::int64_t result) noexcept;
    void judge_stretch() noexcept;
    void scrub_source_read(std::int64_t result) noexcept;
    void scrub_mended(std::int64_t result) noexcept;
    void scrub_searched(std::int64_t result) noexcept;
    void pass_over_hole(ShardTable& shard, Chunk& chunk) noexcept;
    [[nodiscard]] WalkPlace scrub_place(const ShardTable& shard) const noexcept;
    void tell_scrub(ScrubEvent::Kind kind, Sequence from, Sequence until, std::uint64_t bytes,
                    unsigned source) noexcept;
    [[nodiscard]] std::uint64_t scrub_due_ns() const noexcept;

    // -- retention.cc
    // ------------------------------------------------------------------------------
    void apply_retention() noexcept;
    void seal_idle_chunk(ShardLog& shard, std::int64_t horizon_ms) noexcept;
    void trim_shard(ShardLog& shard, std::uint64_t first_ordinal) noexcept;
    void finish_drops() noexcept;
    void watch_clock() noexcept;

    // -- recover.cc
    // --------------------------------------------------------------------------------
    Status recover();
    Status recover_from(ReplicaMask readable, bool& reading);
    Status open_outputs(const StateRead& read, std::uint32_t first_journal_file);
    Status pump_until(const std::function<bool()>& done);
    Status adopt(RecoveredShard& shard);
    Status start_epoch();
    [[nodiscard]] EpochBegunEntry epoch_begun() const noexcept;

    // -- group_producers.cc
    // ------------------------------------------------------------------------------------
    AppendVerdict look_for_repeat(const ShardLog& shard, const ProducerMark& mark,
                                  Appended& out) noexcept;
    void write_producer_runs(const ShardLog& shard) noexcept;
    void snapshot_producers(StateEntries& out) const;
    void restore_producers();
    void note_producers(ShardUid shard, const FrameHeader& header, Bytes frame) noexcept;

    // -- plan.cc
    // -----------------------------------------------------------------------------------
    Status plan_read(ShardUid uid, const ReadStart& start, std::uint32_t max_bytes,
                     ReadPlan& out) noexcept;

    GroupOptions options;
    IoEngine& engine;
    Clock& clock;
    FramePool& pool;
    ReplicaView replicas;
    ReplicaMask taken_part = 0;  // took writes at any time in this epoch
    GroupTable table;
    ProducerTable producers;
    std::unique_ptr<StateLog> state;
    std::unique_ptr<JournalRing> journal;
    std::unordered_map<std::uint64_t, std::unique_ptr<ShardLog>> shards;
    std::vector<ShardLog*> shard_order;  // for round-robin work
    SlotTable<FrameBuffer> buffers;
    SlotTable<FrameMeta> frames;
    std::array<std::vector<FileHandle>, replica_count> containers;

    ShardLog* dirty = nullptr;  // shards with something not handed out
    ShardLog* dirty_last = nullptr;
    FrameBuffer* write_queue = nullptr;  // closed buffers to write, in order
    FrameBuffer* write_queue_last = nullptr;
    std::vector<std::uint32_t> writing;    // buffers with writes in flight or to queue
    std::vector<std::uint32_t> unflushed;  // buffers in state `written`
    FlushRound flush;
    bool flush_wanted = false;
    std::vector<bool> unflushed_containers;
    std::uint64_t unflushed_bytes = 0;
    std::uint64_t pending_total = 0;   // bytes in buffers not settled, all shards
    std::uint64_t unplaced_total = 0;  // of those, in buffers without a place in a chunk
    std::uint64_t write_pass = 0;
    // Buffers whose writes are not done on a quorum yet: direct ones, and all.
    unsigned writes_in_flight = 0;
    std::size_t unfinished_writes = 0;
    std::uint32_t direct_wanted = 0;  // shards with as much unsubmitted as a direct write takes
    ShardLog* relief = nullptr;       // shards with frames in memory, oldest first
    ShardLog* relief_last = nullptr;
    std::size_t leaving = 0;         // shards that go to their segments once they are journaled
    std::uint64_t flush_ticket = 1;  // given to plain writes
    std::uint64_t oldest_unflushed_ns = 0;
    std::uint64_t waiting_shards = 0;  // shards with buffers
    ContainerRound reservation;
    std::vector<PromisedContainer> promised;
    std::uint64_t reserve_retry_ns = 0;
    bool reserve_failed = false;    // the last time, and nothing was freed since
    bool space_wanted = false;      // an append found no room: the next turn reserves more
    std::uint64_t room_margin = 0;  // margin_units() of this turn
    bool out_of_room = false;       // a buffer waits for a chunk and there is none to be had
    ContainerRound growth;
    std::uint64_t growth_began_ns = 0;    // the last one
    std::uint64_t growth_used_units = 0;  // by then
    std::uint16_t grow_round = 0;
    bool manifest_written = false;  // this epoch's first generation is durable
    std::array<std::uint32_t, replica_count> segment_outstanding{};  // writes, orphans' too
    std::uint64_t growth_retry_ns = 0;
    std::array<Joining, replica_count> joining;
    RefillCopy refill;
    std::byte* refill_buffer = nullptr;
    static constexpr std::size_t refill_buffer_bytes = 20U << 20;
    Scrub scrub;  // uses the same buffer while nothing is refilled

    std::uint64_t now_ns = 0;
    std::int64_t wall_ms = 0;
    std::int64_t steady_ms = 0;  // the same at the start, and what passed since: it never leaps
    std::int64_t steady_offset_ms = 0;  // from the monotonic clock
    std::uint64_t last_journal_ns = 0;
    std::uint64_t next_timer_ns = 0;
    std::uint64_t last_lag_look_ns = 0;
    std::uint64_t next_retention_ns = 0;
    bool points_in_flight = false;
    bool disk_full = false;
    bool recovering = true;        // no space is taken ahead of need
    bool journal_no_room = false;  // the open block waits for its place
    bool memory_short = false;     // a shard that is not in bulk found none
    bool pressed = false;          // memory or journal hold so much that they are being relieved
    std::uint64_t share_told = 0;  // the pool's share that kept_bytes follow
    std::int64_t clock_offset_ms = 0;  // wall - monotonic when it was last believed
    bool clock_known = false;
    bool retention_held = false;
    std::uint64_t retention_held_until_ns = 0;
    std::array<std::uint64_t, replica_count> left_ns{};
    std::array<bool, replica_count> lagging{};  // left because slow: comes back by itself
    GroupCounters counters;
    ShardGroup::CommitObserver commit_observer = nullptr;
    void* commit_context = nullptr;
    ShardGroup::ReplicaObserver replica_observer = nullptr;
    void* replica_context = nullptr;
    ShardGroup::ScrubObserver scrub_observer = nullptr;
    void* scrub_context = nullptr;
};

}  // namespace penstock
