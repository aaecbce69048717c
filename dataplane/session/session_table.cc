#include "dataplane/session/session_table.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>

#include "dataplane/wire/partition_hash.h"
#include "storage/base/check.h"

namespace penstock::session {

std::uint64_t flow_producer(std::string_view producer, std::uint32_t flow) noexcept {
    std::array<char, producer_name_max + 16> text;
    PENSTOCK_CHECK(producer.size() <= producer_name_max);
    char* end = std::copy(producer.begin(), producer.end(), text.data());
    *end++ = '/';
    end = std::to_chars(end, text.data() + text.size(), flow).ptr;
    return partition_hash(as_bytes({text.data(), static_cast<std::size_t>(end - text.data())}))
        .high;
}

SessionTable::SessionTable(const Limits& limits, const Aead& aead)
    : limits_(limits),
      aead_(aead),
      index_(limits.sessions),
      flow_index_(limits.flows),
      sessions_(std::allocator<Session>().allocate(limits.sessions)),
      flows_(std::allocator<Flow>().allocate(limits.flows)) {
    free_sessions_.reserve(limits.sessions);
}

SessionTable::~SessionTable() {
    for (std::uint32_t slot = 0; slot < sessions_used_; ++slot) {
        sessions_[slot].receive.wipe();
        sessions_[slot].send.wipe();
    }
    static_assert(std::is_trivially_destructible_v<Session>);
    static_assert(std::is_trivially_destructible_v<Flow>);
    std::allocator<Session>().deallocate(sessions_, limits_.sessions);
    std::allocator<Flow>().deallocate(flows_, limits_.flows);
}

std::uint32_t SessionTable::add(const SessionGrant& grant, std::uint64_t now_ns) noexcept {
    PENSTOCK_CHECK(grant.id != 0 && !grant.producer.empty() &&
                   grant.producer.size() <= producer_name_max && grant.stream.size() <= UINT8_MAX);
    if (session_count_ == limits_.sessions || find(grant.id) != no_slot) {
        return no_slot;
    }
    std::uint32_t slot = sessions_used_;
    std::uint32_t generation = 1;
    if (free_sessions_.empty()) {
        ++sessions_used_;
    } else {
        slot = free_sessions_.back();
        free_sessions_.pop_back();
        generation = sessions_[slot].generation + 1;
    }
    Session& session = *std::construct_at(&sessions_[slot]);
    session.id = grant.id;
    session.generation = generation;
    session.state = SessionState::granted;
    session.level = grant.level;
    aead_.prepare(grant.receive, session.receive);
    aead_.prepare(grant.send, session.send);
    session.receive_next = grant.receive_next;
    session.send_next = grant.send_next;
    session.has_receive_next = session.has_send_next = true;
    session.stream_bytes = static_cast<std::uint8_t>(grant.stream.size());
    std::ranges::copy(grant.stream, session.stream.begin());
    session.producer_epoch = grant.producer_epoch;
    session.producer_bytes = static_cast<std::uint8_t>(grant.producer.size());
    std::ranges::copy(grant.producer, session.producer.begin());
    session.expires_ns = grant.expires_ns;
    session.activate_by_ns = grant.activate_by_ns;
    session.heard_ns = now_ns;
    session.flows_max = grant.flows;
    index_.insert(spread(grant.id), slot);
    ++session_count_;
    return slot;
}

void SessionTable::remove(std::uint32_t slot) noexcept {
    Session& session = sessions_[slot];
    PENSTOCK_CHECK(session.state != SessionState::free);
    while (session.flows != no_slot) {
        const std::uint32_t flow = session.flows;
        session.flows = flows_[flow].next;
        remove_flow(flow);
    }
    index_.erase(spread(session.id), slot);
    session.receive.wipe();
    session.send.wipe();
    session.receive_next = session.send_next = KeyMaterial{};
    session.state = SessionState::free;
    session.id = 0;
    free_sessions_.push_back(slot);
    --session_count_;
}

Session* SessionTable::get(std::uint32_t slot, std::uint32_t generation) noexcept {
    Session& session = sessions_[slot];
    return session.generation == generation && session.state != SessionState::free ? &session
                                                                                   : nullptr;
}

std::uint32_t SessionTable::find_flow(std::uint32_t session, std::uint32_t number,
                                      std::uint64_t shard) const noexcept {
    return flow_index_.find(flow_hash(session, number, shard), [&](std::uint32_t slot) {
        const Flow& flow = flows_[slot];
        return flow.session == session && flow.number == number && flow.shard == shard;
    });
}

std::uint32_t SessionTable::flow(std::uint32_t session, std::uint32_t number,
                                 std::uint64_t shard) noexcept {
    if (const std::uint32_t found = find_flow(session, number, shard); found != no_slot) {
        return found;
    }
    Session& owner = sessions_[session];
    if (flow_count_ == limits_.flows || owner.flow_count == owner.flows_max) {
        return no_slot;
    }
    std::uint32_t slot = free_flow_;
    if (slot == no_slot) {
        slot = flows_used_++;
    } else {
        free_flow_ = flows_[slot].next;
    }
    Flow& flow = *std::construct_at(&flows_[slot]);
    flow.session = session;
    flow.number = number;
    flow.shard = shard;
    flow.producer = flow_producer(owner.producer_name(), number);
    flow.next = owner.flows;
    owner.flows = slot;
    ++owner.flow_count;
    ++flow_count_;
    flow_index_.insert(flow_hash(session, number, shard), slot);
    return slot;
}

void SessionTable::remove_flow(std::uint32_t slot) noexcept {
    Flow& flow = flows_[slot];
    flow_index_.erase(flow_hash(flow.session, flow.number, flow.shard), slot);
    flow.session = no_slot;
    flow.next = free_flow_;
    free_flow_ = slot;
    --flow_count_;
}

}  // namespace penstock::session
