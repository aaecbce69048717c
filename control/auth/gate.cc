#include "control/auth/gate.h"

#include <algorithm>

namespace penstock::auth {

namespace {

// Signing keys kept. One is put in only behind a right signature, so that nobody without a secret
// can fill it; a client with very many regions or sessions makes it begin anew.
constexpr std::size_t signers_max = 4096;

Refusal unknown_key() {
    return {Reason::unknown_key, "The security token included in the request is invalid."};
}

}  // namespace

Gate::Gate(const CredentialStore& store, Clock& clock, GateOptions options)
    : store_(store), clock_(clock), options_(std::move(options)) {}

Refusal Gate::count(Refusal refusal) noexcept {
    refused_[static_cast<std::size_t>(refusal.reason)].add();
    return refusal;
}

void Gate::refresh() {
    const std::uint64_t version = store_.version();
    if (version != version_) {
        table_ = store_.table();
        version_ = version;
        signers_.clear();
    }
}

std::expected<Caller, Refusal> Gate::check(const http::HttpRequest& request) {
    auto caller = decide(request);
    if (!caller) {
        return std::unexpected(count(std::move(caller.error())));
    }
    accepted_.add();
    return caller;
}

std::expected<Caller, Refusal> Gate::decide(const http::HttpRequest& request) {
    refresh();
    const auto claim = reader_.read(request);
    if (!claim) {
        return std::unexpected(claim.error());
    }
    const auto served = std::ranges::find(options_.regions, claim->region);
    const std::string& region =
        served == options_.regions.end() ? options_.regions.front() : *served;
    if (auto refusal = SignatureReader::check_scope(*claim, region, service)) {
        return std::unexpected(std::move(*refusal));
    }
    // What costs little goes first: the body is hashed for nobody who could not have signed it.
    if (auto refusal = SignatureReader::check_time(*claim, clock_.wall_ms() / 1000)) {
        return std::unexpected(std::move(*refusal));
    }
    if (auto refusal = SignatureReader::check_signed_headers(request, *claim)) {
        return std::unexpected(std::move(*refusal));
    }
    Signer* known = known_signer(*claim);
    std::optional<Signer> fresh;
    if (known == nullptr) {
        auto found = find_signer(*claim);
        if (!found) {
            return std::unexpected(std::move(found.error()));
        }
        fresh.emplace(std::move(*found));
    }
    Signer& signer = known != nullptr ? *known : *fresh;
    if (auto refusal = reader_.check_signature(request, *claim, signer.key)) {
        return std::unexpected(std::move(*refusal));
    }
    Caller caller{signer.credential, signer.session_policy, region, !signer.token.empty()};
    if (fresh) {
        if (signers_.size() >= signers_max) {
            signers_.clear();
        }
        signers_.insert_or_assign(std::string(claim->credential), std::move(*fresh));
    }
    return caller;
}

Gate::Signer* Gate::known_signer(const Claim& claim) {
    const auto found = signers_.find(claim.credential);
    if (found == signers_.end()) {
        return nullptr;
    }
    Signer& signer = found->second;
    // One that has ended, or comes with another token, is looked at afresh.
    const bool live = signer.expires_ms == 0 || clock_.wall_ms() < signer.expires_ms;
    return live && equal_in_constant_time(signer.token, claim.token) ? &signer : nullptr;
}

std::expected<Gate::Signer, Refusal> Gate::find_signer(const Claim& claim) const {
    const auto signing_key = [&claim](std::string_view secret) {
        return derive_signing_key(secret, claim.date, claim.region, claim.service);
    };
    if (claim.token.empty()) {
        const auto found = table_->by_key.find(claim.key_id);
        if (found == table_->by_key.end() || !found->second.key->is_live(clock_.wall_ms())) {
            return std::unexpected(unknown_key());
        }
        const AccessKey& key = *found->second.key;
        return Signer{
            found->second.credential, nullptr, {}, key.expires_ms, signing_key(key.secret)};
    }
    auto session = store_.open_session(claim.key_id, claim.token);
    if (!session) {
        const bool expired = session.error() == CredentialStore::TokenFault::expired;
        return std::unexpected(
            expired ? Refusal{Reason::expired_token,
                              "The security token included in the request is expired"}
                    : Refusal{Reason::bad_token,
                              "The security token included in the request is invalid."});
    }
    return Signer{std::move(session->credential), std::move(session->policy),
                  std::string(claim.token), session->expires_ms, signing_key(session->secret)};
}

std::optional<Refusal> Gate::authorize(const Caller& caller, std::string_view action,
                                       std::string_view resource, const Policy* resource_policy) {
    const Credential& credential = *caller.credential;
    // Another session would have neither the policy nor the end of this one.
    if (caller.is_session && action == make_session_action) {
        return count({Reason::denied, "Cannot call " + std::string(action) +
                                          " with session credentials; sign with a key of " +
                                          credential.name});
    }
    const Decision own = credential.policy->decide(action, resource);
    const Decision session =
        caller.session_policy ? caller.session_policy->decide(action, resource) : Decision::allow;
    const Decision of_resource =
        resource_policy != nullptr
            ? resource_policy->decide(action, resource, {credential.arn, options_.account})
            : Decision::none;
    const bool denied = own == Decision::deny || session == Decision::deny;
    const bool allowed_itself = own == Decision::allow && session == Decision::allow;
    const bool allowed_by_resource = of_resource == Decision::allow && session == Decision::allow;
    if (!denied && of_resource != Decision::deny && (allowed_itself || allowed_by_resource)) {
        return std::nullopt;
    }
    std::string message = "User: " + credential.arn + " is not authorized to perform: ";
    message += action;
    message += " on resource: ";
    message += resource;
    if (denied) {
        message += " with an explicit deny in an identity-based policy";
    } else if (allowed_itself) {
        message += " with an explicit deny in a resource-based policy";
    } else {
        // Also where the resource's policy denies: that there is one would say that there is a
        // stream, to somebody who may know nothing of it.
        message += " because no identity-based policy allows the ";
        message += action;
        message += " action";
    }
    return count({Reason::denied, std::move(message)});
}

}  // namespace penstock::auth
