#include "storage/log/producers.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "storage/base/check.h"

namespace penstock {

namespace {

// More than a lane has shards that are put to, mostly.
constexpr std::size_t waiting_lists = 1024;

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) noexcept {
    std::uint64_t x = a * 0x9e37'79b9'7f4a'7c15 ^ b;
    x = (x ^ x >> 30) * 0xbf58'476d'1ce4'e5b9;
    x = (x ^ x >> 27) * 0x94d0'49bb'1331'11eb;
    return x ^ x >> 31;
}

std::uint32_t count_of(const std::uint64_t* bits, std::uint32_t words) noexcept {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < words; ++i) {
        count += static_cast<std::uint32_t>(std::popcount(bits[i]));
    }
    return count;
}

bool has(const std::uint64_t* bits, std::uint32_t bit) noexcept {
    return (bits[bit / 64] >> bit % 64 & 1) != 0;
}

// Set bits before `bit`.
std::uint32_t rank(const std::uint64_t* bits, std::uint32_t bit) noexcept {
    const std::uint64_t below = (std::uint64_t{1} << bit % 64) - 1;
    return count_of(bits, bit / 64) +
           static_cast<std::uint32_t>(std::popcount(bits[bit / 64] & below));
}

bool any_from(const std::uint64_t* bits, std::uint32_t bit, std::uint32_t words) noexcept {
    if (bits[bit / 64] >> bit % 64 != 0) {
        return true;
    }
    for (std::uint32_t i = bit / 64 + 1; i < words; ++i) {
        if (bits[i] != 0) {
            return true;
        }
    }
    return false;
}

}  // namespace

ProducerTable::ProducerTable(const Limits& limits)
    : limits_(limits), buckets_(std::bit_ceil(limits.producers), none), waiting_(waiting_lists) {
    runs_.reserve(limits.runs);
    producers_.reserve(limits.producers);
    due_.reserve(limits.runs_each);
}

ProducerTable::List& ProducerTable::waiting_of(ShardUid shard) noexcept {
    return waiting_[mixed(value(shard), 0) & (waiting_lists - 1)];
}

std::uint32_t& ProducerTable::bucket_of(ShardUid shard, std::uint64_t id) noexcept {
    return buckets_[mixed(value(shard), id) & (buckets_.size() - 1)];
}

std::uint32_t ProducerTable::find(ShardUid shard, std::uint64_t id) noexcept {
    std::uint32_t at = bucket_of(shard, id);
    while (at != none && (producers_[at].shard != shard || producers_[at].id != id)) {
        at = producers_[at].chain;
    }
    return at;
}

// -- Pools ----------------------------------------------------------------------------------------

bool ProducerTable::has_free_run() const noexcept {
    return free_run_ != none || runs_.size() < limits_.runs;
}
bool ProducerTable::has_free_producer() const noexcept {
    return free_producer_ != none || producers_.size() < limits_.producers;
}

std::uint32_t ProducerTable::take_run() noexcept {
    PENSTOCK_CHECK(has_free_run());
    ++runs_used_;
    if (free_run_ == none) {
        runs_.emplace_back();
        return static_cast<std::uint32_t>(runs_.size() - 1);
    }
    const std::uint32_t index = free_run_;
    free_run_ = runs_[index].next;
    runs_[index] = Run{};
    return index;
}

std::uint32_t ProducerTable::take_producer() noexcept {
    PENSTOCK_CHECK(has_free_producer());
    ++producers_used_;
    if (free_producer_ == none) {
        producers_.emplace_back();
        return static_cast<std::uint32_t>(producers_.size() - 1);
    }
    const std::uint32_t index = free_producer_;
    free_producer_ = producers_[index].chain;
    producers_[index] = Producer{};
    return index;
}

std::uint32_t ProducerTable::add_producer(ShardUid shard, std::uint64_t id) noexcept {
    const std::uint32_t index = take_producer();
    Producer& producer = producers_[index];
    producer.shard = shard;
    producer.id = id;
    std::uint32_t& bucket = bucket_of(shard, id);
    producer.chain = bucket;
    bucket = index;
    put_last(used_, &Producer::use, index);
    return index;
}

void ProducerTable::drop_producer(std::uint32_t index) noexcept {
    Producer& producer = producers_[index];
    drop_through(index, ~std::uint64_t{0});
    wait_no_more(index);
    take_out(used_, &Producer::use, index);
    std::uint32_t* link = &bucket_of(producer.shard, producer.id);
    while (*link != index) {
        link = &producers_[*link].chain;
    }
    *link = producer.chain;
    producer.chain = free_producer_;
    free_producer_ = index;
    --producers_used_;
}

// Its runs of batches up to this one.
void ProducerTable::drop_through(std::uint32_t index, std::uint64_t batch) noexcept {
    Producer& producer = producers_[index];
    const bool was_rich = producer.run_count > limits_.runs_each_kept;
    std::uint32_t* link = &producer.runs;
    while (*link != none && runs_[*link].batch > batch) {
        link = &runs_[*link].next;
    }
    std::uint32_t at = *link;
    *link = none;
    while (at != none) {
        const std::uint32_t next = runs_[at].next;
        if (runs_[at].recorded < runs_[at].count) {
            --producer.unrecorded;
            producer.floor_due = true;
        }
        runs_[at].next = free_run_;
        free_run_ = at;
        --producer.run_count;
        --runs_used_;
        at = next;
    }
    if (was_rich && producer.run_count <= limits_.runs_each_kept) {
        take_out(rich_, &Producer::rich, index);
    }
    if (producer.floor_due) {
        wait_for_record(index);
    }
}

// Its oldest batch, if that is older than `but`.
bool ProducerTable::drop_oldest(std::uint32_t index, std::uint64_t but) noexcept {
    Producer& producer = producers_[index];
    if (producer.runs == none) {
        return false;
    }
    std::uint32_t at = producer.runs;
    while (runs_[at].next != none) {
        at = runs_[at].next;
    }
    const std::uint64_t oldest = runs_[at].batch;
    if (oldest >= but) {
        return false;
    }
    refuse_through(index, oldest);
    return true;
}

void ProducerTable::refuse_through(std::uint32_t index, std::uint64_t batch) noexcept {
    producers_[index].floor = std::max(producers_[index].floor, batch);
    drop_through(index, batch);
}

// The oldest batch of a producer with more than its due; never its newest, which may still be
// being put.
bool ProducerTable::drop_of_rich() noexcept {
    constexpr unsigned tries_max = 16;  // few have all of their runs in one batch
    for (unsigned tries = 0; tries < tries_max && rich_.first != none; ++tries) {
        const std::uint32_t index = rich_.first;
        take_out(rich_, &Producer::rich, index);  // the next time it is another one's turn
        put_last(rich_, &Producer::rich, index);
        if (drop_oldest(index, producers_[index].highest)) {
            return true;
        }
    }
    return false;
}

// Sees to it that there is a free run for a batch of the producer, whose older ones may go for it.
bool ProducerTable::free_run(std::uint32_t index, std::uint64_t but) noexcept {
    return has_free_run() ||
           (producers_[index].run_count > limits_.runs_each_kept && drop_oldest(index, but)) ||
           drop_of_rich() || drop_oldest(index, but);
}

void ProducerTable::put_last(List& list, Link Producer::* link, std::uint32_t index) noexcept {
    producers_[index].*link = {list.last, none};
    (list.last == none ? list.first : (producers_[list.last].*link).after) = index;
    list.last = index;
}

void ProducerTable::take_out(List& list, Link Producer::* link, std::uint32_t index) noexcept {
    const auto [before, after] = producers_[index].*link;
    (before == none ? list.first : (producers_[before].*link).after) = after;
    (after == none ? list.last : (producers_[after].*link).before) = before;
}

void ProducerTable::touch(std::uint32_t index, std::int64_t arrival_ms,
                          std::int64_t now_ms) noexcept {
    Producer& producer = producers_[index];
    producer.used_ms = std::max(producer.used_ms, now_ms);
    producer.arrival_ms = std::max(producer.arrival_ms, arrival_ms);
    if (used_.last != index) {
        take_out(used_, &Producer::use, index);
        put_last(used_, &Producer::use, index);
    }
}

void ProducerTable::expire(std::int64_t now_ms) noexcept {
    while (used_.first != none && now_ms - producers_[used_.first].used_ms > limits_.expiry_ms) {
        drop_producer(used_.first);
    }
}

// -- Records --------------------------------------------------------------------------------------

const ProducerTable::Run* ProducerTable::find_record(const Producer& producer,
                                                     const ProducerMark& mark,
                                                     Sequence& sequence) const noexcept {
    for (std::uint32_t at = producer.runs; at != none; at = runs_[at].next) {
        const Run& run = runs_[at];
        if (run.batch < mark.batch) {
            return nullptr;
        }
        const std::uint32_t bit = mark.offset_in_batch - run.base;
        if (run.batch == mark.batch && mark.offset_in_batch >= run.base && bit < offsets &&
            has(run.bits, bit)) {
            sequence = run.first_sequence + rank(run.bits, bit);
            return &run;
        }
    }
    return nullptr;
}

ProducerVerdict ProducerTable::look(ShardUid shard, const ProducerMark& mark, std::int64_t now_ms,
                                    Appended& out) noexcept {
    expire(now_ms);
    const std::uint32_t index = find(shard, mark.producer);
    if (index == none) {
        return ProducerVerdict::fresh;
    }
    const Producer& producer = producers_[index];
    if (mark.epoch != producer.epoch) {
        return mark.epoch < producer.epoch ? ProducerVerdict::fenced : ProducerVerdict::fresh;
    }
    if (mark.batch > producer.highest) {
        return ProducerVerdict::fresh;
    }
    if (mark.batch <= producer.floor) {
        return ProducerVerdict::too_old;
    }
    Sequence sequence = 0;
    const Run* run = find_record(producer, mark, sequence);
    if (run == nullptr) {
        return ProducerVerdict::fresh;
    }
    out.sequence = sequence;
    out.arrival_ms = run->arrival_ms;
    out.repeated = true;
    return ProducerVerdict::repeated;
}

bool ProducerTable::make_room(ShardUid shard, const ProducerMark& mark,
                              std::int64_t now_ms) noexcept {
    expire(now_ms);
    const std::uint32_t index = find(shard, mark.producer);
    if (index == none) {
        return has_free_producer() && (has_free_run() || drop_of_rich());
    }
    if (mark.epoch > producers_[index].epoch) {
        // Its runs of the epoch before go when the first record of this one is noted.
        return producers_[index].run_count != 0 || has_free_run() || drop_of_rich();
    }
    if (producers_[index].run_count >= limits_.runs_each && !drop_oldest(index, mark.batch)) {
        return false;
    }
    return free_run(index, mark.batch);
}

void ProducerTable::begin_epoch(std::uint32_t index, std::uint32_t epoch) noexcept {
    drop_through(index, ~std::uint64_t{0});
    Producer& producer = producers_[index];
    producer.epoch = epoch;
    producer.highest = 0;
    producer.floor = 0;
}

// The window ends with this batch, if it is a new one.
void ProducerTable::raise(std::uint32_t index, std::uint64_t batch) noexcept {
    Producer& producer = producers_[index];
    if (batch <= producer.highest) {
        return;
    }
    producer.highest = batch;
    if (batch > limits_.batches && batch - limits_.batches > producer.floor) {
        producer.floor = batch - limits_.batches;
        drop_through(index, producer.floor);
    }
}

// In front of those of the same batch.
ProducerTable::Run* ProducerTable::insert_run(std::uint32_t index, std::uint64_t batch) noexcept {
    Producer& producer = producers_[index];
    const std::uint32_t taken = take_run();
    std::uint32_t* link = &producer.runs;
    while (*link != none && runs_[*link].batch > batch) {
        link = &runs_[*link].next;
    }
    Run& run = runs_[taken];
    run.batch = batch;
    run.next = *link;
    *link = taken;
    if (++producer.run_count == limits_.runs_each_kept + 1) {
        put_last(rich_, &Producer::rich, index);
    }
    return &run;
}

void ProducerTable::note(ShardUid shard, const ProducerMark& mark, Sequence sequence,
                         std::int64_t arrival_ms, std::int64_t now_ms) noexcept {
    std::uint32_t index = find(shard, mark.producer);
    if (index == none) {
        index = add_producer(shard, mark.producer);
        producers_[index].epoch = mark.epoch;
    }
    if (mark.epoch < producers_[index].epoch) {
        return;
    }
    if (mark.epoch > producers_[index].epoch) {
        begin_epoch(index, mark.epoch);
    }
    touch(index, arrival_ms, now_ms);
    note_record(index, mark, sequence, arrival_ms);
}

void ProducerTable::note_record(std::uint32_t index, const ProducerMark& mark, Sequence sequence,
                                std::int64_t arrival_ms) noexcept {
    Producer& producer = producers_[index];
    raise(index, mark.batch);
    Sequence known = 0;
    if (mark.batch <= producer.floor || find_record(producer, mark, known) != nullptr) {
        return;
    }
    const std::uint32_t base = mark.offset_in_batch / offsets * offsets;
    const std::uint32_t bit = mark.offset_in_batch - base;
    Run* run = nullptr;
    for (std::uint32_t at = producer.runs; at != none && runs_[at].batch >= mark.batch;
         at = runs_[at].next) {
        Run& candidate = runs_[at];
        if (candidate.batch == mark.batch && candidate.base == base &&
            candidate.first_sequence + candidate.count == sequence &&
            candidate.arrival_ms == arrival_ms && !any_from(candidate.bits, bit, offsets / 64)) {
            run = &candidate;
            break;
        }
    }
    if (run == nullptr) {
        run = insert_run(index, mark.batch);
        run->base = base;
        run->first_sequence = sequence;
        run->arrival_ms = arrival_ms;
    }
    run->bits[bit / 64] |= std::uint64_t{1} << bit % 64;
    producer.unrecorded += run->recorded == run->count ? 1U : 0U;
    ++run->count;
    wait_for_record(index);
}

void ProducerTable::forget(ShardUid shard) noexcept {
    for (std::uint32_t at = used_.first; at != none;) {
        const std::uint32_t next = producers_[at].use.after;
        if (producers_[at].shard == shard) {
            drop_producer(at);
        }
        at = next;
    }
}

// -- Manifest -------------------------------------------------------------------------------------

void ProducerTable::wait_for_record(std::uint32_t index) noexcept {
    Producer& producer = producers_[index];
    if (!producer.waiting) {
        producer.waiting = true;
        put_last(waiting_of(producer.shard), &Producer::waits, index);
    }
}

void ProducerTable::wait_no_more(std::uint32_t index) noexcept {
    Producer& producer = producers_[index];
    if (producer.waiting) {
        producer.waiting = false;
        take_out(waiting_of(producer.shard), &Producer::waits, index);
    }
}

ProducerRunEntry ProducerTable::entry_of(const Producer& producer, const Run& run,
                                         std::uint32_t count) const noexcept {
    ProducerRunEntry entry;
    entry.uid = value(producer.shard);
    entry.producer = producer.id;
    entry.batch = run.batch;
    entry.floor = producer.floor;
    entry.first_sequence = run.first_sequence;
    entry.arrival_ms = run.arrival_ms;
    entry.epoch = producer.epoch;
    entry.base = run.base;
    std::uint32_t left = count;
    for (std::uint32_t bit = 0; bit < offsets && left != 0; ++bit) {
        if (has(run.bits, bit)) {
            entry.bits[bit / 64] |= std::uint64_t{1} << bit % 64;
            --left;
        }
    }
    return entry;
}

namespace {

// Of `count` records from `first` on those up to `through`.
std::uint32_t settled_of(Sequence first, std::uint32_t count, Sequence through) noexcept {
    return through < first
               ? 0
               : static_cast<std::uint32_t>(std::min<Sequence>(through - first + 1, count));
}

}  // namespace

void ProducerTable::take_unrecorded(ShardUid shard, Sequence through,
                                    const std::function<void(const ProducerRunEntry&)>& add) {
    for (std::uint32_t index = waiting_of(shard).first; index != none;) {
        Producer& producer = producers_[index];
        const std::uint32_t next = producer.waits.after;
        if (producer.shard == shard) {
            record_settled(producer, through, add);
            if (producer.unrecorded == 0 && !producer.floor_due) {
                wait_no_more(index);
            }
        }
        index = next;
    }
}

// What is refused of it, without any of its records.
ProducerRunEntry ProducerTable::entry_of(const Producer& producer) noexcept {
    ProducerRunEntry entry;
    entry.uid = value(producer.shard);
    entry.producer = producer.id;
    entry.batch = producer.floor;
    entry.floor = producer.floor;
    entry.arrival_ms = producer.arrival_ms;
    entry.epoch = producer.epoch;
    return entry;
}

// In the order in which they arrived, from which restored() sees that it was never silent for long.
void ProducerTable::record_settled(Producer& producer, Sequence through,
                                   const std::function<void(const ProducerRunEntry&)>& add) {
    due_.clear();
    std::uint32_t left = producer.unrecorded;  // mostly the newest
    for (std::uint32_t at = producer.runs; left != 0; at = runs_[at].next) {
        const Run& run = runs_[at];
        left -= run.recorded < run.count ? 1U : 0U;
        if (settled_of(run.first_sequence, run.count, through) > run.recorded) {
            due_.push_back(at);
        }
    }
    // The point covers frames of runs that were dropped before any entry had them. Each entry has
    // the floor below which they are refused; there may be no other.
    if (producer.floor_due && due_.empty()) {
        add(entry_of(producer));
    }
    producer.floor_due = false;
    std::ranges::sort(due_, {}, [this](std::uint32_t at) { return runs_[at].arrival_ms; });
    for (const std::uint32_t at : due_) {
        Run& run = runs_[at];
        const std::uint32_t count = settled_of(run.first_sequence, run.count, through);
        add(entry_of(producer, run, count));
        run.recorded = count;
        producer.unrecorded -= count == run.count ? 1U : 0U;
    }
}

void ProducerTable::snapshot(const std::function<Sequence(ShardUid)>& through,
                             const std::function<void(const ProducerRunEntry&)>& add) const {
    std::vector<std::uint32_t> settled;
    for (std::uint32_t at = used_.first; at != none; at = producers_[at].use.after) {
        const Producer& producer = producers_[at];
        const Sequence end = through(producer.shard);
        settled.clear();
        for (std::uint32_t run = producer.runs; run != none; run = runs_[run].next) {
            if (settled_of(runs_[run].first_sequence, runs_[run].count, end) != 0) {
                settled.push_back(run);
            }
        }
        // What of it is settled may be dropped, and what is kept not be settled.
        if (settled.empty() && (producer.floor != 0 || producer.epoch != 0)) {
            add(entry_of(producer));
        }
        // The newest first: runs that stood between the others may have been dropped.
        std::ranges::sort(settled, std::ranges::greater(),
                          [this](std::uint32_t run) { return runs_[run].arrival_ms; });
        for (const std::uint32_t run : settled) {
            add(entry_of(producer, runs_[run],
                         settled_of(runs_[run].first_sequence, runs_[run].count, end)));
        }
    }
}

// -- Recovery -------------------------------------------------------------------------------------

// The producer as it was when something arrived; none: that is of an epoch that is over.
std::uint32_t ProducerTable::restored(ShardUid shard, std::uint64_t id, std::uint32_t epoch,
                                      std::int64_t arrival_ms, std::int64_t now_ms) noexcept {
    std::uint32_t index = find(shard, id);
    if (index != none && arrival_ms - producers_[index].arrival_ms > limits_.expiry_ms) {
        drop_producer(index);  // It had been forgotten by then, and its numbers may be used again.
        index = none;
    }
    if (index == none) {
        if (!has_free_producer()) {
            drop_producer(used_.first);  // There was room for this one: others had been forgotten.
        }
        index = add_producer(shard, id);
        producers_[index].epoch = epoch;
    }
    if (epoch < producers_[index].epoch) {
        return none;
    }
    if (epoch > producers_[index].epoch) {
        begin_epoch(index, epoch);
    }
    // Arrivals may be ahead of a clock that was put right since.
    touch(index, arrival_ms, std::min(arrival_ms, now_ms));
    return index;
}

void ProducerTable::restore(const ProducerRunEntry& entry, std::int64_t now_ms) noexcept {
    const std::uint32_t index = restored(static_cast<ShardUid>(entry.uid), entry.producer,
                                         entry.epoch, entry.arrival_ms, now_ms);
    if (index == none) {
        return;
    }
    Producer& producer = producers_[index];
    if (entry.floor > producer.floor) {
        producer.floor = entry.floor;
        drop_through(index, producer.floor);
    }
    raise(index, entry.batch);
    if (entry.batch <= producer.floor) {
        return;
    }
    Run* run = nullptr;
    for (std::uint32_t at = producer.runs; at != none; at = runs_[at].next) {
        Run& candidate = runs_[at];
        if (candidate.batch == entry.batch && candidate.base == entry.base &&
            candidate.first_sequence == entry.first_sequence) {
            run = &candidate;
        }
    }
    if (run == nullptr) {
        if (!free_run(index, entry.batch)) {
            refuse_through(index, entry.batch);
            return;
        }
        run = insert_run(index, entry.batch);
        run->base = entry.base;
        run->first_sequence = entry.first_sequence;
        run->arrival_ms = entry.arrival_ms;
    }
    for (std::uint32_t i = 0; i < offsets / 64; ++i) {
        run->bits[i] |= entry.bits[i];
    }
    run->count = count_of(run->bits, offsets / 64);
    run->recorded = run->count;
}

void ProducerTable::restore(ShardUid shard, const ProducerMark& mark, Sequence sequence,
                            std::int64_t arrival_ms, std::int64_t now_ms) noexcept {
    const std::uint32_t index = restored(shard, mark.producer, mark.epoch, arrival_ms, now_ms);
    if (index == none) {
        return;
    }
    Producer& producer = producers_[index];
    Sequence known = 0;
    if (mark.batch <= producer.floor || find_record(producer, mark, known) != nullptr) {
        return;
    }
    if (free_run(index, mark.batch)) {
        note_record(index, mark, sequence, arrival_ms);
        return;
    }
    raise(index, mark.batch);
    refuse_through(index, mark.batch);
    producer.floor_due = true;
    wait_for_record(index);
}

void ProducerTable::end_restore(std::int64_t now_ms) {
    // Entries come as points were written, which is not the order of last use. Among equals the
    // order stays. (libstdc++'s stable sorts use what clang warns of.)
    std::vector<std::pair<std::int64_t, std::uint32_t>> order;  // when last used, place in the list
    std::vector<std::uint32_t> indexes;
    for (std::uint32_t at = used_.first; at != none; at = producers_[at].use.after) {
        order.emplace_back(producers_[at].used_ms, static_cast<std::uint32_t>(indexes.size()));
        indexes.push_back(at);
    }
    std::ranges::sort(order);
    used_ = List();
    for (const auto& [used_ms, place] : order) {
        put_last(used_, &Producer::use, indexes[place]);
    }
    expire(now_ms);
}

}  // namespace penstock
