// `penstock inspect`: prints and verifies what is on disk, of a node that is not running.
#pragma once

#include "tools/penstock/options.h"

namespace penstock {

// Returns the exit code: 0 when all is sound, 1 when something is damaged or differs, 2 when
// nothing can be read. Writes nothing in the directories and takes no lock.
int run_inspect(const InspectOptions& options);

}  // namespace penstock
