// The lane's side of the inbox: what each kind of request does.
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "dataplane/lane/lane.h"
#include "dataplane/lane/no_alloc.h"
#include "storage/base/check.h"

namespace penstock {
namespace {

// What appending a record costs besides its bytes, so that a request of many tiny records has an
// end to its turn, too.
constexpr std::uint64_t record_cost_bytes = 64;

static_assert(std::is_standard_layout_v<AppendRequest::Run>,
              "on_run_committed finds the run from its waiter");

AppendRequest::Run& run_of(CommitWaiter& waiter) noexcept {
    return *reinterpret_cast<AppendRequest::Run*>(reinterpret_cast<std::byte*>(&waiter) -
                                                  offsetof(AppendRequest::Run, waiter));
}

Errc code_of(const Status& status) noexcept {
    return status ? Errc::ok : status.error().code;
}

}  // namespace

std::size_t Lane::serve_inbox() noexcept {
    std::uint64_t budget = options_.budgets.append_bytes;
    std::size_t served = 0;
    if (appending_ != nullptr) {
        if (!go_on_appending(*appending_, budget)) {
            return 1;
        }
        ++served;
    }
    while (budget > 0 && served < options_.budgets.requests) {
        LaneRequest* request = inbox_.pop();
        if (request == nullptr) {
            break;
        }
        ++served;
        counters_.requests.add();
        request->lane = this;
        request->outcome = Errc::ok;
        if (request->kind == RequestKind::append) {
            auto& append = static_cast<AppendRequest&>(*request);
            begin_append(append);
            if (!go_on_appending(append, budget)) {
                break;
            }
        } else {
            const AllowAllocScope control_may_allocate;
            serve_control(*request);
        }
    }
    return served;
}

// -- Appending
// --------------------------------------------------------------------------------------

void Lane::begin_append(AppendRequest& request) noexcept {
    // One more than the runs, so that a commit inside wait_commit() does not answer a request that
    // is still being appended.
    request.runs_pending = static_cast<std::uint32_t>(request.runs.size()) + 1;
    request.next_run = 0;
    request.next_item = 0;
    for (AppendRequest::Run& run : request.runs) {
        PENSTOCK_CHECK(std::uint64_t{run.first_item} + run.item_count <= request.items.size());
        run.owner = &request;
        run.committed = Errc::canceled;
        run.waiter.sequence = 0;
        run.waiter.level = request.level;
        run.waiter.on_done = &Lane::on_run_committed;
        run.waiter.next = nullptr;
    }
    await(request);
    appending_ = &request;
}

bool Lane::go_on_appending(AppendRequest& request, std::uint64_t& budget) noexcept {
    while (request.next_run < request.runs.size()) {
        if (!append_run(request, request.runs[request.next_run], budget)) {
            return false;
        }
        ++request.next_run;
        request.next_item = 0;
    }
    appending_ = nullptr;
    if (--request.runs_pending == 0) {
        reply(request, Errc::ok);
    }
    return true;
}

bool Lane::append_run(AppendRequest& request, AppendRequest::Run& run,
                      std::uint64_t& budget) noexcept {
    const Found found = locate(run.shard);
    const auto items = std::span(request.items).subspan(run.first_item, run.item_count);
    while (request.next_item < items.size()) {
        if (budget == 0) {
            return false;
        }
        AppendRequest::Item& item = items[request.next_item];
        item.verdict = found.shard == nullptr ? AppendVerdict::unknown_shard
                                              : found.group->append(*found.shard, item.record,
                                                                    request.level, item.appended);
        if (item.verdict != AppendVerdict::accepted) {
            // The rest of the run shares its fate: a later record must not overtake this one.
            for (AppendRequest::Item& later : items.subspan(request.next_item)) {
                later.verdict = item.verdict;
            }
            counters_.records_refused_api.add(items.size() - request.next_item);
            counters_.refused_api.add(drop_reason(item.verdict), items.size() - request.next_item);
            break;
        }
        counters_.records_from_api.add(item.appended.repeated ? 0 : 1);
        // What was there already may stand before what was appended just now.
        run.waiter.sequence = std::max(run.waiter.sequence, item.appended.sequence);
        budget -= std::min(
            budget, item.record.data.size() + item.record.partition_key.size() + record_cost_bytes);
        ++request.next_item;
    }
    if (run.waiter.sequence == 0) {
        run_done(run, Errc::ok);
    } else if (found.shard == nullptr) {
        run_done(run, Errc::not_found);  // dropped between two turns of this request
    } else {
        found.group->wait_commit(*found.shard, run.waiter);
    }
    return true;
}

void Lane::on_run_committed(CommitWaiter& waiter, Errc outcome) noexcept {
    AppendRequest::Run& run = run_of(waiter);
    run.owner->lane->run_done(run, outcome);
}

void Lane::run_done(AppendRequest::Run& run, Errc outcome) noexcept {
    run.committed = outcome;
    AppendRequest& request = *run.owner;
    if (--request.runs_pending == 0) {
        reply(request, Errc::ok);
    }
}

// -- Everything else
// --------------------------------------------------------------------------------

void Lane::serve_control(LaneRequest& request) noexcept {
    switch (request.kind) {
        case RequestKind::append:
            break;
        case RequestKind::add_shard:
        case RequestKind::drop_shard:
            change_shards(request);
            return;
        case RequestKind::close_shard:
            close_shard(static_cast<CloseShardRequest&>(request));
            return;
        case RequestKind::producer_lookup:
            look_up(static_cast<ProducerLookupRequest&>(request));
            return;
        case RequestKind::turn:
            static_cast<TurnRequest&>(request).turn = turn_number_;
            reply(request, Errc::ok);
            return;
        case RequestKind::read_plan: {
            auto& asked = static_cast<ReadPlanRequest&>(request);
            const Found found = locate(asked.shard);
            reply(request, found.group == nullptr
                               ? Errc::not_found
                               : code_of(found.group->plan_read(asked.shard, asked.start,
                                                                asked.max_bytes, asked.plan)));
            return;
        }
        case RequestKind::tail_read:
            begin_tail(static_cast<TailReadRequest&>(request));
            return;
        case RequestKind::cancel_tail: {
            TailReadRequest& tail = *static_cast<CancelTailRequest&>(request).tail;
            // One that was answered is its requester's, who leaves it alone until this is back.
            const bool waited = tail.lane == this && cancel_tail(tail);
            if (waited) {
                reply(tail, Errc::canceled);
            }
            reply(request, waited ? Errc::ok : Errc::not_found);
            return;
        }
        case RequestKind::release_lease: {
            auto& lease = static_cast<ReleaseLeaseRequest&>(request);
            ShardGroup* owner =
                lease.plan == nullptr ? nullptr : group(static_cast<GroupId>(lease.plan->group));
            if (owner != nullptr) {
                owner->release(*lease.plan);
            }
            reply(request, owner == nullptr ? Errc::not_found : Errc::ok);
            return;
        }
        case RequestKind::set_retention: {
            auto& asked = static_cast<SetRetentionRequest&>(request);
            const Found found = locate(asked.shard);
            reply(request, found.group == nullptr ? Errc::not_found
                                                  : code_of(found.group->set_retention(
                                                        asked.shard, asked.retention_ms)));
            return;
        }
        case RequestKind::shard_status: {
            auto& asked = static_cast<ShardStatusRequest&>(request);
            const Found found = locate(asked.shard);
            reply(request, found.group == nullptr
                               ? Errc::not_found
                               : code_of(found.group->shard_status(asked.shard, asked.status)));
            return;
        }
        case RequestKind::snapshot: {
            auto& asked = static_cast<SnapshotRequest&>(request);
            ShardGroup* owner = group(asked.group);
            if (owner != nullptr) {
                asked.counters = owner->counters();
                asked.gauges = owner->gauges();
            }
            reply(request, owner == nullptr ? Errc::not_found : Errc::ok);
            return;
        }
        case RequestKind::call: {
            auto& call = static_cast<CallRequest&>(request);
            reply(request, call.function(*this, call.argument));
            return;
        }
    }
    PENSTOCK_CHECK(false);
}

void Lane::change_shards(LaneRequest& request) noexcept {
    const bool adds = request.kind == RequestKind::add_shard;
    auto* add = adds ? static_cast<AddShardRequest*>(&request) : nullptr;
    auto* drop = adds ? nullptr : static_cast<DropShardRequest*>(&request);
    ShardGroup* owner = group(adds ? add->group : drop->group);
    if (owner == nullptr) {
        reply(request, Errc::not_found);
        return;
    }
    RequestWaiter& waiter = adds ? add->waiter : drop->waiter;
    waiter.request = &request;
    waiter.on_done = &Lane::on_control_committed;
    waiter.next = nullptr;
    await(request);
    if (adds) {
        owner->add_shard(add->shard, add->retention_ms, waiter, add->first_arrival_ms);
    } else {
        owner->drop_shard(drop->shard, waiter);
    }
}

void Lane::close_shard(CloseShardRequest& request) noexcept {
    ShardGroup* owner = group(request.group);
    if (owner == nullptr) {
        reply(request, Errc::not_found);
        return;
    }
    take_over_all();
    request.waiter.request = &request;
    request.waiter.on_done = &Lane::on_closed;
    request.waiter.next = nullptr;
    await(request);
    owner->close_shard(request.shard, request.waiter);
}

void Lane::look_up(ProducerLookupRequest& request) noexcept {
    const Found found = locate(request.shard);
    if (found.shard == nullptr) {
        reply(request, Errc::not_found);
        return;
    }
    request.waiter.sequence = 0;
    for (ProducerLookupRequest::Item& item : request.items) {
        item.verdict = found.group->look_up(*found.shard, item.mark, item.appended);
        if (item.appended.repeated) {
            request.waiter.sequence = std::max(request.waiter.sequence, item.appended.sequence);
        }
    }
    if (request.waiter.sequence == 0) {
        reply(request, Errc::ok);
        return;
    }
    request.waiter.level = request.level;
    request.waiter.request = &request;
    request.waiter.on_done = &Lane::on_control_committed;
    request.waiter.next = nullptr;
    await(request);
    found.group->wait_commit(*found.shard, request.waiter);
}

void Lane::on_closed(CommitWaiter& waiter, Errc outcome) noexcept {
    auto& request = static_cast<CloseShardRequest&>(*static_cast<RequestWaiter&>(waiter).request);
    Lane& lane = *request.lane;
    if (outcome == Errc::ok) {
        outcome = code_of(lane.group(request.group)->shard_status(request.shard, request.status));
    }
    lane.reply(request, outcome);
}

void Lane::on_control_committed(CommitWaiter& waiter, Errc outcome) noexcept {
    LaneRequest& request = *static_cast<RequestWaiter&>(waiter).request;
    request.lane->reply(request, outcome);
}

// -- Waiting for new records
// ------------------------------------------------------------------------

void Lane::begin_tail(TailReadRequest& request) noexcept {
    const Found found = locate(request.shard);
    if (found.shard == nullptr) {
        reply(request, Errc::not_found);
        return;
    }
    request.waiter.request = &request;
    request.waiter.sequence = request.start.sequence;
    request.waiter.level = AckLevel::quorum;
    request.waiter.on_done = &Lane::on_tail_reached;
    await(request);
    found.group->wait_commit(*found.shard, request.waiter);
}

bool Lane::cancel_tail(TailReadRequest& request) noexcept {
    const Found found = locate(request.shard);
    return found.shard != nullptr && found.group->cancel_wait(*found.shard, request.waiter);
}

// Who waits for records that nobody will write does not hold up a lane that stops.
void Lane::cancel_tails() noexcept {
    for (LaneRequest* request = waiting_; request != nullptr;) {
        LaneRequest* const next = request->lane_next;
        if (request->kind == RequestKind::tail_read &&
            cancel_tail(static_cast<TailReadRequest&>(*request))) {
            reply(*request, Errc::canceled);
        }
        request = next;
    }
}

// In the middle of moving commit points: the plan is made when the turn is over, once for all that
// was committed in it.
void Lane::on_tail_reached(CommitWaiter& waiter, Errc outcome) noexcept {
    auto& request = static_cast<TailReadRequest&>(*static_cast<RequestWaiter&>(waiter).request);
    Lane& lane = *request.lane;
    request.outcome = outcome;
    request.due_next = lane.tails_due_;
    lane.tails_due_ = &request;
}

void Lane::answer_tails() noexcept {
    while (tails_due_ != nullptr) {
        TailReadRequest& request = *tails_due_;
        tails_due_ = request.due_next;
        request.due_next = nullptr;
        Errc outcome = request.outcome;
        if (outcome == Errc::ok) {
            const AllowAllocScope control_may_allocate;
            const Found found = locate(request.shard);
            outcome = found.group == nullptr
                          ? Errc::not_found
                          : code_of(found.group->plan_read(request.shard, request.start,
                                                           request.max_bytes, request.plan));
        }
        reply(request, outcome);
    }
}

Lane::Found Lane::locate(ShardUid shard) noexcept {
    const auto home = static_cast<GroupId>(1 + value(shard) % options_.group_count);
    if (ShardGroup* at_home = group(home); at_home != nullptr) {
        if (ShardLog* log = at_home->find(shard); log != nullptr) {
            return {at_home, log};
        }
    }
    for (const auto& other : groups_) {
        if (ShardLog* log = other->find(shard); log != nullptr) {
            return {other.get(), log};
        }
    }
    return {};
}

// -- Replies
// ----------------------------------------------------------------------------------------

void Lane::await(LaneRequest& request) noexcept {
    request.lane_previous = nullptr;
    request.lane_next = waiting_;
    if (waiting_ != nullptr) {
        waiting_->lane_previous = &request;
    }
    waiting_ = &request;
}

void Lane::reply(LaneRequest& request, Errc outcome) noexcept {
    if (request.lane_previous != nullptr || waiting_ == &request) {
        LaneRequest*& from_previous =
            request.lane_previous == nullptr ? waiting_ : request.lane_previous->lane_next;
        from_previous = request.lane_next;
        if (request.lane_next != nullptr) {
            request.lane_next->lane_previous = request.lane_previous;
        }
        request.lane_next = nullptr;
        request.lane_previous = nullptr;
    }
    request.outcome = outcome;
    request.lane = nullptr;
    counters_.replies.add();
    ReplyRing* ring = request.reply_to;
    if (ring == nullptr) {
        return;
    }
    ring->push_quietly(request);
    if (std::find(touched_.begin(), touched_.end(), ring) != touched_.end()) {
        return;
    }
    if (touched_.size() == touched_.capacity()) {
        ring->signal();
        return;
    }
    touched_.push_back(ring);
}

void Lane::cancel_all() noexcept {
    const AllowAllocScope the_lane_ends;
    while (LaneRequest* request = inbox_.pop()) {
        counters_.requests.add();
        reply(*request, Errc::canceled);
    }
    if (waiting_ == nullptr) {
        return;
    }
    // The groups hold waiters inside the requests, so they go before the requests do.
    groups_by_id_.clear();
    groups_.clear();
    appending_ = nullptr;
    while (waiting_ != nullptr) {
        reply(*waiting_, Errc::canceled);
    }
}

}  // namespace penstock
