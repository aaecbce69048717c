#include "control/http/chunked.h"

#include <algorithm>

#include "control/http/text.h"

namespace penstock::http {
namespace {

// 16 digits would fill 64 bits; 15 keep every sum below overflow.
constexpr unsigned size_digits_max = 15;

bool is_line_text(char c) noexcept {
    const auto byte = static_cast<unsigned char>(c);
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

}  // namespace

bool ChunkedDecoder::take(char c) noexcept {
    switch (state_) {
        case State::size_digits:
            if (const int digit = hex_value(c); digit >= 0) {
                chunk_bytes_left_ = chunk_bytes_left_ * 16 + static_cast<unsigned>(digit);
                return ++digits_ <= size_digits_max;
            }
            if (digits_ == 0 || (c != '\r' && c != ';' && c != ' ' && c != '\t')) {
                return false;
            }
            state_ = c == '\r' ? State::line_feed : State::size_rest;
            return true;
        case State::size_rest:
            if (c == '\r') {
                state_ = State::line_feed;
                return true;
            }
            return is_line_text(c);
        case State::line_feed:
            state_ = chunk_bytes_left_ == 0 ? State::trailer_start : State::data;
            return c == '\n';
        case State::data_cr:
            state_ = State::data_lf;
            return c == '\r';
        case State::data_lf:
            state_ = State::size_digits;
            digits_ = 0;
            return c == '\n';
        case State::trailer_start:
            state_ = c == '\r' ? State::end_lf : State::trailer;
            return c == '\r' || is_line_text(c);
        case State::trailer:
            if (c == '\r') {
                state_ = State::trailer_lf;
                return true;
            }
            return is_line_text(c);
        case State::trailer_lf:
            state_ = State::trailer_start;
            return c == '\n';
        case State::end_lf:
            finished_ = c == '\n';
            return finished_;
        case State::data:
            break;
    }
    return false;
}

ChunkedDecoder::Output ChunkedDecoder::next(std::string_view input) noexcept {
    std::size_t used = 0;
    while (used < input.size()) {
        if (state_ == State::data) {
            const std::size_t count =
                std::min<std::uint64_t>(chunk_bytes_left_, input.size() - used);
            chunk_bytes_left_ -= count;
            if (chunk_bytes_left_ == 0) {
                state_ = State::data_cr;
            }
            return {Step::data, used + count, input.substr(used, count)};
        }
        const bool is_extra = state_ == State::size_rest || state_ == State::trailer_start ||
                              state_ == State::trailer;
        if (is_extra && line_bytes_left_-- == 0) {
            return {Step::line_too_long, used, {}};
        }
        if (!take(input[used])) {
            return {Step::malformed, used, {}};
        }
        ++used;
        if (finished_) {
            return {Step::finished, used, {}};
        }
    }
    return {Step::need_more, used, {}};
}

}  // namespace penstock::http
