#include "dataplane/lane/lane_sessions.h"

#include <algorithm>

#include "dataplane/lane/lane.h"

namespace penstock {

namespace {

using session::PartStatus;
using session::ShardPlace;

// After an append that found no memory: about what a commit takes to free some.
constexpr std::uint64_t no_memory_ns = 2'000'000;
constexpr std::uint8_t map_shard_open = 1;

ShardGroup& group_of(const ShardPlace& place) noexcept {
    return *static_cast<ShardGroup*>(place.group);
}
ShardLog& shard_of(const ShardPlace& place) noexcept {
    return *static_cast<ShardLog*>(place.shard);
}

}  // namespace

LaneSessions::LaneSessions(LaneSessionsOptions options)
    : options_(std::move(options)),
      sessions_(static_cast<std::uint16_t>(options_.lane), options_.limits, *options_.aead,
                options_.challenge_key, std::move(options_.cookies), *this) {}

void LaneSessions::begin_turn(const RouteTable* routes, std::uint64_t now_ns,
                              std::int64_t clock_ms) noexcept {
    now_ns_ = now_ns;
    clock_ms_ = clock_ms;
    if (routes != routes_) {
        routes_ = routes;
        ++map_epoch_;
    }
}

void LaneSessions::offer(const Decoded& decoded, unsigned port_number) noexcept {
    session::SessionLane::Incoming& incoming = offers_[offered_++];
    // The packet's bytes are the port's, which lends them writable.
    incoming.datagram = {const_cast<std::byte*>(decoded.payload.data()), decoded.payload.size()};
    incoming.from = {decoded.source,      decoded.source_port, decoded.destination_port,
                     decoded.destination, decoded.source_mac,  decoded.destination_mac,
                     port_number};
}

void LaneSessions::take_offered(DropCounters& drops) noexcept {
    if (offered_ == 0) {
        return;
    }
    sessions_.receive(std::span(offers_).first(offered_), verdicts_, now_ns_, clock_ms_);
    for (std::size_t i = 0; i < offered_; ++i) {
        if (verdicts_[i] != DropReason::none) {
            drops.add(verdicts_[i]);
        }
    }
    offered_ = 0;
}

std::size_t LaneSessions::flush() noexcept {
    return sessions_.flush(now_ns_, clock_ms_);
}

PartStatus LaneSessions::place(const session::Session& session, ShardUid shard,
                               ShardPlace& out) noexcept {
    const StreamRoute* const stream =
        routes_ == nullptr ? nullptr : routes_->stream(session.stream_name());
    if (stream == nullptr) {
        return PartStatus::wrong_shard;
    }
    const auto shards = stream->shards();
    const auto route = std::ranges::find(shards, shard, &ShardRoute::shard);
    if (route == shards.end() || route->lane != options_.lane) {
        return PartStatus::wrong_shard;
    }
    ShardGroup* const group = lane_->group(route->group);
    ShardLog* const log = group == nullptr ? nullptr : group->find(shard);
    if (log == nullptr) {
        return PartStatus::wrong_shard;
    }
    out = {log, group, route->first, route->last, nullptr};
    if (const StreamSealers* const sealers = stream->sealers(); sealers != nullptr) {
        out.sealer = sealers->of_lane(options_.lane);
        if (out.sealer == nullptr) {
            return PartStatus::key_unavailable;
        }
    }
    return PartStatus::none;
}

AppendVerdict LaneSessions::append(const ShardPlace& place, const RecordIn& record, AckLevel level,
                                   Appended& out) noexcept {
    const AppendVerdict verdict = group_of(place).append(shard_of(place), record, level, out);
    if (verdict == AppendVerdict::no_memory) {
        no_memory_until_ns_ = now_ns_ + no_memory_ns;
    }
    return verdict;
}

AppendVerdict LaneSessions::known(const ShardPlace& place, const ProducerMark& mark,
                                  Appended& out) noexcept {
    return group_of(place).known(shard_of(place), mark, out);
}

void LaneSessions::wait_commit(const ShardPlace& place, CommitWaiter& waiter) noexcept {
    group_of(place).wait_commit(shard_of(place), waiter);
}

std::size_t LaneSessions::map(const session::Session& session, const Hash128& from,
                              std::span<session::MapEntry> out, bool& more) noexcept {
    const StreamRoute* const stream =
        routes_ == nullptr ? nullptr : routes_->stream(session.stream_name());
    more = false;
    if (stream == nullptr) {
        return 0;
    }
    std::size_t count = 0;
    for (const ShardRoute& route : stream->shards()) {
        if (route.last < from) {
            continue;
        }
        if (count == out.size()) {
            more = true;
            break;
        }
        session::MapEntry& entry = out[count++];
        entry = {};
        entry.shard = value(route.shard);
        entry.first = route.first;
        entry.last = route.last;
        entry.lane = static_cast<std::uint16_t>(route.lane);
        entry.port = static_cast<std::uint16_t>(options_.base_port + route.lane);
        entry.state = map_shard_open;
    }
    return count;
}

std::uint32_t LaneSessions::map_epoch(const session::Session&) noexcept {
    return map_epoch_;
}

session::CreditState LaneSessions::credit() noexcept {
    if (now_ns_ < no_memory_until_ns_) {
        return {0, session::CreditCause::memory,
                static_cast<std::uint32_t>((no_memory_until_ns_ - now_ns_) / 1000)};
    }
    return {UINT64_MAX, session::CreditCause::none, 0};
}

bool LaneSessions::send(const session::Peer& to, Bytes datagram) noexcept {
    PortQueue* const queue = lane_->port_queue(to.port_number);
    return queue != nullptr && queue->send_datagram({to.local_mac, to.mac, to.local_address,
                                                     to.address, to.local_port, to.port},
                                                    datagram);
}

bool LaneSessions::opening(const session::Peer& from, Bytes datagram) noexcept {
    return options_.on_open != nullptr && options_.on_open(options_.event_context, from, datagram);
}

void LaneSessions::tell(SessionEvent event, const session::Session& session) noexcept {
    if (options_.on_event != nullptr) {
        options_.on_event(options_.event_context, event, session);
    }
}
void LaneSessions::activated(const session::Session& session) noexcept {
    tell(SessionEvent::activated, session);
}
void LaneSessions::ended(const session::Session& session) noexcept {
    tell(SessionEvent::ended, session);
}
void LaneSessions::wants_keys(const session::Session& session) noexcept {
    tell(SessionEvent::wants_keys, session);
}

}  // namespace penstock
