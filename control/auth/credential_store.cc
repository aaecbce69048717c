#include "control/auth/credential_store.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <simdjson.h>

#include <algorithm>

#include "control/auth/crypto.h"
#include "control/auth/key_file.h"
#include "storage/base/counted.h"

namespace penstock::auth {

namespace {

constexpr std::string_view credential_prefix = "credential/";
constexpr std::string_view check_key = "secret/credential_check";
constexpr std::string_view check_text = "penstock";
constexpr char value_version = 1;
constexpr std::size_t salt_bytes = 16;
constexpr std::size_t session_policy_bytes_max = 2048;
constexpr std::string_view session_context = "penstock session v1";

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void write_text(Writer& writer, const char* key, std::string_view text) {
    writer.Key(key);
    writer.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}
void write_number(Writer& writer, const char* key, std::int64_t number) {
    writer.Key(key);
    writer.Int64(number);
}

bool read_text(const simdjson::dom::object& object, std::string_view key, std::string& out) {
    std::string_view text;
    if (object.at_key(key).get(text) != simdjson::SUCCESS) {
        return false;
    }
    out = text;
    return true;
}
bool read_number(const simdjson::dom::object& object, std::string_view key, std::int64_t& out) {
    return object.at_key(key).get(out) == simdjson::SUCCESS;
}

std::unexpected<StoreFault> fault(Errc code, std::string why) {
    return std::unexpected(StoreFault{code, std::move(why)});
}

// Letters and digits as access key ids have them.
std::string random_id(std::string_view prefix) {
    static constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    std::string id(prefix);
    for (const char c : random_bytes(16)) {
        id.push_back(alphabet[static_cast<unsigned char>(c) & 31]);
    }
    return id;
}
std::string random_secret() {
    return to_base64(random_bytes(30));  // 40 characters
}

StoreFault catalog_fault(const Error& error) {
    return {Errc::unavailable,
            "the catalog could not make the change durable on two replicas (" + describe(error) +
                "); it may or may not have happened: look with `penstock credentials list`, check "
                "the replicas, then try again"};
}

std::string arn_of(std::string_view account, std::string_view name) {
    return "arn:aws:iam::" + std::string(account) + ":user/" + std::string(name);
}

std::string sealed_context(std::string_view key) {
    return "penstock credential v1 " + std::string(key);
}

}  // namespace

CredentialStore::CredentialStore(Catalog& catalog, Clock& clock, CredentialStoreOptions options)
    : catalog_(catalog),
      clock_(clock),
      options_(std::move(options)),
      table_(std::make_shared<CredentialTable>()) {}

CredentialStore::~CredentialStore() {
    watch_.reset();
}

void CredentialStore::say(bool urgent, const std::string& line) const {
    if (options_.log) {
        options_.log(urgent, line);
    }
}

std::expected<std::unique_ptr<CredentialStore>, std::string> CredentialStore::open(
    Catalog& catalog, Clock& clock, CredentialStoreOptions options) {
    std::unique_ptr<CredentialStore> store(new CredentialStore(catalog, clock, std::move(options)));
    if (!store->options_.key_file.empty()) {
        if (std::string problem = store->load_key(); !problem.empty()) {
            return std::unexpected("--key-file " + store->options_.key_file + ": " + problem);
        }
        if (std::string problem = store->load(); !problem.empty()) {
            return std::unexpected(std::move(problem));
        }
        store->watch_ =
            catalog.watch(credential_prefix,
                          [raw = store.get()](const CatalogEvent& event) { raw->on_event(event); });
    }
    return store;
}

// -- The key --------------------------------------------------------------------------------------

std::string CredentialStore::fingerprint(std::string_view secret, std::string_view salt) const {
    return to_hex(derive_key(secret, salt, "penstock fingerprint v1").substr(0, 4));
}

std::string CredentialStore::use_key(const std::string& secret, std::string_view salt) {
    secret_ = secret;
    salt_ = salt;
    seal_key_ = derive_key(secret, salt, "penstock credentials v1");
    session_key_ = derive_key(secret, salt, session_context);
    return {};
}

std::string CredentialStore::load_key() {
    const auto check = catalog_.get(check_key);
    if (!check && check.error().code != Errc::not_found) {
        return "the catalog cannot be read: " + describe(check.error());
    }
    auto secret = read_key_file(options_.key_file, options_.data_directories);
    const bool missing = !secret && secret.error().fault == KeyFileFault::missing;
    if (!secret && (!missing || (check && !options_.discard))) {
        return secret.error().why +
               (check ? "; this set's credentials are sealed with that key: bring the file back "
                        "(--discard-credentials starts without them). Nothing was changed"
                      : "");
    }
    if (missing) {
        secret = make_key_file(options_.key_file, options_.data_directories);
        if (!secret) {
            return secret.error().why;
        }
        say(false, "key file " + options_.key_file +
                       ": made. Keep a copy away from the data: without it the credentials are "
                       "lost");
    }
    if (!check) {
        return use_key(*secret, random_bytes(salt_bytes));
    }
    const std::string_view value = check->value;
    const std::size_t head_bytes = 1 + salt_bytes + 8;
    if (value.size() < head_bytes || value.front() != value_version) {
        return "the catalog's secret/credential_check is of a version that this build does not "
               "know, or damaged; start the build that wrote it";
    }
    const std::string_view salt = value.substr(1, salt_bytes);
    const std::string expected(value.substr(1 + salt_bytes, 8));
    static_cast<void>(use_key(*secret, salt));
    if (unseal(seal_key_, sealed_context(check_key), value.substr(head_bytes)) == check_text) {
        has_check_ = true;
        return {};
    }
    if (!options_.discard) {
        return "this is not the key that sealed this set's credentials (fingerprint found " +
               fingerprint(*secret, salt) + ", expected " + expected +
               "); give the file they were made with (--discard-credentials starts without them). "
               "Nothing was changed";
    }
    std::vector<CatalogChange> changes(1);
    changes[0].kind = CatalogChange::Kind::remove;
    changes[0].key = check_key;
    const auto entries = catalog_.list(credential_prefix);
    if (!entries) {
        return "the catalog cannot be read: " + describe(entries.error());
    }
    for (const CatalogEntry& entry : *entries) {
        CatalogChange& change = changes.emplace_back();
        change.kind = CatalogChange::Kind::remove;
        change.key = entry.key;
    }
    if (const auto done = catalog_.commit(changes); !done) {
        return catalog_fault(done.error()).why;
    }
    say(true,
        "discarded " + counted(entries->size(), "credential") + " that the key file cannot open");
    return use_key(*secret, random_bytes(salt_bytes));
}

// What tells this key from another is written with the first credential, not before: a node that
// only reads must be able to start.
StoreResult<void> CredentialStore::ensure_check() {
    if (secret_.empty()) {
        return fault(Errc::unavailable,
                     "this node was started without a key file to seal credentials with; start it "
                     "with --key-file FILE");
    }
    const std::lock_guard lock(make_mutex_);
    if (has_check_) {
        return {};
    }
    std::string value(1, value_version);
    value += salt_;
    value += fingerprint(secret_, salt_);
    value += seal(seal_key_, sealed_context(check_key), check_text);
    if (const auto done = catalog_.put(check_key, value, 0); !done) {
        return std::unexpected(catalog_fault(done.error()));
    }
    has_check_ = true;
    return {};
}

// -- The table ------------------------------------------------------------------------------------

std::string CredentialStore::load() {
    const auto entries = catalog_.list(credential_prefix);
    if (!entries) {
        return "credentials: the catalog cannot be read: " + describe(entries.error());
    }
    ByName by_name;
    for (const CatalogEntry& entry : *entries) {
        auto credential = unseal_credential(entry.key, entry.value);
        if (!credential) {
            // Doubt deletes nothing: it stays in the catalog, and lets nobody in.
            say(true, entry.key +
                          ": damaged, or of a later version; it is ignored until it is revoked and "
                          "made again");
            continue;
        }
        std::string name = credential->name;
        by_name.insert_or_assign(std::move(name), std::move(credential));
    }
    publish(std::move(by_name));
    return {};
}

std::shared_ptr<const CredentialTable> CredentialStore::table() const {
    const std::lock_guard lock(table_mutex_);
    return table_;
}

void CredentialStore::replace(std::string_view name, CredentialPtr credential) {
    const std::lock_guard lock(replace_mutex_);
    ByName by_name = table()->by_name;
    if (credential) {
        by_name.insert_or_assign(std::string(name), std::move(credential));
    } else {
        by_name.erase(std::string(name));
    }
    publish(std::move(by_name));
}

void CredentialStore::publish(ByName&& by_name) {
    auto made = std::make_shared<CredentialTable>();
    made->by_name = std::move(by_name);
    for (const auto& [name, credential] : made->by_name) {
        for (const AccessKey& key : credential->keys) {
            made->by_key.emplace(key.id, CredentialTable::Found{credential, &key});
        }
    }
    // The one before is freed behind the lock, if nobody uses it.
    std::shared_ptr<const CredentialTable> table = std::move(made);
    {
        const std::lock_guard lock(table_mutex_);
        table_.swap(table);
    }
    version_.fetch_add(1, std::memory_order_release);
}

void CredentialStore::on_event(const CatalogEvent& event) {
    const std::string_view name = event.key.substr(credential_prefix.size());
    replace(name, event.value == nullptr ? nullptr : unseal_credential(event.key, *event.value));
}

std::string CredentialStore::seal_credential(const Credential& credential) const {
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    write_text(writer, "name", credential.name);
    write_text(writer, "uid", credential.uid);
    write_number(writer, "created_ms", credential.created_ms);
    write_text(writer, "policy", credential.policy->json());
    writer.Key("keys");
    writer.StartArray();
    for (const AccessKey& key : credential.keys) {
        writer.StartObject();
        write_text(writer, "id", key.id);
        write_text(writer, "secret", key.secret);
        write_number(writer, "created_ms", key.created_ms);
        write_number(writer, "expires_ms", key.expires_ms);
        writer.EndObject();
    }
    writer.EndArray();
    writer.EndObject();
    return std::string(1, value_version) +
           seal(seal_key_, sealed_context(std::string(credential_prefix) + credential.name),
                {buffer.GetString(), buffer.GetSize()});
}

CredentialPtr CredentialStore::unseal_credential(std::string_view key,
                                                 std::string_view value) const {
    if (value.empty() || value.front() != value_version) {
        return nullptr;
    }
    const auto text = unseal(seal_key_, sealed_context(key), value.substr(1));
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    simdjson::dom::array keys;
    auto credential = std::make_shared<Credential>();
    std::string policy;
    if (!text || parser.parse(*text).get(object) != simdjson::SUCCESS ||
        !read_text(object, "name", credential->name) ||
        !read_text(object, "uid", credential->uid) ||
        !read_number(object, "created_ms", credential->created_ms) ||
        !read_text(object, "policy", policy) ||
        object.at_key("keys").get(keys) != simdjson::SUCCESS) {
        return nullptr;
    }
    for (const simdjson::dom::element item : keys) {
        simdjson::dom::object inner;
        AccessKey access;
        if (item.get(inner) != simdjson::SUCCESS || !read_text(inner, "id", access.id) ||
            !read_text(inner, "secret", access.secret) ||
            !read_number(inner, "created_ms", access.created_ms) ||
            !read_number(inner, "expires_ms", access.expires_ms)) {
            return nullptr;
        }
        credential->keys.push_back(std::move(access));
    }
    auto parsed = Policy::parse(policy, Policy::Kind::of_credential);
    if (!parsed) {
        return nullptr;
    }
    credential->policy = std::make_shared<const Policy>(std::move(*parsed));
    credential->arn = arn_of(options_.account, credential->name);
    return credential;
}

// -- Changes --------------------------------------------------------------------------------------

AccessKey CredentialStore::new_key() const {
    return {random_id("AKIA"), random_secret(), clock_.wall_ms(), 0};
}

StoreResult<CredentialStore::Made> CredentialStore::make(std::string_view name,
                                                         std::string_view policy) {
    if (!is_credential_name(name)) {
        return fault(Errc::invalid_argument,
                     "name: expected 1 to 64 letters, digits, '_', '.' and '-'");
    }
    auto parsed = Policy::parse(policy, Policy::Kind::of_credential);
    if (!parsed) {
        return fault(Errc::invalid_argument, "policy: " + parsed.error());
    }
    if (auto ready = ensure_check(); !ready) {
        return std::unexpected(ready.error());
    }
    if (table()->by_name.size() >= credentials_max) {
        return fault(Errc::no_space, "there are " + std::to_string(credentials_max) +
                                         " credentials already; revoke some");
    }
    Credential credential;
    credential.name = name;
    credential.uid = to_hex(random_bytes(8));
    credential.arn = arn_of(options_.account, name);
    credential.created_ms = clock_.wall_ms();
    credential.policy = std::make_shared<const Policy>(std::move(*parsed));
    credential.keys.push_back(new_key());
    const std::string key = std::string(credential_prefix) + credential.name;
    if (const auto done = catalog_.put(key, seal_credential(credential), 0); !done) {
        if (done.error().code == Errc::canceled) {
            return fault(Errc::already_exists, "there is a credential '" + credential.name +
                                                   "' already; rotate it for a new key, or revoke "
                                                   "it first");
        }
        return std::unexpected(catalog_fault(done.error()));
    }
    const AccessKey made = credential.keys.back();
    say(false, "credential " + credential.name + ": made, key " + made.id);
    return Made{std::make_shared<const Credential>(std::move(credential)), made};
}

StoreResult<CredentialPtr> CredentialStore::change(std::string_view name,
                                                   const std::function<void(Credential&)>& edit) {
    if (auto ready = ensure_check(); !ready) {
        return std::unexpected(ready.error());
    }
    const std::string key = std::string(credential_prefix) + std::string(name);
    while (true) {
        const auto entry = is_credential_name(name) ? catalog_.get(key) : fail(Errc::not_found);
        if (!entry && entry.error().code != Errc::not_found) {
            return std::unexpected(catalog_fault(entry.error()));
        }
        const CredentialPtr before = entry ? unseal_credential(key, entry->value) : nullptr;
        if (!before) {
            return fault(Errc::not_found, "there is no credential '" + std::string(name) + "'");
        }
        auto after = std::make_shared<Credential>(*before);
        edit(*after);
        const auto done = catalog_.put(key, seal_credential(*after), entry->revision);
        if (done) {
            return after;
        }
        if (done.error().code != Errc::canceled) {
            return std::unexpected(catalog_fault(done.error()));
        }
        // Somebody else changed it meanwhile: judge again.
    }
}

StoreResult<CredentialStore::Made> CredentialStore::rotate(std::string_view name,
                                                           std::int64_t keep_old_s) {
    if (keep_old_s < 0 || keep_old_s > keep_old_max_s) {
        return fault(Errc::invalid_argument,
                     "keep_old_s: expected 0 to " + std::to_string(keep_old_max_s) + " seconds");
    }
    const AccessKey key = new_key();
    auto changed = change(name, [&](Credential& credential) {
        // The newest stays for a while; any before it has had its while.
        AccessKey old = credential.keys.back();
        const std::int64_t end_ms = key.created_ms + keep_old_s * 1000;
        old.expires_ms = old.expires_ms == 0 ? end_ms : std::min(old.expires_ms, end_ms);
        credential.keys.clear();
        if (keep_old_s != 0) {
            credential.keys.push_back(std::move(old));
        }
        credential.keys.push_back(key);
    });
    if (!changed) {
        return std::unexpected(changed.error());
    }
    say(false,
        "credential " + std::string(name) + ": rotated, key " + key.id +
            (keep_old_s == 0 ? ""
                             : "; the one before ends in " + std::to_string(keep_old_s) + " s"));
    return Made{*changed, key};
}

StoreResult<CredentialPtr> CredentialStore::set_policy(std::string_view name,
                                                       std::string_view policy) {
    auto parsed = Policy::parse(policy, Policy::Kind::of_credential);
    if (!parsed) {
        return fault(Errc::invalid_argument, "policy: " + parsed.error());
    }
    const auto shared = std::make_shared<const Policy>(std::move(*parsed));
    auto changed = change(name, [&](Credential& credential) { credential.policy = shared; });
    if (changed) {
        say(false, "credential " + std::string(name) + ": has another policy");
    }
    return changed;
}

StoreResult<void> CredentialStore::revoke(std::string_view name) {
    if (auto ready = ensure_check(); !ready) {
        return std::unexpected(ready.error());
    }
    const std::string key = std::string(credential_prefix) + std::string(name);
    while (true) {
        const auto entry = is_credential_name(name) ? catalog_.get(key) : fail(Errc::not_found);
        if (!entry) {
            if (entry.error().code != Errc::not_found) {
                return std::unexpected(catalog_fault(entry.error()));
            }
            return fault(Errc::not_found, "there is no credential '" + std::string(name) + "'");
        }
        const auto done = catalog_.remove(key, entry->revision);
        if (done) {
            say(false, "credential " + std::string(name) + ": revoked");
            return {};
        }
        if (done.error().code != Errc::canceled) {
            return std::unexpected(catalog_fault(done.error()));
        }
    }
}

// -- Sessions -------------------------------------------------------------------------------------

StoreResult<NewSession> CredentialStore::make_session(std::string_view name, std::int64_t life_s,
                                                      std::string_view policy) {
    if (life_s < session_life_min_s || life_s > session_life_max_s) {
        return fault(Errc::invalid_argument, "seconds: expected " +
                                                 std::to_string(session_life_min_s) + " to " +
                                                 std::to_string(session_life_max_s));
    }
    if (policy.size() > session_policy_bytes_max) {
        return fault(Errc::invalid_argument,
                     "policy: found " + std::to_string(policy.size()) + " bytes; a session's has " +
                         std::to_string(session_policy_bytes_max) + " at most");
    }
    if (!policy.empty()) {
        if (auto parsed = Policy::parse(policy, Policy::Kind::of_credential); !parsed) {
            return fault(Errc::invalid_argument, "policy: " + parsed.error());
        }
    }
    const auto all = table();
    const auto found = all->by_name.find(name);
    if (found == all->by_name.end()) {
        return fault(Errc::not_found, "there is no credential '" + std::string(name) + "'");
    }
    NewSession session{random_id("ASIA"), random_secret(), {}, clock_.wall_ms() + life_s * 1000};
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    write_text(writer, "name", name);
    write_text(writer, "uid", found->second->uid);
    write_text(writer, "id", session.key_id);
    write_text(writer, "secret", session.secret);
    write_number(writer, "expires_ms", session.expires_ms);
    write_text(writer, "policy", policy);
    writer.EndObject();
    session.token =
        to_base64(seal(session_key_, session_context, {buffer.GetString(), buffer.GetSize()}));
    return session;
}

std::expected<Session, CredentialStore::TokenFault> CredentialStore::open_session(
    std::string_view key_id, std::string_view token) const {
    const auto invalid = std::unexpected(TokenFault::invalid);
    const auto sealed = from_base64(token);
    const auto text =
        sealed ? unseal(session_key_, session_context, *sealed) : std::optional<std::string>();
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    Session session;
    std::string name;
    std::string uid;
    std::string policy;
    if (!text || parser.parse(*text).get(object) != simdjson::SUCCESS ||
        !read_text(object, "name", name) || !read_text(object, "uid", uid) ||
        !read_text(object, "id", session.key_id) || !read_text(object, "secret", session.secret) ||
        !read_number(object, "expires_ms", session.expires_ms) ||
        !read_text(object, "policy", policy) || session.key_id != key_id) {
        return invalid;
    }
    if (clock_.wall_ms() >= session.expires_ms) {
        return std::unexpected(TokenFault::expired);
    }
    const auto all = table();
    const auto found = all->by_name.find(name);
    if (found == all->by_name.end() || found->second->uid != uid) {
        return invalid;
    }
    session.credential = found->second;
    if (!policy.empty()) {
        auto parsed = Policy::parse(policy, Policy::Kind::of_credential);
        if (!parsed) {
            return invalid;
        }
        session.policy = std::make_shared<const Policy>(std::move(*parsed));
    }
    return session;
}

}  // namespace penstock::auth
