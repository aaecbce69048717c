#include "control/kinesis/reply_writer.h"

#include <charconv>

#include "control/kinesis/base64.h"

namespace penstock::kinesis {

namespace {
void append_number(std::string& out, std::int64_t value) {
    char digits[24];
    const auto [end, fault] = std::to_chars(digits, digits + sizeof(digits), value);
    out.append(digits, static_cast<std::size_t>(end - digits));
}
}  // namespace

void append_json_string(std::string& out, std::string_view value) {
    out.push_back('"');
    std::size_t done = 0;
    for (std::size_t i = 0; i < value.size(); ++i) {
        const auto c = static_cast<unsigned char>(value[i]);
        if (c >= 0x20 && c != '"' && c != '\\') [[likely]] {
            continue;
        }
        out.append(value.data() + done, i - done);
        done = i + 1;
        out.push_back('\\');
        switch (c) {
            case '"':
                out.push_back('"');
                break;
            case '\\':
                out.push_back('\\');
                break;
            case '\n':
                out.push_back('n');
                break;
            case '\r':
                out.push_back('r');
                break;
            case '\t':
                out.push_back('t');
                break;
            default: {
                constexpr std::string_view hex = "0123456789abcdef";
                out += "u00";
                out.push_back(hex[c >> 4]);
                out.push_back(hex[c & 15]);
            }
        }
    }
    out.append(value.data() + done, value.size() - done);
    out.push_back('"');
}

void JsonWriter::begin_object() {
    comma();
    out_.push_back('{');
    needs_comma_ = false;
}
void JsonWriter::end_object() {
    out_.push_back('}');
    needs_comma_ = true;
}
void JsonWriter::begin_array() {
    comma();
    out_.push_back('[');
    needs_comma_ = false;
}
void JsonWriter::end_array() {
    out_.push_back(']');
    needs_comma_ = true;
}
void JsonWriter::key(std::string_view name) {
    comma();
    out_.push_back('"');
    out_ += name;
    out_ += "\":";
    needs_comma_ = false;
}
void JsonWriter::text(std::string_view value) {
    comma();
    append_json_string(out_, value);
}
void JsonWriter::plain(std::string_view value) {
    comma();
    out_.push_back('"');
    out_ += value;
    out_.push_back('"');
}
void JsonWriter::number(std::int64_t value) {
    comma();
    append_number(out_, value);
}
void JsonWriter::boolean(bool value) {
    comma();
    out_ += value ? "true" : "false";
}
void JsonWriter::blob(Bytes value) {
    comma();
    out_.push_back('"');
    base64_append(out_, value);
    out_.push_back('"');
}
void JsonWriter::timestamp_ms(std::int64_t value) {
    comma();
    append_number(out_, value / 1000);
    if (const auto fraction = static_cast<unsigned>(value % 1000); fraction != 0) {
        out_.push_back('.');
        out_.push_back(static_cast<char>('0' + fraction / 100));
        out_.push_back(static_cast<char>('0' + fraction / 10 % 10));
        out_.push_back(static_cast<char>('0' + fraction % 10));
    }
}

}  // namespace penstock::kinesis
