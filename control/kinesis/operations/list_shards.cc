// ListShards with its six filters.
#include <algorithm>
#include <array>

#include "control/kinesis/operations/operations.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

constexpr std::int64_t shards_per_page = 1000;

enum class Filter : std::uint8_t {
    from_trim_horizon,
    after_shard_id,
    at_trim_horizon,
    at_latest,
    at_timestamp,
    from_timestamp
};
constexpr std::array<std::string_view, 6> filter_names = {"FROM_TRIM_HORIZON", "AFTER_SHARD_ID",
                                                          "AT_TRIM_HORIZON",   "AT_LATEST",
                                                          "AT_TIMESTAMP",      "FROM_TIMESTAMP"};

struct Selection {
    Filter filter = Filter::from_trim_horizon;
    std::uint32_t filter_shard = 0;
    std::int64_t filter_ms = 0;
    std::int64_t after_shard = -1;
};

// When a shard was closed. Far in the future while it is open.
std::int64_t closed_ms(const Stream& stream, const Shard& shard) {
    if (shard.is_open()) {
        return INT64_MAX;
    }
    if (shard.closed_ms != 0) {
        return shard.closed_ms;
    }
    for (const Shard& other : stream.shards) {
        if (other.parent == shard.number || other.adjacent_parent == shard.number) {
            return other.created_s * 1000;
        }
    }
    return INT64_MAX;
}

bool is_selected(const Stream& stream, const Shard& shard, const Selection& selection,
                 std::int64_t now_ms) {
    if (shard.number <= selection.after_shard || !shard.is_listed()) {
        return false;
    }
    const std::int64_t horizon_ms = now_ms - stream.retention_ms();
    // A stream's first shards have been there from its beginning, though their numbers may begin
    // with a later second.
    const std::int64_t created_ms = shard.opened_ms != 0 ? shard.opened_ms
                                    : shard.parent       ? shard.created_s * 1000
                                                         : stream.created_ms / 1000 * 1000;
    const std::int64_t end_ms = closed_ms(stream, shard);
    if (end_ms <= horizon_ms) {
        return false;  // all its records have expired
    }
    const std::int64_t at_ms = std::max(selection.filter_ms, horizon_ms);
    switch (selection.filter) {
        case Filter::from_trim_horizon:
            return true;
        case Filter::after_shard_id:
            return shard.number > selection.filter_shard;
        // Open at the horizon, or the stream's first if it is younger than that.
        case Filter::at_trim_horizon:
            return std::max(horizon_ms, stream.created_ms / 1000 * 1000) >= created_ms;
        case Filter::at_latest:
            return shard.is_open();
        case Filter::at_timestamp:
            return std::max(at_ms, stream.created_ms / 1000 * 1000) >= created_ms && end_ms > at_ms;
        case Filter::from_timestamp:
            return end_ms > at_ms;
    }
    return false;
}

ApiResult<Selection> read_selection(const ListShardsInput& input) {
    Selection selection;
    if (input.exclusive_start) {
        const auto number = parse_shard_id(*input.exclusive_start);
        if (!number) {
            return std::unexpected(invalid_argument("ExclusiveStartShardId " +
                                                    std::string(*input.exclusive_start) +
                                                    " is not a shard id."));
        }
        selection.after_shard = *number;
    }
    if (!input.has_filter) {
        return selection;
    }
    const auto name = std::find(filter_names.begin(), filter_names.end(), *input.filter_type);
    selection.filter = static_cast<Filter>(name - filter_names.begin());
    const std::string type(*input.filter_type);
    const bool wants_shard = selection.filter == Filter::after_shard_id;
    const bool wants_time =
        selection.filter == Filter::at_timestamp || selection.filter == Filter::from_timestamp;
    if (wants_shard != input.filter_shard.has_value()) {
        return std::unexpected(invalid_argument("ShardFilter of type " + type +
                                                (wants_shard ? " needs a" : " takes no") +
                                                " ShardId."));
    }
    if (wants_time != input.filter_ms.has_value()) {
        return std::unexpected(invalid_argument("ShardFilter of type " + type +
                                                (wants_time ? " needs a" : " takes no") +
                                                " Timestamp."));
    }
    if (wants_shard) {
        const auto number = parse_shard_id(*input.filter_shard);
        if (!number) {
            return std::unexpected(invalid_argument(
                "ShardFilter.ShardId " + std::string(*input.filter_shard) + " is not a shard id."));
        }
        selection.filter_shard = *number;
    }
    selection.filter_ms = input.filter_ms.value_or(0);
    return selection;
}

// Selection and stream of a token.
ApiResult<std::shared_ptr<const StreamView>> read_token(const OperationContext& context,
                                                        const ListShardsInput& input,
                                                        Selection& selection) {
    for (const auto& [given, name] :
         {std::pair{input.stream.name.has_value(), "StreamName"},
          std::pair{input.stream.arn.has_value(), "StreamARN"},
          std::pair{input.created_ms.has_value(), "StreamCreationTimestamp"},
          std::pair{input.exclusive_start.has_value(), "ExclusiveStartShardId"},
          std::pair{input.has_filter, "ShardFilter"}}) {
        if (given) {
            return std::unexpected(invalid_argument(std::string("NextToken and ") + name +
                                                    " cannot be provided together."));
        }
    }
    const auto page = decode_page(context.sealer, *input.next_token);
    if (!page || page->kind != PageToken::Kind::list_shards ||
        !context.is_of_region(page->stream)) {
        return std::unexpected(invalid_argument("NextToken is invalid."));
    }
    if (context.clock.wall_ms() - page->issued_ms > token_life_ms) {
        return std::unexpected(ApiError{"ExpiredNextTokenException", "NextToken has expired."});
    }
    auto view = context.streams.find(page->stream);
    if (auto allowed = authorize(context, page->stream, view.get()); !allowed) {
        return std::unexpected(std::move(allowed.error()));
    }
    if (!view || view->stream().incarnation != page->incarnation) {
        return std::unexpected(stream_not_found(page->stream, context.account));
    }
    selection.filter = static_cast<Filter>(page->filter);
    selection.filter_shard = page->filter_shard;
    selection.filter_ms = page->filter_ms;
    selection.after_shard = page->after_shard;
    return view;
}

}  // namespace

ApiStatus list_shards(const OperationContext& context, const ListShardsInput& input,
                      ReplyWriter& reply) {
    Selection selection;
    std::shared_ptr<const StreamView> view;
    if (input.next_token) {
        auto found = read_token(context, input, selection);
        if (!found) {
            return std::unexpected(found.error());
        }
        view = std::move(*found);
    } else {
        auto found = resolve_stream(context, input.stream);
        if (!found) {
            return std::unexpected(found.error());
        }
        view = std::move(*found);
        auto wanted = read_selection(input);
        if (!wanted) {
            return std::unexpected(wanted.error());
        }
        selection = *wanted;
        // The caller may name the stream by its time of creation, in seconds or milliseconds.
        if (input.created_ms && *input.created_ms / 1000 != view->stream().created_ms / 1000) {
            return std::unexpected(stream_not_found(view->stream().name, context.account));
        }
    }
    const Stream& stream = view->stream();
    if (stream.status == StreamStatus::creating || stream.status == StreamStatus::deleting) {
        return std::unexpected(not_active(context, stream));
    }
    const std::int64_t now_ms = context.clock.wall_ms();
    std::int64_t left = std::min(input.max_results.value_or(shards_per_page), shards_per_page);
    bool has_more = false;
    std::uint32_t last = 0;
    reply.begin_object();
    reply.key("Shards");
    reply.begin_array();
    for (const Shard& shard : stream.shards) {
        if (!is_selected(stream, shard, selection, now_ms)) {
            continue;
        }
        if (left == 0) {
            has_more = true;
            break;
        }
        write_shard(reply, shard);
        last = shard.number;
        --left;
    }
    reply.end_array();
    if (has_more) {
        PageToken page;
        page.kind = PageToken::Kind::list_shards;
        page.filter = static_cast<std::uint8_t>(selection.filter);
        page.filter_shard = selection.filter_shard;
        page.filter_ms = selection.filter_ms;
        page.after_shard = last;
        page.incarnation = stream.incarnation;
        page.issued_ms = now_ms;
        page.stream = stream.name;
        reply.key("NextToken");
        reply.plain(encode_page(context.sealer, page));
    }
    reply.end_object();
    return {};
}

}  // namespace penstock::kinesis
