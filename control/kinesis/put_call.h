// One PutRecord or PutRecords: parsed, routed, appended by the lanes, answered record by record.
//
// Runs on: one control thread. Reused for further requests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/kinesis/service.h"

namespace penstock::kinesis {

inline constexpr std::uint64_t put_records_bytes_max = 10U << 20;

// A validated request's records, laid out for the lanes.
struct PutPlan {
    std::shared_ptr<const StreamView> view;
    struct Place {
        std::uint32_t request = 0;
        std::uint32_t item = 0;
        std::uint32_t run = 0;
        std::uint32_t shard_index = 0;  // in the stream's shards
    };
    std::vector<Place> places;                             // by record
    std::vector<Hash128> hashes;                           // by record
    std::vector<unsigned> lanes;                           // by request
    std::vector<std::unique_ptr<AppendRequest>> requests;  // the first lanes.size() are used
    std::vector<std::uint64_t> order;
};

// Routes and groups the records: one request per lane, one run per shard, records of a shard in the
// order given. The entries' texts and bytes are viewed, not copied.
[[nodiscard]] ApiStatus plan_put(std::shared_ptr<const StreamView> view,
                                 std::span<const PutEntry> entries, bool many, AckLevel level,
                                 PutPlan& out);

class PutCall final : public LaneCall {
public:
    explicit PutCall(ServiceContext& context) : context_(context) {}

    // The owner hears when the call can be used again, perhaps before this returns.
    void start(std::unique_ptr<Reply> reply, bool many);
    void on_reply(LaneRequest& request) override;
    // Answers for what has come back if the call is older than the deadline.
    void check_deadline(std::uint64_t now_ms);

private:
    enum class Fate : std::uint8_t { committed, refused, unknown };
    [[nodiscard]] ApiStatus prepare();
    void post_all();
    void answer();
    void answer_one();
    [[nodiscard]] Fate fate_of(std::size_t record, AppendVerdict& verdict, Errc& why) const;
    [[nodiscard]] ApiError error_of(std::size_t record, AppendVerdict verdict, Fate fate,
                                    Errc why) const;
    void finish_if_done();

    ServiceContext& context_;
    std::unique_ptr<Reply> reply_;
    bool many_ = false;
    bool answered_ = false;
    Arena arena_;
    PutRecordsInput input_;
    PutPlan plan_;
    enum class Whereabouts : std::uint8_t { refused, with_lane, returned };
    std::vector<Whereabouts> whereabouts_;  // by request
    std::size_t pending_ = 0;
    std::uint64_t deadline_ms_ = 0;
};

}  // namespace penstock::kinesis
