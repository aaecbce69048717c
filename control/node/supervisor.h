// Keeps the replica set whole: takes out what failed or was replaced, brings back what returned,
// and lets a filled replica vote. Tells how it goes, and how the drives fill up.
//
// Runs on: its own thread; report() from any.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "control/node/catalog_log.h"
#include "control/node/lane_caller.h"
#include "control/node/storage_watch.h"
#include "storage/io/uring_engine.h"
#include "storage/replica/set.h"

namespace penstock {

// What /v1/replicas, the metrics and log lines say of a replica.
struct ReplicaReport {
    std::string directory;
    std::string state;   // voting, filling, lagging, out
    std::string reason;  // why it is not voting, or what is being done
    RefillProgress refill;
};

class Supervisor {
public:
    struct Options {
        std::function<void(bool urgent, std::string_view line)> log;
        std::function<std::string(ShardUid)> name_of;  // stream and shard, for log lines
        unsigned group_count = 1;
        std::uint64_t interval_ms = 1'000;
    };
    Supervisor(ReplicaSet& set, LaneSet& lanes, CatalogLog& catalog, Options options);
    ~Supervisor();
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;

    void start();
    void stop();
    // A lane or the catalog found that a replica failed or is slow.
    void report(unsigned replica, Error why);
    // A lane found something while it read back what is stored.
    void report(const ScrubEvent& event);
    [[nodiscard]] std::array<ReplicaReport, replica_count> replicas() const;

private:
    struct Failure {
        unsigned replica = 0;
        Error why;
    };
    // What the lanes do to a replica; kept alive here since a lane may run it late.
    struct Change {
        unsigned replica = 0;
        int directory_fd = -1;
        int lock_fd = -1;
        FlushMode mode = FlushMode::dsync;
        bool counts = false;
    };
    void run();
    void look_once();
    void take_out(unsigned replica, const std::string& reason);
    void bring_in(unsigned replica, bool counts);
    void let_vote(unsigned replica);
    void each_lane(Errc (*function)(Lane&, void*), const Change& change);
    void refresh_reports();
    void watch_storage();
    void say(bool urgent, const std::string& line) { options_.log(urgent, line); }

    ReplicaSet& set_;
    LaneSet& lanes_;
    CatalogLog& catalog_;
    const Options options_;
    LaneCaller caller_;
    StorageWatch watch_;
    unsigned rounds_ = 0;
    std::vector<std::unique_ptr<Change>> changes_;
    std::array<bool, replica_count> in_{};       // used by lanes and catalog
    std::array<bool, replica_count> filling_{};  // in, but does not vote yet
    std::array<bool, replica_count> incomplete_{};
    std::array<std::string, replica_count> reason_{};
    std::array<unsigned, replica_count> wait_{};  // rounds until the next try to bring it back
    std::array<unsigned, replica_count> tries_{};

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<Failure> failures_;
    std::vector<ScrubEvent> scrubbed_;
    std::array<ReplicaReport, replica_count> reports_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace penstock
