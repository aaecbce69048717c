#include "control/kinesis/operations/settings.h"

#include <algorithm>

namespace penstock::kinesis {

namespace {

constexpr std::string_view account_settings_key = "account/settings";
constexpr unsigned account_settings_version = 1;
// How long a commitment lasts at least.
constexpr std::int64_t commitment_ms_min = std::int64_t{24} * 3600 * 1000;
constexpr std::int64_t count_shown_max = 1'000'000;

// Nothing is billed here: the commitment is kept and shown, for programs that set it.
struct Commitment {
    std::int64_t started_ms = 0;  // 0: never
    std::int64_t ended_ms = 0;    // 0: goes on

    [[nodiscard]] std::int64_t earliest_end_ms() const { return started_ms + commitment_ms_min; }
    [[nodiscard]] std::string_view status(std::int64_t now_ms) const {
        if (started_ms == 0 || (ended_ms != 0 && ended_ms <= now_ms)) {
            return "DISABLED";
        }
        return ended_ms == 0 ? "ENABLED" : "ENABLED_UNTIL_EARLIEST_ALLOWED_END";
    }
};

std::string encode(const Commitment& commitment) {
    return "{\"version\":" + std::to_string(account_settings_version) +
           ",\"commitment_started_ms\":" + std::to_string(commitment.started_ms) +
           ",\"commitment_ended_ms\":" + std::to_string(commitment.ended_ms) + "}";
}

Result<Commitment> decode(std::string_view text) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    std::uint64_t version = 0;
    Commitment commitment;
    if (parser.parse(text.data(), text.size(), true).get(object) != simdjson::SUCCESS ||
        object.at_key("version").get(version) != simdjson::SUCCESS) {
        return fail(Errc::corrupt);
    }
    if (version != account_settings_version) {
        return fail(Errc::unsupported, 0, static_cast<std::uint32_t>(version));
    }
    if (object.at_key("commitment_started_ms").get(commitment.started_ms) != simdjson::SUCCESS ||
        object.at_key("commitment_ended_ms").get(commitment.ended_ms) != simdjson::SUCCESS) {
        return fail(Errc::corrupt);
    }
    return commitment;
}

struct StoredCommitment {
    Commitment commitment;
    Revision revision = 0;
};
ApiResult<StoredCommitment> load_commitment(const OperationContext& context) {
    const auto entry = context.streams.catalog().get(account_settings_key);
    if (!entry && entry.error().code == Errc::not_found) {
        return StoredCommitment{};
    }
    if (!entry) {
        return std::unexpected(catalog_failure(entry.error()));
    }
    const auto commitment = decode(entry->value);
    if (!commitment) {
        return std::unexpected(catalog_failure(commitment.error()));
    }
    return StoredCommitment{*commitment, entry->revision};
}

void write_commitment(const OperationContext& context, const Commitment& commitment,
                      ReplyWriter& reply) {
    const std::string_view status = commitment.status(context.clock.wall_ms());
    reply.begin_object();
    reply.key("MinimumThroughputBillingCommitment");
    reply.begin_object();
    reply.key("Status");
    reply.plain(status);
    if (commitment.started_ms != 0) {
        reply.key("StartedAt");
        reply.timestamp_ms(commitment.started_ms);
        reply.key("EarliestAllowedEndAt");
        reply.timestamp_ms(commitment.earliest_end_ms());
    }
    if (commitment.ended_ms != 0) {
        reply.key("EndedAt");
        reply.timestamp_ms(commitment.ended_ms);
    }
    reply.end_object();
    reply.end_object();
}

ApiStatus describe_account_settings(const OperationContext& context, ReplyWriter& reply) {
    if (auto allowed = authorize(context, "*", nullptr); !allowed) {
        return allowed;
    }
    const auto stored = load_commitment(context);
    if (!stored) {
        return std::unexpected(stored.error());
    }
    write_commitment(context, stored->commitment, reply);
    return {};
}

ApiStatus update_account_settings(const OperationContext& context,
                                  const AccountSettingsInput& input, ReplyWriter& reply) {
    if (auto allowed = authorize(context, "*", nullptr); !allowed) {
        return allowed;
    }
    while (true) {
        auto stored = load_commitment(context);
        if (!stored) {
            return std::unexpected(stored.error());
        }
        const std::int64_t now_ms = context.clock.wall_ms();
        Commitment& commitment = stored->commitment;
        const std::string_view status = commitment.status(now_ms);
        if (*input.status == "ENABLED" && status == "DISABLED") {
            commitment = {now_ms, 0};
        } else if (*input.status == "ENABLED") {
            commitment.ended_ms = 0;
        } else if (status == "ENABLED") {
            commitment.ended_ms = std::max(now_ms, commitment.earliest_end_ms());
        }
        const auto done = context.streams.catalog().put(account_settings_key, encode(commitment),
                                                        stored->revision);
        if (done) {
            write_commitment(context, commitment, reply);
            return {};
        }
        if (done.error().code != Errc::canceled) {
            return std::unexpected(catalog_failure(done.error()));
        }
    }
}

ApiStatus describe_limits(const OperationContext& context, ReplyWriter& reply) {
    if (auto allowed = authorize(context, "*", nullptr); !allowed) {
        return allowed;
    }
    std::int64_t open_shards = 0;
    std::int64_t on_demand = 0;
    const auto table = context.streams.table();
    for (const auto& [name, view] : *table) {
        open_shards += view->stream().open_shard_count();
        on_demand += view->stream().mode == StreamMode::on_demand ? 1 : 0;
    }
    const std::int64_t shard_limit =
        std::min<std::int64_t>(context.streams.shards_max(), count_shown_max);
    reply.begin_object();
    reply.key("ShardLimit");
    reply.number(shard_limit);
    reply.key("OpenShardCount");
    reply.number(open_shards);
    reply.key("OnDemandStreamCount");
    reply.number(on_demand);
    reply.key("OnDemandStreamCountLimit");
    reply.number(shard_limit);  // each has a shard at least; there is no other limit
    // Channels, which deliver a stream elsewhere, are none of this node's.
    reply.key("ChannelCount");
    reply.number(0);
    reply.key("ChannelCountLimit");
    reply.number(0);
    reply.end_object();
    return {};
}

unsigned set_of(const std::vector<std::string_view>& names) {
    unsigned set = 0;
    for (const std::string_view name : names) {
        const auto it = std::find(shard_metric_names.begin(), shard_metric_names.end(), name);
        set |= it == shard_metric_names.end() ? (1U << shard_metric_names.size()) - 1
                                              : 1U << (it - shard_metric_names.begin());
    }
    return set;
}

ApiStatus change_monitoring(const OperationContext& context, const MonitoringInput& input,
                            bool enable, ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    const unsigned named = set_of(input.metrics);
    unsigned before = 0;
    unsigned after = 0;
    const Status done = context.streams.update(stream.name, [&](Stream& now) -> Status {
        before = now.shard_metrics;
        after = enable ? before | named : before & ~named;
        now.shard_metrics = static_cast<std::uint8_t>(after);
        return {};
    });
    if (!done) {
        return std::unexpected(stream_failure(context, stream, done.error()));
    }
    reply.begin_object();
    reply.key("StreamName");
    reply.plain(stream.shown());
    reply.key("CurrentShardLevelMetrics");
    write_metrics(reply, before);
    reply.key("DesiredShardLevelMetrics");
    write_metrics(reply, after);
    reply.key("StreamARN");
    reply.plain(context.arn_of(stream.name));
    reply.end_object();
    return {};
}

ApiStatus change_settings(const OperationContext& context, const StreamSettingsInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    const bool sets_size = context.operation == Operation::update_max_record_size;
    const auto needs_on_demand = [&] {
        return std::unexpected(validation_error(
            "Stream " + stream.shown() + " under account " + std::string(context.account) +
            " is in PROVISIONED mode; RecordDistributionStrategy needs a stream in ON_DEMAND "
            "mode."));
    };
    const Status done = context.streams.update(stream.name, [&](Stream& now) -> Status {
        if (sets_size) {
            now.max_record_kib = static_cast<std::uint32_t>(*input.max_record_kib);
            return {};
        }
        if (now.mode != StreamMode::on_demand) {
            return fail(Errc::invalid_argument);
        }
        now.distribution = *input.distribution == distribution_names[0] ? Distribution::by_key
                                                                        : Distribution::automatic;
        return {};
    });
    if (!done && done.error().code == Errc::invalid_argument) {
        return needs_on_demand();
    }
    if (!done) {
        return std::unexpected(stream_failure(context, stream, done.error()));
    }
    return {};
}

}  // namespace

void write_metrics(ReplyWriter& reply, unsigned metrics) {
    reply.begin_array();
    for (std::size_t i = 0; i < shard_metric_names.size(); ++i) {
        if ((metrics >> i & 1) != 0) {
            reply.plain(shard_metric_names[i]);
        }
    }
    reply.end_array();
}

void write_warm_throughput(ReplyWriter& reply, const OnDemandLimits& limits, const Stream& stream) {
    reply.key("WarmThroughput");
    reply.begin_object();
    reply.key("TargetMiBps");
    reply.number(stream.warm_throughput_mibps);
    reply.key("CurrentMiBps");
    reply.number(static_cast<std::int64_t>(std::min<std::uint64_t>(
        limits.mibps_of(stream.open_shard_count()), stream.warm_throughput_mibps)));
    reply.end_object();
}

std::optional<ApiStatus> run_settings_operation(const OperationContext& context,
                                                const InputSource& source, ReplyWriter& reply) {
    const auto with = [&](auto input, auto&& read, auto&& run) -> ApiStatus {
        if (auto fault = read(input)) {
            return std::unexpected(std::move(*fault));
        }
        return run(input);
    };
    const Operation operation = context.operation;
    switch (operation) {
        case Operation::add_tags_to_stream:
        case Operation::remove_tags_from_stream:
        case Operation::tag_resource:
        case Operation::untag_resource:
        case Operation::list_tags_for_stream:
        case Operation::list_tags_for_resource: {
            const bool lists = operation == Operation::list_tags_for_stream ||
                               operation == Operation::list_tags_for_resource;
            return with(
                TagsInput{},
                [&](TagsInput& input) { return read_tags_input(source, operation, input); },
                [&](const TagsInput& input) {
                    return lists ? list_tags(context, input, reply) : change_tags(context, input);
                });
        }
        case Operation::describe_limits:
        case Operation::describe_account_settings: {
            const auto nothing = [](std::string_view, InputValue) {};
            if (auto fault = read_members(source, nothing)) {
                return std::unexpected(std::move(*fault));
            }
            return operation == Operation::describe_limits
                       ? describe_limits(context, reply)
                       : describe_account_settings(context, reply);
        }
        case Operation::update_account_settings:
            return with(
                AccountSettingsInput{}, [&](auto& input) { return read_input(source, input); },
                [&](const auto& input) { return update_account_settings(context, input, reply); });
        case Operation::enable_enhanced_monitoring:
        case Operation::disable_enhanced_monitoring:
            return with(
                MonitoringInput{}, [&](auto& input) { return read_input(source, input); },
                [&](const auto& input) {
                    return change_monitoring(
                        context, input, operation == Operation::enable_enhanced_monitoring, reply);
                });
        case Operation::update_max_record_size:
        case Operation::update_stream_warm_throughput:
        case Operation::update_stream_record_distribution_strategy:
            return with(
                StreamSettingsInput{},
                [&](auto& input) { return read_stream_settings(source, operation, input); },
                [&](const auto& input) {
                    return operation == Operation::update_stream_warm_throughput
                               ? update_warm_throughput(context, input.stream,
                                                        *input.warm_throughput, reply)
                               : change_settings(context, input);
                });
        default:
            return std::nullopt;
    }
}

}  // namespace penstock::kinesis
