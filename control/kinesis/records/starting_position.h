// Where the reading of a shard begins, as GetShardIterator and SubscribeToShard are told it.
//
// Runs on: any control thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "control/kinesis/input/checks.h"
#include "control/kinesis/operations/operations.h"
#include "control/kinesis/stream/sequence_number.h"
#include "storage/log/read_plan.h"

namespace penstock::kinesis {

// A request's words; `type` is one of the five there are.
struct PositionInput {
    std::string_view type;
    OptionalText sequence;
    OptionalInteger timestamp_ms;
    // Of the types that need one, and then there is one. An operation refuses what does not fit
    // before it reads the position, in its own words.
    [[nodiscard]] bool is_by_sequence() const noexcept {
        return type == "AT_SEQUENCE_NUMBER" || type == "AFTER_SEQUENCE_NUMBER";
    }
    [[nodiscard]] bool is_by_time() const noexcept { return type == "AT_TIMESTAMP"; }
};

struct StartingPosition {
    ReadStart start;
    std::optional<SequenceNumber> at;  // of AT_SEQUENCE_NUMBER
};

// `where` and `operation` are for messages: "shardId-… in stream … under account …".
[[nodiscard]] ApiResult<StartingPosition> read_position(const PositionInput& input,
                                                        const Shard& shard, std::string_view where,
                                                        std::string_view operation,
                                                        std::int64_t now_ms);

}  // namespace penstock::kinesis
