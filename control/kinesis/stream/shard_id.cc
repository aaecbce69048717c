#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

std::string format_shard_id(std::uint32_t number) {
    std::string id = "shardId-000000000000";
    for (std::size_t at = id.size(); number != 0; number /= 10) {
        id[--at] = static_cast<char>('0' + number % 10);
    }
    return id;
}

std::optional<std::uint32_t> parse_shard_id(std::string_view text) noexcept {
    // What counts is the part between the first dash and the next one, or all of it without a dash.
    if (const std::size_t dash = text.find('-'); dash != std::string_view::npos) {
        text.remove_prefix(dash + 1);
        text = text.substr(0, text.find('-'));
    }
    if (text.empty()) {
        return std::nullopt;
    }
    std::uint64_t number = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        number = number * 10 + static_cast<unsigned>(c - '0');
        if (number > shard_number_max) {
            return std::nullopt;
        }
    }
    return static_cast<std::uint32_t>(number);
}

}  // namespace penstock::kinesis
