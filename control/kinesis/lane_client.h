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

}  // namespace penstock::kinesis
