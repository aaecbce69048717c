// `penstock capture`: packets of a running node into a pcapng file.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace penstock {

struct CaptureOptions {
    std::string http = "127.0.0.1:4567";
    std::string local_socket;          // empty: named after the address
    std::string file = "-";            // pcapng; "-": standard output
    int port = -1;                     // number of the node's --port, from 0; -1: all
    unsigned door = 0;                 // UDP port; 0: every packet
    std::vector<std::string> reasons;  // labels of penstock_dropped_total, "taken"; empty: all
    std::uint64_t count = 0;           // ends after so many; 0: does not
    unsigned seconds = 60;
    unsigned sample = 1;
    unsigned snap_bytes = 65'535;
    friend bool operator==(const CaptureOptions&, const CaptureOptions&) = default;
};

// Ends after `count` packets, `seconds`, or SIGINT or SIGTERM, whichever comes first, and then says
// on `err` what was written and what was missed. Returns 0, or 1 with one line on `err`.
[[nodiscard]] int run_capture(const CaptureOptions& options, std::ostream& err);

}  // namespace penstock
