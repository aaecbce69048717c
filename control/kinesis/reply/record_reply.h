// What answers say of records, in either dialect: written by the hundred, so by the writer's own
// type.
//
// Runs on: any control thread.
#pragma once

#include <string>
#include <string_view>

#include "control/kinesis/reply/reply_writer.h"
#include "control/kinesis/stream/sequence_number.h"
#include "control/kinesis/stream/shard_id.h"
#include "storage/base/bytes.h"
#include "storage/log/read_plan.h"

namespace penstock::kinesis {

// Sequence numbers of one answer; in CBOR they are made in `digits`.
struct NumberWriter {
    SequenceNumberWriter numbers;
    std::string digits;
    std::string_view operator()(const SequenceNumber& number) {
        digits.clear();
        numbers.append(digits, number);
        return digits;
    }
};

// A stored record, as PutRecords answers it.
inline void write_stored(JsonWriter& reply, NumberWriter& numbers, const SequenceNumber& number,
                         std::uint32_t shard_number) {
    std::string& out = reply.begin_raw();
    out += "{\"SequenceNumber\":\"";
    numbers.numbers.append(out, number);
    out += "\",\"ShardId\":\"";
    out += format_shard_id(shard_number);
    out += "\"}";
}
inline void write_stored(CborWriter& reply, NumberWriter& numbers, const SequenceNumber& number,
                         std::uint32_t shard_number) {
    reply.begin_object();
    reply.key("SequenceNumber");
    reply.plain(numbers(number));
    reply.key("ShardId");
    reply.plain(format_shard_id(shard_number));
    reply.end_object();
}

// The member EncryptionType of what is stored sealed; of what is not it is left out.
template <typename Writer>
void write_sealed(Writer& reply) {
    reply.key("EncryptionType");
    reply.plain("KMS");
}

// A record, as GetRecords and events of subscriptions give it. One of a stream that spreads its
// records may have no key.
inline void append_record(std::string& out, SequenceNumberWriter& numbers,
                          const SequenceNumber& number, const RecordView& record, bool was_sealed) {
    out += "{\"SequenceNumber\":\"";
    numbers.append(out, number);
    out += "\",\"ApproximateArrivalTimestamp\":";
    append_json_seconds(out, record.arrival_ms);
    out += ",\"Data\":\"";
    base64_append(out, record.data);
    out += '"';
    if (!record.partition_key.empty()) {
        out += ",\"PartitionKey\":";
        append_json_string(out, as_text(record.partition_key));
    }
    out += was_sealed ? ",\"EncryptionType\":\"KMS\"}" : "}";
}
inline void write_record(JsonWriter& reply, NumberWriter& numbers, const SequenceNumber& number,
                         const RecordView& record, bool was_sealed) {
    append_record(reply.begin_raw(), numbers.numbers, number, record, was_sealed);
}
inline void write_record(CborWriter& reply, NumberWriter& numbers, const SequenceNumber& number,
                         const RecordView& record, bool was_sealed) {
    reply.begin_object();
    reply.key("SequenceNumber");
    reply.plain(numbers(number));
    reply.key("ApproximateArrivalTimestamp");
    reply.timestamp_ms(record.arrival_ms);
    reply.key("Data");
    reply.blob(record.data);
    if (!record.partition_key.empty()) {
        reply.key("PartitionKey");
        reply.text(as_text(record.partition_key));
    }
    if (was_sealed) {
        write_sealed(reply);
    }
    reply.end_object();
}

}  // namespace penstock::kinesis
