// Reads the members of a CBOR request body (RFC 8949), one by one; what InputValue does for CBOR.
// libcbor reads the heads of items; this holds the place, and what may stand where.
//
// Runs on: one control thread per reader.
// Allocates: from the request's arena, only for texts and bytes that come in pieces.
// Guarantees: texts are valid UTF-8. Memory and depth are bounded by the body's size and by
// depth_max, whatever lengths the body claims.
#pragma once

#include <cstdint>
#include <string_view>

#include "control/kinesis/input/json_input.h"

namespace penstock::kinesis {

class CborReader {
public:
    CborReader(std::string_view body, Arena& arena) : rest_(body), arena_(arena) {}

    // The value at hand; all throw InputFault. A value that nobody takes is skipped.
    [[nodiscard]] std::string_view text();
    [[nodiscard]] std::int64_t integer();
    [[nodiscard]] bool boolean();
    // A whole number of milliseconds, under tag 1 or none, as the SDKs for Java write it.
    [[nodiscard]] std::int64_t timestamp_ms();
    [[nodiscard]] Bytes blob();
    void structure(const InputMember& member);
    void map(const InputMember& member);
    void list(const InputItem& item);

    // A map, and nothing behind it.
    void read_all(const InputMember& member);

    struct Token;

private:
    static constexpr unsigned depth_max = 64;

    [[nodiscard]] Token next();
    // The next item behind its tags.
    [[nodiscard]] Token next_value();
    [[noreturn]] void refuse(const Token& token, std::string_view article_and_type) const;
    [[nodiscard]] std::string_view string_of(const Token& token, bool is_text);
    [[nodiscard]] std::string_view text_of(const Token& token);
    void members(const Token& token, const InputMember& member);
    // Skips what `token` began.
    void skip(const Token& token, unsigned depth);
    [[nodiscard]] bool at_break();
    [[nodiscard]] bool skip_null();
    void enter();

    std::string_view rest_;
    Arena& arena_;
    unsigned depth_ = 0;
};

}  // namespace penstock::kinesis
