#include "control/node/local_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace penstock {

namespace {

constexpr int backlog = 16;

// False when the name does not fit.
bool fill(std::string_view name, sockaddr_un& address, socklen_t& size) noexcept {
    address = {};
    address.sun_family = AF_UNIX;
    if (name.size() < 2 || name.size() >= sizeof(address.sun_path)) {
        return false;
    }
    std::memcpy(address.sun_path, name.data(), name.size());
    if (is_abstract(name)) {
        address.sun_path[0] = '\0';
    }
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() +
                                  (is_abstract(name) ? 0 : 1));
    return true;
}

// Whether somebody listens there. What cannot be told is left alone.
bool answers(const std::string& name) noexcept {
    const int fd = connect_local(name);
    if (fd < 0) {
        return errno != ECONNREFUSED;
    }
    ::close(fd);
    return true;
}

std::unexpected<std::string> failed(const std::string& name, const std::string& why) {
    return std::unexpected("--local-socket " + name + ": " + why);
}

}  // namespace

std::string default_local_socket(std::string_view http_host, std::uint16_t http_port) {
    const bool usual = http_host == "127.0.0.1" || http_host == "localhost" ||
                       http_host == "0.0.0.0" || http_host == "::";
    return "@penstock-" + (usual ? std::string() : std::string(http_host) + "-") +
           std::to_string(http_port);
}

bool is_abstract(std::string_view name) noexcept {
    return name.starts_with('@');
}

std::expected<int, std::string> listen_local(const std::string& name) {
    sockaddr_un address{};
    socklen_t size = 0;
    if (!fill(name, address, size)) {
        return failed(name, "expected an absolute path or @NAME of at most 107 bytes");
    }
    struct stat info{};
    if (!is_abstract(name) && ::lstat(name.c_str(), &info) == 0) {
        if (!S_ISSOCK(info.st_mode)) {
            return failed(name, "is there already and is no socket; name another path");
        }
        if (!answers(name)) {
            ::unlink(name.c_str());
        }
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return failed(name, std::strerror(errno));
    }
    // Nobody can connect before listen(), so that the mode is there in time.
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        (!is_abstract(name) && ::chmod(name.c_str(), 0600) != 0) || ::listen(fd, backlog) != 0) {
        const int code = errno;
        ::close(fd);
        return failed(
            name,
            std::string("cannot listen: ") + std::strerror(code) +
                (code == EADDRINUSE ? "; another process has it: stop that, or name another" : ""));
    }
    return fd;
}

void remove_local(const std::string& name) noexcept {
    if (!name.empty() && !is_abstract(name)) {
        ::unlink(name.c_str());
    }
}

int connect_local(std::string_view name) noexcept {
    sockaddr_un address{};
    socklen_t size = 0;
    if (!fill(name, address, size)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0) {
        const int code = errno;
        ::close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

bool is_trusted(int fd) noexcept {
    ucred peer{};
    socklen_t size = sizeof(peer);
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == ::geteuid());
}

}  // namespace penstock
