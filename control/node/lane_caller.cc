#include "control/node/lane_caller.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

namespace penstock {

void LaneCaller::take(std::vector<Ask>& asks) {
    std::uint64_t ignored = 0;
    [[maybe_unused]] const ssize_t got = ::read(replies_.event_fd(), &ignored, sizeof ignored);
    while (LaneRequest* request = replies_.pop()) {
        const auto asked = std::find_if(
            asks.begin(), asks.end(), [&](const Ask& ask) { return ask.request.get() == request; });
        if (asked != asks.end()) {
            asked->answered = true;
        } else {
            std::erase_if(late_, [&](const auto& late) { return late.get() == request; });
        }
    }
}

void LaneCaller::run(std::vector<Ask>& asks, std::chrono::milliseconds timeout) {
    const auto until = std::chrono::steady_clock::now() + timeout;
    std::vector<bool> posted(asks.size(), false);
    for (std::size_t i = 0; i < asks.size(); ++i) {
        asks[i].request->reply_to = &replies_;
        posted[i] = late_.size() < 512 && lanes_.post(asks[i].lane, *asks[i].request);
    }
    const auto waiting = [&] {
        for (std::size_t i = 0; i < asks.size(); ++i) {
            if (posted[i] && !asks[i].answered) {
                return true;
            }
        }
        return false;
    };
    take(asks);
    while (waiting()) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            until - std::chrono::steady_clock::now());
        if (left.count() <= 0) {
            break;
        }
        pollfd wait{replies_.event_fd(), POLLIN, 0};
        ::poll(&wait, 1, static_cast<int>(left.count()));
        take(asks);
    }
    for (std::size_t i = 0; i < asks.size(); ++i) {
        if (posted[i] && !asks[i].answered) {
            late_.push_back(std::move(asks[i].request));
        }
    }
}

bool LaneCaller::call(unsigned lane, Errc (*function)(Lane&, void*), void* argument, Errc& outcome,
                      std::chrono::milliseconds timeout) {
    auto request = std::make_unique<CallRequest>();
    request->function = function;
    request->argument = argument;
    std::vector<Ask> asks;
    asks.push_back({lane, std::move(request), false});
    run(asks, timeout);
    if (!asks[0].answered) {
        return false;
    }
    outcome = asks[0].request->outcome;
    return true;
}

bool LaneCaller::is_out(const void* argument) {
    std::vector<Ask> none;
    take(none);
    return std::ranges::any_of(late_, [&](const auto& late) {
        return late->kind == RequestKind::call &&
               static_cast<const CallRequest&>(*late).argument == argument;
    });
}

void LaneCaller::wait_for_all() {
    std::vector<Ask> none;
    while (!late_.empty()) {
        pollfd wait{replies_.event_fd(), POLLIN, 0};
        ::poll(&wait, 1, 100);
        take(none);
    }
}

}  // namespace penstock
