// Feeds arbitrary bytes to the reader of signatures, as a request's query, headers and body.
// Whatever it makes of them, only a signature that the secret gives is taken; and one that is made
// for what was read is taken, unless the request contradicts itself.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "control/auth/policy.h"
#include "control/auth/sigv4.h"
#include "tests/fuzz/exact_request.h"

namespace {

using namespace penstock;
using namespace penstock::auth;

constexpr std::string_view secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

void demand(bool condition) {
    if (!condition) {
        std::abort();
    }
}

}  // namespace

// First line: the target, or the query behind "/?". Then headers, "name:value", up to an empty
// line. Then the body.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    const std::string_view line = fuzz::take_line(rest);
    const std::string target = line.starts_with('/') ? std::string(line) : "/?" + std::string(line);
    const auto headers = fuzz::take_headers(rest);
    fuzz::ExactBlocks blocks;
    const auto request = fuzz::exact_request(blocks, "POST", target, headers, rest);
    SignatureReader reader;
    const auto claim = reader.read(*request);
    if (!claim) {
        demand(claim.error().reason == Reason::missing ||
               claim.error().reason == Reason::incomplete ||
               claim.error().reason == Reason::mismatch);
        demand(claim.error().message.find('\n') == std::string::npos);
        return 0;
    }
    demand(from_basic_time({claim->time.data(), claim->time.size()}) == claim->time_s ||
           claim->time_s < 0 || claim->time_s > 253'402'300'799);
    static_cast<void>(SignatureReader::check_time(*claim, 1'795'423'302));
    static_cast<void>(SignatureReader::check_scope(*claim, "us-east-1", "kinesis"));
    static_cast<void>(SignatureReader::check_signed_headers(*request, *claim));
    // The chance to guess one is nil, unless something is not looked at.
    HmacKey key = derive_signing_key(secret, claim->date, claim->region, claim->service);
    const auto refusal = reader.check_signature(*request, *claim, key);
    demand(refusal.has_value());
    // The canonical request is the one that was judged: signed with the secret, it is taken.
    if (refusal->reason == Reason::altered_body || reader.canonical_request().back() == '\n') {
        return 0;  // judged before the end: another body, or a header that is signed is not there
    }
    Sha256 sha256;
    std::string text = "AWS4-HMAC-SHA256\n" + std::string(claim->time.data(), claim->time.size()) +
                       "\n" + std::string(claim->scope) + "\n" +
                       to_hex(as_text(sha256.of(reader.canonical_request())));
    const std::string signature = to_hex(as_text(key.of(text)));
    Claim signed_claim = *claim;
    signed_claim.signature = signature;
    demand(!reader.check_signature(*request, signed_claim, key));
    // Policies come from people too.
    const std::string_view text_of_policy = blocks.keep(rest);
    for (const auto kind : {Policy::Kind::of_credential, Policy::Kind::of_resource}) {
        if (const auto policy = Policy::parse(text_of_policy, kind)) {
            static_cast<void>(policy->decide("kinesis:PutRecord", rest));
        }
    }
    return 0;
}
