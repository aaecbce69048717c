#include "tests/crash/real_node.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <thread>

namespace penstock::test {

namespace {

// More than any answer takes on a machine that is busy with other things.
constexpr std::uint64_t patience_ns = 60'000'000'000;

SetGeometry geometry_of_test() {
    SetGeometry geometry;
    geometry.data_groups = 1;
    geometry.journal_files = 3;
    geometry.journal_file_bytes = 1U << 20;
    geometry.container_bytes = 1U << 20;
    geometry.chunk_unit_bytes = 64U << 10;
    geometry.chunk_units_max = 4;
    geometry.manifest_bytes = 64U << 10;
    return geometry;
}

}  // namespace

// -- The engine -----------------------------------------------------------------------------------

bool CountingEngine::count(bool dies_behind) noexcept {
    // Of a change that dies behind it was counted before it was made.
    countdown_.seen += dies_behind ? 0 : 1;
    if (countdown_.seen != countdown_.at) {
        return false;
    }
    const bool dies = dies_behind ? countdown_.trouble == Trouble::kill_behind
                                  : countdown_.trouble == Trouble::kill_before;
    if (dies) {
        (void)::kill(::getpid(), SIGKILL);
        for (;;) {
            ::pause();
        }
    }
    return !dies_behind && countdown_.trouble == Trouble::error;
}

Result<FileHandle> CountingEngine::open(unsigned replica, std::string_view name, OpenMode mode) {
    if (mode != OpenMode::create_or_existing) {
        return engine_->open(replica, name, mode);
    }
    if (count(false)) {
        return fail(Errc::io_failed, EIO, replica);
    }
    auto opened = engine_->open(replica, name, mode);
    (void)count(true);
    return opened;
}

Status CountingEngine::remove(unsigned replica, std::string_view name) {
    if (count(false)) {
        return fail(Errc::io_failed, EIO, replica);
    }
    auto removed = engine_->remove(replica, name);
    (void)count(true);
    return removed;
}

bool CountingEngine::queue(const IoRequest& request) noexcept {
    if (request.kind == IoKind::read) {
        return engine_->queue(request);
    }
    if (count(false)) {
        failed_.push_back({request.cookie, -EIO});
        return true;
    }
    const bool queued = engine_->queue(request);
    if (queued && countdown_.seen == countdown_.at && countdown_.trouble == Trouble::kill_behind) {
        engine_->submit();
    }
    if (queued) {
        (void)count(true);
    } else {
        --countdown_.seen;  // it comes again
    }
    return queued;
}

std::size_t CountingEngine::reap(std::span<IoCompletion> out) noexcept {
    std::size_t count = 0;
    while (count < out.size() && !failed_.empty()) {
        out[count++] = failed_.back();
        failed_.pop_back();
    }
    return count + engine_->reap(out.subspan(count));
}

void CountingEngine::wait(std::uint64_t timeout_ns) noexcept {
    if (failed_.empty()) {
        engine_->wait(timeout_ns);
    } else {
        engine_->submit();
    }
}

// -- The ledger -----------------------------------------------------------------------------------

void Ledger::note(const Entry& entry) noexcept {
    const std::uint64_t number = count.load(std::memory_order_relaxed);
    if (number >= entries_max) {
        std::abort();
    }
    entries[number] = entry;
    entries[number].life = life;
    count.store(number + 1, std::memory_order_release);
}

std::vector<std::byte> data_of(std::uint64_t serial, std::uint32_t length) {
    std::vector<std::byte> data(length);
    std::uint64_t value = serial * 0x9e3779b97f4a7c15U + 1;
    for (std::byte& byte : data) {
        value = value * 6364136223846793005U + 1442695040888963407U;
        byte = static_cast<std::byte>(value >> 56);
    }
    return data;
}

// -- The node -------------------------------------------------------------------------------------

Result<std::unique_ptr<RealNode>> RealNode::start(const std::string& root, Ledger& ledger,
                                                  Countdown& countdown, std::string& message) {
    std::unique_ptr<RealNode> node(new RealNode(root, ledger));
    node->clock_.advance(ledger.clock_shift_ns);
    UringOptions options;
    std::array<std::string, replica_count> paths;
    for (unsigned r = 0; r < replica_count; ++r) {
        paths[r] = root + "/replica-" + std::to_string(r);
        // The lock of a process that was killed is held until its last write has ended.
        for (std::uint64_t waited = 0;; ++waited) {
            auto opened = ReplicaDirectory::open(paths[r], ReplicaDirectory::Create::yes);
            if (opened) {
                node->directories_[r] = std::move(*opened);
                break;
            }
            if (opened.error().code != Errc::locked || waited > patience_ns / 1'000'000) {
                return std::unexpected(opened.error());
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        options.directory_fds[r] = node->directories_[r]->fd();
        options.lock_fds[r] = node->directories_[r]->lock_fd();
        options.flush_modes[r] = r == 1 ? FlushMode::write_then_flush : FlushMode::dsync;
    }
    PENSTOCK_TRY(engine, UringEngine::open(options));
    node->engine_ = std::make_unique<CountingEngine>(std::move(engine), countdown);
    node->files_ = open_container_files(paths);

    OpenSetOptions set;
    set.for_new = geometry_of_test();
    set.now_ms = node->clock_.wall_ms();
    set.random = system_random();
    PENSTOCK_TRY(opened, open_set_on(*node->engine_, set, message));
    node->opened_ = std::move(opened);
    PENSTOCK_TRY(pool, FramePool::open(*node->engine_, 8U << 20));
    node->pool_ = std::move(pool);
    GroupOptions group;
    group.group = GroupId{1};
    group.epoch = node->opened_.epoch;
    group.geometry = node->opened_.geometry;
    group.voting = node->opened_.voting;
    group.filling = node->opened_.filling;
    PENSTOCK_TRY(recovered, ShardGroup::recover(group, *node->engine_, node->clock_, *node->pool_));
    node->group_ = std::move(recovered);
    node->group_->observe_replicas(&on_replica, node.get());
    ++ledger.life;
    return node;
}

RealNode::~RealNode() {
    group_.reset();
    pool_.reset();
    engine_.reset();
}

void RealNode::on_replica(void* context, unsigned replica, Error) noexcept {
    auto* node = static_cast<RealNode*>(context);
    node->failed_ = static_cast<ReplicaMask>(node->failed_ | (1U << replica));
}

void RealNode::step() {
    std::array<IoCompletion, 64> completions;
    const bool idle = group_->turn() == 0;
    engine_->submit();
    std::size_t count = engine_->reap(completions);
    if (idle && count == 0) {
        engine_->wait(engine_->in_flight() == 0 ? 200'000 : 2'000'000);
        count = engine_->reap(completions);
    }
    for (std::size_t i = 0; i < count; ++i) {
        group_->complete(completions[i]);
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((failed_ >> r & 1) != 0) {
            failed_ = static_cast<ReplicaMask>(failed_ & ~(1U << r));
            group_->replica_out(r);
        }
    }
}

bool RealNode::step_until(const std::function<bool()>& done) {
    SystemClock clock;
    const std::uint64_t until = clock.monotonic_ns() + patience_ns;
    while (!done()) {
        if (clock.monotonic_ns() > until) {
            return false;
        }
        step();
    }
    return true;
}

bool RealNode::settle() {
    return step_until([this] {
        std::erase_if(waiting_, [](const auto& waiter) { return waiter->done; });
        return waiting_.empty();
    });
}

void RealNode::advance(std::uint64_t by_ns) {
    clock_.advance(by_ns);
    ledger_.clock_shift_ns += by_ns;
    step();
}

bool RealNode::drain() {
    return step_until([this] { return group_->drain(); });
}

void RealNode::on_done(CommitWaiter& self, Errc outcome) noexcept {
    auto& waiter = static_cast<Waiter&>(self);
    waiter.done = true;
    if (outcome == Errc::ok) {
        waiter.node->ledger_.note(waiter.entry);
    }
}

RealNode::Waiter& RealNode::wait_for(Said asked, Said answered, std::uint64_t uid) {
    auto waiter = std::make_unique<Waiter>();
    waiter->node = this;
    waiter->on_done = &on_done;
    waiter->entry.said = answered;
    waiter->entry.uid = uid;
    waiting_.push_back(std::move(waiter));
    if (asked != Said::sent) {
        ledger_.note({.said = asked, .uid = uid});
    }
    return *waiting_.back();
}

bool RealNode::append(std::uint64_t uid, std::uint32_t length) {
    ShardLog* shard = group_->find(ShardUid{uid});
    if (shard == nullptr) {
        return false;
    }
    const std::uint64_t serial = ledger_.count.load() + 1;
    const auto data = data_of(serial, length);
    const std::string key = "key-" + std::to_string(serial % 7);
    RecordIn record;
    record.partition_key = as_bytes(key);
    record.data = data;
    Appended appended;
    if (!step_until([&] {
            return group_->append(*shard, record, AckLevel::quorum, appended) ==
                   AppendVerdict::accepted;
        })) {
        return false;
    }
    ledger_.note({.said = Said::sent,
                  .uid = uid,
                  .sequence = appended.sequence,
                  .serial = serial,
                  .length = length,
                  .arrival_ms = appended.arrival_ms});
    Waiter& waiter = wait_for(Said::sent, Said::acked, uid);
    waiter.entry.sequence = appended.sequence;
    waiter.sequence = appended.sequence;
    group_->wait_commit(*shard, waiter);
    return true;
}

void RealNode::add(std::uint64_t uid, std::int64_t retention_ms) {
    group_->add_shard(ShardUid{uid}, retention_ms, wait_for(Said::add_asked, Said::add_acked, uid));
}
void RealNode::drop(std::uint64_t uid) {
    group_->drop_shard(ShardUid{uid}, wait_for(Said::drop_asked, Said::drop_acked, uid));
}
void RealNode::close(std::uint64_t uid) {
    group_->close_shard(ShardUid{uid}, wait_for(Said::close_asked, Said::close_acked, uid));
}

// -- The check ------------------------------------------------------------------------------------

std::string RealNode::read_shard(std::uint64_t uid, std::vector<Sequence>& found, Sequence& trim) {
    SegmentReader reader(*files_, opened_.geometry.set_id);
    ReadStart start;
    start.from = ReadFrom::trim_horizon;
    for (unsigned turn = 0; turn < 1000; ++turn) {
        ReadPlan plan;
        if (const Status planned = group_->plan_read(ShardUid{uid}, start, 4U << 20, plan);
            !planned) {
            return "no plan: " + describe(planned.error());
        }
        trim = plan.trim_sequence;
        if (plan.lost_until != 0) {
            group_->release(plan);
            return "said to be lost from " + std::to_string(plan.first_sequence);
        }
        if (plan.first_sequence >= plan.end_sequence) {
            group_->release(plan);
            return {};
        }
        ReadOutcome outcome;
        std::string wrong;
        const Status got = reader.read(
            plan,
            [&](const RecordView& record) {
                const std::uint64_t count = ledger_.count.load(std::memory_order_acquire);
                const auto end = ledger_.entries.begin() + static_cast<std::ptrdiff_t>(count);
                const auto known = std::find_if(ledger_.entries.begin(), end, [&](const Entry& e) {
                    return e.said == Said::sent && e.uid == uid && e.sequence == record.sequence;
                });
                // The process may have died between the append and its note.
                const bool unknown = known == end;
                if (!found.empty() && record.sequence <= found.back()) {
                    wrong = "comes out of order or twice";
                } else if (unknown) {
                    wrong = "was never sent";
                } else if (!std::ranges::equal(record.data,
                                               data_of(known->serial, known->length)) ||
                           record.arrival_ms != known->arrival_ms) {
                    wrong = "is not what was sent";
                }
                found.push_back(record.sequence);
                return wrong.empty();
            },
            outcome);
        group_->release(plan);
        if (!wrong.empty()) {
            return "sequence " + std::to_string(found.back()) + " " + wrong;
        }
        if (!got) {
            return "cannot be read: " + describe(got.error());
        }
        start.from = ReadFrom::sequence;
        start.sequence = outcome.next_sequence;
    }
    return "reading it does not end";
}

std::string RealNode::check_shard(std::uint64_t uid) {
    const std::uint64_t count = ledger_.count.load(std::memory_order_acquire);
    std::map<Said, bool> said;
    std::map<Sequence, const Entry*> sent;
    std::map<Sequence, bool> acked;
    for (std::uint64_t i = 0; i < count; ++i) {
        const Entry& entry = ledger_.entries[i];
        if (entry.uid != uid) {
            continue;
        }
        said[entry.said] = true;
        if (entry.said == Said::sent) {
            if (!sent.emplace(entry.sequence, &entry).second) {
                return "sequence " + std::to_string(entry.sequence) + " was given out twice";
            }
        } else if (entry.said == Said::acked) {
            acked[entry.sequence] = true;
        }
    }
    if (group_->find(ShardUid{uid}) == nullptr) {
        return said[Said::add_acked] && !said[Said::drop_asked] ? "is gone" : "";
    }
    if (said[Said::drop_acked]) {
        return "was dropped and is back";
    }
    std::vector<Sequence> found;
    Sequence trim = 0;
    if (std::string wrong = read_shard(uid, found, trim); !wrong.empty()) {
        return wrong;
    }
    // Of each life a first part, and with it everything that was acknowledged.
    std::uint32_t ended_life = UINT32_MAX;
    for (const auto& [sequence, entry] : sent) {
        const bool there = std::ranges::binary_search(found, sequence);
        if (sequence < trim) {
            if (clock_.wall_ms() - entry->arrival_ms < 3'600'000) {
                return "sequence " + std::to_string(sequence) + " was trimmed before its time";
            }
        } else if (there && entry->life == ended_life) {
            return "sequence " + std::to_string(sequence) + " is there, one before it is not";
        } else if (!there && acked[sequence]) {
            return "sequence " + std::to_string(sequence) + " was acknowledged and is lost";
        } else if (!there) {
            ended_life = entry->life;
        }
    }
    ShardStatus status;
    if (said[Said::close_acked] && group_->shard_status(ShardUid{uid}, status)) {
        if (!found.empty() && status.end_sequence != found.back() + 1) {
            return "its end is not behind its last record";
        }
        if (found.size() < acked.size() && trim <= 1) {
            return "is closed and lacks records";
        }
    }
    return {};
}

std::string RealNode::check() {
    std::vector<std::uint64_t> uids;
    const std::uint64_t count = ledger_.count.load(std::memory_order_acquire);
    for (std::uint64_t i = 0; i < count; ++i) {
        if (ledger_.entries[i].said == Said::add_asked) {
            uids.push_back(ledger_.entries[i].uid);
        }
    }
    for (const std::uint64_t uid : uids) {
        if (std::string wrong = check_shard(uid); !wrong.empty()) {
            return "shard " + std::to_string(uid) + ": " + wrong;
        }
    }
    return {};
}

}  // namespace penstock::test
