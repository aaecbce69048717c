#include "storage/io/durability_probe.h"

#include <chrono>

#include "tests/unit/storage/io/support.h"

namespace penstock {
namespace {

using test::TempDir;

TEST(DurabilityProbe, MeasuresBothWaysAndLeavesNothingBehind) {
    const TempDir dir;
    const auto start = std::chrono::steady_clock::now();
    const DurabilityReport report = probe_durability(dir.fd());
    const auto took = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(report.status) << report.describe();
    EXPECT_GT(report.dsync_4k_us, 0);
    EXPECT_GT(report.flush_4k_us, 0);
    EXPECT_GT(report.dsync_256k_us, 0);
    EXPECT_GT(report.flush_256k_us, 0);
    EXPECT_FALSE(report.file_system.empty());
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
    // The bound for a slow drive: four series of 100 ms and the preparation.
    EXPECT_LT(took, std::chrono::seconds(3));
    RecordProperty("report", report.describe());
    std::printf("%s (%lld ms)\n", report.describe().c_str(),
                static_cast<long long>(
                    std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
}

TEST(DurabilityProbe, OneFileSystemIsMeasuredOnceAndSeveralAtTheSameTime) {
    const TempDir first;
    const TempDir second;
    const int memory = ::open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_GE(memory, 0);
    std::array<DurabilityReport, 4> reports;
    probe_durability(std::array{first.fd(), memory, -1, second.fd()}, reports);
    ::close(memory);
    ASSERT_TRUE(reports[0].status);
    EXPECT_GT(reports[0].dsync_4k_us, 0.0);
    EXPECT_EQ(reports[0].dsync_4k_us, reports[3].dsync_4k_us);
    EXPECT_EQ(reports[1].file_system, "tmpfs");
    EXPECT_EQ(reports[2].file_system, "");
    EXPECT_TRUE(std::filesystem::is_empty(first.path()));
    EXPECT_TRUE(std::filesystem::is_empty(second.path()));
}

TEST(DurabilityProbe, SaysWhenNothingCanBeMeasured) {
    const int fd = ::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const DurabilityReport report = probe_durability(fd);
    ::close(fd);
    EXPECT_FALSE(report.status);
    EXPECT_EQ(report.mode, FlushMode::dsync);
    EXPECT_NE(report.describe().find("not measured"), std::string::npos);
}

}  // namespace
}  // namespace penstock
