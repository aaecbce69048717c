// Header blocks of HTTP/2: the one being received, and one to be sent.
//
// Runs on: one control thread.
// Allocates: a block of memory each, which the received one keeps for the next.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::http {

// The header block being received. Blocks are never interleaved, so a connection has one.
struct HeadBlock {
    struct Field {
        std::size_t name_bytes = 0;
        std::size_t value_bytes = 0;
    };
    std::string text;  // names and values one after the other
    std::vector<Field> fields;
    std::size_t size_bytes = 0;  // as RFC 9113, 10.5.1 counts it
    bool invalid = false;        // a field had a character that none may have

    // Once the block is larger than `bytes_max` its fields are only counted.
    void add(std::string_view name, std::string_view value, std::size_t bytes_max);
    void clear() noexcept;
};

// Header fields of an answer.
class AnswerHead {
public:
    // Names become lower case, control characters of values spaces. Fields that speak of the
    // connection, which HTTP/2 forbids, are left out.
    void add(std::string_view name, std::string_view value);
    // Valid until add() or the end of this object.
    [[nodiscard]] std::span<const nghttp2_nv> fields();

private:
    std::string text_;
    std::vector<std::pair<std::size_t, std::size_t>> sizes_;
    std::vector<nghttp2_nv> fields_;
};

}  // namespace penstock::http
