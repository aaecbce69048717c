#include "control/node/capture.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>

#include "control/node/pcapng.h"

namespace penstock {

namespace {

constexpr std::size_t ring_bytes = 4U << 20;  // per lane, while a capture runs
constexpr std::size_t answer_bytes_max = 8U << 20;
// A reader that has not asked for so long is gone.
constexpr std::chrono::seconds abandoned_after{10};

Errc set_tap(Lane& lane, void* tap) {
    lane.set_capture(static_cast<CaptureTap*>(tap));
    return Errc::ok;
}

std::optional<DropReason> reason_named(std::string_view name) {
    if (name == "taken") {
        return DropReason::none;
    }
    for (unsigned i = 0; i < static_cast<unsigned>(DropReason::count_); ++i) {
        if (name == label(static_cast<DropReason>(i))) {
            return static_cast<DropReason>(i);
        }
    }
    return std::nullopt;
}

struct Wish {
    CaptureFilter filter;
    unsigned seconds = 60;
};

// What is wrong with a field, or nothing.
std::string read_number(simdjson::dom::element value, std::string_view name, std::uint64_t least,
                        std::uint64_t most, std::uint64_t& out) {
    if (value.get(out) != simdjson::SUCCESS || out < least || out > most) {
        return std::string(name) + ": expected a number from " + std::to_string(least) + " to " +
               std::to_string(most);
    }
    return {};
}

std::string read_reasons(simdjson::dom::element value, std::uint64_t& fates) {
    simdjson::dom::array names;
    if (value.get(names) != simdjson::SUCCESS) {
        return "reasons: expected a list of drop reasons, or \"taken\"";
    }
    fates = 0;
    for (const simdjson::dom::element name : names) {
        std::string_view text;
        const auto reason = name.get(text) == simdjson::SUCCESS ? reason_named(text) : std::nullopt;
        if (!reason) {
            return "reasons: found '" + std::string(text) +
                   "'; expected labels of penstock_dropped_total, or \"taken\"";
        }
        fates |= 1ULL << static_cast<unsigned>(*reason);
    }
    return {};
}

std::string read_wish(std::string_view body, std::size_t ports, Wish& out) {
    simdjson::dom::parser parser;
    simdjson::dom::object fields;
    if (parser.parse(body.data(), body.size()).get(fields) != simdjson::SUCCESS) {
        return "the body: expected a JSON object";
    }
    for (const auto& [name, value] : fields) {
        std::uint64_t number = 0;
        std::string wrong;
        if (name == "port") {
            wrong = read_number(value, name, 0, ports == 0 ? 0 : ports - 1, number);
            out.filter.port = static_cast<std::uint32_t>(number);
        } else if (name == "udp_port") {
            wrong = read_number(value, name, 1, 65'535, number);
            out.filter.udp_port = static_cast<std::uint16_t>(number);
        } else if (name == "sample") {
            wrong = read_number(value, name, 1, 1'000'000'000, number);
            out.filter.sample = static_cast<std::uint32_t>(number);
        } else if (name == "snap_bytes") {
            wrong = read_number(value, name, 14, 65'535, number);
            out.filter.snap_bytes = static_cast<std::uint32_t>(number);
        } else if (name == "seconds") {
            wrong = read_number(value, name, 1, CapturePage::seconds_max, number);
            out.seconds = static_cast<unsigned>(number);
        } else if (name == "reasons") {
            wrong = read_reasons(value, out.filter.fates);
        } else {
            wrong = std::string(name) + ": no such field";
        }
        if (!wrong.empty()) {
            return wrong;
        }
    }
    return {};
}

http::HttpResponse json(std::string body) {
    http::HttpResponse response;
    response.content_type = "application/json";
    response.body = std::move(body);
    return response;
}

}  // namespace

CapturePage::CapturePage(LaneSet& lanes, std::vector<Port*> ports, std::string version)
    : lanes_(lanes), ports_(std::move(ports)), version_(std::move(version)), caller_(lanes) {}

CapturePage::~CapturePage() {
    caller_.wait_for_all();
}

bool CapturePage::handle(http::HttpExchange& exchange) {
    const http::HttpRequest& request = exchange.request();
    if (request.path != "/v1/capture") {
        return false;
    }
    const std::lock_guard lock(mutex_);
    if (request.method == "POST") {
        exchange.respond(begin(request.body()));
    } else if (request.method == "GET") {
        exchange.respond(next());
    } else if (request.method == "DELETE") {
        exchange.respond(end());
    } else {
        exchange.respond(http::HttpResponse::text(405, "expected POST, GET or DELETE"));
    }
    return true;
}

bool CapturePage::give(unsigned lane, CaptureTap* tap) {
    Errc outcome = Errc::ok;
    return caller_.call(lane, &set_tap, tap, outcome) && outcome == Errc::ok;
}

bool CapturePage::stop() {
    if (running_ == nullptr) {
        return true;
    }
    for (unsigned lane = 0; lane < running_->taps.size(); ++lane) {
        if (!give(lane, nullptr) && lanes_.lane(lane).running()) {
            return false;
        }
    }
    running_.reset();
    return true;
}

// Any of a door's ports stands for the door; a port without a door for itself.
void CapturePage::widen_to_door(CaptureFilter& filter) const {
    const DoorSet* doors = lanes_.lane(0).doors();
    const std::size_t door = doors == nullptr ? DoorSet::npos : doors->find(filter.udp_port);
    if (door != DoorSet::npos) {
        const DoorSpec& spec = (*doors)[door].spec();
        filter.udp_port = spec.port;
        filter.udp_port_count =
            static_cast<std::uint16_t>(spec.udp_port_count(lanes_.lane_count()));
    }
}

http::HttpResponse CapturePage::begin(std::string_view body) {
    Wish wish;
    if (const std::string wrong = read_wish(body, ports_.size(), wish); !wrong.empty()) {
        return http::HttpResponse::text(400, wrong);
    }
    if (running_ != nullptr && Clock::now() - running_->read_at < abandoned_after) {
        return http::HttpResponse::text(
            409, "another capture is running; end it, or wait until nobody has read it for 10 s");
    }
    if (!stop()) {
        return http::HttpResponse::text(503, "a lane does not answer; try again");
    }
    widen_to_door(wish.filter);
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    wish.filter.until_ns = (static_cast<std::uint64_t>(now.tv_sec) + wish.seconds) * 1'000'000'000 +
                           static_cast<std::uint64_t>(now.tv_nsec);
    running_ = std::make_unique<Running>();
    running_->read_at = Clock::now();
    for (unsigned lane = 0; lane < lanes_.lane_count(); ++lane) {
        running_->taps.push_back(std::make_unique<CaptureTap>(wish.filter, ring_bytes));
    }
    for (unsigned lane = 0; lane < lanes_.lane_count(); ++lane) {
        if (!give(lane, running_->taps[lane].get())) {
            stop();
            return http::HttpResponse::text(503, "a lane does not answer; try again");
        }
    }
    return json("{\"seconds\":" + std::to_string(wish.seconds) + "}\n");
}

http::HttpResponse CapturePage::next() {
    if (running_ == nullptr) {
        return http::HttpResponse::text(404, "no capture is running; POST begins one");
    }
    running_->read_at = Clock::now();
    http::HttpResponse response;
    response.content_type = "application/x-pcapng";
    if (!running_->header_sent) {
        running_->header_sent = true;
        append_pcapng_section(response.body, "penstock " + version_);
        for (const Port* port : ports_) {
            append_pcapng_interface(response.body, port->name(),
                                    port->name().starts_with("kernel:"));
        }
    }
    std::size_t packets = 0;
    std::uint64_t matched = 0;
    std::uint64_t no_room = 0;
    for (const auto& tap : running_->taps) {
        while (response.body.size() < answer_bytes_max) {
            const auto taken = tap->take();
            if (!taken) {
                break;
            }
            append_pcapng_packet(response.body, taken->packet, taken->bytes);
            ++packets;
        }
        tap->done();
        matched += tap->matched();
        no_room += tap->no_room();
    }
    response.headers.emplace_back("Penstock-Packets", std::to_string(packets));
    response.headers.emplace_back("Penstock-Matched", std::to_string(matched));
    response.headers.emplace_back("Penstock-No-Room", std::to_string(no_room));
    return response;
}

http::HttpResponse CapturePage::end() {
    if (running_ == nullptr) {
        return http::HttpResponse::text(404, "no capture is running");
    }
    std::uint64_t matched = 0;
    std::uint64_t no_room = 0;
    for (const auto& tap : running_->taps) {
        matched += tap->matched();
        no_room += tap->no_room();
    }
    if (!stop()) {
        return http::HttpResponse::text(503, "a lane does not answer; try again");
    }
    return json("{\"matched\":" + std::to_string(matched) +
                ",\"no_room\":" + std::to_string(no_room) + "}\n");
}

}  // namespace penstock
