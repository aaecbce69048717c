// AWS Signature Version 4, the receiving side: what a request says of its signature, and what its
// signature must be.
//
// Both forms are read: the Authorization header, and the X-Amz-… parameters of a presigned URL. The
// canonical request is made from the headers as they were received; `:authority` is signed under
// that name by clients of HTTP/2.
//
// Runs on: one thread per object.
// Allocates: buffers that are kept from request to request.
// Guarantees: takes any bytes. Views into a claim are good until the next read() and as long as the
// request lives.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/auth/crypto.h"
#include "control/auth/refusal.h"
#include "control/http/message.h"

namespace penstock::auth {

// Clocks may differ by this much, either way.
inline constexpr std::int64_t skew_max_s = 5 * 60;
// Of a presigned URL, as AWS has it.
inline constexpr std::int64_t presigned_life_max_s = 7 * 24 * 3600;

// 20261123T084142Z
using BasicTime = std::array<char, 16>;
[[nodiscard]] BasicTime to_basic_time(std::int64_t wall_s) noexcept;
// Seconds since 1970; nothing for anything but a valid time in that form.
[[nodiscard]] std::optional<std::int64_t> from_basic_time(std::string_view text) noexcept;

// What a request says of its signature.
struct Claim {
    enum class Form : std::uint8_t { header, query };
    Form form = Form::header;
    std::string_view credential;  // KEY/20261123/us-east-1/kinesis/aws4_request
    std::string_view key_id;
    std::string_view scope;  // what follows the key id
    std::string_view date;
    std::string_view region;
    std::string_view service;
    std::string_view signed_headers;
    std::string_view signature;
    std::string_view token;  // of a session; empty when there is none
    BasicTime time{};
    std::int64_t time_s = 0;
    std::int64_t life_s = 0;  // query form: X-Amz-Expires
};

// The key that signs requests of one day, region and service.
[[nodiscard]] HmacKey derive_signing_key(std::string_view secret, std::string_view date,
                                         std::string_view region, std::string_view service);

class SignatureReader {
public:
    // Refused: missing, incomplete.
    [[nodiscard]] std::expected<Claim, Refusal> read(const http::HttpRequest& request);
    // Region, service and day of the scope. Refused: wrong_scope.
    [[nodiscard]] static std::optional<Refusal> check_scope(const Claim& claim,
                                                            std::string_view region,
                                                            std::string_view service);
    // Refused: early, late.
    [[nodiscard]] static std::optional<Refusal> check_time(const Claim& claim, std::int64_t now_s);
    // That host and every x-amz-… header are signed. Refused: not_signed.
    [[nodiscard]] static std::optional<Refusal> check_signed_headers(
        const http::HttpRequest& request, const Claim& claim);
    // Hashes the body. Refused: mismatch, altered_body.
    [[nodiscard]] std::optional<Refusal> check_signature(const http::HttpRequest& request,
                                                         const Claim& claim, HmacKey& signing_key);

    // Of the last check_signature(), for tests.
    [[nodiscard]] const std::string& canonical_request() const noexcept { return canonical_; }

private:
    struct Parameter {
        std::string name;  // decoded
        std::string value;
    };
    // False when there are more parameters than anybody sends.
    [[nodiscard]] bool read_query(std::string_view query);
    [[nodiscard]] std::string_view parameter(std::string_view name) const noexcept;
    [[nodiscard]] std::expected<Claim, Refusal> read_header(const http::HttpRequest& request,
                                                            std::string_view authorization);
    [[nodiscard]] std::expected<Claim, Refusal> read_presigned();
    void append_canonical_query(const Claim& claim);

    Sha256 sha256_;
    std::vector<Parameter> parameters_;
    std::string canonical_;
    std::string text_;
};

}  // namespace penstock::auth
