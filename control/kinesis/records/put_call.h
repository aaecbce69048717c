// One PutRecord or PutRecords: parsed, routed, appended by the lanes, answered record by record.
//
// Runs on: one control thread. Reused for further requests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/kinesis/input/producer_header.h"
#include "control/kinesis/service.h"

namespace penstock::kinesis {

inline constexpr std::uint64_t put_records_bytes_max = 10U << 20;

// A validated request's records, laid out for the lanes.
struct PutPlan {
    // Of the routing under way, and of those before: records that met a closed shard are routed
    // again when the stream has other shards (docs/resharding.md).
    std::vector<std::shared_ptr<const StreamView>> views;
    struct Place {
        std::uint32_t request = 0;
        std::uint32_t item = 0;
        std::uint32_t run = 0;
        const Shard* shard = nullptr;  // of one of the views
        bool over_quota = false;       // refused without asking the lane
        // Of a record that its producer may have put before: closed shards are asked first.
        enum class Stage : std::uint8_t {
            routed,   // the request has its fate
            looking,  // they are being asked
            found,    // one of them has it: `appended`
            refused,  // `verdict` says why
            unknown,  // `why` no answer came
        };
        Stage stage = Stage::routed;
        AppendVerdict verdict{};
        Errc why{};
        Appended appended;
    };
    [[nodiscard]] const Stream& stream() const { return views.back()->stream(); }
    // Whether its records are stored sealed.
    [[nodiscard]] bool seals() const { return views.back()->route()->sealers() != nullptr; }
    std::vector<Place> places;                             // by record
    std::vector<Hash128> hashes;                           // by record
    std::vector<unsigned> lanes;                           // by request
    std::vector<std::unique_ptr<AppendRequest>> requests;  // the first lanes.size() are used
    std::vector<std::uint64_t> order;
    std::vector<ShardUid> over_quota;  // shards whose quota was used up on the way
    std::vector<ProducerMark> marks;   // by record, of an idempotent put; otherwise none
    // Questions to closed shards, each with the records it is about.
    struct Lookup {
        ProducerLookupRequest request;
        std::vector<std::uint32_t> records;
        const Shard* shard = nullptr;
        unsigned lane = 0;
    };
    std::vector<std::unique_ptr<Lookup>> lookups;
    // Where the next record of a stream that spreads its records itself goes: steps of 2^128
    // divided by the golden ratio, so that any number of them in a row is spread evenly, over any
    // ranges.
    Hash128 spread{};
    [[nodiscard]] Hash128 next_spread() noexcept;
};
// Of the shards of PROVISIONED streams, for plan_put.
struct QuotaCheck {
    ShardQuotas* quotas = nullptr;
    std::uint64_t now_ns = 0;
};

// Routes and groups the records: one request per lane, one run per shard, records of a shard in the
// order given. The entries' texts and bytes are viewed, not copied. Where there are marks, no
// requests are made yet.
[[nodiscard]] ApiStatus plan_put(std::shared_ptr<const StreamView> view,
                                 std::span<const PutEntry> entries, bool many, AckLevel level,
                                 PutPlan& out, QuotaCheck quota = {});

// Routes some of the records again, by `view`; adds requests to the plan's.
void route_again(std::shared_ptr<const StreamView> view, std::span<const PutEntry> entries,
                 std::span<const std::uint32_t> records, AckLevel level, PutPlan& plan);

// The same for some of the records and the view there is, all in shards that have not been asked
// for yet.
void make_requests_for(std::span<const PutEntry> entries, std::span<const std::uint32_t> records,
                       AckLevel level, PutPlan& plan);
// Shards that were closed lately, or are being closed, whose records may have come again for
// `shard`: its parents, and theirs.
[[nodiscard]] std::vector<const Shard*> remembering_ancestors(const Stream& stream,
                                                              const Shard& shard,
                                                              std::int64_t now_ms);
// Routes some of the records by the newest view. Those whose shards have ancestors that were not
// asked yet are added to `lookups` from the first one that is new on, the others to `ready`.
void plan_lookups(std::span<const std::uint32_t> records, AckLevel level, std::int64_t now_ms,
                  PutPlan& plan, std::vector<std::uint32_t>& ready);
// An answer came: tells its records what they are.
void take_lookup(const PutPlan::Lookup& lookup, PutPlan& plan);

class PutCall final : public LaneCall {
public:
    explicit PutCall(ServiceContext& context);

    // The owner hears when the call can be used again, perhaps before this returns.
    void start(std::unique_ptr<Reply> reply, bool many);
    void on_reply(LaneRequest& request) override;
    // Answers for what has come back if the call is older than the deadline.
    void check_deadline(std::uint64_t now_ms);

private:
    enum class Fate : std::uint8_t { committed, refused, unknown };
    [[nodiscard]] ApiStatus prepare();
    // What a planned request would have been answered.
    [[nodiscard]] ApiError dry_run_answer() const;
    [[nodiscard]] std::string where_of(std::size_t record) const;
    void post_from(std::size_t first);
    // Sends what a shard refused because it was closed to those that took its place; false when
    // there is nothing of the kind.
    [[nodiscard]] bool follow_reshard();
    // Sends records with marks on: to closed shards first, where there are any to ask.
    void place_marked(std::span<const std::uint32_t> records);
    [[nodiscard]] bool follow_lookups();
    [[nodiscard]] ApiStatus read_producer();
    void answer();
    void answer_one();
    template <typename Writer>
    void write_answers(Writer& writer) const;
    [[nodiscard]] Fate fate_of(std::size_t record, AppendVerdict& verdict, Errc& why) const;
    [[nodiscard]] const Appended& appended_of(std::size_t record) const;
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
