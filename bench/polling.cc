// What adaptive polling costs and saves: CPU of a lane at shares of the load it can take, and how
// long a single datagram waits until the lane takes it after so long a silence.
//
// A lane of the product on drives that take no time takes datagrams of a port; a sender in this
// process sends them, from another CPU, on request from another network namespace.
//
// Runs on: one lane thread, pinned; one sender thread, pinned.
#include <CLI/CLI.hpp>
#include <arpa/inet.h>
#include <fcntl.h>
#include <immintrin.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/null_engine.h"
#include "bench/one_lane.h"
#include "storage/io/uring_engine.h"

namespace penstock::bench {
namespace {

struct Options {
    std::string device;
    std::string address;  // of the port, with its prefix length
    std::string target;   // where the sender sends
    std::string netns;
    std::uint16_t udp_port = 5514;
    unsigned cpu = 0;
    unsigned sender_cpu = 0;
    std::string poll = "adaptive";
    unsigned bytes = 100;
    double maximum = 0;  // datagrams a second; 0: found first
    std::vector<double> shares;
    std::vector<std::uint64_t> gaps_us;
    double gap_seconds = 2;  // for each gap
    double seconds = 3;      // for each share
};

void pin(unsigned cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    (void)sched_setaffinity(0, sizeof cpus, &cpus);
}

// Drives that take no time, beside a real ring that sockets receive through, as a node's do.
class RingEngine final : public IoEngine {
public:
    static Result<std::unique_ptr<RingEngine>> open(int wake_fd) {
        UringOptions options;
        options.entries = 64;
        options.wake_fd = wake_fd;
        auto engine = std::make_unique<RingEngine>();
        PENSTOCK_TRY(ring, UringEngine::open(options));
        engine->ring_ = std::move(ring);
        return engine;
    }
    [[nodiscard]] Result<FileHandle> open(unsigned replica, std::string_view name,
                                          OpenMode mode) override {
        return drives_.open(replica, name, mode);
    }
    void close(FileHandle file) override { drives_.close(file); }
    [[nodiscard]] Result<std::uint64_t> size_bytes(FileHandle file) override {
        return drives_.size_bytes(file);
    }
    [[nodiscard]] Status remove(unsigned replica, std::string_view name) override {
        return drives_.remove(replica, name);
    }
    [[nodiscard]] bool queue(const IoRequest& request) noexcept override {
        return drives_.queue(request);
    }
    void submit() noexcept override { ring_->submit(); }
    [[nodiscard]] std::size_t reap(std::span<IoCompletion> out) noexcept override {
        const std::size_t count = drives_.reap(out);
        return count + ring_->reap(out.subspan(count));
    }
    void wait(std::uint64_t timeout_ns) noexcept override {
        if (drives_.in_flight() == 0) {
            ring_->wait(timeout_ns);
        }
    }
    [[nodiscard]] std::size_t in_flight() const noexcept override { return drives_.in_flight(); }
    [[nodiscard]] std::byte* allocate_buffer(std::size_t bytes) override {
        return drives_.allocate_buffer(bytes);
    }
    [[nodiscard]] std::unique_ptr<DatagramReceiver> receive_datagrams(
        const DatagramOptions& options) override {
        return ring_->receive_datagrams(options);
    }

private:
    NullEngine drives_;
    std::unique_ptr<UringEngine> ring_;
};

// What the lane took from its door so far.
std::uint64_t taken(OneLane& lane) {
    return lane.counters().records_from_doors.get();
}

// CPU time of the lane's thread so far.
std::uint64_t lane_cpu_ns() {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::ifstream(task.path() / "comm") >> name;
        if (name == "lane-0") {
            std::uint64_t ns = 0;
            std::ifstream(task.path() / "schedstat") >> ns;
            return ns;
        }
    }
    return 0;
}

class Sender {
public:
    Sender(const Options& options, OneLane& lane)
        : options_(options), lane_(lane), payload_(options.bytes, 'x') {}
    ~Sender() {
        if (socket_ >= 0) {
            ::close(socket_);
        }
    }
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

    // The whole measurement, on the sender's thread.
    bool run(std::string& out, std::string& why) {
        pin(options_.sender_cpu);
        if (!open(why) || !first(why)) {
            return false;
        }
        const double maximum = options_.maximum > 0 ? options_.maximum : find_maximum();
        out = "{\"maximum_per_s\":" + number(maximum) + ",\"loads\":[";
        for (std::size_t i = 0; i < options_.shares.size(); ++i) {
            out += (i == 0 ? "" : ",") + load(options_.shares[i], maximum * options_.shares[i]);
        }
        out += "],\"waits\":[";
        for (std::size_t i = 0; i < options_.gaps_us.size(); ++i) {
            out += (i == 0 ? "" : ",") + wait(options_.gaps_us[i]);
        }
        out += "]}";
        return true;
    }

private:
    static constexpr unsigned batch = 32;

    static std::uint64_t now_ns() noexcept {
        return static_cast<std::uint64_t>(
            std::chrono::steady_clock::now().time_since_epoch().count());
    }
    static std::string number(double value) {
        std::array<char, 32> text{};
        (void)std::snprintf(text.data(), text.size(), "%.4g", value);
        return text.data();
    }

    bool open(std::string& why) {
        if (!options_.netns.empty()) {
            const int fd =
                ::open(("/var/run/netns/" + options_.netns).c_str(), O_RDONLY | O_CLOEXEC);
            if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) {
                why = "--netns " + options_.netns +
                      ": cannot be entered; it has to exist, and "
                      "entering it needs root";
                return false;
            }
            ::close(fd);
        }
        socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(options_.udp_port);
        if (socket_ < 0 || ::inet_pton(AF_INET, options_.target.c_str(), &to.sin_addr) != 1 ||
            ::connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
            why = "cannot send to " + options_.target;
            return false;
        }
        for (unsigned i = 0; i < batch; ++i) {
            pieces_[i] = {payload_.data(), payload_.size()};
            messages_[i].msg_hdr.msg_iov = &pieces_[i];
            messages_[i].msg_hdr.msg_iovlen = 1;
        }
        return true;
    }

    void send(unsigned count) noexcept {
        (void)::sendmmsg(socket_, messages_.data(), std::min(count, batch), 0);
    }

    bool first(std::string& why) {
        const std::uint64_t until = now_ns() + 10'000'000'000;
        while (taken(lane_) == 0) {
            send(1);
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            if (now_ns() > until) {
                why = "the lane took none of the datagrams sent to " + options_.target +
                      " within 10 s";
                return false;
            }
        }
        return true;
    }

    // What the lane takes of as much as this thread can send.
    double find_maximum() {
        const auto flood = [this](double seconds) {
            const std::uint64_t end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
            while (now_ns() < end) {
                send(batch);
            }
        };
        flood(0.5);
        const std::uint64_t before = taken(lane_);
        const std::uint64_t begin = now_ns();
        flood(std::min(options_.seconds, 3.0));
        return static_cast<double>(taken(lane_) - before) * 1e9 /
               static_cast<double>(now_ns() - begin);
    }

    void pace(double rate, std::uint64_t until) noexcept {
        const std::uint64_t begin = now_ns();
        std::uint64_t sent = 0;
        for (std::uint64_t now = begin; now < until; now = now_ns()) {
            const auto due =
                static_cast<std::uint64_t>(static_cast<double>(now - begin) * rate / 1e9);
            if (due > sent) {
                const auto count =
                    static_cast<unsigned>(std::min<std::uint64_t>(due - sent, batch));
                send(count);
                sent += count;
            } else {
                _mm_pause();
            }
        }
    }

    std::string load(double share, double rate) {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        const LaneCounters& counters = lane_.counters();
        const std::uint64_t length = static_cast<std::uint64_t>(options_.seconds * 1e9);
        const std::uint64_t cpu = lane_cpu_ns();
        const std::uint64_t first = taken(lane_);
        const std::uint64_t sleeps = counters.sleeps.get();
        const std::uint64_t begin = now_ns();
        if (rate > 0) {
            pace(rate, begin + length);
        } else {
            std::this_thread::sleep_for(std::chrono::nanoseconds(length));
        }
        const double took = static_cast<double>(now_ns() - begin);
        const auto per_s = [took](std::uint64_t count) {
            return number(static_cast<double>(count) * 1e9 / took);
        };
        return "{\"share\":" + number(share) + ",\"sent_per_s\":" + number(rate) +
               ",\"taken_per_s\":" + per_s(taken(lane_) - first) +
               ",\"cpu\":" + number(static_cast<double>(lane_cpu_ns() - cpu) / took) +
               ",\"sleeps_per_s\":" + per_s(counters.sleeps.get() - sleeps) + "}";
    }

    // Single datagrams after a silence, and the time until the lane has taken each.
    std::string wait(std::uint64_t gap_us) {
        constexpr std::uint64_t patience_ns = 2'000'000'000;
        const std::uint64_t gap_ns = gap_us * 1000;
        const auto count = static_cast<std::size_t>(
            std::clamp(options_.gap_seconds * 1e6 / static_cast<double>(gap_us), 3.0, 5000.0));
        std::vector<std::uint64_t> waits;
        std::uint64_t lost = 0;
        std::uint64_t quiet_since = now_ns();
        for (std::size_t i = 0; i < count; ++i) {
            // The last part is spun, so that this thread's own waking up is no part of it.
            constexpr std::uint64_t spun_ns = 200'000;
            if (gap_ns > spun_ns) {
                const std::uint64_t now = now_ns();
                const std::uint64_t end = quiet_since + gap_ns - spun_ns;
                if (end > now) {
                    std::this_thread::sleep_for(std::chrono::nanoseconds(end - now));
                }
            }
            while (now_ns() < quiet_since + gap_ns) {
                _mm_pause();
            }
            const std::uint64_t before = taken(lane_);
            const std::uint64_t sent = now_ns();
            send(1);
            std::uint64_t now = now_ns();
            while (taken(lane_) == before && now < sent + patience_ns) {
                now = now_ns();
            }
            if (taken(lane_) == before) {
                ++lost;
            } else {
                waits.push_back(now - sent);
            }
            quiet_since = now;
        }
        std::ranges::sort(waits);
        const auto at = [&waits](double p) {
            return waits.empty() ? std::string("null")
                                 : number(static_cast<double>(waits[static_cast<std::size_t>(
                                              p * static_cast<double>(waits.size() - 1))]) /
                                          1000);
        };
        return "{\"gap_us\":" + std::to_string(gap_us) + ",\"count\":" + std::to_string(count) +
               ",\"lost\":" + std::to_string(lost) + ",\"p50_us\":" + at(0.5) +
               ",\"p90_us\":" + at(0.9) + ",\"max_us\":" + at(1) + "}";
    }

    const Options& options_;
    OneLane& lane_;
    std::string payload_;
    int socket_ = -1;
    std::array<iovec, batch> pieces_{};
    std::array<mmsghdr, batch> messages_{};
};

int run(const Options& options) {
    OneLane lane;
    std::string why;
    std::string out;
    const OneLane::Options wanted{
        .device = options.device,
        .address = options.address,
        .udp_port = options.udp_port,
        .cpu = options.cpu,
        .idle = options.poll == "busy" ? IdlePolicy::busy : IdlePolicy::adaptive,
        .make_engine = [](Lane& own) -> Result<std::unique_ptr<IoEngine>> {
            return RingEngine::open(own.wake_fd());
        },
        .engine_waits = true};
    if (!lane.open(wanted, why)) {
        std::fprintf(stderr, "polling: %s\n", why.c_str());
        return 1;
    }
    bool good = false;
    std::thread([&] {
        Sender sender(options, lane);
        good = sender.run(out, why);
    }).join();
    lane.close();
    if (!good) {
        std::fprintf(stderr, "polling: %s\n", why.c_str());
        return 1;
    }
    std::printf("%s\n", out.c_str());
    return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
    penstock::bench::Options options;
    CLI::App app{
        "Sends datagrams to a lane on drives that cost nothing, and prints the lane's CPU at "
        "shares of its maximum, and how long single datagrams wait after a silence, as one line "
        "of JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--device", options.device, "The port, as serve's --port")->required();
    app.add_option("--address", options.address, "Of the port, as serve's --address");
    app.add_option("--target", options.target, "IPv4 address to send to")->required();
    app.add_option("--netns", options.netns, "Network namespace to send from");
    app.add_option("--udp-port", options.udp_port, "The door");
    app.add_option("--cpu", options.cpu, "CPU of the lane");
    app.add_option("--sender-cpu", options.sender_cpu, "CPU of the sender");
    app.add_option("--poll", options.poll, "As serve's --poll")
        ->check(CLI::IsMember({"adaptive", "busy"}));
    app.add_option("--bytes", options.bytes, "Of a datagram")->check(CLI::Range(1, 1400));
    app.add_option("--maximum", options.maximum,
                   "Datagrams a second that the shares are of; 0: found first");
    app.add_option("--shares", options.shares, "Of the maximum, such as 0,0.01,0.5")
        ->delimiter(',');
    app.add_option("--gaps-us", options.gaps_us, "Silences, such as 10,1000")->delimiter(',');
    app.add_option("--gap-seconds", options.gap_seconds, "Time for each silence");
    app.add_option("--seconds", options.seconds, "Time for each share")->check(CLI::PositiveNumber);
    CLI11_PARSE(app, argc, argv);
    return penstock::bench::run(options);
}
