// Metrics of scrubbing, and of how far replicas are refilled.
#include <algorithm>

#include "control/node/node_metrics.h"

namespace penstock {

using metrics::Kind;
using metrics::Samples;

void NodeMetrics::add_scrub_families() {
    const auto refill = [this](const char* name, const char* help,
                               double (*value_of)(const RefillProgress&)) {
        add(Kind::gauge, name, help, [this, value_of](Samples& out) {
            const auto replicas = sources_.supervisor->replicas();
            for (unsigned r = 0; r < replica_count; ++r) {
                out.add(value_of(replicas[r].refill), {{"replica", std::to_string(r)}});
            }
        });
    };
    refill("penstock_replica_missing_bytes", "Bytes that are still to be copied to the replica.",
           [](const RefillProgress& p) { return static_cast<double>(p.left_bytes); });
    refill("penstock_replica_refill_total_bytes",
           "Bytes that it lacked when its refill began; 0 while it lacks nothing.",
           [](const RefillProgress& p) { return static_cast<double>(p.total_bytes); });
    refill("penstock_replica_refill_bytes_per_second", "How fast they are copied.",
           [](const RefillProgress& p) { return p.bytes_per_s; });
    refill("penstock_replica_refill_seconds_left",
           "How long that takes at this rate; 0 while that is not known.",
           [](const RefillProgress& p) { return p.seconds_left; });

    const auto total = [this](const char* name, const char* help,
                              std::uint64_t GroupCounters::* member) {
        add(Kind::counter, name, help, [this, member](Samples& out) {
            std::uint64_t sum = 0;
            for (const Group& group : gather()->groups) {
                sum += group.counters.*member;
            }
            out.add(sum);
        });
    };
    const auto per_replica = [this](
                                 const char* name, const char* help,
                                 std::array<std::uint64_t, replica_count> GroupCounters::* member) {
        add(Kind::counter, name, help, [this, member](Samples& out) {
            const auto snapshot = gather();
            for (unsigned r = 0; r < replica_count; ++r) {
                std::uint64_t sum = 0;
                for (const Group& group : snapshot->groups) {
                    sum += (group.counters.*member)[r];
                }
                out.add(sum, {{"replica", std::to_string(r)}});
            }
        });
    };
    total("penstock_scrub_read_bytes_total", "Stored bytes that were read back, of all copies.",
          &GroupCounters::scrub_read_bytes);
    per_replica("penstock_scrub_damaged_total",
                "Places of the replica's copies that were bad and written again from a good one.",
                &GroupCounters::scrub_damaged);
    per_replica("penstock_scrub_repaired_bytes_total", "Their bytes.",
                &GroupCounters::scrub_repaired_bytes);
    total("penstock_scrub_unkept_total",
          "Places that were still bad when they had been written again several times.",
          &GroupCounters::scrub_unkept);
    total("penstock_scrub_unresolved_total",
          "Places without a good copy, found while not every copy could be looked at.",
          &GroupCounters::scrub_doubts);
    add(Kind::counter, "penstock_scrub_passes_total", "Passes that ended, each over one group.",
        [this](Samples& out) {
            for (const Group& group : gather()->groups) {
                if (group.answered) {
                    out.add(group.counters.scrub_passes, {{"group", std::to_string(group.id)}});
                }
            }
        });
    add(Kind::gauge, "penstock_scrub_last_pass_timestamp_seconds",
        "When the last pass over every group had ended, in seconds since 1970; 0: not since the "
        "start.",
        [this](Samples& out) {
            std::int64_t oldest_ms = INT64_MAX;
            for (const Group& group : gather()->groups) {
                oldest_ms = std::min(oldest_ms, group.gauges.scrub_ended_ms);
            }
            out.add(oldest_ms == INT64_MAX ? 0.0 : static_cast<double>(oldest_ms) / 1e3);
        });
    const auto gauge = [this](const char* name, const char* help,
                              std::uint64_t GroupGauges::* member) {
        add(Kind::gauge, name, help, [this, member](Samples& out) {
            std::uint64_t sum = 0;
            for (const Group& group : gather()->groups) {
                sum += group.gauges.*member;
            }
            out.add(sum);
        });
    };
    gauge("penstock_scrub_done_bytes", "Of the passes that are under way: what was read back.",
          &GroupGauges::scrub_done_bytes);
    gauge("penstock_scrub_total_bytes", "What there was to be read when they began.",
          &GroupGauges::scrub_total_bytes);
    add(Kind::gauge, "penstock_scrub_groups", "Groups by what their scrubbing does now.",
        [this](Samples& out) {
            std::array<std::uint64_t, 5> counts{};
            for (const Group& group : gather()->groups) {
                const bool slowed =
                    group.gauges.scrub == ScrubState::running && group.gauges.scrub_slowed;
                ++counts[slowed ? 4 : static_cast<std::size_t>(group.gauges.scrub)];
            }
            constexpr std::array names{"off", "resting", "running", "paused", "slowed"};
            for (std::size_t i = 0; i < names.size(); ++i) {
                out.add(counts[i], {{"state", names[i]}});
            }
        });
}

}  // namespace penstock
