// Asks lanes things from a thread that may wait: the supervisor, the metrics page and whoever
// splits hot shards.
//
// Runs on: one thread at a time.
// Guarantees: a request that did not come back in time is kept until it does.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/lane/lane_set.h"
#include "dataplane/lane/request.h"

namespace penstock {

class LaneCaller {
public:
    explicit LaneCaller(ShardService& lanes) : lanes_(lanes), replies_(1024) {}
    LaneCaller(const LaneCaller&) = delete;
    LaneCaller& operator=(const LaneCaller&) = delete;

    struct Ask {
        unsigned lane = 0;
        std::unique_ptr<LaneRequest> request;
        bool answered = false;
    };
    // Posts all and waits until all are answered or the time is over. Answered requests stay in
    // `asks`; the others are kept here.
    void run(std::vector<Ask>& asks, std::chrono::milliseconds timeout);
    // Runs `function` on a lane's thread. False: no answer in time, or the lane has stopped.
    // `argument` must stay alive as long as the caller: it may run late.
    bool call(unsigned lane, Errc (*function)(Lane&, void*), void* argument, Errc& outcome,
              std::chrono::milliseconds timeout = std::chrono::seconds(5));
    // Whether a call with this argument is still out, and a lane may yet write to it.
    [[nodiscard]] bool is_out(const void* argument);
    // Waits for everything that is still out. The lanes must answer, or have stopped.
    void wait_for_all();

private:
    void take(std::vector<Ask>& asks);

    ShardService& lanes_;
    ReplyRing replies_;
    std::vector<std::unique_ptr<LaneRequest>> late_;
};

}  // namespace penstock
