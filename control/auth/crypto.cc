#include "control/auth/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "control/http/text.h"
#include "storage/base/check.h"

namespace penstock::auth {

namespace {

constexpr std::size_t nonce_bytes = 12;
constexpr std::size_t tag_bytes = 16;
constexpr std::size_t key_bytes = 32;

const unsigned char* bytes_of(std::string_view text) noexcept {
    return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes_of(std::string& text) noexcept {
    return reinterpret_cast<unsigned char*>(text.data());
}

struct FreeCipher {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

}  // namespace

Sha256::Sha256() : md_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
    PENSTOCK_CHECK(md_ && context_);
}

Digest Sha256::of(std::string_view text) {
    Digest digest;
    PENSTOCK_CHECK(EVP_DigestInit_ex2(context_.get(), md_.get(), nullptr) == 1 &&
                   EVP_DigestUpdate(context_.get(), text.data(), text.size()) == 1 &&
                   EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
    return digest;
}

HmacKey::HmacKey(std::string_view key) {
    EVP_MAC* mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    PENSTOCK_CHECK(mac != nullptr);
    context_.reset(EVP_MAC_CTX_new(mac));
    EVP_MAC_free(mac);
    char digest_name[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
        OSSL_PARAM_construct_end()};
    PENSTOCK_CHECK(context_ &&
                   EVP_MAC_init(context_.get(), bytes_of(key), key.size(), parameters) == 1);
}

Digest HmacKey::of(std::string_view text) {
    Digest digest;
    std::size_t size = 0;
    // Without a key: as it was prepared.
    PENSTOCK_CHECK(EVP_MAC_init(context_.get(), nullptr, 0, nullptr) == 1 &&
                   EVP_MAC_update(context_.get(), bytes_of(text), text.size()) == 1 &&
                   EVP_MAC_final(context_.get(), digest.data(), &size, digest.size()) == 1 &&
                   size == digest.size());
    return digest;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void append_hex(std::string& out, std::string_view bytes) {
    static constexpr std::string_view digits = "0123456789abcdef";
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        out.push_back(digits[byte >> 4]);
        out.push_back(digits[byte & 15]);
    }
}

std::string to_hex(std::string_view bytes) {
    std::string out;
    append_hex(out, bytes);
    return out;
}

std::optional<std::string> from_hex(std::string_view text) {
    if (text.size() % 2 != 0) {
        return std::nullopt;
    }
    std::string out;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = http::hex_value(text[i]);
        const int low = http::hex_value(text[i + 1]);
        if (high < 0 || low < 0) {
            return std::nullopt;
        }
        out.push_back(static_cast<char>(high << 4 | low));
    }
    return out;
}

std::string to_base64(std::string_view bytes) {
    std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
    const int size =
        EVP_EncodeBlock(bytes_of(out), bytes_of(bytes), static_cast<int>(bytes.size()));
    out.resize(static_cast<std::size_t>(size));
    return out;
}

std::optional<std::string> from_base64(std::string_view text) {
    // EVP_DecodeBlock() also takes blanks around the text; we don't.
    if (text.empty() || text.size() % 4 != 0 || text.size() > 64 * 1024 ||
        text.find_first_of(" \t\r\n") != std::string_view::npos) {
        return std::nullopt;
    }
    std::string out(text.size() / 4 * 3, '\0');
    if (EVP_DecodeBlock(bytes_of(out), bytes_of(text), static_cast<int>(text.size())) < 0) {
        return std::nullopt;
    }
    out.resize(out.size() - (text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0));
    // Bits that stand for nothing may be set, and then two texts would mean the same bytes.
    if (to_base64(out) != text) {
        return std::nullopt;
    }
    return out;
}

std::string random_bytes(std::size_t count) {
    std::string out(count, '\0');
    PENSTOCK_CHECK(RAND_bytes(bytes_of(out), static_cast<int>(count)) == 1);
    return out;
}

std::string derive_key(std::string_view secret, std::string_view salt, std::string_view purpose) {
    EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
    PENSTOCK_CHECK(kdf != nullptr);
    EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
    EVP_KDF_free(kdf);
    PENSTOCK_CHECK(context != nullptr);
    std::string digest_name = "SHA256";
    std::string secret_copy(secret);
    std::string salt_copy(salt);
    std::string purpose_copy(purpose);
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret_copy.data(),
                                          secret_copy.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt_copy.data(), salt_copy.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, purpose_copy.data(),
                                          purpose_copy.size()),
        OSSL_PARAM_construct_end()};
    std::string out(key_bytes, '\0');
    PENSTOCK_CHECK(EVP_KDF_derive(context, bytes_of(out), out.size(), parameters) == 1);
    EVP_KDF_CTX_free(context);
    OPENSSL_cleanse(secret_copy.data(), secret_copy.size());
    return out;
}

std::string seal(std::string_view key, std::string_view context, std::string_view text) {
    PENSTOCK_CHECK(key.size() == key_bytes);
    std::string out = random_bytes(nonce_bytes);
    out.resize(nonce_bytes + text.size() + tag_bytes);
    unsigned char* const body = bytes_of(out) + nonce_bytes;
    const CipherContext cipher(EVP_CIPHER_CTX_new());
    int size = 0;
    PENSTOCK_CHECK(cipher &&
                   EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(key),
                                      bytes_of(out)) == 1 &&
                   EVP_EncryptUpdate(cipher.get(), nullptr, &size, bytes_of(context),
                                     static_cast<int>(context.size())) == 1 &&
                   EVP_EncryptUpdate(cipher.get(), body, &size, bytes_of(text),
                                     static_cast<int>(text.size())) == 1 &&
                   EVP_EncryptFinal_ex(cipher.get(), body + text.size(), &size) == 1 &&
                   EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, tag_bytes,
                                       body + text.size()) == 1);
    return out;
}

std::optional<std::string> unseal(std::string_view key, std::string_view context,
                                  std::string_view sealed) {
    if (key.size() != key_bytes || sealed.size() < seal_overhead_bytes) {
        return std::nullopt;
    }
    std::string out(sealed.size() - seal_overhead_bytes, '\0');
    std::string tag(sealed.substr(sealed.size() - tag_bytes));
    const CipherContext cipher(EVP_CIPHER_CTX_new());
    int size = 0;
    PENSTOCK_CHECK(
        cipher &&
        EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(key),
                           bytes_of(sealed)) == 1 &&
        EVP_DecryptUpdate(cipher.get(), nullptr, &size, bytes_of(context),
                          static_cast<int>(context.size())) == 1 &&
        EVP_DecryptUpdate(cipher.get(), bytes_of(out), &size, bytes_of(sealed) + nonce_bytes,
                          static_cast<int>(out.size())) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, tag_bytes, tag.data()) == 1);
    unsigned char none[16];
    if (EVP_DecryptFinal_ex(cipher.get(), none, &size) != 1) {
        OPENSSL_cleanse(out.data(), out.size());
        return std::nullopt;
    }
    return out;
}

}  // namespace penstock::auth
