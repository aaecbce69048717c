// How often operations may be asked for, as Kinesis limits those that are not about records.
//
// One second's worth may be saved up. The table is docs/kinesis-api.md's.
//
// Runs on: any control thread; all of them share one object.
// Allocates: for the first request of its kind in a while.
// Guarantees: memory is bounded, whatever is asked for.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "control/kinesis/input/inputs.h"

namespace penstock::kinesis {

// Whose requests are counted together.
enum class RateScope : std::uint8_t { account, stream, consumer, shard };
struct RateLimit {
    Operation operation;
    RateScope scope;
    unsigned per_second;
};
[[nodiscard]] std::span<const RateLimit> rate_limits() noexcept;
// Null where there is none.
[[nodiscard]] const RateLimit* rate_limit_of(Operation operation) noexcept;

class RateLimits {
public:
    // Takes one request of `operation`, about `subject` within the operation's scope; an account's
    // needs none. False when there were too many, which is counted.
    [[nodiscard]] bool take(Operation operation, std::string_view subject, std::uint64_t now_ns);
    [[nodiscard]] std::uint64_t refused(Operation operation) const noexcept {
        return refused_[static_cast<std::size_t>(operation)].load(std::memory_order_relaxed);
    }

private:
    struct Bucket {
        std::uint64_t filled_ns = 0;
        std::uint64_t used = 0;  // of the second, in billionths of a request
    };
    void forget_idle(std::uint64_t now_ns);

    std::mutex mutex_;
    std::unordered_map<std::string, Bucket> buckets_;
    std::array<std::atomic<std::uint64_t>, operation_names.size()> refused_{};
};

}  // namespace penstock::kinesis
