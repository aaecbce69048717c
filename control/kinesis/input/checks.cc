#include "control/kinesis/input/checks.h"

#include <algorithm>

namespace penstock::kinesis {

namespace {

bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}
bool is_lower_or_digit(char c) noexcept {
    return (c >= 'a' && c <= 'z') || is_digit(c);
}
bool is_name_character(char c) noexcept {
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';
}
bool is_space(char c) noexcept {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

std::string pattern_constraint(std::string_view pattern) {
    return "Member must satisfy regular expression pattern: " + std::string(pattern);
}

std::string enum_constraint(std::span<const std::string_view> names) {
    std::string constraint = "Member must satisfy enum value set: ";
    char before = '[';
    for (const std::string_view name : names) {
        constraint += before;
        constraint += before == '[' ? "" : " ";
        constraint += name;
        before = ',';
    }
    return constraint + "]";
}

std::string at_least(std::size_t length) {
    return "Member must have length greater than or equal to " + std::to_string(length);
}
std::string at_most(std::size_t length) {
    return "Member must have length less than or equal to " + std::to_string(length);
}
std::string between(std::size_t min, std::size_t max) {
    return "[" + at_most(max) + ", " + at_least(min) + "]";
}
bool is_between(std::string_view text, std::size_t min, std::size_t max) noexcept {
    return text.size() >= min && (text.size() <= max || count_characters(text) <= max);
}

}  // namespace

// arn:aws.*:kinesis:.*:\d{12}:stream/\S+ as a whole.
std::optional<StreamArn> parse_stream_arn(std::string_view text) noexcept {
    constexpr std::string_view before_region = ":kinesis:";
    constexpr std::string_view before_stream = ":stream/";
    constexpr std::size_t account_digits = 12;
    if (!text.starts_with("arn:aws")) {
        return std::nullopt;
    }
    const std::size_t service = text.find(before_region, 7);
    const std::size_t resource = text.rfind(before_stream);
    if (service == std::string_view::npos || resource == std::string_view::npos ||
        resource < service + before_region.size() + 1 + account_digits ||
        text[resource - account_digits - 1] != ':') {
        return std::nullopt;
    }
    const StreamArn arn{text.substr(resource - account_digits, account_digits),
                        text.substr(resource + before_stream.size())};
    const bool is_sound = std::all_of(arn.account.begin(), arn.account.end(), is_digit) &&
                          !arn.stream.empty() &&
                          std::none_of(arn.stream.begin(), arn.stream.end(), is_space);
    return is_sound ? std::optional(arn) : std::nullopt;
}

std::optional<ConsumerArn> parse_consumer_arn(std::string_view text) noexcept {
    constexpr std::string_view before_name = "/consumer/";
    const std::size_t name = text.find(before_name);
    const std::size_t second = text.rfind(':');
    if (name == std::string_view::npos || second < name + before_name.size()) {
        return std::nullopt;
    }
    const auto stream = parse_stream_arn(text.substr(0, name));
    if (!stream) {
        return std::nullopt;
    }
    const ConsumerArn arn{
        stream->account, stream->stream,
        text.substr(name + before_name.size(), second - name - before_name.size()),
        text.substr(second + 1)};
    const auto is_name = [](std::string_view part) {
        return !part.empty() && std::all_of(part.begin(), part.end(), is_name_character);
    };
    const bool is_sound = is_name(arn.stream) && is_name(arn.name) && !arn.created_s.empty() &&
                          std::all_of(arn.created_s.begin(), arn.created_s.end(), is_digit);
    return is_sound ? std::optional(arn) : std::nullopt;
}

std::size_t count_characters(std::string_view text) noexcept {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }));
}

void Checks::add(std::string_view member, OptionalText value, std::string_view constraint) {
    if (full()) {
        return;
    }
    text_ += count_++ == 0 ? "Value " : "; Value ";
    if (value) {
        text_ += "'";
        text_ += *value;
        text_ += "'";
    } else {
        text_ += "null";
    }
    text_ += " at '";
    text_ += member;
    text_ += "' failed to satisfy constraint: ";
    text_ += constraint;
}

void Checks::required(std::string_view member, bool is_present) {
    if (!is_present) {
        add(member, std::nullopt, "Member must not be null");
    }
}

void Checks::name(std::string_view member, OptionalText value) {
    if (value &&
        (value->empty() || !std::all_of(value->begin(), value->end(), is_name_character))) {
        add(member, value, pattern_constraint(name_pattern));
    }
    length(member, value, 1, 128);
}

void Checks::length(std::string_view member, OptionalText value, std::size_t min, std::size_t max) {
    if (!value || (value->size() >= min && value->size() <= max)) {
        return;  // no more characters than bytes; too few bytes are too few characters
    }
    const std::size_t count = count_characters(*value);
    if (count < min) {
        add(member, value, at_least(min));
    }
    if (count > max) {
        add(member, value, at_most(max));
    }
}

void Checks::integer(std::string_view member, OptionalInteger value, std::int64_t min,
                     std::int64_t max) {
    if (value && *value < min) {
        add(member, std::to_string(*value),
            "Member must have value greater than or equal to " + std::to_string(min));
    }
    if (value && *value > max) {
        add(member, std::to_string(*value),
            "Member must have value less than or equal to " + std::to_string(max));
    }
}

void Checks::choice(std::string_view member, OptionalText value,
                    std::span<const std::string_view> names) {
    if (value && std::find(names.begin(), names.end(), *value) == names.end()) {
        add(member, value, enum_constraint(names));
    }
}

void Checks::decimal(std::string_view member, OptionalText value, std::string_view pattern,
                     std::size_t digits_max) {
    if (!value) {
        return;
    }
    const bool is_decimal = !value->empty() && value->size() <= digits_max &&
                            (value->front() != '0' || value->size() == 1) &&
                            std::all_of(value->begin(), value->end(), is_digit);
    if (!is_decimal) {
        add(member, value, pattern_constraint(pattern));
    }
}

void Checks::stream_arn(std::string_view member, OptionalText value) {
    if (value && !parse_stream_arn(*value)) {
        add(member, value, pattern_constraint(arn_pattern));
    }
    length(member, value, 1, 2048);
}

void Checks::consumer_arn(std::string_view member, OptionalText value) {
    if (value && !parse_consumer_arn(*value)) {
        add(member, value, pattern_constraint(consumer_arn_pattern));
    }
    length(member, value, 1, 2048);
}

void Checks::resource_arn(std::string_view member, OptionalText value) {
    if (value && !parse_stream_arn(*value)) {
        add(member, value, pattern_constraint(resource_arn_pattern));
    }
    length(member, value, 1, 2048);
}

void Checks::tags(std::string_view member, const TextPairs& pairs) {
    constexpr std::size_t tags_max = 200;
    bool keys_are_sound = true;
    bool values_are_sound = true;
    // As Java shows a map.
    std::string shown = "{";
    for (const auto& [key, text] : pairs) {
        keys_are_sound = keys_are_sound && is_between(key, 1, 128);
        values_are_sound = values_are_sound && is_between(text, 0, 256);
        shown += shown.size() == 1 ? "" : ", ";
        shown += key;
        shown += '=';
        shown += text;
    }
    shown += '}';
    if (pairs.empty()) {
        add(member, shown, at_least(1));
    }
    if (pairs.size() > tags_max) {
        add(member, shown, at_most(tags_max));
    }
    if (!keys_are_sound) {
        add(member, shown, "Map keys must satisfy constraint: " + between(1, 128));
    }
    if (!values_are_sound) {
        add(member, shown, "Map value must satisfy constraint: " + between(0, 256));
    }
}

void Checks::texts(std::string_view member, const std::vector<std::string_view>& list,
                   std::size_t max, std::span<const std::string_view> names) {
    bool is_sound = true;
    std::string shown = "[";
    for (const std::string_view text : list) {
        is_sound = is_sound &&
                   (names.empty() ? is_between(text, 1, 128)
                                  : std::find(names.begin(), names.end(), text) != names.end());
        shown += shown.size() == 1 ? "" : ", ";
        shown += text;
    }
    shown += ']';
    if (list.empty()) {
        add(member, shown, at_least(1));
    }
    if (list.size() > max) {
        add(member, shown, at_most(max));
    }
    if (!is_sound) {
        add(member, shown,
            "Member must satisfy constraint: " +
                (names.empty() ? between(1, 128) : "[" + enum_constraint(names) + "]"));
    }
}

void Checks::stream_id(OptionalText value) {
    const auto is_good = [](std::string_view id) {
        return id.size() == 24 && id[20] == '-' &&
               std::all_of(id.begin(), id.begin() + 20, is_lower_or_digit) &&
               std::all_of(id.begin() + 21, id.end(), is_lower_or_digit);
    };
    if (value && !is_good(*value)) {
        add("streamId", value, pattern_constraint(stream_id_pattern));
    }
    length("streamId", value, 1, 24);
}

std::optional<ApiError> Checks::result() const {
    if (count_ == 0) {
        return std::nullopt;
    }
    return validation_error(std::to_string(count_) + " validation error" +
                            (count_ == 1 ? "" : "s") + " detected: " + text_);
}

}  // namespace penstock::kinesis
