// Splitting and merging shards, and taking away closed ones: docs/resharding.md.
#include <algorithm>

#include "control/kinesis/stream/catalog_keys.h"
#include "control/kinesis/stream/reshard.h"
#include "control/kinesis/stream/stream_store.h"

namespace penstock::kinesis {

Status StreamStore::reshard(std::string_view name, const MakePlan& make_plan) {
    while (true) {
        PENSTOCK_TRY(entry, catalog_.get(key_of(stream_prefix, name)));
        PENSTOCK_TRY(stream, decode_stream(entry.value));
        if (stream.status != StreamStatus::active) {
            return fail(Errc::locked);
        }
        const std::uint32_t open_before = stream.open_shard_count();
        const auto plan = make_plan(stream);
        if (!plan) {
            return std::unexpected(plan.error());
        }
        PENSTOCK_TRY(next_uid, read_next_uid());
        std::vector<CatalogChange> changes;
        if (!plan->empty()) {
            begin_reshard(stream, *plan, next_uid.number, lanes_.group_count(), clock_.wall_ms());
            const std::uint32_t open_after = stream.open_shard_count_soon();
            const std::uint32_t others =
                open_shard_count() - std::min(open_shard_count(), open_before);
            if (open_after > open_before &&
                others + std::uint64_t{open_after} > options_.shards_max) {
                return fail(Errc::no_space, 0, others + open_before);
            }
            changes.push_back(put_change(std::string(next_uid_key),
                                         std::to_string(next_uid.number + plan->size()),
                                         next_uid.revision));
        }
        changes.push_back(put_change(entry.key, encode_stream(stream), entry.revision));
        const auto done = catalog_.commit(changes);
        if (done) {
            return {};
        }
        if (done.error().code != Errc::canceled) {
            return std::unexpected(done.error());
        }
    }
}

bool StreamStore::go_on_resharding(const Stream& stream) {
    const ReshardParts parts = parts_of_reshard(stream);
    const auto is_mine = [&](const Stream& now) {
        return now.incarnation == stream.incarnation && now.status == StreamStatus::updating &&
               now.next_shard_number == stream.next_shard_number;
    };
    if (!parts.is_switched) {
        if (!add_children(stream)) {
            return false;
        }
        const Status done = change(stream.name, [&](Stream& now) -> Status {
            if (!is_mine(now)) {
                return fail(Errc::not_found);
            }
            switch_over(now);
            return {};
        });
        return done || done.error().code == Errc::not_found;
    }
    if (!wait_for_routes()) {
        return false;
    }
    std::vector<Sequence> closing_indexes;
    std::int64_t boundary_ms = clock_.wall_ms();
    if (!close_parents(stream, parts, closing_indexes, boundary_ms)) {
        return false;
    }
    const Status done = change(stream.name, [&](Stream& now) -> Status {
        if (!is_mine(now) || !parts_of_reshard(now).is_switched) {
            return fail(Errc::not_found);
        }
        end_reshard(now, closing_indexes, boundary_ms);
        return {};
    });
    return done || done.error().code == Errc::not_found;
}

// Adds what is new to its groups. None of its records arrives before the parents' last one so far,
// whatever the clock says.
bool StreamStore::add_children(const Stream& stream) {
    std::vector<std::unique_ptr<ShardStatusRequest>> asked;
    std::vector<GroupId> groups;
    for (const Shard& shard : stream.shards) {
        if (shard.state == ShardState::open) {
            auto request = std::make_unique<ShardStatusRequest>();
            request->shard = shard.uid;
            asked.push_back(std::move(request));
            groups.push_back(shard.group);
        }
    }
    Errc outcome = ask_all(pointers(asked), groups);
    std::int64_t first_arrival_ms = 0;
    for (const auto& request : asked) {
        first_arrival_ms = std::max(first_arrival_ms, request->status.last_arrival_ms);
    }
    std::vector<std::unique_ptr<AddShardRequest>> added;
    groups.clear();
    for (const Shard& shard : stream.shards) {
        if (shard.state == ShardState::creating) {
            auto request = std::make_unique<AddShardRequest>();
            request->shard = shard.uid;
            request->group = shard.group;
            request->retention_ms = stream.retention_ms();
            request->first_arrival_ms = first_arrival_ms;
            added.push_back(std::move(request));
            groups.push_back(shard.group);
        }
    }
    outcome = outcome == Errc::ok ? ask_all(pointers(added), groups) : outcome;
    if (outcome != Errc::ok) {
        say("stream " + stream.name + " stays UPDATING: its new shards could not be added (" +
            describe(outcome) + "); trying again");
    }
    return outcome == Errc::ok;
}

// Until no lane uses routes from before this call, and what each took by them is in its rings: the
// turn in which a lane answers may have begun with the old routes, the next one cannot.
bool StreamStore::wait_for_routes() {
    std::vector<unsigned> lanes;
    for (unsigned lane = 0; lane < lanes_.lane_count(); ++lane) {
        lanes.push_back(lane);
    }
    std::vector<std::uint64_t> first;
    bool all_later = false;
    while (!all_later) {
        std::vector<std::unique_ptr<TurnRequest>> requests;
        for (std::size_t i = 0; i < lanes.size(); ++i) {
            requests.push_back(std::make_unique<TurnRequest>());
        }
        if (ask_lanes(pointers(requests), lanes) != Errc::ok) {
            return false;
        }
        all_later = !first.empty();
        for (std::size_t i = 0; i < requests.size() && all_later; ++i) {
            all_later = requests[i]->turn > first[i];
        }
        for (std::size_t i = first.size(); i < requests.size(); ++i) {
            first.push_back(requests[i]->turn);
        }
    }
    return true;
}

bool StreamStore::close_parents(const Stream& stream, const ReshardParts& parts,
                                std::vector<Sequence>& closing_indexes, std::int64_t& boundary_ms) {
    std::vector<std::unique_ptr<CloseShardRequest>> requests;
    std::vector<GroupId> groups;
    for (const std::size_t i : parts.ends) {
        auto request = std::make_unique<CloseShardRequest>();
        request->shard = stream.shards[i].uid;
        request->group = stream.shards[i].group;
        requests.push_back(std::move(request));
        groups.push_back(stream.shards[i].group);
    }
    if (const Errc outcome = ask_all(pointers(requests), groups); outcome != Errc::ok) {
        say("stream " + stream.name + " stays UPDATING: a shard could not be closed (" +
            describe(outcome) + "); trying again");
        return false;
    }
    for (const auto& request : requests) {
        closing_indexes.push_back(request->status.end_sequence);
        boundary_ms = std::max(boundary_ms, request->status.last_arrival_ms + 1);
    }
    return true;
}

// -- Closed shards whose records have all expired -------------------------------------------------

bool StreamStore::remove_expired(const Stream& stream) {
    const std::int64_t horizon_ms = clock_.wall_ms() - stream.retention_ms();
    std::vector<std::unique_ptr<ShardStatusRequest>> requests;
    std::vector<GroupId> groups;
    for (const Shard& shard : stream.shards) {
        if (shard.state == ShardState::closed && shard.closed_ms != 0 &&
            shard.closed_ms <= horizon_ms) {
            auto request = std::make_unique<ShardStatusRequest>();
            request->shard = shard.uid;
            requests.push_back(std::move(request));
            groups.push_back(shard.group);
        }
    }
    if (requests.empty()) {
        return true;
    }
    if (ask_all(pointers(requests), groups) != Errc::ok) {
        return false;
    }
    std::map<ShardUid, GroupId> gone;
    for (std::size_t i = 0; i < requests.size(); ++i) {
        // The group decides: it keeps records whose age it doubts.
        if (requests[i]->status.trim_sequence >= requests[i]->status.end_sequence) {
            gone.emplace(requests[i]->shard, groups[i]);
        }
    }
    if (gone.empty()) {
        return true;
    }
    const Status done = change(
        stream.name,
        [&](Stream& now) -> Status {
            if (now.incarnation != stream.incarnation || now.status != StreamStatus::active) {
                return fail(Errc::not_found);
            }
            std::erase_if(now.shards, [&](const Shard& shard) { return gone.contains(shard.uid); });
            return {};
        },
        [&](const Stream&, std::vector<CatalogChange>& changes) {
            for (const auto& [uid, group] : gone) {
                changes.push_back(
                    put_change(tombstone_key(uid), std::to_string(value(group)), std::nullopt));
            }
        });
    if (!done) {
        return done.error().code == Errc::not_found;
    }
    orphans_.insert(orphans_.end(), gone.begin(), gone.end());
    return drop_orphans();
}

}  // namespace penstock::kinesis
