#include "dataplane/lane/request.h"

#include "storage/base/check.h"

namespace penstock {

ReplyRing::ReplyRing(std::size_t capacity) : ring_(capacity), wake_(true) {}
ReplyRing::~ReplyRing() = default;

void ReplyRing::push(LaneRequest& request) noexcept {
    push_quietly(request);
    signal();
}

void ReplyRing::push_quietly(LaneRequest& request) noexcept {
    PENSTOCK_CHECK(ring_.push(&request));
}

void ReplyRing::signal() noexcept {
    wake_.notify();
}

LaneRequest* ReplyRing::pop() noexcept {
    if (LaneRequest* request = ring_.pop(); request != nullptr) {
        return request;
    }
    // Empty: the owner may sleep now, so ask for the next push to wake it, then look once more.
    wake_.arm();
    LaneRequest* request = ring_.pop();
    if (request != nullptr) {
        wake_.disarm();
    }
    return request;
}

}  // namespace penstock
