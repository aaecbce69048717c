// What this build is and what it was built with.
#pragma once

#include <string>

namespace penstock {

// Lines for people, or one JSON object.
[[nodiscard]] std::string version_text(bool json);

}  // namespace penstock
