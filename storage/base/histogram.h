// Log-linear histogram of durations: 32 buckets to each power of two, so that a percentile is off
// by less than 2 % whatever its size.
//
// Runs on: add() on one thread, snapshot() on any.
// Allocates: nothing; a histogram is 9 KiB.
// Guarantees: values below 64 are exact; those of 2^40 and more count as 2^40 - 1.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock {

struct HistogramLayout {
    static constexpr unsigned sub_bits = 5;
    static constexpr unsigned value_bits = 40;
    static constexpr std::uint64_t value_max = (std::uint64_t{1} << value_bits) - 1;
    static constexpr unsigned exact_bits = sub_bits + 1;
    static constexpr std::size_t bucket_count =
        (std::size_t{value_bits - exact_bits} << sub_bits) + (std::size_t{2} << sub_bits);

    [[nodiscard]] static constexpr std::size_t bucket_of(std::uint64_t value) noexcept {
        value = std::min(value, value_max);
        const auto width = static_cast<unsigned>(std::bit_width(value));
        const unsigned shift = width > exact_bits ? width - exact_bits : 0;
        return (std::size_t{shift} << sub_bits) + static_cast<std::size_t>(value >> shift);
    }
    [[nodiscard]] static constexpr std::uint64_t lowest(std::size_t bucket) noexcept {
        constexpr std::size_t subs = std::size_t{1} << sub_bits;
        if (bucket < 2 * subs) {
            return bucket;
        }
        const std::size_t shift = bucket / subs - 1;
        return static_cast<std::uint64_t>(bucket - shift * subs) << shift;
    }
    [[nodiscard]] static constexpr std::uint64_t highest(std::size_t bucket) noexcept {
        return bucket + 1 < bucket_count ? lowest(bucket + 1) - 1 : value_max;
    }
};

// What a histogram held at one moment. Values may be merged and subtracted.
struct HistogramSnapshot {
    std::array<std::uint64_t, HistogramLayout::bucket_count> buckets{};
    std::uint64_t count = 0;
    std::uint64_t sum = 0;
    std::uint64_t largest = 0;

    void merge(const HistogramSnapshot& other) noexcept {
        for (std::size_t i = 0; i < buckets.size(); ++i) {
            buckets[i] += other.buckets[i];
        }
        count += other.count;
        sum += other.sum;
        largest = std::max(largest, other.largest);
    }

    // The value below or at which `share` (0..1) of all values lie; the middle of its bucket. 0
    // when there are none.
    [[nodiscard]] std::uint64_t percentile(double share) const noexcept {
        if (count == 0) {
            return 0;
        }
        const double wanted = std::clamp(share, 0.0, 1.0) * static_cast<double>(count);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets.size(); ++i) {
            seen += buckets[i];
            if (buckets[i] != 0 && static_cast<double>(seen) >= wanted) {
                const std::uint64_t low = HistogramLayout::lowest(i);
                return std::min(low + (HistogramLayout::highest(i) - low) / 2, largest);
            }
        }
        return largest;
    }

    // For each of the ascending `bounds`, how many values were at or below it, as Prometheus'
    // buckets count. A value in the bucket a bound cuts counts as above it.
    void cumulative(std::span<const std::uint64_t> bounds,
                    std::span<std::uint64_t> out) const noexcept {
        std::size_t bucket = 0;
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < bounds.size() && i < out.size(); ++i) {
            while (bucket < buckets.size() && HistogramLayout::highest(bucket) <= bounds[i]) {
                seen += buckets[bucket++];
            }
            out[i] = seen;
        }
    }
};

class Histogram {
public:
    // `weight` values of this size.
    void add(std::uint64_t value, std::uint64_t weight = 1) noexcept {
        value = std::min(value, HistogramLayout::value_max);
        bump(buckets_[HistogramLayout::bucket_of(value)], weight);
        bump(sum_, value * weight);
        if (value > largest_.load(std::memory_order_relaxed)) {
            largest_.store(value, std::memory_order_relaxed);
        }
    }

    // Adds what is here to `out`. Values added meanwhile may or may not be in; the count always is
    // that of the buckets.
    void merge_into(HistogramSnapshot& out) const noexcept {
        for (std::size_t i = 0; i < buckets_.size(); ++i) {
            const std::uint64_t n = buckets_[i].load(std::memory_order_relaxed);
            out.buckets[i] += n;
            out.count += n;
        }
        out.sum += sum_.load(std::memory_order_relaxed);
        out.largest = std::max(out.largest, largest_.load(std::memory_order_relaxed));
    }
    [[nodiscard]] HistogramSnapshot snapshot() const noexcept {
        HistogramSnapshot out;
        merge_into(out);
        return out;
    }

private:
    static void bump(std::atomic<std::uint64_t>& cell, std::uint64_t n) noexcept {
        cell.store(cell.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    std::array<std::atomic<std::uint64_t>, HistogramLayout::bucket_count> buckets_{};
    std::atomic<std::uint64_t> sum_{0};
    std::atomic<std::uint64_t> largest_{0};
};

}  // namespace penstock
