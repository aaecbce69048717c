// The values of `--shard-quota` (unlimited, aws, or parts of Kinesis' quota that are to be others)
// and of `--on-demand` (off, or parts of when shards are split and merged).
//
// Runs on: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "control/kinesis/stream/on_demand.h"
#include "control/kinesis/stream/shard_quota.h"

namespace penstock {

// Nothing when it was understood, otherwise what was expected.
[[nodiscard]] std::optional<std::string> read_shard_quota(
    std::string_view text, std::optional<kinesis::ShardQuotaLimits>& out);
[[nodiscard]] std::optional<std::string> read_on_demand(std::string_view text,
                                                        kinesis::OnDemandLimits& out);

}  // namespace penstock
