// Base64 (RFC 4648 §4, with padding) with AVX2 where the machine has it.
//
// Guarantees: decoding accepts exactly what encoding produces: no line breaks, no missing padding,
// no bits set behind the last byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "storage/base/bytes.h"

namespace penstock::kinesis {

[[nodiscard]] constexpr std::size_t base64_encoded_size(std::size_t bytes) noexcept {
    return (bytes + 2) / 3 * 4;
}
// Upper bound of what `characters` decode to; decoders may write this many bytes plus
// base64_decode_slack.
[[nodiscard]] constexpr std::size_t base64_decoded_size_max(std::size_t characters) noexcept {
    return (characters + 3) / 4 * 3;
}
inline constexpr std::size_t base64_decode_slack = 32;

struct Base64Fault {
    enum class Kind : std::uint8_t { length, character, trailing_bits };
    Kind kind = Kind::length;
    std::size_t offset = 0;  // of the character that is wrong
};

// Writes base64_encoded_size(bytes.size()) characters.
void base64_encode(Bytes bytes, char* out) noexcept;
void base64_append(std::string& out, Bytes bytes);
// Returns the number of bytes written to `out`, which has room for
// base64_decoded_size_max(text.size()) + base64_decode_slack.
[[nodiscard]] std::expected<std::size_t, Base64Fault> base64_decode(std::string_view text,
                                                                    std::byte* out) noexcept;

// The implementations behind the above, for tests and benchmarks.
namespace detail {
[[nodiscard]] bool has_avx2() noexcept;
void encode_scalar(Bytes bytes, char* out) noexcept;
[[nodiscard]] std::expected<std::size_t, Base64Fault> decode_scalar(std::string_view text,
                                                                    std::byte* out) noexcept;
void encode_avx2(Bytes bytes, char* out) noexcept;
[[nodiscard]] std::expected<std::size_t, Base64Fault> decode_avx2(std::string_view text,
                                                                  std::byte* out) noexcept;
}  // namespace detail

}  // namespace penstock::kinesis
