// Credentials: access keys, their secrets, and the policy that says what they may do. Kept in the
// catalog, sealed whole with the key file; in clear only in this process' memory.
//
//   credential/<name>         one credential, sealed
//   secret/credential_check   tells the right key file from a wrong one
//
// A session is made from a credential and lives in its token alone, which only this set can open:
// it ends with its time or with the credential, whichever is first.
//
// Runs on: any control thread. Calls that change something block on the catalog.
// Guarantees: what a call changed holds for every request that is checked after it returned. A
// secret leaves only in the answer that made it, and is in no log line and no list.
// Format: docs/formats/catalog.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/auth/policy.h"
#include "control/catalog/catalog.h"
#include "storage/base/clock.h"

namespace penstock::auth {

inline constexpr std::size_t credentials_max = 10'000;
// The action that the gate refuses to sessions.
inline constexpr std::string_view make_session_action = "penstock:MakeSession";
inline constexpr std::int64_t session_life_min_s = 60;
inline constexpr std::int64_t session_life_max_s = 36 * 3600;
inline constexpr std::int64_t keep_old_max_s = 30 * 24 * 3600;

struct AccessKey {
    std::string id;  // AKIA…
    std::string secret;
    std::int64_t created_ms = 0;
    std::int64_t expires_ms = 0;  // 0: never
    [[nodiscard]] bool is_live(std::int64_t now_ms) const noexcept {
        return expires_ms == 0 || now_ms < expires_ms;
    }
};

struct Credential {
    std::string name;
    std::string uid;  // another one for a later credential of the same name
    std::string arn;  // arn:aws:iam::<account>:user/<name>
    std::int64_t created_ms = 0;
    std::shared_ptr<const Policy> policy;
    std::vector<AccessKey> keys;  // the newest last, at most two
};
using CredentialPtr = std::shared_ptr<const Credential>;

// All credentials at one moment.
struct CredentialTable {
    struct Found {
        CredentialPtr credential;
        const AccessKey* key = nullptr;
    };
    std::map<std::string, CredentialPtr, std::less<>> by_name;
    std::unordered_map<std::string_view, Found> by_key;  // views of what the credentials hold
};

struct Session {
    CredentialPtr credential;
    std::shared_ptr<const Policy> policy;  // narrows the credential's; null: nothing narrower
    std::string key_id;                    // ASIA…
    std::string secret;
    std::int64_t expires_ms = 0;
};

struct NewSession {
    std::string key_id;
    std::string secret;
    std::string token;
    std::int64_t expires_ms = 0;
};

// Why a call changed nothing; the line is for people.
struct StoreFault {
    Errc code = Errc::invalid_argument;
    std::string why;
};
template <typename T>
using StoreResult = std::expected<T, StoreFault>;

struct CredentialStoreOptions {
    std::string key_file;  // empty: there is none, and no credential can be made or used
    std::vector<std::string> data_directories;
    std::string account = "000000000000";
    // Start without credentials that this key file cannot open, and forget them.
    bool discard = false;
    std::function<void(bool urgent, std::string_view line)> log;
};

class CredentialStore {
public:
    // Reads the key file, or makes it where there is none and the set has no credentials yet. Both
    // must outlive the store. The error is one line for people; nothing was changed then.
    [[nodiscard]] static std::expected<std::unique_ptr<CredentialStore>, std::string> open(
        Catalog& catalog, Clock& clock, CredentialStoreOptions options);
    ~CredentialStore();
    CredentialStore(const CredentialStore&) = delete;
    CredentialStore& operator=(const CredentialStore&) = delete;

    [[nodiscard]] std::shared_ptr<const CredentialTable> table() const;
    // Grows with each change of the table, before the call that changed it returns.
    [[nodiscard]] std::uint64_t version() const noexcept {
        return version_.load(std::memory_order_acquire);
    }

    struct Made {
        CredentialPtr credential;
        AccessKey key;
    };
    // Errors of all: unavailable. already_exists, invalid_argument, no_space.
    [[nodiscard]] StoreResult<Made> make(std::string_view name, std::string_view policy);
    // A new key; the one before stays good for `keep_old_s`. Errors: not_found, invalid_argument.
    [[nodiscard]] StoreResult<Made> rotate(std::string_view name, std::int64_t keep_old_s);
    // Errors: not_found, invalid_argument.
    [[nodiscard]] StoreResult<CredentialPtr> set_policy(std::string_view name,
                                                        std::string_view policy);
    // All its keys and sessions end. Errors: not_found.
    [[nodiscard]] StoreResult<void> revoke(std::string_view name);
    // `policy` may be empty. Errors: not_found, invalid_argument.
    [[nodiscard]] StoreResult<NewSession> make_session(std::string_view name, std::int64_t life_s,
                                                       std::string_view policy);

    enum class TokenFault : std::uint8_t { invalid, expired };
    // The session that `token` is of, if `key_id` is its key.
    [[nodiscard]] std::expected<Session, TokenFault> open_session(std::string_view key_id,
                                                                  std::string_view token) const;

private:
    CredentialStore(Catalog& catalog, Clock& clock, CredentialStoreOptions options);
    [[nodiscard]] std::string load_key();
    [[nodiscard]] std::string use_key(const std::string& secret, std::string_view salt);
    [[nodiscard]] std::string load();
    [[nodiscard]] StoreResult<void> ensure_check();
    [[nodiscard]] std::string fingerprint(std::string_view secret, std::string_view salt) const;
    [[nodiscard]] std::string seal_credential(const Credential& credential) const;
    [[nodiscard]] CredentialPtr unseal_credential(std::string_view key,
                                                  std::string_view value) const;
    [[nodiscard]] StoreResult<CredentialPtr> change(std::string_view name,
                                                    const std::function<void(Credential&)>& edit);
    void on_event(const CatalogEvent& event);
    using ByName = decltype(CredentialTable::by_name);
    void replace(std::string_view name, CredentialPtr credential);
    void publish(ByName&& by_name);
    [[nodiscard]] AccessKey new_key() const;
    void say(bool urgent, const std::string& line) const;

    Catalog& catalog_;
    Clock& clock_;
    const CredentialStoreOptions options_;
    std::string secret_;  // of the key file; empty: there is none
    std::string salt_;
    std::string seal_key_;
    std::string session_key_;
    bool has_check_ = false;  // under make_mutex_
    std::mutex make_mutex_;

    std::atomic<std::uint64_t> version_{1};
    std::mutex replace_mutex_;  // one table is made from the one before
    // Held for as long as it takes to copy a pointer: control threads wait for it.
    mutable std::mutex table_mutex_;
    std::shared_ptr<const CredentialTable> table_;
    std::unique_ptr<Catalog::Watch> watch_;
};

}  // namespace penstock::auth
