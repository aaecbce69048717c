// One SubscribeToShard: from the request to the end of its event stream.
//
// Runs on: one control thread.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "control/kinesis/fan_out/fan_out.h"

namespace penstock::kinesis {

class RecordsOfShard;

class Subscription final : public LaneCall {
public:
    static constexpr std::uint32_t event_records_max = 10'000;

    Subscription(FanOut& fan_out, std::uint64_t id)
        : fan_out_(fan_out), id_(id), lease_return_(fan_out.context().loop, fan_out.lanes()) {}
    ~Subscription() override;

    // Reads and judges the request. An error is its answer.
    [[nodiscard]] ApiStatus prepare(Reply& reply);
    // Of its consumer and shard; an error is the answer.
    [[nodiscard]] ApiStatus take_place();
    // Answers with the event stream.
    void start(std::unique_ptr<Reply> reply);

    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
    [[nodiscard]] const std::string& stream_name() const noexcept { return view_->stream().name; }
    // Nobody reads it any more, and no lane has anything of it.
    [[nodiscard]] bool is_done() const noexcept {
        return body_gone_ && !plan_is_out_ && !lease_return_.is_out();
    }

    // -- From the connection
    [[nodiscard]] http::BodyStream::Next next(http::BodyPiece& piece);
    // May destroy the subscription.
    void on_body_gone();

    // -- From the tail it has joined
    // True when it took the event. Otherwise it has left, or has the records already.
    bool push(const SharedEvent& event);
    // The tail cannot go on: it reads for itself.
    void sent_away();

    // -- From the fan-out
    void look(std::uint64_t now_ms);
    void on_stream_changed();
    void on_taken_over();
    // Without a word; what is queued still goes out.
    void end(SubscriptionEnd why);

    void on_reply(LaneRequest& request) override;

private:
    [[nodiscard]] ApiStatus place(const SubscribeInput& input);
    [[nodiscard]] std::string where() const;
    [[nodiscard]] Sequence closing_index() const noexcept;
    [[nodiscard]] bool is_at_shard_end() const noexcept { return next_ >= closing_index(); }

    // Does what is next: waits for its rate, joins the tail, or asks for a plan.
    void go_on();
    void ask_plan();
    void on_plan();
    void read_plan();
    [[nodiscard]] bool take(EventWriter& writer, RecordsOfShard& records, const RecordView& record);
    void retry_after(std::uint64_t delay_ms);
    void leave_tail();
    // Records were sent: when more may be.
    void charge(std::uint64_t bytes, std::uint32_t records);
    [[nodiscard]] std::uint64_t wait_ms() const noexcept;
    void count_event();
    void queue_event(std::string&& message);
    void queue(http::BodyPiece piece);
    void queue_empty_event();
    void finish_shard(EventWriter&& writer);
    void fail(const ApiError& error, SubscriptionEnd why);
    [[nodiscard]] std::int64_t behind_ms() const;
    void give_place_back();

    FanOut& fan_out_;
    const std::uint64_t id_;
    std::shared_ptr<const StreamView> view_;
    Shard shard_;
    std::uint32_t consumer_number_ = 0;
    std::string consumer_name_;
    SubscriptionTable::Place place_;
    std::optional<SubscriptionTable::Ticket> ticket_;
    std::optional<http::BodyWaker> waker_;

    // Where it stands.
    ReadStart start_;
    Sequence next_ = 0;  // first sequence that was not sent; known once `placed_`
    bool placed_ = false;
    bool caught_up_ = false;
    std::int64_t from_ms_ = 0;  // records that arrived before are passed over
    // AT_SEQUENCE_NUMBER of a continuation: the record of this index written before this second was
    // sent to whoever was given that number (EventWriter::finish). One written in it is the one the
    // number is of.
    Sequence passed_index_ = 0;
    std::int64_t passed_before_s_ = 0;
    std::int64_t last_arrival_ms_ = 0;  // of the last record sent
    ShardTail* tail_ = nullptr;

    std::deque<http::BodyPiece> queue_;
    std::size_t queued_bytes_ = 0;
    bool wants_ = false;  // the connection waits for a piece
    bool in_next_ = false;
    bool had_event_ = false;
    bool ended_ = false;
    bool body_gone_ = false;
    std::shared_ptr<Subscription*> link_ = std::make_shared<Subscription*>(this);

    std::uint64_t started_ms_ = 0;
    std::uint64_t event_ms_ = 0;       // the last event was queued
    std::uint64_t paid_until_us_ = 0;  // of the rate
    bool timer_runs_ = false;
    http::TimerId timer_{};

    ReadPlanRequest plan_request_;
    LeaseReturn lease_return_;
    bool plan_is_out_ = false;
    unsigned stale_rounds_ = 0;
    unsigned idle_rounds_ = 0;
};

}  // namespace penstock::kinesis
