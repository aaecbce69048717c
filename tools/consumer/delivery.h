// Where records of all shards go, whatever way they came: out, counted, and noted in the
// checkpoint.
//
// Runs on: any thread; one at a time is let in.
// Guarantees: the checkpoint never says more than what was written out whole.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "tools/consumer/checkpoint.h"
#include "tools/consumer/shard_reader.h"

namespace penstock::consumer {

// Writes records out.
class RecordSink {
public:
    virtual ~RecordSink() = default;
    // How many were written whole; fewer than there are when it cannot go on, or is stopped.
    [[nodiscard]] virtual std::size_t write(std::string_view shard,
                                            std::span<const Record> records) = 0;
    // Why it cannot go on; empty when it was stopped.
    [[nodiscard]] virtual std::string why() const = 0;
};

class Delivery {
public:
    struct Options {
        std::uint64_t limit = UINT64_MAX;  // records
        std::string checkpoint_path;       // empty: none is kept
        std::uint64_t checkpoint_every_ms = 1000;
    };
    enum class Taken : std::uint8_t { all, limit_reached, stopped, failed };

    Delivery(RecordSink& sink, Options options, Checkpoint checkpoint)
        : sink_(sink), options_(std::move(options)), checkpoint_(std::move(checkpoint)) {}
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;

    // `why` is set when it failed.
    [[nodiscard]] Taken take(const std::string& shard, std::span<const Record> records,
                             std::string& why);
    // Reading of it has begun, or is at its end.
    void begun(const std::string& shard);
    void ended(const std::string& shard);
    // Writes the checkpoint, if there is one and something is new. False: `why`.
    [[nodiscard]] bool save(std::string& why);

    [[nodiscard]] std::uint64_t records() const;
    [[nodiscard]] std::uint64_t bytes() const;

private:
    [[nodiscard]] bool save_locked(std::string& why);

    RecordSink& sink_;
    const Options options_;
    mutable std::mutex mutex_;
    Checkpoint checkpoint_;
    bool is_new_ = true;  // not in the file yet
    std::uint64_t records_ = 0;
    std::uint64_t bytes_ = 0;
    std::chrono::steady_clock::time_point saved_{};
};

}  // namespace penstock::consumer
