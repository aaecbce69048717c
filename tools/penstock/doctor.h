// `penstock doctor`: looks at the machine and says, for each thing that costs speed or safety, the
// one command that mends it. Changes nothing; the scratch file of the drive measurement is removed.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "tools/penstock/finding.h"
#include "tools/penstock/machine_checks.h"
#include "tools/penstock/machine_tree.h"

namespace penstock {

struct DoctorOptions {
    std::vector<std::string> data;   // as serve has them; none: drives are not looked at
    std::vector<std::string> ports;  // as serve has them
    std::string lanes;               // as serve has them; empty: what serve would use
    std::string key_file;            // as serve has it; empty: not looked at
    std::string keys_file;           // the same
    bool json = false;
};

// All that /proc and /sys tell about a machine that is to run this deployment.
[[nodiscard]] Findings examine_machine(const MachineTree& tree, const Deployment& deployment,
                                       const KernelAnswers& kernel);

// Prints the findings. Returns 0 if there is no error among them, 1 otherwise, 2 for bad options.
[[nodiscard]] int doctor(const DoctorOptions& options, std::ostream& out, std::ostream& err);

}  // namespace penstock
