#include "control/kinesis/fan_out/subscription.h"

#include <algorithm>
#include <limits>

#include "control/kinesis/operations/encryption.h"
#include "control/kinesis/records/shard_tail.h"
#include "control/kinesis/records/starting_position.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

// The rate of a consumer may be this far ahead of itself.
constexpr std::uint64_t burst_us = 1'000'000;
constexpr std::uint64_t full_retry_ms = 2;
constexpr std::uint64_t quorum_retry_ms = 250;
// Plans whose place was reused meanwhile, before it is an error.
constexpr unsigned stale_rounds_max = 20;
// Plans that led to nothing in a row, before the lane is left alone for a while.
constexpr unsigned idle_rounds_max = 3;
constexpr std::uint64_t idle_retry_ms = 20;
constexpr std::size_t message_bytes = 512;

// What the connection has of a subscription, which may end before it and after it.
class SubscriptionBody final : public http::BodyStream {
public:
    explicit SubscriptionBody(std::shared_ptr<Subscription*> link) : link_(std::move(link)) {}
    ~SubscriptionBody() override {
        if (*link_ != nullptr) {
            (*link_)->on_body_gone();
        }
    }
    Next next(http::BodyPiece& piece) override {
        return *link_ == nullptr ? Next::end : (*link_)->next(piece);
    }

private:
    std::shared_ptr<Subscription*> link_;
};

}  // namespace

Subscription::~Subscription() {
    *link_ = nullptr;
    fan_out_.context().loop.cancel(timer_);
    give_place_back();
}

std::string Subscription::where() const {
    return format_shard_id(shard_.number) + " in stream " + view_->stream().shown() +
           " under account " + fan_out_.context().options.account;
}

Sequence Subscription::closing_index() const noexcept {
    return shard_.closing_index.value_or(std::numeric_limits<Sequence>::max());
}

// -- The request
// ------------------------------------------------------------------------------------

ApiStatus Subscription::prepare(Reply& reply) {
    const ServiceContext& context = fan_out_.context();
    Arena arena;
    SubscribeInput input;
    if (auto fault = read_input({context.parser, arena, reply.body()}, input)) {
        return std::unexpected(std::move(*fault));
    }
    const OperationContext operation{context.streams,
                                     context.clock,
                                     context.sealer,
                                     context.options.account,
                                     reply.region(),
                                     context.options.regions,
                                     Operation::subscribe_to_shard,
                                     reply.caller(),
                                     context.gate,
                                     0,
                                     context.options.rates};
    ConsumerInput by_arn;
    by_arn.arn = input.consumer_arn;
    const auto found = resolve_consumer(operation, by_arn);
    if (!found) {
        return std::unexpected(found.error());
    }
    view_ = found->view;
    consumer_number_ = found->consumer->number;
    consumer_name_ = found->consumer->name;
    const Stream& stream = view_->stream();
    const auto number = parse_shard_id(*input.shard);
    const Shard* shard = number ? stream.shard(*number) : nullptr;
    if (shard == nullptr) {
        return std::unexpected(
            shard_not_found(number ? format_shard_id(*number) : std::string(*input.shard),
                            stream.name, context.options.account));
    }
    shard_ = *shard;
    if (auto taken = take_rate(operation, stream.name + "/" + std::to_string(consumer_number_) +
                                              "/" + std::to_string(shard_.number));
        !taken) {
        return taken;
    }
    place_ = {stream.incarnation, consumer_number_, shard_.number};
    auto placed = place(input);
    return placed && input.dry_run ? ApiStatus(std::unexpected(dry_run_succeeded())) : placed;
}

ApiStatus Subscription::place(const SubscribeInput& input) {
    const PositionInput asked{*input.type, input.sequence, input.timestamp_ms};
    const std::string type(asked.type);
    if (asked.is_by_sequence() != asked.sequence.has_value()) {
        return std::unexpected(invalid_argument(
            "StartingPosition of type " + type +
            (asked.sequence ? " takes no SequenceNumber." : " needs a SequenceNumber.")));
    }
    if (asked.is_by_time() != asked.timestamp_ms.has_value()) {
        return std::unexpected(invalid_argument(
            "StartingPosition of type " + type +
            (asked.timestamp_ms ? " takes no Timestamp." : " needs a Timestamp.")));
    }
    const auto position = read_position(asked, shard_, where(), "SubscribeToShard",
                                        fan_out_.context().clock.wall_ms());
    if (!position) {
        return std::unexpected(position.error());
    }
    start_ = position->start;
    from_ms_ = start_.timestamp_ms;
    if (position->at) {
        passed_index_ = position->at->index;
        passed_before_s_ = position->at->written_s;
    }
    return {};
}

ApiStatus Subscription::take_place() {
    // The plan is asked for before the answer: what the client puts once it has that comes behind
    // this position. And before another subscription is ended, since this may not come to be.
    const auto taken = fan_out_.take_place(place_, id_, [this] {
        ask_plan();
        return plan_is_out_;
    });
    if (taken) {
        ticket_ = *taken;
        return {};
    }
    if (taken.error() == SubscriptionTable::Refusal::not_begun) {
        return std::unexpected(
            ApiError{"LimitExceededException", "Rate exceeded for shard " + where() + "."});
    }
    return std::unexpected(ApiError{"ResourceInUseException",
                                    "Another active subscription exists for this consumer: " +
                                        fan_out_.context().options.account + ":" +
                                        view_->stream().shown() + ":" + consumer_name_});
}

void Subscription::give_place_back() {
    if (ticket_) {
        fan_out_.context().options.subscriptions->give_back(place_, *ticket_);
        ticket_.reset();
    }
}

void Subscription::start(std::unique_ptr<Reply> reply) {
    const std::uint64_t now_ms = fan_out_.context().loop.now_ms();
    started_ms_ = now_ms;
    event_ms_ = now_ms;
    waker_ = reply->waker();
    queue(fan_out_.hold(initial_response()));
    // The peer may be gone already, and then this is too.
    reply->send_events(std::make_unique<SubscriptionBody>(link_));
}

// -- The connection
// ---------------------------------------------------------------------------------

http::BodyStream::Next Subscription::next(http::BodyPiece& piece) {
    if (queue_.empty() && !ended_) {
        wants_ = true;
        in_next_ = true;
        go_on();
        in_next_ = false;
    }
    if (queue_.empty()) {
        return ended_ ? http::BodyStream::Next::end : http::BodyStream::Next::later;
    }
    wants_ = false;
    piece = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= piece->size();
    return http::BodyStream::Next::piece;
}

void Subscription::on_body_gone() {
    body_gone_ = true;
    end(SubscriptionEnd::disconnected);
    queue_.clear();
    queued_bytes_ = 0;
    fan_out_.drop_if_done(*this);
}

void Subscription::queue(http::BodyPiece piece) {
    queued_bytes_ += piece->size();
    queue_.push_back(std::move(piece));
    if (wants_ && !in_next_) {
        waker_->wake();
    }
}

void Subscription::count_event() {
    had_event_ = true;
    event_ms_ = fan_out_.context().loop.now_ms();
    fan_out_.counters().events.fetch_add(1, std::memory_order_relaxed);
}

void Subscription::queue_event(std::string&& message) {
    count_event();
    queue(fan_out_.hold(std::move(message)));
}

std::int64_t Subscription::behind_ms() const {
    const std::int64_t now_ms = fan_out_.context().clock.wall_ms();
    const std::int64_t seen_ms = last_arrival_ms_ != 0 ? last_arrival_ms_ : from_ms_;
    return caught_up_ || tail_ != nullptr || seen_ms == 0
               ? 0
               : std::max<std::int64_t>(now_ms - seen_ms, 0);
}

void Subscription::queue_empty_event() {
    EventWriter writer(message_bytes);
    const std::int64_t now_ms = fan_out_.context().clock.wall_ms();
    queue_event(writer.finish(shard_, next_, std::max(now_ms, last_arrival_ms_), behind_ms()));
}

// -- Ends
// -------------------------------------------------------------------------------------------

void Subscription::end(SubscriptionEnd why) {
    if (ended_) {
        return;
    }
    ended_ = true;
    leave_tail();
    give_place_back();
    fan_out_.counters().ended[static_cast<std::size_t>(why)].fetch_add(1,
                                                                       std::memory_order_relaxed);
    if (wants_ && !in_next_ && !body_gone_) {
        waker_->wake();
    }
}

void Subscription::fail(const ApiError& error, SubscriptionEnd why) {
    if (!ended_) {
        queue(fan_out_.hold(exception_event(error)));
        end(why);
    }
}

void Subscription::finish_shard(EventWriter&& writer) {
    charge(writer.bytes(), writer.records());
    queue_event(writer.finish_last(view_->stream(), shard_, 0));
    end(SubscriptionEnd::shard_end);
}

void Subscription::on_taken_over() {
    if (!ended_) {
        // The client goes on elsewhere; what it did not take here comes there.
        queue_.clear();
        queued_bytes_ = 0;
        fail({"ResourceInUseException", "Another subscription of consumer " + consumer_name_ +
                                            " to shard " + where() + " has taken over."},
             SubscriptionEnd::taken_over);
    }
}

void Subscription::on_stream_changed() {
    if (ended_) {
        return;
    }
    const ServiceContext& context = fan_out_.context();
    auto now = context.streams.find(stream_name());
    if (!now || now->stream().incarnation != place_.stream ||
        now->stream().status == StreamStatus::deleting) {
        return fail(stream_not_found(stream_name(), context.options.account),
                    SubscriptionEnd::gone);
    }
    const Shard* shard = now->stream().shard(shard_.number);
    if (shard == nullptr) {
        return fail(
            shard_not_found(format_shard_id(shard_.number), stream_name(), context.options.account),
            SubscriptionEnd::gone);
    }
    if (now->stream().consumer(consumer_number_) == nullptr) {
        return fail({"ResourceNotFoundException", "Consumer " + consumer_name_ + " under stream " +
                                                      view_->stream().shown() + " under account " +
                                                      context.options.account + " not found."},
                    SubscriptionEnd::gone);
    }
    view_ = std::move(now);
    shard_ = *shard;
    if (placed_ && is_at_shard_end() && !plan_is_out_) {
        finish_shard(EventWriter(message_bytes));
    }
}

void Subscription::look(std::uint64_t now_ms) {
    const FanOutOptions& options = fan_out_.options();
    if (ended_) {
        return;
    }
    if (now_ms - started_ms_ >= options.life_ms) {
        end(SubscriptionEnd::expired);
    } else if (wants_ && placed_ && queue_.empty() && now_ms - event_ms_ >= options.quiet_ms_max) {
        queue_empty_event();
    }
}

// -- The rate
// ---------------------------------------------------------------------------------------

void Subscription::charge(std::uint64_t bytes, std::uint32_t records) {
    FanOutCounters& counters = fan_out_.counters();
    counters.records.fetch_add(records, std::memory_order_relaxed);
    counters.bytes.fetch_add(bytes, std::memory_order_relaxed);
    const std::uint64_t rate = fan_out_.options().rate_bytes_per_s;
    if (rate == 0 || view_->stream().mode != StreamMode::provisioned) {
        return;
    }
    const std::uint64_t now_us = fan_out_.context().loop.now_ms() * 1000;
    paid_until_us_ = std::max(paid_until_us_, now_us) + bytes * 1'000'000 / rate;
}

std::uint64_t Subscription::wait_ms() const noexcept {
    const std::uint64_t free_us = fan_out_.context().loop.now_ms() * 1000 + burst_us;
    return paid_until_us_ <= free_us ? 0 : (paid_until_us_ - free_us) / 1000 + 1;
}

// -- Records
// ----------------------------------------------------------------------------------------

bool Subscription::push(const SharedEvent& event) {
    if (next_ >= event.next) {
        return false;  // has them
    }
    const bool has_room =
        queue_.empty() || (!fan_out_.is_tight() && queued_bytes_ + event.piece->size() <=
                                                       fan_out_.options().queued_bytes_max);
    if (next_ != event.from || !has_room || wait_ms() != 0 || event.first_arrival_ms < from_ms_ ||
        (event.from == passed_index_ && passed_before_s_ != 0)) {
        sent_away();
        return false;
    }
    next_ = event.next;
    last_arrival_ms_ = std::max(last_arrival_ms_, event.last_arrival_ms);
    charge(event.bytes, event.records);
    count_event();
    queue(event.piece);
    if (is_at_shard_end()) {
        finish_shard(EventWriter(message_bytes));
    }
    return true;
}

void Subscription::leave_tail() {
    if (tail_ != nullptr) {
        ShardTail* const left = tail_;
        tail_ = nullptr;
        left->leave(*this);
    }
}

void Subscription::sent_away() {
    leave_tail();
    caught_up_ = false;
    if (wants_) {
        go_on();
    }
}

void Subscription::go_on() {
    if (ended_ || body_gone_ || plan_is_out_ || lease_return_.is_out() || timer_runs_ ||
        tail_ != nullptr || !queue_.empty()) {
        return;
    }
    if (!placed_) {
        return ask_plan();
    }
    if (is_at_shard_end()) {
        return finish_shard(EventWriter(message_bytes));
    }
    if (const std::uint64_t delay_ms = wait_ms(); delay_ms != 0) {
        return retry_after(delay_ms);
    }
    if (caught_up_) {
        ShardTail& tail = fan_out_.tail_of(*view_, shard_);
        tail_ = &tail;
        if (tail.join(*this, next_)) {
            return;
        }
        tail_ = nullptr;
        caught_up_ = false;
    }
    ask_plan();
}

void Subscription::retry_after(std::uint64_t delay_ms) {
    if (timer_runs_) {
        return;
    }
    timer_runs_ = true;
    timer_ = fan_out_.context().loop.run_after(delay_ms, [this] {
        timer_runs_ = false;
        if (wants_) {
            go_on();
        }
    });
}

void Subscription::ask_plan() {
    plan_request_.shard = shard_.uid;
    plan_request_.start = placed_ ? ReadStart{ReadFrom::sequence, next_, 0} : start_;
    plan_request_.max_bytes = static_cast<std::uint32_t>(fan_out_.event_bytes_max());
    plan_is_out_ = fan_out_.lanes().post(view_->lane_of(shard_), plan_request_, *this);
    if (!plan_is_out_) {
        retry_after(full_retry_ms);
    }
}

void Subscription::on_reply(LaneRequest& request) {
    if (!lease_return_.take_reply(request)) {
        plan_is_out_ = false;
        on_plan();
    }
    if (body_gone_) {
        return fan_out_.drop_if_done(*this);
    }
    if (wants_) {
        go_on();
    }
}

void Subscription::on_plan() {
    const Errc outcome = plan_request_.outcome;
    if (outcome == Errc::ok) {
        if (!ended_) {
            read_plan();
        }
        if (plan_request_.plan.frame_count != 0) {
            lease_return_.start(view_->lane_of(shard_), shard_.uid, plan_request_.plan, *this);
        }
        return;
    }
    if (ended_) {
        return;
    }
    const ServiceContext& context = fan_out_.context();
    switch (outcome) {
        case Errc::trimmed:
            start_ = {ReadFrom::trim_horizon, 0, 0};
            placed_ = false;
            return;
        case Errc::no_memory_room:
        case Errc::not_enough_replicas:
        case Errc::unavailable:
            return retry_after(quorum_retry_ms);
        case Errc::not_found:
            return fail(shard_not_found(format_shard_id(shard_.number), stream_name(),
                                        context.options.account),
                        SubscriptionEnd::gone);
        case Errc::canceled:
            return end(SubscriptionEnd::stopped);
        default:
            return fail({"InternalFailureException",
                         "Shard " + where() + " could not be read: " + describe(outcome) + "."},
                        SubscriptionEnd::failed);
    }
}

// False: the record is left for the next event.
bool Subscription::take(EventWriter& writer, RecordsOfShard& records, const RecordView& record) {
    const bool was_sent =
        record.sequence == passed_index_ && record.arrival_ms / 1000 < passed_before_s_;
    if (record.arrival_ms >= from_ms_ && !was_sent) {
        const std::uint64_t size = record.data.size() + record.partition_key.size();
        if (writer.records() != 0 && (writer.bytes() + size > fan_out_.event_bytes_max() ||
                                      writer.records() == event_records_max)) {
            return false;
        }
        RecordView clear = record;
        if (!records.open(clear)) {
            return false;
        }
        writer.add(shard_, clear, !record.seal.empty());
    }
    next_ = record.sequence + 1;
    return true;
}

void Subscription::read_plan() {
    const ServiceContext& context = fan_out_.context();
    const ReadPlan& plan = plan_request_.plan;
    next_ = placed_ ? std::max(next_, plan.first_sequence) : plan.first_sequence;
    placed_ = true;
    const Sequence before = next_;
    bool is_full = false;
    ReadOutcome outcome;
    EventWriter writer(message_bytes);
    RecordsOfShard records(context, stream_name(), shard_);
    const Status done = context.records.read(
        plan,
        [&](const RecordView& record) {
            if (record.sequence >= plan.end_sequence) {
                return false;
            }
            is_full = !take(writer, records, record);
            return !is_full;
        },
        outcome);
    if (!is_full) {
        next_ = std::max(next_, std::min(outcome.next_sequence, plan.end_sequence));
    }
    if (!done && writer.records() == 0) {
        if (done.error().code == Errc::lost) {
            return fail({"InternalFailureException",
                         "No replica has an intact copy of the records from index " +
                             std::to_string(next_) +
                             (plan.lost_until > next_ ? " to " + std::to_string(plan.lost_until - 1)
                                                      : std::string()) +
                             " of shard " + where() +
                             ". Bring back a replica that has them, or subscribe behind them."},
                        SubscriptionEnd::failed);
        }
        return fail({"InternalFailureException",
                     "Shard " + where() + " could not be read: " + describe(done.error()) + "."},
                    SubscriptionEnd::failed);
    }
    if (records.is_refused() && writer.records() == 0) {
        return fail(records.refuse(), SubscriptionEnd::failed);
    }
    const bool moved = next_ != before || writer.records() != 0;
    idle_rounds_ = moved ? 0 : idle_rounds_ + 1;
    stale_rounds_ = outcome.stale && writer.records() == 0 ? stale_rounds_ + 1 : 0;
    if (stale_rounds_ > stale_rounds_max) {
        return fail({"InternalFailureException", "The place of the records of shard " + where() +
                                                     " changed too often while they were read. "
                                                     "Subscribe again."},
                    SubscriptionEnd::failed);
    }
    caught_up_ = next_ >= plan.end_sequence;
    if (is_at_shard_end()) {
        return finish_shard(std::move(writer));
    }
    if (writer.records() != 0) {
        last_arrival_ms_ = writer.last_arrival_ms();
        charge(writer.bytes(), writer.records());
        queue_event(writer.finish(shard_, next_, context.clock.wall_ms(), behind_ms()));
    } else if (caught_up_ && !had_event_) {
        // The first one tells the client that the subscription stands, and where.
        queue_empty_event();
    } else if (!caught_up_ && idle_rounds_ > idle_rounds_max) {
        retry_after(idle_retry_ms);
    }
}

}  // namespace penstock::kinesis
