// Which streams wait for keys that the node does not have: what its log says at a start, and when
// the keys file is read again.
//
// Runs on: any thread.
#pragma once

#include <cstdint>
#include <string>

#include "control/kinesis/stream/stream.h"

namespace penstock {

// One line with the streams and their keys; empty when every key can be used. `keys_file` is empty
// where the node was started without. Keys that sealed only what has expired by `now_ms` do not
// count.
[[nodiscard]] std::string unusable_keys(const kinesis::StreamTable& streams,
                                        const std::string& keys_file, std::int64_t now_ms);

}  // namespace penstock
