// Metrics of the node's parts: what each lane, port, shard and replica directory does. What they
// add up to is in node_metrics.cc.
#include <sys/statvfs.h>

#include "control/kinesis/stream/shard_id.h"
#include "control/node/node_metrics.h"
#include "dataplane/drop.h"

namespace penstock {

using metrics::Kind;
using metrics::Samples;
using FileSystem = struct statvfs;

void NodeMetrics::add_part_families() {
    add(Kind::counter, "penstock_lane_records_total",
        "Records taken into shards, by where they came from.", [this](Samples& out) {
            for (unsigned i = 0; i < sources_.lanes->lane_count(); ++i) {
                const LaneCounters& c = sources_.lanes->lane(i).counters();
                const std::string lane = std::to_string(i);
                out.add(c.records_from_doors.get(), {{"lane", lane}, {"from", "doors"}});
                out.add(c.records_from_api.get(), {{"lane", lane}, {"from", "api"}});
            }
        });
    // Most lanes never see most reasons; penstock_dropped_total has them all from the start.
    add(Kind::counter, "penstock_lane_dropped_total",
        "Of the refused packets and records those of this lane and its port queues, where any.",
        [this](Samples& out) {
            for (unsigned i = 0; i < sources_.lanes->lane_count(); ++i) {
                for (std::size_t reason = 1; reason < drop_reason_count; ++reason) {
                    std::uint64_t drops =
                        sources_.lanes->lane(i).counters().drops.by_reason[reason].get();
                    for (Port* port : sources_.ports) {
                        drops += i < port->queue_count()
                                     ? port->queue(i).drops().by_reason[reason].get()
                                     : 0;
                    }
                    if (drops != 0) {
                        out.add(drops, {{"lane", std::to_string(i)},
                                        {"reason", label(static_cast<DropReason>(reason))}});
                    }
                }
            }
        });
    add_port_families();
    const auto per_shard = [this](Samples& out, std::uint64_t Snapshot::ShardTotal::* member) {
        for (const Snapshot::ShardTotal& shard : gather()->shards) {
            out.add(shard.*member,
                    {{"stream", shard.stream}, {"shard", kinesis::format_shard_id(shard.number)}});
        }
    };
    add(Kind::counter, "penstock_shard_records_committed_total",
        "Records durable on two replicas, of each shard that has any.",
        [per_shard](Samples& out) { per_shard(out, &Snapshot::ShardTotal::records); });
    add(Kind::counter, "penstock_shard_bytes_committed_total", "Their data and partition keys.",
        [per_shard](Samples& out) { per_shard(out, &Snapshot::ShardTotal::bytes); });
    const auto space = [this](Samples& out, fsblkcnt_t FileSystem::* blocks) {
        const auto replicas = sources_.supervisor->replicas();
        for (unsigned r = 0; r < replica_count; ++r) {
            FileSystem found{};
            // The directory of a replica that is out may be an empty mount point.
            if (replicas[r].state != "out" &&
                ::statvfs(replicas[r].directory.c_str(), &found) == 0) {
                out.add(std::uint64_t{found.*blocks} * found.f_frsize,
                        {{"replica", std::to_string(r)}});
            }
        }
    };
    add(Kind::gauge, "penstock_replica_free_bytes",
        "Free space of the file system the replica is on, unless the replica is out.",
        [space](Samples& out) { space(out, &FileSystem::f_bavail); });
    add(Kind::gauge, "penstock_replica_size_bytes", "That file system's size.",
        [space](Samples& out) { space(out, &FileSystem::f_blocks); });
}

void NodeMetrics::add_port_families() {
    const auto per_port = [this](const char* name, const char* help,
                                 std::uint64_t PortStats::* member) {
        add(Kind::counter, name, help, [this, member](Samples& out) {
            for (Port* port : sources_.ports) {
                out.add(port->stats().*member, {{"port", port->name()}});
            }
        });
    };
    per_port("penstock_port_received_packets_total", "Packets the port received.",
             &PortStats::received_packets);
    per_port("penstock_port_received_bytes_total", "Their bytes.", &PortStats::received_bytes);
    per_port("penstock_port_sent_packets_total", "Packets the port sent.",
             &PortStats::sent_packets);
    per_port("penstock_port_missed_total", "Dropped since our ring or socket buffer was full.",
             &PortStats::missed);
    per_port("penstock_port_errors_total", "Damaged on arrival.", &PortStats::errors);
    per_port("penstock_port_no_buffer_total", "Dropped since no packet buffer was free.",
             &PortStats::no_buffer);
}

}  // namespace penstock
