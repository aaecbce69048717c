// SHA-256, HMAC-SHA-256, AES-256-GCM and encodings, over OpenSSL with contexts that are fetched
// once and kept: fetching costs more than hashing a kilobyte.
//
// Runs on: any thread; an object belongs to one thread at a time.
// Guarantees: a failure of OpenSSL itself aborts, since nothing a peer sends can cause one.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::auth {

inline constexpr std::size_t digest_bytes = 32;
using Digest = std::array<unsigned char, digest_bytes>;

[[nodiscard]] inline std::string_view as_text(const Digest& digest) noexcept {
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

class Sha256 {
public:
    Sha256();
    [[nodiscard]] Digest of(std::string_view text);

private:
    struct Free {
        void operator()(EVP_MD* md) const noexcept { EVP_MD_free(md); }
        void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
    };
    std::unique_ptr<EVP_MD, Free> md_;
    std::unique_ptr<EVP_MD_CTX, Free> context_;
};

// HMAC-SHA-256 under one key, which is prepared once.
class HmacKey {
public:
    explicit HmacKey(std::string_view key);
    [[nodiscard]] Digest of(std::string_view text);

private:
    struct Free {
        void operator()(EVP_MAC_CTX* context) const noexcept { EVP_MAC_CTX_free(context); }
    };
    std::unique_ptr<EVP_MAC_CTX, Free> context_;
};

// Takes the same time wherever they differ.
[[nodiscard]] bool equal_in_constant_time(std::string_view a, std::string_view b) noexcept;

// Lower-case hexadecimal.
void append_hex(std::string& out, std::string_view bytes);
[[nodiscard]] std::string to_hex(std::string_view bytes);
// Takes both cases; nothing for an odd length or another character.
[[nodiscard]] std::optional<std::string> from_hex(std::string_view text);
[[nodiscard]] std::string to_base64(std::string_view bytes);
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

[[nodiscard]] std::string random_bytes(std::size_t count);
// 32 bytes by HKDF-SHA-256.
[[nodiscard]] std::string derive_key(std::string_view secret, std::string_view salt,
                                     std::string_view purpose);

// AES-256-GCM under a 32-byte key: 12 random bytes, the ciphertext, a 16-byte tag. `context` is
// authenticated and not stored, so that what was sealed for one place opens in no other.
inline constexpr std::size_t seal_overhead_bytes = 12 + 16;
[[nodiscard]] std::string seal(std::string_view key, std::string_view context,
                               std::string_view text);
// Nothing when the key, the context or the bytes are not those of seal().
[[nodiscard]] std::optional<std::string> unseal(std::string_view key, std::string_view context,
                                                std::string_view sealed);

}  // namespace penstock::auth
