#include "tools/penstock/capture_command.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>

#include "storage/base/counted.h"
#include "tools/penstock/json_text.h"
#include "tools/penstock/node_client.h"

namespace penstock {

namespace {

// Often enough that a lane's ring of 4 MiB holds what comes in between at a few Gbit/s.
constexpr std::chrono::milliseconds ask_every{20};

volatile std::sig_atomic_t stop_wanted = 0;

void on_signal(int) noexcept {
    stop_wanted = 1;
}

struct CloseFile {
    void operator()(std::FILE* file) const noexcept {
        if (file != stdout) {
            std::fclose(file);
        }
    }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

std::string wish_of(const CaptureOptions& options) {
    std::string json = "{\"seconds\":" + std::to_string(options.seconds) +
                       ",\"sample\":" + std::to_string(options.sample) +
                       ",\"snap_bytes\":" + std::to_string(options.snap_bytes);
    if (options.port >= 0) {
        json += ",\"port\":" + std::to_string(options.port);
    }
    if (options.door != 0) {
        json += ",\"udp_port\":" + std::to_string(options.door);
    }
    if (!options.reasons.empty()) {
        json += ",\"reasons\":[";
        for (std::size_t i = 0; i < options.reasons.size(); ++i) {
            json += (i == 0 ? "" : ",") + json_text(options.reasons[i]);
        }
        json += "]";
    }
    return json + "}";
}

std::uint64_t number_in(const NodeAnswer& answer, const char* header) {
    const auto found = answer.headers.find(header);
    return found == answer.headers.end() ? 0 : std::strtoull(found->second.c_str(), nullptr, 10);
}

// A block's type and length stand at its begin.
struct Block {
    static constexpr std::uint32_t packet = 6;
    std::uint32_t type = 0;
    std::uint32_t length = 0;
};

// Length of the part of `blocks` that holds at most `packets` more packets, which are counted down.
std::size_t part_with(std::string_view blocks, std::uint64_t& packets) {
    std::size_t at = 0;
    Block block;
    while (at + sizeof block <= blocks.size()) {
        std::memcpy(&block, blocks.data() + at, sizeof block);
        if (block.type == Block::packet && packets-- == 0) {
            packets = 0;
            break;
        }
        at += block.length;
    }
    return at;
}

class Capture {
public:
    Capture(const CaptureOptions& options, std::ostream& err)
        : options_(options), err_(err), client_(options.http, 10'000, options.local_socket) {}

    int run() {
        file_ = File(options_.file == "-" ? stdout : std::fopen(options_.file.c_str(), "wb"));
        if (file_ == nullptr) {
            return refuse(options_.file + ": " + std::strerror(errno));
        }
        if (file_.get() == stdout && ::isatty(STDOUT_FILENO) != 0) {
            return refuse("standard output is a terminal; expected --write FILE, or a pipe");
        }
        std::string why;
        auto begun = client_.ask("POST", "/v1/capture", wish_of(options_), why);
        if (!begun || begun->status != 200) {
            return refuse(begun ? first_line(begun->body) : why);
        }
        std::signal(SIGINT, &on_signal);
        std::signal(SIGTERM, &on_signal);
        std::signal(SIGPIPE, SIG_IGN);
        const bool fine = copy(why);
        auto ended = client_.ask("DELETE", "/v1/capture", "", why);
        if (!fine || !ended) {
            return refuse(why);
        }
        err_ << "penstock capture: " << counted(written_, "packet") << " written, " << matched_
             << " matched";
        if (options_.sample > 1) {
            err_ << " (one in " << options_.sample << " is kept)";
        }
        if (no_room_ != 0) {
            err_ << ", " << no_room_ << " missed because they came faster than they were read";
        }
        err_ << "\n";
        return 0;
    }

private:
    int refuse(const std::string& what) {
        err_ << "penstock capture: " << what << "\n";
        return 1;
    }

    static std::string first_line(const std::string& text) {
        return text.substr(0, text.find('\n'));
    }

    bool copy(std::string& why) {
        const auto until =
            std::chrono::steady_clock::now() + std::chrono::seconds(options_.seconds);
        std::uint64_t left = options_.count;
        for (bool last = false; !last;) {
            last = stop_wanted != 0 || std::chrono::steady_clock::now() >= until;
            auto answer = client_.ask("GET", "/v1/capture", "", why);
            if (!answer) {
                return false;
            }
            if (answer->status != 200) {
                why = first_line(answer->body);
                return false;
            }
            std::size_t part = answer->body.size();
            if (options_.count != 0) {
                const std::uint64_t before = left;
                part = part_with(answer->body, left);
                written_ += before - left;
                last = last || left == 0;
            } else {
                written_ += number_in(*answer, "penstock-packets");
            }
            matched_ = number_in(*answer, "penstock-matched");
            no_room_ = number_in(*answer, "penstock-no-room");
            if (std::fwrite(answer->body.data(), 1, part, file_.get()) != part ||
                std::fflush(file_.get()) != 0) {
                if (errno == EPIPE) {
                    return true;  // who reads has seen enough
                }
                why = options_.file + ": " + std::strerror(errno);
                return false;
            }
            if (!last && number_in(*answer, "penstock-packets") == 0) {
                std::this_thread::sleep_for(ask_every);
            }
        }
        return true;
    }

    const CaptureOptions& options_;
    std::ostream& err_;
    NodeClient client_;
    File file_;
    std::uint64_t written_ = 0;
    std::uint64_t matched_ = 0;
    std::uint64_t no_room_ = 0;
};

}  // namespace

int run_capture(const CaptureOptions& options, std::ostream& err) {
    return Capture(options, err).run();
}

}  // namespace penstock
