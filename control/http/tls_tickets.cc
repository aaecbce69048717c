#include "control/http/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "control/http/tls.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

// What OpenSSL expects of the callback.
constexpr int failed = -1;
constexpr int unknown_key = 0;  // a full handshake follows
constexpr int good = 1;
constexpr int good_but_renew = 2;

constexpr std::uint64_t life_ns =
    static_cast<std::uint64_t>(std::chrono::nanoseconds(ticket_key_life).count());

bool set_mac(EVP_MAC_CTX* mac, std::array<unsigned char, 32>& key) {
    static constexpr const char* digest = "SHA256";
    std::array<OSSL_PARAM, 3> parameters{
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.data(), key.size()),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(digest), 0),
        OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac, parameters.data()) == 1;
}

}  // namespace

TicketKeys::~TicketKeys() {
    current_.clear();
    previous_.clear();
}

void TicketKeys::use_in(SSL_CTX* context) {
    PENSTOCK_CHECK(SSL_CTX_set_app_data(context, this) == 1);
    PENSTOCK_CHECK(SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &TicketKeys::on_ticket) == 1);
}

int TicketKeys::on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                          EVP_MAC_CTX* mac, int seals) {
    auto& keys = *static_cast<TicketKeys*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    const std::lock_guard lock(keys.mutex_);
    const std::uint64_t now_ns = keys.clock_.monotonic_ns();
    keys.wipe(now_ns);
    if (seals == 0) {
        return keys.open(name, iv, cipher, mac);
    }
    return keys.ensure_current(now_ns) ? keys.seal(name, iv, cipher, mac) : failed;
}

std::size_t TicketKeys::wipe_old() {
    const std::lock_guard lock(mutex_);
    wipe(clock_.monotonic_ns());
    return (current_.set ? 1 : 0) + (previous_.set ? 1 : 0);
}

void TicketKeys::Key::clear() noexcept {
    OPENSSL_cleanse(this, sizeof(*this));
}

// Whichever key is too old for its part goes.
void TicketKeys::wipe(std::uint64_t now_ns) {
    const auto is_older = [now_ns](const Key& key, std::uint64_t age_ns) {
        return key.set && now_ns - key.made_ns >= age_ns;
    };
    if (is_older(current_, life_ns)) {
        previous_ = current_;
        current_.clear();
    }
    if (is_older(previous_, 2 * life_ns)) {
        previous_.clear();
    }
}

// False when there is no randomness for a new one.
bool TicketKeys::ensure_current(std::uint64_t now_ns) {
    if (current_.set) {
        return true;
    }
    current_.made_ns = now_ns;
    current_.set =
        RAND_bytes(current_.name.data(), static_cast<int>(current_.name.size())) == 1 &&
        RAND_priv_bytes(current_.cipher_key.data(), static_cast<int>(current_.cipher_key.size())) ==
            1 &&
        RAND_priv_bytes(current_.mac_key.data(), static_cast<int>(current_.mac_key.size())) == 1;
    return current_.set;
}

int TicketKeys::seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                     EVP_MAC_CTX* mac) {
    std::ranges::copy(current_.name, name);
    const bool done = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
                      EVP_EncryptInit_ex2(cipher, EVP_aes_256_cbc(), current_.cipher_key.data(), iv,
                                          nullptr) == 1 &&
                      set_mac(mac, current_.mac_key);
    return done ? good : failed;
}

int TicketKeys::open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
                     EVP_MAC_CTX* mac) {
    for (Key* key : {&current_, &previous_}) {
        if (!key->set || std::memcmp(key->name.data(), name, key->name.size()) != 0) {
            continue;
        }
        const bool done = EVP_DecryptInit_ex2(cipher, EVP_aes_256_cbc(), key->cipher_key.data(), iv,
                                              nullptr) == 1 &&
                          set_mac(mac, key->mac_key);
        return !done ? failed : key == &current_ ? good : good_but_renew;
    }
    return unknown_key;
}

}  // namespace penstock::http
