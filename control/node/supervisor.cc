#include "control/node/supervisor.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>

#include "storage/io/durability_probe.h"

namespace penstock {

namespace {

ReplicaMask bit_of(unsigned replica) noexcept {
    return static_cast<ReplicaMask>(1U << replica);
}

std::uint64_t monotonic_ms() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                          std::chrono::steady_clock::now().time_since_epoch())
                                          .count());
}

}  // namespace

Supervisor::Supervisor(ReplicaSet& set, LaneSet& lanes, CatalogLog& catalog, Options options)
    : set_(set),
      lanes_(lanes),
      catalog_(catalog),
      options_(std::move(options)),
      caller_(lanes),
      watch_({.say = [this](bool urgent, const std::string& line) { say(urgent, line); },
              .directories = set.paths(),
              .name_of = options_.name_of}) {
    for (unsigned r = 0; r < replica_count; ++r) {
        in_[r] = (set_.voting() & bit_of(r)) != 0;
        reason_[r] = in_[r] ? "" : set_.reason(r);
    }
    refresh_reports();
}

Supervisor::~Supervisor() {
    stop();
}

void Supervisor::start() {
    thread_ = std::thread([this] { run(); });
}

void Supervisor::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Supervisor::report(unsigned replica, Error why) {
    {
        const std::lock_guard lock(mutex_);
        failures_.push_back({replica, why});
    }
    wake_.notify_one();
}

std::array<ReplicaReport, replica_count> Supervisor::replicas() const {
    const std::lock_guard lock(mutex_);
    return reports_;
}

void Supervisor::report(const ScrubEvent& event) {
    // More than anybody reads; the next pass finds what is still bad.
    constexpr std::size_t events_max = 1000;
    const std::lock_guard lock(mutex_);
    if (scrubbed_.size() < events_max) {
        scrubbed_.push_back(event);
    }
}

void Supervisor::run() {
    for (;;) {
        std::vector<Failure> failures;
        std::vector<ScrubEvent> scrubbed;
        {
            std::unique_lock lock(mutex_);
            wake_.wait_for(lock, std::chrono::milliseconds(options_.interval_ms),
                           [this] { return stop_ || !failures_.empty(); });
            if (stop_) {
                return;
            }
            failures.swap(failures_);
            scrubbed.swap(scrubbed_);
        }
        watch_.tell(monotonic_ms(), scrubbed);
        for (const Failure& failure : failures) {
            if (failure.why.code == Errc::unavailable) {
                say(true, "replica " + std::to_string(failure.replica) + " (" +
                              set_.directory(failure.replica).path +
                              ") is slow: the others go on without it, and it is refilled when it "
                              "keeps up again");
                incomplete_[failure.replica] = true;
            } else if (in_[failure.replica]) {
                take_out(failure.replica, describe(failure.why));
            }
        }
        look_once();
        watch_storage();
        refresh_reports();
    }
}

// How full the drives are, and how far replicas are refilled. Lanes are asked each second only
// while that changes what is shown.
void Supervisor::watch_storage() {
    constexpr unsigned rounds_between = 5;
    const bool refills = std::ranges::any_of(incomplete_, [](bool one) { return one; });
    if (!refills && rounds_++ % rounds_between != 0) {
        return;
    }
    std::vector<LaneCaller::Ask> asks;
    for (unsigned id = 1; id <= options_.group_count; ++id) {
        auto request = std::make_unique<SnapshotRequest>();
        request->group = GroupId{id};
        asks.push_back({lanes_.lane_of(GroupId{id}), std::move(request), false});
    }
    caller_.run(asks, std::chrono::milliseconds(2000));
    std::uint64_t reusable = 0;
    bool is_full = false;
    std::array<std::uint64_t, replica_count> missing{};
    for (const LaneCaller::Ask& ask : asks) {
        if (!ask.answered || ask.request->outcome != Errc::ok) {
            return;  // a part would look like a drive that fills up
        }
        const GroupGauges& gauges = static_cast<const SnapshotRequest&>(*ask.request).gauges;
        reusable += gauges.segment_free_bytes;
        is_full = is_full || gauges.disk_full;
        for (unsigned r = 0; r < replica_count; ++r) {
            missing[r] += gauges.missing_bytes[r];
        }
    }
    std::array<DriveRoom, replica_count> rooms;
    const auto paths = set_.paths();
    for (unsigned r = 0; r < replica_count; ++r) {
        struct statvfs found{};
        if (in_[r] && ::statvfs(paths[r].c_str(), &found) == 0) {
            rooms[r] = {true, found.f_fsid, std::uint64_t{found.f_bavail} * found.f_frsize,
                        std::uint64_t{found.f_blocks} * found.f_frsize};
        }
        // After a restart a refill goes on by itself.
        const bool lacks = incomplete_[r] || missing[r] != 0;
        watch_.look_at_refill(monotonic_ms(), r, in_[r] && lacks, missing[r]);
    }
    watch_.look_at_room(monotonic_ms(), rooms, reusable, is_full);
}

void Supervisor::look_once() {
    const ReplicaMask gone = set_.check();
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((gone & bit_of(r)) != 0 && in_[r]) {
            take_out(r, set_.reason(r));
        }
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if (in_[r]) {
            if (filling_[r] || incomplete_[r]) {
                let_vote(r);
            }
            continue;
        }
        if (wait_[r] != 0) {
            --wait_[r];
            continue;
        }
        if ((set_.filling() & bit_of(r)) != 0) {
            bring_in(r, false);
            continue;
        }
        const ReturnOffer offer = set_.look_for_return(r);
        if (offer.kind == ReturnKind::none) {
            reason_[r] = offer.reason.empty() ? reason_[r] : offer.reason;
            continue;
        }
        bring_in(r, offer.kind == ReturnKind::returning);
    }
}

void Supervisor::each_lane(Errc (*function)(Lane&, void*), const Change& change) {
    changes_.push_back(std::make_unique<Change>(change));
    for (unsigned lane = 0; lane < lanes_.lane_count(); ++lane) {
        Errc outcome = Errc::ok;
        if (!caller_.call(lane, function, changes_.back().get(), outcome)) {
            say(true, "lane " + std::to_string(lane) + " did not answer about replica " +
                          std::to_string(change.replica));
        }
    }
}

void Supervisor::take_out(unsigned replica, const std::string& reason) {
    say(true,
        "replica " + std::to_string(replica) + " (" + set_.directory(replica).path +
            ") is out: " + reason +
            "; the node goes on with the others; mend the directory, or give it an empty one with "
            "`penstock replica replace`");
    each_lane(
        [](Lane& lane, void* argument) {
            const auto& change = *static_cast<const Change*>(argument);
            for (std::uint32_t group = 1; group <= lane.group_count(); ++group) {
                if (ShardGroup* own = lane.group(GroupId{group})) {
                    own->replica_out(change.replica);
                }
            }
            static_cast<UringEngine*>(lane.engine())
                ->set_directory(change.replica, -1, change.mode);
            return Errc::ok;
        },
        {.replica = replica});
    catalog_.replica_out(replica, [replica](IoEngine& engine) {
        static_cast<UringEngine&>(engine).set_directory(replica, -1, FlushMode::dsync);
    });
    set_.drop(replica);
    in_[replica] = false;
    filling_[replica] = false;
    incomplete_[replica] = false;
    reason_[replica] = reason;
    wait_[replica] = (1U << tries_[replica]) - 1;
}

void Supervisor::bring_in(unsigned replica, bool counts) {
    const ReplicaPlace place = set_.directory(replica);
    const FlushMode mode = set_.durability(replica).mode;
    say(false, "replica " + std::to_string(replica) + " (" + place.path + ") is " +
                   (counts ? "back: what it missed is copied to it" : "being filled"));
    each_lane(
        [](Lane& lane, void* argument) {
            const auto& change = *static_cast<const Change*>(argument);
            static_cast<UringEngine*>(lane.engine())
                ->set_directory(change.replica, change.directory_fd, change.mode, change.lock_fd);
            for (std::uint32_t group = 1; group <= lane.group_count(); ++group) {
                if (ShardGroup* own = lane.group(GroupId{group})) {
                    own->replica_in(change.replica, change.counts);
                }
            }
            return Errc::ok;
        },
        {replica, place.fd, place.lock_fd, mode, counts});
    catalog_.replica_in(replica, counts, [place, mode, replica](IoEngine& engine) {
        static_cast<UringEngine&>(engine).set_directory(replica, place.fd, mode, place.lock_fd);
    });
    // One that leaves again at once is tried ever more rarely, up to half a minute.
    tries_[replica] = std::min(tries_[replica] + 1, 5U);
    in_[replica] = true;
    filling_[replica] = !counts;
    incomplete_[replica] = true;
    reason_[replica] = counts ? "what it missed is being copied to it" : "it is being filled";
}

// A replica that has everything again may vote, or is simply whole.
void Supervisor::let_vote(unsigned replica) {
    auto change = std::make_unique<Change>(Change{.replica = replica});
    bool complete = catalog_.replica_complete(replica);
    for (unsigned lane = 0; lane < lanes_.lane_count() && complete; ++lane) {
        Errc outcome = Errc::unavailable;
        const bool answered = caller_.call(
            lane,
            [](Lane& own, void* argument) {
                const auto& asked = *static_cast<const Change*>(argument);
                for (std::uint32_t group = 1; group <= own.group_count(); ++group) {
                    const ShardGroup* g = own.group(GroupId{group});
                    if (g != nullptr && !g->replica_complete(asked.replica)) {
                        return Errc::unavailable;
                    }
                }
                return Errc::ok;
            },
            change.get(), outcome);
        complete = answered && outcome == Errc::ok;
        if (!answered) {
            changes_.push_back(std::move(change));  // the lane may still look at it
            return;
        }
    }
    if (!complete) {
        return;
    }
    if (filling_[replica]) {
        const Status marked = set_.mark_voting(replica);
        if (!marked) {
            reason_[replica] = describe(marked.error());
            return;
        }
        each_lane(
            [](Lane& lane, void* argument) {
                const auto& filled = *static_cast<const Change*>(argument);
                for (std::uint32_t group = 1; group <= lane.group_count(); ++group) {
                    if (ShardGroup* own = lane.group(GroupId{group})) {
                        own->replica_counts(filled.replica);
                    }
                }
                return Errc::ok;
            },
            {.replica = replica});
        catalog_.replica_counts(replica);
    }
    filling_[replica] = false;
    incomplete_[replica] = false;
    tries_[replica] = 0;
    reason_[replica].clear();
    const std::string copied = watch_.refilled(monotonic_ms(), replica);
    watch_.look_at_refill(monotonic_ms(), replica, false, 0);
    say(false, "replica " + std::to_string(replica) + " (" + set_.directory(replica).path +
                   ") is complete: three copies of everything again" +
                   (copied.empty() ? "" : "; copied " + copied));
}

void Supervisor::refresh_reports() {
    std::array<ReplicaReport, replica_count> reports;
    const auto paths = set_.paths();
    for (unsigned r = 0; r < replica_count; ++r) {
        reports[r].directory = paths[r];
        reports[r].state = !in_[r]          ? "out"
                           : filling_[r]    ? "filling"
                           : incomplete_[r] ? "lagging"
                                            : "voting";
        reports[r].reason = reason_[r];
        reports[r].refill = watch_.refill(r);
    }
    const std::lock_guard lock(mutex_);
    reports_ = std::move(reports);
}

}  // namespace penstock
