// Reads the members of a JSON 1.1 request body, one by one, with Kinesis' own words for what does
// not fit.
//
// Runs on: one control thread per reader.
// Allocates: from the request's arena, only for what cannot be viewed in the body.
// Guarantees: texts are views into the body or the arena and stay good while both do. `null` is the
// same as absent. Unknown members are skipped.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "control/kinesis/api_error.h"
#include "control/kinesis/arena.h"
#include "storage/base/bytes.h"

namespace penstock::kinesis {

// Thrown while a body is read and caught where reading began (JsonInput::read).
struct InputFault {
    ApiError error;
};

class JsonValue {
public:
    JsonValue(simdjson::ondemand::value value, Arena& arena) : value_(value), arena_(arena) {}

    // All throw InputFault, or simdjson's error for broken JSON.
    [[nodiscard]] std::string_view text();
    [[nodiscard]] std::int64_t integer();
    [[nodiscard]] bool boolean();
    [[nodiscard]] std::int64_t timestamp_ms();  // seconds since 1970, with a fraction
    [[nodiscard]] Bytes blob();                 // base64, decoded into the arena
    using Member = std::function<void(std::string_view key, JsonValue value)>;
    void structure(const Member& member);
    void map(const Member& member);
    void list(const std::function<void(std::optional<JsonValue>)>& item);

private:
    [[noreturn]] void refuse(std::string_view article_and_type);
    void object(const Member& member);
    [[nodiscard]] std::string_view raw_text();

    simdjson::ondemand::value value_;
    Arena& arena_;
};

// Reads a whole body, which must be followed by SIMDJSON_PADDING readable bytes (http::HttpRequest
// gives them). Nothing when all went well.
[[nodiscard]] std::optional<ApiError> read_json(simdjson::ondemand::parser& parser, Arena& arena,
                                                std::string_view padded_body,
                                                const JsonValue::Member& member);

}  // namespace penstock::kinesis
