#include "control/node/catalog_log.h"

#include <chrono>
#include <future>

#include "storage/base/check.h"

namespace penstock {

namespace {

std::vector<std::byte> with_kind(ChangeLog::Kind kind, Bytes bytes) {
    std::vector<std::byte> entry(1 + bytes.size());
    entry[0] = static_cast<std::byte>(kind);
    std::copy(bytes.begin(), bytes.end(), entry.begin() + 1);
    return entry;
}

}  // namespace

Result<std::unique_ptr<CatalogLog>> CatalogLog::open(Options options) {
    std::unique_ptr<CatalogLog> log(new CatalogLog(std::move(options)));
    std::promise<Status> ready;
    auto started = ready.get_future();
    log->thread_ = std::thread([raw = log.get(), &ready] {
        raw->run([&ready](Status status) { ready.set_value(status); });
    });
    const Status status = started.get();
    if (!status) {
        return std::unexpected(status.error());
    }
    return log;
}

CatalogLog::~CatalogLog() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void CatalogLog::run(std::function<void(Status)> ready) {
    const Status started = start();
    ready(started);
    while (started) {
        std::deque<std::function<void()>> work;
        {
            std::unique_lock lock(mutex_);
            // While nothing is on its way the thread sleeps; otherwise it waits on the ring.
            const bool quiet = log_ == nullptr || (log_->idle() && !log_->has_in_flight());
            if (quiet) {
                wake_.wait(lock, [this] { return stop_ || !work_.empty(); });
            }
            if (stop_ && work_.empty()) {
                break;
            }
            work.swap(work_);
        }
        for (auto& step : work) {
            step();
        }
        pump();
    }
    log_.reset();
    engine_.reset();
}

Status CatalogLog::start() {
    PENSTOCK_TRY(engine, options_.make_engine());
    engine_ = std::move(engine);
    const auto absent =
        static_cast<ReplicaMask>(all_replicas & ~(options_.voting | options_.filling));
    PENSTOCK_TRY(read,
                 read_state_log(*engine_, options_.geometry.set_id, GroupId{0}, options_.voting,
                                absent, options_.accept_loss || options_.read_only));
    read_ = std::move(read);
    const bool sound = replay_state(read_, [this](bool, Bytes entry) {
        if (entry.empty() || static_cast<std::uint8_t>(entry[0]) > 1) {
            return false;
        }
        if (static_cast<Kind>(entry[0]) == Kind::snapshot) {
            entries_.clear();
        }
        entries_.emplace_back(entry.begin(), entry.end());
        return true;
    });
    if (!sound) {
        return fail(Errc::corrupt);
    }
    view_.counting = options_.voting;
    view_.taking = options_.read_only ? ReplicaMask{0} : options_.voting;
    StateLog::Options log;
    log.set_id = options_.geometry.set_id;
    log.group = GroupId{0};
    log.epoch = options_.epoch;
    log.slot_bytes = options_.geometry.manifest_bytes;
    log.replicas = &view_;
    log.snapshot = [this](StateEntries& out) {
        for (const auto& entry : entries_) {
            out.add(entry);
        }
    };
    log.on_replica_failed = [this](unsigned replica, Error why) { fail_replica(replica, why); };
    PENSTOCK_TRY(opened, StateLog::open(*engine_, std::move(log), read_));
    log_ = std::move(opened);
    if (options_.read_only) {
        return {};
    }
    // The epoch begins with a whole copy of the state, durable before anybody is served (R6).
    log_->start_generation();
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(options_.commit_timeout_ms);
    while (!log_->idle()) {
        pump();
        if (!view_.has_quorum() || std::chrono::steady_clock::now() > until) {
            return fail(Errc::not_enough_replicas);
        }
    }
    taking_ = view_.taking;
    return {};
}

void CatalogLog::pump() {
    if (log_ == nullptr) {
        return;
    }
    log_->turn(clock_.monotonic_ns());
    engine_->submit();
    std::array<IoCompletion, 32> done;
    std::size_t count = engine_->reap(done);
    if (count == 0 && engine_->in_flight() != 0) {
        engine_->wait(1'000'000);
        count = engine_->reap(done);
    }
    for (std::size_t i = 0; i < count; ++i) {
        log_->complete(Cookie::unpack(done[i].cookie), done[i].result);
    }
    log_->turn(clock_.monotonic_ns());
    engine_->submit();
    ReplicaMask complete = 0;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((view_.taking >> r & 1) != 0 && log_->holds(r)) {
            complete = static_cast<ReplicaMask>(complete | (1U << r));
        }
    }
    complete_ = complete;
}

void CatalogLog::fail_replica(unsigned replica, Error why) {
    const auto bit = static_cast<ReplicaMask>(1U << replica);
    if ((view_.taking & bit) == 0) {
        return;
    }
    if (why.code == Errc::unavailable &&
        !view_.is_quorum(static_cast<ReplicaMask>(view_.taking & ~bit))) {
        return;  // the last two are waited for
    }
    view_.taking = static_cast<ReplicaMask>(view_.taking & ~bit);
    if (why.code != Errc::unavailable) {
        view_.counting = static_cast<ReplicaMask>(view_.counting & ~bit);
    }
    complete_ = static_cast<ReplicaMask>(complete_ & ~bit);
    taking_ = view_.taking;
    if (options_.on_replica_failed) {
        options_.on_replica_failed(replica, why);
    }
}

void CatalogLog::post(std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        work_.push_back(std::move(work));
    }
    wake_.notify_one();
}

Status CatalogLog::ask(const std::function<void(std::function<void(Status)>)>& work) {
    // Shared, since the log may answer after we have given up.
    const auto answer = std::make_shared<std::promise<Status>>();
    auto future = answer->get_future();
    post([work, answer] {
        const auto once = std::make_shared<bool>(false);
        work([answer, once](Status status) {
            if (!*once) {
                *once = true;
                answer->set_value(status);
            }
        });
    });
    if (future.wait_for(std::chrono::milliseconds(options_.commit_timeout_ms)) !=
        std::future_status::ready) {
        return fail(Errc::unavailable);
    }
    return future.get();
}

Status CatalogLog::append(Bytes change) {
    const auto entry = std::make_shared<std::vector<std::byte>>(with_kind(Kind::change, change));
    return ask([this, entry](std::function<void(Status)> done) {
        if (!view_.has_quorum()) {
            done(fail(Errc::not_enough_replicas));
            return;
        }
        entries_.push_back(*entry);
        log_->append(*entry, [done] { done({}); });
    });
}

Status CatalogLog::snapshot(Bytes whole_state) {
    const auto entry =
        std::make_shared<std::vector<std::byte>>(with_kind(Kind::snapshot, whole_state));
    return ask([this, entry](std::function<void(Status)> done) {
        if (!view_.has_quorum()) {
            done(fail(Errc::not_enough_replicas));
            return;
        }
        entries_.clear();
        entries_.push_back(*entry);
        log_->append(*entry, [done] { done({}); });
        log_->start_generation();
    });
}

Status CatalogLog::replay(const std::function<Status(Kind, Bytes)>& take) {
    const auto copy = std::make_shared<std::vector<std::vector<std::byte>>>();
    PENSTOCK_TRY_VOID(ask([this, copy](std::function<void(Status)> done) {
        *copy = entries_;
        done({});
    }));
    for (const auto& entry : *copy) {
        PENSTOCK_TRY_VOID(take(static_cast<Kind>(entry[0]), Bytes(entry).subspan(1)));
    }
    return {};
}

void CatalogLog::replica_out(unsigned replica, std::function<void(IoEngine&)> after) {
    post([this, replica, after = std::move(after)] {
        const auto bit = static_cast<ReplicaMask>(1U << replica);
        view_.taking = static_cast<ReplicaMask>(view_.taking & ~bit);
        view_.counting = static_cast<ReplicaMask>(view_.counting & ~bit);
        complete_ = static_cast<ReplicaMask>(complete_ & ~bit);
        taking_ = view_.taking;
        log_->replica_lost(replica);
        after(*engine_);
    });
}

void CatalogLog::replica_in(unsigned replica, bool counts, std::function<void(IoEngine&)> prepare) {
    post([this, replica, counts, prepare = std::move(prepare)] {
        const auto bit = static_cast<ReplicaMask>(1U << replica);
        if ((view_.taking & bit) != 0) {
            return;
        }
        prepare(*engine_);
        if (!log_->reopen(replica)) {
            if (options_.on_replica_failed) {
                options_.on_replica_failed(replica, Error{Errc::io_failed, 0, replica});
            }
            return;
        }
        view_.taking = static_cast<ReplicaMask>(view_.taking | bit);
        if (counts) {
            view_.counting = static_cast<ReplicaMask>(view_.counting | bit);
        }
        taking_ = view_.taking;
        log_->start_generation();
    });
}

void CatalogLog::replica_counts(unsigned replica) {
    post([this, replica] {
        view_.counting = static_cast<ReplicaMask>(view_.counting | (1U << replica));
    });
}

}  // namespace penstock
