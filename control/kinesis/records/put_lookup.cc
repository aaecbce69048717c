// Puts that may be repetitions: closed shards are asked before the open ones take a record
// (docs/idempotent-puts.md).
#include <algorithm>
#include <map>

#include "control/kinesis/records/put_call.h"

namespace penstock::kinesis {

namespace {

using Stage = PutPlan::Place::Stage;

bool remembers(const Shard& shard, std::int64_t now_ms) noexcept {
    return shard.state == ShardState::closing ||
           (shard.state == ShardState::closed && shard.closed_ms > now_ms - producer_expiry_ms);
}

}  // namespace

std::vector<const Shard*> remembering_ancestors(const Stream& stream, const Shard& shard,
                                                std::int64_t now_ms) {
    std::vector<const Shard*> found;
    std::vector<const Shard*> next{&shard};
    while (!next.empty()) {
        const Shard& child = *next.back();
        next.pop_back();
        for (const auto& number : {child.parent, child.adjacent_parent}) {
            const Shard* parent = number ? stream.shard(*number) : nullptr;
            if (parent == nullptr || std::ranges::find(found, parent) != found.end()) {
                continue;
            }
            if (remembers(*parent, now_ms)) {
                found.push_back(parent);
                next.push_back(parent);
            } else if (parent->state == ShardState::creating) {
                next.push_back(parent);  // between: it never has a record
            }
        }
    }
    return found;
}

void plan_lookups(std::span<const std::uint32_t> records, AckLevel level, std::int64_t now_ms,
                  PutPlan& plan, std::vector<std::uint32_t>& ready) {
    const StreamView& view = *plan.views.back();
    const std::size_t first = plan.lookups.size();
    // What was asked before this call; a shard may be the ancestor of several records' shards.
    std::map<ShardUid, std::vector<const Shard*>> to_ask;  // by target
    for (const std::uint32_t record : records) {
        const Shard& target = view.stream().shards[view.find(plan.hashes[record]).shard_index];
        const auto [known, is_new] = to_ask.try_emplace(target.uid);
        if (is_new) {
            known->second = remembering_ancestors(view.stream(), target, now_ms);
            std::erase_if(known->second, [&](const Shard* shard) {
                return std::any_of(plan.lookups.begin(),
                                   plan.lookups.begin() + static_cast<std::ptrdiff_t>(first),
                                   [&](const auto& lookup) {
                                       return lookup->shard->uid == shard->uid &&
                                              std::ranges::binary_search(lookup->records, record);
                                   });
            });
        }
        PutPlan::Place& place = plan.places[record];
        place.shard = &target;
        if (known->second.empty()) {
            ready.push_back(record);
            continue;
        }
        place.stage = Stage::looking;
        for (const Shard* ancestor : known->second) {
            auto lookup = std::find_if(
                plan.lookups.begin() + static_cast<std::ptrdiff_t>(first), plan.lookups.end(),
                [&](const auto& one) { return one->shard->uid == ancestor->uid; });
            if (lookup == plan.lookups.end()) {
                auto added = std::make_unique<PutPlan::Lookup>();
                added->shard = ancestor;
                added->lane = view.lane_of(*ancestor);
                added->request.shard = ancestor->uid;
                added->request.level = level;
                plan.lookups.push_back(std::move(added));
                lookup = std::prev(plan.lookups.end());
            }
            (*lookup)->records.push_back(record);
            (*lookup)->request.items.emplace_back().mark = plan.marks[record];
        }
    }
}

void take_lookup(const PutPlan::Lookup& lookup, PutPlan& plan) {
    for (std::size_t i = 0; i < lookup.records.size(); ++i) {
        PutPlan::Place& place = plan.places[lookup.records[i]];
        const ProducerLookupRequest::Item& item = lookup.request.items[i];
        if (place.stage == Stage::found || lookup.request.outcome == Errc::not_found) {
            continue;  // dropped: its records have expired
        }
        if (lookup.request.outcome != Errc::ok) {
            place.stage = Stage::unknown;
            place.why = lookup.request.outcome;
        } else if (item.appended.repeated) {
            place.stage = Stage::found;
            place.appended = item.appended;
            place.shard = lookup.shard;
        } else if (item.verdict != AppendVerdict::accepted) {
            place.stage = Stage::refused;
            place.verdict = item.verdict;
        }
    }
}

ApiStatus PutCall::read_producer() {
    plan_.marks.clear();
    const http::HttpRequest& request = reply_->request();
    if (!request.has_header(producer_header_name)) {
        return {};
    }
    if (request.count_header(producer_header_name) > 1) {
        return std::unexpected(
            invalid_argument("Invalid header x-penstock-producer. Expected it once."));
    }
    const auto producer = parse_producer_header(request.header(producer_header_name));
    if (!producer) {
        return std::unexpected(producer.error());
    }
    for (std::uint32_t i = 0; i < input_.entries.size(); ++i) {
        plan_.marks.push_back(producer->mark(i));
    }
    return {};
}

void PutCall::place_marked(std::span<const std::uint32_t> records) {
    const std::size_t first_lookup = plan_.lookups.size();
    const std::size_t first_request = plan_.lanes.size();
    std::vector<std::uint32_t> ready;
    plan_lookups(records, context_.options.ack_level, context_.clock.wall_ms(), plan_, ready);
    make_requests_for(input_.entries, ready, context_.options.ack_level, plan_);
    post_from(first_request);
    for (std::size_t i = first_lookup; i < plan_.lookups.size(); ++i) {
        PutPlan::Lookup& lookup = *plan_.lookups[i];
        if (context_.lanes.post(lookup.lane, lookup.request, *this)) {
            ++pending_;
            continue;
        }
        for (const std::uint32_t record : lookup.records) {
            plan_.places[record].stage = Stage::refused;
            plan_.places[record].verdict = AppendVerdict::no_memory;
        }
    }
}

bool PutCall::follow_lookups() {
    std::vector<std::uint32_t> records;
    for (std::uint32_t i = 0; i < plan_.places.size(); ++i) {
        if (!plan_.places[i].over_quota && plan_.places[i].stage == Stage::looking) {
            records.push_back(i);
        }
    }
    if (records.empty()) {
        return false;
    }
    place_marked(records);
    return pending_ != 0;
}

}  // namespace penstock::kinesis
