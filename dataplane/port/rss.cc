#include "dataplane/port/rss.h"

#include <rte_ethdev.h>

namespace penstock {

bool kernel_spreads(std::string_view driver) noexcept {
    return driver.starts_with("net_af_packet") || driver.starts_with("net_af_xdp") ||
           driver.starts_with("net_tap");
}

Result<std::uint64_t> choose_rss(const RssQuestion& question, std::string& why) {
    const bool kernel = kernel_spreads(question.driver);
    // A device may offer functions over addresses alone; both ends of one flow then still agree.
    const std::uint64_t usable = kernel ? 0 : question.offered & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP);
    if (question.mode == RssMode::on) {
        std::string problem;
        if (kernel) {
            problem = "the kernel fills the queues of " + question.driver + " by a hash of its own";
        } else if (usable == 0) {
            problem = "driver " + question.driver + " offers no RSS over IP or UDP";
        } else if (question.queues < question.lanes && question.queues == 1) {
            problem = "driver " + question.driver + " offers one queue";
        }
        if (!problem.empty()) {
            why = "--rss on found, but " + problem + "; leave it out";
            return fail(Errc::unsupported);
        }
    }
    return question.mode == RssMode::off || question.queues == 1 ? 0 : usable;
}

std::string rss_text(RssMode mode, std::string_view driver, std::uint64_t functions) {
    if (functions != 0) {
        return std::string("spread by RSS over addresses") +
               ((functions & RTE_ETH_RSS_UDP) != 0 ? " and UDP ports" : "");
    }
    if (mode == RssMode::off) {
        return "not spread (RSS off)";
    }
    return kernel_spreads(driver) ? "spread by the kernel" : "not spread (no RSS offered)";
}

}  // namespace penstock
