// Characters of what peers send: header names, hexadecimal digits, what of them may be shown.
//
// Runs on: any thread.
// Guarantees: ASCII alone, whatever the process' locale says.
#pragma once

#include <string>
#include <string_view>

namespace penstock::http {

[[nodiscard]] constexpr char to_lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

[[nodiscard]] constexpr bool is_letter_or_digit(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// -1 for what is no hexadecimal digit, of either case.
[[nodiscard]] constexpr int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = to_lower(c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// A peer's text in a line for people: short, and printable ASCII only.
[[nodiscard]] inline std::string shown(std::string_view text) {
    constexpr std::size_t shown_max = 256;
    std::string out;
    for (const char c : text.substr(0, shown_max)) {
        out.push_back(c >= ' ' && c <= '~' ? c : '?');
    }
    return out;
}

}  // namespace penstock::http
