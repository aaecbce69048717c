// CPU lists as people write them: "0-3,5".
//
// Runs on: any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "storage/base/result.h"

namespace penstock {

// The CPUs in the order written. On failure `why` says what was found and what is allowed.
// Errors: invalid_argument.
[[nodiscard]] Result<std::vector<unsigned>> parse_cpu_list(std::string_view text, std::string& why);

// Whether this process may run on all of them. Errors: invalid_argument, with `why`.
[[nodiscard]] Status check_cpus_usable(const std::vector<unsigned>& cpus, std::string& why);

}  // namespace penstock
