#include "control/kinesis/records/starting_position.h"

#include <algorithm>
#include <string>

#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

ApiResult<SequenceNumber> read_sequence(std::string_view text, const Shard& shard,
                                        std::string_view where, std::string_view operation) {
    const auto number = parse_sequence_number(text);
    const std::string used = "StartingSequenceNumber " + std::string(text) + " used in " +
                             std::string(operation) + " on shard " + std::string(where) +
                             " is invalid";
    if (!number) {
        return std::unexpected(invalid_argument(used + "."));
    }
    if (number->shard_number != shard.number) {
        return std::unexpected(invalid_argument(
            "Invalid StartingSequenceNumber. It encodes " + format_shard_id(number->shard_number) +
            ", while it was used in a call to a shard with " + format_shard_id(shard.number)));
    }
    if (number->shard_created_s != shard.created_s) {
        return std::unexpected(
            invalid_argument(used + " because it did not come from this stream."));
    }
    return *number;
}

}  // namespace

ApiResult<StartingPosition> read_position(const PositionInput& input, const Shard& shard,
                                          std::string_view where, std::string_view operation,
                                          std::int64_t now_ms) {
    if (input.is_by_sequence()) {
        const auto number = read_sequence(*input.sequence, shard, where, operation);
        if (!number) {
            return std::unexpected(number.error());
        }
        if (input.type == "AFTER_SEQUENCE_NUMBER") {
            return StartingPosition{{ReadFrom::sequence, number->index + 1, 0}, {}};
        }
        return StartingPosition{{ReadFrom::sequence, number->index, 0}, *number};
    }
    if (input.is_by_time()) {
        if (*input.timestamp_ms > now_ms) {
            return std::unexpected(
                invalid_argument("The timestampInMillis parameter cannot be greater than the "
                                 "currentTimestampInMillis. timestampInMillis: " +
                                 std::to_string(*input.timestamp_ms) +
                                 ", currentTimestampInMillis: " + std::to_string(now_ms)));
        }
        const auto from_ms = std::max<std::int64_t>(*input.timestamp_ms, 0);
        return StartingPosition{{ReadFrom::timestamp, 0, from_ms}, {}};
    }
    const ReadFrom from = input.type == "LATEST" ? ReadFrom::latest : ReadFrom::trim_horizon;
    return StartingPosition{{from, 0, 0}, {}};
}

}  // namespace penstock::kinesis
