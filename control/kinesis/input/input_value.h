// One value of a request body, whatever the body is written in, with Kinesis' own words for what
// does not fit.
//
// Runs on: one control thread per body.
// Allocates: from the request's arena, only for what cannot be viewed in the body.
// Guarantees: texts and bytes are views into the body or the arena and stay good while both do.
// `null` is the same as absent. Unknown members are skipped.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "control/kinesis/dialect.h"
#include "control/kinesis/input/json_input.h"

namespace penstock::kinesis {

class CborReader;

class InputValue {
public:
    explicit InputValue(JsonItem item) : json_(item) {}
    explicit InputValue(CborReader& reader) : cbor_(&reader) {}

    // All throw InputFault, or simdjson's error for broken JSON.
    [[nodiscard]] std::string_view text();
    [[nodiscard]] std::int64_t integer();
    [[nodiscard]] bool boolean();
    // Milliseconds since 1970; JSON has seconds with a fraction, CBOR milliseconds under tag 1.
    [[nodiscard]] std::int64_t timestamp_ms();
    [[nodiscard]] Bytes blob();
    using Member = InputMember;
    using Item = InputItem;
    void structure(const Member& member);
    void map(const Member& member);
    void list(const Item& item);

private:
    JsonItem json_;
    CborReader* cbor_ = nullptr;
};

// Reads a whole body. One in JSON must be followed by SIMDJSON_PADDING readable bytes
// (http::HttpRequest gives them). Nothing when all went well.
[[nodiscard]] std::optional<ApiError> read_body(simdjson::ondemand::parser& parser, Arena& arena,
                                                const EncodedBody& body, const InputMember& member);

}  // namespace penstock::kinesis
