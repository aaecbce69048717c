// Where a partition key lies in a stream's 128-bit hash space: its MD5 (RFC 1321) as a big-endian
// number, as Kinesis maps it.
//
// Runs on: any thread; pure. Allocates: nothing.
#pragma once

#include <span>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"

namespace penstock {

[[nodiscard]] Hash128 partition_hash(Bytes key) noexcept;

// The same of many keys, which is faster than one after the other where they are short. `out` has
// room for each.
void partition_hashes(std::span<const Bytes> keys, std::span<Hash128> out) noexcept;

}  // namespace penstock
