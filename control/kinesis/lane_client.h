// One control thread's requests to the lanes: posted, counted, and handed back to the call that
// waits for them.
//
// Runs on: the control thread whose loop it was given.
// Guarantees: never more requests out than the reply ring holds; none is freed while a lane has it:
// the destructor waits until all are back, so the lanes must still answer then.
#pragma once

#include <cstdint>

#include "control/http/loop.h"
#include "dataplane/lane/request.h"

namespace penstock::kinesis {

// Something that waits for lanes.
class LaneCall {
public:
    virtual ~LaneCall() = default;
    virtual void on_reply(LaneRequest& request) = 0;
};

class LaneClient {
public:
    LaneClient(http::LoopThread& loop, ShardService& lanes, std::size_t requests_max);
    ~LaneClient();
    LaneClient(const LaneClient&) = delete;
    LaneClient& operator=(const LaneClient&) = delete;

    // False when the lane's inbox or our share is full: push back to the client. Otherwise
    // call.on_reply() comes, later.
    [[nodiscard]] bool post(unsigned lane, LaneRequest& request, LaneCall& call);
    [[nodiscard]] std::size_t outstanding() const noexcept { return outstanding_; }
    // Hands back what has come, without waiting.
    void take_replies();
    // Waits for what is out and hands it back.
    void wait_for_all();

private:
    http::LoopThread& loop_;
    ShardService& lanes_;
    const std::size_t requests_max_;
    ReplyRing replies_;
    std::size_t outstanding_ = 0;
};

// Gives back what a plan has lent of a lane's memory. The lane does not use that again until it
// hears of it, so a full inbox is tried until it takes it.
class LeaseReturn {
public:
    LeaseReturn(http::LoopThread& loop, LaneClient& lanes) : loop_(loop), lanes_(lanes) {}
    ~LeaseReturn() { loop_.cancel(timer_); }
    LeaseReturn(const LeaseReturn&) = delete;
    LeaseReturn& operator=(const LeaseReturn&) = delete;

    // The plan, of the lane's shard, and `call` must stay until the reply, and is_out() is true.
    void start(unsigned lane, ShardUid shard, ReadPlan& plan, LaneCall& call);
    [[nodiscard]] bool is_out() const noexcept { return call_ != nullptr; }
    // For call.on_reply(): whether the reply is this one's, which is over then.
    [[nodiscard]] bool take_reply(const LaneRequest& request) noexcept;

private:
    void post();
    http::LoopThread& loop_;
    LaneClient& lanes_;
    ReleaseLeaseRequest request_;
    unsigned lane_ = 0;
    LaneCall* call_ = nullptr;
    http::TimerId timer_{};
};

}  // namespace penstock::kinesis
