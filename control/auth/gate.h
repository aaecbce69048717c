// Decides for one control thread who a request comes from, and whether that one may do what it
// asks.
//
// Runs on: the control thread it belongs to; counters are read on any.
// Allocates: buffers that are kept, and one signing key per credential, day and region in use.
// Guarantees: a request is taken only when its signature, made with a credential that stands now,
// covers its method, path, query, host and body. A change of the credentials holds for the next
// request. Which of two refusals is given does not depend on whether a stream exists.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/auth/credential_store.h"
#include "control/auth/refusal.h"
#include "control/auth/sigv4.h"
#include "control/http/message.h"
#include "dataplane/counter.h"
#include "storage/base/clock.h"

namespace penstock::auth {

// Who sent a request.
struct Caller {
    CredentialPtr credential;
    std::shared_ptr<const Policy> session_policy;  // narrows the credential's; may be null
    std::string region;                            // that the request was signed for
    bool is_session = false;                       // it came with a session's token
};

struct GateOptions {
    std::vector<std::string> regions{"us-east-1"};  // that requests may be signed for
    std::string account = "000000000000";
};

class Gate {
public:
    static constexpr std::string_view service = "kinesis";

    // Both must outlive the gate.
    Gate(const CredentialStore& store, Clock& clock, GateOptions options);

    // Whose request it is, once its signature is proven. Counts the refusal.
    [[nodiscard]] std::expected<Caller, Refusal> check(const http::HttpRequest& request);

    // Nothing when `caller` may do `action` on `resource`. `resource_policy` is null where the
    // resource has none, or is not there. Counts the refusal.
    [[nodiscard]] std::optional<Refusal> authorize(const Caller& caller, std::string_view action,
                                                   std::string_view resource,
                                                   const Policy* resource_policy = nullptr);

    [[nodiscard]] const GateOptions& options() const noexcept { return options_; }
    [[nodiscard]] std::uint64_t accepted() const noexcept { return accepted_.get(); }
    [[nodiscard]] std::uint64_t refused(Reason reason) const noexcept {
        return refused_[static_cast<std::size_t>(reason)].get();
    }

private:
    // A credential whose signature was right before: for one key id, day and region.
    struct Signer {
        CredentialPtr credential;
        std::shared_ptr<const Policy> session_policy;
        std::string token;            // of a session
        std::int64_t expires_ms = 0;  // 0: never
        HmacKey key;
    };
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const noexcept {
            return std::hash<std::string_view>{}(text);
        }
    };

    [[nodiscard]] std::expected<Caller, Refusal> decide(const http::HttpRequest& request);
    void refresh();
    [[nodiscard]] Signer* known_signer(const Claim& claim);
    [[nodiscard]] std::expected<Signer, Refusal> find_signer(const Claim& claim) const;
    Refusal count(Refusal refusal) noexcept;

    const CredentialStore& store_;
    Clock& clock_;
    const GateOptions options_;
    SignatureReader reader_;
    std::uint64_t version_ = 0;
    std::shared_ptr<const CredentialTable> table_;
    std::unordered_map<std::string, Signer, Hash, std::equal_to<>> signers_;  // by Credential=
    Counter accepted_;
    std::array<Counter, reason_count> refused_;
};

}  // namespace penstock::auth
