#include "control/node/node_texts.h"

#include <cerrno>

#include "control/kinesis/stream/shard_id.h"

namespace penstock {

std::string recovery_failure(GroupId group, const Error& error) {
    const std::string where = "group " + std::to_string(value(group)) + ": ";
    // A file of a new set that had no room is a failed write to the engine.
    switch (error.os_errno == ENOSPC ? Errc::no_space : error.code) {
        case Errc::wait_for_replica:
            return where +
                   "an absent replica may hold the only good copy of committed records; bring it "
                   "back, or start "
                   "with --accept-loss to go on without them";
        case Errc::corrupt:
            return where +
                   "the manifest is missing or damaged on every replica that can be read; run "
                   "`penstock inspect "
                   "verify`, bring back the absent replica, or restore the directories";
        case Errc::no_space:
            return where +
                   "the drives are full; free some space: a node needs room for what its journal "
                   "holds, and a new set for --groups times --journal-size on each replica";
        default:
            return where + describe(error);
    }
}

std::string shard_text(const kinesis::StreamStore& streams, ShardUid wanted) {
    if (const auto table = streams.table()) {
        for (const auto& [name, view] : *table) {
            for (const auto& shard : view->stream().shards) {
                if (shard.uid == wanted) {
                    return name + " " + kinesis::format_shard_id(shard.number);
                }
            }
        }
    }
    return "shard " + std::to_string(value(wanted));
}

}  // namespace penstock
