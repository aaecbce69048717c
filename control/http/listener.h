// A listening TCP socket.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

namespace penstock::http {

struct Listener {
    int fd = -1;
    std::uint16_t port = 0;  // the one bound, also when 0 was asked for
};

// Binds `host`, an address in digits or localhost, and listens without blocking. `what` names the
// address in the error, which is one line for people.
[[nodiscard]] std::expected<Listener, std::string> listen_on(const std::string& what,
                                                             const std::string& host,
                                                             std::uint16_t port);

}  // namespace penstock::http
