// Metrics of subscriptions to shards.
#include "control/node/node_metrics.h"

namespace penstock {

using metrics::Kind;
using metrics::Samples;

void NodeMetrics::add_fan_out_families() {
    using Number = std::atomic<std::uint64_t>;
    const auto of = [this](Kind kind, const char* name, const char* help,
                           Number kinesis::FanOutCounters::* member) {
        add(kind, name, help, [this, member](Samples& out) {
            out.add((sources_.fan_out->*member).load(std::memory_order_relaxed));
        });
    };
    of(Kind::gauge, "penstock_fan_out_subscriptions", "Subscriptions to shards that are open now.",
       &kinesis::FanOutCounters::open);
    of(Kind::gauge, "penstock_fan_out_held_bytes",
       "Events that were made and not yet taken by their clients' connections.",
       &kinesis::FanOutCounters::held_bytes);
    of(Kind::counter, "penstock_fan_out_events_total", "Events sent to subscribers.",
       &kinesis::FanOutCounters::events);
    of(Kind::counter, "penstock_fan_out_shared_events_total",
       "Of these, events that were not made anew because another subscriber got the same.",
       &kinesis::FanOutCounters::shared_events);
    of(Kind::counter, "penstock_fan_out_records_total", "Records in them.",
       &kinesis::FanOutCounters::records);
    of(Kind::counter, "penstock_fan_out_bytes_total", "Data and partition keys of these records.",
       &kinesis::FanOutCounters::bytes);
    add(Kind::counter, "penstock_fan_out_ended_total", "Subscriptions that ended, by why.",
        [this](Samples& out) {
            for (std::size_t i = 0; i < kinesis::subscription_end_names.size(); ++i) {
                out.add(sources_.fan_out->ended[i].load(std::memory_order_relaxed),
                        {{"reason", kinesis::subscription_end_names[i]}});
            }
        });
}

}  // namespace penstock
