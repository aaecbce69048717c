// The metrics of shards that EnableEnhancedMonitoring switches on, under CloudWatch's names.
#include <set>

#include "control/kinesis/stream/shard_id.h"
#include "control/node/node_metrics.h"

namespace penstock {

namespace {

using metrics::Kind;
using metrics::Samples;

constexpr std::size_t iterator_age_index = 6;
static_assert(kinesis::shard_metric_names[iterator_age_index] == "IteratorAgeMilliseconds");

}  // namespace

void NodeMetrics::add_enhanced_families() {
    // Calls `use` for each shard of a stream that has one of the metrics in `wanted` switched on.
    const auto each = [this](unsigned wanted, auto&& use) {
        const auto table = sources_.streams->table();
        for (const auto& [name, view] : *table) {
            if ((view->stream().shard_metrics & wanted) == 0) {
                continue;
            }
            for (const kinesis::Shard& shard : view->stream().shards) {
                use(view->stream(), shard, kinesis::format_shard_id(shard.number));
            }
        }
    };
    add(Kind::counter, "penstock_enhanced_shard_total",
        "What EnableEnhancedMonitoring switched on, by CloudWatch's name.",
        [this, each](Samples& out) {
            constexpr unsigned counters = (1U << iterator_age_index) - 1;
            const auto snapshot = gather();
            std::map<std::pair<std::string, std::uint32_t>, std::pair<std::uint64_t, std::uint64_t>>
                incoming;
            for (const auto& shard : snapshot->shards) {
                incoming[{shard.stream, shard.number}] = {shard.records, shard.bytes};
            }
            each(counters, [&](const kinesis::Stream& stream, const kinesis::Shard& shard,
                               const std::string& id) {
                const auto [records, bytes] = incoming[{stream.name, shard.number}];
                const auto counts = sources_.streams->meter().of(shard.uid);
                const std::array<std::uint64_t, iterator_age_index> values = {
                    bytes,
                    records,
                    counts.outgoing_bytes,
                    counts.outgoing_records,
                    counts.writes_exceeded,
                    counts.reads_exceeded};
                for (std::size_t i = 0; i < values.size(); ++i) {
                    if ((stream.shard_metrics >> i & 1) != 0) {
                        out.add(values[i], {{"stream", stream.name},
                                            {"shard", id},
                                            {"metric", kinesis::shard_metric_names[i]}});
                    }
                }
            });
        });
    add(Kind::gauge, "penstock_enhanced_shard_milliseconds",
        "The same for IteratorAgeMilliseconds: how old what the last GetRecords reached was.",
        [this, each](Samples& out) {
            each(1U << iterator_age_index, [&](const kinesis::Stream& stream,
                                               const kinesis::Shard& shard, const std::string& id) {
                out.add(sources_.streams->meter().of(shard.uid).iterator_age_ms,
                        {{"stream", stream.name},
                         {"shard", id},
                         {"metric", kinesis::shard_metric_names[iterator_age_index]}});
            });
        });
}

}  // namespace penstock
