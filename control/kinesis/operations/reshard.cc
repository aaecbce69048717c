// SplitShard, MergeShards, UpdateShardCount, UpdateStreamMode, UpdateStreamWarmThroughput. The
// steps behind them: docs/resharding.md.
#include "control/kinesis/stream/reshard.h"

#include <algorithm>
#include <functional>

#include "control/kinesis/operations/operations.h"
#include "control/kinesis/operations/settings.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

// As Kinesis has them.
constexpr std::size_t scalings_per_day = 10;
constexpr std::size_t mode_changes_per_day = 2;
constexpr std::int64_t day_ms = 24LL * 3600 * 1000;
constexpr std::int64_t scale_to_max = 10'000;

std::string where(const OperationContext& context, const Stream& stream) {
    return "stream " + stream.shown() + " under account " + std::string(context.account);
}

// Whether the stream may be changed now.
ApiStatus check_stream(const OperationContext& context, const Stream& stream) {
    if (stream.status == StreamStatus::deleting) {
        return std::unexpected(stream_not_found(stream.name, context.account));
    }
    if (stream.status != StreamStatus::active) {
        return std::unexpected(not_active(context, stream));
    }
    return {};
}

// Whoever says how many shards there are cannot leave that to the stream.
ApiStatus check_mode(const OperationContext& context, const Stream& stream) {
    if (stream.mode == StreamMode::provisioned) {
        return {};
    }
    return std::unexpected(validation_error("Request is invalid. Stream " + stream.shown() +
                                            " under account " + std::string(context.account) +
                                            " is in On-Demand mode."));
}

ApiResult<Shard> open_shard(const OperationContext& context, const Stream& stream,
                            std::string_view id) {
    const auto number = parse_shard_id(id);
    const Shard* shard = number ? stream.shard(*number) : nullptr;
    if (shard == nullptr) {
        return std::unexpected(ApiError{"ResourceNotFoundException",
                                        "Could not find shard " +
                                            (number ? format_shard_id(*number) : std::string(id)) +
                                            " in " + where(context, stream) + "."});
    }
    if (!shard->is_open()) {
        return std::unexpected(invalid_argument(
            "Shard " + format_shard_id(shard->number) + " in " + where(context, stream) +
            " has already been merged or split, and thus is not eligible for merging or "
            "splitting."));
    }
    return *shard;
}

// Runs `make` on the stream as it is now, keeps what it edits and carries its plan out.
ApiStatus change(const OperationContext& context, const StreamView& view,
                 const std::function<ApiResult<ReshardPlan>(Stream&)>& make) {
    const std::string& name = view.stream().name;
    std::optional<ApiError> refusal;
    std::size_t added = 0;
    const Status done = context.streams.reshard(name, [&](Stream& stream) -> Result<ReshardPlan> {
        refusal.reset();
        auto sound = check_stream(context, stream);
        auto plan = sound ? make(stream) : std::unexpected(std::move(sound.error()));
        if (!plan) {
            refusal = std::move(plan.error());
            return penstock::fail(Errc::invalid_argument);
        }
        added = plan->size();
        return std::move(*plan);
    });
    if (done) {
        return {};
    }
    if (refusal) {
        return std::unexpected(std::move(*refusal));
    }
    switch (done.error().code) {
        case Errc::locked: {
            const auto now = context.streams.find(name);
            if (!now || now->stream().status == StreamStatus::deleting) {
                return std::unexpected(stream_not_found(name, context.account));
            }
            Stream stream = now->stream();
            if (stream.status == StreamStatus::active) {
                stream.status = StreamStatus::updating;  // it became ACTIVE in between
            }
            return std::unexpected(not_active(context, stream));
        }
        case Errc::no_space:
            return std::unexpected(ApiError{
                "LimitExceededException",
                "This request would exceed the shard limit for the account " +
                    std::string(context.account) + " in " + context.region +
                    ". Current shard count for the account: " +
                    std::to_string(done.error().detail) +
                    ". Number of additional shards that would have resulted from this request: " +
                    std::to_string(added) + "."});
        default:
            return std::unexpected(stream_failure(context, view.stream(), done.error()));
    }
}

// The same for streams whose shards are counted by hand.
ApiStatus reshard(const OperationContext& context, const StreamView& view,
                  const std::function<ApiResult<ReshardPlan>(Stream&)>& make) {
    return change(context, view, [&](Stream& stream) -> ApiResult<ReshardPlan> {
        if (auto sound = check_mode(context, stream); !sound) {
            return std::unexpected(std::move(sound.error()));
        }
        return make(stream);
    });
}

// The shards that the warm throughput needs, if there are fewer.
ReshardPlan warm_up(const OperationContext& context, Stream& stream, std::int64_t mibps) {
    stream.warm_throughput_mibps = static_cast<std::uint32_t>(mibps);
    const std::uint64_t count =
        context.streams.on_demand().shards_for(static_cast<std::uint64_t>(mibps));
    return count > stream.open_shard_count()
               ? scale_evenly(stream, static_cast<std::uint32_t>(count))
               : ReshardPlan{};
}

}  // namespace

std::optional<ApiError> check_warm_throughput(const OperationContext& context,
                                              std::string_view stream, std::int64_t mibps) {
    const OnDemandLimits& limits = context.streams.on_demand();
    const std::uint64_t most = limits.mibps_of(limits.shards_max);
    if (mibps <= 0 || (static_cast<std::uint64_t>(mibps) <= most &&
                       limits.shards_for(static_cast<std::uint64_t>(mibps)) <= limits.shards_max)) {
        return std::nullopt;
    }
    return ApiError{"LimitExceededException",
                    "WarmThroughputMiBps " + std::to_string(mibps) + " of stream " +
                        std::string(stream) + " under account " + std::string(context.account) +
                        " exceeds the limit of " + std::to_string(most) + ", which is what the " +
                        std::to_string(limits.shards_max) +
                        " shards that a stream may have take (on-demand, shards-max)."};
}

ApiStatus update_warm_throughput(const OperationContext& context, const StreamRef& stream,
                                 std::int64_t mibps, ReplyWriter& reply) {
    const auto view = resolve_stream(context, stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const std::string& name = (*view)->stream().name;
    if (auto fault = check_warm_throughput(context, name, mibps)) {
        return std::unexpected(std::move(*fault));
    }
    Stream before;
    const auto done = change(context, **view, [&](Stream& now) -> ApiResult<ReshardPlan> {
        if (now.mode != StreamMode::on_demand) {
            return std::unexpected(validation_error(
                "Stream " + now.name + " under account " + std::string(context.account) +
                " is in PROVISIONED mode; WarmThroughputMiBps needs a stream in "
                "ON_DEMAND mode."));
        }
        before = now;
        before.warm_throughput_mibps = static_cast<std::uint32_t>(mibps);
        return warm_up(context, now, mibps);
    });
    if (!done) {
        return done;
    }
    reply.begin_object();
    reply.key("StreamARN");
    reply.plain(context.arn_of(name));
    reply.key("StreamName");
    reply.plain(name);
    write_warm_throughput(reply, context.streams.on_demand(), before);
    reply.end_object();
    return {};
}

ApiStatus split_shard(const OperationContext& context, const SplitShardInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    return reshard(context, **view, [&](Stream& stream) -> ApiResult<ReshardPlan> {
        const auto shard = open_shard(context, stream, *input.shard);
        if (!shard) {
            return std::unexpected(shard.error());
        }
        const auto start = parse_hash_key(*input.new_start);
        // Kinesis leaves the lower child more than one hash, and the upper one, too.
        if (!start || to_uint128(*start) <= to_uint128(shard->range.start) + 1 ||
            shard->range.start == hash_max || !(*start < shard->range.end)) {
            return std::unexpected(invalid_argument(
                "NewStartingHashKey " + std::string(*input.new_start) +
                " used in SplitShard() on shard " + format_shard_id(shard->number) + " in " +
                where(context, stream) +
                " is not both greater than one plus the shard's StartingHashKey " +
                to_decimal(shard->range.start) + " and less than the shard's EndingHashKey " +
                to_decimal(shard->range.end) + "."));
        }
        return plan_split(*shard, *start);
    });
}

ApiStatus merge_shards(const OperationContext& context, const MergeShardsInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    return reshard(context, **view, [&](Stream& stream) -> ApiResult<ReshardPlan> {
        const auto shard = open_shard(context, stream, *input.shard);
        if (!shard) {
            return std::unexpected(shard.error());
        }
        const auto adjacent = open_shard(context, stream, *input.adjacent);
        if (!adjacent) {
            return std::unexpected(adjacent.error());
        }
        if (!are_neighbours(shard->range, adjacent->range)) {
            return std::unexpected(invalid_argument(
                "Shards " + format_shard_id(shard->number) + " and " +
                format_shard_id(adjacent->number) + " in " + where(context, stream) +
                " are not an adjacent pair of shards eligible for merging"));
        }
        return plan_merge(*shard, *adjacent);
    });
}

ApiStatus update_shard_count(const OperationContext& context, const UpdateShardCountInput& input,
                             ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const std::int64_t target = *input.target;
    std::uint32_t current = 0;
    const auto done = reshard(context, **view, [&](Stream& stream) -> ApiResult<ReshardPlan> {
        current = stream.open_shard_count();
        const std::string counts = " Current open shard count: " + std::to_string(current) +
                                   " Target shard count: " + std::to_string(target);
        if (target > 2 * std::int64_t{current}) {
            return std::unexpected(
                invalid_argument("UpdateShardCount cannot scale up over double your current open "
                                 "shard count." +
                                 counts));
        }
        if (2 * target < current) {
            return std::unexpected(
                invalid_argument("UpdateShardCount cannot scale down below half your current open "
                                 "shard count." +
                                 counts));
        }
        const std::int64_t now_ms = context.clock.wall_ms();
        std::erase_if(stream.scalings_ms,
                      [&](std::int64_t at_ms) { return at_ms <= now_ms - day_ms; });
        if (target > scale_to_max || stream.scalings_ms.size() >= scalings_per_day) {
            return std::unexpected(
                ApiError{"LimitExceededException",
                         target > scale_to_max
                             ? "UpdateShardCount cannot scale a stream to more than " +
                                   std::to_string(scale_to_max) + " shards." + counts
                             : "UpdateShardCount was called for " + where(context, stream) + " " +
                                   std::to_string(scalings_per_day) +
                                   " times in 24 hours, which is the most allowed."});
        }
        stream.scalings_ms.push_back(now_ms);
        return scale_evenly(stream, static_cast<std::uint32_t>(target));
    });
    if (!done) {
        return done;
    }
    const std::string& name = (*view)->stream().name;
    reply.begin_object();
    reply.key("StreamName");
    reply.plain(name);
    reply.key("CurrentShardCount");
    reply.number(current);
    reply.key("TargetShardCount");
    reply.number(target);
    reply.key("StreamARN");
    reply.plain(context.arn_of(name));
    reply.end_object();
    return {};
}

ApiStatus update_stream_mode(const OperationContext& context, const UpdateStreamModeInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const StreamMode mode =
        input.mode == "ON_DEMAND" ? StreamMode::on_demand : StreamMode::provisioned;
    const std::int64_t warm = input.warm_throughput.value_or(0);
    if (warm != 0 && mode == StreamMode::provisioned) {
        return std::unexpected(
            validation_error("WarmThroughputMiBps needs a stream in ON_DEMAND mode."));
    }
    if (auto fault = check_warm_throughput(context, (*view)->stream().name, warm)) {
        return std::unexpected(std::move(*fault));
    }
    return change(context, **view, [&](Stream& stream) -> ApiResult<ReshardPlan> {
        const auto done = [&]() -> ReshardPlan {
            if (mode == StreamMode::on_demand && input.warm_throughput) {
                return warm_up(context, stream, warm);
            }
            if (mode == StreamMode::provisioned) {
                stream.warm_throughput_mibps = 0;
            }
            return {};
        };
        if (stream.mode == mode) {
            return done();
        }
        const std::int64_t now_ms = context.clock.wall_ms();
        std::erase_if(stream.mode_changes_ms,
                      [&](std::int64_t at_ms) { return at_ms <= now_ms - day_ms; });
        if (stream.mode_changes_ms.size() >= mode_changes_per_day) {
            return std::unexpected(ApiError{"LimitExceededException",
                                            "The mode of " + where(context, stream) +
                                                " was changed " +
                                                std::to_string(mode_changes_per_day) +
                                                " times in 24 hours, which is the most allowed."});
        }
        stream.mode_changes_ms.push_back(now_ms);
        stream.mode = mode;
        return done();
    });
}

}  // namespace penstock::kinesis
