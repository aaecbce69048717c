#include "control/kinesis/input/json_input.h"

#include <cmath>
#include <string>

#include "control/kinesis/input/base64.h"
#include "control/kinesis/input/input_value.h"

namespace penstock::kinesis {

namespace {

using simdjson::ondemand::json_type;

}  // namespace

void input_fault(std::string message) {
    throw InputFault{serialization_error(std::move(message))};
}

void cannot_convert(std::string_view found, std::string_view article_and_type) {
    input_fault(std::string(found) + " can not be converted to " + std::string(article_and_type));
}

std::int64_t saturate(double number) noexcept {
    if (number >= 9.2e18) {
        return INT64_MAX;
    }
    if (number <= -9.2e18) {
        return INT64_MIN;
    }
    return std::isnan(number) ? 0 : static_cast<std::int64_t>(std::floor(number));
}

void JsonItem::refuse(std::string_view article_and_type) {
    std::string_view found;
    switch (value_.type().value()) {
        case json_type::array:
            input_fault(std::string(list_found));
        case json_type::object:
            input_fault(std::string(structure_found));
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
    cannot_convert(found, article_and_type);
}

// What stands between the quotes, escapes and all.
std::string_view JsonItem::raw_text() {
    std::string_view token = value_.raw_json_token();
    const std::size_t end = token.find_last_of('"');
    if (end == 0 || end == std::string_view::npos) {
        input_fault("");
    }
    return token.substr(1, end - 1);
}

std::string_view JsonItem::text() {
    if (value_.type().value() != json_type::string) {
        refuse("an String");
    }
    const std::string_view raw = raw_text();
    if (raw.find('\\') == std::string_view::npos) [[likely]] {
        return raw;
    }
    // The parser's own buffer is used again by the next request.
    return arena_->copy(value_.get_string().value());
}

std::int64_t JsonItem::integer() {
    if (value_.type().value() != json_type::number) {
        refuse("an Integer");
    }
    std::int64_t number = 0;
    if (value_.get_int64().get(number) == simdjson::SUCCESS) {
        return number;
    }
    return saturate(value_.get_double().value());
}

bool JsonItem::boolean() {
    if (value_.type().value() == json_type::string) {
        std::string upper(text());
        for (char& c : upper) {
            c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
        }
        input_fault("'" + upper + "' can not be converted to an Boolean");
    }
    if (value_.type().value() != json_type::boolean) {
        refuse("an Boolean");
    }
    return value_.get_bool().value();
}

std::int64_t JsonItem::timestamp_ms() {
    if (value_.type().value() != json_type::number) {
        refuse("a Timestamp");
    }
    // Rounded: 1.001 is no double, and must not become a millisecond less.
    return saturate(value_.get_double().value() * 1000 + 0.5);
}

Bytes JsonItem::blob() {
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
    std::byte* out = arena_->take(room);
    const auto size = base64_decode(encoded, out);
    if (size) [[likely]] {
        arena_->give_back(room - *size);
        return {out, *size};
    }
    const std::string start = "'" + std::string(encoded) + "' can not be converted to a Blob: ";
    switch (size.error().kind) {
        case Base64Fault::Kind::length:
            input_fault(start +
                        "Base64 encoded length is expected a multiple of 4 bytes but found: " +
                        std::to_string(encoded.size()));
        case Base64Fault::Kind::character:
            input_fault(start + "Invalid Base64 character: '" + encoded[size.error().offset] + "'");
        case Base64Fault::Kind::trailing_bits:
            break;
    }
    // The spelling is Kinesis' own.
    input_fault(start + "Invalid last non-pad Base64 character dectected");
}

void JsonItem::object(const InputMember& member) {
    for (auto field : value_.get_object()) {
        const std::string_view key = field.unescaped_key().value();
        simdjson::ondemand::value value = field.value().value();
        if (!value.is_null().value()) {
            member(key, InputValue(JsonItem(value, *arena_)));
        }
    }
}

void JsonItem::structure(const InputMember& member) {
    switch (value_.type().value()) {
        case json_type::object:
            return object(member);
        case json_type::array:
            input_fault(std::string(list_found));
        default:
            input_fault("Expected null");
    }
}

void JsonItem::map(const InputMember& member) {
    switch (value_.type().value()) {
        case json_type::object:
            return object(member);
        case json_type::array:
            input_fault(std::string(list_found));
        default:
            input_fault("Expected map or null");
    }
}

void JsonItem::list(const InputItem& item) {
    switch (value_.type().value()) {
        case json_type::array:
            break;
        case json_type::object:
            input_fault(std::string(structure_found));
        default:
            input_fault("Expected list or null");
    }
    for (auto element : value_.get_array()) {
        simdjson::ondemand::value value = element.value();
        if (value.is_null().value()) {
            item(std::nullopt);
        } else {
            item(InputValue(JsonItem(value, *arena_)));
        }
    }
}

void read_json_text(simdjson::ondemand::parser& parser, Arena& arena, std::string_view padded_body,
                    const InputMember& member) {
    simdjson::ondemand::document document = parser.iterate(
        padded_body.data(), padded_body.size(), padded_body.size() + simdjson::SIMDJSON_PADDING);
    if (document.type().value() != json_type::object) {
        input_fault("");
    }
    simdjson::ondemand::value root = document.get_value().value();
    JsonItem(root, arena).structure(member);
    // There is a location as long as something follows.
    if (document.current_location().error() == simdjson::SUCCESS) {
        input_fault("");
    }
}

}  // namespace penstock::kinesis
