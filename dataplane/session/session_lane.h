// The sessions of one lane at work: datagrams in, records to the shard logs, answers out.
//
// A burst is looked at from outside, opened, checked for replays and decoded; parts that are next
// in their flow are appended, and answered when they are durable. What the lane itself does for
// this (its shards, its ports, the control threads) is behind SessionHost.
//
//   receive() ─▶ header ─▶ table ─▶ replay ─▶ AEAD ─▶ replay ─▶ blocks ─▶ parts ─▶ SessionHost
//   flush()   ◀─ RESULTS, REPORT, CREDIT, MAP ◀─ results ready ◀─ commits
//
// Runs on: the lane. Allocates: when made.
// Guarantees: what is not authentic changes nothing and is not answered; every datagram that is not
// taken is counted with its reason; records of a flow are appended in their order, once (promise
// 3). Format: docs/formats/session.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/drop.h"
#include "dataplane/session/aead.h"
#include "dataplane/session/decode.h"
#include "dataplane/session/encode.h"
#include "dataplane/session/key_hashes.h"
#include "dataplane/session/open_gate.h"
#include "dataplane/session/session_table.h"
#include "storage/log/append.h"

namespace penstock::session {

// A shard of a session's stream, as its lane found it.
struct ShardPlace {
    void* shard = nullptr;  // these two are the host's
    void* group = nullptr;
    Hash128 first;
    Hash128 last;  // inclusive
    RecordSealer* sealer = nullptr;
};

struct CreditState {
    std::uint64_t bytes = 0;  // that a session may have unresolved
    CreditCause cause = CreditCause::none;
    std::uint32_t retry_after_us = 0;
};

// What a lane does for its sessions, on its thread.
class SessionHost {
public:
    virtual ~SessionHost() = default;
    // PartStatus::none and `out`, or why records for the shard are not taken: wrong_shard,
    // shard_closed, key_unavailable.
    [[nodiscard]] virtual PartStatus place(const Session& session, ShardUid shard,
                                           ShardPlace& out) noexcept = 0;
    [[nodiscard]] virtual AppendVerdict append(const ShardPlace& place, const RecordIn& record,
                                               AckLevel level, Appended& out) noexcept = 0;
    // Whether the record is there: accepted if so, else producer_window or what else is the
    // matter. Appends nothing.
    [[nodiscard]] virtual AppendVerdict known(const ShardPlace& place, const ProducerMark& mark,
                                              Appended& out) noexcept = 0;
    virtual void wait_commit(const ShardPlace& place, CommitWaiter& waiter) noexcept = 0;
    // Shards of the session's stream from this hash on, as many as `out` holds; `more` if there are
    // more.
    [[nodiscard]] virtual std::size_t map(const Session& session, const Hash128& from,
                                          std::span<MapEntry> out, bool& more) noexcept = 0;
    [[nodiscard]] virtual std::uint32_t map_epoch(const Session& session) noexcept = 0;
    [[nodiscard]] virtual CreditState credit() noexcept = 0;
    // False when it cannot be sent now; it is lost then.
    [[nodiscard]] virtual bool send(const Peer& to, Bytes datagram) noexcept = 0;
    // Whether control threads have enough requests to open sessions.
    [[nodiscard]] virtual bool is_busy_opening() noexcept = 0;
    // A copy of this OPEN goes to a control thread. False: there is no room.
    [[nodiscard]] virtual bool opening(const Peer& from, Bytes datagram) noexcept = 0;
    // Its client has proved that it has the keys.
    virtual void activated(const Session& session) noexcept = 0;
    // It is removed after this.
    virtual void ended(const Session& session) noexcept = 0;
    // add_keys() for the next key epoch is wanted.
    virtual void wants_keys(const Session& session) noexcept = 0;
};

struct SessionCounters {
    Counter datagrams;  // that arrived, taken or not
    Counter bytes;
    Counter records_stored;    // told so; repetitions not counted
    Counter records_repeated;  // told again
    Counter records_refused;   // told to come again, or not to
    Counter parts_held_back;   // out of their order
    Counter sent_datagrams;
    Counter sent_bytes;
    Counter not_sent;  // the transmit ring was full
    Counter sessions_ended;
    Counter opens_passed;
    Counter retries;
    DropCounters drops;
};

class SessionLane {
public:
    struct Limits {
        SessionTable::Limits table;
        std::uint32_t results = 16'384;  // that wait for a commit or for being sent
        std::uint64_t credit_bytes = 4U << 20;
        std::uint16_t credit_batches = 64;
        std::uint64_t idle_ns = 300'000'000'000;
        std::uint64_t closing_ns = 5'000'000'000;
        OpenGate::Limits opening;
        std::uint32_t report_after = 32;  // datagrams
        std::uint64_t report_after_ns = 1'000'000;
    };
    // One datagram to a session port, to this lane by its header (lane_of()). It is decrypted in
    // place.
    struct Incoming {
        MutableBytes datagram;
        Peer from;
    };
    static constexpr std::size_t burst_max = 64;

    // `seed` keys the challenges, `cookies` the retry cookies: random, of this lane and start
    // alone. `host` and `aead` must outlive this.
    SessionLane(std::uint16_t lane, const Limits& limits, const Aead& aead, const KeyMaterial& seed,
                std::unique_ptr<Cmac> cookies, SessionHost& host);
    SessionLane(const SessionLane&) = delete;
    SessionLane& operator=(const SessionLane&) = delete;

    // -- Control, on the lane
    // ----------------------------------------------------------------------- False: the table is
    // full, or has the id.
    [[nodiscard]] bool add(const SessionGrant& grant, std::uint64_t now_ns) noexcept;
    // The keys of the epoch after the one in use; without effect if they are there.
    void add_keys(std::uint64_t id, const KeyMaterial& receive, const KeyMaterial& send) noexcept;
    void renew(std::uint64_t id, std::uint64_t expires_ns) noexcept;
    // It takes nothing more, its client is told once, and it goes when its records are answered.
    // False if there is none.
    bool close(std::uint64_t id, CloseCode code, std::uint64_t detail,
               std::uint64_t now_ns) noexcept;

    // -- A turn
    // ------------------------------------------------------------------------------------- Up to
    // burst_max datagrams. `verdicts`, as long, says what became of each: none when it was taken.
    void receive(std::span<Incoming> burst, std::span<DropReason> verdicts, std::uint64_t now_ns,
                 std::int64_t clock_ms) noexcept;
    // Sends what is due, and ends what has expired. Returns the work done.
    std::size_t flush(std::uint64_t now_ns, std::int64_t clock_ms) noexcept;

    // When flush() has work without any new event; UINT64_MAX if never.
    [[nodiscard]] std::uint64_t next_due_ns() const noexcept;

    // Results that wait for a commit or for being sent.
    [[nodiscard]] std::uint32_t results_in_use() const noexcept {
        return limits_.results - free_pending_count_;
    }
    [[nodiscard]] const SessionCounters& counters() const noexcept { return counters_; }
    [[nodiscard]] SessionTable& table() noexcept { return table_; }

private:
    // What is to be told of records of one part; while it waits for their commit, the waiter.
    struct Pending : CommitWaiter {
        SessionLane* owner = nullptr;
        std::uint32_t session = no_slot;
        std::uint32_t generation = 0;
        std::uint32_t flow = no_slot;  // slot; only while its session is the same
        std::uint32_t flow_number = 0;
        std::uint64_t shard = 0;
        ResultEntry entry;
        std::uint32_t bytes = 0;               // of credit that it gives back
        std::uint32_t next_in_list = no_slot;  // ready, or free
        std::uint32_t next_in_flow = no_slot;
        bool in_order = false;    // counts for the flow's `through`
        bool in_flow = false;     // stands in the flow's list
        bool ends_batch = false;  // in order, and the last of its batch
        bool is_done = false;
        bool is_told = false;
        bool is_free = true;
    };
    struct Matched {
        Header header;
        std::uint32_t slot = no_slot;
        std::uint8_t index = 0;  // in the burst
        bool is_opened = false;  // with the others of the burst
    };
    // A part on its way to the log.
    struct PartAtWork {
        const PartView& part;
        std::uint32_t session;
        std::uint32_t flow;
        ShardPlace place;
        bool is_next;  // else it came before
    };
    enum class Order : std::uint8_t { next, before, beyond };

    // session_receive.cc
    [[nodiscard]] DropReason match(Incoming& incoming, Matched& out) noexcept;
    [[nodiscard]] DropReason ask_to_open(const Incoming& incoming) noexcept;
    [[nodiscard]] bool open_alone(Session& session, const Header& header, OpenJob& job) noexcept;
    [[nodiscard]] bool open_next_epoch(Session& session, OpenJob& job) noexcept;
    [[nodiscard]] DropReason admit(const Matched& matched, const OpenJob& job,
                                   const Incoming& incoming) noexcept;
    // Whether numbers before it are missing.
    [[nodiscard]] bool note_received(Session& session, const Matched& matched,
                                     const Incoming& incoming) noexcept;
    void note_address(Session& session, const Header& header, const Incoming& incoming,
                      bool is_newest) noexcept;
    [[nodiscard]] DropReason take_text(std::uint32_t slot, const OpenJob& job) noexcept;
    void note_reporting(std::uint32_t slot, std::size_t datagram_bytes, bool gap) noexcept;
    void challenge(Session& session) noexcept;

    // session_parts.cc
    void take_part(std::uint32_t slot, const PartView& part) noexcept;
    [[nodiscard]] static Order order_of(const Flow& flow, const PartView& part) noexcept;
    [[nodiscard]] bool hashes_fit(const ShardPlace& place,
                                  std::span<const RecordView> records) noexcept;
    void take_records(const PartAtWork& work) noexcept;
    void refuse(std::uint32_t slot, const PartView& part, std::size_t from, PartStatus status,
                CreditCause cause, std::int64_t value) noexcept;
    void refuse(std::uint32_t slot, const PartView& part, std::size_t from,
                AppendVerdict verdict) noexcept;
    [[nodiscard]] std::uint32_t take_pending() noexcept;
    void free_pending(std::uint32_t index) noexcept;
    // A result is free when it was told and stands in no flow's list.
    void told(std::uint32_t index) noexcept;
    void leave_flow(std::uint32_t index) noexcept;
    void committed(Pending& pending, Errc outcome) noexcept;
    void advance_through(Flow& flow) noexcept;
    void make_ready(std::uint32_t index) noexcept;
    static void on_commit(CommitWaiter& waiter, Errc outcome) noexcept;

    // session_replies.cc
    void due(std::uint32_t slot) noexcept;
    void due_again(std::uint32_t slot) noexcept;
    void queue_report(std::uint32_t slot) noexcept;
    std::size_t collect_reports() noexcept;
    std::size_t look_after_some() noexcept;
    [[nodiscard]] CloseCode over(const Session& session) const noexcept;
    void begin_close(std::uint32_t slot, CloseCode code, std::uint64_t detail) noexcept;
    void end(std::uint32_t slot) noexcept;
    void answer(std::uint32_t slot) noexcept;
    void challenge_candidate(Session& session) noexcept;
    // False when nothing (more) is to be sent, or may be.
    [[nodiscard]] bool answer_once(Session& session, bool first) noexcept;
    [[nodiscard]] std::size_t room_for_answer(const Session& session) const noexcept;
    void write_results(Session& session, TextWriter& text, std::size_t kept) noexcept;
    [[nodiscard]] static bool joins(ResultEntry& last, const ResultEntry& next) noexcept;
    void write_map(Session& session, TextWriter& text) noexcept;
    [[nodiscard]] ReportBlock report_of(const Session& session) const noexcept;
    [[nodiscard]] CreditBlock credit_of(const Session& session) const noexcept;
    [[nodiscard]] bool next_send_key(Session& session) noexcept;
    [[nodiscard]] bool transmit(Session& session, const Peer& to, std::size_t text_bytes) noexcept;

    const std::uint16_t lane_;
    const Limits limits_;
    const Aead& aead_;
    SessionHost& host_;
    SessionTable table_;
    OpenGate gate_;
    SessionCounters counters_;
    ClientText text_;
    std::vector<Pending> pending_;
    std::uint32_t free_pending_ = no_slot;
    std::uint32_t free_pending_count_ = 0;
    std::vector<std::uint32_t> due_;
    std::vector<std::uint32_t> due_next_;  // in the turn after this one
    struct WaitsForReport {
        std::uint32_t slot = no_slot;
        std::uint32_t generation = 0;
        std::uint64_t since_ns = 0;
    };
    // By time: a ring with a place for each session.
    std::vector<WaitsForReport> reports_;
    std::size_t reports_first_ = 0;
    std::size_t reports_count_ = 0;
    std::uint32_t looked_after_ = 0;
    std::uint64_t looked_after_ns_ = 0;
    PreparedKey challenge_key_;
    std::uint64_t challenges_ = 0;
    // Of the call under way.
    std::uint64_t now_ns_ = 0;
    std::int64_t clock_ms_ = 0;
    CreditState credit_;
    std::array<Matched, burst_max> matched_;
    std::array<OpenJob, burst_max> jobs_;
    KeyHashes key_hashes_;
    std::array<Bytes, batch_records_max> keys_;
    std::array<KeyHashes::Place, batch_records_max> key_places_;
    std::array<Hash128, batch_records_max> hashes_;
    std::array<std::byte, datagram_bytes_max> reply_;
};

}  // namespace penstock::session
