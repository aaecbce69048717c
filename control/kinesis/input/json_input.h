// Reads the members of a JSON 1.1 request body, one by one; what InputValue does for JSON.
//
// Runs on: one control thread per reader.
// Allocates: from the request's arena, only for what cannot be viewed in the body.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "control/kinesis/api_error.h"
#include "control/kinesis/input/arena.h"
#include "storage/base/bytes.h"

namespace penstock::kinesis {

class InputValue;
using InputMember = std::function<void(std::string_view key, InputValue value)>;
using InputItem = std::function<void(std::optional<InputValue> value)>;

// Thrown while a body is read and caught where reading began (read_body).
struct InputFault {
    ApiError error;
};
[[noreturn]] void input_fault(std::string message);
// Kinesis' words for a value of the wrong kind; `found` is a Java class, or "null".
[[noreturn]] void cannot_convert(std::string_view found, std::string_view article_and_type);
inline constexpr std::string_view list_found = "Start of list found where not expected";
inline constexpr std::string_view structure_found =
    "Start of structure or map found where not expected.";
// The nearest whole number below.
[[nodiscard]] std::int64_t saturate(double number) noexcept;

class JsonItem {
public:
    JsonItem() = default;
    JsonItem(simdjson::ondemand::value value, Arena& arena) : value_(value), arena_(&arena) {}

    // All throw InputFault, or simdjson's error for broken JSON.
    [[nodiscard]] std::string_view text();
    [[nodiscard]] std::int64_t integer();
    [[nodiscard]] bool boolean();
    [[nodiscard]] std::int64_t timestamp_ms();  // seconds since 1970, with a fraction
    [[nodiscard]] Bytes blob();                 // base64, decoded into the arena
    void structure(const InputMember& member);
    void map(const InputMember& member);
    void list(const InputItem& item);

private:
    [[noreturn]] void refuse(std::string_view article_and_type);
    void object(const InputMember& member);
    [[nodiscard]] std::string_view raw_text();

    simdjson::ondemand::value value_;
    Arena* arena_ = nullptr;
};

// Throws what read_body() catches.
void read_json_text(simdjson::ondemand::parser& parser, Arena& arena, std::string_view padded_body,
                    const InputMember& member);

}  // namespace penstock::kinesis
