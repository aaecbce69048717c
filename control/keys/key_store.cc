#include "control/keys/key_store.h"

#include <utility>

namespace penstock::keys {

namespace {

// The id or alias that an ARN names; nothing for one of another region or account.
std::optional<std::string_view> resource_of(std::string_view arn, std::string_view region,
                                            std::string_view account) {
    // arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE
    std::array<std::string_view, 5> parts;
    for (std::string_view& part : parts) {
        const std::size_t end = arn.find(':');
        if (end == std::string_view::npos) {
            return std::nullopt;
        }
        part = arn.substr(0, end);
        arn.remove_prefix(end + 1);
    }
    if (parts[0] != "arn" || !parts[1].starts_with("aws") || parts[2] != "kms" ||
        parts[3] != region || parts[4] != account) {
        return std::nullopt;
    }
    if (arn.starts_with("key/")) {
        return arn.substr(4);
    }
    return arn.starts_with("alias/") ? std::optional(arn) : std::nullopt;
}

}  // namespace

KeyStore::KeyStore(KeyRing ring) : ring_(std::make_shared<const KeyRing>(std::move(ring))) {}

std::expected<std::unique_ptr<KeyStore>, std::string> KeyStore::open(
    std::string path, std::vector<std::string> data_directories) {
    auto store = std::make_unique<KeyStore>();
    store->path_ = std::move(path);
    store->data_directories_ = std::move(data_directories);
    auto ring = read_key_ring(store->path_, store->data_directories_);
    if (!ring) {
        return std::unexpected("--keys-file " + store->path_ + ": " + ring.error());
    }
    store->ring_ = std::make_shared<const KeyRing>(std::move(*ring));
    return store;
}

std::expected<void, std::string> KeyStore::reload() {
    auto ring = read_key_ring(path_, data_directories_);
    if (!ring) {
        ++counters_.failed_reloads;
        return std::unexpected("--keys-file " + path_ + ": " + ring.error());
    }
    ++counters_.reloads;
    replace(std::move(*ring));
    return {};
}

void KeyStore::replace(KeyRing ring) {
    const std::lock_guard lock(mutex_);
    if (ring_ == nullptr || *ring_ != ring) {
        ring_ = std::make_shared<const KeyRing>(std::move(ring));
    }
}

std::shared_ptr<const KeyRing> KeyStore::ring() const {
    const std::lock_guard lock(mutex_);
    return ring_;
}

KeyStore::Named KeyStore::find(std::string_view name, std::string_view region,
                               std::string_view account) const {
    const auto now = ring();
    if (now == nullptr) {
        return {KeyFault::opt_in, {}};
    }
    if (name.starts_with("arn:")) {
        name = resource_of(name, region, account).value_or(std::string_view());
    }
    const Key* key = name.starts_with("alias/") ? now->find_alias(name) : now->find(name);
    if (key == nullptr) {
        return {KeyFault::not_found, {}};
    }
    if (!key->enabled) {
        return {KeyFault::disabled, {}};
    }
    return {KeyFault::none, *key};
}

std::shared_ptr<const StreamCrypt> KeyStore::crypt_of(const Encryption& encryption,
                                                      std::uint64_t stream, unsigned lane_count) {
    if (encryption.data_keys.empty()) {
        return nullptr;
    }
    const std::lock_guard lock(mutex_);
    if (const auto it = made_.find(stream); it != made_.end()) {
        auto crypt = it->second.crypt.lock();
        if (crypt && it->second.ring == ring_ && it->second.encryption == encryption) {
            return crypt;
        }
    }
    std::erase_if(made_, [](const auto& entry) { return entry.second.crypt.expired(); });
    auto crypt = std::make_shared<const StreamCrypt>(encryption, stream, ring_.get(), lane_count);
    made_.insert_or_assign(stream, Made{encryption, ring_, crypt});
    return crypt;
}

std::string_view exception_of(KeyFault fault) noexcept {
    switch (fault) {
        case KeyFault::not_found:
            return "KMSNotFoundException";
        case KeyFault::disabled:
            return "KMSDisabledException";
        case KeyFault::invalid_state:
            return "KMSInvalidStateException";
        case KeyFault::opt_in:
            return "KMSOptInRequired";
        case KeyFault::none:
        case KeyFault::count_:
            break;
    }
    return "InternalFailure";
}

std::string describe(KeyFault fault, std::string_view key) {
    const std::string name(key);
    switch (fault) {
        case KeyFault::not_found:
            return "Key " + name +
                   " does not exist: the node's keys file has none of that name in this region and "
                   "account.";
        case KeyFault::disabled:
            return "Key " + name + " is disabled. Enable it with `penstock keys enable " + name +
                   " --keys-file FILE` and have the node read its keys file again.";
        case KeyFault::invalid_state:
            return "Key " + name +
                   " of the node's keys file is another one than the key of that id that the "
                   "records were sealed with. Bring the right one back.";
        case KeyFault::opt_in:
            return "Key " + name +
                   " is not to be had: the node was started without --keys-file, so it has no "
                   "keys.";
        case KeyFault::none:
        case KeyFault::count_:
            break;
    }
    return "Key " + name + " can be used.";
}

}  // namespace penstock::keys
