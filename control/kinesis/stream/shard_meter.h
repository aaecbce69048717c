// Counts, for shards whose metrics are switched on, what the lanes do not: what was read of them,
// what was refused, and how far behind the last reader was.
//
// Runs on: any thread; a lock for each call, of which there is one per request.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "storage/base/ids.h"

namespace penstock::kinesis {

class ShardMeter {
public:
    struct Counts {
        std::uint64_t outgoing_bytes = 0;
        std::uint64_t outgoing_records = 0;
        std::uint64_t writes_exceeded = 0;  // records
        std::uint64_t reads_exceeded = 0;   // calls
        std::uint64_t iterator_age_ms = 0;  // of the last GetRecords
    };
    void read(ShardUid shard, std::uint64_t records, std::uint64_t bytes, std::uint64_t age_ms) {
        const std::lock_guard lock(mutex_);
        Counts& counts = counts_[shard];
        counts.outgoing_records += records;
        counts.outgoing_bytes += bytes;
        counts.iterator_age_ms = age_ms;
    }
    void refuse_read(ShardUid shard) {
        const std::lock_guard lock(mutex_);
        ++counts_[shard].reads_exceeded;
    }
    void refuse_write(ShardUid shard) {
        const std::lock_guard lock(mutex_);
        ++counts_[shard].writes_exceeded;
    }
    [[nodiscard]] Counts of(ShardUid shard) const {
        const std::lock_guard lock(mutex_);
        const auto it = counts_.find(shard);
        return it == counts_.end() ? Counts{} : it->second;
    }
    // A shard that is gone.
    void forget(ShardUid shard) {
        const std::lock_guard lock(mutex_);
        counts_.erase(shard);
    }

private:
    mutable std::mutex mutex_;
    std::map<ShardUid, Counts> counts_;
};

}  // namespace penstock::kinesis
