#include "control/kinesis/lane_client.h"

#include <poll.h>
#include <unistd.h>

#include "storage/base/check.h"

namespace penstock::kinesis {

namespace {
constexpr std::uint64_t full_retry_ms = 1;
}

LaneClient::LaneClient(http::LoopThread& loop, ShardService& lanes, std::size_t requests_max)
    : loop_(loop), lanes_(lanes), requests_max_(requests_max), replies_(requests_max) {
    const Status watched = loop_.watch(replies_.event_fd(), [this](std::uint32_t) {
        std::uint64_t count = 0;
        [[maybe_unused]] const auto got = ::read(replies_.event_fd(), &count, sizeof(count));
        take_replies();
    });
    PENSTOCK_CHECK(watched.has_value());
}

LaneClient::~LaneClient() {
    loop_.unwatch(replies_.event_fd());
    wait_for_all();
}

bool LaneClient::post(unsigned lane, LaneRequest& request, LaneCall& call) {
    if (outstanding_ == requests_max_) {
        return false;
    }
    request.outcome = Errc::ok;
    request.reply_to = &replies_;
    request.context = &call;
    if (!lanes_.post(lane, request)) {
        return false;
    }
    ++outstanding_;
    return true;
}

void LaneClient::take_replies() {
    while (LaneRequest* request = replies_.pop()) {
        --outstanding_;
        static_cast<LaneCall*>(request->context)->on_reply(*request);
    }
}

void LaneClient::wait_for_all() {
    take_replies();
    while (outstanding_ != 0) {
        pollfd poll_fd{replies_.event_fd(), POLLIN, 0};
        if (::poll(&poll_fd, 1, 1000) == 1) {
            std::uint64_t count = 0;
            [[maybe_unused]] const auto got = ::read(replies_.event_fd(), &count, sizeof(count));
        }
        take_replies();
    }
}

void LeaseReturn::start(unsigned lane, ShardUid shard, ReadPlan& plan, LaneCall& call) {
    PENSTOCK_CHECK(!is_out());
    request_.shard = shard;
    request_.plan = &plan;
    lane_ = lane;
    call_ = &call;
    post();
}

bool LeaseReturn::take_reply(const LaneRequest& request) noexcept {
    if (&request != &request_) {
        return false;
    }
    call_ = nullptr;
    return true;
}

void LeaseReturn::post() {
    if (!lanes_.post(lane_, request_, *call_)) {
        timer_ = loop_.run_after(full_retry_ms, [this] { post(); });
    }
}

}  // namespace penstock::kinesis
