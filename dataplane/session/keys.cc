#include "dataplane/session/keys.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstring>
#include <string_view>

#include "storage/base/check.h"

namespace penstock::session {
namespace {

Secret hmac(Bytes key, Bytes text) noexcept {
    Secret out;
    unsigned length = 0;
    // It fails when memory is out or SHA-256 was taken away; there is no session without it.
    const bool done = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                           reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                           reinterpret_cast<unsigned char*>(out.data()), &length) != nullptr;
    PENSTOCK_CHECK(done && length == out.size());
    return out;
}

// The info of an expansion, put together.
class Info {
public:
    explicit Info(std::string_view name) noexcept { add(name.data(), name.size()); }
    template <typename T>
    Info& with(T value) noexcept {
        add(&value, sizeof value);
        return *this;
    }
    // HKDF-Expand of up to 32 bytes, which is its first block.
    [[nodiscard]] Secret expand(const Secret& prk) noexcept {
        with(std::uint8_t{1});
        return hmac(prk, Bytes(bytes_).first(size_));
    }

private:
    void add(const void* from, std::size_t size) noexcept {
        PENSTOCK_CHECK(size_ + size <= bytes_.size());
        std::memcpy(bytes_.data() + size_, from, size);
        size_ += size;
    }
    std::array<std::byte, 64> bytes_{};
    std::size_t size_ = 0;
};

KeyMaterial material(const Secret& okm) noexcept {
    KeyMaterial out;
    static_assert(sizeof out.key + sizeof out.salt <= sizeof okm);
    std::memcpy(out.key.data(), okm.data(), out.key.size());
    std::memcpy(out.salt.data(), okm.data() + out.key.size(), out.salt.size());
    return out;
}

Secret extract_both(const Secret& psk, const Random& client, const Random& server) noexcept {
    std::array<std::byte, 2 * random_bytes> salt;
    std::memcpy(salt.data(), client.data(), client.size());
    std::memcpy(salt.data() + client.size(), server.data(), server.size());
    return hmac(salt, psk);
}

}  // namespace

Secret session_prk(const Secret& secret) noexcept {
    return hmac(as_bytes("penstock session 1"), secret);
}

KeyMaterial lane_key(const Secret& prk, const KeyContext& context, std::uint16_t lane,
                     Direction direction, std::uint8_t key_epoch) noexcept {
    return material(Info("penstock lane key")
                        .with(context.session)
                        .with(context.owner_epoch)
                        .with(context.node)
                        .with(lane)
                        .with(direction)
                        .with(key_epoch)
                        .expand(prk));
}

KeyMaterial open_key(const Secret& psk, std::uint64_t psk_id, const Random& client) noexcept {
    return material(Info("penstock open key").with(psk_id).expand(hmac(client, psk)));
}

KeyMaterial accept_key(const Secret& psk, std::uint64_t psk_id, const Random& client,
                       const Random& server) noexcept {
    return material(
        Info("penstock accept key").with(psk_id).expand(extract_both(psk, client, server)));
}

Secret psk_session_secret(const Secret& psk, std::uint64_t psk_id, const Random& client,
                          const Random& server) noexcept {
    return Info("penstock session secret").with(psk_id).expand(extract_both(psk, client, server));
}

}  // namespace penstock::session
