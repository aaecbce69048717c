// The catalog's changes on the replica set itself: group 0's state log, on a thread of its own.
//
// Runs on: open(), append(), snapshot(), replay() on control threads, one at a time; the engine and
// the state log on the log's own thread. Guarantees: what append() or snapshot() accepted is
// durable on two voting replicas.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/catalog/change_log.h"
#include "storage/base/clock.h"
#include "storage/base/ids.h"
#include "storage/io/engine.h"
#include "storage/log/cookie.h"
#include "storage/log/state_log.h"
#include "storage/replica/geometry.h"

namespace penstock {

class CatalogLog final : public ChangeLog {
public:
    struct Options {
        SetGeometry geometry;
        Epoch epoch{};
        ReplicaMask voting = 0;
        ReplicaMask filling = 0;
        bool read_only = false;
        bool accept_loss = false;
        // Makes the thread's engine, on that thread.
        std::function<Result<std::unique_ptr<IoEngine>>()> make_engine;
        // A replica failed (Errc::unavailable: it is only slow). Called on the log's thread.
        std::function<void(unsigned replica, Error why)> on_replica_failed;
        std::uint64_t commit_timeout_ms = 5'000;
    };
    // Reads what is there; nothing is written before replay() was called.
    [[nodiscard]] static Result<std::unique_ptr<CatalogLog>> open(Options options);
    ~CatalogLog() override;
    CatalogLog(const CatalogLog&) = delete;
    CatalogLog& operator=(const CatalogLog&) = delete;

    [[nodiscard]] Status append(Bytes change) override;
    [[nodiscard]] Status snapshot(Bytes whole_state) override;
    [[nodiscard]] Status replay(const std::function<Status(Kind, Bytes)>& take) override;

    // -- Replicas, from the supervisor ------------------------------------------------------------
    // `after` lets the engine forget the directory, on the log's thread.
    void replica_out(unsigned replica, std::function<void(IoEngine&)> after);
    // `prepare` points the engine at the directory that is open again, on the log's thread.
    void replica_in(unsigned replica, bool counts, std::function<void(IoEngine&)> prepare);
    void replica_counts(unsigned replica);
    // Takes writes and holds the whole state.
    [[nodiscard]] bool replica_complete(unsigned replica) const noexcept {
        return (complete_.load() >> replica & 1) != 0;
    }
    [[nodiscard]] ReplicaMask taking() const noexcept { return taking_.load(); }

private:
    explicit CatalogLog(Options options) : options_(std::move(options)) {}
    void run(std::function<void(Status)> ready);
    [[nodiscard]] Status start();
    // Runs `work` on the thread and waits until `done` was called or the time is over.
    [[nodiscard]] Status ask(const std::function<void(std::function<void(Status)>)>& work);
    void post(std::function<void()> work);
    void pump();
    void fail_replica(unsigned replica, Error why);

    Options options_;
    std::unique_ptr<IoEngine> engine_;
    std::unique_ptr<StateLog> log_;
    SystemClock clock_;
    ReplicaView view_;
    StateRead read_;
    // The state as entries: the last snapshot, then the changes behind it.
    std::vector<std::vector<std::byte>> entries_;

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> work_;
    bool stop_ = false;
    std::atomic<ReplicaMask> complete_{0};
    std::atomic<ReplicaMask> taking_{0};
    std::thread thread_;
};

}  // namespace penstock
