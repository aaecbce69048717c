#include "tools/consumer/stream_reader.h"

#include <algorithm>

namespace penstock::consumer {

using std::chrono::milliseconds;

StreamReader::StreamReader(StreamReaderOptions options, const MakeApi& make_api,
                           const Checkpoint* resume)
    : options_(std::move(options)), resume_(resume) {
    for (unsigned i = 0; i < std::max(options_.threads, 1U); ++i) {
        apis_.push_back(make_api());
    }
}

bool StreamReader::is_wanted(const std::string& shard) const {
    return options_.shards.empty() ||
           std::ranges::find(options_.shards, shard) != options_.shards.end();
}

bool StreamReader::prepare() {
    std::vector<ShardEntry> shards;
    const auto began = Clock::now();
    for (unsigned failures = 1;; ++failures) {
        Step step;
        if (list_shards(*apis_.front(), options_.stream, shards, started_ms_, step)) {
            break;
        }
        std::unique_lock lock(mutex_);
        if (step.outcome != StepOutcome::wait ||
            Clock::now() - began >= milliseconds(options_.give_up_ms)) {
            end(step.outcome == StepOutcome::canceled ? StreamOutcome::stopped
                                                      : StreamOutcome::failed,
                step.why);
            return false;
        }
        ++retries_;
        if (changed_.wait_for(lock, backoff(failures), [this] { return is_over_; })) {
            return false;
        }
    }
    if (started_ms_ == 0) {
        started_ms_ = std::chrono::duration_cast<milliseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
    }
    const std::lock_guard lock(mutex_);
    for (const std::string& wanted : options_.shards) {
        if (std::ranges::find(shards, wanted, &ShardEntry::id) == shards.end()) {
            end(StreamOutcome::failed,
                "--shard: found no '" + wanted + "' in the stream; expected one of its shards");
            return false;
        }
    }
    std::erase_if(shards, [this](const ShardEntry& shard) { return !is_wanted(shard.id); });
    if (resume_ != nullptr) {
        for (const auto& [id, shard] : resume_->shards) {
            if (shard.ended) {
                lineage_.note_ended(id);
            } else if (is_wanted(id) &&
                       std::ranges::find(shards, id, &ShardEntry::id) == shards.end()) {
                lineage_.note_ended(id);
                gone_.push_back(id);
            }
        }
    }
    // A shard that was chosen for itself is read whatever its place among the others.
    if (!options_.shards.empty()) {
        for (ShardEntry& shard : shards) {
            shard.parent.clear();
            shard.adjacent_parent.clear();
        }
    }
    // A closed one gets nothing new.
    const bool open_only = resume_ == nullptr && options_.from.kind == PositionKind::newest;
    lineage_.learn(shards, open_only);
    return true;
}

Position StreamReader::resumable_start() const {
    if (resume_ != nullptr) {
        return resume_->start;
    }
    return options_.from.kind == PositionKind::newest
               ? Position{PositionKind::at_time, started_ms_, {}}
               : options_.from;
}

Position StreamReader::start_of(const Lineage::Ready& ready) const {
    if (resume_ != nullptr) {
        const auto found = resume_->shards.find(ready.shard.id);
        if (found != resume_->shards.end() && !found->second.sequence.empty()) {
            return {PositionKind::after_sequence, 0, found->second.sequence};
        }
    }
    const Position& from = resume_ != nullptr ? resume_->start : options_.from;
    // A child may have been there before the time that was asked for.
    if (ready.is_child && from.kind != PositionKind::at_time) {
        return {};
    }
    return from;
}

void StreamReader::begin_ready(Delivery& delivery) {
    for (const Lineage::Ready& ready : lineage_.take_ready()) {
        delivery.begun(ready.shard.id);
        queue(std::make_unique<Job>(ShardReader(options_.stream, ready.shard.id, start_of(ready),
                                                started_ms_, options_.records_per_call)));
    }
}

StreamOutcome StreamReader::run(Delivery& delivery) {
    {
        const std::lock_guard lock(mutex_);
        if (!is_over_) {
            begin_ready(delivery);
        }
    }
    std::vector<std::thread> threads;
    for (const auto& api : apis_) {
        threads.emplace_back([this, &api, &delivery] { work(*api, delivery); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return outcome_;
}

void StreamReader::stop() noexcept {
    const std::lock_guard lock(mutex_);
    end(StreamOutcome::stopped, {});
}

// The first one tells what it was.
void StreamReader::end(StreamOutcome outcome, std::string why) {
    if (!is_over_) {
        is_over_ = true;
        outcome_ = outcome;
        why_ = std::move(why);
        for (const auto& api : apis_) {
            api->cancel();
        }
    }
    changed_.notify_all();
}

void StreamReader::queue(std::unique_ptr<Job> job) {
    due_.push_back(std::move(job));
    std::ranges::push_heap(due_, Later{});
    changed_.notify_one();
}

void StreamReader::work(KinesisApi& api, Delivery& delivery) {
    std::unique_lock lock(mutex_);
    while (!is_over_) {
        if (due_.empty()) {
            if (at_work_ == 0) {
                end(StreamOutcome::done, {});
                return;
            }
            changed_.wait(lock);
            continue;
        }
        if (const auto when = due_.front()->due; when > Clock::now()) {
            changed_.wait_until(lock, when);
            continue;
        }
        std::ranges::pop_heap(due_, Later{});
        std::unique_ptr<Job> job = std::move(due_.back());
        due_.pop_back();
        ++at_work_;
        lock.unlock();
        const bool goes_on = step(*job, api, delivery);
        lock.lock();
        --at_work_;
        if (goes_on) {
            queue(std::move(job));
        } else if (due_.empty()) {
            changed_.notify_all();
        }
    }
}

bool StreamReader::step(Job& job, KinesisApi& api, Delivery& delivery) {
    if (job.is_ended) {
        return learn_children(job, api, delivery);
    }
    Step step = job.reader.step(api);
    if (step.outcome != StepOutcome::records) {
        return try_later(job, step);
    }
    job.failures = 0;
    job.good = job.due = Clock::now();
    std::string why;
    switch (delivery.take(job.reader.shard(), step.records, why)) {
        case Delivery::Taken::all:
            break;
        case Delivery::Taken::limit_reached: {
            const std::lock_guard lock(mutex_);
            end(StreamOutcome::limit_reached, {});
            return false;
        }
        case Delivery::Taken::stopped:
        case Delivery::Taken::failed: {
            const std::lock_guard lock(mutex_);
            end(why.empty() ? StreamOutcome::stopped : StreamOutcome::failed, why);
            return false;
        }
    }
    if (step.is_end) {
        job.is_ended = true;
        job.children = std::move(step.children);
        return learn_children(job, api, delivery);
    }
    if (step.is_tip && !options_.follow) {
        return false;
    }
    if (step.is_tip || step.records.empty()) {
        job.due += milliseconds(options_.poll_ms);
    }
    return true;
}

// A shard is at its end: what it was split or merged into is read next. The list is asked for the
// children's other parents, and because not every endpoint tells the children.
bool StreamReader::learn_children(Job& job, KinesisApi& api, Delivery& delivery) {
    const std::string& id = job.reader.shard();
    std::vector<ShardEntry> shards;
    if (options_.shards.empty()) {
        Step step;
        std::int64_t server_ms = 0;
        if (!list_shards(api, options_.stream, shards, server_ms, step)) {
            return try_later(job, step);
        }
    }
    delivery.ended(id);
    const std::lock_guard lock(mutex_);
    lineage_.learn(shards, false);
    if (options_.shards.empty()) {
        lineage_.learn(job.children, false);
    }
    (void)lineage_.ended(id);
    begin_ready(delivery);
    return false;
}

bool StreamReader::try_later(Job& job, const Step& step) {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (step.outcome != StepOutcome::wait || now - job.good >= milliseconds(options_.give_up_ms)) {
        end(step.outcome == StepOutcome::canceled ? StreamOutcome::stopped : StreamOutcome::failed,
            step.why);
        return false;
    }
    ++retries_;
    job.due = now + backoff(++job.failures);
    return true;
}

// Doubled each time, and none at the same time as another one's.
milliseconds StreamReader::backoff(unsigned failures) {
    jitter_ ^= jitter_ << 13;
    jitter_ ^= jitter_ >> 7;
    jitter_ ^= jitter_ << 17;
    const std::uint64_t whole =
        std::min(options_.retry_most_ms, options_.retry_first_ms << std::min(failures - 1, 16U));
    return milliseconds(whole / 2 + jitter_ % (whole / 2 + 1));
}

}  // namespace penstock::consumer
