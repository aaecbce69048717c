// One thing `penstock doctor` found, and how findings are printed.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace penstock {

enum class FindingLevel : std::uint8_t {
    ok,
    note,     // could be better; nothing breaks
    warning,  // costs much speed, or some safety
    error     // the node will not start, or not as configured
};
[[nodiscard]] const char* name_of(FindingLevel level) noexcept;

struct Finding {
    FindingLevel level = FindingLevel::ok;
    std::string id;     // "hugepages", "port-driver", ...: stable, for programs
    std::string about;  // the device, directory or NUMA node; empty: the machine
    std::string text;   // one line
    std::string mend;   // one command; empty if ok, and only then
    friend bool operator==(const Finding&, const Finding&) = default;
};
using Findings = std::vector<Finding>;

[[nodiscard]] std::size_t count_of(const Findings& findings, FindingLevel level) noexcept;
void print_text(const Findings& findings, std::ostream& out);
// One JSON object: {"findings":[{"level","id","about","text","mend"}…],"errors","warnings","notes"}
void print_json(const Findings& findings, std::ostream& out);

}  // namespace penstock
