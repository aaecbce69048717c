// A small replicated log of state changes with snapshots: each group's manifest, and the catalog.
//
// Entries are opaque bytes. A *generation* is a snapshot (the whole state as entries) followed by
// deltas; it fills one of two slot files per replica, the next generation goes to the other. An
// entry is committed when its block is durable on two counting replicas.
//
// Runs on: the thread of its engine.
// Guarantees: entries are replayed in order, without holes, and none that was reported committed is
// missing while one of the two replicas it was durable on can be read (R6, R8).
// Format: docs/formats/manifest.md.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/block.h"
#include "storage/io/engine.h"
#include "storage/log/cookie.h"

namespace penstock {

// What reading found, before anything is written.
struct StateRead {
    bool found = false;  // false: no generation anywhere, a new log
    std::uint64_t epoch = 0;
    std::uint64_t generation = 0;
    unsigned slot = 0;
    ReplicaMask sent_to = 0;        // of the last block
    std::vector<std::byte> stream;  // payloads, joined
    std::uint64_t snapshot_bytes = 0;
    std::array<std::uint64_t, replica_count> blocks{};  // intact ones of this generation
    std::array<bool, replica_count> damaged{};          // a damaged block ended the chain there
    std::uint64_t highest_generation = 0;               // of any slot, complete or not
};

// Reads both slots on each replica of `readable`; `absent` are voting replicas that could not be
// read. Errors: corrupt, wait_for_replica, io_failed.
[[nodiscard]] Result<StateRead> read_state_log(IoEngine& engine, std::uint64_t set_id,
                                               GroupId group, ReplicaMask readable,
                                               ReplicaMask absent, bool accept_loss);

// Calls `apply(in_snapshot, entry)` for each entry. False when the stream is malformed.
[[nodiscard]] bool replay_state(const StateRead& read,
                                const std::function<bool(bool, Bytes)>& apply);

// Collects entries, framed as the stream wants them.
class StateEntries {
public:
    void add(Bytes entry);
    [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::vector<std::byte> take() noexcept { return std::move(bytes_); }
    [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }
    void clear() noexcept { bytes_.clear(); }

private:
    std::vector<std::byte> bytes_;
};

class StateLog {
public:
    struct Options {
        std::uint64_t set_id = 0;
        GroupId group{};
        Epoch epoch{};
        std::uint64_t slot_bytes = 4U << 20;
        const ReplicaView* replicas = nullptr;
        // Writes the whole state as entries.
        std::function<void(StateEntries&)> snapshot;
        // An I/O of this replica failed, or it has held everybody up for long (Errc::unavailable).
        std::function<void(unsigned replica, Error)> on_replica_failed;
    };

    // Opens or makes the slot files. Generation numbers go on after `read.highest_generation`.
    [[nodiscard]] static Result<std::unique_ptr<StateLog>> open(IoEngine& engine, Options options,
                                                                const StateRead& read);
    ~StateLog();
    StateLog(const StateLog&) = delete;
    StateLog& operator=(const StateLog&) = delete;

    // Starts a new generation with a snapshot of the state as it is now.
    void start_generation();
    // Adds an entry; `done` runs once it is committed. Entries commit in order.
    void append(Bytes entry, std::function<void()> done = {});
    // A completion whose cookie has kind state_write or state_grow.
    void complete(const Cookie& cookie, std::int64_t result);
    // Queues what can be queued. Returns work done.
    std::size_t turn(std::uint64_t now_ns);
    [[nodiscard]] bool idle() const noexcept;  // everything appended is committed
    [[nodiscard]] bool has_in_flight() const noexcept;
    // The next generation fits in no slot, and there is no space to make them larger. Tried again
    // once a second; entries that find no room meanwhile wait.
    [[nodiscard]] bool out_of_space() const noexcept { return switch_retry_ns_ != 0; }
    // Writes to the replica that were not answered yet.
    [[nodiscard]] bool outstanding(unsigned replica) const noexcept;
    // The replica has every block of the generation, durable: it could be read from it alone.
    [[nodiscard]] bool holds(unsigned replica) const noexcept {
        return !switching_ && stream_base_ >= snapshot_end_ && durable_blocks_[replica] == index_;
    }
    // A replica's files are open again (it came back): it takes part from the next generation on,
    // which is started now.
    [[nodiscard]] Status reopen(unsigned replica);
    void replica_lost(unsigned replica);
    [[nodiscard]] std::uint64_t entries() const noexcept { return entries_; }

private:
    StateLog(IoEngine& engine, Options options);
    struct Block;
    struct Waiter {
        std::uint64_t end = 0;
        std::function<void()> done;
    };
    [[nodiscard]] Status go_on_without(unsigned replica, const Status& status);
    [[nodiscard]] bool in_snapshot() const noexcept;
    [[nodiscard]] std::uint64_t next_payload() const noexcept;
    void cut_block(std::uint64_t now_ns);
    [[nodiscard]] bool waits_for_slow(std::uint64_t now_ns);
    void settle();
    void begin_switch(std::uint64_t now_ns);
    void grow_slots(std::uint64_t bytes);
    [[nodiscard]] bool growing() const noexcept;
    void end_growth();
    [[nodiscard]] std::uint64_t left() const noexcept { return stream_.size() - stream_at_; }

    IoEngine& engine_;
    Options options_;
    std::array<std::array<FileHandle, 2>, replica_count> files_{};
    // Of both slots: so what one holds always fits in the other, also on full drives.
    std::uint64_t slot_bytes_ = 0;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::deque<std::uint32_t> order_;  // blocks in flight, oldest first
    std::vector<std::byte> stream_;    // not yet in a block, from stream_at_ on
    std::size_t stream_at_ = 0;
    std::uint64_t stream_base_ = 0;  // stream position of stream_[stream_at_]
    std::uint64_t stream_end_ = 0;
    std::uint64_t snapshot_end_ = 0;  // stream position where this generation's snapshot ends
    std::uint64_t committed_ = 0;     // stream position
    std::deque<Waiter> waiters_;
    std::uint64_t generation_ = 0;
    std::uint64_t index_ = 0;
    std::array<std::uint64_t, replica_count> durable_blocks_{};  // of this generation
    std::uint32_t previous_crc_ = 0;
    std::uint64_t offset_ = 0;  // in the slot
    unsigned slot_ = 0;
    bool switching_ = false;  // waits to start a generation
    std::uint64_t switch_retry_ns_ = 0;
    std::uint64_t grow_to_ = 0;             // 0: not growing
    std::array<ReplicaMask, 2> growing_{};  // by slot: grow requests in flight
    ReplicaMask no_space_ = 0;              // answers to them
    bool grow_failed_ = false;              // by most: the next try makes do with what there is
    std::uint64_t entries_ = 0;
};

}  // namespace penstock
