#include "control/kinesis/reply/event_writer.h"

#include <algorithm>

#include "control/kinesis/dialect.h"
#include "control/kinesis/operations/operations.h"
#include "control/kinesis/reply/record_reply.h"
#include "control/kinesis/reply/reply_writer.h"

namespace penstock::kinesis {

std::string initial_response() {
    std::string out;
    append_event(out,
                 {{":event-type", "initial-response"},
                  {":content-type", json_content_type},
                  {":message-type", "event"}},
                 "{}");
    return out;
}

std::string exception_event(const ApiError& error) {
    std::string payload = "{\"message\":";
    append_json_string(payload, error.message);
    payload += '}';
    std::string out;
    append_event(out,
                 {{":exception-type", error.type},
                  {":content-type", json_content_type},
                  {":message-type", "exception"}},
                 payload);
    return out;
}

EventWriter::EventWriter(std::size_t reserve_bytes)
    : message_((out_.reserve(reserve_bytes), out_), {{":event-type", "SubscribeToShardEvent"},
                                                     {":content-type", json_content_type},
                                                     {":message-type", "event"}}) {
    out_ += "{\"Records\":[";
}

void EventWriter::add(const Shard& shard, const RecordView& record, bool was_sealed) {
    if (records_ != 0) {
        out_ += ',';
    }
    append_record(out_, numbers_, shard.sequence_number(record.sequence, record.arrival_ms), record,
                  was_sealed);
    ++records_;
    bytes_ += record.data.size() + record.partition_key.size();
    last_arrival_ms_ = record.arrival_ms;
}

std::string EventWriter::finish(const Shard& shard, Sequence next, std::int64_t seen_ms,
                                std::int64_t behind_ms) {
    out_ += "],\"ContinuationSequenceNumber\":\"";
    const std::int64_t last_ms = std::max({seen_ms, last_arrival_ms_, shard.created_s * 1000});
    append_sequence_number(out_, shard.sequence_number(next == 0 ? 0 : next - 1, last_ms + 1000));
    out_ += '"';
    return end(behind_ms);
}

std::string EventWriter::finish_last(const Stream& stream, const Shard& shard,
                                     std::int64_t behind_ms) {
    out_ += "],\"ChildShards\":";
    JsonWriter reply(out_);
    write_child_shards(reply, stream, shard);
    return end(behind_ms);
}

std::string EventWriter::end(std::int64_t behind_ms) {
    out_ += ",\"MillisBehindLatest\":" + std::to_string(behind_ms) + "}";
    message_.finish();
    return std::move(out_);
}

}  // namespace penstock::kinesis
