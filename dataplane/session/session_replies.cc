// What clients are told, and when their sessions end.
#include <algorithm>
#include <cstring>

#include "dataplane/session/session_lane.h"
#include "storage/base/check.h"

namespace penstock::session {
namespace {

// Behind RESULTS in the first answer of a turn.
constexpr std::size_t standing_bytes = sizeof(ReportBlock) + sizeof(CreditBlock);
constexpr std::size_t envelope_bytes = header_bytes + tag_bytes;
constexpr std::size_t map_entries_max = 14;  // what 1200 bytes hold
// Of one session in a turn, so that none holds up the others.
constexpr unsigned answers_max = 8;
constexpr std::uint32_t looked_after_at_once = 64;
constexpr std::uint64_t look_after_ns = 1'000'000;
// Of a lane that has nothing else to do: nothing that ends by itself is in a hurry.
constexpr std::uint64_t look_after_idle_ns = 100'000'000;

}  // namespace

void SessionLane::due(std::uint32_t slot) noexcept {
    if (!table_[slot].is_due) {
        table_[slot].is_due = true;
        due_.push_back(slot);
    }
}

// There is more for it than a turn may send.
void SessionLane::due_again(std::uint32_t slot) noexcept {
    if (!table_[slot].is_due) {
        table_[slot].is_due = true;
        due_next_.push_back(slot);
    }
}

void SessionLane::queue_report(std::uint32_t slot) noexcept {
    Session& session = table_[slot];
    // A session that ended and came again may have an entry of its earlier life yet.
    if (session.waits_for_report || reports_count_ == reports_.size()) {
        return;
    }
    session.waits_for_report = true;
    reports_[(reports_first_ + reports_count_++) % reports_.size()] = {slot, session.generation,
                                                                       now_ns_};
}

std::size_t SessionLane::collect_reports() noexcept {
    std::size_t work = 0;
    while (reports_count_ != 0) {
        const WaitsForReport waits = reports_[reports_first_];
        Session* const session = table_.get(waits.slot, waits.generation);
        if (session != nullptr && now_ns_ < waits.since_ns + limits_.report_after_ns) {
            break;
        }
        reports_first_ = (reports_first_ + 1) % reports_.size();
        --reports_count_;
        if (session != nullptr) {
            session->waits_for_report = false;
            if (session->unreported != 0) {
                session->report_now = true;
                due(waits.slot);
                ++work;
            }
        }
    }
    return work;
}

std::size_t SessionLane::flush(std::uint64_t now_ns, std::int64_t clock_ms) noexcept {
    now_ns_ = now_ns;
    clock_ms_ = clock_ms;
    std::size_t work = collect_reports() + look_after_some();
    if (due_.empty()) {
        return work;
    }
    credit_ = host_.credit();
    // Whoever becomes due while answers are sent is answered, too.
    for (std::size_t i = 0; i < due_.size(); ++i) {
        const std::uint32_t slot = due_[i];
        if (table_[slot].is_due) {
            table_[slot].is_due = false;
            answer(slot);
        }
    }
    work += due_.size();
    due_.clear();
    due_.swap(due_next_);
    return work;
}

std::uint64_t SessionLane::next_due_ns() const noexcept {
    if (!due_.empty()) {
        return 0;
    }
    std::uint64_t due_ns = UINT64_MAX;
    if (reports_count_ != 0) {
        due_ns = reports_[reports_first_].since_ns + limits_.report_after_ns;
    }
    if (table_.session_count() != 0) {
        due_ns = std::min(due_ns, looked_after_ns_ + look_after_idle_ns);
    }
    return due_ns;
}

bool SessionLane::close(std::uint64_t id, CloseCode code, std::uint64_t detail,
                        std::uint64_t now_ns) noexcept {
    const std::uint32_t slot = table_.find(id);
    if (slot == no_slot) {
        return false;
    }
    now_ns_ = now_ns;
    begin_close(slot, code, detail);
    return true;
}

void SessionLane::begin_close(std::uint32_t slot, CloseCode code, std::uint64_t detail) noexcept {
    Session& session = table_[slot];
    if (session.state == SessionState::closing) {
        return;
    }
    session.state = SessionState::closing;
    session.close_code = code;
    session.close_detail = detail;
    session.closing_since_ns = now_ns_;
    due(slot);
}

// Why a session is at its end now; none if it is not.
CloseCode SessionLane::over(const Session& session) const noexcept {
    if (now_ns_ >= session.expires_ns) {
        return CloseCode::expired;
    }
    if (session.state == SessionState::granted) {
        return now_ns_ >= session.activate_by_ns ? CloseCode::idle : CloseCode::none;
    }
    return now_ns_ - session.heard_ns >= limits_.idle_ns && session.in_flight == 0
               ? CloseCode::idle
               : CloseCode::none;
}

std::size_t SessionLane::look_after_some() noexcept {
    if (now_ns_ < looked_after_ns_ + look_after_ns) {
        return 0;
    }
    looked_after_ns_ = now_ns_;
    std::size_t work = 0;
    const std::uint32_t used = table_.slots_used();
    for (std::uint32_t i = 0; i < std::min(used, looked_after_at_once); ++i) {
        const std::uint32_t slot = looked_after_++ % used;
        const Session& session = table_[slot];
        if (session.state == SessionState::free) {
            continue;
        }
        if (session.state == SessionState::closing) {
            if (now_ns_ - session.closing_since_ns >= limits_.closing_ns) {
                end(slot);
                ++work;
            }
        } else if (const CloseCode code = over(session); code != CloseCode::none) {
            begin_close(slot, code, 0);
            ++work;
        }
    }
    return work;
}

// What still waits for its commit finds the slot's generation gone, and frees itself.
void SessionLane::end(std::uint32_t slot) noexcept {
    Session& session = table_[slot];
    for (std::uint32_t at = session.flows; at != no_slot; at = table_.flow_at(at).next) {
        Flow& flow = table_.flow_at(at);
        while (flow.pending != no_slot) {
            const std::uint32_t index = flow.pending;
            flow.pending = pending_[index].next_in_flow;
            leave_flow(index);
        }
    }
    while (session.ready != no_slot) {
        const std::uint32_t index = session.ready;
        session.ready = pending_[index].next_in_list;
        told(index);
    }
    counters_.sessions_ended.add();
    host_.ended(session);
    // Its place in the list of those that are due may be there still: it means nothing then.
    session.is_due = false;
    table_.remove(slot);
}

void SessionLane::answer(std::uint32_t slot) noexcept {
    Session& session = table_[slot];
    if (session.state == SessionState::free) {
        return;
    }
    challenge_candidate(session);
    for (unsigned i = 0; i < answers_max; ++i) {
        if (!answer_once(session, i == 0)) {
            break;
        }
    }
    const bool is_told = session.close_told || room_for_answer(session) == 0;
    if (session.state == SessionState::closing && session.in_flight == 0 && is_told) {
        end(slot);
    } else if (session.ready != no_slot && room_for_answer(session) != 0) {
        due_again(slot);
    }
}

// While answers go to the validated address, the one that wants to be gets a challenge alone.
void SessionLane::challenge_candidate(Session& session) noexcept {
    constexpr std::size_t size = envelope_bytes + sizeof(PathBlock);
    if (!session.is_validated || !session.challenge_due || session.candidate_bytes < size) {
        return;
    }
    TextWriter text(MutableBytes(reply_).subspan(header_bytes));
    text.add_path(BlockType::path_challenge, session.challenge);
    session.challenge_due = false;
    session.candidate_bytes -= size;
    (void)transmit(session, session.candidate, text.size());
}

std::size_t SessionLane::room_for_answer(const Session& session) const noexcept {
    std::size_t size = std::max<std::size_t>(datagram_bytes_first, session.answer_bytes);
    if (!session.is_validated) {
        size = std::min<std::size_t>(size, session.has_candidate ? session.candidate_bytes : 0);
    }
    // Less than this says nothing.
    return size < datagram_bytes_min + sizeof(PathBlock) ? 0 : size - envelope_bytes;
}

bool SessionLane::answer_once(Session& session, bool first) noexcept {
    const std::size_t room = room_for_answer(session);
    const bool tells_close =
        session.state == SessionState::closing && !session.close_told && session.in_flight == 0;
    const bool wanted = session.report_now || session.challenge_due || session.map_wanted ||
                        session.ready != no_slot || tells_close;
    if (room == 0 || !wanted) {
        return false;
    }
    TextWriter text(MutableBytes(reply_).subspan(header_bytes, room));
    if (session.challenge_due && !session.is_validated &&
        text.add_path(BlockType::path_challenge, session.challenge)) {
        session.challenge_due = false;
    }
    const std::size_t kept = first && text.room() > 2 * standing_bytes ? standing_bytes : 0;
    write_results(session, text, kept);
    if (session.ready == no_slot && session.map_wanted) {
        write_map(session, text);
    }
    if ((first || session.report_now) && text.add(report_of(session))) {
        session.report_now = false;
        session.unreported = 0;
        (void)text.add(credit_of(session));
    }
    if (tells_close && session.ready == no_slot) {
        ClosedBlock closed;
        closed.code = session.close_code;
        closed.detail = session.close_detail;
        session.close_told = text.add(closed);
    }
    if (session.answer_bytes > envelope_bytes) {
        text.pad_to(session.answer_bytes - envelope_bytes);
    }
    if (text.size() == 0) {
        return false;
    }
    session.answer_bytes = 0;
    if (!session.is_validated) {
        session.candidate_bytes -= text.size() + envelope_bytes;
    }
    return transmit(session, session.peer(), text.size());
}

// Blocks of one flow each, as long as there are results and room beside `kept`.
void SessionLane::write_results(Session& session, TextWriter& text, std::size_t kept) noexcept {
    while (session.ready != no_slot &&
           text.room() >= kept + sizeof(ResultsBlock) + sizeof(ResultEntry)) {
        std::array<ResultEntry, 32> entries;
        const std::size_t room_for =
            (text.room() - kept - sizeof(ResultsBlock)) / sizeof(ResultEntry);
        const Pending& head = pending_[session.ready];
        ResultsBlock block;
        block.flow = head.flow_number;
        block.shard = head.shard;
        block.through = head.flow == no_slot ? 0 : table_.flow_at(head.flow).through;
        block.map_epoch = host_.map_epoch(session);
        std::size_t count = 0;
        while (session.ready != no_slot) {
            const std::uint32_t index = session.ready;
            const Pending& pending = pending_[index];
            if (pending.flow_number != block.flow || pending.shard != block.shard) {
                break;
            }
            if (count == 0 || !joins(entries[count - 1], pending.entry)) {
                if (count == std::min(room_for, entries.size())) {
                    break;
                }
                entries[count++] = pending.entry;
            }
            session.ready = pending.next_in_list;
            told(index);
        }
        PENSTOCK_CHECK(text.add_results(block, std::span(entries).first(count)) == count);
    }
}

// Parts that stand behind each other in a batch and in the log are told as one.
bool SessionLane::joins(ResultEntry& last, const ResultEntry& next) noexcept {
    if (!is_stored(last.status) || last.status != next.status || last.batch != next.batch ||
        last.value != next.value || last.level != next.level ||
        last.first_offset + last.record_count != next.first_offset ||
        last.first_sequence + last.record_count != next.first_sequence) {
        return false;
    }
    last.record_count = static_cast<std::uint16_t>(last.record_count + next.record_count);
    return true;
}

void SessionLane::write_map(Session& session, TextWriter& text) noexcept {
    std::array<MapEntry, map_entries_max> entries;
    if (text.room() < sizeof(MapBlock) + sizeof(MapEntry)) {
        return;
    }
    bool more = false;
    const std::size_t fit =
        std::min(entries.size(), (text.room() - sizeof(MapBlock)) / sizeof(MapEntry));
    const std::size_t count =
        host_.map(session, session.map_from, std::span(entries).first(fit), more);
    MapBlock block;
    block.map_epoch = host_.map_epoch(session);
    block.block.flags = more ? map_has_more : std::uint8_t{0};
    (void)text.add_map(block, std::span(entries).first(count));
    session.map_wanted = false;
}

ReportBlock SessionLane::report_of(const Session& session) const noexcept {
    ReportBlock report;
    report.echo_us = session.echo_us;
    report.highest = session.replay.highest();
    report.delay_us = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((now_ns_ - session.highest_ns) / 1000, UINT32_MAX));
    report.received = session.received;
    report.bitmap = session.replay.newest();
    return report;
}

CreditBlock SessionLane::credit_of(const Session& session) const noexcept {
    CreditBlock credit;
    credit.batches = limits_.credit_batches;
    credit.bytes = std::min(limits_.credit_bytes, credit_.bytes);
    credit.cause = credit_.bytes < limits_.credit_bytes ? credit_.cause : CreditCause::none;
    credit.retry_after_us = credit_.retry_after_us;
    credit.expires_in_s = static_cast<std::uint32_t>(
        session.expires_ns > now_ns_ ? (session.expires_ns - now_ns_) / 1'000'000'000 : 0);
    credit.clock_ms = clock_ms_;
    return credit;
}

// The packet number about to be used may need the next key. False: it isn't there.
bool SessionLane::next_send_key(Session& session) noexcept {
    if (session.sent_number == packet_number_max) {
        return false;
    }
    const std::uint8_t epoch = key_epoch_of(session.sent_number + 1);
    if (epoch == session.send_epoch) {
        return true;
    }
    if (!session.has_send_next) {
        return false;
    }
    aead_.prepare(session.send_next, session.send);
    session.send_epoch = epoch;
    session.has_send_next = false;
    host_.wants_keys(session);
    return true;
}

// What stands in reply_ behind the header goes out.
bool SessionLane::transmit(Session& session, const Peer& to, std::size_t text_bytes) noexcept {
    if (!next_send_key(session)) {
        counters_.not_sent.add();
        return false;
    }
    Header header;
    header.type = DatagramType::server;
    header.packet_number = ++session.sent_number;
    header.key_epoch = session.send_epoch;
    header.lane = lane_;
    header.session = session.id;
    header.map_epoch = host_.map_epoch(session);
    header.sent_at_us = static_cast<std::uint32_t>(now_ns_ / 1000);
    store(reply_.data(), header);
    const MutableBytes datagram = MutableBytes(reply_).first(header_bytes + text_bytes + tag_bytes);
    aead_.seal(session.send, header.packet_number, datagram);
    if (!host_.send(to, datagram)) {
        counters_.not_sent.add();
        return false;
    }
    counters_.sent_datagrams.add();
    counters_.sent_bytes.add(datagram.size());
    return true;
}

}  // namespace penstock::session
