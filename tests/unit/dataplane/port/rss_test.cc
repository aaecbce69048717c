#include "dataplane/port/rss.h"

#include <gtest/gtest.h>
#include <rte_ethdev.h>

namespace penstock {
namespace {

constexpr std::uint64_t udp4 = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
constexpr std::uint64_t ipv4 = RTE_ETH_RSS_IPV4;
constexpr std::uint64_t foreign = RTE_ETH_RSS_SCTP | RTE_ETH_RSS_L2_PAYLOAD;

TEST(Rss, UsesOnlyWhatTheDeviceOffersAndWeHaveAUseFor) {
    std::string why;
    RssQuestion question{
        .driver = "net_ice", .offered = ipv4 | udp4 | foreign, .queues = 4, .lanes = 4};
    EXPECT_EQ(choose_rss(question, why).value(), ipv4 | udp4);
    question.offered = ipv4 | foreign;
    EXPECT_EQ(choose_rss(question, why).value(), ipv4);
    question.offered = foreign;
    EXPECT_EQ(choose_rss(question, why).value(), 0U);
    question.offered = ipv4 | udp4;
    question.queues = 1;
    question.lanes = 1;
    EXPECT_EQ(choose_rss(question, why).value(), 0U);
    question.mode = RssMode::on;  // nothing to spread over, and nothing wrong
    EXPECT_EQ(choose_rss(question, why).value(), 0U);
}

TEST(Rss, OffIsOff) {
    std::string why;
    const RssQuestion question{
        .mode = RssMode::off, .driver = "net_ice", .offered = ipv4 | udp4, .queues = 4, .lanes = 4};
    EXPECT_EQ(choose_rss(question, why).value(), 0U);
}

TEST(Rss, SaysWhyItCannotBeInsistedOn) {
    struct Case {
        const char* driver;
        std::uint64_t offered;
        unsigned queues;
        const char* found;
    };
    for (const Case& c :
         {Case{"net_ring", 0, 2, "net_ring offers no RSS over IP or UDP"},
          Case{"net_odd", foreign, 2, "net_odd offers no RSS over IP or UDP"},
          Case{"net_vmxnet3", ipv4, 1, "net_vmxnet3 offers one queue"},
          Case{"net_af_packet", 0, 2, "the kernel fills the queues of net_af_packet"},
          Case{"net_tap", ipv4 | udp4, 2, "the kernel fills the queues of net_tap"}}) {
        std::string why;
        const auto chosen = choose_rss({.mode = RssMode::on,
                                        .driver = c.driver,
                                        .offered = c.offered,
                                        .queues = c.queues,
                                        .lanes = 2},
                                       why);
        ASSERT_FALSE(chosen) << c.driver;
        EXPECT_EQ(chosen.error().code, Errc::unsupported);
        EXPECT_TRUE(why.starts_with("--rss on found, but ")) << why;
        EXPECT_NE(why.find(c.found), std::string::npos) << why;
    }
}

TEST(Rss, TheStartUpLineSaysWhatIsOn) {
    EXPECT_EQ(rss_text(RssMode::automatic, "net_ice", ipv4 | udp4),
              "spread by RSS over addresses and UDP ports");
    EXPECT_EQ(rss_text(RssMode::on, "net_ice", ipv4), "spread by RSS over addresses");
    EXPECT_EQ(rss_text(RssMode::automatic, "net_ring", 0), "not spread (no RSS offered)");
    EXPECT_EQ(rss_text(RssMode::automatic, "net_tap", 0), "spread by the kernel");
    EXPECT_EQ(rss_text(RssMode::off, "net_tap", 0), "not spread (RSS off)");
}

}  // namespace
}  // namespace penstock
