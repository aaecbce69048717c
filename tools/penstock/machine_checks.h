// What `penstock doctor` looks at of the machine itself: CPUs, interrupts, memory, io_uring, clock.
//
// Runs on: any thread; reads /proc and /sys through the tree alone, changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/penstock/finding.h"
#include "tools/penstock/machine_tree.h"

namespace penstock {

// What the node would be started with.
struct Deployment {
    std::vector<std::string> ports;   // as --port has them
    std::vector<unsigned> lane_cpus;  // one lane each, never empty
    std::vector<std::string> drives;  // "MAJOR:MINOR" of what each data directory is on
};

// What files do not tell: the kernel was asked.
struct KernelAnswers {
    int ring_errno = 0;              // of making a ring; 0: made
    bool clock_synchronised = true;  // adjtimex
    std::uint64_t clock_error_us_max = 0;
};

// The PCI address of a --port ("0000:01:00.0"); nothing for virtual devices and kernel sockets.
[[nodiscard]] std::optional<std::string> pci_address_of(const std::string& port);
// The command that adds an argument to the kernel's command line, on Debian and its kin.
[[nodiscard]] std::string boot_argument(const std::string& name, const std::string& argument);

void check_cpus(const MachineTree& tree, const Deployment& deployment, Findings& findings);
void check_isolation(const MachineTree& tree, const Deployment& deployment, Findings& findings);
void check_governor(const MachineTree& tree, const Deployment& deployment, Findings& findings);
void check_interrupts(const MachineTree& tree, const Deployment& deployment, Findings& findings);
void check_hugepages(const MachineTree& tree, const Deployment& deployment, Findings& findings);
void check_memlock(const MachineTree& tree, Findings& findings);
void check_io_uring(const MachineTree& tree, const KernelAnswers& kernel, Findings& findings);
void check_clock(const MachineTree& tree, const KernelAnswers& kernel, Findings& findings);

}  // namespace penstock
