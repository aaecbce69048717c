// What producers have put lately, so that a record which comes again is known: for each shard and
// producer the newest batches, with the sequence numbers of their records.
//
// Records of a batch that were appended one after the other are one run: a bit for each offset in
// the batch, and the sequence of the first. The table is made durable through the marks in the
// records themselves and through manifest entries (docs/idempotent-puts.md).
//
// Its time is one that no step of the clock moves, so that a leap makes nobody forgotten, nor kept
// for ever. At a start it is the wall clock's, which is what the arrivals in entries were.
//
// Runs on: the lane that owns the group.
// Allocates: nothing after construction but in snapshots and at a start; pages of its pools are
// touched as they are used.
// Guarantees: bounded memory; what was forgotten too early is refused, not taken for new (unless
// its producer was silent for Limits::expiry_ms). Format: docs/formats/manifest.md (producer run).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "storage/base/ids.h"
#include "storage/format/manifest.h"
#include "storage/log/append.h"

namespace penstock {

enum class ProducerVerdict : std::uint8_t {
    fresh,     // not known: append it
    repeated,  // it is there already
    fenced,    // its epoch is over
    too_old,   // its batch is not remembered: it may be there or not
};

class ProducerTable {
public:
    struct Limits {
        std::uint32_t runs = 1U << 17;
        std::uint32_t producers = 1U << 14;  // once per shard
        std::uint32_t batches = 64;          // of a producer in a shard: its window
        // Of one producer in a shard. More than a batch can have, which is kept whole.
        std::uint32_t runs_each = 1024;
        // When there is no free run: producers with more give up their oldest batches, for
        // themselves and for others. As many for every producer are there in any case.
        std::uint32_t runs_each_kept = 8;
        std::int64_t expiry_ms = 3'600'000;  // after a producer's last record
    };
    ProducerTable() : ProducerTable(Limits()) {}
    explicit ProducerTable(const Limits& limits);

    // What is known of a record. `out` is filled if it is there already.
    [[nodiscard]] ProducerVerdict look(ShardUid shard, const ProducerMark& mark,
                                       std::int64_t now_ms, Appended& out) noexcept;
    // Sees to it that the next note() of this record has room.
    [[nodiscard]] bool make_room(ShardUid shard, const ProducerMark& mark,
                                 std::int64_t now_ms) noexcept;
    // The record was appended. A second time it changes nothing.
    void note(ShardUid shard, const ProducerMark& mark, Sequence sequence, std::int64_t arrival_ms,
              std::int64_t now_ms) noexcept;
    // The shard is gone.
    void forget(ShardUid shard) noexcept;

    // -- Manifest ---------------------------------------------------------------------------------
    // Calls `add` with runs of the shard that it has not been called with yet, as far as their
    // records are settled: up to `through`. Looks at nobody else's.
    void take_unrecorded(ShardUid shard, Sequence through,
                         const std::function<void(const ProducerRunEntry&)>& add);
    // All runs up to the places that `through` tells, and what is refused of producers without any.
    void snapshot(const std::function<Sequence(ShardUid)>& through,
                  const std::function<void(const ProducerRunEntry&)>& add) const;

    // -- Recovery: entries in their order, then the records of frames behind the points, then the
    // end. Nothing expires before the end, since a record that comes later may show that its
    // producer was not silent; only one that was forgotten before it was put begins anew.
    void restore(const ProducerRunEntry& entry, std::int64_t now_ms) noexcept;
    // Where there is no room for it, its batch is refused from now on.
    void restore(ShardUid shard, const ProducerMark& mark, Sequence sequence,
                 std::int64_t arrival_ms, std::int64_t now_ms) noexcept;
    void end_restore(std::int64_t now_ms);

    [[nodiscard]] std::uint32_t producer_count() const noexcept { return producers_used_; }
    [[nodiscard]] std::uint32_t run_count() const noexcept { return runs_used_; }

private:
    static constexpr std::uint32_t none = ~std::uint32_t{0};
    static constexpr std::uint32_t offsets = producer_run_offsets;
    struct Run {
        std::uint64_t batch = 0;
        Sequence first_sequence = 0;
        std::int64_t arrival_ms = 0;
        std::uint32_t base = 0;  // offset of bit 0
        std::uint32_t count = 0;
        std::uint32_t recorded = 0;  // of count
        std::uint32_t next = none;   // of the producer: older or the same batch
        std::uint64_t bits[offsets / 64] = {};
    };
    // Producers in an order.
    struct Link {
        std::uint32_t before = none;
        std::uint32_t after = none;
    };
    struct List {
        std::uint32_t first = none;
        std::uint32_t last = none;
    };
    struct Producer {
        ShardUid shard{};
        std::uint64_t id = 0;
        std::uint64_t highest = 0;  // batch
        std::uint64_t floor = 0;    // batches up to this one are forgotten
        std::int64_t used_ms = 0;
        std::int64_t arrival_ms = 0;  // of its newest record, by the wall clock
        std::uint32_t epoch = 0;
        std::uint32_t run_count = 0;
        std::uint32_t runs = none;     // newest batch first
        std::uint32_t chain = none;    // of its bucket; of the free list
        std::uint32_t unrecorded = 0;  // runs
        Link use;                      // by last use
        Link rich;                     // with more than runs_each_kept
        Link waits;                    // with something to record, of some shards
        bool waiting = false;
        bool floor_due = false;  // runs were dropped that no entry tells of
    };

    [[nodiscard]] List& waiting_of(ShardUid shard) noexcept;
    [[nodiscard]] std::uint32_t& bucket_of(ShardUid shard, std::uint64_t id) noexcept;
    [[nodiscard]] std::uint32_t find(ShardUid shard, std::uint64_t id) noexcept;
    [[nodiscard]] std::uint32_t take_producer() noexcept;
    [[nodiscard]] std::uint32_t take_run() noexcept;
    [[nodiscard]] bool has_free_run() const noexcept;
    [[nodiscard]] bool has_free_producer() const noexcept;
    [[nodiscard]] std::uint32_t add_producer(ShardUid shard, std::uint64_t id) noexcept;
    void drop_producer(std::uint32_t index) noexcept;
    void drop_through(std::uint32_t index, std::uint64_t batch) noexcept;
    void refuse_through(std::uint32_t index, std::uint64_t batch) noexcept;
    [[nodiscard]] bool drop_oldest(std::uint32_t index, std::uint64_t but) noexcept;
    [[nodiscard]] bool drop_of_rich() noexcept;
    [[nodiscard]] bool free_run(std::uint32_t index, std::uint64_t but) noexcept;
    void expire(std::int64_t now_ms) noexcept;
    void touch(std::uint32_t index, std::int64_t arrival_ms, std::int64_t now_ms) noexcept;
    void put_last(List& list, Link Producer::* link, std::uint32_t index) noexcept;
    void take_out(List& list, Link Producer::* link, std::uint32_t index) noexcept;
    void begin_epoch(std::uint32_t index, std::uint32_t epoch) noexcept;
    void raise(std::uint32_t index, std::uint64_t batch) noexcept;
    [[nodiscard]] const Run* find_record(const Producer& producer, const ProducerMark& mark,
                                         Sequence& sequence) const noexcept;
    [[nodiscard]] std::uint32_t restored(ShardUid shard, std::uint64_t id, std::uint32_t epoch,
                                         std::int64_t arrival_ms, std::int64_t now_ms) noexcept;
    void note_record(std::uint32_t index, const ProducerMark& mark, Sequence sequence,
                     std::int64_t arrival_ms) noexcept;
    [[nodiscard]] Run* insert_run(std::uint32_t index, std::uint64_t batch) noexcept;
    void wait_for_record(std::uint32_t index) noexcept;
    void wait_no_more(std::uint32_t index) noexcept;
    void record_settled(Producer& producer, Sequence through,
                        const std::function<void(const ProducerRunEntry&)>& add);
    [[nodiscard]] static ProducerRunEntry entry_of(const Producer& producer) noexcept;
    [[nodiscard]] ProducerRunEntry entry_of(const Producer& producer, const Run& run,
                                            std::uint32_t count) const noexcept;

    const Limits limits_;
    std::vector<Run> runs_;            // reserved, grown by one as needed
    std::vector<Producer> producers_;  // the same
    std::vector<std::uint32_t> buckets_;
    std::uint32_t free_run_ = none;
    std::uint32_t free_producer_ = none;
    List used_;                       // oldest first
    List rich_;                       // whose turn it is to give something up first
    std::vector<List> waiting_;       // by shard, a few in one list
    std::vector<std::uint32_t> due_;  // runs that are being recorded
    std::uint32_t runs_used_ = 0;
    std::uint32_t producers_used_ = 0;
};

}  // namespace penstock
