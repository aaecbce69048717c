// How a DPDK device spreads over its queues what no rule steers: by which of its hash functions, or
// not at all.
//
// Runs on: a control thread, before the device is configured. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/port/port.h"
#include "storage/base/result.h"

namespace penstock {

struct RssQuestion {
    RssMode mode = RssMode::automatic;
    std::string driver;
    std::uint64_t offered = 0;  // rte_eth_dev_info::flow_type_rss_offloads
    // As many as lanes, or as the device has; with `lanes` more than that.
    unsigned queues = 1;
    unsigned lanes = 1;
};

// The drivers whose queues the kernel fills by its own hash, whatever DPDK is told.
[[nodiscard]] bool kernel_spreads(std::string_view driver) noexcept;

// The functions to be used, of those offered; 0 for none. Errc::unsupported, with `why`, when RSS
// was insisted on and cannot be.
[[nodiscard]] Result<std::uint64_t> choose_rss(const RssQuestion& question, std::string& why);

// What the queues get, for the start-up line: "spread by RSS over addresses and UDP ports".
[[nodiscard]] std::string rss_text(RssMode mode, std::string_view driver, std::uint64_t functions);

}  // namespace penstock
