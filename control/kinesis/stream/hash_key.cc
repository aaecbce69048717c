#include "control/kinesis/stream/hash_key.h"

#include <algorithm>

namespace penstock::kinesis {

std::string to_decimal(const Hash128& hash) {
    Uint128 number = to_uint128(hash);
    std::string digits;
    do {
        digits.push_back(static_cast<char>('0' + static_cast<int>(number % 10)));
        number /= 10;
    } while (number != 0);
    std::reverse(digits.begin(), digits.end());
    return digits;
}

std::optional<Hash128> parse_hash_key(std::string_view text) noexcept {
    constexpr Uint128 limit = ~Uint128{0};
    if (text.empty() || text.size() > 39 || (text.size() > 1 && text.front() == '0')) {
        return std::nullopt;
    }
    Uint128 number = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        const auto digit = static_cast<unsigned>(c - '0');
        if (number > (limit - digit) / 10) {
            return std::nullopt;
        }
        number = number * 10 + digit;
    }
    return to_hash(number);
}

std::vector<HashRange> tile_hash_space(std::uint32_t count) {
    // floor(2^128 / count), which is not a Uint128 for a count of 1.
    const Uint128 max = ~Uint128{0};
    const Uint128 size = max / count + (max % count == count - 1 ? 1 : 0);
    std::vector<HashRange> ranges;
    ranges.reserve(count);
    Uint128 start = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const Uint128 end = i + 1 == count ? max : start + (size - 1);
        ranges.push_back({to_hash(start), to_hash(end)});
        start = end + 1;
    }
    return ranges;
}

}  // namespace penstock::kinesis
