// From parts of batches to records in the shard logs, and back to what is to be told of them.
#include <algorithm>

#include "dataplane/session/session_lane.h"
#include "dataplane/wire/partition_hash.h"
#include "storage/base/check.h"

namespace penstock::session {
namespace {

struct Refusal {
    PartStatus status = PartStatus::unknown;
    CreditCause cause = CreditCause::none;
    std::int64_t wait_us = 0;
};

// How long to wait is how long the state usually lasts: a commit, a reservation, an operator.
Refusal refusal_of(AppendVerdict verdict) noexcept {
    switch (verdict) {
        case AppendVerdict::no_memory:
        case AppendVerdict::shard_behind:
            return {PartStatus::throttled, CreditCause::memory, 2'000};
        case AppendVerdict::no_room:
            return {PartStatus::throttled, CreditCause::disk, 10'000};
        case AppendVerdict::disk_full:
            return {PartStatus::throttled, CreditCause::disk, 1'000'000};
        case AppendVerdict::no_quorum:
        case AppendVerdict::needs_all:
            return {PartStatus::throttled, CreditCause::replicas, 100'000};
        case AppendVerdict::producers_full:
            return {PartStatus::throttled, CreditCause::producers, 1'000'000};
        case AppendVerdict::unknown_shard:
            return {PartStatus::wrong_shard};
        case AppendVerdict::shard_closed:
            return {PartStatus::shard_closed};
        case AppendVerdict::too_large:
            return {PartStatus::too_large};
        case AppendVerdict::producer_fenced:
            return {PartStatus::fenced};
        case AppendVerdict::producer_window:
            return {PartStatus::window};
        case AppendVerdict::accepted:
        case AppendVerdict::count_:
            break;
    }
    PENSTOCK_CHECK(false);
}

}  // namespace

SessionLane::Order SessionLane::order_of(const Flow& flow, const PartView& part) noexcept {
    const BatchBlock& head = part.header;
    if (flow.batch == 0) {
        return part.starts_flow() && head.first_offset == 0 ? Order::next : Order::beyond;
    }
    if (head.batch < flow.batch) {
        return Order::before;
    }
    if (head.batch == flow.batch) {
        if (flow.is_complete || part.end_offset <= flow.next_offset) {
            return Order::before;
        }
        return head.first_offset <= flow.next_offset ? Order::next : Order::beyond;
    }
    return flow.is_complete && head.batch - head.follows == flow.batch && head.first_offset == 0
               ? Order::next
               : Order::beyond;
}

bool SessionLane::hashes_fit(const ShardPlace& place,
                             std::span<const RecordView> records) noexcept {
    std::size_t unknown = 0;
    const auto fits = [&](const Hash128& hash) {
        return hash >= place.first && hash <= place.last;
    };
    for (const RecordView& record : records) {
        const Hash128* hash = &record.explicit_hash;
        if (!record.has_explicit_hash()) {
            hash = key_hashes_.find(record.key, key_places_[unknown]);
            keys_[unknown] = record.key;
        }
        if (hash == nullptr) {
            ++unknown;
        } else if (!fits(*hash)) {
            return false;
        }
    }
    partition_hashes(std::span(keys_).first(unknown), std::span(hashes_).first(unknown));
    bool all_fit = true;
    for (std::size_t i = 0; i < unknown; ++i) {
        key_hashes_.set(key_places_[i], keys_[i], hashes_[i]);
        all_fit &= fits(hashes_[i]);
    }
    return all_fit;
}

void SessionLane::take_part(std::uint32_t slot, const PartView& part) noexcept {
    Session& session = table_[slot];
    const std::uint64_t bytes = part.header.block.length;
    // Every record may need a result of its own.
    if (free_pending_count_ <= part.header.record_count) {
        refuse(slot, part, 0, PartStatus::throttled, CreditCause::memory, 2'000);
        return;
    }
    if (session.unresolved_bytes + bytes > std::min(limits_.credit_bytes, credit_.bytes)) {
        refuse(slot, part, 0, PartStatus::throttled,
               credit_.bytes < limits_.credit_bytes ? credit_.cause : CreditCause::session,
               std::max<std::int64_t>(credit_.retry_after_us, 1'000));
        return;
    }
    if (part.is_fragment) {
        refuse(slot, part, 0, PartStatus::too_large, CreditCause::none, 0);
        return;
    }
    ShardPlace place;
    const auto shard = static_cast<ShardUid>(part.header.shard);
    if (const PartStatus status = host_.place(session, shard, place); status != PartStatus::none) {
        session.map_wanted |=
            status == PartStatus::wrong_shard || status == PartStatus::shard_closed;
        refuse(slot, part, 0, status, CreditCause::none, 0);
        return;
    }
    if (std::ranges::any_of(part.records, &RecordView::uses_alias)) {
        refuse(slot, part, 0, PartStatus::unknown_alias, CreditCause::none, 0);
        return;
    }
    const std::uint32_t flow_slot = table_.flow(slot, part.header.flow, part.header.shard);
    if (flow_slot == no_slot) {
        refuse(slot, part, 0, PartStatus::throttled, CreditCause::producers, 1'000'000);
        return;
    }
    const Order order = order_of(table_.flow_at(flow_slot), part);
    if (order == Order::beyond) {
        counters_.parts_held_back.add();
        refuse(slot, part, 0, PartStatus::out_of_order, CreditCause::none, 0);
        return;
    }
    if (order == Order::next && !hashes_fit(place, part.records)) {
        session.map_wanted = true;
        refuse(slot, part, 0, PartStatus::wrong_shard, CreditCause::none, 0);
        return;
    }
    take_records({part, slot, flow_slot, place, order == Order::next});
}

// Appends as far as the log goes along. Records that follow each other in it are one result.
void SessionLane::take_records(const PartAtWork& work) noexcept {
    Session& session = table_[work.session];
    Flow& flow = table_.flow_at(work.flow);
    const BatchBlock& head = work.part.header;
    const auto records = work.part.records;
    std::uint32_t run = no_slot;
    AppendVerdict verdict = AppendVerdict::accepted;
    std::size_t taken = 0;
    for (; taken < records.size(); ++taken) {
        const RecordView& view = records[taken];
        const ProducerMark mark{flow.producer, session.producer_epoch, view.offset, head.batch};
        Appended appended;
        // What stands before the position is there already, or its client had left it out; then it
        // would come behind what was to follow it.
        const bool is_new =
            work.is_next && (head.batch != flow.batch || view.offset >= flow.next_offset);
        if (is_new) {
            RecordIn record;
            record.partition_key = view.key;
            record.data = view.data;
            record.explicit_hash = view.has_explicit_hash() ? &view.explicit_hash : nullptr;
            record.producer = &mark;
            record.sealer = work.place.sealer;
            verdict = host_.append(work.place, record, session.level, appended);
        } else {
            verdict = host_.known(work.place, mark, appended);
        }
        if (verdict != AppendVerdict::accepted) {
            break;
        }
        const PartStatus status = appended.repeated ? PartStatus::repeated : PartStatus::stored;
        ResultEntry* entry = run == no_slot ? nullptr : &pending_[run].entry;
        if (entry == nullptr || entry->status != status || entry->value != appended.arrival_ms ||
            entry->first_sequence + entry->record_count != appended.sequence) {
            const std::uint32_t next = take_pending();
            Pending& pending = pending_[next];
            pending.session = work.session;
            pending.generation = session.generation;
            pending.flow = work.flow;
            pending.flow_number = head.flow;
            pending.shard = head.shard;
            pending.in_order = work.is_next;
            pending.level = session.level;
            pending.entry = {head.batch,        view.offset,        0, status, 0, 0,
                             appended.sequence, appended.arrival_ms};
            // A list of the part's runs until they wait.
            pending.next_in_list = run;
            run = next;
            entry = &pending.entry;
        }
        ++entry->record_count;
        pending_[run].sequence = appended.sequence;
    }
    const bool is_whole = taken == records.size();
    if (work.is_next && taken != 0) {
        // A part that begins before the position may end there, refused: it never goes back.
        const std::uint16_t before = head.batch == flow.batch ? flow.next_offset : 0;
        flow.batch = head.batch;
        flow.next_offset =
            std::max(before, static_cast<std::uint16_t>(records[taken - 1].offset + 1));
        flow.is_complete = is_whole && work.part.is_last();
    }
    if (run != no_slot) {
        pending_[run].bytes = head.block.length;
        pending_[run].ends_batch = work.is_next && is_whole && work.part.is_last();
        session.unresolved_bytes += head.block.length;
    }
    // The list has the newest run first; they wait, and count for the flow, in their order.
    std::uint32_t oldest = no_slot;
    while (run != no_slot) {
        const std::uint32_t before = pending_[run].next_in_list;
        pending_[run].next_in_list = oldest;
        oldest = run;
        run = before;
    }
    while (oldest != no_slot) {
        Pending& pending = pending_[oldest];
        if (pending.in_order) {
            (flow.pending == no_slot ? flow.pending : pending_[flow.pending_last].next_in_flow) =
                oldest;
            flow.pending_last = oldest;
            pending.in_flow = true;
        }
        oldest = pending.next_in_list;
        pending.next_in_list = no_slot;
        ++session.in_flight;
        host_.wait_commit(work.place, pending);
    }
    if (!is_whole) {
        refuse(work.session, work.part, taken, verdict);
    }
}

void SessionLane::refuse(std::uint32_t slot, const PartView& part, std::size_t from,
                         AppendVerdict verdict) noexcept {
    const Refusal refusal = refusal_of(verdict);
    table_[slot].map_wanted |=
        refusal.status == PartStatus::wrong_shard || refusal.status == PartStatus::shard_closed;
    refuse(slot, part, from, refusal.status, refusal.cause, refusal.wait_us);
}

void SessionLane::refuse(std::uint32_t slot, const PartView& part, std::size_t from,
                         PartStatus status, CreditCause cause, std::int64_t value) noexcept {
    const std::size_t count = part.header.record_count - from;
    counters_.records_refused.add(count);
    Session& session = table_[slot];
    if (session.map_wanted && !part.records.empty()) {
        const RecordView& first = part.records[from];
        session.map_from = first.has_explicit_hash() ? first.explicit_hash
                           : first.key.empty()       ? Hash128{}
                                                     : partition_hash(first.key);
    }
    const std::uint32_t index = take_pending();
    if (index == no_slot) {
        return;  // counted; its client asks again when it hears nothing
    }
    Pending& pending = pending_[index];
    pending.session = slot;
    pending.generation = session.generation;
    pending.flow = table_.find_flow(slot, part.header.flow, part.header.shard);
    pending.flow_number = part.header.flow;
    pending.shard = part.header.shard;
    pending.entry = {part.header.batch,
                     part.records.empty() ? part.header.first_offset : part.records[from].offset,
                     static_cast<std::uint16_t>(count),
                     status,
                     0,
                     static_cast<std::uint16_t>(cause),
                     0,
                     value};
    make_ready(index);
}

std::uint32_t SessionLane::take_pending() noexcept {
    const std::uint32_t index = free_pending_;
    if (index == no_slot) {
        return no_slot;
    }
    free_pending_ = pending_[index].next_in_list;
    --free_pending_count_;
    pending_[index] = Pending{};
    pending_[index].owner = this;
    pending_[index].on_done = &SessionLane::on_commit;
    pending_[index].is_free = false;
    return index;
}

void SessionLane::free_pending(std::uint32_t index) noexcept {
    Pending& pending = pending_[index];
    PENSTOCK_CHECK(!pending.is_free);
    pending.is_free = true;
    pending.next_in_list = free_pending_;
    free_pending_ = index;
    ++free_pending_count_;
}

void SessionLane::told(std::uint32_t index) noexcept {
    pending_[index].is_told = true;
    if (!pending_[index].in_flow) {
        free_pending(index);
    }
}

void SessionLane::leave_flow(std::uint32_t index) noexcept {
    pending_[index].in_flow = false;
    if (pending_[index].is_told) {
        free_pending(index);
    }
}

void SessionLane::on_commit(CommitWaiter& waiter, Errc outcome) noexcept {
    auto& pending = static_cast<Pending&>(waiter);
    pending.owner->committed(pending, outcome);
}

void SessionLane::committed(Pending& pending, Errc outcome) noexcept {
    const auto index = static_cast<std::uint32_t>(&pending - pending_.data());
    Session* const session = table_.get(pending.session, pending.generation);
    if (session == nullptr) {
        free_pending(index);
        return;
    }
    --session->in_flight;
    session->unresolved_bytes -= pending.bytes;
    if (outcome == Errc::ok) {
        pending.entry.level = static_cast<std::uint8_t>(pending.level);
        (pending.entry.status == PartStatus::stored ? counters_.records_stored
                                                    : counters_.records_repeated)
            .add(pending.entry.record_count);
    } else {
        pending.entry.status = PartStatus::unknown;
        pending.entry.first_sequence = 0;
        pending.entry.value = 0;
        counters_.records_refused.add(pending.entry.record_count);
    }
    pending.is_done = true;
    if (pending.in_order) {
        Flow& flow = table_.flow_at(pending.flow);
        flow.is_broken |= outcome != Errc::ok;
        advance_through(flow);
    }
    make_ready(index);
}

// A shard commits in the order of sequences. Runs that were there before have older ones than what
// was appended in front of them, so the flow looks at its parts from the oldest on.
void SessionLane::advance_through(Flow& flow) noexcept {
    while (flow.pending != no_slot && pending_[flow.pending].is_done) {
        const std::uint32_t index = flow.pending;
        const Pending& oldest = pending_[index];
        if (oldest.ends_batch && !flow.is_broken) {
            flow.through = oldest.entry.batch;
        }
        flow.pending = oldest.next_in_flow;
        leave_flow(index);
    }
}

void SessionLane::make_ready(std::uint32_t index) noexcept {
    Pending& pending = pending_[index];
    Session& session = table_[pending.session];
    pending.next_in_list = no_slot;
    (session.ready == no_slot ? session.ready : pending_[session.ready_last].next_in_list) = index;
    session.ready_last = index;
    due(pending.session);
}

}  // namespace penstock::session
