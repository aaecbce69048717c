// What one shard of a PROVISIONED stream takes and gives per second, as Kinesis limits it.
//
// A shard may save up one second's worth. What is larger than that is let through when nothing of
// the second was used, and paid back by the time that follows.
//
// Runs on: any control thread; all of them share one object.
// Allocates: for a shard's first request in a while.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "storage/base/ids.h"

namespace penstock::kinesis {

// Kinesis' own, if nothing else is said.
struct ShardQuotaLimits {
    std::uint64_t write_bytes = 1U << 20;  // per second, keys included
    std::uint64_t write_records = 1000;
    std::uint64_t read_bytes = 2U << 20;
    std::uint64_t read_calls = 5;
    friend bool operator==(const ShardQuotaLimits&, const ShardQuotaLimits&) = default;
};

class ShardQuotas {
public:
    explicit ShardQuotas(const ShardQuotaLimits& limits) : limits_(limits) {}

    // One record; false when the quota is used up, which is counted.
    [[nodiscard]] bool take_write(ShardUid shard, std::uint64_t bytes, std::uint64_t now_ns);
    // A record that is refused with the one before it.
    void refuse_write() noexcept { refused_records_.fetch_add(1, std::memory_order_relaxed); }
    // One GetRecords; how much it gives is known afterwards.
    [[nodiscard]] bool begin_read(ShardUid shard, std::uint64_t now_ns);
    void spend_read(ShardUid shard, std::uint64_t bytes, std::uint64_t now_ns);
    // What take_write() and begin_read() would say; nothing is taken and nothing counted.
    [[nodiscard]] bool has_write(ShardUid shard, std::uint64_t bytes, std::uint64_t now_ns);
    [[nodiscard]] bool has_read(ShardUid shard, std::uint64_t now_ns);

    [[nodiscard]] const ShardQuotaLimits& limits() const noexcept { return limits_; }
    [[nodiscard]] std::uint64_t refused_records() const noexcept { return refused_records_; }
    [[nodiscard]] std::uint64_t refused_reads() const noexcept { return refused_reads_; }

private:
    // Left of the second, in billionths; negative when more was taken than there was.
    struct Bucket {
        std::int64_t left = 0;
        void fill(std::uint64_t per_second, std::uint64_t elapsed_ns) noexcept;
        [[nodiscard]] bool has(std::uint64_t amount, std::uint64_t per_second) const noexcept;
        void take(std::uint64_t amount) noexcept;
    };
    struct ShardState {
        std::uint64_t filled_ns = 0;
        Bucket write_bytes, write_records, read_bytes, read_calls;
        [[nodiscard]] bool has_write(std::uint64_t bytes,
                                     const ShardQuotaLimits& limits) const noexcept {
            return write_bytes.has(bytes, limits.write_bytes) &&
                   write_records.has(1, limits.write_records);
        }
        [[nodiscard]] bool has_read(const ShardQuotaLimits& limits) const noexcept {
            return read_bytes.left > 0 && read_calls.has(1, limits.read_calls);
        }
    };
    struct Stripe {
        std::mutex mutex;
        std::unordered_map<ShardUid, ShardState> shards;
    };
    Stripe& stripe_of(ShardUid shard) noexcept { return stripes_[value(shard) % stripes_.size()]; }
    // With the stripe locked.
    ShardState& filled(Stripe& stripe, ShardUid shard, std::uint64_t now_ns);

    const ShardQuotaLimits limits_;
    std::array<Stripe, 64> stripes_;
    std::atomic<std::uint64_t> refused_records_{0};
    std::atomic<std::uint64_t> refused_reads_{0};
};

}  // namespace penstock::kinesis
