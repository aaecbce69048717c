// The header that makes a put idempotent: who puts, and the number of the call.
//
// Runs on: any control thread.
// Format: docs/idempotent-puts.md.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "control/kinesis/api_error.h"
#include "storage/log/append.h"

namespace penstock::kinesis {

inline constexpr std::string_view producer_header_name = "x-penstock-producer";
// How long a shard remembers a producer that is silent (ProducerTable::Limits).
inline constexpr std::int64_t producer_expiry_ms = 3'600'000;

struct PutProducer {
    std::uint64_t producer = 0;
    std::uint64_t sequence = 0;
    std::uint32_t epoch = 0;
    [[nodiscard]] ProducerMark mark(std::uint32_t record) const noexcept {
        return {producer, epoch, record, sequence};
    }
};

// InvalidArgumentException for what does not follow the format.
[[nodiscard]] std::expected<PutProducer, ApiError> parse_producer_header(std::string_view text);
// Where in the hash space a record goes that has no key: the same place each time it comes.
[[nodiscard]] Hash128 spread_of(const ProducerMark& mark) noexcept;

}  // namespace penstock::kinesis
