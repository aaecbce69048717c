// What `penstock top` shows: two readings of /metrics turned into lines of text.
//
// Runs on: any thread; pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/penstock/metrics_text.h"

namespace penstock {

struct TopLine {
    std::string text;
    bool heading = false;
    friend bool operator==(const TopLine&, const TopLine&) = default;
};

struct TopOptions {
    std::string title;   // "127.0.0.1:4567"
    double seconds = 0;  // between the readings; 0: there is no earlier one, rates show as "-"
    std::size_t rows_max = 0;      // lines in all; 0: any number
    std::size_t busiest_max = 20;  // streams and shards, where rows_max does not say less
};

// Lanes, ports, replicas, then streams and shards with the busiest first. Holds printable
// characters only. Where rows_max is too small, streams and shards are left out first.
[[nodiscard]] std::vector<TopLine> top_lines(const Scrape& before, const Scrape& now,
                                             const TopOptions& options);

// At most `columns` characters; UTF-8 is not cut within one.
[[nodiscard]] std::string cut_to(std::string_view text, std::size_t columns);

}  // namespace penstock
