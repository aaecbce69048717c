// `penstock replica watch`: how far a running node has refilled its replicas.
#include <unistd.h>

#include <chrono>
#include <ostream>
#include <thread>

#include "control/node/storage_watch.h"
#include "tools/penstock/node_client.h"
#include "tools/penstock/replica_command.h"

namespace penstock {

namespace {

constexpr std::chrono::seconds look_every{1};
constexpr unsigned looks_between_lines = 10;  // where there is no terminal
constexpr unsigned silent_looks_max = 30;

}  // namespace

std::string watch_line(const Scrape& scrape) {
    const auto missing_chunks = scrape.by("penstock_replica_missing_chunks", "replica");
    const auto left = scrape.by("penstock_replica_missing_bytes", "replica");
    const auto total = scrape.by("penstock_replica_refill_total_bytes", "replica");
    const auto rate = scrape.by("penstock_replica_refill_bytes_per_second", "replica");
    const auto seconds = scrape.by("penstock_replica_refill_seconds_left", "replica");
    const auto of = [](const std::map<std::string, double>& all, const std::string& replica) {
        const auto found = all.find(replica);
        return found == all.end() ? 0 : found->second;
    };
    std::string line;
    for (const Sample& sample : scrape.all("penstock_replica_state")) {
        const std::string& replica = sample.label("replica");
        const std::string& state = sample.label("state");
        if (sample.value != 1 || (state == "voting" && of(missing_chunks, replica) == 0)) {
            continue;
        }
        line += (line.empty() ? "replica " : "; replica ") + replica + " " + state;
        const double whole = of(total, replica);
        if (whole <= 0) {
            line += state == "out" ? ", not taken in yet" : "";
            continue;
        }
        const double share = (whole - of(left, replica)) / whole;
        line += " " + std::to_string(static_cast<unsigned>(100 * share)) + " %, " +
                bytes_text(whole - of(left, replica)) + " of " + bytes_text(whole) + ", " +
                bytes_text(of(rate, replica)) + "/s";
        if (of(seconds, replica) > 0) {
            line += ", " + duration_text(of(seconds, replica)) + " left";
        }
    }
    return line;
}

int replica_watch(const std::string& http, const std::string& local_socket, std::ostream& out,
                  std::ostream& err) {
    NodeClient client(http, 10'000, local_socket);
    const bool is_terminal = ::isatty(STDOUT_FILENO) == 1;
    const std::string back = is_terminal ? "\r\033[K" : "";
    unsigned silent = 0;
    for (unsigned look = 0;; ++look) {
        std::string why;
        const auto answer = client.ask("GET", "/metrics", "", why);
        if (!answer || answer->status != 200) {
            if (look == 0 || ++silent > silent_looks_max) {
                err << back << "replica watch: "
                    << (answer ? "the node answered " + std::to_string(answer->status) : why)
                    << '\n';
                return 1;
            }
        } else {
            silent = 0;
            const std::string line = watch_line(Scrape(answer->body));
            if (line.empty()) {
                out << back << "all three replicas are whole" << std::endl;
                return 0;
            }
            if (is_terminal) {
                out << back << line << std::flush;
            } else if (look % looks_between_lines == 0) {
                out << line << std::endl;
            }
        }
        std::this_thread::sleep_for(look_every);
    }
}

}  // namespace penstock
