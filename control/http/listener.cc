#include "control/http/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "control/http/message.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

constexpr int listen_backlog = 1024;

}  // namespace

std::expected<Listener, std::string> listen_on(const std::string& what, const std::string& wanted,
                                               std::uint16_t port) {
    std::string host = equals_ignoring_case(wanted, "localhost") ? "127.0.0.1" : wanted;
    if (host.front() == '[') {
        host = host.substr(1, host.size() - 2);
    }
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int code = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
        code != 0) {
        return std::unexpected("the " + what + " address " + host +
                               " is not usable: " + gai_strerror(code));
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> address(found, freeaddrinfo);
    const int fd = ::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        ::bind(fd, address->ai_addr, address->ai_addrlen) != 0 ||
        ::listen(fd, listen_backlog) != 0) {
        const int code = errno;
        if (fd >= 0) {
            ::close(fd);
        }
        return std::unexpected(
            "cannot listen on " + wanted + ":" + std::to_string(port) + " for " + what + ": " +
            std::strerror(code) +
            (code == EADDRINUSE ? "; choose another port, or 0 for a free one" : ""));
    }
    sockaddr_storage bound{};
    socklen_t size = sizeof(bound);
    PENSTOCK_CHECK(::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) == 0);
    Listener listener;
    listener.fd = fd;
    listener.port =
        ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                          : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
    return listener;
}

}  // namespace penstock::http
