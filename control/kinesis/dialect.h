// The encodings of requests and answers: JSON 1.1 and CBOR 1.1. An answer has its request's.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock::kinesis {

enum class Dialect : std::uint8_t { json, cbor };

inline constexpr std::string_view json_content_type = "application/x-amz-json-1.1";
inline constexpr std::string_view cbor_content_type = "application/x-amz-cbor-1.1";

[[nodiscard]] constexpr std::string_view content_type_of(Dialect dialect) noexcept {
    return dialect == Dialect::cbor ? cbor_content_type : json_content_type;
}

// A request's body and what it is written in.
struct EncodedBody {
    // Text alone is JSON.
    EncodedBody(std::string_view body, Dialect body_dialect = Dialect::json)  // NOLINT: implicit
        : text(body), dialect(body_dialect) {}
    std::string_view text;
    Dialect dialect;
};

}  // namespace penstock::kinesis
