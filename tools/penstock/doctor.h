// `penstock doctor`: looks at the machine and says, for each thing that costs speed or safety, the
// one command that mends it. Changes nothing; the scratch file of the drive measurement is removed.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace penstock {

struct DoctorOptions {
    std::vector<std::string> data;  // as --data has them; none: drives are not looked at
    bool json = false;
};

enum class FindingLevel : unsigned char { ok, warn, bad };

struct Finding {
    FindingLevel level = FindingLevel::ok;
    std::string subject;  // "hugepages", "io_uring", ...
    std::string found;    // one line
    std::string mend;     // one command; empty if ok
};

[[nodiscard]] std::vector<Finding> examine(const DoctorOptions& options);

// Prints the findings. Returns 0 if nothing is bad, 1 otherwise, 2 for bad options.
[[nodiscard]] int doctor(const DoctorOptions& options, std::ostream& out);

}  // namespace penstock
