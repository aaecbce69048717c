// What each operation takes, read from a request body and checked for what needs no knowledge of
// streams. The same for every encoding of the body.
//
// Runs on: any control thread.
// Guarantees: views are good while the body and the arena are.
#pragma once

#include <simdjson.h>

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "control/kinesis/api_error.h"
#include "control/kinesis/dialect.h"
#include "control/kinesis/input/arena.h"
#include "control/kinesis/input/checks.h"
#include "control/kinesis/input/input_value.h"
#include "storage/base/bytes.h"

namespace penstock::kinesis {

enum class Operation : std::uint8_t {
    create_stream,
    delete_stream,
    list_streams,
    describe_stream,
    describe_stream_summary,
    list_shards,
    put_record,
    put_records,
    get_shard_iterator,
    get_records,
    increase_retention,
    decrease_retention,
    put_resource_policy,
    get_resource_policy,
    delete_resource_policy,
    register_consumer,
    deregister_consumer,
    describe_consumer,
    list_consumers,
    subscribe_to_shard,
    split_shard,
    merge_shards,
    update_shard_count,
    update_stream_mode,
    add_tags_to_stream,
    remove_tags_from_stream,
    list_tags_for_stream,
    tag_resource,
    untag_resource,
    list_tags_for_resource,
    describe_limits,
    describe_account_settings,
    update_account_settings,
    enable_enhanced_monitoring,
    disable_enhanced_monitoring,
    update_max_record_size,
    update_stream_warm_throughput,
    update_stream_record_distribution_strategy,
    start_stream_encryption,
    stop_stream_encryption,
};
// In the enum's order.
inline constexpr auto operation_names = std::to_array<std::string_view>({
    "CreateStream",
    "DeleteStream",
    "ListStreams",
    "DescribeStream",
    "DescribeStreamSummary",
    "ListShards",
    "PutRecord",
    "PutRecords",
    "GetShardIterator",
    "GetRecords",
    "IncreaseStreamRetentionPeriod",
    "DecreaseStreamRetentionPeriod",
    "PutResourcePolicy",
    "GetResourcePolicy",
    "DeleteResourcePolicy",
    "RegisterStreamConsumer",
    "DeregisterStreamConsumer",
    "DescribeStreamConsumer",
    "ListStreamConsumers",
    "SubscribeToShard",
    "SplitShard",
    "MergeShards",
    "UpdateShardCount",
    "UpdateStreamMode",
    "AddTagsToStream",
    "RemoveTagsFromStream",
    "ListTagsForStream",
    "TagResource",
    "UntagResource",
    "ListTagsForResource",
    "DescribeLimits",
    "DescribeAccountSettings",
    "UpdateAccountSettings",
    "EnableEnhancedMonitoring",
    "DisableEnhancedMonitoring",
    "UpdateMaxRecordSize",
    "UpdateStreamWarmThroughput",
    "UpdateStreamRecordDistributionStrategy",
    "StartStreamEncryption",
    "StopStreamEncryption",
});
// "CreateStream"; nothing for what this server does not have.
[[nodiscard]] std::optional<Operation> find_operation(std::string_view name) noexcept;

// The stream an operation is about, by name or ARN.
struct StreamRef {
    OptionalText name;
    OptionalText arn;
    OptionalText id;  // accepted, ignored
};

struct CreateStreamInput {
    StreamRef stream;
    OptionalInteger shard_count;
    OptionalText mode;
    OptionalInteger max_record_kib;
    OptionalInteger warm_throughput;
    bool has_mode_details = false;
    std::vector<std::pair<std::string_view, std::string_view>> tags;
    bool has_tags = false;
    OptionalText distribution;
};
struct StreamInput {  // DeleteStream, DescribeStreamSummary
    StreamRef stream;
    bool enforce_consumer_deletion = false;
};
struct ListStreamsInput {
    OptionalInteger limit;
    OptionalText exclusive_start;
    OptionalText next_token;
};
struct DescribeStreamInput {
    StreamRef stream;
    OptionalInteger limit;
    OptionalText exclusive_start;
};
struct ListShardsInput {
    StreamRef stream;
    OptionalText next_token;
    OptionalText exclusive_start;
    OptionalInteger max_results;
    OptionalInteger created_ms;
    bool has_filter = false;
    OptionalText filter_type;
    OptionalText filter_shard;
    OptionalInteger filter_ms;
};
struct PutEntry {
    OptionalText partition_key;
    std::optional<Bytes> data;
    OptionalText explicit_hash;
};
struct PutRecordInput {
    StreamRef stream;
    PutEntry entry;
    OptionalText sequence_for_ordering;
    bool dry_run = false;
    std::optional<ApiError> without_key;
};
struct PutRecordsInput {
    StreamRef stream;
    bool has_records = false;
    std::vector<PutEntry> entries;
    bool dry_run = false;
    // What is wrong unless the stream distributes records itself: nothing but missing keys.
    std::optional<ApiError> without_key;
};
struct GetShardIteratorInput {
    StreamRef stream;
    OptionalText shard;
    OptionalText type;
    OptionalText sequence;
    OptionalInteger timestamp_ms;
    bool dry_run = false;
};
struct GetRecordsInput {
    StreamRef stream;
    OptionalText iterator;
    OptionalInteger limit;
    bool dry_run = false;
};
struct RetentionInput {
    StreamRef stream;
    OptionalInteger hours;
};

struct ResourcePolicyInput {
    StreamRef stream;  // its ResourceARN
    OptionalText policy;
};

struct RegisterConsumerInput {
    StreamRef stream;  // its ARN
    OptionalText name;
    std::vector<std::pair<std::string_view, std::string_view>> tags;
    bool has_tags = false;
};
struct ConsumerInput {  // DeregisterStreamConsumer, DescribeStreamConsumer
    StreamRef stream;   // its ARN
    OptionalText name;
    OptionalText arn;  // the consumer's
};
struct ListConsumersInput {
    StreamRef stream;  // its ARN
    OptionalText next_token;
    OptionalInteger max_results;
    OptionalInteger created_ms;
};
struct SubscribeInput {
    StreamRef stream;  // only an id may be given
    OptionalText consumer_arn;
    OptionalText shard;
    bool has_position = false;
    OptionalText type;
    OptionalText sequence;
    OptionalInteger timestamp_ms;
    bool dry_run = false;
};

struct SplitShardInput {
    StreamRef stream;
    OptionalText shard;
    OptionalText new_start;
};
struct MergeShardsInput {
    StreamRef stream;
    OptionalText shard;
    OptionalText adjacent;
};
struct UpdateShardCountInput {
    StreamRef stream;
    OptionalInteger target;
    OptionalText scaling;
};
struct UpdateStreamModeInput {
    StreamRef stream;  // by ARN only
    OptionalText mode;
    OptionalInteger warm_throughput;
    bool has_mode_details = false;
};

struct InputSource {
    simdjson::ondemand::parser& parser;
    Arena& arena;
    EncodedBody body;
};

using InputResult = std::optional<ApiError>;
inline constexpr std::size_t page_token_max = 1U << 20;  // characters
// What the readers of all operations share. Calls `member` with each member of the body.
[[nodiscard]] InputResult read_members(const InputSource& source, const InputMember& member);
// False for a key that names no stream.
[[nodiscard]] bool read_stream_ref(StreamRef& stream, std::string_view key, InputValue& value);
void check_stream_ref(Checks& checks, const StreamRef& stream);
[[nodiscard]] InputResult read_input(const InputSource& source, CreateStreamInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, StreamInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, ListStreamsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, DescribeStreamInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, ListShardsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, PutRecordInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, PutRecordsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, GetShardIteratorInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, GetRecordsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, RetentionInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, RegisterConsumerInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, ConsumerInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, ListConsumersInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, SubscribeInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, SplitShardInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, MergeShardsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, UpdateShardCountInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, UpdateStreamModeInput& out);
// Of PutResourcePolicy, which needs the policy, and of its two companions, which ignore it.
[[nodiscard]] InputResult read_input(const InputSource& source, ResourcePolicyInput& out);
[[nodiscard]] InputResult read_put_policy(const InputSource& source, ResourcePolicyInput& out);

}  // namespace penstock::kinesis
