// ListStreams, DescribeStream, DescribeStreamSummary.
#include <algorithm>
#include <ctime>
#include <utility>
#include <vector>

#include "control/kinesis/operations/encryption.h"
#include "control/kinesis/operations/operations.h"
#include "control/kinesis/operations/settings.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

constexpr std::int64_t streams_per_page = 100;
constexpr std::int64_t shards_per_page = 100;

void write_mode(ReplyWriter& reply, StreamMode mode) {
    reply.key("StreamModeDetails");
    reply.begin_object();
    reply.key("StreamMode");
    reply.plain(name_of(mode));
    reply.end_object();
}

// The members that all three answers have in common.
void write_head(const OperationContext& context, const Stream& stream, ReplyWriter& reply) {
    reply.key("StreamName");
    reply.plain(stream.shown());
    reply.key("StreamARN");
    reply.plain(context.arn_of(stream.name));
    reply.key("StreamStatus");
    reply.plain(name_of(stream.status));
    write_mode(reply, stream.mode);
    reply.key("StreamCreationTimestamp");
    reply.timestamp_ms(stream.created_ms);
}

void write_settings(const Stream& stream, ReplyWriter& reply) {
    reply.key("RetentionPeriodHours");
    reply.number(stream.retention_hours);
    reply.key("EnhancedMonitoring");
    reply.begin_array();
    reply.begin_object();
    reply.key("ShardLevelMetrics");
    write_metrics(reply, stream.shard_metrics);
    reply.end_object();
    reply.end_array();
    write_encryption(reply, stream);
}

}  // namespace

std::string format_time(std::int64_t wall_ms) {
    const std::time_t seconds = wall_ms / 1000;
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[64];
    const std::size_t size = std::strftime(text, sizeof(text), "%a %b %d %H:%M:%S UTC %Y", &parts);
    return {text, size};
}

void write_hash_range(ReplyWriter& reply, const HashRange& range) {
    reply.key("HashKeyRange");
    reply.begin_object();
    reply.key("StartingHashKey");
    reply.plain(to_decimal(range.start));
    reply.key("EndingHashKey");
    reply.plain(to_decimal(range.end));
    reply.end_object();
}

void write_child_shards(ReplyWriter& reply, const Stream& stream, const Shard& parent) {
    reply.begin_array();
    for (const Shard& child : stream.shards) {
        if (child.parent != parent.number && child.adjacent_parent != parent.number) {
            continue;
        }
        reply.begin_object();
        reply.key("ShardId");
        reply.plain(format_shard_id(child.number));
        reply.key("ParentShards");
        reply.begin_array();
        for (const auto& from : {child.parent, child.adjacent_parent}) {
            if (from) {
                reply.plain(format_shard_id(*from));
            }
        }
        reply.end_array();
        write_hash_range(reply, child.range);
        reply.end_object();
    }
    reply.end_array();
}

void write_shard(ReplyWriter& reply, const Shard& shard) {
    reply.begin_object();
    reply.key("ShardId");
    reply.plain(format_shard_id(shard.number));
    if (shard.parent) {
        reply.key("ParentShardId");
        reply.plain(format_shard_id(*shard.parent));
    }
    if (shard.adjacent_parent) {
        reply.key("AdjacentParentShardId");
        reply.plain(format_shard_id(*shard.adjacent_parent));
    }
    write_hash_range(reply, shard.range);
    reply.key("SequenceNumberRange");
    reply.begin_object();
    reply.key("StartingSequenceNumber");
    const std::int64_t created_ms = shard.created_s * 1000;
    reply.plain(format_sequence_number(shard.sequence_number(shard.first_index, created_ms)));
    if (shard.closing_index) {
        // Above every number given out, whatever second the last one was written in.
        constexpr std::int64_t last_second_ms = ((std::int64_t{1} << 36) - 1) * 1000;
        reply.key("EndingSequenceNumber");
        reply.plain(format_sequence_number(
            shard.sequence_number(*shard.closing_index - 1, last_second_ms)));
    }
    reply.end_object();
    reply.end_object();
}

ApiStatus list_streams(const OperationContext& context, const ListStreamsInput& input,
                       ReplyWriter& reply) {
    if (auto allowed = authorize(context, "*", nullptr); !allowed) {
        return allowed;
    }
    std::string after = context.stored_name(input.exclusive_start.value_or(""));
    if (input.next_token) {
        if (input.exclusive_start) {
            return std::unexpected(invalid_argument(
                "NextToken and ExclusiveStartStreamName cannot be provided together."));
        }
        const auto page = decode_page(context.sealer, *input.next_token);
        if (!page || page->kind != PageToken::Kind::list_streams ||
            !context.is_of_region(page->stream)) {
            return std::unexpected(invalid_argument("NextToken is invalid."));
        }
        if (context.clock.wall_ms() - page->issued_ms > token_life_ms) {
            return std::unexpected(ApiError{"ExpiredNextTokenException", "NextToken has expired."});
        }
        after = page->stream;
    }
    const auto limit = std::min(input.limit.value_or(streams_per_page), streams_per_page);
    const auto table = context.streams.table();
    std::vector<const StreamView*> shown;
    auto at = table->upper_bound(after);
    for (; at != table->end() && std::cmp_less_equal(shown.size(), limit); ++at) {
        if (context.is_of_region(at->first)) {
            shown.push_back(at->second.get());
        }
    }
    const bool has_more = std::cmp_greater(shown.size(), limit);
    if (has_more) {
        shown.pop_back();
    }
    reply.begin_object();
    reply.key("StreamNames");
    reply.begin_array();
    for (const StreamView* view : shown) {
        reply.plain(view->stream().shown());
    }
    reply.end_array();
    reply.key("HasMoreStreams");
    reply.boolean(has_more);
    if (has_more) {
        PageToken page;
        page.issued_ms = context.clock.wall_ms();
        page.stream = shown.back()->stream().name;
        reply.key("NextToken");
        reply.plain(encode_page(context.sealer, page));
    }
    reply.key("StreamSummaries");
    reply.begin_array();
    for (const StreamView* view : shown) {
        reply.begin_object();
        write_head(context, view->stream(), reply);
        reply.end_object();
    }
    reply.end_array();
    reply.end_object();
    return {};
}

ApiStatus describe_stream(const OperationContext& context, const DescribeStreamInput& input,
                          ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    std::int64_t after = -1;
    if (input.exclusive_start) {
        const auto number = parse_shard_id(*input.exclusive_start);
        if (!number) {
            return std::unexpected(ApiError{
                "ResourceNotFoundException",
                "Could not find shard " + std::string(*input.exclusive_start) + " in stream " +
                    stream.shown() + " under account " + std::string(context.account) + "."});
        }
        after = *number;
    }
    reply.begin_object();
    reply.key("StreamDescription");
    reply.begin_object();
    write_head(context, stream, reply);
    reply.key("Shards");
    reply.begin_array();
    std::int64_t left = input.limit.value_or(shards_per_page);
    bool has_more = false;
    // The shards of a stream that is CREATING are not shown, as they cannot be used yet.
    for (const Shard& shard : stream.shards) {
        if (shard.number <= after || stream.status == StreamStatus::creating ||
            !shard.is_listed()) {
            continue;
        }
        if (left == 0) {
            has_more = true;
            break;
        }
        write_shard(reply, shard);
        --left;
    }
    reply.end_array();
    reply.key("HasMoreShards");
    reply.boolean(has_more);
    write_settings(stream, reply);
    reply.end_object();
    reply.end_object();
    return {};
}

ApiStatus describe_stream_summary(const OperationContext& context, const StreamInput& input,
                                  ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    reply.begin_object();
    reply.key("StreamDescriptionSummary");
    reply.begin_object();
    write_head(context, stream, reply);
    write_settings(stream, reply);
    reply.key("OpenShardCount");
    reply.number(stream.status == StreamStatus::creating ? 0 : stream.open_shard_count());
    reply.key("ConsumerCount");
    reply.number(static_cast<std::int64_t>(stream.consumers.size()));
    if (stream.warm_throughput_mibps != 0) {
        write_warm_throughput(reply, context.streams.on_demand(), stream);
    }
    if (stream.mode == StreamMode::on_demand) {
        reply.key("RecordDistributionStrategy");
        reply.plain(distribution_names[static_cast<std::size_t>(stream.distribution)]);
    }
    reply.key("MaxRecordSizeInKiB");
    reply.number(stream.max_record_kib);
    reply.end_object();
    reply.end_object();
    return {};
}

}  // namespace penstock::kinesis
