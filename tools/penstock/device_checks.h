// What `penstock doctor` looks at of NICs and drives: drivers, the IOMMU, NUMA nodes, settings.
//
// Runs on: any thread; reads /proc and /sys through the tree alone, changes nothing.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "tools/penstock/finding.h"
#include "tools/penstock/machine_checks.h"
#include "tools/penstock/machine_tree.h"

namespace penstock {

// Interfaces that a default route leaves through: DPDK must not take them.
[[nodiscard]] std::set<std::string> default_route_interfaces(const MachineTree& tree);
void check_routes(const MachineTree& tree, Findings& findings);
void check_iommu(const MachineTree& tree, const Deployment& deployment, Findings& findings);
void check_ports(const MachineTree& tree, const Deployment& deployment, Findings& findings);
// `numbers` is the "MAJOR:MINOR" of the device a directory's file system is on. Looks at each drive
// below it: partitions, device mapper and md are followed. `seen` keeps a drive from being reported
// for each directory on it.
void check_drive(const MachineTree& tree, const Deployment& deployment, const std::string& numbers,
                 std::set<std::string>& seen, Findings& findings);

}  // namespace penstock
