// `penstock replica status` and `penstock replica replace`, beside a running node or without one.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tools/penstock/metrics_text.h"

namespace penstock {

// Prints what each directory of the set holds. Takes no lock, changes nothing. `dirs` as --data has
// them: one or three. Returns 0 if at least two replicas vote, 1 if not, 2 for bad directories.
[[nodiscard]] int replica_status(const std::vector<std::string>& dirs, bool json,
                                 std::ostream& out);

// Makes `target`, an empty directory, a replica to be filled in place of the one that is gone.
// Returns 0, 1 if it was refused, 2 for bad directories.
[[nodiscard]] int replica_replace(const std::vector<std::string>& dirs, const std::string& target,
                                  std::ostream& out, std::ostream& err);
// The same for a replica that is named: 0, 1 or 2. An empty target means the replica's own
// directory.
[[nodiscard]] int replica_replace(const std::vector<std::string>& dirs, unsigned replica,
                                  const std::string& target, std::ostream& out, std::ostream& err);

// Shows how far a running node has refilled its replicas, on one line where `out` is a terminal,
// until all three vote and lack nothing. Returns 0, or 1 when the node does not answer.
[[nodiscard]] int replica_watch(const std::string& http, const std::string& local_socket,
                                std::ostream& out, std::ostream& err);
// What it shows; empty: all three are whole.
[[nodiscard]] std::string watch_line(const Scrape& scrape);

}  // namespace penstock
