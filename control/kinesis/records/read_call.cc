#include "control/kinesis/records/read_call.h"

#include <algorithm>

#include "control/kinesis/operations/encryption.h"
#include "control/kinesis/records/starting_position.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

// Plans that gave no record although there are some, and plans whose place was reused meanwhile,
// before the client is asked to come again.
constexpr unsigned rounds_max = 16;
constexpr unsigned stale_rounds_max = 5;
// What a plan may cover: everything a full answer can hold, or a few frames for a small one.
constexpr std::uint32_t plan_bytes_large = 11U << 20;
constexpr std::uint32_t plan_bytes_small = 1U << 20;
constexpr std::int64_t small_limit = 500;

std::string shard_id_of(const Shard& shard) {
    return format_shard_id(shard.number);
}

}  // namespace

OperationContext ReadCall::operation_context(Operation operation) const {
    return {context_.streams,
            context_.clock,
            context_.sealer,
            context_.options.account,
            reply_->region(),
            context_.options.regions,
            operation,
            reply_->caller(),
            context_.gate,
            0,
            context_.options.rates};
}

std::string ReadCall::where() const {
    return shard_id_of(*shard_) + " in stream " + view_->stream().shown() + " under account " +
           context_.options.account;
}

// -- GetShardIterator
// -------------------------------------------------------------------------------

ApiResult<const Shard*> ReadCall::find_shard(std::string_view id) const {
    const Stream& stream = view_->stream();
    const auto number = parse_shard_id(id);
    if (!number) {
        return std::unexpected(ApiError{"ResourceNotFoundException",
                                        "Could not find shard " + std::string(id) + " in stream " +
                                            stream.shown() + " under account " +
                                            context_.options.account + "."});
    }
    const Shard* shard = stream.shard(*number);
    // The shards of a stream that is CREATING aren't there yet, nor is a shard that is.
    if (shard == nullptr || stream.status == StreamStatus::creating ||
        shard->state == ShardState::creating) {
        return std::unexpected(
            shard_not_found(format_shard_id(*number), stream.name, context_.options.account));
    }
    return shard;
}

ApiStatus ReadCall::prepare_iterator() {
    Arena arena;
    GetShardIteratorInput input;
    if (auto fault = read_input({context_.parser, arena, reply_->body()}, input)) {
        return std::unexpected(std::move(*fault));
    }
    auto view = resolve_stream(operation_context(Operation::get_shard_iterator), input.stream);
    if (!view) {
        return std::unexpected(std::move(view.error()));
    }
    view_ = std::move(*view);
    const auto shard = find_shard(*input.shard);
    if (!shard) {
        return std::unexpected(shard.error());
    }
    shard_ = *shard;
    if (shard_->is_open() && !take_rate(operation_context(Operation::get_shard_iterator),
                                        view_->stream().name + "/" + shard_id_of(*shard_))) {
        return std::unexpected(rate_exceeded());
    }
    iterator_.stream = view_->stream().name;
    iterator_.incarnation = view_->stream().incarnation;
    iterator_.shard_number = shard_->number;
    const auto position = read_start(input);
    if (!position) {
        return std::unexpected(position.error());
    }
    if (input.dry_run) {
        return std::unexpected(dry_run_succeeded());
    }
    iterator_.sequence = position->sequence;
    iterator_.timestamp_ms = position->timestamp_ms;
    iterator_.kind = position->from == ReadFrom::sequence    ? ShardIterator::Kind::sequence
                     : position->from == ReadFrom::timestamp ? ShardIterator::Kind::timestamp
                                                             : ShardIterator::Kind::trim_horizon;
    if (position->from == ReadFrom::latest) {
        // Where the shard ends must be fixed now: what is put after this answer is to be found.
        status_request_.shard = shard_->uid;
        if (!context_.lanes.post(view_->lane_of(*shard_), status_request_, *this)) {
            return std::unexpected(rate_exceeded());
        }
    }
    return {};
}

ApiResult<ReadStart> ReadCall::read_start(const GetShardIteratorInput& input) const {
    const PositionInput asked{*input.type, input.sequence, input.timestamp_ms};
    const std::string type(asked.type);
    if (asked.is_by_sequence() != asked.sequence.has_value()) {
        return std::unexpected(invalid_argument(
            "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and "
            "StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
            "Request specified " +
            type +
            (asked.sequence ? " and also a StartingSequenceNumber."
                            : " and no StartingSequenceNumber.")));
    }
    if (asked.is_by_time() != asked.timestamp_ms.has_value()) {
        return std::unexpected(invalid_argument(
            "Must either specify AT_TIMESTAMP and Timestamp or another ShardIteratorType and no "
            "Timestamp. Request specified " +
            type + (asked.timestamp_ms ? " and also a Timestamp." : " and no Timestamp.")));
    }
    const auto position =
        read_position(asked, *shard_, where(), "GetShardIterator", context_.clock.wall_ms());
    if (!position) {
        return std::unexpected(position.error());
    }
    return position->start;
}

void ReadCall::start_iterator(std::unique_ptr<Reply> reply) {
    reply_ = std::move(reply);
    const std::size_t before = context_.lanes.outstanding();
    if (const auto ready = prepare_iterator(); !ready) {
        fail(ready.error());
        return finish();
    }
    if (context_.lanes.outstanding() == before) {
        answer_iterator();
        finish();
    }
}

void ReadCall::answer_iterator() {
    iterator_.issued_ms = context_.clock.wall_ms();
    answered_ = true;
    std::string body;
    with_writer(reply_->dialect(), body, [this](auto& writer) {
        writer.begin_object();
        writer.key("ShardIterator");
        writer.plain(encode_iterator(context_.sealer, iterator_));
        writer.end_object();
    });
    reply_->send(std::move(body));
}

// -- GetRecords
// -------------------------------------------------------------------------------------

ApiStatus ReadCall::prepare_records() {
    Arena arena;
    GetRecordsInput input;
    if (auto fault = read_input({context_.parser, arena, reply_->body()}, input)) {
        return std::unexpected(std::move(*fault));
    }
    auto iterator = decode_iterator(context_.sealer, *input.iterator);
    if (!iterator) {
        return std::unexpected(invalid_argument("Invalid ShardIterator."));
    }
    const std::int64_t now_ms = context_.clock.wall_ms();
    if (now_ms - iterator->issued_ms > token_life_ms) {
        return std::unexpected(ApiError{
            "ExpiredIteratorException",
            "Iterator expired. The iterator was created at time " +
                format_time(iterator->issued_ms) + " while right now it is " + format_time(now_ms) +
                " which is further in the future than the tolerated delay of " +
                std::to_string(token_life_ms) + " milliseconds."});
    }
    iterator_ = std::move(*iterator);
    const std::string shard_id = format_shard_id(iterator_.shard_number);
    const OperationContext context = operation_context(Operation::get_records);
    if (input.stream.arn || input.stream.name) {
        const auto name = resolve_name(context, input.stream);
        if (!name) {
            return std::unexpected(name.error());
        }
        if (*name != iterator_.stream) {
            return std::unexpected(
                invalid_argument("StreamARN names stream " + std::string(shown_name(*name)) +
                                 " but the ShardIterator is of stream " +
                                 std::string(shown_name(iterator_.stream)) + "."));
        }
    }
    if (!context.is_of_region(iterator_.stream)) {
        return std::unexpected(invalid_argument("Invalid ShardIterator."));
    }
    view_ = context_.streams.find(iterator_.stream);
    if (auto allowed = authorize(context, iterator_.stream, view_.get()); !allowed) {
        return allowed;
    }
    if (!view_ || view_->stream().incarnation != iterator_.incarnation ||
        view_->stream().shard(iterator_.shard_number) == nullptr) {
        return std::unexpected(
            shard_not_found(shard_id, iterator_.stream, context_.options.account));
    }
    shard_ = view_->stream().shard(iterator_.shard_number);
    ShardQuotas* quotas = context_.options.quotas;
    if (quotas != nullptr && view_->stream().mode == StreamMode::provisioned) {
        const std::uint64_t now_ns = context_.clock.monotonic_ns();
        if (input.dry_run && !quotas->has_read(shard_->uid, now_ns)) {
            return std::unexpected(rate_exceeded());
        }
        if (!input.dry_run && !quotas->begin_read(shard_->uid, now_ns)) {
            return std::unexpected(throttled_read());
        }
    }
    limit_ = input.limit.value_or(get_records_count_max);
    return input.dry_run ? ApiStatus(std::unexpected(dry_run_succeeded())) : ApiStatus();
}

void ReadCall::start_records(std::unique_ptr<Reply> reply) {
    reply_ = std::move(reply);
    if (const auto ready = prepare_records(); !ready) {
        fail(ready.error());
        return finish();
    }
    dialect_ = reply_->dialect();
    writer().begin_object();
    writer().key("Records");
    writer().begin_array();
    next_ = iterator_.sequence;
    plan_request_.shard = shard_->uid;
    plan_request_.max_bytes = limit_ > small_limit ? plan_bytes_large : plan_bytes_small;
    switch (iterator_.kind) {
        case ShardIterator::Kind::sequence:
            plan_request_.start = {ReadFrom::sequence, next_, 0};
            break;
        case ShardIterator::Kind::timestamp:
            plan_request_.start = {ReadFrom::timestamp, 0, iterator_.timestamp_ms};
            break;
        case ShardIterator::Kind::trim_horizon:
            plan_request_.start = {ReadFrom::trim_horizon, 0, 0};
            break;
    }
    ask_plan();
}

void ReadCall::ask_plan() {
    ++rounds_;
    if (!context_.lanes.post(view_->lane_of(*shard_), plan_request_, *this)) {
        fail(throttled_read());
        finish();
    }
}

void ReadCall::on_reply(LaneRequest& request) {
    if (&request == &status_request_) {
        if (request.outcome != Errc::ok) {
            fail(lane_failure(request.outcome));
        } else {
            iterator_.kind = ShardIterator::Kind::sequence;
            iterator_.sequence = status_request_.status.end_sequence;
            answer_iterator();
        }
        return finish();
    }
    if (lease_return_.take_reply(request)) {
        holds_lease_ = false;
        if (plans_again_) {
            plans_again_ = false;
            return ask_plan();
        }
        return finish();
    }
    on_plan();
}

void ReadCall::on_plan() {
    if (plan_request_.outcome == Errc::trimmed &&
        plan_request_.start.from != ReadFrom::trim_horizon) {
        // What the iterator pointed at has expired; the oldest record kept is next.
        plan_request_.start = {ReadFrom::trim_horizon, 0, 0};
        return ask_plan();
    }
    if (plan_request_.outcome != Errc::ok) {
        fail(lane_failure(plan_request_.outcome));
        return finish();
    }
    holds_lease_ = plan_request_.plan.frame_count != 0;
    const Next next = read_plan();
    if (next == Next::plan_again) {
        // What was planned from a time or the horizon goes on from where it came to.
        plan_request_.start = {ReadFrom::sequence, next_, 0};
        if (!holds_lease_) {
            return ask_plan();
        }
        plans_again_ = true;
        return release();
    }
    if (next == Next::failed) {
        fail(failure_);
    } else {
        answer_records();
    }
    holds_lease_ ? release() : finish();
}

bool ReadCall::take(RecordsOfShard& records, const RecordView& record) {
    if (record.sequence >= plan_request_.plan.end_sequence) {
        return false;
    }
    if (record.arrival_ms < iterator_.timestamp_ms) {
        next_ = record.sequence + 1;
        return true;
    }
    const std::uint64_t size = record.data.size() + record.partition_key.size();
    if (count_ == limit_ || (count_ != 0 && bytes_ + size > get_records_bytes_max)) {
        is_full_ = true;
        return false;
    }
    RecordView clear = record;
    const bool was_sealed = !record.seal.empty();
    if (!records.open(clear)) {
        is_full_ = true;
        return false;
    }
    const SequenceNumber number = shard_->sequence_number(record.sequence, record.arrival_ms);
    if (dialect_ == Dialect::json) [[likely]] {
        write_record(json_, numbers_, number, clear, was_sealed);
    } else {
        write_record(cbor_, numbers_, number, clear, was_sealed);
    }
    ++count_;
    bytes_ += size;
    last_arrival_ms_ = record.arrival_ms;
    next_ = record.sequence + 1;
    return true;
}

ReadCall::Next ReadCall::read_plan() {
    const ReadPlan& plan = plan_request_.plan;
    next_ = std::max(next_, plan.first_sequence);
    ReadOutcome outcome;
    RecordsOfShard records(context_, view_->stream().name, *shard_);
    const Status done = context_.records.read(
        plan, [&](const RecordView& record) { return take(records, record); }, outcome);
    if (!is_full_) {
        next_ = std::max(next_, std::min(outcome.next_sequence, plan.end_sequence));
    }
    if (!done) {
        if (count_ != 0) {
            return Next::answer;  // what was read is good; the next call meets the fault
        }
        const bool known = plan.lost_until > next_;
        const std::string until = known ? " to " + std::to_string(plan.lost_until - 1) : "";
        const auto number = [this](Sequence index) {
            return format_sequence_number(shard_->sequence_number(index, shard_->created_s * 1000));
        };
        const std::string sequence =
            number(next_) + (known ? " to " + number(plan.lost_until - 1) : "");
        failure_ =
            done.error().code == Errc::lost
                ? internal_failure("No replica has an intact copy of the records from index " +
                                   std::to_string(next_) + until + " of shard " + where() +
                                   " (sequence numbers from " + sequence +
                                   "). Bring back a replica that has them, or go on with an "
                                   "iterator behind that range.")
                : internal_failure("Shard " + where() +
                                   " could not be read: " + describe(done.error()) + ".");
        failure_.type = "InternalFailureException";
        return Next::failed;
    }
    if (records.is_refused() && count_ == 0) {
        failure_ = records.refuse();
        return Next::failed;
    }
    if (is_full_) {
        return Next::answer;
    }
    caught_up_ = next_ >= plan.end_sequence;
    if (caught_up_ || count_ != 0) {
        return Next::answer;
    }
    stale_rounds_ += outcome.stale ? 1 : 0;
    if (stale_rounds_ > stale_rounds_max) {
        failure_ = throttled("The place of the records of shard " + where() +
                             " changed too often while they were read. Call again.");
        return Next::failed;
    }
    // An empty answer is no error: the client comes again from where this one came to.
    return rounds_ < rounds_max ? Next::plan_again : Next::answer;
}

void ReadCall::answer_records() {
    const std::int64_t now_ms = context_.clock.wall_ms();
    ReplyWriter& reply = writer();
    reply.end_array();
    // A closed shard gets no more records, so its end is where the committed ones end.
    const bool at_end = shard_->closing_index && (caught_up_ || next_ >= *shard_->closing_index);
    if (!at_end) {
        ShardIterator next = iterator_;
        next.kind = ShardIterator::Kind::sequence;
        next.sequence = next_;
        next.issued_ms = now_ms;
        reply.key("NextShardIterator");
        reply.plain(encode_iterator(context_.sealer, next));
    }
    std::int64_t behind_ms = 0;
    if (!caught_up_) {
        const std::int64_t seen_ms = count_ != 0 ? last_arrival_ms_ : iterator_.timestamp_ms;
        behind_ms = seen_ms == 0 ? 0 : std::max<std::int64_t>(now_ms - seen_ms, 0);
    }
    if (view_->stream().shard_metrics != 0) {
        context_.streams.meter().read(shard_->uid, static_cast<std::uint64_t>(count_), bytes_,
                                      static_cast<std::uint64_t>(behind_ms));
    }
    reply.key("MillisBehindLatest");
    reply.number(behind_ms);
    if (at_end) {
        reply.key("ChildShards");
        write_child_shards(reply, view_->stream(), *shard_);
    }
    reply.end_object();
    if (context_.options.quotas != nullptr && view_->stream().mode == StreamMode::provisioned) {
        context_.options.quotas->spend_read(shard_->uid, bytes_, context_.clock.monotonic_ns());
    }
    answered_ = true;
    reply_->send(std::move(body_));
}

ApiError ReadCall::lane_failure(Errc why) const {
    switch (why) {
        case Errc::not_found:
            return shard_not_found(shard_id_of(*shard_), view_->stream().name,
                                   context_.options.account);
        case Errc::no_memory_room:
        case Errc::unavailable:
            return throttled_read();
        default: {
            ApiError error =
                internal_failure("Shard " + where() + " could not be read: " + describe(why) + ".");
            error.type = "InternalFailureException";
            return error;
        }
    }
}

ApiError ReadCall::throttled_read() const {
    if (view_->stream().shard_metrics != 0) {
        context_.streams.meter().refuse_read(shard_->uid);
    }
    return rate_exceeded();
}

ApiError ReadCall::rate_exceeded() const {
    return throttled("Rate exceeded for shard " + where() + ".");
}

void ReadCall::fail(const ApiError& error) {
    answered_ = true;
    reply_->send(error);
}

void ReadCall::release() {
    lease_return_.start(view_->lane_of(*shard_), shard_->uid, plan_request_.plan, *this);
}

void ReadCall::finish() {
    context_.owner.done(*this);
}

}  // namespace penstock::kinesis
