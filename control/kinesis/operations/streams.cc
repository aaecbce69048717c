// CreateStream, DeleteStream, Increase- and DecreaseStreamRetentionPeriod.
#include <algorithm>
#include <ranges>

#include "control/kinesis/operations/operations.h"
#include "control/kinesis/operations/settings.h"

namespace penstock::kinesis {

namespace {
// What CreateStream makes when nothing is said, as Kinesis does.
constexpr std::uint32_t default_shard_count = 4;
// More cannot be asked for: shard numbers end here.
constexpr std::int64_t shard_count_shown_max = 0x7fffffff;

ApiError resource_in_use(std::string message) {
    return {"ResourceInUseException", std::move(message)};
}
}  // namespace

std::string OperationContext::stored_name(std::string_view shown) const {
    const bool is_first = std::ranges::find(regions | std::views::drop(1), region) == regions.end();
    return is_first ? std::string(shown) : region + "/" + std::string(shown);
}

bool OperationContext::is_of_region(std::string_view stream) const {
    return stream == stored_name(shown_name(stream));
}

bool OperationContext::is_of_other_region(std::string_view arn) const {
    // arn:aws:kinesis:REGION:…
    for (int part = 0; part < 3; ++part) {
        arn.remove_prefix(std::min(arn.find(':'), arn.size() - 1) + 1);
    }
    const std::string_view named = arn.substr(0, arn.find(':'));
    return named != region && std::ranges::find(regions, named) != regions.end();
}

std::string OperationContext::arn_of(std::string_view stream) const {
    std::string arn = "arn:aws:kinesis:";
    arn += region;
    arn += ':';
    arn += account;
    arn += ":stream/";
    arn += shown_name(stream);
    return arn;
}

ApiError catalog_failure(const Error& error) {
    if (error.code == Errc::unavailable) {
        return internal_failure(
            "The catalog could not make the change durable on two replicas; it may or may not have "
            "happened. Look with DescribeStreamSummary, check the replicas, then try again.");
    }
    return internal_failure("The catalog refused the change: " + describe(error) + ".");
}

ApiError stream_failure(const OperationContext& context, const Stream& stream, const Error& error) {
    switch (error.code) {
        case Errc::not_found:
            return stream_not_found(stream.name, context.account);
        case Errc::locked:
            return not_active(context, stream);
        default:
            return catalog_failure(error);
    }
}

ApiError not_active(const OperationContext& context, const Stream& stream) {
    return resource_in_use("Stream " + stream.shown() + " under account " +
                           std::string(context.account) + " not ACTIVE, instead in state " +
                           std::string(name_of(stream.status)));
}

namespace {

// A stream as a request names it.
struct Named {
    std::string_view name;
    std::string_view account;
};

ApiResult<Named> read_reference(const OperationContext& context, const StreamRef& stream) {
    if (!stream.arn) {
        return Named{stream.name.value_or(""), context.account};
    }
    const auto arn = parse_stream_arn(*stream.arn);
    if (!arn) {
        return std::unexpected(internal_failure("A StreamARN was checked and is unsound."));
    }
    if (stream.name && *stream.name != arn->stream) {
        return std::unexpected(
            invalid_argument("StreamARN and StreamName must name the same stream: found " +
                             std::string(*stream.arn) + " and " + std::string(*stream.name) + "."));
    }
    return Named{arn->stream, arn->account};
}

ApiStatus authorize_arn(const OperationContext& context, std::string_view arn,
                        const StreamView* view) {
    const bool heard = view != nullptr && !is_about_the_policy(context.operation);
    std::string action = "kinesis:";
    action += operation_names[static_cast<std::size_t>(context.operation)];
    auto refusal = context.gate->authorize(*context.caller, action, arn,
                                           heard ? view->resource_policy() : nullptr);
    if (!refusal) {
        return {};
    }
    return std::unexpected(
        ApiError{std::string(refusal->exception()), std::move(refusal->message)});
}

// Of a shard or a consumer, which authorize() does not know.
bool knows_its_scope(Operation operation) noexcept {
    const RateLimit* limit = rate_limit_of(operation);
    return limit != nullptr &&
           (limit->scope == RateScope::shard || limit->scope == RateScope::consumer);
}

// What is meant and whether there is such a stream; null when there is none.
struct Located {
    std::string name;
    std::shared_ptr<const StreamView> view;
};
ApiResult<Located> locate(const OperationContext& context, const StreamRef& stream) {
    const auto named = read_reference(context, stream);
    if (!named) {
        return std::unexpected(named.error());
    }
    const bool is_elsewhere = stream.arn && context.is_elsewhere(*stream.arn, named->name);
    if (named->account != context.account || is_elsewhere) {
        if (context.gate != nullptr) {
            const std::string arn = is_elsewhere ? std::string(*stream.arn)
                                                 : "arn:aws:kinesis:" + context.region + ":" +
                                                       std::string(named->account) + ":stream/" +
                                                       std::string(named->name);
            if (auto allowed = authorize_arn(context, arn, nullptr); !allowed) {
                return std::unexpected(std::move(allowed.error()));
            }
        }
        return std::unexpected(stream_not_found(named->name, named->account));
    }
    Located located{context.stored_name(named->name), nullptr};
    located.view = context.streams.find(located.name);
    if (auto allowed = authorize(context, located.name, located.view.get()); !allowed) {
        return std::unexpected(std::move(allowed.error()));
    }
    return located;
}

}  // namespace

bool is_about_the_policy(Operation operation) noexcept {
    return operation == Operation::put_resource_policy ||
           operation == Operation::get_resource_policy ||
           operation == Operation::delete_resource_policy;
}

ApiStatus authorize(const OperationContext& context, std::string_view stream,
                    const StreamView* view) {
    if (context.gate != nullptr) {
        if (auto allowed = authorize_arn(context, context.arn_of(stream), view); !allowed) {
            return allowed;
        }
    }
    return knows_its_scope(context.operation) ? ApiStatus{} : take_rate(context, stream);
}

ApiStatus take_rate(const OperationContext& context, std::string_view subject) {
    if (context.rates == nullptr ||
        context.rates->take(context.operation, subject, context.clock.monotonic_ns())) {
        return {};
    }
    const std::string account = "account " + std::string(context.account) + ".";
    // In another region than the first it begins with that (stream.h).
    const bool is_prefixed = !context.stored_name("").empty() && subject != "*";
    const std::string_view stream = is_prefixed ? shown_name(subject) : subject;
    return std::unexpected(ApiError{"LimitExceededException",
                                    subject == "*"
                                        ? "Rate exceeded for " + account
                                        : "Rate exceeded for stream " +
                                              std::string(stream.substr(0, stream.find('/'))) +
                                              " under " + account});
}

ApiResult<std::string> resolve_name(const OperationContext& context, const StreamRef& stream) {
    const auto located = locate(context, stream);
    if (!located) {
        return std::unexpected(located.error());
    }
    return located->name;
}

ApiResult<std::shared_ptr<const StreamView>> resolve_stream(const OperationContext& context,
                                                            const StreamRef& stream) {
    auto located = locate(context, stream);
    if (!located) {
        return std::unexpected(std::move(located.error()));
    }
    if (!located->view) {
        return std::unexpected(stream_not_found(located->name, context.account));
    }
    return std::move(located->view);
}

ApiStatus create_stream(const OperationContext& context, const CreateStreamInput& input) {
    if (auto allowed = authorize(context, *input.stream.name, nullptr); !allowed) {
        return allowed;
    }
    NewStream wanted;
    wanted.name = context.stored_name(*input.stream.name);
    const bool is_on_demand = input.mode == "ON_DEMAND";
    if (is_on_demand && input.shard_count) {
        return std::unexpected(
            validation_error("ShardCount must not be given for a stream in ON_DEMAND mode."));
    }
    if (input.mode && !is_on_demand && !input.shard_count) {
        return std::unexpected(
            validation_error("ShardCount must be given for a stream in PROVISIONED mode."));
    }
    wanted.mode = is_on_demand ? StreamMode::on_demand : StreamMode::provisioned;
    // Far above any limit, yet small enough to add to.
    const std::int64_t count = std::min<std::int64_t>(
        input.shard_count.value_or(default_shard_count), shard_count_shown_max);
    wanted.shard_count = static_cast<std::uint32_t>(count);
    wanted.max_record_kib = static_cast<std::uint32_t>(input.max_record_kib.value_or(1024));
    if ((input.warm_throughput.value_or(0) != 0 || input.distribution == "AUTO") && !is_on_demand) {
        return std::unexpected(validation_error(
            "WarmThroughputMiBps and RecordDistributionStrategy AUTO need a stream "
            "in ON_DEMAND mode."));
    }
    const std::int64_t warm = input.warm_throughput.value_or(0);
    if (auto fault = check_warm_throughput(context, wanted.name, warm)) {
        return std::unexpected(std::move(*fault));
    }
    wanted.warm_throughput_mibps = static_cast<std::uint32_t>(warm);
    wanted.shard_count = std::max(wanted.shard_count,
                                  static_cast<std::uint32_t>(context.streams.on_demand().shards_for(
                                      static_cast<std::uint64_t>(warm))));
    wanted.distribution =
        input.distribution == "AUTO" ? Distribution::automatic : Distribution::by_key;
    if (auto fault = check_tags(input.tags, wanted.name, context.account)) {
        return std::unexpected(std::move(*fault));
    }
    for (const auto& [key, text] : input.tags) {
        wanted.tags.emplace(key, text);
    }
    const Status done = context.streams.create(wanted);
    if (done) {
        return {};
    }
    if (done.error().code == Errc::already_exists) {
        return std::unexpected(resource_in_use("Stream " + std::string(shown_name(wanted.name)) +
                                               " under account " + std::string(context.account) +
                                               " already exists."));
    }
    if (done.error().code == Errc::no_space) {
        return std::unexpected(ApiError{
            "LimitExceededException",
            "This request would exceed the shard limit for the account " +
                std::string(context.account) + " in " + context.region +
                ". Current shard count for the account: " + std::to_string(done.error().detail) +
                ". Number of additional shards that would have resulted from this request: " +
                std::to_string(wanted.shard_count) + "."});
    }
    return std::unexpected(catalog_failure(done.error()));
}

ApiStatus delete_stream(const OperationContext& context, const StreamInput& input) {
    const auto name = resolve_name(context, input.stream);
    if (!name) {
        return std::unexpected(name.error());
    }
    const Status done = context.streams.remove(*name, input.enforce_consumer_deletion);
    if (done) {
        return {};
    }
    switch (done.error().code) {
        case Errc::not_found:
            return std::unexpected(stream_not_found(*name, context.account));
        case Errc::locked:
            return std::unexpected(resource_in_use(
                "Stream " + std::string(shown_name(*name)) + " under account " +
                std::string(context.account) + " is CREATING; wait until it is ACTIVE."));
        case Errc::not_empty:
            return std::unexpected(resource_in_use(
                "Stream " + std::string(shown_name(*name)) + " under account " +
                std::string(context.account) +
                " has consumers registered. Deregister them, or delete the stream with "
                "EnforceConsumerDeletion."));
        default:
            return std::unexpected(catalog_failure(done.error()));
    }
}

namespace {

ApiStatus check_retention(const Stream& stream, std::int64_t hours, bool increase) {
    const std::string requested =
        "Requested retention period (" + std::to_string(hours) + " hours)";
    if (hours < retention_hours_min) {
        return std::unexpected(invalid_argument("Minimum allowed retention period is " +
                                                std::to_string(retention_hours_min) + " hours. " +
                                                requested + " is too short."));
    }
    if (hours > retention_hours_max) {
        return std::unexpected(invalid_argument("Maximum allowed retention period is " +
                                                std::to_string(retention_hours_max) + " hours. " +
                                                requested + " is too long."));
    }
    const std::string existing = " than existing retention period (" +
                                 std::to_string(stream.retention_hours) + " hours). Use ";
    if (increase && hours < stream.retention_hours) {
        return std::unexpected(invalid_argument(requested + " for stream " + stream.shown() +
                                                " can not be shorter" + existing +
                                                "DecreaseRetentionPeriod API."));
    }
    if (!increase && hours > stream.retention_hours) {
        return std::unexpected(invalid_argument(requested + " for stream " + stream.shown() +
                                                " can not be longer" + existing +
                                                "IncreaseRetentionPeriod API."));
    }
    return {};
}

}  // namespace

ApiStatus change_retention(const OperationContext& context, const RetentionInput& input,
                           bool increase) {
    while (true) {
        const auto view = resolve_stream(context, input.stream);
        if (!view) {
            return std::unexpected(view.error());
        }
        const Stream& stream = (*view)->stream();
        if (auto sound = check_retention(stream, *input.hours, increase); !sound) {
            return sound;
        }
        const auto hours = static_cast<std::uint32_t>(*input.hours);
        const Status done =
            context.streams.set_retention(stream.name, stream.retention_hours, hours);
        if (done) {
            return {};
        }
        // Somebody else changed it: judge again.
        if (done.error().code != Errc::canceled) {
            return std::unexpected(stream_failure(context, stream, done.error()));
        }
    }
}

}  // namespace penstock::kinesis
