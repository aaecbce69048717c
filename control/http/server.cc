#include "control/http/server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <thread>

#include "control/http/guard.h"
#include "control/http/listener.h"
#include "control/http/worker.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

constexpr std::uint64_t accept_pause_ms = 100;
constexpr int accepts_per_turn_max = 64;
// Connections accepted and not adopted by their thread yet, beyond connections_max.
constexpr std::size_t handed_over_max = 256;
// Of an answer, what the kernel may hold that it cannot send: enough for any distance at hand, and
// what a peer that does not read costs beside the peer's own window.
constexpr int unsent_in_kernel_bytes_max = 256 * 1024;

// The first control thread accepts for all and gives each connection to the one with the fewest:
// with a socket per thread the kernel would spread a handful of connections unevenly.
class Server final : public HttpServer {
public:
    explicit Server(ServerOptions options) : options_(std::move(options)) {}
    ~Server() override { stop(); }

    [[nodiscard]] std::expected<void, std::string> start(const HandlerFactory& factory);
    [[nodiscard]] std::uint16_t port() const noexcept override { return listening_[0].at.port; }
    [[nodiscard]] std::uint16_t tls_port() const noexcept override {
        return listening_.size() > 1 ? listening_[1].at.port : std::uint16_t{0};
    }
    [[nodiscard]] ServerCounters counters() const noexcept override;
    void stop() override;

private:
    struct Door {
        Listener at;
        bool secure = false;
    };

    [[nodiscard]] std::expected<void, std::string> listen();
    void accept_some(const Door& door);
    void place(int fd, bool secure);
    void pause_accepting(int fd, int code);
    void wipe_old_keys();

    ServerOptions options_;
    std::vector<Door> listening_;  // clear text, then TLS if there is any
    bool stopped_ = false;
    bool told_no_descriptors_ = false;
    Counter accepted_;
    Counter refused_;
    std::vector<std::unique_ptr<Worker>> workers_;
    std::vector<std::thread> threads_;
};

std::expected<void, std::string> Server::start(const HandlerFactory& factory) {
    if (auto listening = listen(); !listening) {
        return listening;
    }
    for (unsigned i = 0; i < std::max(options_.threads, 1U); ++i) {
        auto loop = LoopThread::open(i);
        if (!loop) {
            return std::unexpected("a control thread cannot start: " + describe(loop.error()));
        }
        workers_.push_back(std::make_unique<Worker>(options_, std::move(*loop)));
    }
    std::string problem;
    for (const auto& worker : workers_) {
        std::promise<std::string> ready;
        auto outcome = ready.get_future();
        threads_.emplace_back(
            [&worker = *worker, &factory, &ready] { worker.run(factory, ready); });
        problem = outcome.get();
        if (!problem.empty()) {
            return std::unexpected(problem);
        }
    }
    std::promise<Status> watching;
    auto outcome = watching.get_future();
    workers_.front()->loop().post([this, &watching] {
        Status status;
        for (const Door& door : listening_) {
            if (status) {
                status = workers_.front()->loop().watch(
                    door.at.fd, [this, &door](std::uint32_t) { accept_some(door); });
            }
        }
        if (options_.tls != nullptr) {
            wipe_old_keys();
        }
        watching.set_value(status);
    });
    if (const Status status = outcome.get(); !status) {
        return std::unexpected("a control thread cannot start: " + describe(status.error()));
    }
    return {};
}

std::expected<void, std::string> Server::listen() {
    if (options_.listen_fd >= 0) {
        listening_.push_back({{options_.listen_fd, 0}, false});
        return {};
    }
    for (const std::string& host :
         {options_.host, options_.tls != nullptr ? options_.tls_host : options_.host}) {
        if (auto allowed = check_bind_address(host); options_.guarded && !allowed) {
            return std::unexpected(allowed.error());
        }
    }
    auto clear = listen_on("HTTP", options_.host, options_.port);
    if (!clear) {
        return std::unexpected(clear.error());
    }
    listening_.push_back({*clear, false});
    if (options_.tls != nullptr) {
        auto secure = listen_on("HTTPS", options_.tls_host, options_.tls_port);
        if (!secure) {
            return std::unexpected(secure.error());
        }
        listening_.push_back({*secure, true});
    }
    return {};
}

void Server::accept_some(const Door& door) {
    for (int i = 0; i < accepts_per_turn_max; ++i) {
        const int fd = ::accept4(door.at.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && options_.admit && !options_.admit(fd)) {
            refused_.add();
            ::close(fd);
        } else if (fd >= 0) {
            place(fd, door.secure);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            const int code = errno;
            // This thread's own connections: the others' cannot be closed from here.
            if (!workers_.front()->make_room()) {
                pause_accepting(door.at.fd, code);
                return;
            }
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

void Server::place(int fd, bool secure) {
    // Of equals each in its turn: when all are full, each makes place.
    const std::size_t first = accepted_.get() % workers_.size();
    std::size_t fewest = first;
    for (std::size_t i = 1; i < workers_.size(); ++i) {
        const std::size_t other = (first + i) % workers_.size();
        if (workers_[other]->counters().open.get() < workers_[fewest]->counters().open.get()) {
            fewest = other;
        }
    }
    Worker& worker = *workers_[fewest];
    if (worker.counters().open.get() >= options_.connections_max + handed_over_max) {
        refused_.add();
        ::close(fd);
        return;
    }
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_in_kernel_bytes_max,
                 sizeof(unsent_in_kernel_bytes_max));
    accepted_.add();
    worker.counters().open.add();
    if (fewest == 0) {
        worker.adopt(fd, secure);
    } else {
        worker.loop().post([&worker, fd, secure] { worker.adopt(fd, secure); });
    }
}

// Without descriptors the pending connection stays pending and would wake the loop for ever.
void Server::pause_accepting(int fd, int code) {
    refused_.add();
    if (!told_no_descriptors_ && options_.log) {
        options_.log(std::string("connections cannot be accepted: ") + std::strerror(code) +
                     "; raise the limit of open files (ulimit -n)");
        told_no_descriptors_ = true;
    }
    LoopThread& loop = workers_.front()->loop();
    [[maybe_unused]] const Status paused = loop.change(fd, 0);
    loop.run_after(accept_pause_ms, [fd, &loop] {
        // Fails harmlessly once the server is stopping and no longer watches.
        [[maybe_unused]] const Status resumed = loop.change(fd, EPOLLIN);
    });
}

// Any one thread does it for all.
void Server::wipe_old_keys() {
    options_.tls->wipe_old_ticket_keys();
    workers_.front()->loop().run_after(options_.tls_keys_period_ms, [this] { wipe_old_keys(); });
}

ServerCounters Server::counters() const noexcept {
    ServerCounters sum;
    sum.connections_accepted = accepted_.get();
    sum.connections_refused = refused_.get();
    for (const auto& worker : workers_) {
        const ThreadCounters& counters = worker->counters();
        sum.connections_refused += counters.refused.get();
        sum.connections_timed_out += counters.timed_out.get();
        for (std::size_t i = 0; i < ending_count; ++i) {
            sum.connections_closed[i] += counters.closed[i].get();
        }
        sum.connections_open += counters.open.get();
        sum.requests += counters.requests.get();
        sum.requests_http2 += counters.requests_http2.get();
        sum.requests_refused += counters.guarded.get();
        sum.requests_malformed += counters.malformed.get();
        sum.received_bytes += counters.received_bytes.get();
        sum.sent_bytes += counters.sent_bytes.get();
        const ConnectionCounters& met = worker->connection_counters();
        const AnswerCounters& answers = worker->answer_counters();
        // What is given back is read first: it cannot be more than what was claimed.
        const std::uint64_t given_back_bytes = answers.given_back_bytes.get();
        sum.large_answer_bytes +=
            std::max(answers.claimed_bytes.get(), given_back_bytes) - given_back_bytes;
        sum.requests_held += answers.held.get();
        sum.http2_connections += met.http2_connections.get();
        sum.http2_streams_reset += met.streams_reset.get();
        sum.http2_floods += met.floods.get();
        sum.tls_handshakes += met.tls_handshakes.get();
        sum.tls_resumptions += met.tls_resumptions.get();
        sum.tls_failures += met.tls_failures.get();
    }
    return sum;
}

void Server::stop() {
    if (stopped_) {
        return;
    }
    stopped_ = true;
    if (!threads_.empty()) {
        // The acceptor stops first, so that no thread is handed a connection after it ended.
        std::promise<void> unwatched;
        workers_.front()->loop().post([this, &unwatched] {
            for (const Door& door : listening_) {
                workers_.front()->loop().unwatch(door.at.fd);
            }
            unwatched.set_value();
        });
        unwatched.get_future().wait();
    }
    for (const Door& door : listening_) {
        ::close(door.at.fd);
    }
    for (std::size_t i = 0; i < threads_.size(); ++i) {
        Worker& worker = *workers_[i];
        worker.loop().post([&worker] { worker.begin_stop(); });
    }
    for (std::thread& thread : threads_) {
        thread.join();
    }
}

}  // namespace

HttpExchange::~HttpExchange() {
    if (!answered_) {
        deliver(HttpResponse::text(500, "The request was dropped without an answer."));
    }
}

void HttpExchange::deliver(HttpResponse&& response) {
    if (observer_ != nullptr) {
        observer_->on_answer(operation_, begun_ns_, response.status);
    }
    for (auto& header : headers_) {
        response.headers.push_back(std::move(header));
    }
    sink_->respond(connection_, stream_, std::move(response));
}

void HttpExchange::respond(HttpResponse&& response) {
    PENSTOCK_CHECK(!answered_);
    answered_ = true;
    deliver(std::move(response));
}

std::expected<std::unique_ptr<HttpServer>, std::string> HttpServer::open(ServerOptions options,
                                                                         HandlerFactory factory) {
    auto server = std::make_unique<Server>(std::move(options));
    if (auto started = server->start(factory); !started) {
        return std::unexpected(started.error());
    }
    return server;
}

}  // namespace penstock::http
