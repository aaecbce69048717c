// Where new records of a shard come in for all subscribers of one control thread who have read
// everything before: the lane is asked once, the event is made once.
//
// Runs on: one control thread.
#pragma once

#include <array>
#include <vector>

#include "control/kinesis/fan_out/fan_out.h"

namespace penstock::kinesis {

class ShardTail final : public LaneCall {
public:
    ShardTail(FanOut& fan_out, const Shard& shard, unsigned lane)
        : fan_out_(fan_out), shard_(shard), lane_(lane) {}
    ~ShardTail() override;

    // True: `subscription` gets, by its push(), the events from its position `next` on. False: the
    // tail is ahead of that.
    [[nodiscard]] bool join(Subscription& subscription, Sequence next);
    // May destroy the tail.
    void leave(Subscription& subscription);
    // Nobody is there any more, whoever was; what the lane has is taken back.
    void abandon();

    void on_reply(LaneRequest& request) override;
    [[nodiscard]] bool is_done() const noexcept {
        return live_.empty() && !is_reading() && !is_releasing() && !canceling_ && !delivering_;
    }
    [[nodiscard]] const Shard& shard() const noexcept { return shard_; }

private:
    // Two, so that the next wait does not wait until the lane has heard that a plan is released.
    struct Slot {
        explicit Slot(FanOut& fan_out) : lease_return(fan_out.context().loop, fan_out.lanes()) {}
        TailReadRequest read;
        LeaseReturn lease_return;
        bool reading = false;
    };
    [[nodiscard]] bool is_reading() const noexcept {
        return slots_[0].reading || slots_[1].reading;
    }
    [[nodiscard]] bool is_releasing() const noexcept {
        return slots_[0].lease_return.is_out() || slots_[1].lease_return.is_out();
    }
    // Asks for the next records if somebody wants them and nothing is in the way.
    void go_on();
    void cancel();
    void on_read(Slot& slot);
    [[nodiscard]] bool deliver(const ReadPlan& plan);
    // All of them read for themselves, and meet what happened there.
    void send_away();
    void try_later(std::uint64_t delay_ms);

    FanOut& fan_out_;
    const Shard shard_;
    const unsigned lane_;
    std::vector<Subscription*> live_;
    Sequence end_ = 0;  // first sequence that did not come yet
    std::array<Slot, 2> slots_{Slot(fan_out_), Slot(fan_out_)};
    CancelTailRequest cancel_;
    bool canceling_ = false;
    bool delivering_ = false;
    bool abandoned_ = false;
    bool timer_runs_ = false;
    http::TimerId timer_{};
};

}  // namespace penstock::kinesis
