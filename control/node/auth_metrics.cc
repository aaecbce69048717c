#include "control/node/auth_metrics.h"

#include "control/auth/refusal.h"

namespace penstock {

using metrics::Kind;
using metrics::Samples;

void add_auth_families(metrics::Registry& registry, const std::vector<const auth::Gate*>& gates) {
    registry.add(Kind::counter, "penstock_auth_accepted_total",
                 "Requests whose signature was right.", [&gates](Samples& out) {
                     std::uint64_t sum = 0;
                     for (const auth::Gate* gate : gates) {
                         sum += gate->accepted();
                     }
                     out.add(sum);
                 });
    registry.add(Kind::counter, "penstock_auth_refused_total",
                 "Requests refused for who sent them or what they wanted, by reason.",
                 [&gates](Samples& out) {
                     for (std::size_t i = 0; i < auth::reason_count; ++i) {
                         const auto reason = static_cast<auth::Reason>(i);
                         std::uint64_t sum = 0;
                         for (const auth::Gate* gate : gates) {
                             sum += gate->refused(reason);
                         }
                         out.add(sum, {{"reason", auth::text_of(reason).label}});
                     }
                 });
}

}  // namespace penstock
