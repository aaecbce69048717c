// `penstock top`: lanes, ports, shards and replicas of a running node, live in the terminal.
//
// Runs on: the main thread.
#pragma once

#include <string>

namespace penstock {

struct TopArguments {
    std::string http = "127.0.0.1:4567";
    std::string local_socket;  // empty: named after the address
    double interval_s = 1;
    bool once = false;
};

// Reads /metrics of the node and shows it until q, SIGINT, SIGTERM or SIGHUP; the terminal is then
// as it was before. With `once`, one plain table over one interval. Where standard output is no
// terminal, plain tables. Returns 0, or 1 when the node did not answer (with `once` or at first).
[[nodiscard]] int run_top(const TopArguments& arguments);

}  // namespace penstock
