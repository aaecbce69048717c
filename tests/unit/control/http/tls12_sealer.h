// Seals records of TLS 1.2 by hand, for what no library's client would send.
#pragma once

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "storage/base/check.h"

namespace penstock::http {

// For a client whose handshake is done, with AES-256-GCM and SHA-384, and who has sent nothing
// since. It must send nothing by itself from then on.
class Tls12Sealer {
public:
    explicit Tls12Sealer(SSL* ssl) {
        const std::string_view cipher = SSL_get_cipher_name(ssl);
        PENSTOCK_CHECK(cipher == "ECDHE-ECDSA-AES256-GCM-SHA384");
        std::array<unsigned char, 48> master{};
        std::array<unsigned char, 13 + 64> seed{'k', 'e', 'y', ' ', 'e', 'x', 'p',
                                                'a', 'n', 's', 'i', 'o', 'n'};
        SSL_SESSION_get_master_key(SSL_get_session(ssl), master.data(), master.size());
        SSL_get_server_random(ssl, seed.data() + 13, 32);
        SSL_get_client_random(ssl, seed.data() + 45, 32);
        char digest[] = "SHA384";
        const OSSL_PARAM parameters[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master.data(), master.size()),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed.data(), seed.size()),
            OSSL_PARAM_construct_end()};
        EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "TLS1-PRF", nullptr);
        EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
        PENSTOCK_CHECK(EVP_KDF_derive(context, keys_.data(), keys_.size(), parameters) == 1);
        EVP_KDF_CTX_free(context);
        EVP_KDF_free(kdf);
    }

    // A ClientHello without anything in it.
    [[nodiscard]] std::string hello() { return seal(22, {"\x01\0\0\0", 4}); }
    [[nodiscard]] std::string data(std::string_view text) { return seal(23, text); }

private:
    [[nodiscard]] std::string seal(unsigned char type, std::string_view text) {
        const auto sealed_bytes = static_cast<unsigned>(8 + text.size() + 16);
        std::string out{static_cast<char>(type), 3, 3, static_cast<char>(sealed_bytes >> 8),
                        static_cast<char>(sealed_bytes & 255)};
        std::string number(8, '\0');
        for (unsigned i = 0; i < 8; ++i) {
            number[i] = static_cast<char>(records_ >> (56 - 8 * i));
        }
        ++records_;
        const std::string nonce =
            std::string(reinterpret_cast<const char*>(keys_.data()) + 64, 4) + number;
        const std::string known = number + static_cast<char>(type) + "\x03\x03" +
                                  static_cast<char>(text.size() >> 8) +
                                  static_cast<char>(text.size() & 255);
        std::string body(text.size() + 16, '\0');
        auto* to = reinterpret_cast<unsigned char*>(body.data());
        const auto bytes_of = [](std::string_view view) {
            return reinterpret_cast<const unsigned char*>(view.data());
        };
        EVP_CIPHER_CTX* cipher = EVP_CIPHER_CTX_new();
        int size = 0;
        PENSTOCK_CHECK(
            EVP_EncryptInit_ex(cipher, EVP_aes_256_gcm(), nullptr, keys_.data(), bytes_of(nonce)) ==
                1 &&
            EVP_EncryptUpdate(cipher, nullptr, &size, bytes_of(known),
                              static_cast<int>(known.size())) == 1 &&
            EVP_EncryptUpdate(cipher, to, &size, bytes_of(text), static_cast<int>(text.size())) ==
                1 &&
            EVP_EncryptFinal_ex(cipher, to + text.size(), &size) == 1 &&
            EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, 16, to + text.size()) == 1);
        EVP_CIPHER_CTX_free(cipher);
        return out + number + body;
    }

    // The client's key, the server's, and four bytes of the nonces of each.
    std::array<unsigned char, 72> keys_{};
    std::uint64_t records_ = 1;  // the handshake's last was number 0
};

}  // namespace penstock::http
