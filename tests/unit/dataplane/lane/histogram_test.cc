#include "storage/base/histogram.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(Histogram, BucketsTileTheRangeWithoutGapOrOverlap) {
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < HistogramLayout::bucket_count; ++i) {
        ASSERT_EQ(HistogramLayout::lowest(i), next) << "bucket " << i;
        ASSERT_EQ(HistogramLayout::bucket_of(HistogramLayout::lowest(i)), i);
        ASSERT_EQ(HistogramLayout::bucket_of(HistogramLayout::highest(i)), i);
        next = HistogramLayout::highest(i) + 1;
    }
    EXPECT_EQ(next - 1, HistogramLayout::value_max);
}

TEST(Histogram, PercentilesAreWithinThreePercent) {
    std::mt19937_64 random(11);
    std::lognormal_distribution<double> latency(12.0, 1.5);
    Histogram histogram;
    std::vector<std::uint64_t> values;
    for (int i = 0; i < 200'000; ++i) {
        values.push_back(static_cast<std::uint64_t>(latency(random)));
        histogram.add(values.back());
    }
    std::sort(values.begin(), values.end());
    const HistogramSnapshot snapshot = histogram.snapshot();
    EXPECT_EQ(snapshot.count, values.size());
    for (const double share : {0.01, 0.5, 0.9, 0.99, 0.999}) {
        const auto rank = static_cast<std::size_t>(share * static_cast<double>(values.size())) - 1;
        const auto exact = static_cast<double>(values[rank]);
        EXPECT_NEAR(static_cast<double>(snapshot.percentile(share)), exact, exact * 0.03) << share;
    }
    EXPECT_EQ(snapshot.percentile(1.0), std::min(snapshot.largest, snapshot.percentile(1.0)));
    EXPECT_EQ(snapshot.largest, values.back());
}

TEST(Histogram, WeightsCountAsManyValues) {
    Histogram histogram;
    histogram.add(10, 99);
    histogram.add(1000, 1);
    const HistogramSnapshot snapshot = histogram.snapshot();
    EXPECT_EQ(snapshot.count, 100U);
    EXPECT_EQ(snapshot.sum, 1990U);
    EXPECT_EQ(snapshot.percentile(0.99), 10U);
    EXPECT_GT(snapshot.percentile(0.995), 900U);
}

TEST(Histogram, EmptyAnswersZero) {
    EXPECT_EQ(Histogram().snapshot().percentile(0.5), 0U);
}

TEST(Histogram, ValuesBeyondTheRangeCountInTheLastBucket) {
    Histogram histogram;
    histogram.add(UINT64_MAX);
    EXPECT_EQ(histogram.snapshot().buckets.back(), 1U);
}

TEST(Histogram, CumulativeCountsOnlyWhatIsAtOrBelowTheBound) {
    Histogram histogram;
    histogram.add(5);
    histogram.add(50);
    histogram.add(5'000);
    histogram.add(5'000'000);
    const std::array<std::uint64_t, 5> bounds{4, 5, 100, 10'000, UINT64_MAX};
    std::array<std::uint64_t, 5> counts{};
    histogram.snapshot().cumulative(bounds, counts);
    EXPECT_EQ(counts, (std::array<std::uint64_t, 5>{0, 1, 2, 3, 4}));
}

TEST(Histogram, MergedSnapshotsAddUp) {
    Histogram one;
    Histogram two;
    one.add(7);
    two.add(7);
    two.add(70'000);
    HistogramSnapshot both = one.snapshot();
    both.merge(two.snapshot());
    EXPECT_EQ(both.count, 3U);
    EXPECT_EQ(both.sum, 70'014U);
    EXPECT_EQ(both.buckets[7], 2U);
    EXPECT_EQ(both.largest, 70'000U);
}

}  // namespace
}  // namespace penstock
