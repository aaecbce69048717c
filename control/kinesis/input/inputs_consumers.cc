// Inputs of the operations on consumers, and of SubscribeToShard.
#include "control/kinesis/input/input_value.h"
#include "control/kinesis/input/inputs.h"

namespace penstock::kinesis {

namespace {

bool read_stream_arn(StreamRef& stream, std::string_view key, InputValue& value) {
    if (key == "StreamARN") {
        stream.arn = value.text();
    } else if (key == "StreamId") {
        stream.id = value.text();
    } else {
        return false;
    }
    return true;
}

void check_stream_arn(Checks& checks, const StreamRef& stream) {
    checks.stream_arn("streamARN", stream.arn);
    checks.stream_id(stream.id);
}

}  // namespace

InputResult read_input(const InputSource& source, RegisterConsumerInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_arn(out.stream, key, value)) {
            return;
        }
        if (key == "ConsumerName") {
            out.name = value.text();
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
    checks.required("streamARN", out.stream.arn.has_value());
    check_stream_arn(checks, out.stream);
    checks.required("consumerName", out.name.has_value());
    checks.name("consumerName", out.name);
    if (out.has_tags) {
        checks.tags("tags", out.tags);
    }
    return checks.result();
}

InputResult read_input(const InputSource& source, ConsumerInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_arn(out.stream, key, value)) {
            return;
        }
        if (key == "ConsumerName") {
            out.name = value.text();
        } else if (key == "ConsumerARN") {
            out.arn = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    check_stream_arn(checks, out.stream);
    checks.name("consumerName", out.name);
    checks.consumer_arn("consumerARN", out.arn);
    return checks.result();
}

InputResult read_input(const InputSource& source, ListConsumersInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_arn(out.stream, key, value)) {
            return;
        }
        if (key == "NextToken") {
            out.next_token = value.text();
        } else if (key == "MaxResults") {
            out.max_results = value.integer();
        } else if (key == "StreamCreationTimestamp") {
            out.created_ms = value.timestamp_ms();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("streamARN", out.stream.arn.has_value());
    check_stream_arn(checks, out.stream);
    checks.length("nextToken", out.next_token, 1, page_token_max);
    checks.integer("maxResults", out.max_results, 1, 10000);
    return checks.result();
}

InputResult read_input(const InputSource& source, SubscribeInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (key == "ConsumerARN") {
            out.consumer_arn = value.text();
        } else if (key == "ShardId") {
            out.shard = value.text();
        } else if (key == "StreamId") {
            out.stream.id = value.text();
        } else if (key == "DryRun") {
            out.dry_run = value.boolean();
        } else if (key == "StartingPosition") {
            out.has_position = true;
            value.structure([&](std::string_view part, InputValue inner) {
                if (part == "Type") {
                    out.type = inner.text();
                } else if (part == "SequenceNumber") {
                    out.sequence = inner.text();
                } else if (part == "Timestamp") {
                    out.timestamp_ms = inner.timestamp_ms();
                }
            });
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("consumerARN", out.consumer_arn.has_value());
    checks.consumer_arn("consumerARN", out.consumer_arn);
    checks.required("shardId", out.shard.has_value());
    checks.name("shardId", out.shard);
    checks.required("startingPosition", out.has_position);
    if (out.has_position) {
        checks.required("startingPosition.type", out.type.has_value());
        checks.choice("startingPosition.type", out.type,
                      {"AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER",
                       "TRIM_HORIZON"});
        checks.decimal("startingPosition.sequenceNumber", out.sequence, sequence_pattern, 129);
    }
    checks.stream_id(out.stream.id);
    return checks.result();
}

}  // namespace penstock::kinesis
