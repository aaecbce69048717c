// From a burst of datagrams to what their clients said.
#include <algorithm>
#include <cstring>

#include "dataplane/session/session_lane.h"
#include "storage/base/check.h"

namespace penstock::session {

SessionLane::SessionLane(std::uint16_t lane, const Limits& limits, const Aead& aead,
                         const KeyMaterial& seed, std::unique_ptr<Cmac> cookies, SessionHost& host)
    : lane_(lane),
      limits_(limits),
      aead_(aead),
      host_(host),
      table_(limits.table, aead),
      gate_(limits.opening, std::move(cookies)),
      pending_(limits.results),
      reports_(limits.table.sessions) {
    due_.reserve(limits.table.sessions);
    due_next_.reserve(limits.table.sessions);
    for (std::uint32_t i = limits.results; i-- > 0;) {
        pending_[i].next_in_list = free_pending_;
        free_pending_ = i;
    }
    free_pending_count_ = limits.results;
    aead_.prepare(seed, challenge_key_);
}

bool SessionLane::add(const SessionGrant& grant, std::uint64_t now_ns) noexcept {
    return table_.add(grant, now_ns) != no_slot;
}

void SessionLane::add_keys(std::uint64_t id, const KeyMaterial& receive,
                           const KeyMaterial& send) noexcept {
    const std::uint32_t slot = table_.find(id);
    if (slot == no_slot) {
        return;
    }
    Session& session = table_[slot];
    if (!session.has_receive_next) {
        session.receive_next = receive;
        session.has_receive_next = true;
    }
    if (!session.has_send_next) {
        session.send_next = send;
        session.has_send_next = true;
    }
}

void SessionLane::renew(std::uint64_t id, std::uint64_t expires_ns) noexcept {
    if (const std::uint32_t slot = table_.find(id); slot != no_slot) {
        table_[slot].expires_ns = expires_ns;
    }
}

void SessionLane::receive(std::span<Incoming> burst, std::span<DropReason> verdicts,
                          std::uint64_t now_ns, std::int64_t clock_ms) noexcept {
    PENSTOCK_CHECK(burst.size() <= burst_max && verdicts.size() >= burst.size());
    now_ns_ = now_ns;
    clock_ms_ = clock_ms;
    credit_ = host_.credit();
    std::size_t count = 0;
    for (std::size_t i = 0; i < burst.size(); ++i) {
        counters_.datagrams.add();
        counters_.bytes.add(burst[i].datagram.size());
        Matched& matched = matched_[count];
        matched.index = static_cast<std::uint8_t>(i);
        verdicts[i] = match(burst[i], matched);
        const bool asks = matched.header.type == DatagramType::open;
        if (verdicts[i] == DropReason::none && asks) {
            verdicts[i] = ask_to_open(burst[i]);
        }
        if (verdicts[i] != DropReason::none) {
            counters_.drops.add(verdicts[i]);
        }
        if (verdicts[i] != DropReason::none || asks) {
            continue;
        }
        OpenJob& job = jobs_[count++];
        job = OpenJob{};
        job.key = &table_[matched.slot].receive;
        job.datagram = burst[i].datagram.data();
        job.size = static_cast<std::uint32_t>(burst[i].datagram.size());
        job.packet_number = matched.header.packet_number;
    }
    // A datagram of another key epoch than the session's is opened for itself, in its place.
    std::size_t first = 0;
    for (std::size_t i = 0; i <= count; ++i) {
        const bool is_same =
            i < count && matched_[i].header.key_epoch == table_[matched_[i].slot].receive_epoch;
        if (!is_same) {
            (void)aead_.open(std::span(jobs_).subspan(first, i - first));
            first = i + 1;
        }
        if (i < count) {
            matched_[i].is_opened = is_same;
        }
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = matched_[i].index;
        verdicts[at] = admit(matched_[i], jobs_[i], burst[at]);
        if (verdicts[at] != DropReason::none) {
            counters_.drops.add(verdicts[at]);
        }
    }
}

// What can be said before anything is decrypted.
DropReason SessionLane::match(Incoming& incoming, Matched& out) noexcept {
    if (const DropReason reason = check_at_server(incoming.datagram, out.header);
        reason != DropReason::none) {
        return reason;
    }
    if (out.header.type == DatagramType::open) {
        return DropReason::none;  // whichever lane it comes to
    }
    if (out.header.lane != lane_) {
        return DropReason::session_unknown;
    }
    out.slot = table_.find(out.header.session);
    if (out.slot == no_slot || table_[out.slot].state == SessionState::closing) {
        return DropReason::session_unknown;
    }
    const Session& session = table_[out.slot];
    if (const DropReason reason = session.replay.check(out.header.packet_number);
        reason != DropReason::none) {
        return reason;
    }
    if (out.header.key_epoch != session.receive_epoch &&
        (out.header.key_epoch != session.receive_epoch + 1 || !session.has_receive_next)) {
        return DropReason::session_key_epoch;
    }
    return DropReason::none;
}

DropReason SessionLane::ask_to_open(const Incoming& incoming) noexcept {
    switch (gate_.judge(incoming.datagram, incoming.from, host_.is_busy_opening(), now_ns_,
                        clock_ms_)) {
        case OpenGate::Fate::pass:
            if (!host_.opening(incoming.from, incoming.datagram)) {
                return DropReason::session_open_busy;
            }
            counters_.opens_passed.add();
            return DropReason::none;
        case OpenGate::Fate::retry: {
            std::array<std::byte, retry_bytes> retry;
            gate_.write_retry(incoming.datagram, incoming.from, clock_ms_, retry);
            counters_.retries.add();
            if (!host_.send(incoming.from, retry)) {
                counters_.not_sent.add();
            }
            return DropReason::none;
        }
        case OpenGate::Fate::bad_cookie:
            break;
    }
    return DropReason::session_cookie;
}

// What was not opened with its burst: its key is the next one, or was when the burst began.
bool SessionLane::open_alone(Session& session, const Header& header, OpenJob& job) noexcept {
    if (header.key_epoch == session.receive_epoch) {
        job.key = &session.receive;
        aead_.open(job);
        return job.authentic;
    }
    return header.key_epoch == session.receive_epoch + 1 && session.has_receive_next &&
           open_next_epoch(session, job);
}

// Authentic under the next key: from now on it is the session's.
bool SessionLane::open_next_epoch(Session& session, OpenJob& job) noexcept {
    PreparedKey next;
    aead_.prepare(session.receive_next, next);
    job.key = &next;
    aead_.open(job);
    if (job.authentic) {
        session.receive = next;
        ++session.receive_epoch;
        session.has_receive_next = false;
        host_.wants_keys(session);
    }
    next.wipe();
    return job.authentic;
}

DropReason SessionLane::admit(const Matched& matched, const OpenJob& opened,
                              const Incoming& incoming) noexcept {
    Session& session = table_[matched.slot];
    OpenJob job = opened;
    // What came before it in the burst may have ended the session, or its key.
    if (session.id != matched.header.session || session.state == SessionState::closing) {
        return DropReason::session_unknown;
    }
    if (const DropReason reason = session.replay.check(matched.header.packet_number);
        reason != DropReason::none) {
        return reason;
    }
    if (matched.header.key_epoch < session.receive_epoch) {
        return DropReason::session_key_epoch;
    }
    if (matched.is_opened ? !job.authentic : !open_alone(session, matched.header, job)) {
        return DropReason::session_forged;
    }
    const bool gap = note_received(session, matched, incoming);
    const DropReason reason = take_text(matched.slot, job);
    if (reason == DropReason::none) {
        note_reporting(matched.slot, incoming.datagram.size(), gap);
    }
    return reason;
}

bool SessionLane::note_received(Session& session, const Matched& matched,
                                const Incoming& incoming) noexcept {
    const Header& header = matched.header;
    const std::uint64_t highest = session.replay.highest();
    const bool is_newest = header.packet_number > highest;
    session.replay.set(header.packet_number);
    ++session.received;
    session.heard_ns = now_ns_;
    if (is_newest) {
        session.echo_us = header.sent_at_us;
        session.highest_ns = now_ns_;
        session.map_epoch = header.map_epoch;
    }
    note_address(session, header, incoming, is_newest);
    if (session.state == SessionState::granted) {
        session.state = SessionState::active;
        host_.activated(session);
    }
    return header.packet_number > highest + 1;
}

// Answers go to the validated address. Another one is asked to prove itself, and gets no more than
// it sent until it has.
void SessionLane::note_address(Session& session, const Header& header, const Incoming& incoming,
                               bool is_newest) noexcept {
    if (session.is_validated && session.validated.is_same(incoming.from)) {
        session.validated = incoming.from;
        return;
    }
    if (session.has_candidate && session.candidate.is_same(incoming.from)) {
        session.candidate_bytes += incoming.datagram.size();
        session.challenge_due = true;
        return;
    }
    if (!is_newest || header.packet_number < session.candidate_number) {
        return;
    }
    session.candidate = incoming.from;
    session.candidate_number = header.packet_number;
    session.candidate_bytes = incoming.datagram.size();
    session.has_candidate = true;
    challenge(session);
}

// Eight bytes that nobody can foresee who has not this lane's key: its key stream at a new place.
void SessionLane::challenge(Session& session) noexcept {
    std::array<std::byte, 8 + tag_bytes> stream{};
    aead_.seal(challenge_key_, ++challenges_, stream, 0);
    std::memcpy(session.challenge.data(), stream.data(), session.challenge.size());
    session.challenge_due = true;
}

DropReason SessionLane::take_text(std::uint32_t slot, const OpenJob& job) noexcept {
    BlockType fault = BlockType::none;
    if (!decode_client(job.text(), text_, fault)) {
        begin_close(slot, CloseCode::protocol_error, static_cast<std::uint64_t>(fault));
        return DropReason::session_malformed;
    }
    Session& session = table_[slot];
    if (text_.has_path_response && session.has_candidate &&
        text_.path_response == session.challenge) {
        session.validated = session.candidate;
        session.is_validated = true;
        session.has_candidate = session.challenge_due = false;
    }
    if (text_.wants_report) {
        session.report_now = true;
    }
    if (text_.wants_map) {
        session.map_wanted = true;
        session.map_from = text_.map_from;
        due(slot);
    }
    for (const PartView& part : text_.parts) {
        take_part(slot, part);
    }
    if (text_.closes) {
        begin_close(slot, CloseCode::closed, text_.close_code);
    }
    return DropReason::none;
}

// Answers to answers are not reported by themselves, so that two sides do not go on for ever.
void SessionLane::note_reporting(std::uint32_t slot, std::size_t datagram_bytes,
                                 bool gap) noexcept {
    Session& session = table_[slot];
    if (text_.wants_size) {
        session.answer_bytes = static_cast<std::uint16_t>(datagram_bytes);
    }
    if (text_.wants_answer) {
        ++session.unreported;
    }
    if (session.report_now || session.challenge_due || (gap && text_.wants_answer) ||
        session.unreported >= limits_.report_after) {
        session.report_now = true;
        due(slot);
    } else if (session.unreported != 0) {
        queue_report(slot);
    }
}

}  // namespace penstock::session
