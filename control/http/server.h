// The HTTP server: control threads, each with its own event loop, connections and handler.
//
// Runs on: open() and stop() on the caller's thread; handlers on the control thread they belong to.
// Guarantees: a handler is made, called and destroyed on its own thread, and is never called from
// two threads. An exchange may outlive its connection; answering it then does nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/http/connection.h"
#include "control/http/loop.h"
#include "control/http/message.h"
#include "control/http/tls.h"

namespace penstock::http {

// A connection of one control thread; never reused while the process runs.
enum class ConnectionId : std::uint64_t {};

// Where an exchange hands its answer. The server implements it; so may a test.
class ResponseSink {
public:
    virtual ~ResponseSink() = default;
    virtual void respond(ConnectionId connection, StreamId stream, HttpResponse&& response) = 0;
    [[nodiscard]] virtual bool is_open(ConnectionId connection) const noexcept = 0;
    // The BodyStream of this answer has more; nothing happens if the stream is gone.
    virtual void resume(ConnectionId /*connection*/, StreamId /*stream*/) {}
};

// Wakes the BodyStream of one answer after it said `later`. On the control thread of the answer,
// at any time while the server lives: once the answer has ended, it does nothing.
class BodyWaker {
public:
    BodyWaker(ResponseSink& sink, ConnectionId connection, StreamId stream) noexcept
        : sink_(&sink), connection_(connection), stream_(stream) {}
    void wake() const { sink_->resume(connection_, stream_); }

private:
    ResponseSink* sink_;
    ConnectionId connection_;
    StreamId stream_;
};

// Is told what an exchange was answered, before the answer goes to the sink.
class AnswerObserver {
public:
    virtual ~AnswerObserver() = default;
    // `operation` and `begun_ns` are what observe() was given.
    virtual void on_answer(std::size_t operation, std::uint64_t begun_ns, int status) noexcept = 0;
};

// One request and the right to answer it once, now or later, on the thread that received it.
class HttpExchange {
public:
    HttpExchange(ResponseSink& sink, ConnectionId connection, StreamId stream,
                 std::unique_ptr<HttpRequest> request) noexcept
        : sink_(&sink), connection_(connection), stream_(stream), request_(std::move(request)) {}
    // An exchange dropped without an answer is answered 500, so that no client waits for ever.
    ~HttpExchange();
    HttpExchange(const HttpExchange&) = delete;
    HttpExchange& operator=(const HttpExchange&) = delete;

    [[nodiscard]] ConnectionId connection() const noexcept { return connection_; }
    [[nodiscard]] StreamId stream() const noexcept { return stream_; }
    // Valid until the exchange is destroyed, also after respond().
    [[nodiscard]] const HttpRequest& request() const noexcept { return *request_; }
    // False once the peer is gone: work for it may be given up.
    [[nodiscard]] bool is_open() const noexcept { return sink_->is_open(connection_); }
    // For the BodyStream this exchange is going to be answered with; outlives the exchange.
    [[nodiscard]] BodyWaker waker() const noexcept { return {*sink_, connection_, stream_}; }
    // At most once.
    void respond(HttpResponse&& response);
    // Told of the answer, also of the 500; must outlive the exchange.
    void observe(AnswerObserver& observer, std::size_t operation, std::uint64_t begun_ns) noexcept {
        observer_ = &observer;
        operation_ = operation;
        begun_ns_ = begun_ns;
    }
    // A header of the answer, whoever gives it, also the 500.
    void add_header(std::string name, std::string value) {
        headers_.emplace_back(std::move(name), std::move(value));
    }
    [[nodiscard]] bool answered() const noexcept { return answered_; }

private:
    void deliver(HttpResponse&& response);

    ResponseSink* sink_;
    ConnectionId connection_;
    StreamId stream_;
    bool answered_ = false;
    std::unique_ptr<HttpRequest> request_;
    AnswerObserver* observer_ = nullptr;
    std::size_t operation_ = 0;
    std::uint64_t begun_ns_ = 0;
    std::vector<std::pair<std::string, std::string>> headers_;  // of the answer
};

class HttpHandler {
public:
    virtual ~HttpHandler() = default;
    // Takes over the exchange. Must not throw for anything a peer can cause; what is thrown anyway
    // is answered 500 and logged by the server's error callback.
    virtual void handle(std::unique_ptr<HttpExchange> exchange) = 0;
    // What the answer to this request, which handle() has not seen yet, may take, when that can be
    // megabytes; 0 for any other. What a connection has of these at a time is limited.
    [[nodiscard]] virtual std::size_t large_answer_bytes(const HttpRequest& /*request*/) const {
        return 0;
    }
    // The server takes no more connections: bodies that are made over time are to end soon.
    virtual void stopping() {}
};

// Called on the control thread before it takes connections, and given the loop for its own
// descriptors and timers. The handler is destroyed on that thread after the last connection.
using HandlerFactory = std::function<std::unique_ptr<HttpHandler>(LoopThread&)>;

struct ServerOptions {
    std::string host = "127.0.0.1";
    std::uint16_t port = 4567;  // 0 picks a free one
    // The port for TLS; without a context there is none. The context must outlive the server.
    TlsContext* tls = nullptr;
    // How often its keys of session tickets are looked at, so that those too old are wiped while
    // nobody connects, too.
    std::uint64_t tls_keys_period_ms = 60'000;
    std::string tls_host = "127.0.0.1";
    std::uint16_t tls_port = 0;
    // Requests carry no signature: only a loopback address is bound, and only requests of programs
    // on this machine pass (guard.h). False: the handler sees to who may ask.
    bool guarded = true;
    // A listening socket to accept from, instead of hosts and ports; the server closes it.
    int listen_fd = -1;
    // Whether the peer of a connection just accepted may stay; none: every one may.
    std::function<bool(int fd)> admit;
    unsigned threads = 1;
    // Per control thread. For one more the one that has been idle for longest is closed; while all
    // are busy, the new one is refused.
    std::size_t connections_max = 16384;
    std::uint64_t stop_deadline_ms = 5'000;  // what is in progress when stop() is called
    ConnectionTimes times;
    ConnectionLimits limits;
    std::size_t body_memory_max_bytes = 512 * 1024 * 1024;  // per control thread
    // Adds what every answer has to those that no handler gives: of requests that are malformed, or
    // may not pass. Called on all control threads.
    std::function<void(HttpResponse&)> complete_refusal;
    // One line about something an operator should know; called on control threads.
    std::function<void(std::string_view)> log;
};

// Totals over all control threads since the start.
struct ServerCounters {
    std::uint64_t connections_accepted = 0;
    std::uint64_t connections_refused = 0;  // all busy, no descriptors left, or not admitted
    std::uint64_t connections_timed_out = 0;
    std::array<std::uint64_t, ending_count> connections_closed{};  // by Ending
    std::uint64_t connections_open = 0;                            // now
    std::uint64_t requests = 0;                                    // complete requests received
    std::uint64_t requests_http2 = 0;                              // of these, over HTTP/2
    std::uint64_t requests_refused = 0;                            // by the guard (403)
    std::uint64_t requests_malformed = 0;  // answered 4xx/5xx by the protocol layer itself
    std::uint64_t received_bytes = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t large_answer_bytes = 0;  // being made, or waiting for the peer, now
    std::uint64_t requests_held = 0;       // that waited since there was enough of these
    // See ConnectionCounters.
    std::uint64_t http2_connections = 0;
    std::uint64_t http2_streams_reset = 0;
    std::uint64_t http2_floods = 0;
    std::uint64_t tls_handshakes = 0;
    std::uint64_t tls_resumptions = 0;
    std::uint64_t tls_failures = 0;
};

class HttpServer {
public:
    // Binds, starts the threads, and makes each thread's handler. An error is one line for people.
    [[nodiscard]] static std::expected<std::unique_ptr<HttpServer>, std::string> open(
        ServerOptions options, HandlerFactory factory);
    // Stops as stop() does.
    virtual ~HttpServer() = default;

    // The port bound, also when 0 was asked for.
    [[nodiscard]] virtual std::uint16_t port() const noexcept = 0;
    // The same for TLS; 0 when there is none.
    [[nodiscard]] virtual std::uint16_t tls_port() const noexcept = 0;
    [[nodiscard]] virtual ServerCounters counters() const noexcept = 0;
    // Takes no further connections, lets what is in progress finish until the deadline, then
    // closes the rest. Returns when all control threads have ended. Called again it does nothing.
    virtual void stop() = 0;
};

}  // namespace penstock::http
