// The keys that session tickets are sealed with.
//
// Runs on: any control thread.
// Guarantees: a key makes tickets for ticket_key_life and opens them for as long again, by its own
// age; the first use or wipe_old() after that wipes it, so that what was recorded earlier cannot be
// opened with what a thief finds here.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "storage/base/clock.h"

namespace penstock::http {

class TicketKeys {
public:
    explicit TicketKeys(Clock& clock) noexcept : clock_(clock) {}
    ~TicketKeys();
    TicketKeys(const TicketKeys&) = delete;
    TicketKeys& operator=(const TicketKeys&) = delete;

    // Makes `context` use these keys, which must outlive it.
    void use_in(SSL_CTX* context);
    // To be called every now and then, since nobody else might. Returns how many keys are left.
    std::size_t wipe_old();

private:
    struct Key {
        std::array<unsigned char, 16> name{};
        std::array<unsigned char, 32> cipher_key{};
        std::array<unsigned char, 32> mac_key{};
        std::uint64_t made_ns = 0;
        bool set = false;

        void clear() noexcept;
    };

    static int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                         EVP_MAC_CTX* mac, int seals);
    void wipe(std::uint64_t now_ns);
    [[nodiscard]] bool ensure_current(std::uint64_t now_ns);
    [[nodiscard]] int seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                           EVP_MAC_CTX* mac);
    [[nodiscard]] int open(const unsigned char* name, const unsigned char* iv,
                           EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac);

    Clock& clock_;
    std::mutex mutex_;
    Key current_;
    Key previous_;
};

}  // namespace penstock::http
