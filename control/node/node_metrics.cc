#include "control/node/node_metrics.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cmath>
#include <set>

#include "control/node/auth_metrics.h"
#include "dataplane/drop.h"

namespace penstock {

namespace {

using metrics::Kind;
using metrics::Samples;

// Ten to a decade (ISO 3's R10 series), from 50 us to 2 s: fine enough for a quantile of what was
// committed between two scrapes. One histogram a node, so its lines cost nothing.
constexpr std::array<std::uint64_t, 47> latency_bounds_ns = [] {
    constexpr std::array<std::uint64_t, 10> steps{100, 125, 160, 200, 250, 315, 400, 500, 630, 800};
    std::array<std::uint64_t, 47> bounds{};
    std::uint64_t decade_ns = 100;  // steps are hundredths of a decade
    std::size_t step = 7;
    for (std::uint64_t& bound : bounds) {
        bound = steps[step] * decade_ns;
        step = (step + 1) % steps.size();
        decade_ns *= step == 0 ? 10 : 1;
    }
    return bounds;
}();
static_assert(latency_bounds_ns.front() == 50'000 && latency_bounds_ns.back() == 2'000'000'000);

double seconds(std::uint64_t ns) {
    return static_cast<double>(ns) / 1e9;
}

}  // namespace

NodeMetrics::NodeMetrics(Sources sources)
    : sources_(std::move(sources)),
      caller_(*sources_.lanes),
      totals_(caller_, sources_.lanes->lane_count()) {
    add(Kind::gauge, "penstock_build_info", "Always 1; the version is the label.",
        [this](Samples& out) { out.add(std::uint64_t{1}, {{"version", sources_.version}}); });
    add_lane_families();
    add_storage_families();
    add_scrub_families();
    add_http_families();
    add_part_families();
    add_fan_out_families();
    add_on_demand_families();
    add_enhanced_families();
    add_key_families();
}

void NodeMetrics::add(Kind kind, const char* name, const char* help, metrics::Collector collector) {
    registry_.add(kind, name, help, std::move(collector));
}

void NodeMetrics::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    caller_.wait_for_all();
}

std::shared_ptr<const NodeMetrics::Snapshot> NodeMetrics::gather() {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (closed_ || (last_ != nullptr && now - gathered_ < std::chrono::milliseconds(20))) {
        return last_ != nullptr ? last_ : std::make_shared<const Snapshot>();
    }
    auto snapshot = std::make_shared<Snapshot>();
    std::vector<LaneCaller::Ask> asks;
    for (unsigned id = 1; id <= sources_.group_count; ++id) {
        auto request = std::make_unique<SnapshotRequest>();
        request->group = GroupId{id};
        asks.push_back({sources_.lanes->lane_of(GroupId{id}), std::move(request), false});
    }
    caller_.run(asks, std::chrono::milliseconds(2000));
    for (unsigned id = 1; id <= sources_.group_count; ++id) {
        Group group{.id = id, .counters = {}, .gauges = {}, .answered = false};
        const LaneCaller::Ask& ask = asks[id - 1];
        if (ask.answered && ask.request->outcome == Errc::ok) {
            const auto& answer = static_cast<const SnapshotRequest&>(*ask.request);
            group.counters = answer.counters;
            group.gauges = answer.gauges;
            group.answered = true;
        }
        snapshot->groups.push_back(group);
    }
    std::set<std::uint64_t> listed;  // not those of a deleted stream, whose name may be used again
    if (const auto table = sources_.streams->table()) {
        for (const auto& [name, view] : *table) {
            for (const auto& shard : view->stream().shards) {
                stream_of_shard_[value(shard.uid)] = {name, shard.number};
                listed.insert(value(shard.uid));
            }
        }
    }
    std::set<std::uint64_t> alive;
    bool all_answered = true;
    for (unsigned lane = 0; lane < sources_.lanes->lane_count(); ++lane) {
        const auto totals = totals_.ask(lane);
        if (!totals) {
            all_answered = false;
            continue;
        }
        for (const auto& shard : *totals) {
            last_of_shard_[value(shard.shard)] = {shard.records, shard.bytes};
            alive.insert(value(shard.shard));
        }
    }
    snapshot->by_stream = of_gone_shards_;
    for (auto it = last_of_shard_.begin(); it != last_of_shard_.end();) {
        const auto named = stream_of_shard_.find(it->first);
        const std::string name = named == stream_of_shard_.end() ? "" : named->second.first;
        auto& sum = snapshot->by_stream[name];
        sum.first += it->second.first;
        sum.second += it->second.second;
        // A shard of a lane that is late is not gone; it would be counted twice later.
        if (all_answered && !alive.contains(it->first)) {
            auto& gone = of_gone_shards_[name];
            gone.first += it->second.first;
            gone.second += it->second.second;
            it = last_of_shard_.erase(it);
        } else {
            if (it->second.first != 0 && listed.contains(it->first)) {
                snapshot->shards.push_back(
                    {name, named->second.second, it->second.first, it->second.second});
            }
            ++it;
        }
    }
    last_ = snapshot;
    gathered_ = now;
    return snapshot;
}

void NodeMetrics::add_lane_families() {
    const auto per_lane = [this](Samples& out, auto&& value_of) {
        for (unsigned i = 0; i < sources_.lanes->lane_count(); ++i) {
            out.add(value_of(sources_.lanes->lane(i).counters()), {{"lane", std::to_string(i)}});
        }
    };
    add(Kind::counter, "penstock_packets_received_total", "Packets taken from ports.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.packets.get(); });
        });
    add(Kind::counter, "penstock_dropped_total",
        "Packets and records refused; every refusal is counted under one reason.",
        [this](Samples& out) {
            const auto drops = drop_totals(*sources_.lanes, sources_.ports);
            for (std::size_t reason = 1; reason < drop_reason_count; ++reason) {
                out.add(drops[reason], {{"reason", label(static_cast<DropReason>(reason))}});
            }
        });
    add(Kind::histogram, "penstock_commit_latency_seconds",
        "From the append of a frame's first record to its commit, weighted by records.",
        [this](Samples& out) {
            HistogramSnapshot all;
            for (unsigned i = 0; i < sources_.lanes->lane_count(); ++i) {
                sources_.lanes->lane(i).counters().commit_latency_ns.merge_into(all);
            }
            out.add_ns(all, latency_bounds_ns);
        });
    add(Kind::gauge, "penstock_commit_latency_quantile_seconds",
        "Commit latency since the start, as the lanes' own histogram has it (within 2 %).",
        [this](Samples& out) {
            HistogramSnapshot all;
            for (unsigned i = 0; i < sources_.lanes->lane_count(); ++i) {
                sources_.lanes->lane(i).counters().commit_latency_ns.merge_into(all);
            }
            for (const auto& [name, share] :
                 {std::pair{"0.5", 0.5}, {"0.99", 0.99}, {"0.999", 0.999}}) {
                out.add(seconds(all.percentile(share)), {{"quantile", name}});
            }
        });
    add(Kind::counter, "penstock_lane_busy_seconds_total",
        "Time in turns that found work; its rate is the lane's duty cycle.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return seconds(c.busy_ns.get()); });
        });
    add(Kind::gauge, "penstock_lane_turn_longest_seconds", "The longest turn since the start.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return seconds(c.longest_turn_ns.get()); });
        });
    add(Kind::counter, "penstock_lane_turns_total", "Turns of the lane's loop.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.turns.get(); });
        });
    add(Kind::counter, "penstock_lane_io_submits_total",
        "Turns that handed I/O to the kernel, in one system call each.", [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.io_submits.get(); });
        });
    add(Kind::counter, "penstock_lane_io_follow_ups_total",
        "Further system calls, for what completions led to in their own turn.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.io_follow_ups.get(); });
        });
    add(Kind::counter, "penstock_lane_io_advances_total",
        "Times that I/O completions were taken, all there were at once.", [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.io_advances.get(); });
        });
    add(Kind::counter, "penstock_lane_holds_total",
        "Times that packets were left in the ports' rings because no shard would find memory.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.holds.get(); });
        });
    add(Kind::counter, "penstock_lane_inbox_full_total",
        "Requests turned away because the lane's inbox was full.", [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) {
                return c.inbox_full.load(std::memory_order_relaxed);
            });
        });
    add(Kind::counter, "penstock_put_refused_total",
        "Records of PutRecord and PutRecords that were refused, and their caller told, by reason.",
        [this](Samples& out) {
            for (std::size_t reason = 1; reason < drop_reason_count; ++reason) {
                std::uint64_t sum = 0;
                for (unsigned i = 0; i < sources_.lanes->lane_count(); ++i) {
                    sum += sources_.lanes->lane(i).counters().refused_api.by_reason[reason].get();
                }
                if (sum != 0) {
                    out.add(sum, {{"reason", label(static_cast<DropReason>(reason))}});
                }
            }
        });
    add(Kind::counter, "penstock_lane_sleeps_total",
        "How often the lane slept because everything was idle.", [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.sleeps.get(); });
        });
    add(Kind::counter, "penstock_lane_astray_total",
        "Datagrams to another lane's UDP port of a door, taken by this one.",
        [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.astray.get(); });
        });
    add(Kind::counter, "penstock_lane_handed_over_total",
        "Records given to the lane that owns their shard.", [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.handed_over.get(); });
        });
    add(Kind::counter, "penstock_lane_answered_total",
        "ARP, neighbour discovery and echo requests answered.", [per_lane](Samples& out) {
            per_lane(out, [](const LaneCounters& c) { return c.answered.get(); });
        });
}

void NodeMetrics::add_storage_families() {
    const auto per_group = [this](Samples& out, auto&& value_of) {
        for (const Group& group : gather()->groups) {
            if (group.answered) {
                out.add(static_cast<std::uint64_t>(value_of(group)),
                        {{"group", std::to_string(group.id)}});
            }
        }
    };
    const auto total = [this](Samples& out, auto&& value_of) {
        std::uint64_t sum = 0;
        for (const Group& group : gather()->groups) {
            sum += static_cast<std::uint64_t>(value_of(group));
        }
        out.add(sum);
    };
    add(Kind::counter, "penstock_records_committed_total", "Records durable on two replicas.",
        [this](Samples& out) {
            for (const auto& [stream, sums] : gather()->by_stream) {
                out.add(sums.first, {{"stream", stream}});
            }
        });
    add(Kind::counter, "penstock_bytes_committed_total", "Their data and partition keys.",
        [this](Samples& out) {
            for (const auto& [stream, sums] : gather()->by_stream) {
                out.add(sums.second, {{"stream", stream}});
            }
        });
    add(Kind::gauge, "penstock_replica_state",
        "1 for the state the replica is in, 0 for the others.", [this](Samples& out) {
            const auto replicas = sources_.supervisor->replicas();
            for (unsigned r = 0; r < replica_count; ++r) {
                for (const char* state : {"voting", "lagging", "filling", "out"}) {
                    out.add(std::uint64_t{replicas[r].state == state ? 1U : 0U},
                            {{"replica", std::to_string(r)}, {"state", state}});
                }
            }
        });
    add(Kind::gauge, "penstock_replica_missing_chunks",
        "Chunks the replica lacks and is being refilled with.", [this](Samples& out) {
            const auto snapshot = gather();
            for (unsigned r = 0; r < replica_count; ++r) {
                std::uint64_t missing = 0;
                for (const Group& group : snapshot->groups) {
                    missing += group.gauges.missing_chunks[r];
                }
                out.add(missing, {{"replica", std::to_string(r)}});
            }
        });
    add(Kind::gauge, "penstock_journal_used_bytes",
        "Journal space that holds frames not yet in segments.", [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.gauges.journal_used_bytes; });
        });
    add(Kind::gauge, "penstock_journal_size_bytes", "The whole journal.",
        [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.gauges.journal_size_bytes; });
        });
    const auto memory = [this](Samples& out, auto&& value_of) {
        const auto snapshot = gather();
        for (unsigned lane = 0; lane < sources_.lanes->lane_count(); ++lane) {
            for (const Group& group : snapshot->groups) {
                // A lane's groups share one pool: any of them tells.
                if (group.answered && sources_.lanes->lane_of(GroupId{group.id}) == lane) {
                    out.add(static_cast<std::uint64_t>(value_of(group)),
                            {{"lane", std::to_string(lane)}});
                    break;
                }
            }
        }
    };
    add(Kind::gauge, "penstock_memory_used_bytes", "Frames held in the lane's memory.",
        [memory](Samples& out) {
            memory(out, [](const Group& g) { return g.gauges.memory_used_bytes; });
        });
    add(Kind::gauge, "penstock_memory_size_bytes", "The memory the lane may use for them.",
        [memory](Samples& out) {
            memory(out, [](const Group& g) { return g.gauges.memory_size_bytes; });
        });
    add(Kind::gauge, "penstock_segment_free_bytes",
        "Segment space that can be written without a new file.", [total](Samples& out) {
            total(out, [](const Group& g) { return g.gauges.segment_free_bytes; });
        });
    add(Kind::gauge, "penstock_segment_size_bytes", "Segment space in all, of one replica.",
        [total](Samples& out) {
            total(out, [](const Group& g) { return g.gauges.segment_size_bytes; });
        });
    add(Kind::gauge, "penstock_shards", "Shards this node serves.",
        [total](Samples& out) { total(out, [](const Group& g) { return g.gauges.shards; }); });
    add(Kind::gauge, "penstock_disk_full",
        "1 while writes are refused because no more room can be reserved, else 0.",
        [this](Samples& out) {
            bool full = false;
            for (const Group& group : gather()->groups) {
                full = full || group.gauges.disk_full;
            }
            out.add(std::uint64_t{full ? 1U : 0U});
        });
    add(Kind::gauge, "penstock_retention_held",
        "1 while nothing is trimmed because the clock leapt, else 0.", [this](Samples& out) {
            bool held = false;
            for (const Group& group : gather()->groups) {
                held = held || group.gauges.retention_held;
            }
            out.add(std::uint64_t{held ? 1U : 0U});
        });
    add(Kind::gauge, "penstock_lost_records", "Records of which no good copy is left.",
        [total](Samples& out) {
            total(out, [](const Group& g) { return g.gauges.lost_records; });
        });
    add(Kind::counter, "penstock_repeated_records_total",
        "Records put again by their producers and known, so that they were not stored again.",
        [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.counters.records_repeated; });
        });
    add(Kind::gauge, "penstock_producers",
        "Producers of idempotent puts that are remembered, once for each shard.",
        [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.gauges.producers; });
        });
    add(Kind::gauge, "penstock_producer_runs", "Their calls' parts that are remembered.",
        [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.gauges.producer_runs; });
        });
    add(Kind::counter, "penstock_journal_blocks_total", "Journal blocks written.",
        [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.counters.journal_blocks; });
        });
    add(Kind::counter, "penstock_journal_written_bytes_total",
        "Bytes of journal blocks, of one replica.", [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.counters.journal_bytes; });
        });
    const auto by_kind = [this](Samples& out, std::uint64_t GroupCounters::* all,
                                std::uint64_t GroupCounters::* direct) {
        const auto snapshot = gather();
        for (const Group& group : snapshot->groups) {
            if (group.answered) {
                const std::string id = std::to_string(group.id);
                const std::uint64_t committing = group.counters.*direct;
                out.add(committing, {{"group", id}, {"kind", "direct"}});
                out.add(group.counters.*all - committing, {{"group", id}, {"kind", "moved"}});
            }
        }
    };
    add(Kind::counter, "penstock_segment_writes_total",
        "Segment writes of one replica: direct ones commit, the others move what was journaled.",
        [by_kind](Samples& out) {
            by_kind(out, &GroupCounters::segment_writes, &GroupCounters::segment_direct_writes);
        });
    add(Kind::counter, "penstock_segment_written_bytes_total", "Their bytes.",
        [by_kind](Samples& out) {
            by_kind(out, &GroupCounters::segment_bytes, &GroupCounters::segment_direct_bytes);
        });
    add(Kind::counter, "penstock_segment_flushes_total",
        "Flushes of a segment file after moves, of one replica.", [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.counters.segment_flushes; });
        });
    add(Kind::counter, "penstock_chunks_freed_total", "Chunks freed by retention.",
        [per_group](Samples& out) {
            per_group(out, [](const Group& g) { return g.counters.chunks_freed; });
        });
}

void NodeMetrics::add_http_families() {
    const auto counter = [this](const char* name, const char* help,
                                std::uint64_t http::ServerCounters::* member) {
        add(Kind::counter, name, help,
            [this, member](Samples& out) { out.add(sources_.http().*member); });
    };
    add(Kind::gauge, "penstock_http_connections_open", "HTTP connections now.",
        [this](Samples& out) { out.add(sources_.http().connections_open); });
    counter("penstock_http_connections_accepted_total", "HTTP connections taken.",
            &http::ServerCounters::connections_accepted);
    add(Kind::counter, "penstock_http_connections_closed_total",
        "HTTP connections ended, by the reason.", [this](Samples& out) {
            const http::ServerCounters counters = sources_.http();
            for (std::size_t i = 0; i < http::ending_count; ++i) {
                out.add(counters.connections_closed[i],
                        {{"reason", http::name_of(static_cast<http::Ending>(i))}});
            }
        });
    counter("penstock_http_connections_refused_total",
            "Refused: all that there may be are busy, or no descriptors left.",
            &http::ServerCounters::connections_refused);
    counter("penstock_http_connections_timed_out_total",
            "Connections, or streams of one, ended because the peer was too slow or idle.",
            &http::ServerCounters::connections_timed_out);
    add(Kind::counter, "penstock_http_requests_received_total",
        "Complete requests received, by protocol.", [this](Samples& out) {
            const http::ServerCounters counters = sources_.http();
            out.add(counters.requests - counters.requests_http2, {{"protocol", "http/1"}});
            out.add(counters.requests_http2, {{"protocol", "h2"}});
        });
    add(Kind::gauge, "penstock_http_large_answer_bytes",
        "Answers of GetRecords that are being made or wait to be read.",
        [this](Samples& out) { out.add(sources_.http().large_answer_bytes); });
    counter("penstock_http_requests_held_total",
            "Requests that waited because their connection had enough large answers unread.",
            &http::ServerCounters::requests_held);
    counter("penstock_http2_connections_total", "Connections that spoke HTTP/2.",
            &http::ServerCounters::http2_connections);
    counter("penstock_http2_streams_reset_total",
            "HTTP/2 streams that ended before their answer was complete.",
            &http::ServerCounters::http2_streams_reset);
    counter(
        "penstock_http2_floods_total",
        "HTTP/2 connections ended because of resets, pings, settings or headers beyond measure.",
        &http::ServerCounters::http2_floods);
    counter("penstock_http_requests_refused_total",
            "Answered 403: not from this machine, or from a web page.",
            &http::ServerCounters::requests_refused);
    counter("penstock_http_requests_malformed_total",
            "Answered 4xx or 5xx before any operation saw them.",
            &http::ServerCounters::requests_malformed);
    add_request_families(registry_, sources_.requests);
    add(Kind::counter, "penstock_tls_handshakes_total",
        "TLS handshakes: full ones, those that resumed a session, those that failed.",
        [this](Samples& out) {
            const http::ServerCounters counters = sources_.http();
            out.add(counters.tls_handshakes - counters.tls_resumptions, {{"outcome", "full"}});
            out.add(counters.tls_resumptions, {{"outcome", "resumed"}});
            out.add(counters.tls_failures, {{"outcome", "failed"}});
        });
    add(Kind::gauge, "penstock_tls_certificate_expires_timestamp_seconds",
        "When the TLS certificate in use expires, in seconds since 1970.", [this](Samples& out) {
            if (sources_.tls != nullptr) {
                out.add(static_cast<double>(sources_.tls->certificate().expires_seconds));
            }
        });
    add_auth_families(registry_, sources_.gates);
    add(Kind::counter, "penstock_rate_limit_refused_total",
        "Requests refused since there were too many of their operation within a second.",
        [this](Samples& out) {
            for (const kinesis::RateLimit& limit : kinesis::rate_limits()) {
                if (sources_.rates != nullptr) {
                    const auto name = static_cast<std::size_t>(limit.operation);
                    out.add(sources_.rates->refused(limit.operation),
                            {{"operation", kinesis::operation_names[name]}});
                }
            }
        });
    add(Kind::counter, "penstock_shard_quota_refused_total",
        "Refused since a shard's quota was used up: records (write) and GetRecords calls (read).",
        [this](Samples& out) {
            if (sources_.quotas != nullptr) {
                out.add(sources_.quotas->refused_records(), {{"direction", "write"}});
                out.add(sources_.quotas->refused_reads(), {{"direction", "read"}});
            }
        });
    counter("penstock_http_received_bytes_total", "Bytes read from HTTP connections.",
            &http::ServerCounters::received_bytes);
    counter("penstock_http_sent_bytes_total", "Bytes written to HTTP connections.",
            &http::ServerCounters::sent_bytes);
}

std::string NodeMetrics::not_ready() {
    unsigned voting = 0;
    for (const ReplicaReport& replica : sources_.supervisor->replicas()) {
        voting += replica.state == "voting" || replica.state == "lagging" ? 1U : 0U;
    }
    if (voting < quorum_count) {
        return "writes are refused: " + std::to_string(voting) +
               " of 3 replicas can vote, 2 are needed; see /v1/replicas";
    }
    for (const Group& group : gather()->groups) {
        if (group.answered && group.gauges.disk_full) {
            return "writes are refused: the disks are full; delete streams, shorten retention or "
                   "add space";
        }
    }
    return "";
}

std::string NodeMetrics::replicas_json() {
    const auto snapshot = gather();
    const auto replicas = sources_.supervisor->replicas();
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> out(buffer);
    const auto text = [&out](const std::string& value) {
        out.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
    };
    out.StartObject();
    out.Key("replicas");
    out.StartArray();
    for (unsigned r = 0; r < replica_count; ++r) {
        std::uint64_t missing = 0;
        for (const Group& group : snapshot->groups) {
            missing += group.gauges.missing_chunks[r];
        }
        out.StartObject();
        out.Key("replica");
        out.Uint(r);
        out.Key("directory");
        text(replicas[r].directory);
        out.Key("state");
        text(replicas[r].state);
        out.Key("reason");
        text(replicas[r].reason);
        out.Key("missing_chunks");
        out.Uint64(missing);
        const RefillProgress& refill = replicas[r].refill;
        out.Key("missing_bytes");
        out.Uint64(refill.left_bytes);
        out.Key("refill_total_bytes");
        out.Uint64(refill.total_bytes);
        out.Key("refill_bytes_per_second");
        out.Uint64(static_cast<std::uint64_t>(refill.bytes_per_s));
        out.Key("refill_seconds_left");
        out.Uint64(static_cast<std::uint64_t>(std::ceil(refill.seconds_left)));
        out.EndObject();
    }
    out.EndArray();
    out.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

std::string NodeMetrics::node_json(const std::string& account, const std::string& region) {
    const std::string not_ready_why = not_ready();
    const auto table = sources_.streams->table();
    const http::ServerCounters http = sources_.http();
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> out(buffer);
    const auto text = [&out](const char* key, const std::string& value) {
        out.Key(key);
        out.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
    };
    const auto number = [&out](const char* key, std::uint64_t value) {
        out.Key(key);
        out.Uint64(value);
    };
    out.StartObject();
    text("version", sources_.version);
    text("account", account);
    text("region", region);
    out.Key("is_ready");
    out.Bool(not_ready_why.empty());
    if (!not_ready_why.empty()) {
        text("not_ready_why", not_ready_why);
    }
    number("lane_count", sources_.lanes->lane_count());
    number("stream_count", table->size());
    number("open_shard_count", sources_.streams->open_shard_count());
    number("shard_limit", sources_.streams->shards_max());
    number("connections_open", http.connections_open);
    out.Key("ports");
    out.StartArray();
    for (const Port* port : sources_.ports) {
        const std::string name(port->name());
        out.String(name.data(), static_cast<rapidjson::SizeType>(name.size()));
    }
    out.EndArray();
    out.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace penstock
