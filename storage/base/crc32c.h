// CRC-32C (Castagnoli) as ISA-L computes it, in the usual pre- and post-inverted form:
// crc32c("123456789") == 0xE3069283.
#pragma once

#include <cstdint>

#include "storage/base/bytes.h"

namespace penstock {

[[nodiscard]] std::uint32_t crc32c(Bytes bytes) noexcept;

// crc32c(a ‖ b) == crc32c_extend(crc32c(a), b).
[[nodiscard]] std::uint32_t crc32c_extend(std::uint32_t crc, Bytes more) noexcept;

}  // namespace penstock
