// Why a request may not do what it asks for, as AWS names it.
//
// Guarantees: the set of reasons is bounded; each has a label for the metrics and an exception's
// name. No message says whether a stream exists.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock::auth {

enum class Reason : std::uint8_t {
    missing,        // no signature at all
    incomplete,     // a signature, and something of it is missing or malformed
    unknown_key,    // no credential has this access key id
    bad_token,      // the session token is missing, damaged, or not of this key
    expired_token,  // the session is over
    wrong_scope,    // signed for another region, service or day
    early,          // from the future, by more than the clocks may differ
    late,           // too old, or past its X-Amz-Expires
    not_signed,     // a header that must be signed is not
    mismatch,       // the signature is not what the secret gives
    altered_body,   // the body is not the one whose hash was signed
    denied,         // a policy says no, or none says yes
    count_
};
inline constexpr std::size_t reason_count = static_cast<std::size_t>(Reason::count_);

struct ReasonText {
    std::string_view label;
    std::string_view exception;
};
inline constexpr std::array<ReasonText, reason_count> reason_texts{{
    {"missing", "MissingAuthenticationTokenException"},
    {"incomplete", "IncompleteSignatureException"},
    {"unknown_key", "UnrecognizedClientException"},
    {"bad_token", "UnrecognizedClientException"},
    {"expired_token", "ExpiredTokenException"},
    {"wrong_scope", "InvalidSignatureException"},
    {"early", "InvalidSignatureException"},
    {"late", "InvalidSignatureException"},
    {"not_signed", "InvalidSignatureException"},
    {"mismatch", "InvalidSignatureException"},
    {"altered_body", "InvalidSignatureException"},
    {"denied", "AccessDeniedException"},
}};
static_assert(!reason_texts.back().label.empty());

[[nodiscard]] constexpr const ReasonText& text_of(Reason reason) noexcept {
    return reason_texts[static_cast<std::size_t>(reason)];
}

struct Refusal {
    Reason reason = Reason::missing;
    std::string message;

    [[nodiscard]] std::string_view exception() const noexcept { return text_of(reason).exception; }
};

}  // namespace penstock::auth
