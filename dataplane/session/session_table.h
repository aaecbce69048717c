// The sessions of one lane and the flows of each: fixed memory, found by id.
//
// Runs on: the lane. Allocates: when made; pages are touched as they are used.
// Guarantees: full is an answer. A slot that is used again has another generation, and its keys are
// wiped in between.
// Format: docs/formats/session.md, "States".
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "dataplane/session/aead.h"
#include "dataplane/session/blocks.h"
#include "dataplane/session/replay_window.h"
#include "dataplane/session/slot_index.h"
#include "dataplane/wire/address.h"
#include "storage/base/ids.h"

namespace penstock::session {

// Where a datagram came from, and what an answer needs to get there.
struct Peer {
    IpAddress address;
    std::uint16_t port = 0;
    std::uint16_t local_port = 0;
    IpAddress local_address;
    MacAddress mac;
    MacAddress local_mac;
    unsigned port_number = 0;  // of the lane's ports

    [[nodiscard]] bool is_same(const Peer& other) const noexcept {
        return port == other.port && address == other.address;
    }
};

// What a control thread hands a lane, with keys of that lane.
struct SessionGrant {
    std::uint64_t id = 0;
    KeyMaterial receive;  // of key epoch 0
    KeyMaterial send;
    KeyMaterial receive_next;  // of key epoch 1
    KeyMaterial send_next;
    std::string_view producer;  // name, 1 to 128 bytes
    std::uint32_t producer_epoch = 0;
    std::string_view stream;  // as routes name it, up to 255 bytes
    AckLevel level = AckLevel::quorum;
    std::uint64_t expires_ns = 0;
    std::uint64_t activate_by_ns = 0;  // without a datagram until then it is gone
    std::uint16_t flows = 64;
};

enum class SessionState : std::uint8_t { free, granted, active, closing };

inline constexpr std::size_t producer_name_max = 128;

struct Session {
    std::uint64_t id = 0;
    std::uint32_t generation = 0;
    SessionState state = SessionState::free;
    AckLevel level = AckLevel::quorum;

    // -- Keys; those of the next key epoch are prepared when they are needed
    // -----------------------
    std::uint8_t receive_epoch = 0;
    std::uint8_t send_epoch = 0;
    bool has_receive_next = false;
    bool has_send_next = false;
    PreparedKey receive;
    PreparedKey send;
    KeyMaterial receive_next;
    KeyMaterial send_next;
    ReplayWindow replay;
    std::uint64_t sent_number = 0;  // newest packet number sent

    // -- Who --------------------------------------------------------------------------------------
    std::uint32_t producer_epoch = 0;
    std::uint8_t stream_bytes = 0;
    std::array<char, 2 * producer_name_max> stream{};
    std::uint8_t producer_bytes = 0;
    std::array<char, producer_name_max> producer{};
    std::uint64_t expires_ns = 0;
    std::uint64_t activate_by_ns = 0;
    std::uint64_t heard_ns = 0;
    std::uint64_t closing_since_ns = 0;
    CloseCode close_code = CloseCode::none;
    std::uint64_t close_detail = 0;
    bool close_told = false;

    // -- Reception --------------------------------------------------------------------------------
    std::uint64_t received = 0;
    std::uint64_t highest_ns = 0;  // when the highest number came
    std::uint32_t echo_us = 0;
    std::uint32_t map_epoch = 0;  // newest the client has
    std::uint32_t unreported = 0;
    bool report_now = false;
    bool waits_for_report = false;   // in the queue of those
    bool is_due = false;             // in the list of those that are answered this turn
    std::uint16_t answer_bytes = 0;  // a PING wants the answer to be so large
    bool map_wanted = false;
    Hash128 map_from;

    // -- Addresses --------------------------------------------------------------------------------
    bool is_validated = false;
    bool has_candidate = false;
    bool challenge_due = false;
    Peer validated;
    Peer candidate;
    std::uint64_t candidate_number = 0;  // highest packet number it sent
    std::uint64_t candidate_bytes = 0;   // may be sent to it yet
    std::array<std::byte, 8> challenge{};

    // -- Records ----------------------------------------------------------------------------------
    std::uint64_t unresolved_bytes = 0;
    std::uint32_t in_flight = 0;    // results that wait for their commit
    std::uint32_t ready = no_slot;  // results to be sent, oldest first
    std::uint32_t ready_last = no_slot;
    std::uint32_t flows = no_slot;  // list
    std::uint16_t flow_count = 0;
    std::uint16_t flows_max = 0;

    [[nodiscard]] std::string_view producer_name() const noexcept {
        return {producer.data(), producer_bytes};
    }
    [[nodiscard]] std::string_view stream_name() const noexcept {
        return {stream.data(), stream_bytes};
    }
    // Where answers go: the validated address, or the one that wants to be.
    [[nodiscard]] const Peer& peer() const noexcept { return is_validated ? validated : candidate; }
};

// A flow of a session at one shard: how far it has come.
struct Flow {
    std::uint32_t session = no_slot;
    std::uint32_t number = 0;
    std::uint64_t shard = 0;
    std::uint64_t producer = 0;  // of its marks
    // -- Position
    std::uint64_t batch = 0;  // 0: nothing was taken yet
    std::uint16_t next_offset = 0;
    bool is_complete = false;  // its last part was taken
    // -- What is stored
    bool is_broken = false;           // a write's fate is unknown: `through` stays
    std::uint64_t through = 0;        // every batch up to it
    std::uint32_t pending = no_slot;  // parts taken in order, oldest first
    std::uint32_t pending_last = no_slot;
    std::uint32_t next = no_slot;  // of the session; of the free list
};

class SessionTable {
public:
    struct Limits {
        std::uint32_t sessions = 4096;
        std::uint32_t flows = 16'384;
    };
    SessionTable(const Limits& limits, const Aead& aead);
    ~SessionTable();
    SessionTable(const SessionTable&) = delete;
    SessionTable& operator=(const SessionTable&) = delete;

    // The slot, or no_slot: the table is full, or has this id. `now_ns` counts as heard from.
    [[nodiscard]] std::uint32_t add(const SessionGrant& grant, std::uint64_t now_ns) noexcept;
    // With its flows. Its slot's generation goes on.
    void remove(std::uint32_t slot) noexcept;
    [[nodiscard]] std::uint32_t find(std::uint64_t id) const noexcept {
        return index_.find(spread(id),
                           [&](std::uint32_t slot) { return sessions_[slot].id == id; });
    }
    [[nodiscard]] Session& operator[](std::uint32_t slot) noexcept { return sessions_[slot]; }
    // Null when the slot has another generation by now.
    [[nodiscard]] Session* get(std::uint32_t slot, std::uint32_t generation) noexcept;

    // no_slot: the session or the lane has no room for another one.
    [[nodiscard]] std::uint32_t flow(std::uint32_t session, std::uint32_t number,
                                     std::uint64_t shard) noexcept;
    [[nodiscard]] std::uint32_t find_flow(std::uint32_t session, std::uint32_t number,
                                          std::uint64_t shard) const noexcept;
    [[nodiscard]] Flow& flow_at(std::uint32_t slot) noexcept { return flows_[slot]; }

    [[nodiscard]] std::uint32_t session_count() const noexcept { return session_count_; }
    [[nodiscard]] std::uint32_t flow_count() const noexcept { return flow_count_; }
    // Slots that were ever used: 0 … slots_used() - 1.
    [[nodiscard]] std::uint32_t slots_used() const noexcept { return sessions_used_; }
    [[nodiscard]] const Limits& limits() const noexcept { return limits_; }

private:
    [[nodiscard]] static std::uint64_t flow_hash(std::uint32_t session, std::uint32_t number,
                                                 std::uint64_t shard) noexcept {
        return spread(spread(shard) ^ (std::uint64_t{session} << 32 | number));
    }
    void remove_flow(std::uint32_t slot) noexcept;

    const Limits limits_;
    const Aead& aead_;
    SlotIndex index_;
    SlotIndex flow_index_;
    Session* sessions_;  // memory for limits_.sessions; the first sessions_used_ are made
    Flow* flows_;
    std::uint32_t sessions_used_ = 0;
    std::uint32_t flows_used_ = 0;
    std::uint32_t session_count_ = 0;
    std::uint32_t flow_count_ = 0;
    std::vector<std::uint32_t> free_sessions_;
    std::uint32_t free_flow_ = no_slot;
};

// The producer of a flow's marks: the first 8 bytes of the MD5 of NAME/FLOW.
[[nodiscard]] std::uint64_t flow_producer(std::string_view producer, std::uint32_t flow) noexcept;

}  // namespace penstock::session
