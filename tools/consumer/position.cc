#include "tools/consumer/position.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>

namespace penstock::consumer {

namespace {

constexpr std::size_t sequence_digits_max = 128;

bool is_number(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// So many digits from the front.
bool take_digits(std::string_view& text, std::size_t count, int& out) {
    if (text.size() < count || !is_number(text.substr(0, count))) {
        return false;
    }
    (void)std::from_chars(text.data(), text.data() + count, out);
    text.remove_prefix(count);
    return true;
}

bool take_character(std::string_view& text, char c) {
    const bool is_there = text.starts_with(c);
    text.remove_prefix(is_there ? 1 : 0);
    return is_there;
}

// A fraction's first three digits; more are passed over.
bool take_fraction_ms(std::string_view& text, int& ms) {
    ms = 0;
    if (!text.starts_with('.')) {
        return true;
    }
    text.remove_prefix(1);
    int digits = 0;
    for (; !text.empty() && is_number(text.substr(0, 1)); text.remove_prefix(1), ++digits) {
        ms = digits < 3 ? ms * 10 + (text.front() - '0') : ms;
    }
    for (int i = digits; i < 3; ++i) {
        ms *= 10;
    }
    return digits != 0;
}

bool take_offset(std::string_view& text, int& minutes) {
    minutes = 0;
    if (take_character(text, 'Z')) {
        return true;
    }
    const int sign = text.starts_with('-') ? -1 : 1;
    int hour = 0;
    int minute = 0;
    if (!take_character(text, '+') && !take_character(text, '-')) {
        return false;
    }
    if (!take_digits(text, 2, hour)) {
        return false;
    }
    (void)take_character(text, ':');
    if (!take_digits(text, 2, minute) || hour > 23 || minute > 59) {
        return false;
    }
    minutes = sign * (hour * 60 + minute);
    return true;
}

}  // namespace

std::optional<std::int64_t> parse_time_ms(std::string_view text) {
    std::int64_t seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    int ms = 0;
    if (error == std::errc() && (end == text.data() + text.size() || *end == '.')) {
        constexpr std::int64_t seconds_max = 253'402'300'799;  // the year 9999
        std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
        if (seconds < 0 || seconds > seconds_max || !take_fraction_ms(rest, ms) || !rest.empty()) {
            return std::nullopt;
        }
        return seconds * 1000 + ms;
    }
    int year = 0;
    int month = 0;
    int day = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
    int offset = 0;
    if (!take_digits(text, 4, year) || !take_character(text, '-') || !take_digits(text, 2, month) ||
        !take_character(text, '-') || !take_digits(text, 2, day) ||
        !(take_character(text, 'T') || take_character(text, ' ')) || !take_digits(text, 2, hour) ||
        !take_character(text, ':') || !take_digits(text, 2, minute) || !take_character(text, ':') ||
        !take_digits(text, 2, second) || !take_fraction_ms(text, ms) ||
        !take_offset(text, offset) || !text.empty()) {
        return std::nullopt;
    }
    const std::chrono::year_month_day date{std::chrono::year(year),
                                           std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day))};
    if (!date.ok() || hour > 23 || minute > 59 || second > 60 || year < 1970) {
        return std::nullopt;
    }
    const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    return ((days * 24 + hour) * 60 + minute - offset) * 60'000 + second * 1000 + ms;
}

std::string time_text(std::int64_t ms) {
    const auto days = std::chrono::floor<std::chrono::days>(
        std::chrono::sys_time<std::chrono::milliseconds>(std::chrono::milliseconds(ms)));
    const std::chrono::year_month_day date(days);
    const auto of_day =
        ms - std::chrono::duration_cast<std::chrono::milliseconds>(days.time_since_epoch()).count();
    std::array<char, 48> text{};
    const int length =
        std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ",
                      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                      static_cast<unsigned>(date.day()), static_cast<int>(of_day / 3'600'000),
                      static_cast<int>(of_day / 60'000 % 60), static_cast<int>(of_day / 1000 % 60),
                      static_cast<int>(of_day % 1000));
    return {text.data(), static_cast<std::size_t>(length)};
}

std::optional<Position> parse_position(std::string_view text) {
    Position position;
    if (text == "trim-horizon") {
        return position;
    }
    if (text == "latest") {
        position.kind = PositionKind::newest;
        return position;
    }
    const std::size_t colon = text.find(':');
    const std::string_view kind = text.substr(0, colon);
    const std::string_view value =
        colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    if (kind == "time") {
        const auto ms = parse_time_ms(value);
        if (!ms) {
            return std::nullopt;
        }
        position.kind = PositionKind::at_time;
        position.time_ms = *ms;
        return position;
    }
    if ((kind == "at" || kind == "after") && is_number(value) &&
        value.size() <= sequence_digits_max) {
        position.kind = kind == "at" ? PositionKind::at_sequence : PositionKind::after_sequence;
        position.sequence = value;
        return position;
    }
    return std::nullopt;
}

}  // namespace penstock::consumer
