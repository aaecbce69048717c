// Makes a directory with its parents, durably.
#pragma once

#include <string>

#include "storage/base/result.h"

namespace penstock {

// Blocks. What exists is kept. Every new entry is durable on return. Errors: io_failed, no_space.
[[nodiscard]] Status make_directories(const std::string& path);

}  // namespace penstock
