#include "control/kinesis/reply/reply_writer.h"

#include <charconv>

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

void JsonWriter::text(std::string_view value) {
    append_pieces(out_, comma());
    append_json_string(out_, value);
}
void JsonWriter::number(std::int64_t value) {
    append_pieces(out_, comma());
    append_number(out_, value);
}
void append_json_seconds(std::string& out, std::int64_t wall_ms) {
    append_number(out, wall_ms / 1000);
    if (const auto fraction = static_cast<unsigned>(wall_ms % 1000); fraction != 0) {
        out.push_back('.');
        out.push_back(static_cast<char>('0' + fraction / 100));
        out.push_back(static_cast<char>('0' + fraction / 10 % 10));
        out.push_back(static_cast<char>('0' + fraction % 10));
    }
}

void CborWriter::put_head(unsigned kind, std::uint64_t number, std::string_view rest) {
    char head[9];
    const auto first = [&](unsigned info) { head[0] = static_cast<char>(kind << 5 | info); };
    std::size_t size = 1;
    if (number < 24) {
        first(static_cast<unsigned>(number));
    } else {
        const unsigned power = number <= 0xff          ? 0
                               : number <= 0xffff      ? 1
                               : number <= 0xffff'ffff ? 2
                                                       : 3;
        first(24 + power);
        size = 1 + (std::size_t{1} << power);
        for (std::size_t i = 1; i < size; ++i) {
            head[i] = static_cast<char>(number >> 8 * (size - 1 - i) & 0xff);
        }
    }
    append_pieces(out_, std::string_view(head, size), rest);
}

}  // namespace penstock::kinesis
