// Captures of packets as the HTTP interface offers them, for `penstock capture`:
//
//   POST   /v1/capture  {"port":0,"udp_port":5514,"reasons":["no_door"],"sample":10,
//                        "snap_bytes":256,"seconds":30}     all optional; begins one
//   GET    /v1/capture  what was captured since the last GET, as a pcapng section or its next part
//   DELETE /v1/capture  ends it; answers the counts
//
// One capture at a time: a second POST is refused with 409 while somebody reads the first.
//
// Runs on: the HTTP threads, under a lock of its own. Waits for lanes between two of their turns.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control/http/server.h"
#include "control/node/lane_caller.h"
#include "dataplane/capture/tap.h"
#include "dataplane/port/port.h"

namespace penstock {

class CapturePage {
public:
    static constexpr unsigned seconds_max = 3600;
    // Ports in the order of LaneOptions::ports.
    CapturePage(LaneSet& lanes, std::vector<Port*> ports, std::string version);
    // After the lanes have stopped.
    ~CapturePage();
    CapturePage(const CapturePage&) = delete;
    CapturePage& operator=(const CapturePage&) = delete;

    // True when the path was ours; the exchange is then answered.
    [[nodiscard]] bool handle(http::HttpExchange& exchange);

private:
    using Clock = std::chrono::steady_clock;
    struct Running {
        std::vector<std::unique_ptr<CaptureTap>> taps;  // by lane
        Clock::time_point read_at;
        bool header_sent = false;
    };

    void widen_to_door(CaptureFilter& filter) const;
    http::HttpResponse begin(std::string_view body);
    http::HttpResponse next();
    http::HttpResponse end();
    // Takes the taps back from the lanes. False: a lane did not answer, and may still use them.
    bool stop();
    bool give(unsigned lane, CaptureTap* tap);

    LaneSet& lanes_;
    std::vector<Port*> ports_;
    std::string version_;
    std::mutex mutex_;
    LaneCaller caller_;
    std::unique_ptr<Running> running_;
};

}  // namespace penstock
