#include "control/rest/members.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>

#include "control/kinesis/input/base64.h"
#include "control/kinesis/reply/reply_writer.h"
#include "storage/base/bytes.h"

namespace penstock::rest {

namespace {

using Failure = std::unexpected<std::string>;

// Members of a record that reading gives and putting has no use for: what was read can be put
// again.
constexpr std::array<std::string_view, 3> passed_over{
    "sequence_number", "approximate_arrival_timestamp", "encryption_type"};

std::string json_text(std::string_view text) {
    std::string json;
    kinesis::append_json_string(json, text);
    return json;
}

// Somebody's text in a line for people.
std::string shown(std::string_view text) {
    std::string out = "'";
    for (const char c : text.substr(0, 60)) {
        out.push_back(static_cast<unsigned char>(c) < ' ' ? '?' : c);
    }
    return out + (text.size() > 60 ? "...'" : "'");
}

std::string encoded(std::string_view bytes) {
    std::string text = "\"";
    kinesis::base64_append(text, as_bytes(bytes));
    text.push_back('"');
    return text;
}

std::string names_of(std::span<const Field> fields) {
    std::string names;
    for (const Field& field : fields) {
        names += (names.empty() ? "" : ", ") + std::string(field.name);
    }
    return names.empty() ? "none" : names;
}

const Field* find_field(std::span<const Field> fields, std::string_view name) noexcept {
    const auto it =
        std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == name; });
    return it == fields.end() ? nullptr : &*it;
}

bool is_number(std::string_view text) noexcept {
    const bool negative = text.starts_with('-');
    text.remove_prefix(negative ? 1 : 0);
    return !text.empty() && text.size() <= 18 && (text.size() == 1 || text.front() != '0') &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

constexpr std::string_view name_of(Kind kind) noexcept {
    switch (kind) {
        case Kind::integer:
            return "a whole number";
        case Kind::boolean:
            return "true or false";
        case Kind::time:
            return "a time such as 2026-01-31T12:00:00Z, or seconds since 1970";
        case Kind::object:
            return "an object of texts";
        case Kind::list:
            return "a list";
        default:
            return "a text";
    }
}

bool is_of_kind(simdjson::dom::element value, Kind kind) noexcept {
    switch (kind) {
        case Kind::integer:
            return value.is_int64();
        case Kind::boolean:
            return value.is_bool();
        case Kind::object:
            return value.is_object();
        case Kind::list:
            return value.is_array();
        default:
            return value.is_string();
    }
}

// Digits at the start of `text`, exactly `count` of them.
std::optional<int> take_digits(std::string_view& text, std::size_t count) {
    int number = 0;
    if (text.size() < count) {
        return std::nullopt;
    }
    const auto [end, fault] = std::from_chars(text.data(), text.data() + count, number);
    if (fault != std::errc() || end != text.data() + count || text.front() == '-') {
        return std::nullopt;
    }
    text.remove_prefix(count);
    return number;
}

bool take(std::string_view& text, char c) noexcept {
    if (!text.starts_with(c)) {
        return false;
    }
    text.remove_prefix(1);
    return true;
}

// Up to three digits behind a point count, as milliseconds; more are cut off.
std::optional<int> take_fraction_ms(std::string_view& text) {
    if (!take(text, '.')) {
        return 0;
    }
    int ms = 0;
    int unit = 100;
    std::size_t digits = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
        ms += (text[digits] - '0') * unit;
        unit /= 10;
    }
    text.remove_prefix(digits);
    return digits == 0 ? std::nullopt : std::optional(ms);
}

// "Z" or "+01:00", in minutes.
std::optional<int> take_offset(std::string_view& text) {
    if (take(text, 'Z') || take(text, 'z')) {
        return 0;
    }
    const bool west = text.starts_with('-');
    if (!take(text, '+') && !take(text, '-')) {
        return std::nullopt;
    }
    const auto hours = take_digits(text, 2);
    const auto minutes = hours && take(text, ':') ? take_digits(text, 2) : std::nullopt;
    if (!minutes || *hours > 23 || *minutes > 59) {
        return std::nullopt;
    }
    const int offset = *hours * 60 + *minutes;
    return west ? -offset : offset;
}

std::optional<std::int64_t> parse_seconds_ms(std::string_view text) {
    double seconds = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    constexpr double furthest = 1e11;  // some thousand years on
    if (fault != std::errc() || end != text.data() + text.size() || !(seconds >= 0) ||
        seconds > furthest) {
        return std::nullopt;
    }
    return static_cast<std::int64_t>(seconds * 1000 + 0.5);
}

// The bytes that a record's `data` stands for.
std::string data_of(simdjson::dom::element value) {
    std::string_view text;
    if (value.get(text) == simdjson::SUCCESS) {
        return std::string(text);
    }
    return simdjson::minify(value);
}

// One member of a listed record as one of PutRecords'; empty for what is passed over.
Read<std::string> read_entry_member(std::string_view key, simdjson::dom::element value) {
    std::string_view text;
    const bool is_text = value.get(text) == simdjson::SUCCESS;
    if (key == "data") {
        return "\"Data\":" + encoded(data_of(value));
    }
    if (key == "data_base64" && is_text) {
        return "\"Data\":" + json_text(text);
    }
    if (key == "partition_key" && is_text) {
        return "\"PartitionKey\":" + json_text(text);
    }
    if (key == "explicit_hash_key" && is_text) {
        return "\"ExplicitHashKey\":" + json_text(text);
    }
    if (std::find(passed_over.begin(), passed_over.end(), key) != passed_over.end()) {
        return std::string();
    }
    return Failure("found " + shown(key) + (is_text ? "" : ", which is no text") +
                   "; expected data or data_base64, partition_key, explicit_hash_key");
}

Read<std::string> read_entry(simdjson::dom::element item) {
    simdjson::dom::object object;
    if (item.get(object) != simdjson::SUCCESS) {
        return Failure("expected an object with data and partition_key");
    }
    std::string entry;
    bool has_data = false;
    for (const auto& [key, value] : object) {
        auto member = read_entry_member(key, value);
        if (!member) {
            return member;
        }
        if (member->starts_with("\"Data\"")) {
            if (has_data) {
                return Failure("expected one of data and data_base64, found both");
            }
            has_data = true;
        }
        if (!member->empty()) {
            entry += (entry.empty() ? "" : ",") + *member;
        }
    }
    return "{" + entry + "}";
}

// One more than PutRecords takes is enough to be refused: more are not read, so that a body of
// nothing but short lines takes no memory for each.
constexpr std::size_t records_read_max = 501;

// The same placing for every record.
std::string placed(const Placing& placing) {
    std::string members;
    if (placing.partition_key) {
        members += ",\"PartitionKey\":" + json_text(*placing.partition_key);
    }
    if (placing.explicit_hash_key) {
        members += ",\"ExplicitHashKey\":" + json_text(*placing.explicit_hash_key);
    }
    return members;
}

}  // namespace

void Members::add_text(std::string_view member, std::string_view text) {
    add(member, json_text(text));
}

std::string Members::json() const {
    std::string out = "{";
    std::vector<std::string_view> written;
    const auto key = [&out](std::string_view name) {
        out += out.back() == '{' ? "\"" : ",\"";
        out += name;
        out += "\":";
    };
    for (const auto& [member, value] : all_) {
        const std::size_t dot = member.find('.');
        if (dot == std::string_view::npos) {
            key(member);
            out += value;
            continue;
        }
        const std::string_view structure = member.substr(0, dot + 1);
        if (std::find(written.begin(), written.end(), structure) != written.end()) {
            continue;
        }
        written.push_back(structure);
        key(member.substr(0, dot));
        out.push_back('{');
        for (const auto& [other, inner] : all_) {
            if (other.starts_with(structure)) {
                key(other.substr(dot + 1));
                out += inner;
            }
        }
        out.push_back('}');
    }
    out.push_back('}');
    return out;
}

Read<std::string> to_json(const Field& field, std::string_view text) {
    const auto misfit = [&] {
        return Failure(std::string(field.name) + ": expected " + std::string(name_of(field.kind)) +
                       ", found " + shown(text));
    };
    switch (field.kind) {
        case Kind::integer:
            return is_number(text) ? Read<std::string>(std::string(text)) : misfit();
        case Kind::boolean:
            return text == "true" || text == "false" ? Read<std::string>(std::string(text))
                                                     : misfit();
        case Kind::time: {
            const auto at_ms = parse_time_ms(text);
            if (!at_ms) {
                return misfit();
            }
            std::string seconds;
            kinesis::append_json_seconds(seconds, *at_ms);
            return seconds;
        }
        default:
            if (!simdjson::validate_utf8(text.data(), text.size())) {
                return Failure(std::string(field.name) + ": expected UTF-8");
            }
            return json_text(text);
    }
}

Read<void> read_parameters(const Route& route, const http::Texts& query, Members& members) {
    for (const auto& [name, text] : query) {
        const Field* field = find_field(route.query, name);
        if (field == nullptr) {
            return Failure("the query: found " + shown(name) + "; " + std::string(route.method) +
                           " " + std::string(route.path) + " takes " + names_of(route.query));
        }
        auto json = to_json(*field, text);
        if (!json) {
            return Failure(std::move(json.error()));
        }
        if (!field->member.empty()) {
            members.add(field->member, std::move(*json));
        }
    }
    return {};
}

Read<void> read_body(const Route& route, std::string_view body, Members& members) {
    if (route.body.empty()) {
        return body.empty() ? Read<void>()
                            : Failure("the body: " + std::string(route.method) + " " +
                                      std::string(route.path) + " takes none");
    }
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    if (parser.parse(body.data(), body.size()).get(object) != simdjson::SUCCESS) {
        return Failure("the body: expected a JSON object of " + names_of(route.body));
    }
    for (const auto& [name, value] : object) {
        const Field* field = find_field(route.body, name);
        if (field == nullptr) {
            return Failure("the body: found " + shown(name) + "; expected " + names_of(route.body));
        }
        if (!is_of_kind(value, field->kind)) {
            return Failure(std::string(name) + ": expected " + std::string(name_of(field->kind)));
        }
        members.add(field->member, simdjson::minify(value));
    }
    for (const Field& field : route.body) {
        if (field.is_required && object.at_key(field.name).error() != simdjson::SUCCESS) {
            return Failure("the body: " + std::string(field.name) + " is missing; expected " +
                           std::string(name_of(field.kind)));
        }
    }
    return {};
}

Read<std::string> one_record(std::string_view body, const Placing& placing) {
    return "\"Data\":" + encoded(body) + placed(placing);
}

Read<std::string> listed_records(std::string_view body) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    simdjson::dom::array list;
    if (parser.parse(body.data(), body.size()).get(object) != simdjson::SUCCESS ||
        object.size() != 1 || object.at_key("records").get(list) != simdjson::SUCCESS) {
        return Failure(
            "the body: expected {\"records\":[{\"data\":…,\"partition_key\":…}]}; to put the body "
            "itself, give partition_key in the query");
    }
    std::string entries;
    std::size_t index = 0;
    for (const simdjson::dom::element item : list) {
        auto entry = read_entry(item);
        if (!entry) {
            return Failure("records[" + std::to_string(index) + "]: " + entry.error());
        }
        entries += (index == 0 ? "" : ",") + *entry;
        if (++index == records_read_max) {
            break;
        }
    }
    return entries;
}

Read<std::string> lines_of_records(std::string_view body, const Placing& placing) {
    simdjson::dom::parser parser;
    std::string entries;
    std::size_t count = 0;
    for (std::size_t number = 1; !body.empty() && count < records_read_max; ++number) {
        const std::size_t end = std::min(body.find('\n'), body.size());
        std::string_view line = body.substr(0, end);
        body.remove_prefix(std::min(end + 1, body.size()));
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        if (line.empty()) {
            continue;
        }
        Read<std::string> entry;
        simdjson::dom::element item;
        if (placing.partition_key) {
            entry = "{\"Data\":" + encoded(line) + placed(placing) + "}";
        } else if (parser.parse(line.data(), line.size()).get(item) != simdjson::SUCCESS) {
            entry = Failure("expected a JSON object with data and partition_key");
        } else {
            entry = read_entry(item);
        }
        if (!entry) {
            return Failure("line " + std::to_string(number) + ": " + entry.error());
        }
        entries += (entries.empty() ? "" : ",") + *entry;
        ++count;
    }
    return entries;
}

std::optional<std::int64_t> parse_time_ms(std::string_view text) {
    std::string_view rest = text;
    const auto year = take_digits(rest, 4);
    if (!year || !take(rest, '-')) {
        return parse_seconds_ms(text);
    }
    const auto month = take_digits(rest, 2);
    const auto day = month && take(rest, '-') ? take_digits(rest, 2) : std::nullopt;
    if (!day || (!take(rest, 'T') && !take(rest, 't') && !take(rest, ' '))) {
        return std::nullopt;
    }
    const auto hour = take_digits(rest, 2);
    const auto minute = hour && take(rest, ':') ? take_digits(rest, 2) : std::nullopt;
    const auto second = minute && take(rest, ':') ? take_digits(rest, 2) : std::nullopt;
    const auto ms = second ? take_fraction_ms(rest) : std::nullopt;
    const auto offset = ms ? take_offset(rest) : std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year(*year),
                                           std::chrono::month(static_cast<unsigned>(*month)),
                                           std::chrono::day(static_cast<unsigned>(*day))};
    if (!offset || !rest.empty() || !date.ok() || *hour > 23 || *minute > 59 || *second > 60) {
        return std::nullopt;
    }
    const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    const std::int64_t minutes = (days * 24 + *hour) * 60 + *minute - *offset;
    const std::int64_t at_ms = (minutes * 60 + *second) * 1000 + *ms;
    return at_ms < 0 ? std::nullopt : std::optional(at_ms);
}

std::string format_time_ms(std::int64_t wall_ms) {
    using namespace std::chrono;
    const sys_time<milliseconds> at{milliseconds(wall_ms)};
    const auto day = floor<days>(at);
    const year_month_day date(day);
    const hh_mm_ss time(at - day);
    char text[64];
    const int size = std::snprintf(
        text, sizeof(text), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
        static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
        static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
        static_cast<int>(time.seconds().count()), static_cast<int>(time.subseconds().count()));
    return {text, static_cast<std::size_t>(size)};
}

std::string iterator_for_link(std::string_view iterator) {
    std::string text;
    for (const char c : iterator) {
        if (c != '=') {
            text.push_back(c == '+' ? '-' : c == '/' ? '_' : c);
        }
    }
    return text;
}

std::string iterator_from_link(std::string_view text) {
    std::string iterator;
    for (const char c : text) {
        iterator.push_back(c == '-' ? '+' : c == '_' ? '/' : c);
    }
    while (iterator.size() % 4 != 0) {
        iterator.push_back('=');
    }
    return iterator;
}

}  // namespace penstock::rest
