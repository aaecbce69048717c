// One HTTP connection without its socket: bytes in, requests out; responses in, bytes out.
//
// The server reads from its socket into input_space(), reports the bytes with input_received(), and
// then drains next_request(). Answers go in through respond() in any order; what is to be sent
// comes out of next_output(). HTTP/1, HTTP/2 and TLS are implementations of this interface: streams
// are named by id, and TLS wraps another Connection. Time is what the context says it is.
//
// Runs on: one control thread per connection; nothing here is shared.
// Allocates: per request, on the heap.
// Guarantees: an input, however it is cut into pieces, gives the same requests and the same
// answers, but for "100 Continue", which is only sent to a peer that still waits for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/http/answer_budget.h"
#include "control/http/message.h"
#include "dataplane/counter.h"

namespace penstock::http {

// A request within its connection; grows with each request.
enum class StreamId : std::uint64_t {};

struct ConnectionLimits {
    std::size_t header_bytes_max = 16 * 1024;
    std::size_t body_bytes_max = 16 * 1024 * 1024;
    // Requests given out and not yet answered; further ones wait.
    std::size_t outstanding_max = 32;
    // Streams of one HTTP/2 connection at a time.
    std::uint32_t streams_max = 128;
    // Unsent bytes past which no more input is wanted.
    std::size_t unsent_bytes_max = 4 * 1024 * 1024;
    // Large answers being made or waiting to be read, past which requests for more of them wait.
    std::size_t large_answers_bytes_max = 64 * 1024 * 1024;
};

// How long a peer may take before it is given up.
struct ConnectionTimes {
    std::uint64_t idle_ms = 120'000;   // nothing asked, nothing to answer
    std::uint64_t header_ms = 10'000;  // from the first byte of a head to its end
    std::uint64_t stall_ms = 30'000;   // a body or an answer that makes no progress
    // To the first request. One that takes longer is the first to go when a place is needed.
    std::uint64_t first_request_ms = 1'000;
    // The same for a BodyStream that the peer does not read: longer than any subscription lives.
    std::uint64_t stream_stall_ms = 330'000;
};

// Why a connection ended, as the metrics name it.
enum class Ending : std::uint8_t {
    peer,       // closed or broken by the peer
    served,     // the last answer was sent, after which the peer or its protocol wanted no more
    malformed,  // what came is no acceptable request
    too_large,  // a head or body beyond the limits
    slow,       // a handshake, head, frame or body that did not come in time
    unread,     // answers that the peer did not take
    idle,
    flood,    // frames, headers or TLS handshakes without measure
    tls,      // the handshake failed
    crowded,  // it was idle for longest when there was no place for another
    stopping,
};
inline constexpr std::size_t ending_count = 11;
[[nodiscard]] std::string_view name_of(Ending ending) noexcept;

// The next room for a body that has filled the one it has and may become `whole_bytes`: memory is
// taken as bytes arrive, not as they are announced.
[[nodiscard]] std::size_t next_body_capacity(std::size_t capacity_bytes,
                                             std::size_t whole_bytes) noexcept;

// What the connections of one control thread have met. Written on that thread, read on any.
struct ConnectionCounters {
    Counter http2_connections;
    Counter streams_reset;    // HTTP/2 streams the peer gave up before their answer was complete
    Counter floods;           // HTTP/2 connections ended for frames or headers without measure
    Counter tls_handshakes;   // completed
    Counter tls_resumptions;  // of these, with a ticket of an earlier one
    Counter tls_failures;     // handshakes that failed or did not end in time
};

// What the connections of one control thread have in common.
struct ConnectionContext {
    ConnectionLimits limits;
    ConnectionTimes times;
    // Milliseconds that only grow, renewed by the owner before it calls a connection.
    std::uint64_t now_ms = 0;
    // Room for the request bodies of all these connections together. A body that finds none is
    // refused with 503, which clients retry.
    std::shared_ptr<BodyBudget> body_budget = std::make_shared<BodyBudget>();
    std::shared_ptr<ConnectionCounters> counters = std::make_shared<ConnectionCounters>();
    std::shared_ptr<AnswerCounters> answer_counters = std::make_shared<AnswerCounters>();
    // See HttpHandler::large_answer_bytes(); may be empty: then no answer is large.
    std::function<std::size_t(const HttpRequest&)> large_answer_bytes;
    // Where connections that keep no input of their own receive; used within one call only.
    std::vector<char> scratch = std::vector<char>(64 * 1024);
    std::vector<char> tls_scratch = std::vector<char>(64 * 1024);  // the same for what is sealed
    // Adds what every answer has to those that no handler gave; may be empty.
    std::function<void(HttpResponse&)> complete_refusal;
    // Value of the Date header, renewed by the owner once a second; empty: none is sent.
    std::string date;
};

// The answer of a connection, or of who owns it, to what no handler is to see.
[[nodiscard]] HttpResponse make_refusal(const ConnectionContext& context, HttpResponse response);

struct IncomingRequest {
    StreamId stream{};
    std::unique_ptr<HttpRequest> request;
};

enum class Protocol : std::uint8_t { http1, http2 };

// What check_time() found.
enum class Overdue : std::uint8_t {
    nothing,
    answered,  // something was too slow and has been refused: there is output, or an end
    close,     // close at once: there is nobody to tell
};

class Connection {
public:
    virtual ~Connection() = default;

    // Where the next received bytes belong; never empty while wants_input().
    [[nodiscard]] virtual std::span<char> input_space() = 0;
    virtual void input_received(std::size_t count_bytes) = 0;
    // The peer has finished sending. Answers still go out.
    virtual void input_ended() = 0;
    // Copies `bytes` through input_space(), stopping when no more input is wanted; returns how many
    // were taken. For callers that do not read from a socket.
    std::size_t feed(std::string_view bytes);

    // The next complete request, or nothing. A request that is not acceptable is answered here.
    [[nodiscard]] virtual std::optional<IncomingRequest> next_request() = 0;

    // Answers one request. An unknown stream is ignored: it was reset or the connection failed.
    virtual void respond(StreamId stream, HttpResponse&& response) = 0;
    // The BodyStream of this answer, which said `later`, has more.
    virtual void resume(StreamId stream) = 0;

    // Fills `pieces` with the next bytes to send and returns how many pieces there are.
    // They stay valid until output_sent() or respond() is called.
    [[nodiscard]] virtual std::size_t next_output(std::span<std::string_view> pieces) = 0;
    virtual void output_sent(std::size_t count_bytes) = 0;
    [[nodiscard]] virtual std::size_t unsent_bytes() const noexcept = 0;

    // False while it has enough requests unanswered or enough bytes unsent, and after the end.
    [[nodiscard]] virtual bool wants_input() const noexcept = 0;
    // Everything there was to say is said: flush next_output(), then close.
    [[nodiscard]] virtual bool wants_close() const noexcept = 0;
    // Requests given out by next_request() and not answered yet.
    [[nodiscard]] virtual std::size_t outstanding() const noexcept = 0;
    // Requests this layer answered itself because they were malformed, too large or too slow.
    [[nodiscard]] virtual std::size_t refused() const noexcept = 0;
    // A handler works for it, or a body is made for it over time: not to be closed for another.
    [[nodiscard]] virtual bool is_busy() const noexcept = 0;
    // Memory that requests of it take which are not answered yet, as their budget counts it.
    [[nodiscard]] virtual std::size_t request_bytes() const noexcept = 0;
    // Why it ends, once wants_close() or check_time() said that it does.
    [[nodiscard]] virtual Ending ending() const noexcept = 0;

    // What the peer speaks; HTTP/1 until it has shown.
    [[nodiscard]] virtual Protocol protocol() const noexcept { return Protocol::http1; }

    // No further requests: answers what it has, then closes. For a server that stops.
    virtual void begin_shutdown() = 0;
    // How long what is unsent may make no progress.
    [[nodiscard]] virtual std::uint64_t stall_ms() const noexcept = 0;
    // Refuses what the peer has been too slow with. To be called every now and then.
    [[nodiscard]] virtual Overdue check_time() = 0;
};

// What connections ask a BodyStream with: one that throws, or gives an empty piece, is broken.
[[nodiscard]] BodyStream::Next ask(BodyStream& body, BodyPiece& piece) noexcept;

// HTTP/1.0 and HTTP/1.1 in clear text. `context` must outlive the connection.
[[nodiscard]] std::unique_ptr<Connection> make_http1_connection(ConnectionContext& context);

// HTTP/2; the peer begins with the connection preface.
[[nodiscard]] std::unique_ptr<Connection> make_http2_connection(ConnectionContext& context);

// HTTP/2 when the peer begins with its preface ("prior knowledge"), else HTTP/1.
[[nodiscard]] std::unique_ptr<Connection> make_clear_connection(ConnectionContext& context);

}  // namespace penstock::http
