// Lanes in memory on one thread: the ShardService that tests of the control plane talk to, with
// every fault a lane can answer, and the RecordSource that reads what it keeps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "control/kinesis/records/record_source.h"
#include "dataplane/lane/request.h"
#include "storage/base/clock.h"
#include "storage/format/frame.h"
#include "storage/log/producers.h"

namespace penstock {

class MemoryLanes final : public ShardService {
public:
    struct Stored {
        Sequence sequence;
        std::int64_t arrival_ms;
        std::string key;
        std::string data;
        // Of a record that came with a sealer: its bytes as they stand in a frame; key and data
        // above are empty then.
        std::vector<std::byte> sealed = {};
    };
    struct ShardData {
        GroupId group{};
        std::int64_t retention_ms = 0;
        Sequence next = 1;
        Sequence trim = 1;
        std::vector<Stored> records;
        bool closed = false;
        bool producers_moved = false;
        std::int64_t last_arrival_ms = 0;
    };
    struct Faults {
        bool inbox_full = false;
        bool hold_appends = false;       // answered when it is false again
        Errc append_outcome = Errc::ok;  // of whole requests
        Errc commit_outcome = Errc::ok;
        Errc plan_outcome = Errc::ok;
        Errc lookup_outcome = Errc::ok;
        Errc control_outcome = Errc::ok;  // of add, drop, close and set_retention
        bool hold_closes = false;         // answered when it is false again
        bool hold_retention = false;      // answered when it is false again
        std::map<ShardUid, AppendVerdict> verdicts;
        std::uint32_t plan_records_max = 1000;  // records one plan covers
        int full_releases = 0;                  // releases that find the inbox full
    };

    MemoryLanes(Clock& clock, unsigned lanes, unsigned groups)
        : clock_(clock), lanes_(lanes), groups_(groups), thread_([this] { run(); }) {}
    ~MemoryLanes() override {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
            faults_.hold_appends = false;
            faults_.hold_closes = false;
            faults_.hold_retention = false;
        }
        ready_.notify_all();
        thread_.join();
    }

    bool post(unsigned lane, LaneRequest& request) noexcept override {
        const std::lock_guard lock(mutex_);
        if (request.kind == RequestKind::release_lease && faults_.full_releases > 0) {
            --faults_.full_releases;
            return false;
        }
        if (faults_.inbox_full) {
            return false;
        }
        queue_.push_back({lane, &request});
        ready_.notify_all();
        return true;
    }
    unsigned lane_of(GroupId group) const noexcept override { return value(group) % lanes_; }
    unsigned lane_count() const noexcept override { return lanes_; }
    unsigned group_count() const noexcept override { return groups_; }

    template <typename Edit>
    void set(const Edit& edit) {
        const std::lock_guard lock(mutex_);
        edit(faults_);
        ready_.notify_all();
    }
    // Requests that are not served yet, such as those held.
    [[nodiscard]] std::size_t queued() {
        const std::lock_guard lock(mutex_);
        return queue_.size();
    }
    [[nodiscard]] std::map<ShardUid, ShardData> shards() {
        const std::lock_guard lock(mutex_);
        return shards_;
    }
    void edit_shard(ShardUid uid, const std::function<void(ShardData&)>& edit) {
        const std::lock_guard lock(mutex_);
        edit(shards_.at(uid));
    }
    // Requests that wait for new records.
    [[nodiscard]] std::size_t tails() {
        const std::lock_guard lock(mutex_);
        return tails_.size();
    }
    [[nodiscard]] int leases() {
        const std::lock_guard lock(mutex_);
        return leases_;
    }
    [[nodiscard]] std::size_t append_requests() const { return append_requests_; }
    [[nodiscard]] std::size_t lookups() const { return lookups_; }  // of shards that are there
    std::atomic<int> bugs = 0;                                      // requests that broke the rules

private:
    struct Posted {
        unsigned lane;
        LaneRequest* request;
    };

    void run() {
        std::unique_lock lock(mutex_);
        while (true) {
            const auto runnable = [&] {
                for (std::size_t i = 0; i < queue_.size(); ++i) {
                    const RequestKind kind = queue_[i].request->kind;
                    if (!(faults_.hold_appends && kind == RequestKind::append) &&
                        !(faults_.hold_closes && kind == RequestKind::close_shard) &&
                        !(faults_.hold_retention && kind == RequestKind::set_retention)) {
                        return i;
                    }
                }
                return queue_.size();
            };
            ready_.wait(lock,
                        [&] { return runnable() < queue_.size() || (stop_ && queue_.empty()); });
            if (queue_.empty()) {
                return;
            }
            const std::size_t at = runnable();
            const Posted posted = queue_[at];
            queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(at));
            if (posted.request->kind == RequestKind::tail_read) {
                tails_.push_back(static_cast<TailReadRequest*>(posted.request));
            } else {
                serve(posted);
                reply(*posted.request);
            }
            answer_tails();
        }
    }

    static void reply(LaneRequest& request) {
        if (request.reply_to != nullptr) {
            request.reply_to->push(request);
        }
    }

    // Those whose record is there, or never will be.
    void answer_tails() {
        std::erase_if(tails_, [this](TailReadRequest* tail) {
            const auto it = shards_.find(tail->shard);
            if (it != shards_.end() && it->second.next <= tail->start.sequence) {
                return false;
            }
            plan(*tail);
            reply(*tail);
            return true;
        });
    }

    void cancel_tail(CancelTailRequest& request) {
        const bool waited = std::erase(tails_, request.tail) != 0;
        request.outcome = waited ? Errc::ok : Errc::not_found;
        if (waited) {
            request.tail->outcome = Errc::canceled;
            reply(*request.tail);
        }
    }

    void serve(const Posted& posted) {
        LaneRequest& request = *posted.request;
        switch (request.kind) {
            case RequestKind::append:
                append(static_cast<AppendRequest&>(request), posted.lane);
                break;
            case RequestKind::read_plan:
                plan(static_cast<ReadPlanRequest&>(request));
                break;
            case RequestKind::cancel_tail:
                cancel_tail(static_cast<CancelTailRequest&>(request));
                break;
            case RequestKind::release_lease:
                bugs += static_cast<ReleaseLeaseRequest&>(request).plan->frame_count == 1 ? 0 : 1;
                --leases_;
                break;
            case RequestKind::add_shard: {
                auto& add = static_cast<AddShardRequest&>(request);
                request.outcome = faults_.control_outcome;
                if (request.outcome == Errc::ok) {
                    ShardData& shard = shards_[add.shard];
                    turns_told_.clear();
                    shard.group = add.group;
                    shard.retention_ms = add.retention_ms;
                    shard.last_arrival_ms = std::max(shard.last_arrival_ms, add.first_arrival_ms);
                    bugs += lane_of(add.group) == posted.lane ? 0 : 1;
                }
                break;
            }
            case RequestKind::drop_shard:
                request.outcome = faults_.control_outcome;
                if (request.outcome == Errc::ok) {
                    shards_.erase(static_cast<DropShardRequest&>(request).shard);
                }
                break;
            case RequestKind::set_retention: {
                auto& set = static_cast<SetRetentionRequest&>(request);
                request.outcome = faults_.control_outcome;
                if (const auto it = shards_.find(set.shard); it != shards_.end()) {
                    it->second.retention_ms = set.retention_ms;
                }
                break;
            }
            case RequestKind::shard_status: {
                auto& status = static_cast<ShardStatusRequest&>(request);
                request.outcome = tell(status.shard, status.status);
                break;
            }
            case RequestKind::close_shard: {
                auto& close = static_cast<CloseShardRequest&>(request);
                request.outcome = faults_.control_outcome;
                if (request.outcome == Errc::ok) {
                    request.outcome = tell(close.shard, close.status);
                }
                if (request.outcome == Errc::ok) {
                    shards_[close.shard].closed = true;
                    // No lane may still use routes from before: each has told of a later turn.
                    for (unsigned lane = 0; lane < lanes_; ++lane) {
                        bugs += turns_told_[lane].size() > 1 ? 0 : 1;
                    }
                    bugs += lane_of(close.group) == posted.lane ? 0 : 1;
                }
                break;
            }
            case RequestKind::producer_lookup:
                look_up(static_cast<ProducerLookupRequest&>(request));
                break;
            case RequestKind::turn:
                static_cast<TurnRequest&>(request).turn = ++turns_ / 3;
                turns_told_[posted.lane].insert(turns_ / 3);
                break;
            default:
                ++bugs;
        }
    }

    Errc tell(ShardUid uid, ShardStatus& status) {
        const auto it = shards_.find(uid);
        if (it == shards_.end()) {
            return Errc::not_found;
        }
        status.trim_sequence = it->second.trim;
        status.end_sequence = it->second.next;
        status.last_arrival_ms = it->second.last_arrival_ms;
        return Errc::ok;
    }

    void append(AppendRequest& request, unsigned lane) {
        ++append_requests_;
        request.outcome = faults_.append_outcome;
        if (request.outcome != Errc::ok) {
            return;
        }
        std::uint32_t expected_item = 0;
        for (AppendRequest::Run& run : request.runs) {
            bugs += run.first_item == expected_item ? 0 : 1;
            expected_item += run.item_count;
            const auto it = shards_.find(run.shard);
            bugs += it == shards_.end() || lane_of(it->second.group) == lane ? 0 : 1;
            for (std::uint32_t i = run.first_item; i < run.first_item + run.item_count; ++i) {
                AppendRequest::Item& item = request.items[i];
                if (it == shards_.end()) {
                    item.verdict = AppendVerdict::unknown_shard;
                    continue;
                }
                const auto fault = faults_.verdicts.find(run.shard);
                ShardData& shard = it->second;
                item.verdict = fault != faults_.verdicts.end() ? fault->second
                               : shard.closed                  ? AppendVerdict::shard_closed
                                                               : AppendVerdict::accepted;
                const ProducerMark* mark = item.record.producer;
                if (mark != nullptr &&
                    producers_.look(run.shard, *mark, clock_.wall_ms(), item.appended) ==
                        ProducerVerdict::repeated) {
                    item.verdict = AppendVerdict::accepted;
                    continue;
                }
                if (mark != nullptr && shard.producers_moved) {
                    item.verdict = AppendVerdict::shard_closed;
                }
                if (item.verdict != AppendVerdict::accepted) {
                    continue;
                }
                shard.last_arrival_ms = std::max(clock_.wall_ms(), shard.last_arrival_ms);
                item.appended = {shard.next++, shard.last_arrival_ms};
                if (mark != nullptr) {
                    bugs += producers_.make_room(run.shard, *mark, clock_.wall_ms()) ? 0 : 1;
                    producers_.note(run.shard, *mark, item.appended.sequence,
                                    item.appended.arrival_ms, clock_.wall_ms());
                }
                if (faults_.commit_outcome == Errc::ok && item.record.sealer != nullptr) {
                    Stored& stored = shard.records.emplace_back();
                    stored.sequence = item.appended.sequence;
                    stored.arrival_ms = item.appended.arrival_ms;
                    stored.sealed.resize(record_bytes(item.record));
                    encode_record(item.record, 0, stored.sealed.data(),
                                  {value(run.shard), stored.sequence, stored.arrival_ms});
                } else if (faults_.commit_outcome == Errc::ok) {
                    shard.records.push_back({item.appended.sequence, item.appended.arrival_ms,
                                             std::string(as_text(item.record.partition_key)),
                                             std::string(as_text(item.record.data))});
                }
            }
            run.committed = faults_.commit_outcome;
        }
        bugs += expected_item == request.items.size() ? 0 : 1;
    }

    void look_up(ProducerLookupRequest& request) {
        const auto it = shards_.find(request.shard);
        request.outcome = it == shards_.end() ? Errc::not_found : faults_.lookup_outcome;
        if (request.outcome != Errc::ok) {
            return;
        }
        ++lookups_;
        it->second.producers_moved = true;
        for (ProducerLookupRequest::Item& item : request.items) {
            (void)producers_.look(request.shard, item.mark, clock_.wall_ms(), item.appended);
        }
    }

    void plan(ReadPlanRequest& request) {
        const auto it = shards_.find(request.shard);
        request.outcome = it == shards_.end() ? Errc::not_found : faults_.plan_outcome;
        if (request.outcome != Errc::ok) {
            return;
        }
        const ShardData& shard = it->second;
        ReadPlan& plan = request.plan;
        plan = {};
        plan.shard = value(request.shard);
        plan.trim_sequence = shard.trim;
        plan.end_sequence = shard.next;
        plan.newest_arrival_ms = shard.records.empty() ? 0 : shard.records.back().arrival_ms;
        switch (request.start.from) {
            case ReadFrom::sequence:
                plan.first_sequence = std::max(request.start.sequence, shard.trim);
                break;
            case ReadFrom::timestamp:
                plan.first_sequence = shard.trim;
                plan.timestamp_ms = request.start.timestamp_ms;
                break;
            case ReadFrom::trim_horizon:
                plan.first_sequence = shard.trim;
                break;
            case ReadFrom::latest:
                plan.first_sequence = shard.next;
                break;
        }
        if (plan.first_sequence < plan.end_sequence) {
            plan.frame_count = 1;
            plan.frames[0].length = faults_.plan_records_max;
            ++leases_;
        }
    }

    Clock& clock_;
    const unsigned lanes_;
    const unsigned groups_;
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Posted> queue_;
    std::map<ShardUid, ShardData> shards_;
    std::vector<TailReadRequest*> tails_;
    std::uint64_t turns_ = 0;
    std::map<unsigned, std::set<std::uint64_t>> turns_told_;  // by lane, since a shard was added
    Faults faults_;
    int leases_ = 0;
    std::atomic<std::size_t> append_requests_ = 0;
    std::atomic<std::size_t> lookups_ = 0;
    ProducerTable producers_;
    bool stop_ = false;
    std::thread thread_;
};

// Reads what MemoryLanes keeps, in pieces of plan_records_max.
class MemoryRecordSource final : public kinesis::RecordSource {
public:
    explicit MemoryRecordSource(MemoryLanes& lanes) : lanes_(lanes) {}
    Status read(const ReadPlan& plan, const std::function<bool(const RecordView&)>& take,
                ReadOutcome& out) override {
        out.next_sequence = plan.first_sequence;
        if (lost_at != 0 && plan.first_sequence >= lost_at) {
            return fail(Errc::lost);
        }
        if (stale_left > 0) {
            --stale_left;
            out.stale = true;
            return {};
        }
        const auto shards = lanes_.shards();
        const auto& shard = shards.at(static_cast<ShardUid>(plan.shard));
        std::uint32_t left = plan.frame_count == 0 ? 0 : plan.frames[0].length;
        for (const auto& stored : shard.records) {
            if (stored.sequence < plan.first_sequence || stored.sequence >= plan.end_sequence) {
                continue;
            }
            if (left-- == 0) {
                return {};
            }
            if (stored.arrival_ms >= plan.timestamp_ms) {
                RecordView view;
                if (stored.sealed.empty()) {
                    view.sequence = stored.sequence;
                    view.arrival_ms = stored.arrival_ms;
                    view.partition_key = as_bytes(stored.key);
                    view.data = as_bytes(stored.data);
                } else {
                    FrameHeader header;
                    header.record_count = 1;
                    header.first_sequence = stored.sequence;
                    header.first_arrival_ms = stored.arrival_ms;
                    RecordWalker walker(header, stored.sealed);
                    if (!walker.next(view)) {
                        return fail(Errc::corrupt);
                    }
                }
                if (!take(view)) {
                    return {};
                }
                ++out.records;
            }
            out.next_sequence = stored.sequence + 1;
        }
        out.next_sequence = plan.end_sequence;
        return {};
    }
    Sequence lost_at = 0;
    int stale_left = 0;

private:
    MemoryLanes& lanes_;
};

}  // namespace penstock
