// A replica set of three directories with one data group, opened and driven as a lane does it, for
// benchmarks of the storage layer.
//
// Runs on: one thread.
#pragma once

#include <sched.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/clock.h"
#include "storage/io/durability_probe.h"
#include "storage/io/uring_engine.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/replica/set.h"

namespace penstock::bench {

class OneGroup {
public:
    struct Options {
        std::string directory;  // holds replica-0 to replica-2
        std::uint64_t memory_mib = 128;
        std::uint64_t container_mib = 256;
        int cpu = -1;  // the opening thread is pinned there, and the engine's helpers run beside it
        std::optional<FlushMode> flush;  // none: what each drive was measured to need
        GroupOptions group;
    };

    bool open(const Options& options, std::string& why) {
        ReplicaSetOptions set;
        for (unsigned r = 0; r < replica_count; ++r) {
            const auto place =
                std::filesystem::path(options.directory) / ("replica-" + std::to_string(r));
            std::error_code error;
            std::filesystem::create_directories(place, error);
            set.directories[r] = place.string();
        }
        set.for_new.container_bytes = options.container_mib << 20;
        set.for_new.data_groups = 1;
        if (!open_set(set, why) || !pin(options.cpu, why) || !open_engine(options.flush, why)) {
            return false;
        }
        auto pool = FramePool::open(*engine_, options.memory_mib << 20);
        if (!pool) {
            why = "no memory for frames: " + describe(pool.error());
            return false;
        }
        pool_ = std::move(*pool);
        GroupOptions group = options.group;
        group.group = GroupId{1};
        group.epoch = set_->epoch();
        group.geometry = set_->geometry();
        group.voting = set_->voting();
        group.filling = set_->filling();
        auto recovered = ShardGroup::recover(group, *engine_, clock_, *pool_);
        if (!recovered) {
            why = "recovery: " + describe(recovered.error());
            return false;
        }
        group_ = std::move(*recovered);
        // Uids are never reused: each run has its own range.
        first_uid_ = value(set_->epoch()) << 20;
        return true;
    }

    // The part of a lane's turn that is about storage, in the lane's order.
    void turn() noexcept {
        ++turns_;
        (void)group_->turn();
        engine_->submit();
        std::array<IoCompletion, 256> done;
        const std::size_t count = engine_->reap(done);
        for (std::size_t i = 0; i < count; ++i) {
            group_->complete(done[i]);
        }
    }

    bool add_shard(ShardUid shard, std::int64_t retention_ms, std::string& why) {
        Waiter waiter;
        group_->add_shard(shard, retention_ms, waiter);
        return wait(waiter, "adding a shard", why);
    }

    bool drop_all(std::string& why) {
        for (const ShardUid shard : shards()) {
            Waiter waiter;
            group_->drop_shard(shard, waiter);
            if (!wait(waiter, "dropping a shard", why)) {
                return false;
            }
        }
        return true;
    }

    // Until everything stands in segments.
    bool drain(std::string& why) {
        const std::uint64_t deadline = clock_.monotonic_ns() + deadline_ns;
        while (!group_->drain()) {
            turn();
            if (clock_.monotonic_ns() > deadline) {
                why = "draining took more than 30 s";
                return false;
            }
        }
        return true;
    }

    void close() {
        while (engine_->in_flight() != 0) {
            turn();
        }
        group_.reset();
        pool_.reset();
        engine_.reset();
        set_.reset();
    }

    [[nodiscard]] std::vector<ShardUid> shards() const {
        std::vector<ShardUid> known(1U << 16);
        std::size_t count = 0;
        group_->list_shards(known, count);
        known.resize(count);
        return known;
    }
    [[nodiscard]] ShardGroup& group() noexcept { return *group_; }
    [[nodiscard]] const UringEngine& engine() const noexcept { return *engine_; }
    [[nodiscard]] const ReplicaSet& set() const noexcept { return *set_; }
    [[nodiscard]] Clock& clock() noexcept { return clock_; }
    [[nodiscard]] std::uint64_t turns() const noexcept { return turns_; }
    [[nodiscard]] std::uint64_t first_uid() const noexcept { return first_uid_; }

private:
    static constexpr std::uint64_t deadline_ns = 30'000'000'000;

    struct Waiter : CommitWaiter {
        Waiter() {
            on_done = [](CommitWaiter& self, Errc result) noexcept {
                static_cast<Waiter&>(self).outcome = result;
                static_cast<Waiter&>(self).done = true;
            };
        }
        bool done = false;
        Errc outcome = Errc::ok;
    };

    bool open_set(const ReplicaSetOptions& options, std::string& why) {
        auto opened = ReplicaSet::open(options, why);
        // The kernel takes a moment to end the ring of a run that has just exited, and the locks
        // with it.
        const std::uint64_t deadline = clock_.monotonic_ns() + 5'000'000'000;
        while (!opened && opened.error().code == Errc::locked && clock_.monotonic_ns() < deadline) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            why.clear();
            opened = ReplicaSet::open(options, why);
        }
        if (!opened) {
            why = why.empty() ? describe(opened.error()) : why;
            return false;
        }
        set_ = std::move(*opened);
        return true;
    }

    bool pin(int cpu, std::string& why) {
        cpu_set_t before;
        if (cpu < 0 || sched_getaffinity(0, sizeof before, &before) != 0) {
            return true;
        }
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET(cpu, &own);
        if (sched_setaffinity(0, sizeof own, &own) != 0) {
            why = "--cpu: CPU " + std::to_string(cpu) + " cannot be used by this process";
            return false;
        }
        CPU_CLR(cpu, &before);
        if (CPU_COUNT(&before) != 0) {
            beside_ = before;
        }
        return true;
    }

    bool open_engine(std::optional<FlushMode> flush, std::string& why) {
        UringOptions engine;
        for (unsigned r = 0; r < replica_count; ++r) {
            const ReplicaPlace place = set_->directory(r);
            engine.directory_fds[r] = place.fd;
            engine.flush_modes[r] = flush.value_or(set_->durability(r).mode);
            engine.lock_fds[r] = place.lock_fd;
        }
        engine.entries = 1024;
        engine.huge_pages = true;
        engine.helper_cpus = beside_;
        auto ring = UringEngine::open(engine);
        if (!ring) {
            why = UringEngine::explain_open_failure(ring.error());
            return false;
        }
        engine_ = std::move(*ring);
        return true;
    }

    bool wait(const Waiter& waiter, const char* what, std::string& why) {
        const std::uint64_t deadline = clock_.monotonic_ns() + deadline_ns;
        while (!waiter.done) {
            turn();
            if (clock_.monotonic_ns() > deadline) {
                std::fprintf(stderr, "%s took more than 30 s\n", what);
                std::_Exit(1);  // the group still knows the waiter
            }
        }
        if (waiter.outcome != Errc::ok) {
            why = std::string(what) + ": " + describe(waiter.outcome);
        }
        return waiter.outcome == Errc::ok;
    }

    SystemClock clock_;
    std::unique_ptr<ReplicaSet> set_;
    std::unique_ptr<UringEngine> engine_;
    std::unique_ptr<FramePool> pool_;
    std::unique_ptr<ShardGroup> group_;
    std::uint64_t first_uid_ = 0;
    std::uint64_t turns_ = 0;
    std::optional<cpu_set_t> beside_;
};

}  // namespace penstock::bench
