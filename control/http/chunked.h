// Decoder of the chunked transfer coding (RFC 9112, section 7.1), strict: CRLF line ends only.
//
// Runs on: the thread of its connection. Allocates: nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::http {

class ChunkedDecoder {
public:
    enum class Step : std::uint8_t {
        need_more,  // all input was consumed, or a line is incomplete
        data,       // `data` is the next piece of the body
        finished,   // the body and its trailer are over
        malformed,
        line_too_long,
    };
    struct Output {
        Step step = Step::need_more;
        std::size_t consumed_bytes = 0;
        std::string_view data;  // within the input
    };

    // Lines (sizes with their extensions, trailer fields) longer than this in all are refused.
    explicit ChunkedDecoder(std::size_t line_bytes_max) noexcept
        : line_bytes_left_(line_bytes_max) {}

    // Call again with what was not consumed, until need_more or an end.
    [[nodiscard]] Output next(std::string_view input) noexcept;

private:
    enum class State : std::uint8_t {
        size_digits,
        size_rest,
        line_feed,
        data,
        data_cr,
        data_lf,
        trailer_start,
        trailer,
        trailer_lf,
        end_lf
    };

    // Takes one character of anything but chunk data; false when it may not stand here.
    [[nodiscard]] bool take(char c) noexcept;

    std::size_t line_bytes_left_;
    std::uint64_t chunk_bytes_left_ = 0;
    unsigned digits_ = 0;
    State state_ = State::size_digits;
    bool finished_ = false;
};

}  // namespace penstock::http
