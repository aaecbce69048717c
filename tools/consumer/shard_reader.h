// Reads one shard of a stream through the Kinesis API, one GetRecords at a time.
//
// Runs on: one thread at a time. Blocks in the API's calls.
// Guarantees: records come in the shard's order, each once per reader; nothing is passed over but
// what the endpoint itself has dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/consumer/kinesis_api.h"
#include "tools/consumer/lineage.h"
#include "tools/consumer/position.h"

namespace penstock::consumer {

struct Record {
    std::string sequence;  // in decimal, as users see it
    std::int64_t arrival_ms = 0;
    std::string key;
    std::string data;
};

// What became of one call.
enum class StepOutcome : std::uint8_t {
    records,  // perhaps none; `behind_ms` and `is_end` say more
    wait,     // the endpoint is in trouble or throttles; `why` says how. Again after a while
    failed,   // and would again: `why` says how
    canceled,
};

struct Step {
    StepOutcome outcome = StepOutcome::records;
    std::vector<Record> records;
    bool is_tip = false;               // there is nothing newer now
    bool is_end = false;               // of a closed shard
    std::vector<ShardEntry> children;  // told at its end; they may not know their closing yet
    std::string why;
};

// `stream` is a name or an ARN: the member that says so, for a request's JSON.
[[nodiscard]] std::string stream_member(std::string_view stream);

class ShardReader {
public:
    // `started_ms`: what `latest` becomes when it has to be said again, as the endpoint's clock
    // had it when reading began. `limit`: records of a call, 1 to 10,000.
    ShardReader(std::string stream, std::string shard, Position from, std::int64_t started_ms,
                unsigned limit = 10'000)
        : stream_(std::move(stream)),
          shard_(std::move(shard)),
          from_(std::move(from)),
          started_ms_(started_ms),
          limit_(limit) {}

    [[nodiscard]] Step step(KinesisApi& api);
    [[nodiscard]] const std::string& shard() const noexcept { return shard_; }
    // Where another reader would go on.
    [[nodiscard]] const std::string& last_sequence() const noexcept { return last_sequence_; }

private:
    [[nodiscard]] bool find_iterator(KinesisApi& api, Step& out);
    [[nodiscard]] bool take_reply(const std::string& body, Step& out);

    const std::string stream_;
    const std::string shard_;
    Position from_;
    const std::int64_t started_ms_;
    const unsigned limit_;
    std::string iterator_;
    std::string last_sequence_;
};

// All shards of a stream. False: `out.outcome` and `why` say what is the matter.
[[nodiscard]] bool list_shards(KinesisApi& api, std::string_view stream,
                               std::vector<ShardEntry>& shards, std::int64_t& server_ms, Step& out);

}  // namespace penstock::consumer
