#include "tools/penstock/record_output.h"

#include <poll.h>
#include <simdjson.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "control/kinesis/input/base64.h"
#include "storage/base/bytes.h"
#include "tools/consumer/position.h"
#include "tools/penstock/json_text.h"

namespace penstock {

namespace {

// Gathered before it is written.
constexpr std::size_t text_bytes = 256U << 10;

}  // namespace

void append_json_record(std::string& to, std::string_view shard, const consumer::Record& record) {
    to += "{\"shard_id\":" + json_text(shard) +
          ",\"sequence_number\":" + json_text(record.sequence) +
          ",\"approximate_arrival_timestamp\":\"" + consumer::time_text(record.arrival_ms) +
          "\",\"partition_key\":" + json_text(record.key) + ",";
    if (simdjson::validate_utf8(record.data)) {
        to += "\"data\":" + json_text(record.data);
    } else {
        to += "\"data_base64\":\"";
        kinesis::base64_append(to, as_bytes(record.data));
        to += '"';
    }
    to += "}\n";
}

RecordOutput::RecordOutput(int out, ConsumeFormat format)
    : out_(out), format_(format), stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    struct stat status{};
    is_pipe_ = ::fstat(out_, &status) == 0 && !S_ISREG(status.st_mode);
}

void RecordOutput::stop() noexcept {
    stopped_.store(true, std::memory_order_relaxed);
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
}

bool RecordOutput::wait_for_room() {
    if (stopped_.load(std::memory_order_relaxed)) {
        return false;
    }
    if (!is_pipe_) {
        return true;
    }
    std::array<pollfd, 2> wait{{{out_, POLLOUT, 0}, {stop_.get(), POLLIN, 0}}};
    while (::poll(wait.data(), wait.size(), -1) < 0 && errno == EINTR) {
    }
    return wait[1].revents == 0;
}

// A pipe that is ready takes PIPE_BUF bytes without blocking (POSIX), perhaps no more.
std::size_t RecordOutput::put(std::string_view text) {
    std::size_t done = 0;
    while (done < text.size() && wait_for_room()) {
        const std::size_t piece =
            is_pipe_ ? std::min<std::size_t>(text.size() - done, PIPE_BUF) : text.size() - done;
        const ssize_t written = ::write(out_, text.data() + done, piece);
        if (written < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (written < 0) {
            why_ = std::string("standard output: ") + std::strerror(errno);
            break;
        }
        done += static_cast<std::size_t>(written);
    }
    return done;
}

std::size_t RecordOutput::write(std::string_view shard, std::span<const consumer::Record> records) {
    std::vector<std::size_t> ends;  // of the records in text_
    std::size_t whole = 0;
    for (std::size_t i = 0; i < records.size(); ++i) {
        const consumer::Record& record = records[i];
        if (format_ == ConsumeFormat::json) {
            append_json_record(text_, shard, record);
        } else {
            text_ += record.data;
            if (format_ == ConsumeFormat::lines) {
                text_ += '\n';
            }
        }
        ends.push_back(text_.size());
        if (text_.size() < text_bytes && i + 1 < records.size()) {
            continue;
        }
        const std::size_t done = put(text_);
        const bool is_all = done == text_.size();
        whole += static_cast<std::size_t>(std::ranges::upper_bound(ends, done) - ends.begin());
        ends.clear();
        text_.clear();
        if (!is_all) {
            break;
        }
    }
    return whole;
}

}  // namespace penstock
