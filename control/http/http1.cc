// The HTTP/1.0 and HTTP/1.1 connection. Boost.Beast's parser judges the head; framing, limits and
// the order of answers are decided here.
#include <array>
#include <charconv>
#include <cstring>
#include <deque>
#include <limits>
#include <vector>

// With sanitizers g++ 12 takes the parser's empty boost::optional for one that is read.
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <boost/beast/http/basic_parser.hpp>
#pragma GCC diagnostic pop

#include "control/http/chunked.h"
#include "control/http/connection.h"
#include "control/http/output_queue.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

namespace beast = boost::beast::http;
using ErrorCode = boost::beast::error_code;

// Answers up to this size are joined with their head, so that they leave in one piece.
constexpr std::size_t joined_bytes_max = 16 * 1024;
// Room in the input buffer beyond the largest head: what a small body or the next request needs.
constexpr std::size_t input_extra_bytes = 16 * 1024;
// A BodyStream is asked for more while less than this is unsent: enough to keep a socket busy.
constexpr std::size_t stream_unsent_bytes_max = 64 * 1024;
constexpr std::string_view head_end = "\r\n\r\n";

// Fills a request's method, target and headers with views into the head it is given.
class HeadParser final : public beast::basic_parser<true> {
public:
    explicit HeadParser(HttpRequest& request) noexcept : request_(request) {
        eager(false);
        header_limit(std::numeric_limits<std::uint32_t>::max());
        body_limit(std::numeric_limits<std::uint64_t>::max());
    }

    // False leaves a reason in error().
    [[nodiscard]] bool parse(std::string_view head) {
        // A folded value would be put together elsewhere and not outlive the call that shows it.
        // Who reads only its first line and who reads both would also see different requests.
        if (head.find("\r\n ") != std::string_view::npos ||
            head.find("\r\n\t") != std::string_view::npos) {
            error_ = "a header continues on the next line";
            return false;
        }
        ErrorCode code;
        const std::size_t used = put(boost::asio::const_buffer(head.data(), head.size()), code);
        if (code) {
            error_ = code.message();
            return false;
        }
        if (used != head.size() || !is_header_done()) {
            error_ = "the head ends in its middle";
            return false;
        }
        return true;
    }
    [[nodiscard]] const std::string& error() const noexcept { return error_; }

private:
    using View = boost::beast::string_view;
    static std::string_view plain(View view) noexcept { return {view.data(), view.size()}; }

    void on_request_impl(beast::verb, View method, View target, int version, ErrorCode&) override {
        request_.method = plain(method);
        request_.set_target(plain(target));
        request_.version = static_cast<unsigned>(version);
    }
    void on_field_impl(beast::field, View name, View value, ErrorCode&) override {
        request_.headers.push_back({plain(name), plain(value)});
    }
    void on_response_impl(int, View, int, ErrorCode&) override {}
    void on_header_impl(ErrorCode&) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
    std::size_t on_body_impl(View body, ErrorCode&) override { return body.size(); }
    void on_chunk_header_impl(std::uint64_t, View, ErrorCode&) override {}
    std::size_t on_chunk_body_impl(std::uint64_t, View body, ErrorCode&) override {
        return body.size();
    }
    void on_finish_impl(ErrorCode&) override {}

    HttpRequest& request_;
    std::string error_;
};

class Http1Connection final : public Connection {
public:
    explicit Http1Connection(ConnectionContext& context)
        : context_(context),
          body_budget_(std::make_shared<BodyBudget>()),
          answer_budget_(std::make_shared<AnswerBudget>(context.limits.large_answers_bytes_max,
                                                        context.answer_counters)),
          in_capacity_(context.limits.header_bytes_max + input_extra_bytes),
          chunked_(context.limits.header_bytes_max),
          progress_ms_(context.now_ms) {
        body_budget_->whole = context.body_budget;
    }

    std::span<char> input_space() override {
        to_body_ = state_ == State::sized_body && in_begin_ == in_end_;
        if (to_body_) {
            return request_->body_buffer().spare();
        }
        if (!in_) {
            in_ = std::make_unique_for_overwrite<char[]>(in_capacity_);
        }
        if (in_begin_ != 0) {
            std::memmove(in_.get(), in_.get() + in_begin_, in_end_ - in_begin_);
            in_end_ -= in_begin_;
            in_begin_ = 0;
        }
        return {in_.get() + in_end_, in_capacity_ - in_end_};
    }

    void input_received(std::size_t count_bytes) override {
        progress_ms_ = context_.now_ms;
        if (to_body_) {
            request_->body_buffer().advance(count_bytes);
        } else {
            PENSTOCK_CHECK(count_bytes <= in_capacity_ - in_end_);
            in_end_ += count_bytes;
        }
    }

    void input_ended() override { ended_ = true; }

    std::optional<IncomingRequest> next_request() override {
        const bool complete = take_request();
        if (!complete && receiving() == Receiving::head) {
            head_since_ms_ = head_since_ms_.value_or(context_.now_ms);
        } else {
            head_since_ms_.reset();
        }
        return complete ? std::optional(hand_out()) : std::nullopt;
    }

    void respond(StreamId stream, HttpResponse&& response) override {
        const auto number = static_cast<std::uint64_t>(stream);
        if (number < first_slot_ || number - first_slot_ >= slots_.size()) {
            return;
        }
        Slot& slot = slots_[number - first_slot_];
        if (slot.answered || slot.own) {
            return;
        }
        slot.response = std::move(response);
        slot.claim.change(slot.response.body.size());
        slot.answered = true;
        --outstanding_;
        progress_ms_ = context_.now_ms;
        release_answers();
    }

    void resume(StreamId stream) override {
        if (stream_ && stream_->id == stream) {
            stream_->waiting = false;
        }
    }

    std::size_t next_output(std::span<std::string_view> pieces) override {
        while (stream_ && !stream_->waiting && out_.size_bytes() < stream_unsent_bytes_max) {
            continue_stream();
        }
        return out_.fill(pieces);
    }

    void output_sent(std::size_t count_bytes) override {
        progress_ms_ = context_.now_ms;
        out_.sent(count_bytes);
    }

    std::size_t unsent_bytes() const noexcept override { return out_.size_bytes(); }

    bool wants_input() const noexcept override {
        return !ended_ && !closing_ && slots_.size() < context_.limits.outstanding_max &&
               out_.size_bytes() < context_.limits.unsent_bytes_max &&
               (state_ == State::sized_body ? has_body_room() : in_end_ - in_begin_ < in_capacity_);
    }

    bool wants_close() const noexcept override {
        const bool no_more = closing_ || (ended_ && receiving() == Receiving::nothing) ||
                             (shutting_down_ && receiving() == Receiving::nothing);
        return no_more && slots_.empty() && !stream_ && out_.empty();
    }

    std::size_t outstanding() const noexcept override { return outstanding_; }
    std::size_t refused() const noexcept override { return refused_; }
    bool is_busy() const noexcept override { return outstanding_ != 0 || stream_.has_value(); }
    std::size_t request_bytes() const noexcept override { return body_budget_->used_bytes; }
    Ending ending() const noexcept override {
        return ended_ && ending_ == Ending::served ? Ending::peer : ending_;
    }
    void begin_shutdown() override { shutting_down_ = true; }
    std::uint64_t stall_ms() const noexcept override {
        return stream_ ? context_.times.stream_stall_ms : context_.times.stall_ms;
    }
    Overdue check_time() override;

private:
    enum class State : std::uint8_t { head, sized_body, chunked_body, complete };
    // Which part of a request has begun to arrive and is not complete.
    enum class Receiving : std::uint8_t { nothing, head, body };

    struct Slot {
        HttpResponse response;
        AnswerClaim claim;
        unsigned version = 11;
        bool answered = false;
        bool own = false;  // an answer of this layer, which no handler knows of
        bool keep_alive = false;
        bool no_body = false;  // the request was HEAD
    };

    // The answer whose body is being made.
    struct Streaming {
        StreamId id{};
        std::unique_ptr<BodyStream> body;
        bool chunked = false;
        bool waiting = false;
    };

    [[nodiscard]] Receiving receiving() const noexcept {
        if (closing_) {
            return Receiving::nothing;
        }
        if (state_ != State::head) {
            return Receiving::body;
        }
        return in_begin_ != in_end_ ? Receiving::head : Receiving::nothing;
    }
    [[nodiscard]] bool passed(std::uint64_t since_ms, std::uint64_t limit_ms) const noexcept {
        return context_.now_ms > since_ms && context_.now_ms - since_ms > limit_ms;
    }

    // A body that has filled its room gets more in next_request().
    [[nodiscard]] bool has_body_room() const noexcept {
        const BodyBuffer& body = request_->body_buffer();
        return body.size() < body.capacity();
    }

    [[nodiscard]] std::string_view input() const noexcept {
        return in_begin_ == in_end_ ? std::string_view{}
                                    : std::string_view{in_.get() + in_begin_, in_end_ - in_begin_};
    }

    // True when a request is complete.
    [[nodiscard]] bool take_request();
    // A complete request may be given out: there is room for what its answer may take.
    [[nodiscard]] bool claim_answer();
    // Each of these returns false when more input is needed.
    [[nodiscard]] bool take_head();
    [[nodiscard]] bool take_sized_body();
    [[nodiscard]] bool take_chunked_body();
    [[nodiscard]] bool incomplete(std::string_view what);

    void parse_head(std::string_view head);
    [[nodiscard]] bool check_head();
    void begin_body();
    [[nodiscard]] bool reserve_body(std::uint64_t wanted_bytes);
    [[nodiscard]] IncomingRequest hand_out();
    void maybe_continue();
    void release_answers();
    void write_answer(Slot& slot, StreamId id, bool last);
    void begin_stream(Slot& slot, StreamId id);
    void continue_stream();
    void end_stream(bool complete);
    // Answers the request being received with one line, and closes after it.
    void refuse(int status, std::string_view line);
    void refuse_large_body();

    ConnectionContext& context_;
    std::shared_ptr<BodyBudget> body_budget_;
    std::shared_ptr<AnswerBudget> answer_budget_;
    AnswerClaim claim_;  // of the request that is given out next
    std::size_t in_capacity_;
    std::unique_ptr<char[]> in_;
    std::size_t in_begin_ = 0;
    std::size_t in_end_ = 0;
    std::size_t scanned_ = 0;  // of input(), known to hold no end of a head
    State state_ = State::head;
    std::unique_ptr<HttpRequest> request_;
    ChunkedDecoder chunked_;
    std::uint64_t body_bytes_ = 0;  // of a sized body, in all
    unsigned version_ = 11;
    bool to_body_ = false;
    bool skipped_empty_line_ = false;
    bool keep_alive_ = false;
    bool held_ = false;  // the request that is complete has been counted as one that waits
    bool expects_continue_ = false;
    bool ended_ = false;    // the peer's side
    bool closing_ = false;  // ours: no further requests
    bool shutting_down_ = false;
    std::deque<Slot> slots_;  // requests in order, not yet serialised
    std::uint64_t first_slot_ = 0;
    std::size_t outstanding_ = 0;
    std::size_t refused_ = 0;
    Ending ending_ = Ending::served;
    std::optional<Streaming> stream_;
    OutputQueue out_;
    std::uint64_t progress_ms_;  // bytes last moved, or a request was last answered
    std::optional<std::uint64_t> head_since_ms_;
};

bool Http1Connection::take_request() {
    while (!closing_ && slots_.size() < context_.limits.outstanding_max &&
           out_.size_bytes() < context_.limits.unsent_bytes_max) {
        bool going_on = true;
        switch (state_) {
            case State::head:
                going_on = take_head();
                break;
            case State::sized_body:
                going_on = take_sized_body();
                break;
            case State::chunked_body:
                going_on = take_chunked_body();
                break;
            case State::complete:
                return claim_answer();
        }
        if (!going_on) {
            return false;
        }
    }
    return false;
}

Overdue Http1Connection::check_time() {
    const ConnectionTimes& times = context_.times;
    if (!out_.empty()) {
        if (!passed(progress_ms_, stall_ms())) {
            return Overdue::nothing;
        }
        ending_ = Ending::unread;
        return Overdue::close;
    }
    if (outstanding_ != 0 || stream_) {
        return Overdue::nothing;
    }
    switch (receiving()) {
        case Receiving::head:
            if (head_since_ms_ && passed(*head_since_ms_, times.header_ms)) {
                refuse(408, "The request head did not arrive in time.");
                return Overdue::answered;
            }
            break;
        case Receiving::body:
            if (passed(progress_ms_, times.stall_ms)) {
                refuse(408, "The request body did not arrive in time.");
                return Overdue::answered;
            }
            break;
        case Receiving::nothing:
            if (passed(progress_ms_, times.idle_ms)) {
                ending_ = Ending::idle;
                return Overdue::close;
            }
            break;
    }
    return Overdue::nothing;
}

void Http1Connection::refuse(int status, std::string_view line) {
    if (closing_) {
        return;
    }
    ++refused_;
    closing_ = true;
    ending_ = status == 408                    ? Ending::slow
              : status == 413 || status == 431 ? Ending::too_large
                                               : Ending::malformed;
    request_.reset();
    state_ = State::head;
    in_begin_ = in_end_ = 0;
    Slot slot;
    slot.response = make_refusal(context_, HttpResponse::text(status, line));
    slot.answered = true;
    slot.own = true;
    slot.version = version_;
    slots_.push_back(std::move(slot));
    release_answers();
}

bool Http1Connection::incomplete(std::string_view what) {
    if (ended_) {
        refuse(400, std::string("The request is not complete: the connection ended within its ") +
                        std::string(what) + ".");
    }
    return false;
}

bool Http1Connection::take_head() {
    // One empty line before a request is forgiven (RFC 9112, 2.2).
    if (!skipped_empty_line_ && input().starts_with("\r\n")) {
        in_begin_ += 2;
        skipped_empty_line_ = true;
    }
    const std::string_view bytes = input();
    const std::size_t header_bytes_max = context_.limits.header_bytes_max;
    const std::size_t end = bytes.find(head_end, scanned_);
    const std::size_t head_bytes =
        end == std::string_view::npos ? bytes.size() : end + head_end.size();
    if (head_bytes > header_bytes_max) {
        refuse(431, "The request line and headers are too long: at most " +
                        std::to_string(header_bytes_max) + " bytes are accepted.");
        return true;
    }
    if (end == std::string_view::npos) {
        scanned_ = bytes.size() < head_end.size() ? 0 : bytes.size() - (head_end.size() - 1);
        return bytes.empty() ? false : incomplete("head");
    }
    scanned_ = 0;
    skipped_empty_line_ = false;
    in_begin_ += head_bytes;
    parse_head(bytes.substr(0, head_bytes));
    return true;
}

void Http1Connection::parse_head(std::string_view head) {
    request_ = std::make_unique<HttpRequest>();
    request_->headers.reserve(16);
    HeadParser parser(*request_);
    if (!parser.parse(request_->keep_head(head))) {
        refuse(400, "The request is not valid HTTP/1.1: " + parser.error() + ".");
        return;
    }
    version_ = request_->version;
    keep_alive_ = parser.keep_alive();
    if (check_head()) {
        begin_body();
    }
}

bool Http1Connection::check_head() {
    const HttpRequest& request = *request_;
    const std::size_t hosts = request.count_header("Host");
    if (hosts > 1 || (hosts == 0 && request.version >= 11)) {
        refuse(400, "The request must have one Host header: found " + std::to_string(hosts) + ".");
        return false;
    }
    const std::size_t lengths = request.count_header("Content-Length");
    const std::size_t codings = request.count_header("Transfer-Encoding");
    if (lengths + codings > 1) {
        refuse(400,
               "The length of the body must be given once, as Content-Length or as "
               "Transfer-Encoding: found " +
                   std::to_string(lengths + codings) + " headers.");
        return false;
    }
    if (codings == 1) {
        if (request.version < 11) {
            refuse(400, "Transfer-Encoding needs HTTP/1.1: found HTTP/1.0.");
            return false;
        }
        if (!equals_ignoring_case(request.header("Transfer-Encoding"), "chunked")) {
            refuse(501, "The only Transfer-Encoding accepted is chunked.");
            return false;
        }
    }
    const std::string_view expectation = request.header("Expect");
    expects_continue_ = request.version >= 11 && equals_ignoring_case(expectation, "100-continue");
    if (!expectation.empty() && request.version >= 11 && !expects_continue_) {
        refuse(417, "The only expectation accepted is 100-continue.");
        return false;
    }
    return true;
}

void Http1Connection::begin_body() {
    if (request_->has_header("Transfer-Encoding")) {
        chunked_ = ChunkedDecoder(context_.limits.header_bytes_max);
        request_->body_buffer().charge_to(body_budget_);
        state_ = State::chunked_body;
        return;
    }
    body_bytes_ = 0;
    if (request_->has_header("Content-Length")) {
        const std::string_view text = request_->header("Content-Length");
        const auto [end, code] =
            std::from_chars(text.data(), text.data() + text.size(), body_bytes_);
        if (code == std::errc::result_out_of_range) {
            refuse_large_body();
            return;
        }
        if (code != std::errc{} || end != text.data() + text.size()) {
            refuse(400, "Content-Length must be a whole number of bytes.");
            return;
        }
    }
    if (body_bytes_ == 0) {
        state_ = State::complete;
        return;
    }
    if (body_bytes_ > context_.limits.body_bytes_max) {
        refuse_large_body();
        return;
    }
    request_->body_buffer().charge_to(body_budget_);
    if (reserve_body(next_body_capacity(0, body_bytes_))) {
        state_ = State::sized_body;
    }
}

void Http1Connection::refuse_large_body() {
    refuse(413, "The body is too large: at most " + std::to_string(context_.limits.body_bytes_max) +
                    " bytes are accepted.");
}

bool Http1Connection::reserve_body(std::uint64_t wanted_bytes) {
    if (wanted_bytes > context_.limits.body_bytes_max) {
        refuse_large_body();
        return false;
    }
    if (!request_->body_buffer().reserve(wanted_bytes)) {
        refuse(503, "There is no memory for another request body: try again later.");
        return false;
    }
    return true;
}

bool Http1Connection::take_sized_body() {
    BodyBuffer& body = request_->body_buffer();
    for (;;) {
        const std::string_view bytes = input().substr(0, body.capacity() - body.size());
        body.append(bytes);
        in_begin_ += bytes.size();
        if (body.size() == body_bytes_) {
            state_ = State::complete;
            return true;
        }
        if (body.size() < body.capacity()) {
            break;
        }
        if (!reserve_body(next_body_capacity(body.capacity(), body_bytes_))) {
            return true;
        }
    }
    maybe_continue();
    return incomplete("body");
}

bool Http1Connection::take_chunked_body() {
    BodyBuffer& body = request_->body_buffer();
    for (;;) {
        const ChunkedDecoder::Output output = chunked_.next(input());
        in_begin_ += output.consumed_bytes;
        switch (output.step) {
            case ChunkedDecoder::Step::need_more:
                maybe_continue();
                return incomplete("body");
            case ChunkedDecoder::Step::data: {
                const std::size_t wanted = body.size() + output.data.size();
                if (wanted > body.capacity()) {
                    const std::size_t larger =
                        next_body_capacity(body.capacity(), context_.limits.body_bytes_max);
                    if (!reserve_body(std::max(wanted, larger))) {
                        return true;
                    }
                }
                body.append(output.data);
                break;
            }
            case ChunkedDecoder::Step::finished:
                state_ = State::complete;
                return true;
            case ChunkedDecoder::Step::malformed:
                refuse(400, "The chunked body is malformed.");
                return true;
            case ChunkedDecoder::Step::line_too_long:
                refuse(431, "The chunk extensions and trailers are too long: at most " +
                                std::to_string(context_.limits.header_bytes_max) +
                                " bytes are accepted.");
                return true;
        }
    }
}

// A peer that has sent nothing of its body and has been answered everything else is told to go on.
void Http1Connection::maybe_continue() {
    if (request_->body_buffer().size() != 0) {
        expects_continue_ = false;
    }
    const bool waits = state_ == State::sized_body || state_ == State::chunked_body;
    if (waits && expects_continue_ && slots_.empty() && !stream_ && !ended_) {
        expects_continue_ = false;
        out_.take("HTTP/1.1 100 Continue\r\n\r\n");
    }
}

bool Http1Connection::claim_answer() {
    const std::size_t bytes =
        context_.large_answer_bytes ? context_.large_answer_bytes(*request_) : 0;
    if (bytes == 0) {
        return true;
    }
    if (!answer_budget_->has_room(bytes)) {
        context_.answer_counters->held.add(held_ ? 0 : 1);
        held_ = true;
        return false;
    }
    claim_ = AnswerClaim(answer_budget_, bytes);
    return true;
}

IncomingRequest Http1Connection::hand_out() {
    Slot slot;
    slot.claim = std::move(claim_);
    held_ = false;
    slot.version = request_->version;
    slot.keep_alive = keep_alive_;
    slot.no_body = request_->method == "HEAD";
    slots_.push_back(std::move(slot));
    ++outstanding_;
    if (!keep_alive_) {
        closing_ = true;
    }
    expects_continue_ = false;
    state_ = State::head;
    return {StreamId{first_slot_ + slots_.size() - 1}, std::move(request_)};
}

void Http1Connection::release_answers() {
    while (!stream_ && !slots_.empty() && slots_.front().answered) {
        Slot slot = std::move(slots_.front());
        slots_.pop_front();
        const StreamId id{first_slot_++};
        if (shutting_down_ && slots_.empty() && receiving() == Receiving::nothing) {
            closing_ = true;
        }
        write_answer(slot, id, closing_ && slots_.empty());
    }
    if (request_) {
        maybe_continue();
    }
}

void append_header_text(std::string& out, std::string_view text) {
    for (const char c : text) {
        // A control character would let a value end its line.
        const auto byte = static_cast<unsigned char>(c);
        out.push_back(byte < 0x20 || byte == 0x7f ? ' ' : c);
    }
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
    append_header_text(out, name);
    out.append(": ");
    append_header_text(out, value);
    out.append("\r\n");
}

void Http1Connection::write_answer(Slot& slot, StreamId id, bool last) {
    const HttpResponse& response = slot.response;
    const bool bodiless = response.status == 204 || response.status == 304;
    const bool streams = response.stream != nullptr && !bodiless;
    std::string head;
    head.reserve(256 + (response.body.size() <= joined_bytes_max ? response.body.size() : 0));
    head.append("HTTP/1.1 ").append(std::to_string(response.status)).push_back(' ');
    head.append(reason_phrase(response.status)).append("\r\n");
    if (!context_.date.empty()) {
        append_header(head, "Date", context_.date);
    }
    if (!response.content_type.empty()) {
        append_header(head, "Content-Type", response.content_type);
    }
    for (const auto& [name, value] : response.headers) {
        append_header(head, name, value);
    }
    if (streams && slot.version >= 11) {
        append_header(head, "Transfer-Encoding", "chunked");
    } else if (!streams && !bodiless) {
        append_header(head, "Content-Length", std::to_string(response.body.size()));
    }
    // A body without length or chunks ends with the connection.
    if (last || slot.own || !slot.keep_alive || (streams && slot.version < 11)) {
        append_header(head, "Connection", "close");
    } else if (slot.version < 11) {
        append_header(head, "Connection", "keep-alive");
    }
    head.append("\r\n");
    if (slot.no_body || bodiless) {
        out_.take(std::move(head));
    } else if (streams) {
        out_.take(std::move(head));
        begin_stream(slot, id);
    } else if (response.body.size() <= joined_bytes_max) {
        head.append(response.body);
        out_.take(std::move(head));
    } else if (slot.claim) {
        out_.take(std::move(head));
        BodyPiece body = keep_claimed(std::move(slot.response.body), std::move(slot.claim));
        const std::string_view bytes = *body;
        out_.lend(std::move(body), bytes);
    } else {
        out_.take(std::move(head));
        out_.take(std::move(slot.response.body));
    }
}

void Http1Connection::begin_stream(Slot& slot, StreamId id) {
    stream_ = Streaming{id, std::move(slot.response.stream), slot.version >= 11, false};
    if (!stream_->chunked) {
        closing_ = true;
        outstanding_ = 0;
        first_slot_ += slots_.size();
        slots_.clear();
    }
}

void Http1Connection::continue_stream() {
    BodyPiece piece;
    switch (ask(*stream_->body, piece)) {
        case BodyStream::Next::piece: {
            if (stream_->chunked) {
                std::array<char, 16> size{};
                const auto [end, code] =
                    std::to_chars(size.data(), size.data() + size.size(), piece->size(), 16);
                PENSTOCK_CHECK(code == std::errc{});
                out_.copy({size.data(), end});
                out_.copy("\r\n");
            }
            const std::string_view bytes = *piece;
            out_.lend(std::move(piece), bytes);
            if (stream_->chunked) {
                out_.copy("\r\n");
            }
            break;
        }
        case BodyStream::Next::later:
            stream_->waiting = true;
            break;
        case BodyStream::Next::end:
            end_stream(true);
            break;
        case BodyStream::Next::broken:
            end_stream(false);
            break;
    }
}

// Without the last chunk the peer knows that the body is not complete.
void Http1Connection::end_stream(bool complete) {
    if (!complete) {
        closing_ = true;
        outstanding_ = 0;
        first_slot_ += slots_.size();
        slots_.clear();
    } else if (stream_->chunked) {
        out_.copy("0\r\n\r\n");
    }
    stream_.reset();
    progress_ms_ = context_.now_ms;
    release_answers();
}

}  // namespace

std::unique_ptr<Connection> make_http1_connection(ConnectionContext& context) {
    return std::make_unique<Http1Connection>(context);
}

}  // namespace penstock::http
