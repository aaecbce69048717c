// A random life story of a node, from one seed: loads, faults of one replica at a time, crashes.
#pragma once

#include <cstdint>
#include <string>

namespace penstock::test {

struct ScenarioResult {
    std::uint64_t trace_digest = 0;
    std::uint64_t acked = 0;
    std::uint64_t read = 0;
    unsigned lives = 0;
    unsigned crashes = 0;
    std::string fault;   // what one replica did wrong
    std::string broken;  // empty: every promise was kept
};

struct ScenarioOptions {
    std::uint64_t seed = 1;
    bool verbose = false;
    // Two drives answer flushes without doing them: more than the promise covers, so that the
    // checker can be seen to fail.
    bool two_liars = false;
};

[[nodiscard]] ScenarioResult run_scenario(const ScenarioOptions& options);

}  // namespace penstock::test
