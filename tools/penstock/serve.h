// `penstock serve`: one node, from its options to its orderly end.
#pragma once

#include "tools/penstock/options.h"

namespace penstock {

// Runs the node until SIGTERM or SIGINT. Returns the exit code.
int run_serve(const ServeOptions& options);

}  // namespace penstock
