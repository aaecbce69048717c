#include "control/kinesis/stream/shard_quota.h"

#include <algorithm>

namespace penstock::kinesis {

namespace {

constexpr std::int64_t billion = 1'000'000'000;
constexpr std::uint64_t second_ns = 1'000'000'000;
// Shards of one stripe that are remembered; those that are idle are forgotten beyond this.
constexpr std::size_t shards_kept = 512;
// Nobody owes for longer: 10 MiB, the most of one request, at the lowest rate (64 KiB/s).
constexpr std::uint64_t idle_ns = 200 * second_ns;

__extension__ using Int128 = __int128;

// Amounts of one call are below 2^24 and rates up to 2^30, so billionths fit.
std::int64_t billionths(std::uint64_t amount) noexcept {
    return static_cast<std::int64_t>(amount) * billion;
}

}  // namespace

void ShardQuotas::Bucket::fill(std::uint64_t per_second, std::uint64_t elapsed_ns) noexcept {
    const Int128 more = static_cast<Int128>(per_second) * elapsed_ns;
    left = static_cast<std::int64_t>(
        std::min<Int128>(left + more, static_cast<Int128>(billionths(per_second))));
}

bool ShardQuotas::Bucket::has(std::uint64_t amount, std::uint64_t per_second) const noexcept {
    return left >= billionths(std::min(amount, per_second));
}

void ShardQuotas::Bucket::take(std::uint64_t amount) noexcept {
    left -= billionths(amount);
}

ShardQuotas::ShardState& ShardQuotas::filled(Stripe& stripe, ShardUid shard, std::uint64_t now_ns) {
    if (stripe.shards.size() > shards_kept && !stripe.shards.contains(shard)) {
        std::erase_if(stripe.shards,
                      [&](const auto& entry) { return now_ns - entry.second.filled_ns > idle_ns; });
    }
    const auto [it, is_new] = stripe.shards.try_emplace(shard);
    ShardState& state = it->second;
    // Threads read the clock before they get the lock, so it may seem to go back a little.
    const std::uint64_t elapsed_ns =
        is_new ? second_ns : now_ns - std::min(now_ns, state.filled_ns);
    state.filled_ns = is_new ? now_ns : std::max(now_ns, state.filled_ns);
    state.write_bytes.fill(limits_.write_bytes, elapsed_ns);
    state.write_records.fill(limits_.write_records, elapsed_ns);
    state.read_bytes.fill(limits_.read_bytes, elapsed_ns);
    state.read_calls.fill(limits_.read_calls, elapsed_ns);
    return state;
}

bool ShardQuotas::take_write(ShardUid shard, std::uint64_t bytes, std::uint64_t now_ns) {
    Stripe& stripe = stripe_of(shard);
    const std::lock_guard lock(stripe.mutex);
    ShardState& state = filled(stripe, shard, now_ns);
    if (!state.has_write(bytes, limits_)) {
        refuse_write();
        return false;
    }
    state.write_bytes.take(bytes);
    state.write_records.take(1);
    return true;
}

bool ShardQuotas::begin_read(ShardUid shard, std::uint64_t now_ns) {
    Stripe& stripe = stripe_of(shard);
    const std::lock_guard lock(stripe.mutex);
    ShardState& state = filled(stripe, shard, now_ns);
    if (!state.has_read(limits_)) {
        refused_reads_.fetch_add(1, std::memory_order_relaxed);
        return false;
    }
    state.read_calls.take(1);
    return true;
}

bool ShardQuotas::has_write(ShardUid shard, std::uint64_t bytes, std::uint64_t now_ns) {
    Stripe& stripe = stripe_of(shard);
    const std::lock_guard lock(stripe.mutex);
    return filled(stripe, shard, now_ns).has_write(bytes, limits_);
}

bool ShardQuotas::has_read(ShardUid shard, std::uint64_t now_ns) {
    Stripe& stripe = stripe_of(shard);
    const std::lock_guard lock(stripe.mutex);
    return filled(stripe, shard, now_ns).has_read(limits_);
}

void ShardQuotas::spend_read(ShardUid shard, std::uint64_t bytes, std::uint64_t now_ns) {
    Stripe& stripe = stripe_of(shard);
    const std::lock_guard lock(stripe.mutex);
    filled(stripe, shard, now_ns).read_bytes.take(bytes);
}

}  // namespace penstock::kinesis
