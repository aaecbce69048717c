// The value of `--shard-quota`: unlimited, aws, or parts of Kinesis' quota that are to be others.
//
// Runs on: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "control/kinesis/shard_quota.h"

namespace penstock {

// Nothing when it was understood, otherwise what was expected.
[[nodiscard]] std::optional<std::string> read_shard_quota(
    std::string_view text, std::optional<kinesis::ShardQuotaLimits>& out);

}  // namespace penstock
