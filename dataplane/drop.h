// Why something that arrived was not taken: one reason, one counter, one line for people.
//
// Guarantees: nothing is dropped without a reason from this list (promise 5).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/counter.h"
#include "storage/log/append.h"

namespace penstock {

enum class DropReason : std::uint8_t {
    none,  // taken; never counted
    // The frame.
    truncated,
    not_ip,
    bad_ip_header,
    bad_ip_checksum,
    fragment,
    not_udp,
    bad_udp_header,
    bad_udp_checksum,
    // Link housekeeping that no producer sent to us.
    link_control,
    // Where it wanted to go.
    not_ours,
    no_door,
    source_not_allowed,
    door_quota,
    stream_missing,
    // The record.
    empty_datagram,
    too_large,
    lane_ring_full,
    no_memory,
    shard_behind,
    no_room,
    disk_full,
    no_quorum,
    needs_all,
    unknown_shard,
    shard_closed,
    key_unavailable,
    producer_fenced,
    producer_window,
    producers_full,
    // The datagram of a producer session.
    session_truncated,
    session_version,
    session_direction,
    session_open_size,
    session_unknown,
    session_key_epoch,
    session_replay_old,
    session_replayed,
    session_forged,
    session_malformed,
    session_cookie,
    session_open_busy,
    // The port.
    segment_chain_too_long,
    tx_full,
    nic_missed,
    nic_error,
    nic_no_buffer,
    count_
};

inline constexpr std::size_t drop_reason_count = static_cast<std::size_t>(DropReason::count_);

// The value of the Prometheus label `reason`, for instance "bad_udp_checksum".
[[nodiscard]] const char* label(DropReason reason) noexcept;
// One line for people: what happened, and what to do where something can be done.
[[nodiscard]] const char* describe(DropReason reason) noexcept;
// True when a datagram that a producer may have meant for us was lost; false for frames of the
// link itself (ARP, neighbour discovery, group membership, LLDP, …), which carry no record.
[[nodiscard]] bool loses_data(DropReason reason) noexcept;
// `none` for AppendVerdict::accepted.
[[nodiscard]] DropReason drop_reason(AppendVerdict verdict) noexcept;

struct DropCounters {
    std::array<Counter, drop_reason_count> by_reason;

    void add(DropReason reason, std::uint64_t n = 1) noexcept {
        by_reason[static_cast<std::size_t>(reason)].add(n);
    }
    [[nodiscard]] std::uint64_t get(DropReason reason) const noexcept {
        return by_reason[static_cast<std::size_t>(reason)].get();
    }
};

}  // namespace penstock
