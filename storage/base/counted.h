// A count with its noun, for lines that people read: "1 key", "2 keys".
//
// Runs on: any thread. Allocates: what it returns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

// For nouns whose plural ends in -s.
[[nodiscard]] inline std::string counted(std::uint64_t count, std::string_view noun) {
    std::string text = std::to_string(count);
    text += ' ';
    text += noun;
    if (count != 1) {
        text += 's';
    }
    return text;
}

}  // namespace penstock
