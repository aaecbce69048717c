#include "control/kinesis/input/cbor_input.h"

#include <cbor.h>

#include <algorithm>
#include <cstring>

#include "control/kinesis/input/input_value.h"

namespace penstock::kinesis {

// One head of an item, with the bytes of a text or byte string that has its length in front.
struct CborReader::Token {
    enum class Kind : std::uint8_t {
        none,
        positive,
        negative,  // −1 − number
        bytes,
        bytes_in_pieces,
        text,
        text_in_pieces,
        array,
        array_until_break,
        map,
        map_until_break,
        tag,
        floating,
        boolean,
        null,
        stop
    };
    Kind kind = Kind::none;
    std::uint64_t number = 0;  // of a number, a tag, items or pairs; 1 for true
    double floating = 0;
    std::string_view string;
};

namespace {

using Token = CborReader::Token;
using Kind = Token::Kind;

template <Kind kind>
void on_number(void* to, std::uint64_t number) {
    *static_cast<Token*>(to) = {kind, number, 0, {}};
}
template <Kind kind, typename Number>
void on_short_number(void* to, Number number) {
    on_number<kind>(to, number);
}
template <Kind kind>
void on_mark(void* to) {
    *static_cast<Token*>(to) = {kind, 0, 0, {}};
}
template <Kind kind>
void on_string(void* to, cbor_data bytes, std::size_t size) {
    *static_cast<Token*>(to) = {kind, 0, 0, {reinterpret_cast<const char*>(bytes), size}};
}
template <typename Number>
void on_floating(void* to, Number number) {
    *static_cast<Token*>(to) = {Kind::floating, 0, number, {}};
}
void on_boolean(void* to, bool value) {
    *static_cast<Token*>(to) = {Kind::boolean, value ? 1U : 0U, 0, {}};
}

const cbor_callbacks& callbacks() {
    static const cbor_callbacks all = [] {
        cbor_callbacks table{};
        table.uint8 = &on_short_number<Kind::positive, std::uint8_t>;
        table.uint16 = &on_short_number<Kind::positive, std::uint16_t>;
        table.uint32 = &on_short_number<Kind::positive, std::uint32_t>;
        table.uint64 = &on_number<Kind::positive>;
        table.negint8 = &on_short_number<Kind::negative, std::uint8_t>;
        table.negint16 = &on_short_number<Kind::negative, std::uint16_t>;
        table.negint32 = &on_short_number<Kind::negative, std::uint32_t>;
        table.negint64 = &on_number<Kind::negative>;
        table.byte_string = &on_string<Kind::bytes>;
        table.byte_string_start = &on_mark<Kind::bytes_in_pieces>;
        table.string = &on_string<Kind::text>;
        table.string_start = &on_mark<Kind::text_in_pieces>;
        table.array_start = &on_number<Kind::array>;
        table.indef_array_start = &on_mark<Kind::array_until_break>;
        table.map_start = &on_number<Kind::map>;
        table.indef_map_start = &on_mark<Kind::map_until_break>;
        table.tag = &on_number<Kind::tag>;
        table.float2 = &on_floating<float>;
        table.float4 = &on_floating<float>;
        table.float8 = &on_floating<double>;
        table.boolean = &on_boolean;
        table.null = &on_mark<Kind::null>;
        table.undefined = &on_mark<Kind::null>;
        table.indef_break = &on_mark<Kind::stop>;
        return table;
    }();
    return all;
}

bool is_map(Kind kind) noexcept {
    return kind == Kind::map || kind == Kind::map_until_break;
}
bool is_array(Kind kind) noexcept {
    return kind == Kind::array || kind == Kind::array_until_break;
}

// Java's names, which is how Kinesis tells what it found.
std::string_view class_of(const Token& token) noexcept {
    switch (token.kind) {
        case Kind::boolean:
            return "class java.lang.Boolean";
        case Kind::text:
        case Kind::text_in_pieces:
            return "class java.lang.String";
        case Kind::bytes:
        case Kind::bytes_in_pieces:
            return "class java.nio.HeapByteBuffer";
        case Kind::null:
            return "null";
        default:
            return "class java.math.BigDecimal";
    }
}

std::int64_t integer_of(const Token& token) noexcept {
    if (token.kind == Kind::floating) {
        return saturate(token.floating);
    }
    const auto number = static_cast<std::int64_t>(
        std::min<std::uint64_t>(token.number, static_cast<std::uint64_t>(INT64_MAX)));
    return token.kind == Kind::negative ? -1 - number : number;
}

}  // namespace

CborReader::Token CborReader::next() {
    Token token;
    const cbor_decoder_result done = cbor_stream_decode(reinterpret_cast<cbor_data>(rest_.data()),
                                                        rest_.size(), &callbacks(), &token);
    if (done.status != CBOR_DECODER_FINISHED || token.kind == Kind::none) {
        input_fault("");
    }
    rest_.remove_prefix(done.read);
    return token;
}

CborReader::Token CborReader::next_value() {
    Token token = next();
    while (token.kind == Kind::tag) {
        token = next();
    }
    if (token.kind == Kind::stop) {
        input_fault("");
    }
    return token;
}

void CborReader::refuse(const Token& token, std::string_view article_and_type) const {
    if (is_array(token.kind)) {
        input_fault(std::string(list_found));
    }
    if (is_map(token.kind)) {
        input_fault(std::string(structure_found));
    }
    cannot_convert(class_of(token), article_and_type);
}

bool CborReader::at_break() {
    if (rest_.empty() || static_cast<unsigned char>(rest_.front()) != 0xff) {
        return false;
    }
    rest_.remove_prefix(1);
    return true;
}

// 0xf6 is null, 0xf7 undefined.
bool CborReader::skip_null() {
    if (rest_.empty() || (static_cast<unsigned char>(rest_.front()) & 0xfe) != 0xf6) {
        return false;
    }
    rest_.remove_prefix(1);
    return true;
}

void CborReader::enter() {
    if (++depth_ > depth_max) {
        input_fault("");
    }
}

// What a text or byte string holds; the SDKs for Java write long texts in pieces.
std::string_view CborReader::string_of(const Token& token, bool is_text) {
    const Kind piece_kind = is_text ? Kind::text : Kind::bytes;
    if (token.kind == piece_kind) [[likely]] {
        return token.string;
    }
    const std::string_view from = rest_;
    std::size_t total = 0;
    while (!at_break()) {
        const Token piece = next();
        if (piece.kind != piece_kind) {
            input_fault("");
        }
        total += piece.string.size();
    }
    std::byte* const whole = arena_.take(total);
    rest_ = from;
    std::byte* to = whole;
    while (!at_break()) {
        const std::string_view piece = next().string;
        if (!piece.empty()) {
            std::memcpy(to, piece.data(), piece.size());
            to += piece.size();
        }
    }
    return {reinterpret_cast<const char*>(whole), total};
}

std::string_view CborReader::text_of(const Token& token) {
    const std::string_view text = string_of(token, true);
    if (!simdjson::validate_utf8(text.data(), text.size())) {
        input_fault("");
    }
    return text;
}

std::string_view CborReader::text() {
    const Token token = next_value();
    if (token.kind != Kind::text && token.kind != Kind::text_in_pieces) {
        refuse(token, "an String");
    }
    return text_of(token);
}

std::int64_t CborReader::integer() {
    const Token token = next_value();
    if (token.kind != Kind::positive && token.kind != Kind::negative &&
        token.kind != Kind::floating) {
        refuse(token, "an Integer");
    }
    return integer_of(token);
}

bool CborReader::boolean() {
    const Token token = next_value();
    if (token.kind != Kind::boolean) {
        refuse(token, "an Boolean");
    }
    return token.number != 0;
}

// A fraction would have to mean seconds, as RFC 8949 has it, where Kinesis means milliseconds:
// better refused than understood wrongly.
std::int64_t CborReader::timestamp_ms() {
    const Token token = next_value();
    if (token.kind != Kind::positive && token.kind != Kind::negative) {
        refuse(token, "a Timestamp");
    }
    return integer_of(token);
}

Bytes CborReader::blob() {
    const Token token = next_value();
    if (token.kind != Kind::bytes && token.kind != Kind::bytes_in_pieces) {
        refuse(token, "a Blob");
    }
    return as_bytes(string_of(token, false));
}

void CborReader::skip(const Token& token, unsigned depth) {
    if (depth > depth_max) {
        input_fault("");
    }
    switch (token.kind) {
        case Kind::text:
        case Kind::text_in_pieces:
            static_cast<void>(text_of(token));
            return;
        case Kind::bytes_in_pieces:
            static_cast<void>(string_of(token, false));
            return;
        case Kind::tag:
            return skip(next(), depth + 1);
        case Kind::stop:
            input_fault("");
        case Kind::array:
        case Kind::map: {
            // Each item takes at least a byte, so the body's size bounds the loop.
            const unsigned items_each = token.kind == Kind::map ? 2 : 1;
            for (std::uint64_t i = 0; i < token.number; ++i) {
                for (unsigned item = 0; item < items_each; ++item) {
                    skip(next(), depth + 1);
                }
            }
            return;
        }
        case Kind::array_until_break:
        case Kind::map_until_break: {
            const bool in_pairs = token.kind == Kind::map_until_break;
            while (!at_break()) {
                skip(next(), depth + 1);
                if (in_pairs) {
                    skip(next(), depth + 1);
                }
            }
            return;
        }
        default:
            return;
    }
}

void CborReader::members(const Token& token, const InputMember& member) {
    enter();
    const bool until_break = token.kind == Kind::map_until_break;
    for (std::uint64_t i = 0; until_break ? !at_break() : i < token.number; ++i) {
        const Token key_token = next();
        if (key_token.kind != Kind::text && key_token.kind != Kind::text_in_pieces) {
            input_fault("");
        }
        const std::string_view key = text_of(key_token);
        if (skip_null()) {
            continue;
        }
        const char* const value = rest_.data();
        member(key, InputValue(*this));
        if (rest_.data() == value) {
            skip(next(), depth_);
        }
    }
    --depth_;
}

void CborReader::structure(const InputMember& member) {
    const Token token = next_value();
    if (is_array(token.kind)) {
        input_fault(std::string(list_found));
    }
    if (!is_map(token.kind)) {
        input_fault("Expected null");
    }
    members(token, member);
}

void CborReader::map(const InputMember& member) {
    const Token token = next_value();
    if (is_array(token.kind)) {
        input_fault(std::string(list_found));
    }
    if (!is_map(token.kind)) {
        input_fault("Expected map or null");
    }
    members(token, member);
}

void CborReader::list(const InputItem& item) {
    const Token token = next_value();
    if (is_map(token.kind)) {
        input_fault(std::string(structure_found));
    }
    if (!is_array(token.kind)) {
        input_fault("Expected list or null");
    }
    enter();
    const bool until_break = token.kind == Kind::array_until_break;
    for (std::uint64_t i = 0; until_break ? !at_break() : i < token.number; ++i) {
        if (skip_null()) {
            item(std::nullopt);
            continue;
        }
        const char* const value = rest_.data();
        item(InputValue(*this));
        if (rest_.data() == value) {
            skip(next(), depth_);
        }
    }
    --depth_;
}

void CborReader::read_all(const InputMember& member) {
    const Token token = next_value();
    if (!is_map(token.kind)) {
        input_fault("");
    }
    members(token, member);
    if (!rest_.empty()) {
        input_fault("");
    }
}

}  // namespace penstock::kinesis
