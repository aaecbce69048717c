#include "dataplane/lane/lane.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "dataplane/eal.h"
#include "dataplane/lane/no_alloc.h"
#include "dataplane/wire/responder.h"
#include "storage/base/check.h"

namespace penstock {
namespace {

// Sleeps shorter than this cost more than they save.
constexpr std::uint64_t sleep_worth_ns = 10'000;
// Between two looks of a stopping lane at what is still in flight.
constexpr std::uint64_t stopping_sleep_ns = 100'000;
// Of a ring to another lane, what loud doors leave to the others.
constexpr std::size_t ring_margin_part = 8;
// Different requesters whose rings one turn may touch before it signals in between.
constexpr std::size_t touched_rings_max = 64;

}  // namespace

Lane::Lane(LaneOptions options)
    : options_(std::move(options)),
      inbox_(options_.inbox_capacity),
      wake_(false),
      idler_(options_.idle, wake_),
      loudness_(options_.doors == nullptr ? 0 : options_.doors->size()) {
    PENSTOCK_CHECK(options_.clock != nullptr);
    PENSTOCK_CHECK(options_.group_count > 0);
    options_.budgets.packets = std::min(options_.budgets.packets, burst_max);
    touched_.reserve(touched_rings_max);
    if (options_.sessions != nullptr) {
        options_.sessions->attach(*this);
    }
    for (unsigned number = 0; number < options_.ports.size(); ++number) {
        Port* port = options_.ports[number];
        if (options_.index < port->queue_count()) {
            ports_.push_back({&port->queue(options_.index), port->identity(), number});
            idler_.add_queue(*ports_.back().queue);
        }
    }
}

Lane::~Lane() {
    if (thread_.joinable()) {
        request_stop();
        join();
    }
    if (options_.routes != nullptr) {
        options_.routes->leave(options_.index);  // a lane whose turns somebody else drove
    }
}

void Lane::set_engine(IoEngine& engine, bool wakes) noexcept {
    engine_ = &engine;
    engine_wakes_ = wakes;
    io_calls_ = engine.calls();
}

void Lane::add_group(std::unique_ptr<ShardGroup> group, GroupId id) {
    const std::size_t at = value(id);
    if (groups_by_id_.size() <= at) {
        groups_by_id_.resize(at + 1, nullptr);
    }
    group->observe_commits(&Lane::observe_commit, this);
    groups_by_id_[at] = group.get();
    groups_.push_back(std::move(group));
}

void Lane::connect(unsigned lane, SpscByteRing& out, SpscByteRing& in, WakeFlag& wake) {
    if (peers_.size() <= lane) {
        peers_.resize(lane + 1);
    }
    peers_[lane] = {&out, &in, &wake};
}

// -- Thread
// -----------------------------------------------------------------------------------------

Status Lane::start(std::function<Status(Lane&)> prepare) {
    running_.store(true, std::memory_order_release);
    thread_ = std::thread([this, work = std::move(prepare)] { run(work); });
    started_.wait(0, std::memory_order_acquire);
    if (!prepared_) {
        thread_.join();
    }
    return prepared_;
}

Status Lane::pin() const noexcept {
    if (options_.cpu < 0) {
        return {};
    }
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<std::size_t>(options_.cpu), &cpus);
    if (const int error = pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus); error != 0) {
        return fail(Errc::invalid_argument, error, static_cast<std::uint32_t>(options_.cpu));
    }
    return {};
}

void Lane::run(const std::function<Status(Lane&)>& prepare) {
    std::array<char, 16> name{};
    (void)std::snprintf(name.data(), name.size(), "lane-%u", options_.index);
    (void)pthread_setname_np(pthread_self(), name.data());
    const EalThread known_to_dpdk;

    Status status = pin();
    if (status && prepare) {
        status = prepare(*this);
    }
    prepared_ = status;
    if (status) {
        for (const Polled& port : ports_) {
            if (engine_ != nullptr) {
                port.queue->attach(*engine_);
            }
        }
        started_.store(1, std::memory_order_release);
        started_.notify_all();
        io_calls_ = engine_ == nullptr ? IoCalls{} : engine_->calls();  // recovery's are no turn's
        loop();
    }
    finish();
    for (const Polled& port : ports_) {
        port.queue->detach();
    }
    running_.store(false, std::memory_order_release);
    if (!status) {
        started_.store(1, std::memory_order_release);
        started_.notify_all();
    }
}

void Lane::quiesce() noexcept {
    quiesce_wanted_.store(true, std::memory_order_release);
    wake_.notify();
}

bool Lane::quiesced() const noexcept {
    return quiesced_.load(std::memory_order_acquire);
}

void Lane::request_stop() noexcept {
    stop_wanted_.store(true, std::memory_order_release);
    wake_.notify();
}

void Lane::join() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

bool Lane::post(LaneRequest& request) noexcept {
    posting_.fetch_add(1, std::memory_order_seq_cst);
    bool taken = false;
    if (!closed_.load(std::memory_order_seq_cst)) {
        taken = inbox_.push(&request);
        if (!taken) {
            counters_.inbox_full.fetch_add(1, std::memory_order_relaxed);
        }
    }
    if (taken) {
        wake_.notify();
    }
    posting_.fetch_sub(1, std::memory_order_release);
    return taken;
}

void Lane::loop() noexcept {
    while (!stop_wanted_.load(std::memory_order_relaxed)) {
        if (packets_wanted_ && quiesce_wanted_.load(std::memory_order_acquire)) {
            // The last turn committed everything it handed over.
            packets_wanted_ = false;
            quiesced_.store(true, std::memory_order_release);
        }
        const std::size_t work = turn();
        const std::uint64_t now_ns = options_.clock->monotonic_ns();
        account(now_ns, work);
        if (work == 0) {
            idle(now_ns);
        } else {
            idle_since_ns_ = 0;
        }
    }
}

void Lane::account(std::uint64_t now_ns, std::size_t work) noexcept {
    const std::uint64_t took_ns = now_ns - now_ns_;
    counters_.turns.add();
    if (work == 0) {
        counters_.idle_ns.add(took_ns);
        return;
    }
    counters_.busy_turns.add();
    counters_.busy_ns.add(took_ns);
    counters_.longest_turn_ns.observe(took_ns);
    if (took_ns > options_.slow_turn_ns) {
        counters_.slow_turns.add();
    }
}

void Lane::idle(std::uint64_t now_ns) noexcept {
    if (idle_since_ns_ == 0) {
        idle_since_ns_ = now_ns;
    }
    const std::uint64_t idle_ns = now_ns - idle_since_ns_;
    const std::uint64_t due_ns = next_due_ns();
    const std::uint64_t sleep_ns = idler_.sleep_for(idle_ns, due_ns > now_ns ? due_ns - now_ns : 0);
    if (sleep_ns < sleep_worth_ns) {
        if (idler_.pauses(idle_ns)) {
            Idler::pause();
        }
        return;
    }
    if (options_.routes != nullptr) {
        options_.routes->leave(options_.index);
    }
    if (idler_.arm() && !anything_waiting()) {
        idler_.sleep(engine_, engine_wakes_, sleep_ns);
        const std::uint64_t slept_ns = options_.clock->monotonic_ns() - now_ns;
        counters_.sleeps.add();
        counters_.slept_ns.add(slept_ns);
        counters_.idle_ns.add(slept_ns);
    }
    idler_.disarm();
}

bool Lane::anything_waiting() noexcept {
    if (!inbox_.empty() || stop_wanted_.load(std::memory_order_acquire) ||
        (packets_wanted_ && quiesce_wanted_.load(std::memory_order_acquire))) {
        return true;
    }
    return std::any_of(peers_.begin(), peers_.end(),
                       [](const Peer& peer) { return peer.in != nullptr && !peer.in->empty(); });
}

std::uint64_t Lane::next_due_ns() const noexcept {
    std::uint64_t due_ns = hold_packets_until_ns_ != 0 ? hold_packets_until_ns_ : UINT64_MAX;
    for (const auto& group : groups_) {
        due_ns = std::min(due_ns, group->next_due_ns());
    }
    if (options_.sessions != nullptr) {
        due_ns = std::min(due_ns, options_.sessions->next_due_ns());
    }
    return due_ns;
}

void Lane::finish() noexcept {
    packets_wanted_ = false;
    quiesced_.store(true, std::memory_order_release);
    closed_.store(true, std::memory_order_seq_cst);
    while (posting_.load(std::memory_order_seq_cst) != 0) {
        Idler::pause();
    }
    const std::uint64_t deadline_ns = options_.clock->monotonic_ns() + options_.stop_deadline_ns;
    for (;;) {
        const std::size_t work = turn();
        cancel_tails();
        bool drained = appending_ == nullptr && !anything_in_rings();
        if (drained) {
            for (const auto& group : groups_) {
                drained &= group->drain();
            }
        }
        drain_outcome_.finished = drained && waiting_ == nullptr;
        if (drain_outcome_.finished || options_.clock->monotonic_ns() >= deadline_ns) {
            break;
        }
        if (work == 0) {
            idler_.sleep(engine_, engine_wakes_, stopping_sleep_ns);
        }
    }
    if (!drain_outcome_.finished) {
        for (const auto& group : groups_) {
            drain_outcome_.left_bytes += group->undrained_bytes();
        }
    }
    cancel_all();
    send_signals();
    // On this thread, because they close their files in its engine.
    groups_by_id_.clear();
    groups_.clear();
    if (options_.routes != nullptr) {
        options_.routes->leave(options_.index);
    }
}

bool Lane::anything_in_rings() noexcept {
    return !inbox_.empty() || std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
        return peer.in != nullptr && !peer.in->empty();
    });
}

// -- One turn
// ---------------------------------------------------------------------------------------

std::size_t Lane::turn() noexcept {
    const NoAllocScope no_allocations(options_.trap_allocations);
    ++turn_number_;
    now_ns_ = options_.clock->monotonic_ns();
    last_shard_ = ShardUid{};
    last_found_ = {};
    loudness_.look_at_clock(now_ns_);
    if (options_.sessions != nullptr) {
        // In each turn, since routes of an earlier one may be gone.
        enter_routes();
        options_.sessions->begin_turn(routes_, now_ns_, options_.clock->wall_ms());
    }
    std::size_t work = receive();
    work += take_over();
    work += serve_inbox();
    work += run_groups();
    work += reap();
    if (options_.sessions != nullptr) {
        work += options_.sessions->flush();
    }
    count_io_calls();
    answer_tails();
    send_signals();
    return work;
}

void Lane::enter_routes() noexcept {
    routes_ = options_.routes == nullptr ? nullptr : &options_.routes->enter(options_.index);
}

std::size_t Lane::receive() noexcept {
    if (!packets_wanted_ || ports_.empty()) {
        return 0;
    }
    if (hold_packets_until_ns_ != 0) {
        if (now_ns_ < hold_packets_until_ns_) {
            return 0;
        }
        hold_packets_until_ns_ = 0;
    }
    enter_routes();
    std::size_t work = 0;
    bool empty = true;
    shard_refused_ = false;
    for (Polled& port : ports_) {
        const std::size_t count = receive_from(port);
        empty = empty && count < options_.budgets.packets;
        work += count;
    }
    // A shard that is behind is no reason to let others' packets wait until the ring overflows. But
    // once the rings are empty a pause costs nobody anything, and the drives get the CPU.
    if (shard_refused_ && empty) {
        hold_packets_until_ns_ =
            std::max(hold_packets_until_ns_, now_ns_ + options_.no_memory_hold_ns);
    }
    return work;
}

std::size_t Lane::receive_from(Polled& port) noexcept {
    const std::size_t count =
        port.queue->receive(std::span(burst_).first(options_.budgets.packets));
    if (count == 0) {
        return 0;
    }
    const std::span<const Packet> packets = std::span(burst_).first(count);
    const std::span<Decoded> decoded = std::span(decoded_).first(count);
    std::uint64_t bytes = 0;
    for (const Packet& packet : packets) {
        __builtin_prefetch(packet.data);
        bytes += packet.length;
    }
    decode_burst(packets, decoded);
    counters_.packets.add(count);
    counters_.packet_bytes.add(bytes);
    for (std::size_t i = 0; i < count; ++i) {
        DropReason fate = decoded[i].verdict;
        if (fate == DropReason::none) {
            if (!offer_to_sessions(port, decoded[i])) {
                fate = take_datagram(port, decoded[i]);
            }
        } else {
            refuse_packet(port, packets[i], decoded[i]);
        }
        if (capture_ != nullptr) {
            capture_->offer(port.number, packets[i], decoded[i], fate);
        }
    }
    if (capture_ != nullptr) {
        capture_->commit(now_ns_);
    }
    if (options_.sessions != nullptr) {
        // Behind the capture, which is to see what came and not what it says.
        options_.sessions->take_offered(counters_.drops);
    }
    port.queue->release(packets);
    return count;
}

void Lane::refuse_packet(Polled& port, const Packet& packet, const Decoded& decoded) noexcept {
    if (decoded.maybe_answerable) {
        if (const std::size_t length = respond(packet.bytes(), port.identity, answer_);
            length != 0) {
            if (port.queue->send(Bytes(answer_).first(length))) {
                counters_.answered.add();
            } else {
                counters_.drops.add(DropReason::tx_full);
            }
            return;
        }
    }
    counters_.drops.add(decoded.verdict);
}

PortQueue* Lane::port_queue(unsigned number) noexcept {
    for (const Polled& port : ports_) {
        if (port.number == number) {
            return port.queue;
        }
    }
    return nullptr;
}

bool Lane::offer_to_sessions(const Polled& port, const Decoded& decoded) noexcept {
    LaneSessions* const sessions = options_.sessions.get();
    if (sessions == nullptr || !sessions->is_port(decoded.destination_port) ||
        !port.identity.accepts(decoded.destination)) {
        return false;
    }
    sessions->offer(decoded, port.number);
    return true;
}

DropReason Lane::take_datagram(const Polled& port, const Decoded& decoded) noexcept {
    if (!port.identity.accepts(decoded.destination)) {
        counters_.drops.add(DropReason::not_ours);
        return DropReason::not_ours;
    }
    const std::size_t door =
        options_.doors == nullptr ? DoorSet::npos : options_.doors->find(decoded.destination_port);
    if (door == DoorSet::npos) {
        counters_.drops.add(DropReason::no_door);
        return DropReason::no_door;
    }
    Door& entered = (*options_.doors)[door];
    if (!entered.spec().is_for(options_.index, decoded.destination_port)) {
        // The port could not steer it. Its records go to their shards' lanes as all others do.
        counters_.astray.add();
    }
    record_drop_ = DropReason::none;
    const DropReason reason = entered.take(
        decoded, now_ns_, [this, door](const DoorRecord& record) { take_record(door, record); });
    if (reason != DropReason::none) {
        counters_.drops.add(reason);  // the door has counted it for itself
        return reason;
    }
    return record_drop_;
}

void Lane::take_record(std::size_t door, const DoorRecord& record) noexcept {
    const StreamRoute* stream = routes_ == nullptr ? nullptr : routes_->of_door(door);
    const ShardRoute* route = stream == nullptr ? nullptr : stream->find(record.hash);
    if (route == nullptr) {
        drop_record(door, DropReason::stream_missing);
        return;
    }
    if (route->lane != options_.index) {
        hand_over(door, *route, record);
        return;
    }
    append_from_door(door, *stream, route->group, route->shard,
                     {record.key, record.data, nullptr, nullptr});
}

void Lane::hand_over(std::size_t door, const ShardRoute& route, const DoorRecord& record) noexcept {
    SpscByteRing* ring = route.lane < peers_.size() ? peers_[route.lane].out : nullptr;
    if (ring == nullptr) {
        drop_record(door, DropReason::unknown_shard);
        return;
    }
    const std::size_t bytes = sizeof(HandedRecord) + record.key.size() + record.data.size();
    const std::size_t margin =
        loudness_.is_loud(door, bytes) ? ring->size_bytes() / ring_margin_part : 0;
    std::byte* at = bytes > ring->record_bytes_max() ? nullptr : ring->claim(bytes, margin);
    if (at == nullptr) {
        drop_record(door, bytes > ring->record_bytes_max() ? DropReason::too_large
                                                           : DropReason::lane_ring_full);
        return;
    }
    store(at, HandedRecord{value(route.shard), value(route.group), static_cast<std::uint32_t>(door),
                           static_cast<std::uint32_t>(record.key.size()),
                           static_cast<std::uint32_t>(record.data.size())});
    at = std::copy(record.key.begin(), record.key.end(), at + sizeof(HandedRecord));
    std::copy(record.data.begin(), record.data.end(), at);
    counters_.handed_over.add();
}

void Lane::append_from_door(std::size_t door, const StreamRoute& stream, GroupId group_id,
                            ShardUid shard, RecordIn record) noexcept {
    if (const StreamSealers* sealers = stream.sealers(); sealers != nullptr) {
        record.sealer = sealers->of_lane(options_.index);
        if (record.sealer == nullptr) {
            drop_record(door, DropReason::key_unavailable);
            return;
        }
    }
    if (shard != last_shard_) {
        last_shard_ = shard;
        last_found_.group = group(group_id);
        last_found_.shard = last_found_.group == nullptr ? nullptr : last_found_.group->find(shard);
    }
    if (last_found_.shard == nullptr) {
        drop_record(door, DropReason::unknown_shard);
        return;
    }
    record.yields = loudness_.is_loud(door, record.data.size());
    // Best effort: nobody waits for the commit, so the level that always can be had is asked for.
    Appended appended;
    const AppendVerdict verdict =
        last_found_.group->append(*last_found_.shard, record, AckLevel::quorum, appended);
    if (verdict == AppendVerdict::accepted) {
        counters_.records_from_doors.add();
        return;
    }
    if (verdict == AppendVerdict::no_memory || verdict == AppendVerdict::no_room) {
        hold_packets();
    }
    shard_refused_ = shard_refused_ || verdict == AppendVerdict::shard_behind;
    drop_record(door, drop_reason(verdict));
}

void Lane::hold_packets() noexcept {
    if (hold_packets_until_ns_ == 0) {
        counters_.holds.add();
    }
    hold_packets_until_ns_ = now_ns_ + options_.no_memory_hold_ns;
}

void Lane::drop_record(std::size_t door, DropReason reason) noexcept {
    counters_.drops.add(reason);
    record_drop_ = reason;
    if (options_.doors != nullptr && door < options_.doors->size()) {
        (*options_.doors)[door].counters().drops.add(reason);
    }
}

std::size_t Lane::take_over() noexcept {
    std::size_t work = 0;
    for (Peer& peer : peers_) {
        if (peer.in == nullptr) {
            continue;
        }
        std::size_t taken = 0;
        for (; taken < options_.budgets.handed_over_records; ++taken) {
            const Bytes bytes = peer.in->front();
            if (bytes.data() == nullptr) {
                break;
            }
            take_handed(*peer.in, bytes);
        }
        if (taken != 0) {
            peer.in->release();
            counters_.taken_over.add(taken);
            work += taken;
        }
    }
    return work;
}

void Lane::take_handed(SpscByteRing& ring, Bytes bytes) noexcept {
    const auto head = load<HandedRecord>(bytes.data());
    const Bytes body = bytes.subspan(sizeof head);
    // Whether it must be sealed its stream says, and by routes no older than those by which it came
    // here: entered now. A stream that they don't have is being deleted.
    enter_routes();
    const StreamRoute* stream = routes_ == nullptr ? nullptr : routes_->of_door(head.door);
    if (stream == nullptr) {
        drop_record(head.door, DropReason::stream_missing);
    } else {
        append_from_door(head.door, *stream, static_cast<GroupId>(head.group),
                         static_cast<ShardUid>(head.shard),
                         {body.first(head.key_bytes), body.subspan(head.key_bytes, head.data_bytes),
                          nullptr, nullptr});
    }
    ring.pop();
}

void Lane::take_over_all() noexcept {
    for (Peer& peer : peers_) {
        if (peer.in == nullptr) {
            continue;
        }
        const std::uint64_t until = peer.in->handed_over_until();
        while (peer.in->popped_until() < until) {
            const Bytes bytes = peer.in->front();
            if (bytes.data() == nullptr) {
                break;
            }
            take_handed(*peer.in, bytes);
            counters_.taken_over.add();
        }
        peer.in->release();
    }
}

std::size_t Lane::run_groups() noexcept {
    std::size_t work = 0;
    {
        const AllowAllocScope chunk_lists_grow;
        for (const auto& group : groups_) {
            work += group->turn();
        }
    }
    if (engine_ != nullptr) {
        engine_->submit();
    }
    return work;
}

std::size_t Lane::reap() noexcept {
    if (engine_ == nullptr) {
        return 0;
    }
    std::size_t work = 0;
    while (work < options_.budgets.completions) {
        const std::size_t count = engine_->reap(completions_);
        for (const IoCompletion& completion : std::span(completions_).first(count)) {
            if (ShardGroup* owner = group(ShardGroup::group_of_cookie(completion.cookie));
                owner != nullptr) {
                const AllowAllocScope chunk_lists_grow;
                owner->complete(completion);
                continue;
            }
            counters_.foreign_completions.add();
            if (options_.on_foreign_completion != nullptr) {
                options_.on_foreign_completion(options_.on_foreign_completion_context, completion);
            }
        }
        work += count;
        if (count < completions_.size()) {
            break;
        }
    }
    if (work != 0) {
        hold_packets_until_ns_ = 0;
    }
    return work;
}

void Lane::count_io_calls() noexcept {
    if (engine_ == nullptr || engine_->calls() == io_calls_) {
        return;
    }
    const IoCalls& now = engine_->calls();
    counters_.io_submits.add(now.submits - io_calls_.submits);
    counters_.io_follow_ups.add(now.follow_ups - io_calls_.follow_ups);
    counters_.io_advances.add(now.advances - io_calls_.advances);
    io_calls_ = now;
}

void Lane::send_signals() noexcept {
    for (Peer& peer : peers_) {
        if (peer.out != nullptr && peer.out->commit()) {
            peer.wake->notify();
        }
    }
    for (ReplyRing* ring : touched_) {
        ring->signal();
    }
    touched_.clear();
}

void Lane::observe_commit(void* self, ShardUid shard, std::uint64_t latency_ns,
                          std::uint32_t records, std::uint64_t bytes) noexcept {
    Lane& lane = *static_cast<Lane*>(self);
    lane.counters_.commit_latency_ns.add(latency_ns, records);
    if (lane.options_.on_commit != nullptr) {
        lane.options_.on_commit(lane.options_.on_commit_context, shard, latency_ns, records, bytes);
    }
}

}  // namespace penstock
