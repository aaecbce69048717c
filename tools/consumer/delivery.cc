#include "tools/consumer/delivery.h"

#include <algorithm>

namespace penstock::consumer {

Delivery::Taken Delivery::take(const std::string& shard, std::span<const Record> records,
                               std::string& why) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t room = options_.limit - records_;
    const std::size_t wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(room, records.size()));
    const std::size_t written = wanted == 0 ? 0 : sink_.write(shard, records.first(wanted));
    if (written != 0) {
        records_ += written;
        for (const Record& record : records.first(written)) {
            bytes_ += record.key.size() + record.data.size();
        }
        checkpoint_.shards[shard].sequence = records[written - 1].sequence;
        is_new_ = true;
    }
    if (written < wanted) {
        why = sink_.why();
        return why.empty() ? Taken::stopped : Taken::failed;
    }
    const auto since = std::chrono::steady_clock::now() - saved_;
    if (is_new_ && since >= std::chrono::milliseconds(options_.checkpoint_every_ms) &&
        !save_locked(why)) {
        return Taken::failed;
    }
    return records_ == options_.limit ? Taken::limit_reached : Taken::all;
}

void Delivery::begun(const std::string& shard) {
    const std::lock_guard lock(mutex_);
    is_new_ |= checkpoint_.shards.try_emplace(shard).second;
}

void Delivery::ended(const std::string& shard) {
    const std::lock_guard lock(mutex_);
    checkpoint_.shards[shard].ended = true;
    is_new_ = true;
}

bool Delivery::save(std::string& why) {
    const std::lock_guard lock(mutex_);
    return !is_new_ || save_locked(why);
}

bool Delivery::save_locked(std::string& why) {
    if (!options_.checkpoint_path.empty() &&
        !write_checkpoint(options_.checkpoint_path, checkpoint_, why)) {
        return false;
    }
    is_new_ = false;
    saved_ = std::chrono::steady_clock::now();
    return true;
}

std::uint64_t Delivery::records() const {
    const std::lock_guard lock(mutex_);
    return records_;
}

std::uint64_t Delivery::bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

}  // namespace penstock::consumer
