// Sequence numbers as users see them: 56 decimal digits of a 186-bit number, which is in
// hexadecimal
//
//   2 | shard creation second, 9 | low digit of the shard number, 1 | index, 16 | 00 |
//   write second, 9 | shard number, 8 | 2
//
// Guarantees: grows with the index within a shard, and along a lineage of shards, because a child's
// creation second is greater than its parents'.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "storage/base/ids.h"

namespace penstock::kinesis {

struct SequenceNumber {
    std::int64_t shard_created_s = 0;  // below 2^36
    std::uint32_t shard_number = 0;    // up to shard_number_max
    Sequence index = 0;                // below 2^63
    std::int64_t written_s = 0;        // below 2^36
    friend bool operator==(const SequenceNumber&, const SequenceNumber&) = default;
};

inline constexpr std::size_t sequence_number_digits = 56;

[[nodiscard]] std::string format_sequence_number(const SequenceNumber& number);
// Appends without an allocation of its own.
void append_sequence_number(std::string& out, const SequenceNumber& number);

// Writes many numbers of one shard quickly: while shard and second stay the same, the next index is
// one addition away instead of nine divisions.
class SequenceNumberWriter {
public:
    void append(std::string& out, const SequenceNumber& number);

private:
    SequenceNumber last_;
    bool has_last_ = false;
    std::uint64_t groups_[3] = {};  // 19 decimal digits each, lowest first
};

enum class SequenceNumberFault : std::uint8_t {
    malformed,        // not a decimal number of this size
    unknown_version,  // a number, but not of version 2
    index_too_high,
    shard_too_high,
    foreign,  // version 2, but with bits set that we never set
};
[[nodiscard]] std::expected<SequenceNumber, SequenceNumberFault> parse_sequence_number(
    std::string_view text) noexcept;

}  // namespace penstock::kinesis
