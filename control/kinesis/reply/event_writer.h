// Writes the messages of a subscription: initial-response, SubscribeToShardEvent, exceptions.
//
// Payloads are JSON whatever the request was written in: that is what clients of either encoding
// read. The Java SDK, which sends CBOR, goes by the content type of each event.
//
// Runs on: one control thread per writer.
#pragma once

#include <cstdint>
#include <string>

#include "control/kinesis/api_error.h"
#include "control/kinesis/reply/event_stream.h"
#include "control/kinesis/stream/sequence_number.h"
#include "control/kinesis/stream/stream.h"
#include "storage/log/read_plan.h"

namespace penstock::kinesis {

[[nodiscard]] std::string initial_response();
[[nodiscard]] std::string exception_event(const ApiError& error);

// One SubscribeToShardEvent: records are added, then it is finished.
class EventWriter {
public:
    explicit EventWriter(std::size_t reserve_bytes);
    // `record` in clear, whether or not it was sealed.
    void add(const Shard& shard, const RecordView& record, bool was_sealed);
    [[nodiscard]] std::uint32_t records() const noexcept { return records_; }
    // Data and keys of the records.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::int64_t last_arrival_ms() const noexcept { return last_arrival_ms_; }
    // `next` is the first sequence that did not come yet. Where a client goes on is its
    // predecessor's number with the second after `seen_ms`: now, or when a record from before
    // `next` arrived, if that was later. So the number grows also without records, and is no
    // record's own: AT_SEQUENCE_NUMBER with it asks for what comes after.
    [[nodiscard]] std::string finish(const Shard& shard, Sequence next, std::int64_t seen_ms,
                                     std::int64_t behind_ms);
    // The last one of a closed shard: it names the shards to go on with.
    [[nodiscard]] std::string finish_last(const Stream& stream, const Shard& shard,
                                          std::int64_t behind_ms);

private:
    [[nodiscard]] std::string end(std::int64_t behind_ms);
    std::string out_;
    EventMessage message_;
    SequenceNumberWriter numbers_;
    std::uint32_t records_ = 0;
    std::uint64_t bytes_ = 0;
    std::int64_t last_arrival_ms_ = 0;
};

}  // namespace penstock::kinesis
