#include "dataplane/lane/lane_set.h"

#include <thread>
#include <utility>

#include "dataplane/lane/cpu_list.h"

namespace penstock {

Result<std::unique_ptr<LaneSet>> LaneSet::make(LaneSetOptions options, std::string& why) {
    if (!options.cpus.empty()) {
        options.lane_count = static_cast<unsigned>(options.cpus.size());
        PENSTOCK_TRY_VOID(check_cpus_usable(options.cpus, why));
    }
    if (options.lane_count == 0) {
        why = "lanes: 0 were asked for, at least 1 is needed";
        return fail(Errc::invalid_argument);
    }
    if (options.lane_count > options.group_count) {
        why = "lanes: " + std::to_string(options.lane_count) +
              " were asked for, but the replica set has " + std::to_string(options.group_count) +
              " data groups and a lane needs at least one; use fewer lanes";
        return fail(Errc::invalid_argument);
    }
    PENSTOCK_TRY_VOID(check_doors(options.doors, options.lane_count, why));
    return std::unique_ptr<LaneSet>(new LaneSet(std::move(options)));
}

LaneSet::LaneSet(LaneSetOptions options)
    : options_(std::move(options)),
      quotas_(make_quotas(options_.doors)),
      routes_(options_.lane_count) {
    const unsigned count = options_.lane_count;
    for (unsigned i = 0; i < count; ++i) {
        LaneOptions lane;
        lane.index = i;
        lane.cpu = options_.cpus.empty() ? -1 : static_cast<int>(options_.cpus[i]);
        lane.idle = options_.idle;
        lane.budgets = options_.budgets;
        lane.clock = options_.clock;
        lane.ports = options_.ports;
        lane.doors = std::make_unique<DoorSet>(options_.doors, quotas_, count);
        lane.routes = &routes_;
        lane.inbox_capacity = options_.inbox_capacity;
        lane.group_count = options_.group_count;
        lane.slow_turn_ns = options_.slow_turn_ns;
        lane.stop_deadline_ns = options_.stop_deadline_ns;
        lane.trap_allocations = options_.trap_allocations;
        lane.on_commit = options_.on_commit;
        lane.on_commit_context = options_.on_commit_context;
        lane.on_foreign_completion = options_.on_foreign_completion;
        lane.on_foreign_completion_context = options_.on_foreign_completion_context;
        lanes_.push_back(std::make_unique<Lane>(std::move(lane)));
    }
    rings_.resize(std::size_t{count} * count);
    for (unsigned from = 0; from < count; ++from) {
        for (unsigned to = 0; to < count; ++to) {
            if (from != to) {
                rings_[from * count + to] =
                    std::make_unique<SpscByteRing>(options_.handover_ring_bytes);
            }
        }
    }
    for (unsigned i = 0; i < count; ++i) {
        for (unsigned other = 0; other < count; ++other) {
            if (i != other) {
                lanes_[i]->connect(other, *rings_[i * count + other], *rings_[other * count + i],
                                   lanes_[other]->wake_flag());
            }
        }
    }
}

LaneSet::~LaneSet() {
    stop();
}

Status LaneSet::start(const std::function<Status(Lane&)>& prepare, std::string& why) {
    for (const auto& lane : lanes_) {
        if (const Status status = lane->start(prepare); !status) {
            why = "lane " + std::to_string(lane->index()) +
                  " did not start: " + describe(status.error());
            stop();
            return status;
        }
    }
    return {};
}

DrainOutcome LaneSet::stop() {
    if (std::exchange(stopped_, true)) {
        return drain_outcome_;
    }
    for (const auto& lane : lanes_) {
        lane->quiesce();
    }
    for (const auto& lane : lanes_) {
        while (lane->running() && !lane->quiesced()) {
            std::this_thread::yield();
        }
    }
    for (const auto& lane : lanes_) {
        lane->request_stop();
    }
    for (const auto& lane : lanes_) {
        lane->join();
        if (!lane->closed()) {
            lane->finish();  // never started, but its inbox may hold requests
        }
        const DrainOutcome& outcome = lane->drain_outcome();
        drain_outcome_.finished = drain_outcome_.finished && outcome.finished;
        drain_outcome_.left_bytes += outcome.left_bytes;
    }
    (void)reclaim_routes();
    return drain_outcome_;
}

bool LaneSet::post(unsigned lane, LaneRequest& request) noexcept {
    return lane < lanes_.size() && lanes_[lane]->post(request);
}

unsigned LaneSet::lane_of(GroupId group) const noexcept {
    // Group 0 is the catalog's and runs on no lane; asking for it is harmless.
    return value(group) == 0 ? 0 : (value(group) - 1) % lane_count();
}

void LaneSet::publish(std::unique_ptr<const RouteTable> table) {
    const std::lock_guard one_at_a_time(publishing_);
    routes_.publish(std::move(table));
}

std::size_t LaneSet::reclaim_routes() {
    const std::lock_guard one_at_a_time(publishing_);
    return routes_.reclaim();
}

std::array<std::uint64_t, drop_reason_count> drop_totals(const LaneSet& lanes,
                                                         std::span<Port* const> ports) {
    std::array<std::uint64_t, drop_reason_count> totals{};
    const auto add_all = [&totals](const DropCounters& drops) {
        for (std::size_t reason = 1; reason < drop_reason_count; ++reason) {
            totals[reason] += drops.by_reason[reason].get();
        }
    };
    const auto add = [&totals](DropReason reason, std::uint64_t count) {
        totals[static_cast<std::size_t>(reason)] += count;
    };
    for (unsigned i = 0; i < lanes.lane_count(); ++i) {
        add_all(lanes.lane(i).counters().drops);
    }
    for (Port* port : ports) {
        for (unsigned queue = 0; queue < port->queue_count(); ++queue) {
            add_all(port->queue(queue).drops());
        }
        const PortStats stats = port->stats();
        add(DropReason::nic_missed, stats.missed);
        add(DropReason::nic_error, stats.errors);
        add(DropReason::nic_no_buffer, stats.no_buffer);
    }
    return totals;
}

}  // namespace penstock
