// `penstock port release`: what a crashed node left is given back.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace penstock {

// One line per port, or per interface found when `ports` is empty. Returns 0 when nothing is left,
// 1 when something is in use, 2 for what is no port.
[[nodiscard]] int port_release(const std::vector<std::string>& ports, std::ostream& out,
                               std::ostream& err);

}  // namespace penstock
