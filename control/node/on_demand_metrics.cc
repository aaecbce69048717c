// Metrics of ON_DEMAND streams that change their shards by themselves.
#include "control/node/node_metrics.h"

namespace penstock {

using metrics::Kind;
using metrics::Samples;

void NodeMetrics::add_on_demand_families() {
    const auto of = [this](const char* name, const char* help, const char* label, auto member,
                           auto names) {
        add(Kind::counter, name, help, [this, label, member, names](Samples& out) {
            for (std::size_t i = 0; i < names.size(); ++i) {
                out.add((sources_.on_demand->*member)[i].load(std::memory_order_relaxed),
                        {{label, names[i]}});
            }
        });
    };
    of("penstock_on_demand_changes_total",
       "Changes of shards that ON_DEMAND streams began by themselves.", "kind",
       &kinesis::OnDemandCounters::changes, kinesis::on_demand_change_names);
    of("penstock_on_demand_held_total", "Such changes that were due and not begun, by why.",
       "reason", &kinesis::OnDemandCounters::held, kinesis::on_demand_held_names);
    add(Kind::gauge, "penstock_on_demand_hot_shards",
        "Shards of ON_DEMAND streams that are hot now.", [this](Samples& out) {
            out.add(sources_.on_demand->hot_shards.load(std::memory_order_relaxed));
        });
}

}  // namespace penstock
