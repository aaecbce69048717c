#include "control/kinesis/input/producer_header.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>

#include "dataplane/wire/partition_hash.h"

namespace penstock::kinesis {

namespace {

constexpr std::size_t name_length_max = 128;
constexpr std::uint64_t sequence_max = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t epoch_max = std::numeric_limits<std::uint32_t>::max();

bool is_name(std::string_view text) noexcept {
    return !text.empty() && text.size() <= name_length_max && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == ':' || c == '-';
    });
}

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
        text.remove_suffix(1);
    }
    return text;
}

bool read_number(std::string_view text, std::uint64_t least, std::uint64_t most,
                 std::uint64_t& out) noexcept {
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), out);
    return fault == std::errc{} && end == text.data() + text.size() && out >= least && out <= most;
}

// The parts behind the name.
bool read_parts(std::string_view rest, PutProducer& out) noexcept {
    bool has_sequence = false;
    bool has_epoch = false;
    while (!rest.empty()) {
        const std::size_t semicolon = rest.find(';');
        const std::string_view part = trimmed(rest.substr(0, semicolon));
        rest = semicolon == std::string_view::npos ? "" : rest.substr(semicolon + 1);
        const std::size_t equals = part.find('=');
        if (equals == std::string_view::npos) {
            return false;
        }
        const std::string_view name = part.substr(0, equals);
        const std::string_view text = part.substr(equals + 1);
        std::uint64_t epoch = 0;
        if (name == "sequence" && !has_sequence) {
            has_sequence = read_number(text, 1, sequence_max, out.sequence);
            if (!has_sequence) {
                return false;
            }
        } else if (name == "epoch" && !has_epoch && read_number(text, 0, epoch_max, epoch)) {
            has_epoch = true;
            out.epoch = static_cast<std::uint32_t>(epoch);
        } else {
            return false;
        }
    }
    return has_sequence;
}

std::uint64_t mixed(std::uint64_t x) noexcept {
    x = (x ^ x >> 30) * 0xbf58'476d'1ce4'e5b9;
    x = (x ^ x >> 27) * 0x94d0'49bb'1331'11eb;
    return x ^ x >> 31;
}

}  // namespace

std::expected<PutProducer, ApiError> parse_producer_header(std::string_view text) {
    const std::size_t semicolon = text.find(';');
    const std::string_view name = trimmed(text.substr(0, semicolon));
    PutProducer producer;
    if (!is_name(name) || semicolon == std::string_view::npos ||
        !read_parts(text.substr(semicolon + 1), producer)) {
        return std::unexpected(invalid_argument(
            "Invalid header x-penstock-producer. Expected NAME; sequence=N or NAME; sequence=N; "
            "epoch=N, with 1 to 128 letters, digits and . _ : - in NAME, a sequence from 1 to "
            "9223372036854775807 and an epoch from 0 to 4294967295. Found " +
            std::string(text.substr(0, 2 * name_length_max))));
    }
    producer.producer =
        partition_hash({reinterpret_cast<const std::byte*>(name.data()), name.size()}).high;
    return producer;
}

Hash128 spread_of(const ProducerMark& mark) noexcept {
    const std::uint64_t high =
        mixed(mixed(mark.producer ^ mark.epoch) ^ (mixed(mark.batch) + mark.offset_in_batch));
    return {mixed(high + 0x9e37'79b9'7f4a'7c15), mixed(high)};
}

}  // namespace penstock::kinesis
