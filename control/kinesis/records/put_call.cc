#include "control/kinesis/records/put_call.h"

#include <algorithm>
#include <array>

#include "control/kinesis/operations/encryption.h"
#include "control/kinesis/reply/record_reply.h"
#include "control/kinesis/stream/shard_id.h"
#include "dataplane/wire/partition_hash.h"
#include "storage/base/check.h"

namespace penstock::kinesis {

namespace {

// Kept between requests; a larger arena is freed.
constexpr std::size_t arena_keep_bytes = 2U << 20;
// Characters of one record's part of an answer, for reserving.
constexpr std::size_t answer_bytes_per_record = 128;
// 2^64 divided by the golden ratio.
constexpr std::uint64_t spread_step = 0x9e37'79b9'7f4a'7c15;

std::string member_of(std::size_t record, bool many, std::string_view name) {
    return many ? "records." + std::to_string(record + 1) + ".member." + std::string(name)
                : std::string(name);
}

ApiStatus check_size(const Stream& stream, const PutEntry& entry, std::size_t record, bool many) {
    const std::uint64_t limit = std::uint64_t{stream.max_record_kib} * 1024;
    const std::uint64_t data = entry.data->size();
    const std::uint64_t key = entry.partition_key ? entry.partition_key->size() : 0;
    if (data > limit) {
        const std::string size = std::to_string(data);
        Checks checks;
        checks.add(member_of(record, many, "data"),
                   "java.nio.HeapByteBuffer[pos=0 lim=" + size + " cap=" + size + "]",
                   "Member must have length less than or equal to " + std::to_string(limit));
        return std::unexpected(*checks.result());
    }
    if (data + key > limit) {
        return std::unexpected(invalid_argument(
            "Data and PartitionKey of " + member_of(record, many, "data") + " are together " +
            std::to_string(data + key) + " bytes; stream " + stream.shown() +
            " takes records of up to " + std::to_string(limit) + " bytes."));
    }
    return {};
}

// The places of all partition keys.
void hash_keys(std::span<const PutEntry> entries, std::span<Hash128> out) {
    std::array<Bytes, 64> keys;
    for (std::size_t at = 0; at < entries.size(); at += keys.size()) {
        const std::size_t count = std::min(entries.size() - at, keys.size());
        for (std::size_t i = 0; i < count; ++i) {
            const PutEntry& entry = entries[at + i];
            keys[i] = entry.explicit_hash ? Bytes{} : as_bytes(entry.partition_key.value_or(""));
        }
        partition_hashes(std::span(keys).first(count), out.subspan(at, count));
    }
}

// Of an entry whose key has been hashed.
ApiResult<Hash128> hash_of(const PutEntry& entry, const Hash128& hash_of_key) {
    if (!entry.explicit_hash) {
        return hash_of_key;
    }
    const auto hash = parse_hash_key(*entry.explicit_hash);
    if (!hash) {
        return std::unexpected(
            invalid_argument("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, "
                             "2^128-1]. Specified "
                             "value was " +
                             std::string(*entry.explicit_hash)));
    }
    return *hash;
}

// Sorted, this gives the records of a lane, then of a shard, then in the order given.
std::uint64_t order_key(unsigned lane, std::uint32_t route, std::size_t record) noexcept {
    return std::uint64_t{lane} << 48 | std::uint64_t{route} << 16 | record;
}

void choose_shard(std::size_t record, PutPlan& out) {
    const StreamView& view = *out.views.back();
    const auto target = view.find(out.hashes[record]);
    out.places[record].shard = &view.stream().shards[target.shard_index];
    out.places[record].over_quota = false;
    out.places[record].stage = PutPlan::Place::Stage::routed;
    out.order.push_back(order_key(target.route->lane, target.route_index, record));
}

// Takes the chosen records from their shards' quotas; what is over goes out of `order`. After one
// record of a shard all later ones are over, too: none must overtake it.
void apply_quota(std::span<const PutEntry> entries, const QuotaCheck& check, PutPlan& out) {
    out.over_quota.clear();
    const auto is_over = [&](ShardUid shard) {
        return std::ranges::find(out.over_quota, shard) != out.over_quota.end();
    };
    std::erase_if(out.order, [&](std::uint64_t key) {
        const std::size_t record = key & 0xffff;
        const PutEntry& entry = entries[record];
        PutPlan::Place& place = out.places[record];
        const ShardUid shard = place.shard->uid;
        if (is_over(shard)) {
            check.quotas->refuse_write();
            place.over_quota = true;
        } else if (!check.quotas->take_write(
                       shard, entry.data->size() + entry.partition_key.value_or("").size(),
                       check.now_ns)) {
            out.over_quota.push_back(shard);
            place.over_quota = true;
        }
        return place.over_quota;
    });
}

// Adds requests with the records that `order` names, by lane and shard.
void make_requests(std::span<const PutEntry> entries, AckLevel level, PutPlan& out) {
    const bool spreads = out.stream().distribution == Distribution::automatic;
    // The views, which keep the sealers, live until every request is back.
    const StreamSealers* sealers = out.views.back()->route()->sealers();
    std::sort(out.order.begin(), out.order.end());
    AppendRequest* request = nullptr;
    std::uint64_t last_key = 0;
    for (const std::uint64_t key : out.order) {
        const std::size_t record = key & 0xffff;
        const auto lane = static_cast<unsigned>(key >> 48);
        if (request == nullptr || lane != out.lanes.back()) {
            out.lanes.push_back(lane);
            if (out.requests.size() < out.lanes.size()) {
                out.requests.push_back(std::make_unique<AppendRequest>());
            }
            request = out.requests[out.lanes.size() - 1].get();
            request->level = level;
            request->items.clear();
            request->runs.clear();
            request->runs_pending = 0;
            request->next_run = 0;
            request->next_item = 0;
        }
        if (request->runs.empty() || key >> 16 != last_key >> 16) {
            AppendRequest::Run& run = request->runs.emplace_back();
            run.shard = out.places[record].shard->uid;
            run.first_item = static_cast<std::uint32_t>(request->items.size());
        }
        last_key = key;
        const PutEntry& entry = entries[record];
        AppendRequest::Item& item = request->items.emplace_back();
        item.record.partition_key = as_bytes(entry.partition_key.value_or(""));
        item.record.data = *entry.data;
        item.record.producer = out.marks.empty() ? nullptr : &out.marks[record];
        item.record.explicit_hash = entry.explicit_hash && !spreads ? &out.hashes[record] : nullptr;
        item.record.sealer = sealers == nullptr ? nullptr : sealers->of_lane(lane);
        PENSTOCK_CHECK(sealers == nullptr || item.record.sealer != nullptr);
        ++request->runs.back().item_count;
        out.places[record].request = static_cast<std::uint32_t>(out.lanes.size() - 1);
        out.places[record].item = static_cast<std::uint32_t>(request->items.size() - 1);
        out.places[record].run = static_cast<std::uint32_t>(request->runs.size() - 1);
    }
}

}  // namespace

ApiStatus plan_put(std::shared_ptr<const StreamView> view, std::span<const PutEntry> entries,
                   bool many, AckLevel level, PutPlan& out, QuotaCheck quota) {
    out.views.assign(1, std::move(view));
    const Stream& stream = out.stream();
    out.places.resize(entries.size());
    out.hashes.resize(entries.size());
    out.order.clear();
    out.lanes.clear();
    std::uint64_t total = 0;
    const bool spreads = stream.distribution == Distribution::automatic;
    if (!spreads) {
        hash_keys(entries, out.hashes);
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (auto sound = check_size(stream, entries[i], i, many); !sound) {
            return sound;
        }
        auto hash = !spreads            ? hash_of(entries[i], out.hashes[i])
                    : out.marks.empty() ? ApiResult<Hash128>(out.next_spread())
                                        : ApiResult<Hash128>(spread_of(out.marks[i]));
        if (!hash) {
            return std::unexpected(std::move(hash.error()));
        }
        total += entries[i].data->size() + entries[i].partition_key.value_or("").size();
        out.hashes[i] = *hash;
        choose_shard(i, out);
    }
    if (many && total > put_records_bytes_max) {
        return std::unexpected(invalid_argument("Records size exceeds 10 MB limit"));
    }
    if (quota.quotas != nullptr && stream.mode == StreamMode::provisioned) {
        apply_quota(entries, quota, out);
    }
    if (out.marks.empty()) {
        make_requests(entries, level, out);
    }
    return {};
}

void route_again(std::shared_ptr<const StreamView> view, std::span<const PutEntry> entries,
                 std::span<const std::uint32_t> records, AckLevel level, PutPlan& plan) {
    plan.views.push_back(std::move(view));
    make_requests_for(entries, records, level, plan);
}

void make_requests_for(std::span<const PutEntry> entries, std::span<const std::uint32_t> records,
                       AckLevel level, PutPlan& plan) {
    plan.order.clear();
    for (const std::uint32_t record : records) {
        choose_shard(record, plan);
    }
    make_requests(entries, level, plan);
}

Hash128 PutPlan::next_spread() noexcept {
    spread.high += spread_step;
    return spread;
}

// Calls begin at different places, or those at the same time would all hit one shard.
PutCall::PutCall(ServiceContext& context) : context_(context) {
    plan_.spread.high = reinterpret_cast<std::uintptr_t>(this) * spread_step;
}

void PutCall::start(std::unique_ptr<Reply> reply, bool many) {
    reply_ = std::move(reply);
    many_ = many;
    answered_ = false;
    pending_ = 0;
    plan_.lanes.clear();
    plan_.lookups.clear();
    whereabouts_.clear();
    deadline_ms_ = context_.loop.now_ms() + context_.options.commit_deadline_ms;
    if (const auto ready = prepare(); !ready) {
        reply_->send(ready.error());
    } else {
        if (plan_.marks.empty()) {
            post_from(0);
        } else {
            std::vector<std::uint32_t> records;
            for (const std::uint64_t key : plan_.order) {
                records.push_back(static_cast<std::uint32_t>(key & 0xffff));
            }
            std::ranges::sort(records);
            place_marked(records);
        }
        if (pending_ == 0) {
            answer();
        }
    }
    finish_if_done();
}

ApiStatus PutCall::prepare() {
    const InputSource source{context_.parser, arena_, reply_->body()};
    OptionalText for_ordering;
    input_.stream = {};
    input_.has_records = false;
    input_.entries.clear();
    input_.dry_run = false;
    if (many_) {
        if (auto fault = read_input(source, input_)) {
            return std::unexpected(std::move(*fault));
        }
    } else {
        PutRecordInput one;
        if (auto fault = read_input(source, one)) {
            return std::unexpected(std::move(*fault));
        }
        input_.stream = one.stream;
        input_.entries.push_back(one.entry);
        input_.dry_run = one.dry_run;
        input_.without_key = std::move(one.without_key);
        for_ordering = one.sequence_for_ordering;
    }
    const OperationContext context{context_.streams,
                                   context_.clock,
                                   context_.sealer,
                                   context_.options.account,
                                   reply_->region(),
                                   context_.options.regions,
                                   many_ ? Operation::put_records : Operation::put_record,
                                   reply_->caller(),
                                   context_.gate};
    auto view = resolve_stream(context, input_.stream);
    if (input_.without_key &&
        (!view || (*view)->stream().distribution != Distribution::automatic)) {
        return std::unexpected(std::move(*input_.without_key));
    }
    if (!view) {
        return std::unexpected(std::move(view.error()));
    }
    if (!(*view)->takes_records()) {
        // As Kinesis: a stream that is not ACTIVE yet, or is going, is not there for records.
        return std::unexpected(stream_not_found((*view)->stream().name, context.account));
    }
    if (auto refusal = key_refusal(**view, context_.streams.keys())) {
        return std::unexpected(std::move(*refusal));
    }
    if (for_ordering) {
        const auto number = parse_sequence_number(*for_ordering);
        if (!number || number->written_s > context_.clock.wall_ms() / 1000) {
            return std::unexpected(
                invalid_argument("ExclusiveMinimumSequenceNumber " + std::string(*for_ordering) +
                                 " used in PutRecord on stream " + (*view)->stream().shown() +
                                 " under account " + context_.options.account + " is invalid."));
        }
    }
    if (auto fault = read_producer(); !fault) {
        return fault;
    }
    const QuotaCheck quota{context_.options.quotas, context_.clock.monotonic_ns()};
    auto planned = plan_put(std::move(*view), input_.entries, many_, context_.options.ack_level,
                            plan_, input_.dry_run ? QuotaCheck{} : quota);
    if (planned && input_.dry_run) {
        return std::unexpected(dry_run_answer());
    }
    return planned;
}

ApiError PutCall::dry_run_answer() const {
    ShardQuotas* quotas = context_.options.quotas;
    // A quota refuses records of PutRecords, never all of the request.
    if (!many_ && quotas != nullptr && plan_.stream().mode == StreamMode::provisioned) {
        const PutEntry& entry = input_.entries.front();
        const std::uint64_t bytes = entry.data->size() + entry.partition_key.value_or("").size();
        if (!quotas->has_write(plan_.places.front().shard->uid, bytes,
                               context_.clock.monotonic_ns())) {
            return throttled("Rate exceeded for " + where_of(0) + ".");
        }
    }
    return dry_run_succeeded();
}

std::string PutCall::where_of(std::size_t record) const {
    return "shard " + format_shard_id(plan_.places[record].shard->number) + " in stream " +
           plan_.stream().shown() + " under account " + context_.options.account;
}

void PutCall::post_from(std::size_t first) {
    whereabouts_.resize(plan_.lanes.size(), Whereabouts::refused);
    for (std::size_t i = first; i < plan_.lanes.size(); ++i) {
        if (context_.lanes.post(plan_.lanes[i], *plan_.requests[i], *this)) {
            whereabouts_[i] = Whereabouts::with_lane;
            ++pending_;
        }
    }
}

void PutCall::on_reply(LaneRequest& request) {
    for (std::size_t i = 0; i < whereabouts_.size(); ++i) {
        if (plan_.requests[i].get() == &request) {
            whereabouts_[i] = Whereabouts::returned;
        }
    }
    for (const auto& lookup : plan_.lookups) {
        if (&lookup->request == &request) {
            take_lookup(*lookup, plan_);
        }
    }
    --pending_;
    if (pending_ == 0 && !answered_ && !follow_lookups() && !follow_reshard()) {
        answer();
    }
    finish_if_done();
}

bool PutCall::follow_reshard() {
    std::vector<std::uint32_t> records;
    for (std::uint32_t i = 0; i < plan_.places.size(); ++i) {
        AppendVerdict verdict{};
        Errc why{};
        if (fate_of(i, verdict, why) == Fate::refused && verdict == AppendVerdict::shard_closed) {
            records.push_back(i);
        }
    }
    if (records.empty()) {
        return false;
    }
    // A shard is closed only after the routes around it were published.
    auto view = context_.streams.find(plan_.stream().name);
    if (!view || view == plan_.views.back() || !view->takes_records() ||
        view->stream().incarnation != plan_.stream().incarnation ||
        key_refusal(*view, context_.streams.keys())) {
        return false;
    }
    if (!plan_.marks.empty()) {
        plan_.views.push_back(std::move(view));
        place_marked(records);
        return pending_ != 0;
    }
    const std::size_t first = plan_.lanes.size();
    route_again(std::move(view), input_.entries, records, context_.options.ack_level, plan_);
    post_from(first);
    return pending_ != 0;
}

void PutCall::check_deadline(std::uint64_t now_ms) {
    if (pending_ != 0 && !answered_ && now_ms >= deadline_ms_) {
        answer();
        // reply_ stays, and the request's body with it, until the lanes have given back what views
        // it.
    }
}

PutCall::Fate PutCall::fate_of(std::size_t record, AppendVerdict& verdict, Errc& why) const {
    const PutPlan::Place& place = plan_.places[record];
    verdict = AppendVerdict::no_memory;
    why = Errc::timed_out;
    if (place.over_quota) {
        return Fate::refused;
    }
    switch (place.stage) {
        case PutPlan::Place::Stage::routed:
            break;
        case PutPlan::Place::Stage::looking:
            return Fate::unknown;
        case PutPlan::Place::Stage::found:
            return Fate::committed;
        case PutPlan::Place::Stage::refused:
            verdict = place.verdict;
            return Fate::refused;
        case PutPlan::Place::Stage::unknown:
            why = place.why;
            return Fate::unknown;
    }
    if (whereabouts_[place.request] == Whereabouts::refused) {
        return Fate::refused;
    }
    if (whereabouts_[place.request] == Whereabouts::with_lane) {
        return Fate::unknown;
    }
    const AppendRequest& request = *plan_.requests[place.request];
    if (request.outcome != Errc::ok) {
        why = request.outcome;
        return Fate::unknown;
    }
    verdict = request.items[place.item].verdict;
    if (verdict != AppendVerdict::accepted) {
        return Fate::refused;
    }
    why = request.runs[place.run].committed;
    return why == Errc::ok ? Fate::committed : Fate::unknown;
}

const Appended& PutCall::appended_of(std::size_t record) const {
    const PutPlan::Place& place = plan_.places[record];
    return place.stage == PutPlan::Place::Stage::found
               ? place.appended
               : plan_.requests[place.request]->items[place.item].appended;
}

ApiError PutCall::error_of(std::size_t record, AppendVerdict verdict, Fate fate, Errc why) const {
    const std::string where = where_of(record);
    if (fate == Fate::unknown) {
        return internal_failure("It is not known whether the record was stored (" +
                                std::string(describe(why)) + "); it may exist in " + where +
                                ". Put it again if a second copy does no harm.");
    }
    switch (verdict) {
        case AppendVerdict::no_memory:
        case AppendVerdict::shard_behind:
        case AppendVerdict::no_room:
            if (plan_.stream().shard_metrics != 0) {
                context_.streams.meter().refuse_write(plan_.places[record].shard->uid);
            }
            return throttled("Rate exceeded for " + where + ".");
        case AppendVerdict::too_large: {
            const PutEntry& entry = input_.entries[record];
            const std::uint64_t bytes =
                entry.data->size() + entry.partition_key.value_or("").size();
            return invalid_argument(
                "The record's " + std::to_string(bytes) +
                " bytes are more than a quarter of a lane's memory, so " + where +
                " never takes it. The node's setting memory must be above " +
                std::to_string((4 * bytes >> 20) + 1) + "MiB for records of this size.");
        }
        case AppendVerdict::producer_fenced:
            return invalid_argument(
                "The record was not stored: its producer has put records of a "
                "newer epoch in " +
                where + ".");
        case AppendVerdict::producer_window:
            return invalid_argument(
                "The record was not stored by this request; whether by an earlier one is not "
                "known: its sequence of x-penstock-producer is too far behind the newest in " +
                where + ".");
        case AppendVerdict::producers_full:
            return throttled("Too many producers to remember (x-penstock-producer) for " + where +
                             ".");
        case AppendVerdict::disk_full:
            return internal_failure(
                "The node's disks are full; the record was not stored in " + where +
                ". Wait for retention, delete streams or add space, then put it again.");
        case AppendVerdict::no_quorum:
            return internal_failure(
                "Fewer than two of the three replicas take writes; the record "
                "was not stored in " +
                where + ". See `penstock replica status`, then put it again.");
        case AppendVerdict::needs_all:
            return internal_failure(
                "The acknowledgement level is `all` and a replica is out; the "
                "record was not stored in " +
                where + ". See `penstock replica status`, then put it again.");
        case AppendVerdict::unknown_shard:
        case AppendVerdict::shard_closed:
            return internal_failure("The record was not stored: " + where +
                                    " takes no more records. Put it again.");
        default:
            return internal_failure(std::string("The record was not stored: ") + describe(verdict) +
                                    ", " + where + ".");
    }
}

void PutCall::answer_one() {
    AppendVerdict verdict{};
    Errc why{};
    const Fate fate = fate_of(0, verdict, why);
    if (fate != Fate::committed) {
        return reply_->send(verdict == AppendVerdict::unknown_shard && fate == Fate::refused
                                ? stream_not_found(plan_.stream().name, context_.options.account)
                                : error_of(0, verdict, fate, why));
    }
    const PutPlan::Place& place = plan_.places[0];
    const Appended& appended = appended_of(0);
    const Shard& shard = *place.shard;
    std::string body;
    with_writer(reply_->dialect(), body, [&](auto& writer) {
        writer.begin_object();
        writer.key("ShardId");
        writer.plain(format_shard_id(shard.number));
        writer.key("SequenceNumber");
        writer.plain(
            format_sequence_number(shard.sequence_number(appended.sequence, appended.arrival_ms)));
        if (plan_.seals()) {
            write_sealed(writer);
        }
        writer.end_object();
    });
    reply_->send(std::move(body));
}

void PutCall::answer() {
    answered_ = true;
    if (!many_) {
        return answer_one();
    }
    std::string body;
    body.reserve(64 + plan_.places.size() * answer_bytes_per_record);
    with_writer(reply_->dialect(), body, [this](auto& writer) { write_answers(writer); });
    reply_->send(std::move(body));
}

template <typename Writer>
void PutCall::write_answers(Writer& writer) const {
    const std::size_t count = plan_.places.size();
    std::int64_t failed = 0;
    NumberWriter numbers;
    writer.begin_object();
    writer.key("Records");
    writer.begin_array();
    for (std::size_t i = 0; i < count; ++i) {
        AppendVerdict verdict{};
        Errc why{};
        const Fate fate = fate_of(i, verdict, why);
        if (fate == Fate::committed) [[likely]] {
            const PutPlan::Place& place = plan_.places[i];
            const Appended& appended = appended_of(i);
            const Shard& shard = *place.shard;
            write_stored(writer, numbers,
                         shard.sequence_number(appended.sequence, appended.arrival_ms),
                         shard.number);
            continue;
        }
        ++failed;
        const ApiError error = error_of(i, verdict, fate, why);
        writer.begin_object();
        writer.key("ErrorCode");
        writer.plain(error.type);
        writer.key("ErrorMessage");
        writer.text(error.message);
        writer.end_object();
    }
    writer.end_array();
    writer.key("FailedRecordCount");
    writer.number(failed);
    if (plan_.seals()) {
        write_sealed(writer);
    }
    writer.end_object();
}

void PutCall::finish_if_done() {
    if (pending_ != 0) {
        return;
    }
    reply_.reset();
    plan_.views.clear();
    plan_.places.clear();
    arena_.clear(arena_keep_bytes);
    context_.owner.idle(*this);
}

}  // namespace penstock::kinesis
