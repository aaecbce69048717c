// One GetShardIterator or GetRecords.
//
// Runs on: one control thread.
#pragma once

#include <memory>
#include <string>

#include "control/kinesis/reply/record_reply.h"
#include "control/kinesis/service.h"

namespace penstock::kinesis {

inline constexpr std::int64_t get_records_count_max = 10'000;
inline constexpr std::uint64_t get_records_bytes_max = 10U << 20;
// What the largest answer takes, about: its data in base64, and what else each record has.
inline constexpr std::size_t get_records_answer_bytes = 16U << 20;

class RecordsOfShard;

class ReadCall final : public LaneCall {
public:
    explicit ReadCall(ServiceContext& context)
        : context_(context), lease_return_(context.loop, context.lanes) {}

    // The owner hears once, perhaps before these return, and may destroy the call then.
    void start_iterator(std::unique_ptr<Reply> reply);
    void start_records(std::unique_ptr<Reply> reply);
    void on_reply(LaneRequest& request) override;

private:
    enum class Next : std::uint8_t { answer, plan_again, failed };
    [[nodiscard]] OperationContext operation_context(Operation operation) const;
    [[nodiscard]] ApiStatus prepare_iterator();
    [[nodiscard]] ApiStatus prepare_records();
    [[nodiscard]] ApiResult<ReadStart> read_start(const GetShardIteratorInput& input) const;
    [[nodiscard]] ApiResult<const Shard*> find_shard(std::string_view id) const;
    void answer_iterator();
    [[nodiscard]] ReplyWriter& writer() noexcept {
        return dialect_ == Dialect::cbor ? static_cast<ReplyWriter&>(cbor_) : json_;
    }
    void ask_plan();
    void on_plan();
    [[nodiscard]] Next read_plan();
    [[nodiscard]] bool take(RecordsOfShard& records, const RecordView& record);
    [[nodiscard]] ApiError lane_failure(Errc why) const;
    [[nodiscard]] std::string where() const;
    [[nodiscard]] ApiError rate_exceeded() const;
    // The same of GetRecords, counted for the shard.
    [[nodiscard]] ApiError throttled_read() const;
    void answer_records();
    void fail(const ApiError& error);
    void release();
    void finish();

    ServiceContext& context_;
    std::unique_ptr<Reply> reply_;
    std::shared_ptr<const StreamView> view_;
    const Shard* shard_ = nullptr;
    ShardIterator iterator_;
    std::int64_t limit_ = get_records_count_max;

    ShardStatusRequest status_request_;
    ReadPlanRequest plan_request_;
    LeaseReturn lease_return_;
    bool holds_lease_ = false;
    bool plans_again_ = false;  // once the lease is back
    bool answered_ = false;
    unsigned rounds_ = 0;
    unsigned stale_rounds_ = 0;

    // Of the answer being made
    Dialect dialect_ = Dialect::json;
    std::string body_;
    JsonWriter json_{body_};
    CborWriter cbor_{body_};
    std::int64_t count_ = 0;
    std::uint64_t bytes_ = 0;
    std::int64_t last_arrival_ms_ = 0;
    Sequence next_ = 0;     // first sequence not looked at
    bool is_full_ = false;  // a limit ended the reading
    bool caught_up_ = false;
    NumberWriter numbers_;
    ApiError failure_;
};

}  // namespace penstock::kinesis
