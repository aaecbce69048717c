#include "control/kinesis/input/inputs.h"

#include <algorithm>

#include "control/kinesis/input/input_value.h"
#include "control/kinesis/stream/stream.h"
#include "storage/log/append.h"

namespace penstock::kinesis {

namespace {

constexpr std::size_t records_max = 500;

void read_entry(PutEntry& entry, std::string_view key, InputValue& value) {
    if (key == "Data") {
        entry.data = value.blob();
    } else if (key == "PartitionKey") {
        entry.partition_key = value.text();
    } else if (key == "ExplicitHashKey") {
        entry.explicit_hash = value.text();
    }
}

std::string blob_text(std::size_t bytes) {
    const std::string count = std::to_string(bytes);
    return "java.nio.HeapByteBuffer[pos=0 lim=" + count + " cap=" + count + "]";
}

bool is_sound(const PutEntry& entry) noexcept {
    return entry.data && entry.partition_key && !entry.partition_key->empty() &&
           entry.partition_key->size() <= 256 && entry.data->size() <= max_record_bytes &&
           !entry.explicit_hash;
}

// `prefix` is "" or "records.3.member.".
void check_entry(Checks& checks, const std::string& prefix, const PutEntry& entry, bool with_key) {
    const std::string key = prefix + "partitionKey";
    const std::string data = prefix + "data";
    checks.required(key, !with_key || entry.partition_key.has_value());
    checks.length(key, entry.partition_key, 1, 256);
    checks.required(data, entry.data.has_value());
    if (entry.data && entry.data->size() > max_record_bytes) {
        checks.add(
            data, blob_text(entry.data->size()),
            "Member must have length less than or equal to " + std::to_string(max_record_bytes));
    }
    checks.decimal(prefix + "explicitHashKey", entry.explicit_hash, hash_key_pattern, 39);
}

void check_records(Checks& checks, const PutRecordsInput& input, std::size_t count,
                   bool with_keys) {
    checks.required("records", input.has_records);
    if (input.has_records && count == 0) {
        checks.add("records", "[]", "Member must have length greater than or equal to 1");
    } else if (count > records_max) {
        std::string shown = "[";
        for (std::size_t i = 0; i < std::min(count, 2 * records_max); ++i) {
            shown += i == 0 ? "PutRecordsRequestEntry" : ", PutRecordsRequestEntry";
        }
        checks.add("records", shown + "]", "Member must have length less than or equal to 500");
    }
    for (std::size_t i = 0; i < input.entries.size() && !checks.full(); ++i) {
        if (!is_sound(input.entries[i])) {
            check_entry(checks, "records." + std::to_string(i + 1) + ".member.", input.entries[i],
                        with_keys);
        }
    }
}

// A partition key is required unless the stream distributes records itself, which is not known
// here. What is wrong anyway is told together with missing keys; missing keys alone are left to
// whoever knows the stream.
template <typename Input, typename Check>
InputResult check_twice(Input& out, bool lacks_key, const Check& check) {
    Checks checks;
    check(checks, true);
    auto all = checks.result();
    out.without_key.reset();
    if (!all || !lacks_key) {
        return all;
    }
    Checks others;
    check(others, false);
    if (others.result()) {
        return all;
    }
    out.without_key = std::move(all);
    return std::nullopt;
}

}  // namespace

InputResult read_members(const InputSource& source, const InputMember& member) {
    return read_body(source.parser, source.arena, source.body, member);
}

bool read_stream_ref(StreamRef& stream, std::string_view key, InputValue& value) {
    if (key == "StreamName") {
        stream.name = value.text();
    } else if (key == "StreamARN") {
        stream.arn = value.text();
    } else if (key == "StreamId") {
        stream.id = value.text();
    } else {
        return false;
    }
    return true;
}

void check_stream_ref(Checks& checks, const StreamRef& stream) {
    checks.required("streamName", stream.name || stream.arn);
    checks.name("streamName", stream.name);
    checks.stream_arn("streamARN", stream.arn);
    checks.stream_id(stream.id);
}

std::optional<Operation> find_operation(std::string_view name) noexcept {
    for (std::size_t i = 0; i < operation_names.size(); ++i) {
        if (operation_names[i] == name) {
            return static_cast<Operation>(i);
        }
    }
    return std::nullopt;
}

InputResult read_input(const InputSource& source, CreateStreamInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (key == "StreamName") {
            out.stream.name = value.text();
        } else if (key == "ShardCount") {
            out.shard_count = value.integer();
        } else if (key == "MaxRecordSizeInKiB") {
            out.max_record_kib = value.integer();
        } else if (key == "WarmThroughputMiBps") {
            out.warm_throughput = value.integer();
        } else if (key == "RecordDistributionStrategy") {
            out.distribution = value.text();
        } else if (key == "StreamModeDetails") {
            out.has_mode_details = true;
            value.structure([&](std::string_view detail, InputValue text) {
                if (detail == "StreamMode") {
                    out.mode = text.text();
                }
            });
        } else if (key == "Tags") {
            out.has_tags = true;
            value.map([&](std::string_view tag, InputValue text) {
                out.tags.emplace_back(source.arena.copy(tag), text.text());
            });
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.integer("shardCount", out.shard_count, 1);
    check_stream_ref(checks, out.stream);
    if (out.has_mode_details) {
        checks.required("streamModeDetails.streamMode", out.mode.has_value());
        checks.choice("streamModeDetails.streamMode", out.mode, {"PROVISIONED", "ON_DEMAND"});
    }
    checks.integer("warmThroughputMiBps", out.warm_throughput, 0);
    checks.integer("maxRecordSizeInKiB", out.max_record_kib, 1024, 10240);
    if (out.has_tags) {
        checks.tags("tags", out.tags);
    }
    checks.choice("recordDistributionStrategy", out.distribution, distribution_names);
    return checks.result();
}

InputResult read_input(const InputSource& source, StreamInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (!read_stream_ref(out.stream, key, value) && key == "EnforceConsumerDeletion") {
            out.enforce_consumer_deletion = value.boolean();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    check_stream_ref(checks, out.stream);
    return checks.result();
}

InputResult read_input(const InputSource& source, ListStreamsInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (key == "Limit") {
            out.limit = value.integer();
        } else if (key == "ExclusiveStartStreamName") {
            out.exclusive_start = value.text();
        } else if (key == "NextToken") {
            out.next_token = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.integer("limit", out.limit, 1, 10000);
    checks.name("exclusiveStartStreamName", out.exclusive_start);
    checks.length("nextToken", out.next_token, 1, page_token_max);
    return checks.result();
}

InputResult read_input(const InputSource& source, DescribeStreamInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "Limit") {
            out.limit = value.integer();
        } else if (key == "ExclusiveStartShardId") {
            out.exclusive_start = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.integer("limit", out.limit, 1, 10000);
    checks.name("exclusiveStartShardId", out.exclusive_start);
    check_stream_ref(checks, out.stream);
    return checks.result();
}

InputResult read_input(const InputSource& source, ListShardsInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "NextToken") {
            out.next_token = value.text();
        } else if (key == "ExclusiveStartShardId") {
            out.exclusive_start = value.text();
        } else if (key == "MaxResults") {
            out.max_results = value.integer();
        } else if (key == "StreamCreationTimestamp") {
            out.created_ms = value.timestamp_ms();
        } else if (key == "ShardFilter") {
            out.has_filter = true;
            value.structure([&](std::string_view part, InputValue inner) {
                if (part == "Type") {
                    out.filter_type = inner.text();
                } else if (part == "ShardId") {
                    out.filter_shard = inner.text();
                } else if (part == "Timestamp") {
                    out.filter_ms = inner.timestamp_ms();
                }
            });
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.integer("maxResults", out.max_results, 1, 10000);
    checks.name("exclusiveStartShardId", out.exclusive_start);
    checks.length("nextToken", out.next_token, 1, page_token_max);
    if (out.has_filter) {
        checks.required("shardFilter.type", out.filter_type.has_value());
        checks.choice("shardFilter.type", out.filter_type,
                      {"AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST",
                       "AT_TIMESTAMP", "FROM_TIMESTAMP"});
        checks.name("shardFilter.shardId", out.filter_shard);
    }
    if (!out.next_token) {
        check_stream_ref(checks, out.stream);
    } else {
        checks.name("streamName", out.stream.name);
        checks.stream_arn("streamARN", out.stream.arn);
        checks.stream_id(out.stream.id);
    }
    return checks.result();
}

InputResult read_input(const InputSource& source, PutRecordInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "SequenceNumberForOrdering") {
            out.sequence_for_ordering = value.text();
        } else if (key == "DryRun") {
            out.dry_run = value.boolean();
        } else {
            read_entry(out.entry, key, value);
        }
    });
    if (fault) {
        return fault;
    }
    return check_twice(out, !out.entry.partition_key, [&](Checks& checks, bool with_keys) {
        checks.decimal("sequenceNumberForOrdering", out.sequence_for_ordering, sequence_pattern,
                       129);
        check_entry(checks, "", out.entry, with_keys);
        check_stream_ref(checks, out.stream);
    });
}

InputResult read_input(const InputSource& source, PutRecordsInput& out) {
    std::size_t count = 0;
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "DryRun") {
            out.dry_run = value.boolean();
        }
        if (key != "Records") {
            return;
        }
        out.has_records = true;
        out.entries.clear();
        count = 0;
        value.list([&](std::optional<InputValue> item) {
            ++count;
            // One too many is enough to refuse; a body of nothing but empty entries must not take
            // memory for each.
            if (count > records_max) {
                return;
            }
            PutEntry& entry = out.entries.emplace_back();
            if (item) {
                item->structure([&](std::string_view part, InputValue inner) {
                    read_entry(entry, part, inner);
                });
            }
        });
    });
    if (fault) {
        return fault;
    }
    const bool lacks_key = std::any_of(out.entries.begin(), out.entries.end(),
                                       [](const PutEntry& entry) { return !entry.partition_key; });
    return check_twice(out, lacks_key, [&](Checks& checks, bool with_keys) {
        check_records(checks, out, count, with_keys);
        check_stream_ref(checks, out.stream);
    });
}

InputResult read_input(const InputSource& source, GetShardIteratorInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "ShardId") {
            out.shard = value.text();
        } else if (key == "ShardIteratorType") {
            out.type = value.text();
        } else if (key == "StartingSequenceNumber") {
            out.sequence = value.text();
        } else if (key == "Timestamp") {
            out.timestamp_ms = value.timestamp_ms();
        } else if (key == "DryRun") {
            out.dry_run = value.boolean();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("shardId", out.shard.has_value());
    checks.name("shardId", out.shard);
    checks.required("shardIteratorType", out.type.has_value());
    checks.choice(
        "shardIteratorType", out.type,
        {"AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"});
    checks.decimal("startingSequenceNumber", out.sequence, sequence_pattern, 129);
    check_stream_ref(checks, out.stream);
    return checks.result();
}

InputResult read_input(const InputSource& source, GetRecordsInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "ShardIterator") {
            out.iterator = value.text();
        } else if (key == "Limit") {
            out.limit = value.integer();
        } else if (key == "DryRun") {
            out.dry_run = value.boolean();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.integer("limit", out.limit, 1, 10000);
    checks.required("shardIterator", out.iterator.has_value());
    checks.length("shardIterator", out.iterator, 1, 512);
    checks.name("streamName", out.stream.name);
    checks.stream_arn("streamARN", out.stream.arn);
    checks.stream_id(out.stream.id);
    return checks.result();
}

namespace {

InputResult read_policy(const InputSource& source, ResourcePolicyInput& out, bool needs_policy) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (key == "ResourceARN") {
            out.stream.arn = value.text();
        } else if (key == "Policy") {
            out.policy = value.text();
        } else if (key == "StreamId") {
            out.stream.id = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("resourceARN", out.stream.arn.has_value());
    checks.resource_arn("resourceARN", out.stream.arn);
    checks.stream_id(out.stream.id);
    if (needs_policy) {
        checks.required("policy", out.policy.has_value());
    }
    return checks.result();
}

}  // namespace

InputResult read_input(const InputSource& source, ResourcePolicyInput& out) {
    return read_policy(source, out, false);
}

InputResult read_put_policy(const InputSource& source, ResourcePolicyInput& out) {
    return read_policy(source, out, true);
}

InputResult read_input(const InputSource& source, RetentionInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (!read_stream_ref(out.stream, key, value) && key == "RetentionPeriodHours") {
            out.hours = value.integer();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("retentionPeriodHours", out.hours.has_value());
    check_stream_ref(checks, out.stream);
    return checks.result();
}

InputResult read_input(const InputSource& source, SplitShardInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "ShardToSplit") {
            out.shard = value.text();
        } else if (key == "NewStartingHashKey") {
            out.new_start = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("newStartingHashKey", out.new_start.has_value());
    checks.decimal("newStartingHashKey", out.new_start, hash_key_pattern, 39);
    check_stream_ref(checks, out.stream);
    checks.required("shardToSplit", out.shard.has_value());
    checks.name("shardToSplit", out.shard);
    return checks.result();
}

InputResult read_input(const InputSource& source, MergeShardsInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "ShardToMerge") {
            out.shard = value.text();
        } else if (key == "AdjacentShardToMerge") {
            out.adjacent = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("adjacentShardToMerge", out.adjacent.has_value());
    checks.name("adjacentShardToMerge", out.adjacent);
    check_stream_ref(checks, out.stream);
    checks.required("shardToMerge", out.shard.has_value());
    checks.name("shardToMerge", out.shard);
    return checks.result();
}

InputResult read_input(const InputSource& source, UpdateShardCountInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "TargetShardCount") {
            out.target = value.integer();
        } else if (key == "ScalingType") {
            out.scaling = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("scalingType", out.scaling.has_value());
    checks.choice("scalingType", out.scaling, {"UNIFORM_SCALING"});
    check_stream_ref(checks, out.stream);
    checks.required("targetShardCount", out.target.has_value());
    checks.integer("targetShardCount", out.target, 1);
    return checks.result();
}

InputResult read_input(const InputSource& source, UpdateStreamModeInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (key == "StreamARN") {
            out.stream.arn = value.text();
        } else if (key == "StreamId") {
            out.stream.id = value.text();
        } else if (key == "WarmThroughputMiBps") {
            out.warm_throughput = value.integer();
        } else if (key == "StreamModeDetails") {
            out.has_mode_details = true;
            value.structure([&](std::string_view detail, InputValue text) {
                if (detail == "StreamMode") {
                    out.mode = text.text();
                }
            });
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("streamARN", out.stream.arn.has_value());
    checks.stream_arn("streamARN", out.stream.arn);
    checks.stream_id(out.stream.id);
    checks.required("streamModeDetails", out.has_mode_details);
    if (out.has_mode_details) {
        checks.required("streamModeDetails.streamMode", out.mode.has_value());
        checks.choice("streamModeDetails.streamMode", out.mode, {"PROVISIONED", "ON_DEMAND"});
    }
    checks.integer("warmThroughputMiBps", out.warm_throughput, 0);
    return checks.result();
}

}  // namespace penstock::kinesis
