// Reads a stream through the Kinesis API: its shards beside each other, parents before children,
// until the newest record or for ever.
//
// A few threads take the shards in turn, whichever is due first. One that had nothing is asked
// again after a while, one that is throttled after a longer while.
//
// Runs on: run() blocks; its threads end before it returns. stop() from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "tools/consumer/delivery.h"
#include "tools/consumer/kinesis_api.h"
#include "tools/consumer/lineage.h"
#include "tools/consumer/shard_reader.h"

namespace penstock::consumer {

struct StreamReaderOptions {
    std::string stream;               // name or ARN
    std::vector<std::string> shards;  // none: all
    Position from;
    bool follow = false;  // goes on when everything there is was read
    unsigned records_per_call = 10'000;
    unsigned threads = 8;
    std::uint64_t poll_ms = 200;  // of a shard that had nothing new: AWS allows five a second
    std::uint64_t retry_first_ms = 100;
    std::uint64_t retry_most_ms = 5'000;
    std::uint64_t give_up_ms = 60'000;  // after so long without a good answer
};

enum class StreamOutcome : std::uint8_t {
    done,  // everything that was asked for was read
    limit_reached,
    stopped,  // by stop(), or the sink was
    failed,
};

class StreamReader {
public:
    using MakeApi = std::function<std::unique_ptr<KinesisApi>()>;

    // `resume`: what an earlier run had read; null at the first one.
    StreamReader(StreamReaderOptions options, const MakeApi& make_api, const Checkpoint* resume);
    StreamReader(const StreamReader&) = delete;
    StreamReader& operator=(const StreamReader&) = delete;
    ~StreamReader() = default;

    // Finds the shards. False: outcome() and why().
    [[nodiscard]] bool prepare();
    // Where shards that are not named in the checkpoint begin when reading goes on later.
    [[nodiscard]] Position resumable_start() const;
    [[nodiscard]] StreamOutcome run(Delivery& delivery);
    void stop() noexcept;

    [[nodiscard]] StreamOutcome outcome() const noexcept { return outcome_; }
    // One line on why it failed.
    [[nodiscard]] const std::string& why() const noexcept { return why_; }
    [[nodiscard]] std::uint64_t retries() const noexcept { return retries_; }
    // Shards that the checkpoint has and the stream has no more, not read to their end.
    [[nodiscard]] const std::vector<std::string>& gone() const noexcept { return gone_; }

private:
    using Clock = std::chrono::steady_clock;
    struct Job {
        explicit Job(ShardReader&& with) : reader(std::move(with)) {}
        ShardReader reader;
        bool is_ended = false;  // its records are read; what comes behind it is not known yet
        std::vector<ShardEntry> children;
        unsigned failures = 0;
        Clock::time_point good = Clock::now();  // the last good answer
        Clock::time_point due = Clock::now();
    };
    struct Later {
        bool operator()(const std::unique_ptr<Job>& a, const std::unique_ptr<Job>& b) const {
            return a->due > b->due;
        }
    };

    void work(KinesisApi& api, Delivery& delivery);
    // One step of a shard, without the lock. False: it is over.
    [[nodiscard]] bool step(Job& job, KinesisApi& api, Delivery& delivery);
    [[nodiscard]] bool learn_children(Job& job, KinesisApi& api, Delivery& delivery);
    [[nodiscard]] bool try_later(Job& job, const Step& step);
    void queue(std::unique_ptr<Job> job);
    void begin_ready(Delivery& delivery);
    void end(StreamOutcome outcome, std::string why);
    [[nodiscard]] Position start_of(const Lineage::Ready& ready) const;
    [[nodiscard]] bool is_wanted(const std::string& shard) const;
    [[nodiscard]] std::chrono::milliseconds backoff(unsigned failures);

    const StreamReaderOptions options_;
    const Checkpoint* const resume_;
    std::vector<std::unique_ptr<KinesisApi>> apis_;  // one per thread
    std::int64_t started_ms_ = 0;
    std::vector<std::string> gone_;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    Lineage lineage_;
    std::vector<std::unique_ptr<Job>> due_;  // heap, the next one first
    std::size_t at_work_ = 0;
    bool is_over_ = false;
    StreamOutcome outcome_ = StreamOutcome::done;
    std::string why_;
    std::uint64_t retries_ = 0;
    std::uint64_t jitter_ = 0x9E3779B97F4A7C15U;
};

}  // namespace penstock::consumer
