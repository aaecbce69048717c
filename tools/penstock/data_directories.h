// Which three directories the --data options mean.
#pragma once

#include <array>
#include <expected>
#include <string>
#include <vector>

#include "storage/base/ids.h"

namespace penstock {

// One DIR means its sub-directories replica-0, replica-1 and replica-2; three are taken as they
// are. Anything else gives one line that says what is expected.
[[nodiscard]] std::expected<std::array<std::string, replica_count>, std::string>
expand_data_directories(const std::vector<std::string>& given);

}  // namespace penstock
