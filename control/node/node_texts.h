// What a node says for people of things that it knows by number.
#pragma once

#include <string>

#include "control/kinesis/stream/stream_store.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"

namespace penstock {

// Why a group could not be recovered, and what to do.
[[nodiscard]] std::string recovery_failure(GroupId group, const Error& error);
// Stream and shard, as clients know them.
[[nodiscard]] std::string shard_text(const kinesis::StreamStore& streams, ShardUid wanted);

}  // namespace penstock
