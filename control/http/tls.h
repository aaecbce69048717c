// TLS for HTTP connections: a server's certificate, and the connection that wraps another one.
//
// Runs on: a TlsContext serves all control threads and may be reloaded from any; a connection
// belongs to one control thread.
// Guarantees: TLS 1.2 or 1.3. A session may be resumed on any control thread, and after a reload. A
// reload changes nothing for connections that are open, and nothing at all when it fails.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "control/http/connection.h"
#include "storage/base/clock.h"

namespace penstock::http {

struct TlsFiles {
    std::string certificate;  // PEM, the server's own first, then what leads to its root
    std::string key;          // PEM, without a password
};

// What is known of the certificate in use.
struct TlsCertificate {
    std::string subject;             // "CN=localhost"
    std::int64_t expires_seconds{};  // since 1970
    std::string warning;             // empty, or a line about what will make clients refuse it
};

class TlsContext {
public:
    virtual ~TlsContext() = default;

    // Reads certificate and key. An error is one line for people. `clock` must outlive the context.
    [[nodiscard]] static std::expected<std::unique_ptr<TlsContext>, std::string> open(
        TlsFiles files, Clock& clock);

    // Reads the files again; new connections get what they hold now.
    [[nodiscard]] virtual std::expected<TlsCertificate, std::string> reload() = 0;
    [[nodiscard]] virtual TlsCertificate certificate() const = 0;

    // Wipes the keys of session tickets that are too old to open any. To be called every now and
    // then; returns how many are left.
    virtual std::size_t wipe_old_ticket_keys() = 0;

    // TLS with ALPN "h2" and "http/1.1". Both must outlive the connection.
    [[nodiscard]] virtual std::unique_ptr<Connection> connect(ConnectionContext& context) = 0;
};

// A key makes tickets for this long, and opens them until it is twice as old.
inline constexpr std::chrono::hours ticket_key_life{6};

}  // namespace penstock::http
