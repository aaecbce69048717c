#include "control/kinesis/operations/rate_limits.h"

#include <algorithm>

namespace penstock::kinesis {

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
// More than anybody who keeps to the limits has within a second.
constexpr std::size_t buckets_max = 16'384;

// What the API reference says of each operation. It says nothing of those that are missing here.
constexpr std::array limits{
    RateLimit{Operation::create_stream, RateScope::account, 5},
    RateLimit{Operation::delete_stream, RateScope::account, 5},
    RateLimit{Operation::list_streams, RateScope::account, 5},
    RateLimit{Operation::describe_stream, RateScope::account, 10},
    RateLimit{Operation::describe_stream_summary, RateScope::account, 20},
    RateLimit{Operation::list_shards, RateScope::stream, 1000},
    RateLimit{Operation::get_shard_iterator, RateScope::shard, 5},
    RateLimit{Operation::register_consumer, RateScope::account, 5},
    RateLimit{Operation::deregister_consumer, RateScope::stream, 5},
    RateLimit{Operation::describe_consumer, RateScope::stream, 20},
    RateLimit{Operation::list_consumers, RateScope::stream, 5},
    RateLimit{Operation::subscribe_to_shard, RateScope::consumer, 1},
    RateLimit{Operation::split_shard, RateScope::account, 5},
    RateLimit{Operation::merge_shards, RateScope::account, 5},
    RateLimit{Operation::update_shard_count, RateScope::account, 10},
    RateLimit{Operation::add_tags_to_stream, RateScope::account, 5},
    RateLimit{Operation::remove_tags_from_stream, RateScope::account, 5},
    RateLimit{Operation::list_tags_for_stream, RateScope::account, 5},
    RateLimit{Operation::describe_limits, RateScope::account, 1},
    RateLimit{Operation::describe_account_settings, RateScope::account, 5},
    RateLimit{Operation::update_account_settings, RateScope::account, 5},
    RateLimit{Operation::update_stream_warm_throughput, RateScope::account, 5},
};

}  // namespace

std::span<const RateLimit> rate_limits() noexcept {
    return limits;
}

const RateLimit* rate_limit_of(Operation operation) noexcept {
    const auto it = std::find_if(limits.begin(), limits.end(), [&](const RateLimit& limit) {
        return limit.operation == operation;
    });
    return it == limits.end() ? nullptr : &*it;
}

bool RateLimits::take(Operation operation, std::string_view subject, std::uint64_t now_ns) {
    const RateLimit* limit = rate_limit_of(operation);
    if (limit == nullptr) {
        return true;
    }
    std::string key(1, static_cast<char>(operation));
    if (limit->scope != RateScope::account) {
        key += subject;
    }
    const std::lock_guard lock(mutex_);
    if (buckets_.size() >= buckets_max) {
        forget_idle(now_ns);
    }
    Bucket& bucket = buckets_[key];
    // Requests of different threads may come with their times out of order.
    const std::uint64_t elapsed_ns = now_ns > bucket.filled_ns ? now_ns - bucket.filled_ns : 0;
    const std::uint64_t refilled = std::min(elapsed_ns, second_ns) * limit->per_second;
    bucket.used -= std::min(bucket.used, refilled);
    bucket.filled_ns = std::max(bucket.filled_ns, now_ns);
    if (bucket.used + second_ns > second_ns * limit->per_second) {
        refused_[static_cast<std::size_t>(operation)].fetch_add(1, std::memory_order_relaxed);
        return false;
    }
    bucket.used += second_ns;
    return true;
}

// A bucket of more than a second ago is full again, which is what a new one is.
void RateLimits::forget_idle(std::uint64_t now_ns) {
    std::erase_if(buckets_,
                  [&](const auto& entry) { return entry.second.filled_ns + second_ns <= now_ns; });
    if (buckets_.size() >= buckets_max) {
        buckets_.clear();  // somebody asks for very many things a second; the others lose nothing
    }
}

}  // namespace penstock::kinesis
