// What the operations of operations/settings.h take.
#include "control/kinesis/operations/settings.h"

namespace penstock::kinesis {

namespace {

constexpr std::size_t tag_keys_max = 50;
constexpr std::size_t metrics_max = 7;

void read_texts(std::vector<std::string_view>& out, InputValue& value) {
    value.list([&](std::optional<InputValue> item) {
        out.push_back(item ? item->text() : std::string_view());
    });
}

bool is_of_resource(Operation operation) noexcept {
    return operation == Operation::tag_resource || operation == Operation::untag_resource ||
           operation == Operation::list_tags_for_resource;
}

constexpr auto metric_names = [] {
    std::array<std::string_view, shard_metric_names.size() + 1> names;
    std::copy(shard_metric_names.begin(), shard_metric_names.end(), names.begin());
    names.back() = "ALL";
    return names;
}();

}  // namespace

InputResult read_tags_input(const InputSource& source, Operation operation, TagsInput& out) {
    const bool of_resource = is_of_resource(operation);
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (of_resource && key == "ResourceARN") {
            out.stream.arn = value.text();
        } else if (of_resource && key == "StreamId") {
            out.stream.id = value.text();
        } else if (!of_resource && read_stream_ref(out.stream, key, value)) {
            return;
        } else if (key == "Tags") {
            out.has_tags = true;
            value.map([&](std::string_view tag, InputValue text) {
                out.tags.emplace_back(source.arena.copy(tag), text.text());
            });
        } else if (key == "TagKeys") {
            out.has_keys = true;
            read_texts(out.keys, value);
        } else if (key == "ExclusiveStartTagKey") {
            out.exclusive_start = value.text();
        } else if (key == "Limit") {
            out.limit = value.integer();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    const bool adds =
        operation == Operation::add_tags_to_stream || operation == Operation::tag_resource;
    const bool removes =
        operation == Operation::remove_tags_from_stream || operation == Operation::untag_resource;
    if (adds) {
        checks.required("tags", out.has_tags);
    } else if (removes) {
        checks.required("tagKeys", out.has_keys);
    }
    if (adds && out.has_tags) {
        checks.tags("tags", out.tags);
    }
    if (removes && out.has_keys) {
        checks.texts("tagKeys", out.keys, tag_keys_max);
    }
    if (operation == Operation::list_tags_for_stream) {
        checks.integer("limit", out.limit, 1, tags_per_resource_max);
        checks.length("exclusiveStartTagKey", out.exclusive_start, 1, 128);
    }
    if (of_resource) {
        checks.required("resourceARN", out.stream.arn.has_value());
        checks.resource_arn("resourceARN", out.stream.arn);
        checks.stream_id(out.stream.id);
    } else {
        check_stream_ref(checks, out.stream);
    }
    return checks.result();
}

InputResult read_input(const InputSource& source, MonitoringInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (!read_stream_ref(out.stream, key, value) && key == "ShardLevelMetrics") {
            out.has_metrics = true;
            read_texts(out.metrics, value);
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("shardLevelMetrics", out.has_metrics);
    if (out.has_metrics) {
        checks.texts("shardLevelMetrics", out.metrics, metrics_max, metric_names);
    }
    check_stream_ref(checks, out.stream);
    return checks.result();
}

InputResult read_stream_settings(const InputSource& source, Operation operation,
                                 StreamSettingsInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "MaxRecordSizeInKiB") {
            out.max_record_kib = value.integer();
        } else if (key == "WarmThroughputMiBps") {
            out.warm_throughput = value.integer();
        } else if (key == "RecordDistributionStrategy") {
            out.distribution = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    switch (operation) {
        case Operation::update_max_record_size:
            checks.required("maxRecordSizeInKiB", out.max_record_kib.has_value());
            checks.integer("maxRecordSizeInKiB", out.max_record_kib, 1024, 10240);
            break;
        case Operation::update_stream_warm_throughput:
            checks.required("warmThroughputMiBps", out.warm_throughput.has_value());
            checks.integer("warmThroughputMiBps", out.warm_throughput, 0);
            break;
        default:
            checks.required("recordDistributionStrategy", out.distribution.has_value());
            checks.choice("recordDistributionStrategy", out.distribution, distribution_names);
    }
    if (operation != Operation::update_stream_warm_throughput) {
        out.stream.name.reset();  // these two know ARNs alone
        checks.required("streamARN", out.stream.arn.has_value());
        checks.stream_arn("streamARN", out.stream.arn);
        checks.stream_id(out.stream.id);
    } else {
        check_stream_ref(checks, out.stream);
    }
    return checks.result();
}

InputResult read_input(const InputSource& source, AccountSettingsInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (key != "MinimumThroughputBillingCommitment") {
            return;
        }
        out.has_commitment = true;
        value.structure([&](std::string_view part, InputValue inner) {
            if (part == "Status") {
                out.status = inner.text();
            }
        });
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("minimumThroughputBillingCommitment", out.has_commitment);
    if (out.has_commitment) {
        checks.required("minimumThroughputBillingCommitment.status", out.status.has_value());
        checks.choice("minimumThroughputBillingCommitment.status", out.status,
                      {"ENABLED", "DISABLED"});
    }
    return checks.result();
}

}  // namespace penstock::kinesis
