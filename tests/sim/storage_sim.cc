// Runs random life stories of a node and says which seed broke a promise.
//   storage_sim [--seed N] [--seeds M] [--verbose] [--twice]
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "tests/sim/scenario.h"

namespace {

std::uint64_t current_seed = 0;

// A failed check aborts; the seed must be known then.
void on_abort(int) {
    char line[64];
    const int length = std::snprintf(line, sizeof line, "aborted in seed %lu\n",
                                     static_cast<unsigned long>(current_seed));
    if (length > 0 && ::write(2, line, static_cast<std::size_t>(length)) < 0) {
        std::_Exit(134);
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t first = 1;
    std::uint64_t count = 1;
    bool verbose = false;
    bool twice = false;
    bool keep_going = false;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto number = [&] {
            return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0;
        };
        if (word == "--seed") {
            first = number();
        } else if (word == "--seeds") {
            count = number();
        } else if (word == "--verbose") {
            verbose = true;
        } else if (word == "--twice") {
            twice = true;
        } else if (word == "--keep-going") {
            keep_going = true;
        } else {
            std::fprintf(stderr,
                         "usage: storage_sim [--seed N] [--seeds M] [--verbose] [--twice] "
                         "[--keep-going]\n");
            return 2;
        }
    }
    std::signal(SIGABRT, on_abort);
    std::uint64_t acked = 0;
    std::uint64_t read = 0;
    std::uint64_t crashes = 0;
    std::uint64_t failed = 0;
    std::map<std::string, unsigned> faults;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        current_seed = seed;
        const auto result = penstock::test::run_scenario({.seed = seed, .verbose = verbose});
        acked += result.acked;
        read += result.read;
        crashes += result.crashes;
        ++faults[result.fault];
        if (!result.broken.empty()) {
            std::printf("seed %lu (%s): %s\n", static_cast<unsigned long>(seed),
                        result.fault.c_str(), result.broken.c_str());
            std::fflush(stdout);
            ++failed;
            if (!keep_going) {
                return 1;
            }
        }
        if (twice) {
            const auto again = penstock::test::run_scenario({.seed = seed});
            if (again.trace_digest != result.trace_digest) {
                std::printf("seed %lu: two runs differ\n", static_cast<unsigned long>(seed));
                return 1;
            }
        }
    }
    std::printf(
        "%lu seeds, %lu crashes, %lu records acknowledged, %lu read back, %lu seeds failed\n",
        static_cast<unsigned long>(count), static_cast<unsigned long>(crashes),
        static_cast<unsigned long>(acked), static_cast<unsigned long>(read),
        static_cast<unsigned long>(failed));
    for (const auto& [name, times] : faults) {
        std::printf("  last fault %-20s %u\n", name.c_str(), times);
    }
    return failed == 0 ? 0 : 1;
}
