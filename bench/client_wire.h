// A client's end of a connection to 127.0.0.1: in clear text, or over TLS by OpenSSL with a full
// handshake or one that resumes a session.
//
// Runs on: one thread.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace penstock::bench {

enum class Security : std::uint8_t { none, full, resumed };

// What connections of one client share: what it trusts, and the session that others resume.
class ClientTls {
public:
    ClientTls() = default;
    ~ClientTls() {
        SSL_SESSION_free(session_);
        SSL_CTX_free(context_);
    }
    ClientTls(const ClientTls&) = delete;
    ClientTls& operator=(const ClientTls&) = delete;

    [[nodiscard]] bool open(Security security, const std::string& authority) {
        security_ = security;
        if (security == Security::none) {
            return true;
        }
        context_ = SSL_CTX_new(TLS_client_method());
        if (context_ == nullptr ||
            SSL_CTX_load_verify_locations(context_, authority.c_str(), nullptr) != 1) {
            std::fprintf(stderr, "found no authority in '%s'\n", authority.c_str());
            return false;
        }
        SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
        SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE);
        SSL_CTX_set_session_cache_mode(context_,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_set_app_data(context_, this);
        SSL_CTX_sess_set_new_cb(context_, [](SSL* ssl, SSL_SESSION* session) {
            auto* self = static_cast<ClientTls*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
            SSL_SESSION_free(self->session_);
            self->session_ = session;
            return 1;
        });
        return true;
    }
    [[nodiscard]] SSL* connect(int fd) {
        if (security_ == Security::none) {
            return nullptr;
        }
        SSL* ssl = SSL_new(context_);
        SSL_set_fd(ssl, fd);
        SSL_set_connect_state(ssl);
        if (security_ == Security::resumed && session_ != nullptr) {
            // A copy: a session that one connection was unhappy with is not offered again.
            SSL_SESSION* own = SSL_SESSION_dup(session_);
            SSL_set_session(ssl, own);
            SSL_SESSION_free(own);
        }
        return ssl;
    }

private:
    Security security_ = Security::none;
    SSL_CTX* context_ = nullptr;
    SSL_SESSION* session_ = nullptr;
};

class ClientWire {
public:
    enum class Step : std::uint8_t { moved, wait_read, wait_write, ended };

    ClientWire() = default;
    ~ClientWire() { close(); }
    ClientWire(const ClientWire&) = delete;
    ClientWire& operator=(const ClientWire&) = delete;
    ClientWire(ClientWire&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), ssl_(std::exchange(other.ssl_, nullptr)) {}

    // `serial` spreads fresh connections over several addresses of this machine: one has ports for
    // no more than some ten thousand in the minute that each is kept after its end.
    [[nodiscard]] bool open(const std::string& host, std::uint16_t port, ClientTls& tls,
                            std::uint64_t serial) {
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;
        sockaddr_in own{};
        own.sin_family = AF_INET;
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + static_cast<std::uint32_t>(serial % 64));
        ::setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        if (::inet_pton(AF_INET, host.c_str(), &to.sin_addr) != 1 ||
            (serial != 0 && ::bind(fd_, reinterpret_cast<sockaddr*>(&own), sizeof own) != 0) ||
            ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
            return false;
        }
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ssl_ = tls.connect(fd_);
        if (ssl_ != nullptr) {
            ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) | O_NONBLOCK);
        }
        return true;
    }
    void close() {
        if (ssl_ != nullptr) {
            // One that is not closed in good order takes its session with it.
            SSL_shutdown(ssl_);
            SSL_free(std::exchange(ssl_, nullptr));
        }
        if (fd_ >= 0) {
            ::close(std::exchange(fd_, -1));
        }
    }
    [[nodiscard]] int fd() const noexcept { return fd_; }
    [[nodiscard]] bool resumed() const noexcept {
        return ssl_ != nullptr && SSL_session_reused(ssl_) == 1;
    }

    [[nodiscard]] Step send(std::string_view bytes, std::size_t& count) {
        if (ssl_ != nullptr) {
            ERR_clear_error();
            return step(SSL_write_ex(ssl_, bytes.data(), bytes.size(), &count));
        }
        const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        count = sent > 0 ? static_cast<std::size_t>(sent) : 0;
        return sent >= 0 ? Step::moved : errno == EAGAIN ? Step::wait_write : Step::ended;
    }
    [[nodiscard]] Step receive(char* to, std::size_t room, std::size_t& count) {
        if (ssl_ != nullptr) {
            ERR_clear_error();
            return step(SSL_read_ex(ssl_, to, room, &count));
        }
        const ssize_t got = ::recv(fd_, to, room, MSG_DONTWAIT);
        count = got > 0 ? static_cast<std::size_t>(got) : 0;
        return got > 0 ? Step::moved : got < 0 && errno == EAGAIN ? Step::wait_read : Step::ended;
    }

private:
    [[nodiscard]] Step step(int done) const {
        if (done == 1) {
            return Step::moved;
        }
        switch (SSL_get_error(ssl_, done)) {
            case SSL_ERROR_WANT_READ:
                return Step::wait_read;
            case SSL_ERROR_WANT_WRITE:
                return Step::wait_write;
            default:
                return Step::ended;
        }
    }

    int fd_ = -1;
    SSL* ssl_ = nullptr;
};

}  // namespace penstock::bench
