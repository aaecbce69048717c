// Tags, limits, account settings, enhanced monitoring, record size, warm throughput and record
// distribution: operations that change or show what is kept of a stream or of the account, and that
// lanes need not hear of.
//
// Runs on: any control thread; changes block on the catalog.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "control/kinesis/operations/operations.h"

namespace penstock::kinesis {

// A stream by its name or ARN, or what belongs to one by its own ARN.
struct TagsInput {
    StreamRef stream;  // for the Resource forms its ARN
    Checks::TextPairs tags;
    bool has_tags = false;
    std::vector<std::string_view> keys;
    bool has_keys = false;
    OptionalInteger limit;
    OptionalText exclusive_start;
};
struct MonitoringInput {
    StreamRef stream;
    std::vector<std::string_view> metrics;
    bool has_metrics = false;
};
struct StreamSettingsInput {
    StreamRef stream;
    OptionalInteger max_record_kib;
    OptionalInteger warm_throughput;
    OptionalText distribution;
};
struct AccountSettingsInput {
    bool has_commitment = false;
    OptionalText status;
};

[[nodiscard]] InputResult read_tags_input(const InputSource& source, Operation operation,
                                          TagsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, MonitoringInput& out);
[[nodiscard]] InputResult read_stream_settings(const InputSource& source, Operation operation,
                                               StreamSettingsInput& out);
[[nodiscard]] InputResult read_input(const InputSource& source, AccountSettingsInput& out);

inline constexpr std::size_t tags_per_resource_max = 50;

// What is wrong with tags beyond their lengths; nothing when they may be put on `resource`.
[[nodiscard]] std::optional<ApiError> check_tags(const Checks::TextPairs& tags,
                                                 std::string_view resource,
                                                 std::string_view account);

// Runs an operation of this file; nothing for any other.
[[nodiscard]] std::optional<ApiStatus> run_settings_operation(const OperationContext& context,
                                                              const InputSource& source,
                                                              ReplyWriter& reply);

[[nodiscard]] ApiStatus change_tags(const OperationContext& context, const TagsInput& input);
[[nodiscard]] ApiStatus list_tags(const OperationContext& context, const TagsInput& input,
                                  ReplyWriter& reply);

// The names of the metrics of a set, as an array.
void write_metrics(ReplyWriter& reply, unsigned metrics);
// The member WarmThroughput: what was asked for, and what of it the open shards are good for.
void write_warm_throughput(ReplyWriter& reply, const OnDemandLimits& limits, const Stream& stream);

}  // namespace penstock::kinesis
