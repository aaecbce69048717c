// HTTP requests and responses as handlers see them, whatever protocol version carried them.
//
// Runs on: the control thread that owns the connection.
// Allocates: one block for the head, one for the body.
// Guarantees: views into a request stay valid as long as the request lives; the body is followed by
// at least body_padding_bytes zero bytes that may be read, which is what simdjson asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::http {

inline constexpr std::size_t body_padding_bytes = 64;

struct HeaderField {
    std::string_view name;  // as the peer wrote it
    std::string_view value;
};

// ASCII only, which is all a header name may be.
[[nodiscard]] bool equals_ignoring_case(std::string_view a, std::string_view b) noexcept;

// Memory that request bodies of one control thread may take together, or those of one connection:
// then `whole` is the thread's.
struct BodyBudget {
    std::size_t limit_bytes = 512 * 1024 * 1024;
    std::size_t used_bytes = 0;
    std::shared_ptr<BodyBudget> whole = nullptr;

    // A connection may take as much as is free, not more: so those who hold much leave something
    // for each that comes, however many they are.
    [[nodiscard]] bool take(std::size_t bytes) noexcept;
    void give_back(std::size_t bytes) noexcept;
};

// A growing block of bytes that is not cleared before it is filled and keeps zero padding behind
// what it holds.
class BodyBuffer {
public:
    BodyBuffer() = default;
    BodyBuffer(const BodyBuffer&) = delete;
    BodyBuffer& operator=(const BodyBuffer&) = delete;
    ~BodyBuffer();

    // Charges what is reserved to `budget`; before the first reserve().
    void charge_to(std::shared_ptr<BodyBudget> budget) noexcept { budget_ = std::move(budget); }
    // Room for `capacity_bytes` in all; what it holds stays. False when the budget has no room.
    [[nodiscard]] bool reserve(std::size_t capacity_bytes);
    [[nodiscard]] const std::shared_ptr<BodyBudget>& budget() const noexcept { return budget_; }
    // Charges what else the request takes while its body comes.
    [[nodiscard]] bool charge(std::size_t bytes);
    // Needs the room to have been reserved.
    void append(std::string_view bytes);
    // Where the next bytes may be written directly, then made part of the body by advance().
    [[nodiscard]] std::span<char> spare() noexcept;
    void advance(std::size_t count_bytes) noexcept;
    [[nodiscard]] std::string_view view() const noexcept;
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

private:
    void pad() noexcept;

    std::shared_ptr<BodyBudget> budget_;
    std::unique_ptr<char[]> data_;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
    std::size_t charged_beside_ = 0;
};

class HttpRequest {
public:
    HttpRequest() = default;
    HttpRequest(const HttpRequest&) = delete;
    HttpRequest& operator=(const HttpRequest&) = delete;

    // A request made by hand: for tests, and for handlers that call one another. Copies its input.
    // One with :authority among its headers is of HTTP/2. Null only when `budget` has no room for
    // the body.
    [[nodiscard]] static std::unique_ptr<HttpRequest> make(
        std::string_view method, std::string_view target,
        std::span<const std::pair<std::string, std::string>> headers, std::string_view body,
        std::shared_ptr<BodyBudget> budget = nullptr);

    std::string_view method;     // "POST"
    std::string_view target;     // as received: "/metrics?x=1", or "http://host/metrics?x=1"
    std::string_view authority;  // "host" of the second form, or HTTP/2's :authority; else empty
    std::string_view path;       // "/metrics"
    std::string_view query;      // "x=1", without the question mark; percent signs are not decoded
    // As received and in that order, repeated ones repeated. Of HTTP/2's pseudo-headers :authority
    // is among them, first and under that name, because clients sign it; the others are above.
    std::vector<HeaderField> headers;
    unsigned version = 11;  // 10, 11, 20

    // "host:port" that the peer means to have reached: HTTP/2's :authority, else the Host header.
    // The connection has seen to it that there are not two, unless they are the same.
    [[nodiscard]] std::string_view host() const noexcept;

    // Value of the first header of this name, any case; empty when there is none.
    [[nodiscard]] std::string_view header(std::string_view name) const noexcept;
    [[nodiscard]] bool has_header(std::string_view name) const noexcept;
    [[nodiscard]] std::size_t count_header(std::string_view name) const noexcept;

    // body().data() may be read for body_padding_bytes past its end; those bytes are zero.
    [[nodiscard]] std::string_view body() const noexcept { return body_.view(); }

    // What the body is charged to; null when to nothing.
    [[nodiscard]] const std::shared_ptr<BodyBudget>& body_budget() const noexcept {
        return body_.budget();
    }

    // For the connection that fills the request.
    [[nodiscard]] BodyBuffer& body_buffer() noexcept { return body_; }
    // Takes the bytes that method, target and headers will be views of.
    std::string_view keep_head(std::string_view bytes);
    // Splits `value` into authority, path and query.
    void set_target(std::string_view value) noexcept;

private:
    std::unique_ptr<char[]> head_;
    BodyBuffer body_;
};

// Bytes of a body; answers to several peers may share them.
using BodyPiece = std::shared_ptr<const std::string>;

// A response body that is made over time, such as a subscription's. The connection asks for the
// next piece when it can send it, so a peer that does not read holds one piece and no more.
// Destroyed on the control thread when the body has ended or the peer is gone.
class BodyStream {
public:
    enum class Next : std::uint8_t {
        piece,   // `piece` holds the next bytes, at least one
        later,   // there is nothing yet: BodyWaker::wake() says when to ask again
        end,     // the body is complete
        broken,  // it cannot be completed: the peer is told so by the way the stream ends
    };
    virtual ~BodyStream() = default;
    [[nodiscard]] virtual Next next(BodyPiece& piece) = 0;
};

struct HttpResponse {
    int status = 200;
    std::string content_type;  // empty: no Content-Type header
    // Further headers. Content-Length, Connection, Date and Content-Type are the connection's.
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    std::unique_ptr<BodyStream> stream = nullptr;  // instead of `body`

    // A text/plain answer of one line; the line break is added.
    [[nodiscard]] static HttpResponse text(int status, std::string_view line);
};

// "Not Found"; "Unknown" for a status that has no name here.
[[nodiscard]] std::string_view reason_phrase(int status) noexcept;

}  // namespace penstock::http
