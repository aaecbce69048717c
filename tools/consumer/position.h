// Where reading of a shard begins.
//
// Runs on: any thread; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::consumer {

enum class PositionKind : std::uint8_t { oldest, newest, at_time, at_sequence, after_sequence };

struct Position {
    PositionKind kind = PositionKind::oldest;
    std::int64_t time_ms = 0;  // since 1970
    std::string sequence;      // as users see it, in decimal
    friend bool operator==(const Position&, const Position&) = default;
};

// trim-horizon, latest, time:2026-11-24T02:00:00Z, time:1790000000.5, at:NUMBER, after:NUMBER.
[[nodiscard]] std::optional<Position> parse_position(std::string_view text);

// Seconds since 1970 with at most milliseconds, or an ISO 8601 time with an offset or Z; in
// milliseconds.
[[nodiscard]] std::optional<std::int64_t> parse_time_ms(std::string_view text);
// 2026-11-24T02:00:00.123Z
[[nodiscard]] std::string time_text(std::int64_t ms);

}  // namespace penstock::consumer
