#include "dataplane/lane/cpu_list.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(CpuList, ReadsNumbersAndRangesInTheOrderWritten) {
    std::string why;
    EXPECT_EQ(parse_cpu_list("0-3,5", why).value(), (std::vector<unsigned>{0, 1, 2, 3, 5}));
    EXPECT_EQ(parse_cpu_list("7", why).value(), (std::vector<unsigned>{7}));
    EXPECT_EQ(parse_cpu_list("4,2-2", why).value(), (std::vector<unsigned>{4, 2}));
}

TEST(CpuList, SaysWhichPartIsWrong) {
    const std::pair<const char*, const char*> cases[] = {{"", "''"},
                                                         {"a", "'a'"},
                                                         {"1,", "''"},
                                                         {"3-1", "ends before"},
                                                         {"1-2-3", "'1-2-3'"},
                                                         {"-1", "'-1'"},
                                                         {"0,0", "second time"},
                                                         {"0-3,2", "second time"},
                                                         {"4096", "beyond"},
                                                         {"1 ", "'1 '"},
                                                         {"99999999999", "'99999999999'"}};
    for (const auto& [text, expected] : cases) {
        std::string why;
        const auto result = parse_cpu_list(text, why);
        ASSERT_FALSE(result.has_value()) << text;
        EXPECT_EQ(result.error().code, Errc::invalid_argument);
        EXPECT_NE(why.find(expected), std::string::npos) << text << " gave: " << why;
        EXPECT_NE(why.find("0-3,5"), std::string::npos) << "an example belongs into: " << why;
    }
}

TEST(CpuList, RefusesCpusThisProcessMayNotUse) {
    std::string why;
    EXPECT_TRUE(check_cpus_usable({}, why).has_value());
    const Status status = check_cpus_usable({1023}, why);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().detail, 1023U);
    EXPECT_NE(why.find("1023"), std::string::npos);
}

}  // namespace
}  // namespace penstock
