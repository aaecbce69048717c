#include "control/kinesis/json_input.h"

#include <cmath>
#include <string>

#include "control/kinesis/base64.h"

namespace penstock::kinesis {

namespace {

using simdjson::ondemand::json_type;

[[noreturn]] void fault(std::string message) {
    throw InputFault{serialization_error(std::move(message))};
}

constexpr std::string_view list_found = "Start of list found where not expected";
constexpr std::string_view structure_found = "Start of structure or map found where not expected.";

std::int64_t saturate(double number) {
    if (number >= 9.2e18) {
        return INT64_MAX;
    }
    if (number <= -9.2e18) {
        return INT64_MIN;
    }
    return static_cast<std::int64_t>(std::floor(number));
}

}  // namespace

void JsonValue::refuse(std::string_view article_and_type) {
    std::string found;
    switch (value_.type().value()) {
        case json_type::array:
            fault(std::string(list_found));
        case json_type::object:
            fault(std::string(structure_found));
        case json_type::boolean:
            found = "class java.lang.Boolean";
            break;
        case json_type::number:
            found = "class java.math.BigDecimal";
            break;
        case json_type::string:
            found = "class java.lang.String";
            break;
        case json_type::null:
            found = "null";
            break;
    }
    fault(found + " can not be converted to " + std::string(article_and_type));
}

// What stands between the quotes, escapes and all.
std::string_view JsonValue::raw_text() {
    std::string_view token = value_.raw_json_token();
    const std::size_t end = token.find_last_of('"');
    if (end == 0 || end == std::string_view::npos) {
        fault("");
    }
    return token.substr(1, end - 1);
}

std::string_view JsonValue::text() {
    if (value_.type().value() != json_type::string) {
        refuse("an String");
    }
    const std::string_view raw = raw_text();
    if (raw.find('\\') == std::string_view::npos) [[likely]] {
        return raw;
    }
    // The parser's own buffer is used again by the next request.
    return arena_.copy(value_.get_string().value());
}

std::int64_t JsonValue::integer() {
    if (value_.type().value() != json_type::number) {
        refuse("an Integer");
    }
    std::int64_t number = 0;
    if (value_.get_int64().get(number) == simdjson::SUCCESS) {
        return number;
    }
    return saturate(value_.get_double().value());
}

bool JsonValue::boolean() {
    if (value_.type().value() == json_type::string) {
        std::string upper(text());
        for (char& c : upper) {
            c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
        }
        fault("'" + upper + "' can not be converted to an Boolean");
    }
    if (value_.type().value() != json_type::boolean) {
        refuse("an Boolean");
    }
    return value_.get_bool().value();
}

std::int64_t JsonValue::timestamp_ms() {
    if (value_.type().value() != json_type::number) {
        refuse("a Timestamp");
    }
    // Rounded: 1.001 is no double, and must not become a millisecond less.
    return saturate(value_.get_double().value() * 1000 + 0.5);
}

Bytes JsonValue::blob() {
    if (value_.type().value() != json_type::string) {
        if (value_.type().value() == json_type::boolean ||
            value_.type().value() == json_type::number) {
            refuse("a Blob");
        }
        refuse("");
    }
    std::string_view encoded = raw_text();
    if (encoded.find('\\') != std::string_view::npos) [[unlikely]] {
        encoded = text();  // some clients write / as \/
    }
    const std::size_t room = base64_decoded_size_max(encoded.size()) + base64_decode_slack;
    std::byte* out = arena_.take(room);
    const auto size = base64_decode(encoded, out);
    if (size) [[likely]] {
        arena_.give_back(room - *size);
        return {out, *size};
    }
    const std::string start = "'" + std::string(encoded) + "' can not be converted to a Blob: ";
    switch (size.error().kind) {
        case Base64Fault::Kind::length:
            fault(start + "Base64 encoded length is expected a multiple of 4 bytes but found: " +
                  std::to_string(encoded.size()));
        case Base64Fault::Kind::character:
            fault(start + "Invalid Base64 character: '" + encoded[size.error().offset] + "'");
        case Base64Fault::Kind::trailing_bits:
            break;
    }
    // The spelling is Kinesis' own.
    fault(start + "Invalid last non-pad Base64 character dectected");
}

void JsonValue::object(const Member& member) {
    for (auto field : value_.get_object()) {
        const std::string_view key = field.unescaped_key().value();
        simdjson::ondemand::value value = field.value().value();
        if (!value.is_null().value()) {
            member(key, JsonValue(value, arena_));
        }
    }
}

void JsonValue::structure(const Member& member) {
    switch (value_.type().value()) {
        case json_type::object:
            return object(member);
        case json_type::array:
            fault(std::string(list_found));
        default:
            fault("Expected null");
    }
}

void JsonValue::map(const Member& member) {
    switch (value_.type().value()) {
        case json_type::object:
            return object(member);
        case json_type::array:
            fault(std::string(list_found));
        default:
            fault("Expected map or null");
    }
}

void JsonValue::list(const std::function<void(std::optional<JsonValue>)>& item) {
    switch (value_.type().value()) {
        case json_type::array:
            break;
        case json_type::object:
            fault(std::string(structure_found));
        default:
            fault("Expected list or null");
    }
    for (auto element : value_.get_array()) {
        simdjson::ondemand::value value = element.value();
        if (value.is_null().value()) {
            item(std::nullopt);
        } else {
            item(JsonValue(value, arena_));
        }
    }
}

std::optional<ApiError> read_json(simdjson::ondemand::parser& parser, Arena& arena,
                                  std::string_view padded_body, const JsonValue::Member& member) {
    try {
        simdjson::ondemand::document document =
            parser.iterate(padded_body.data(), padded_body.size(),
                           padded_body.size() + simdjson::SIMDJSON_PADDING);
        if (document.type().value() != json_type::object) {
            return serialization_error("");
        }
        simdjson::ondemand::value root = document.get_value().value();
        JsonValue(root, arena).structure(member);
        // There is a location as long as something follows.
        if (document.current_location().error() == simdjson::SUCCESS) {
            return serialization_error("");
        }
    } catch (const InputFault& found) {
        return found.error;
    } catch (const simdjson::simdjson_error&) {
        return serialization_error("");
    }
    return std::nullopt;
}

}  // namespace penstock::kinesis
