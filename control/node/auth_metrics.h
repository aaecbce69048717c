// How many requests the gates took and refused, as /metrics shows it.
#pragma once

#include <vector>

#include "control/auth/gate.h"
#include "control/metrics/registry.h"

namespace penstock {

// The families that show the sums over `gates`, which must outlive the registry.
void add_auth_families(metrics::Registry& registry, const std::vector<const auth::Gate*>& gates);

}  // namespace penstock
