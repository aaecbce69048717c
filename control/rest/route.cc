#include "control/rest/route.h"

#include <algorithm>
#include <array>

namespace penstock::rest {

namespace {

using kinesis::Operation;

constexpr std::array stream_path{Field{"stream_name", "StreamName"}};
constexpr std::array stream_arn_path{Field{"stream_name", "StreamARN"}};
constexpr std::array split_path{Field{"stream_name", "StreamName"},
                                Field{"shard_id", "ShardToSplit"}};
constexpr std::array merge_path{Field{"stream_name", "StreamName"},
                                Field{"shard_id", "ShardToMerge"}};
constexpr std::array consumer_path{Field{"stream_name", "StreamARN"},
                                   Field{"consumer_name", "ConsumerName"}};

constexpr std::array page_of_streams{
    Field{"limit", "Limit", Kind::integer},
    Field{"exclusive_start_stream_name", "ExclusiveStartStreamName"}};
constexpr std::array new_stream{
    Field{"stream_name", "StreamName", Kind::text, true},
    Field{"shard_count", "ShardCount", Kind::integer},
    Field{"stream_mode", "StreamModeDetails.StreamMode"},
    Field{"max_record_size_in_kib", "MaxRecordSizeInKiB", Kind::integer},
    Field{"warm_throughput_mibps", "WarmThroughputMiBps", Kind::integer},
    Field{"record_distribution_strategy", "RecordDistributionStrategy"},
    Field{"tags", "Tags", Kind::object}};
constexpr std::array stream_deletion{
    Field{"enforce_consumer_deletion", "EnforceConsumerDeletion", Kind::boolean}};
constexpr std::array page_of_shards{
    Field{"max_results", "MaxResults", Kind::integer},
    Field{"exclusive_start_shard_id", "ExclusiveStartShardId"},
    Field{"shard_filter_type", "ShardFilter.Type"},
    Field{"shard_filter_shard_id", "ShardFilter.ShardId"},
    Field{"shard_filter_timestamp", "ShardFilter.Timestamp", Kind::time}};
constexpr std::array shard_count{
    Field{"target_shard_count", "TargetShardCount", Kind::integer, true}};
constexpr std::array split{Field{"new_starting_hash_key", "NewStartingHashKey", Kind::text, true}};
constexpr std::array merge{
    Field{"adjacent_shard_to_merge", "AdjacentShardToMerge", Kind::text, true}};
constexpr std::array retention{
    Field{"retention_period_hours", "RetentionPeriodHours", Kind::integer, true}};
constexpr std::array mode{Field{"stream_mode", "StreamModeDetails.StreamMode", Kind::text, true},
                          Field{"warm_throughput_mibps", "WarmThroughputMiBps", Kind::integer}};
constexpr std::array page_of_consumers{Field{"max_results", "MaxResults", Kind::integer},
                                       Field{"next_token", "NextToken"}};
constexpr std::array new_consumer{Field{"consumer_name", "ConsumerName", Kind::text, true},
                                  Field{"tags", "Tags", Kind::object}};
constexpr std::array put_query{Field{"partition_key", ""}, Field{"explicit_hash_key", ""}};
constexpr std::array put_body{Field{"records", "", Kind::list, true}};
constexpr std::array read_query_fields{
    Field{"shard_id", ""},        Field{"shard_iterator_type", ""},
    Field{"sequence_number", ""}, Field{"timestamp", "", Kind::time},
    Field{"shard_iterator", ""},  Field{"limit", "", Kind::integer}};

constexpr std::array all{
    Route{.method = "GET",
          .path = "/v1/streams",
          .operation = Operation::list_streams,
          .query = page_of_streams,
          .has_next = true},
    Route{.method = "POST",
          .path = "/v1/streams",
          .operation = Operation::create_stream,
          .status = 201,
          .body = new_stream},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}",
          .operation = Operation::describe_stream_summary,
          .path_fields = stream_path,
          .unwrap = "StreamDescriptionSummary"},
    Route{.method = "DELETE",
          .path = "/v1/streams/{stream_name}",
          .operation = Operation::delete_stream,
          .status = 202,
          .path_fields = stream_path,
          .query = stream_deletion},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}/shards",
          .operation = Operation::list_shards,
          .path_fields = stream_path,
          .query = page_of_shards,
          .has_next = true},
    Route{.method = "PUT",
          .path = "/v1/streams/{stream_name}/shards",
          .operation = Operation::update_shard_count,
          .status = 202,
          .path_fields = stream_path,
          .body = shard_count},
    Route{.method = "POST",
          .path = "/v1/streams/{stream_name}/shards/{shard_id}/split",
          .operation = Operation::split_shard,
          .status = 202,
          .path_fields = split_path,
          .body = split},
    Route{.method = "POST",
          .path = "/v1/streams/{stream_name}/shards/{shard_id}/merge",
          .operation = Operation::merge_shards,
          .status = 202,
          .path_fields = merge_path,
          .body = merge},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}/retention",
          .operation = Operation::describe_stream_summary,
          .path_fields = stream_path,
          .unwrap = "StreamDescriptionSummary",
          .only = "RetentionPeriodHours"},
    Route{.method = "PUT",
          .path = "/v1/streams/{stream_name}/retention",
          .operation = Operation::increase_retention,
          .action = Action::change_retention,
          .path_fields = stream_path,
          .body = retention},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}/mode",
          .operation = Operation::describe_stream_summary,
          .path_fields = stream_path,
          .unwrap = "StreamDescriptionSummary",
          .only = "StreamModeDetails"},
    Route{.method = "PUT",
          .path = "/v1/streams/{stream_name}/mode",
          .operation = Operation::update_stream_mode,
          .path_fields = stream_arn_path,
          .body = mode},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}/consumers",
          .operation = Operation::list_consumers,
          .path_fields = stream_arn_path,
          .query = page_of_consumers,
          .has_next = true},
    Route{.method = "POST",
          .path = "/v1/streams/{stream_name}/consumers",
          .operation = Operation::register_consumer,
          .status = 201,
          .path_fields = stream_arn_path,
          .body = new_consumer,
          .unwrap = "Consumer"},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}/consumers/{consumer_name}",
          .operation = Operation::describe_consumer,
          .path_fields = consumer_path,
          .unwrap = "ConsumerDescription"},
    Route{.method = "DELETE",
          .path = "/v1/streams/{stream_name}/consumers/{consumer_name}",
          .operation = Operation::deregister_consumer,
          .path_fields = consumer_path},
    Route{.method = "GET",
          .path = "/v1/streams/{stream_name}/records",
          .operation = Operation::get_records,
          .action = Action::get_records,
          .path_fields = stream_path,
          .query = read_query_fields,
          .has_next = true},
    Route{.method = "POST",
          .path = "/v1/streams/{stream_name}/records",
          .operation = Operation::put_records,
          .action = Action::put,
          .path_fields = stream_path,
          .query = put_query,
          .body = put_body},
    Route{.method = "GET",
          .path = "/v1/consumers",
          .operation = Operation::list_consumers,
          .action = Action::list_all_consumers,
          .query = page_of_streams,
          .has_next = true},
};

}  // namespace

std::span<const Route> routes() noexcept {
    return all;
}

bool is_ours(std::string_view path) noexcept {
    return path == "/v1" || path.starts_with("/v1/");
}

std::expected<Match, Mismatch> match(std::string_view method, std::string_view path) {
    // The connection sends no body for HEAD.
    const std::string_view wanted = method == "HEAD" ? "GET" : method;
    Mismatch mismatch;
    for (const Route& route : all) {
        auto parts = http::fit(route.path, path);
        if (!parts) {
            continue;
        }
        if (route.method == wanted) {
            return Match{&route, std::move(*parts)};
        }
        mismatch.path_is_known = true;
        mismatch.allow += (mismatch.allow.empty() ? "" : ", ") + std::string(route.method);
    }
    return std::unexpected(std::move(mismatch));
}

std::optional<kinesis::Operation> operation_of(const http::HttpRequest& request) {
    if (!is_ours(request.path)) {
        return std::nullopt;
    }
    const auto found = match(request.method, request.path);
    if (!found) {
        return std::nullopt;
    }
    return found->route->action == Action::put && puts_one(request) ? Operation::put_record
                                                                    : found->route->operation;
}

std::string content_type_of(const http::HttpRequest& request) {
    const std::string_view header = request.header("content-type");
    std::string type;
    for (const char c : header.substr(0, header.find(';'))) {
        if (c != ' ' && c != '\t') {
            type.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c);
        }
    }
    return type;
}

bool puts_one(const http::HttpRequest& request) {
    const std::string type = content_type_of(request);
    if (type == lines_type) {
        return false;
    }
    if (type != json_type || request.has_header(partition_key_header)) {
        return true;
    }
    const auto query = http::read_query(request.query);
    return query && http::find(*query, "partition_key") != nullptr;
}

}  // namespace penstock::rest
