// The HTTP/2 connection. nghttp2 does framing, header compression and the state of streams; limits,
// memory, time-outs and answers are decided here.
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <limits>
#include <unordered_map>
#include <vector>

#include "control/http/connection.h"
#include "control/http/frame_watch.h"
#include "control/http/http2_head.h"
#include "control/http/output_queue.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

using Next = BodyStream::Next;

// What a peer may send of one body, and of all, before we have taken it.
constexpr std::uint32_t stream_window_bytes = 1024 * 1024;
constexpr std::int32_t connection_window_bytes = 16 * 1024 * 1024;
// What a stream takes beside its head and body, ours and nghttp2's.
constexpr std::size_t stream_overhead_bytes = 1024;
// Frames are made while less than this is unsent: enough to keep a socket busy.
constexpr std::size_t ready_bytes_max = 64 * 1024;
// Parts of bodies smaller than this are copied into the output, larger ones lent.
constexpr std::size_t copied_bytes_max = 1024;
// Control frames waiting to be sent, past which no more is read from a peer that takes none.
constexpr std::size_t control_frames_max = 1000;
// A header block that large by RFC 9113's count, in units of what is accepted, is no mistake: a few
// bytes of HPACK can stand for thousands each, so its connection ends before it has been read.
constexpr std::size_t header_bomb_factor = 4;
// Frames that ask for nothing (resets, pings, settings, …) a peer may send at once, and per second
// in the long run. What clients do honestly, cancelling and keeping alive, is far below.
constexpr std::uint64_t idle_frames_burst = 1000;
constexpr std::uint64_t idle_frames_per_second = 100;

struct Stream {
    std::int32_t id = 0;
    std::unique_ptr<HttpRequest> request;  // until it is given out or refused
    bool receiving = true;                 // the request is not complete
    bool given_out = false;
    bool answered = false;
    bool gone = false;  // reset by the peer; its exchange is still under way
    bool head_only = false;
    std::optional<std::uint64_t> length_bytes;
    std::uint64_t progress_ms = 0;
    // The answer's body: what is being sent, and where more comes from.
    BodyPiece body;
    std::size_t body_offset = 0;
    std::unique_ptr<BodyStream> source;
    bool source_waits = false;
    // What its answer may take, when that is much, and the room that it has for it.
    std::size_t large_answer_bytes = 0;
    AnswerClaim claim;
    bool held = false;  // counted as one that waits for room

    [[nodiscard]] std::size_t body_left() const noexcept {
        return body ? body->size() - body_offset : 0;
    }
};

class Http2Connection final : public Connection {
public:
    explicit Http2Connection(ConnectionContext& context);
    ~Http2Connection() override { nghttp2_session_del(session_); }
    Http2Connection(const Http2Connection&) = delete;
    Http2Connection& operator=(const Http2Connection&) = delete;

    std::span<char> input_space() override { return context_.scratch; }
    void input_received(std::size_t count_bytes) override;
    void input_ended() override { ended_ = true; }
    std::optional<IncomingRequest> next_request() override;
    void respond(StreamId stream, HttpResponse&& response) override;
    void resume(StreamId stream) override;
    std::size_t next_output(std::span<std::string_view> pieces) override;
    void output_sent(std::size_t count_bytes) override {
        sent_ms_ = context_.now_ms;
        out_.sent(count_bytes);
    }
    std::size_t unsent_bytes() const noexcept override { return out_.size_bytes(); }
    bool wants_input() const noexcept override {
        return !ended_ && !failed_ && nghttp2_session_want_read(session_) != 0 &&
               nghttp2_session_get_outbound_queue_size(session_) < control_frames_max &&
               out_.size_bytes() < context_.limits.unsent_bytes_max;
    }
    bool wants_close() const noexcept override {
        const bool no_more = failed_ || nghttp2_session_want_read(session_) == 0 ||
                             (ended_ && outstanding_ == 0 && ready_.empty());
        return no_more && out_.empty() && (dead_ || nghttp2_session_want_write(session_) == 0);
    }
    std::size_t outstanding() const noexcept override { return outstanding_; }
    std::size_t refused() const noexcept override { return refused_; }
    bool is_busy() const noexcept override {
        return outstanding_ != 0 || std::ranges::any_of(streams_, [](const auto& entry) {
                   return entry.second.source != nullptr;
               });
    }
    std::size_t request_bytes() const noexcept override { return body_budget_->used_bytes; }
    Ending ending() const noexcept override {
        return ended_ && ending_ == Ending::served ? Ending::peer : ending_;
    }
    Protocol protocol() const noexcept override { return Protocol::http2; }
    void begin_shutdown() override;
    std::uint64_t stall_ms() const noexcept override;
    Overdue check_time() override;

private:
    static Http2Connection& self(void* user) noexcept {
        return *static_cast<Http2Connection*>(user);
    }
    [[nodiscard]] Stream* find(std::int32_t id) noexcept {
        const auto found = streams_.find(id);
        return found == streams_.end() ? nullptr : &found->second;
    }
    [[nodiscard]] bool passed(std::uint64_t since_ms, std::uint64_t limit_ms) const noexcept {
        return context_.now_ms > since_ms && context_.now_ms - since_ms > limit_ms;
    }

    void set_callbacks(nghttp2_session_callbacks* callbacks);
    void begin_request(std::int32_t id);
    // False: the header block is not worth reading further.
    [[nodiscard]] bool take_field(std::string_view name, std::string_view value);
    void finish_head(Stream& stream);
    [[nodiscard]] bool check_head(Stream& stream);
    void take_body(std::int32_t id, std::string_view bytes);
    [[nodiscard]] bool make_room(Stream& stream, std::size_t more_bytes);
    void on_frame(const nghttp2_frame& frame);
    void on_sent(const nghttp2_frame& frame);
    void complete(Stream& stream);
    [[nodiscard]] bool may_begin(Stream& stream);
    void close_stream(std::int32_t id);
    void refuse(Stream& stream, int status, std::string_view line);
    void refuse_large_body(Stream& stream);
    void answer(Stream& stream, HttpResponse&& response);
    [[nodiscard]] static bool counts_as_held(const Stream& stream) noexcept {
        return !stream.source && stream.large_answer_bytes == 0;
    }
    void release_body(Stream& stream) noexcept;
    [[nodiscard]] ssize_t produce(Stream& stream, std::size_t room_bytes, std::uint32_t& flags);
    [[nodiscard]] int send_data(Stream& stream, const std::uint8_t* head, std::size_t size_bytes);
    void charge_idle_frames(std::uint64_t count);
    void flooded(std::string_view why);
    void terminate(std::uint32_t code, std::string_view why, Ending ending);
    void finish_shutdown();
    [[nodiscard]] bool is_overdue(const Stream& stream) const noexcept;
    void give_up(Stream& stream);

    ConnectionContext& context_;
    std::shared_ptr<BodyBudget> body_budget_ = std::make_shared<BodyBudget>();
    std::shared_ptr<AnswerBudget> answer_budget_;
    nghttp2_session* session_ = nullptr;
    std::unordered_map<std::int32_t, Stream> streams_;
    std::deque<std::int32_t> ready_;  // complete requests, in order
    HeadBlock block_;
    FrameWatch watch_;
    OutputQueue out_;
    std::size_t outstanding_ = 0;
    std::size_t refused_ = 0;
    // Of small answers, not made into frames yet: held until the peer's windows let them go.
    std::size_t held_bytes_ = 0;
    std::uint64_t sent_ms_;
    std::uint64_t idle_frames_seen_ = 0;
    std::uint64_t idle_frames_left_ = idle_frames_burst;
    std::uint64_t idle_frames_ms_;
    Ending ending_ = Ending::served;
    bool settings_seen_ = false;
    bool bomb_ = false;
    bool ended_ = false;   // the peer's side
    bool failed_ = false;  // the session takes no further input
    bool dead_ = false;    // and makes no further output
    bool shutting_down_ = false;
    bool last_goaway_ = false;
};

Http2Connection::Http2Connection(ConnectionContext& context)
    : context_(context),
      answer_budget_(std::make_shared<AnswerBudget>(context.limits.large_answers_bytes_max,
                                                    context.answer_counters)),
      sent_ms_(context.now_ms),
      idle_frames_ms_(context.now_ms) {
    body_budget_->whole = context.body_budget;
    watch_.start(context.now_ms);
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* option = nullptr;
    PENSTOCK_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    PENSTOCK_CHECK(nghttp2_option_new(&option) == 0);
    set_callbacks(callbacks);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    // Counted here, by a clock that tests can set; nghttp2's own limit stays far behind.
    nghttp2_option_set_stream_reset_rate_limit(option, 10 * idle_frames_burst,
                                               10 * idle_frames_per_second);
    PENSTOCK_CHECK(nghttp2_session_server_new2(&session_, callbacks, this, option) == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const std::array<nghttp2_settings_entry, 4> settings{
        {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, context.limits.streams_max},
         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window_bytes},
         {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
          static_cast<std::uint32_t>(context.limits.header_bytes_max)},
         // The tree of priorities of RFC 7540 is work for us and used by nobody.
         {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}}};
    PENSTOCK_CHECK(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(),
                                           settings.size()) == 0);
    PENSTOCK_CHECK(nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                                         connection_window_bytes) == 0);
    context.counters->http2_connections.add();
}

void Http2Connection::set_callbacks(nghttp2_session_callbacks* callbacks) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) noexcept {
            self(user).block_.clear();
            if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
                self(user).begin_request(frame->hd.stream_id);
            }
            return 0;
        });
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name, std::size_t name_bytes,
           const std::uint8_t* value, std::size_t value_bytes, std::uint8_t, void* user) noexcept {
            const bool wanted =
                self(user).take_field({reinterpret_cast<const char*>(name), name_bytes},
                                      {reinterpret_cast<const char*>(value), value_bytes});
            return wanted ? 0 : static_cast<int>(NGHTTP2_ERR_CALLBACK_FAILURE);
        });
    nghttp2_session_callbacks_set_on_invalid_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame*, const std::uint8_t*, std::size_t,
                      const std::uint8_t*, std::size_t, std::uint8_t, void* user) noexcept {
            self(user).block_.invalid = true;
            return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) noexcept {
            self(user).on_frame(*frame);
            return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                      std::size_t size_bytes, void* user) noexcept {
            self(user).take_body(id, {reinterpret_cast<const char*>(data), size_bytes});
            return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, std::int32_t id, std::uint32_t, void* user) noexcept {
            self(user).close_stream(id);
            return 0;
        });
    nghttp2_session_callbacks_set_on_frame_send_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) noexcept {
            self(user).on_sent(*frame);
            return 0;
        });
    nghttp2_session_callbacks_set_send_data_callback(
        callbacks, [](nghttp2_session*, nghttp2_frame* frame, const std::uint8_t* head,
                      std::size_t size_bytes, nghttp2_data_source*, void* user) noexcept {
            Stream* stream = self(user).find(frame->hd.stream_id);
            return stream == nullptr ? static_cast<int>(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE)
                                     : self(user).send_data(*stream, head, size_bytes);
        });
}

void Http2Connection::input_received(std::size_t count_bytes) {
    if (failed_) {
        return;
    }
    const std::string_view bytes(context_.scratch.data(), count_bytes);
    watch_.see(bytes, context_.now_ms);
    const ssize_t used = nghttp2_session_mem_recv(
        session_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    if (bomb_) {
        flooded("a header block without measure");
    } else if (used == NGHTTP2_ERR_FLOODED || used == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) {
        flooded(nghttp2_strerror(static_cast<int>(used)));
    } else if (used < 0) {
        ++refused_;
        terminate(NGHTTP2_PROTOCOL_ERROR, nghttp2_strerror(static_cast<int>(used)),
                  Ending::malformed);
    } else {
        charge_idle_frames(watch_.idle_frames() - idle_frames_seen_);
        idle_frames_seen_ = watch_.idle_frames();
    }
}

void Http2Connection::charge_idle_frames(std::uint64_t count) {
    const std::uint64_t back = (context_.now_ms - idle_frames_ms_) * idle_frames_per_second / 1000;
    if (back != 0) {
        idle_frames_left_ = std::min(idle_frames_left_ + back, idle_frames_burst);
        idle_frames_ms_ = context_.now_ms;
    }
    if (count > idle_frames_left_ && !failed_) {
        flooded("too many frames that ask for nothing");
    }
    idle_frames_left_ -= std::min(idle_frames_left_, count);
}

void Http2Connection::flooded(std::string_view why) {
    context_.counters->floods.add();
    terminate(NGHTTP2_ENHANCE_YOUR_CALM, why, Ending::flood);
}

// Says why in a GOAWAY, and takes nothing more.
void Http2Connection::terminate(std::uint32_t code, std::string_view why, Ending ending) {
    failed_ = true;
    ending_ = ending;
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session_), code,
                          reinterpret_cast<const std::uint8_t*>(why.data()), why.size());
    nghttp2_session_terminate_session(session_, code);
}

void Http2Connection::begin_request(std::int32_t id) {
    Stream& stream = streams_[id];
    stream.id = id;
    stream.progress_ms = context_.now_ms;
}

bool Http2Connection::take_field(std::string_view name, std::string_view value) {
    block_.add(name, value, context_.limits.header_bytes_max);
    bomb_ = block_.size_bytes > header_bomb_factor * context_.limits.header_bytes_max;
    return !bomb_;
}

void Http2Connection::finish_head(Stream& stream) {
    if (block_.size_bytes > context_.limits.header_bytes_max) {
        refuse(stream, 431,
               "The headers are too long: at most " +
                   std::to_string(context_.limits.header_bytes_max) + " bytes are accepted.");
        return;
    }
    if (block_.invalid) {
        refuse(stream, 400, "The request is not valid HTTP/2: a header holds what none may.");
        return;
    }
    stream.request = std::make_unique<HttpRequest>();
    HttpRequest& request = *stream.request;
    request.version = 20;
    request.headers.reserve(block_.fields.size());
    std::string_view rest = request.keep_head(block_.text);
    std::string_view authority;
    for (const HeadBlock::Field& field : block_.fields) {
        const std::string_view name = rest.substr(0, field.name_bytes);
        const std::string_view value = rest.substr(field.name_bytes, field.value_bytes);
        rest.remove_prefix(field.name_bytes + field.value_bytes);
        if (name == ":method") {
            request.method = value;
        } else if (name == ":path") {
            request.set_target(value);
        } else if (name == ":authority") {
            authority = value;
            request.headers.push_back({name, value});
        } else if (!name.starts_with(':')) {
            request.headers.push_back({name, value});
        }
    }
    request.authority = authority;
    // A connection can have many streams that bring a head each and then nothing.
    request.body_buffer().charge_to(body_budget_);
    if (!request.body_buffer().charge(stream_overhead_bytes + block_.size_bytes)) {
        refuse(stream, 503, "There is no memory for another request: try again later.");
        return;
    }
    stream.head_only = request.method == "HEAD";
    if (check_head(stream) && stream.length_bytes.value_or(0) > context_.limits.body_bytes_max) {
        refuse_large_body(stream);
    }
}

bool Http2Connection::check_head(Stream& stream) {
    const HttpRequest& request = *stream.request;
    if (request.method == "CONNECT") {
        refuse(stream, 501, "The method CONNECT is not supported.");
        return false;
    }
    const std::size_t hosts = request.count_header("host");
    if (hosts > 1 ||
        (hosts == 1 && !request.authority.empty() && request.header("host") != request.authority)) {
        refuse(stream, 400, "The request must name one host: found several.");
        return false;
    }
    if (request.host().empty()) {
        refuse(stream, 400, "The request must name its host in :authority: found none.");
        return false;
    }
    if (const std::string_view text = request.header("content-length"); !text.empty()) {
        std::uint64_t number = 0;
        // nghttp2 has checked that it is one number; only its size is open.
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
        stream.length_bytes = code == std::errc{} && end == text.data() + text.size()
                                  ? number
                                  : std::numeric_limits<std::uint64_t>::max();
    }
    const std::string_view expectation = request.header("expect");
    if (equals_ignoring_case(expectation, "100-continue")) {
        AnswerHead head;
        head.add(":status", "100");
        const auto fields = head.fields();
        nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, stream.id, nullptr, fields.data(),
                               fields.size(), nullptr);
    } else if (!expectation.empty()) {
        refuse(stream, 417, "The only expectation accepted is 100-continue.");
        return false;
    }
    return true;
}

void Http2Connection::on_frame(const nghttp2_frame& frame) {
    switch (frame.hd.type) {
        case NGHTTP2_SETTINGS:
            settings_seen_ = true;
            return;
        case NGHTTP2_PING:
            if ((frame.hd.flags & NGHTTP2_FLAG_ACK) != 0 && shutting_down_) {
                finish_shutdown();
            }
            return;
        case NGHTTP2_HEADERS:
        case NGHTTP2_DATA:
            break;
        default:
            return;
    }
    Stream* stream = find(frame.hd.stream_id);
    if (stream == nullptr) {
        return;
    }
    if (frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
        finish_head(*stream);
    } else if (frame.hd.type == NGHTTP2_HEADERS &&
               block_.size_bytes > context_.limits.header_bytes_max) {
        refuse(*stream, 431,
               "The trailers are too long: at most " +
                   std::to_string(context_.limits.header_bytes_max) + " bytes are accepted.");
    }
    if ((frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        complete(*stream);
    }
}

void Http2Connection::complete(Stream& stream) {
    stream.receiving = false;
    if (stream.request) {
        stream.large_answer_bytes =
            context_.large_answer_bytes ? context_.large_answer_bytes(*stream.request) : 0;
        ready_.push_back(stream.id);
    }
}

void Http2Connection::take_body(std::int32_t id, std::string_view bytes) {
    Stream* stream = find(id);
    if (stream == nullptr || !stream->request) {
        // Refused already. The peer's other streams share the connection's window.
        nghttp2_session_consume_connection(session_, bytes.size());
        return;
    }
    stream->progress_ms = context_.now_ms;
    if (make_room(*stream, bytes.size())) {
        stream->request->body_buffer().append(bytes);
        nghttp2_session_consume(session_, id, bytes.size());
    } else {
        nghttp2_session_consume_connection(session_, bytes.size());
    }
}

bool Http2Connection::make_room(Stream& stream, std::size_t more_bytes) {
    BodyBuffer& body = stream.request->body_buffer();
    const std::size_t wanted = body.size() + more_bytes;
    if (wanted > context_.limits.body_bytes_max) {
        refuse_large_body(stream);
        return false;
    }
    if (wanted <= body.capacity()) {
        return true;
    }
    const std::size_t whole =
        std::min<std::uint64_t>(stream.length_bytes.value_or(context_.limits.body_bytes_max),
                                context_.limits.body_bytes_max);
    const std::size_t larger = next_body_capacity(body.capacity(), whole);
    if (!body.reserve(std::max(wanted, larger))) {
        refuse(stream, 503, "There is no memory for another request body: try again later.");
        return false;
    }
    return true;
}

void Http2Connection::refuse_large_body(Stream& stream) {
    refuse(stream, 413,
           "The body is too large: at most " + std::to_string(context_.limits.body_bytes_max) +
               " bytes are accepted.");
}

// Answers a request that nobody has seen; what is still to come of it is thrown away.
void Http2Connection::refuse(Stream& stream, int status, std::string_view line) {
    if (stream.answered) {
        return;
    }
    ++refused_;
    stream.request.reset();
    stream.large_answer_bytes = 0;
    stream.receiving = false;
    answer(stream, make_refusal(context_, HttpResponse::text(status, line)));
}

std::optional<IncomingRequest> Http2Connection::next_request() {
    if (failed_ || outstanding_ >= context_.limits.outstanding_max ||
        held_bytes_ >= context_.limits.unsent_bytes_max) {
        return std::nullopt;
    }
    for (auto at = ready_.begin(); at != ready_.end();) {
        Stream* stream = find(*at);
        const bool is_there = stream != nullptr && stream->request;
        if (is_there && !may_begin(*stream)) {
            ++at;
            continue;
        }
        at = ready_.erase(at);
        if (is_there) {
            stream->given_out = true;
            ++outstanding_;
            return IncomingRequest{StreamId{static_cast<std::uint64_t>(stream->id)},
                                   std::move(stream->request)};
        }
    }
    return std::nullopt;
}

// Where large answers wait for the peer, further requests for such wait too; others pass them, so
// that a subscription doesn't depend on what else its connection is used for.
bool Http2Connection::may_begin(Stream& stream) {
    if (stream.large_answer_bytes == 0) {
        return true;
    }
    if (!answer_budget_->has_room(stream.large_answer_bytes)) {
        context_.answer_counters->held.add(stream.held ? 0 : 1);
        stream.held = true;
        return false;
    }
    stream.claim = AnswerClaim(answer_budget_, stream.large_answer_bytes);
    return true;
}

void Http2Connection::respond(StreamId id, HttpResponse&& response) {
    Stream* stream = find(static_cast<std::int32_t>(id));
    if (stream == nullptr || !stream->given_out || stream->answered) {
        return;
    }
    --outstanding_;
    if (stream->gone) {
        streams_.erase(stream->id);
        return;
    }
    answer(*stream, std::move(response));
}

void Http2Connection::answer(Stream& stream, HttpResponse&& response) {
    stream.answered = true;
    stream.progress_ms = context_.now_ms;
    const bool bodiless = response.status == 204 || response.status == 304;
    AnswerHead head;
    head.add(":status", std::to_string(response.status));
    if (!context_.date.empty()) {
        head.add("date", context_.date);
    }
    if (!response.content_type.empty()) {
        head.add("content-type", response.content_type);
    }
    for (const auto& [name, value] : response.headers) {
        head.add(name, value);
    }
    if (!response.stream && !bodiless) {
        head.add("content-length", std::to_string(response.body.size()));
    }
    const bool sends_body =
        !stream.head_only && !bodiless && (response.stream || !response.body.empty());
    if (sends_body && response.stream) {
        stream.source = std::move(response.stream);
    } else if (sends_body && stream.claim) {
        stream.body = keep_claimed(std::move(response.body), std::move(stream.claim));
    } else if (sends_body) {
        held_bytes_ += response.body.size();
        stream.body = std::make_shared<const std::string>(std::move(response.body));
    }
    stream.claim = {};
    nghttp2_data_provider provider{};
    provider.read_callback = [](nghttp2_session*, std::int32_t id, std::uint8_t*,
                                std::size_t room_bytes, std::uint32_t* flags, nghttp2_data_source*,
                                void* user) noexcept -> ssize_t {
        Stream* own = self(user).find(id);
        return own == nullptr ? static_cast<ssize_t>(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE)
                              : self(user).produce(*own, room_bytes, *flags);
    };
    // Streams of one connection share it evenly, also with those that never end.
    const nghttp2_extpri priority{NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
    nghttp2_session_change_extpri_stream_priority(session_, stream.id, &priority, 1);
    const auto fields = head.fields();
    nghttp2_submit_response(session_, stream.id, fields.data(), fields.size(),
                            sends_body ? &provider : nullptr);
}

ssize_t Http2Connection::produce(Stream& stream, std::size_t room_bytes, std::uint32_t& flags) {
    if (stream.body_left() == 0 && stream.source) {
        stream.body.reset();
        stream.body_offset = 0;
        BodyPiece piece;
        switch (ask(*stream.source, piece)) {
            case Next::piece:
                stream.body = std::move(piece);
                break;
            case Next::later:
                stream.source_waits = true;
                return NGHTTP2_ERR_DEFERRED;
            case Next::end:
                flags |= NGHTTP2_DATA_FLAG_EOF;
                stream.source.reset();
                return 0;
            case Next::broken:
                // Becomes a RST_STREAM with INTERNAL_ERROR.
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    const std::size_t size = std::min(room_bytes, stream.body_left());
    flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (size == stream.body_left() && !stream.source) {
        flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return static_cast<ssize_t>(size);
}

int Http2Connection::send_data(Stream& stream, const std::uint8_t* head, std::size_t size_bytes) {
    if (out_.size_bytes() >= ready_bytes_max) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    if (!stream.body) {
        // Given up since produce() announced these bytes.
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    out_.copy({reinterpret_cast<const char*>(head), 9});
    const std::string_view part =
        std::string_view(*stream.body).substr(stream.body_offset, size_bytes);
    if (part.size() <= copied_bytes_max) {
        out_.copy(part);
    } else {
        out_.lend(stream.body, part);
    }
    stream.body_offset += size_bytes;
    stream.progress_ms = context_.now_ms;
    held_bytes_ -= counts_as_held(stream) ? size_bytes : 0;
    return 0;
}

std::size_t Http2Connection::next_output(std::span<std::string_view> pieces) {
    const bool was_empty = out_.empty();
    while (!dead_ && out_.size_bytes() < ready_bytes_max) {
        const std::uint8_t* bytes = nullptr;
        const ssize_t count = nghttp2_session_mem_send(session_, &bytes);
        if (count <= 0) {
            // Nothing, or no memory for it: then this connection cannot go on.
            dead_ = count < 0;
            failed_ = failed_ || dead_;
            break;
        }
        out_.copy({reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count)});
    }
    if (was_empty && !out_.empty()) {
        sent_ms_ = context_.now_ms;
    }
    return out_.fill(pieces);
}

void Http2Connection::on_sent(const nghttp2_frame& frame) {
    if (frame.hd.type == NGHTTP2_RST_STREAM) {
        const std::uint32_t code = frame.rst_stream.error_code;
        if (code != NGHTTP2_NO_ERROR && code != NGHTTP2_CANCEL && !failed_) {
            // nghttp2 refuses what is malformed this way. It costs as much as a reset by the peer.
            const Stream* stream = find(frame.hd.stream_id);
            refused_ += stream == nullptr || (!stream->given_out && !stream->answered) ? 1U : 0U;
            charge_idle_frames(1);
        }
        return;
    }
    if (frame.hd.type == NGHTTP2_GOAWAY) {
        if (frame.goaway.error_code != NGHTTP2_NO_ERROR && !failed_) {
            // nghttp2's own judgement of what came.
            ++refused_;
            ending_ = Ending::malformed;
        }
        return;
    }
    const bool ends = (frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA) &&
                      (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (ends && nghttp2_session_get_stream_remote_close(session_, frame.hd.stream_id) == 0) {
        // The answer is complete and the request is not: the rest is not wanted.
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame.hd.stream_id,
                                  NGHTTP2_NO_ERROR);
    }
}

void Http2Connection::resume(StreamId id) {
    Stream* stream = find(static_cast<std::int32_t>(id));
    if (stream != nullptr && stream->source_waits) {
        stream->source_waits = false;
        stream->progress_ms = context_.now_ms;
        nghttp2_session_resume_data(session_, stream->id);
    }
}

void Http2Connection::release_body(Stream& stream) noexcept {
    held_bytes_ -= counts_as_held(stream) ? stream.body_left() : 0;
    stream.body.reset();
    stream.source.reset();
}

void Http2Connection::close_stream(std::int32_t id) {
    const auto found = streams_.find(id);
    if (found == streams_.end()) {
        return;
    }
    Stream& stream = found->second;
    const bool complete = stream.answered && stream.body_left() == 0 && !stream.source;
    context_.counters->streams_reset.add(complete ? 0 : 1);
    release_body(stream);
    if (stream.given_out && !stream.answered) {
        // Its exchange is still under way and counts as outstanding: starting work and walking away
        // must not be free.
        stream.gone = true;
    } else {
        std::erase(ready_, id);
        streams_.erase(found);
    }
    if (shutting_down_ && streams_.empty()) {
        finish_shutdown();
    }
}

// Two steps (RFC 9113, 6.8): the first says that the end is near, and only when the peer must have
// seen that, the second says what was the last stream.
void Http2Connection::begin_shutdown() {
    shutting_down_ = true;
    if (streams_.empty()) {
        finish_shutdown();
        return;
    }
    nghttp2_submit_shutdown_notice(session_);
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
}

void Http2Connection::finish_shutdown() {
    if (!last_goaway_) {
        last_goaway_ = true;
        nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                              nullptr, 0);
    }
}

bool Http2Connection::is_overdue(const Stream& stream) const noexcept {
    if (stream.receiving) {
        return passed(stream.progress_ms, context_.times.stall_ms);
    }
    if (!stream.answered || stream.source_waits) {
        return false;
    }
    return passed(stream.progress_ms,
                  stream.source ? context_.times.stream_stall_ms : context_.times.stall_ms);
}

void Http2Connection::give_up(Stream& stream) {
    if (stream.receiving) {
        refuse(stream, 408, "The request body did not arrive in time.");
    } else {
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_CANCEL);
        release_body(stream);
    }
}

std::uint64_t Http2Connection::stall_ms() const noexcept {
    const bool any_source = std::ranges::any_of(
        streams_, [](const auto& entry) { return entry.second.source != nullptr; });
    return any_source ? context_.times.stream_stall_ms : context_.times.stall_ms;
}

Overdue Http2Connection::check_time() {
    const ConnectionTimes& times = context_.times;
    if (!out_.empty()) {
        if (!passed(sent_ms_, stall_ms())) {
            return Overdue::nothing;
        }
        ending_ = Ending::unread;
        return Overdue::close;
    }
    if (failed_) {
        return Overdue::nothing;
    }
    const bool slow_frame = (watch_.within() && !watch_.within_data()) || !settings_seen_;
    if (slow_frame && passed(watch_.since_ms(), times.header_ms)) {
        terminate(NGHTTP2_ENHANCE_YOUR_CALM, "a frame or header block did not arrive in time",
                  Ending::slow);
        return Overdue::answered;
    }
    Overdue found = Overdue::nothing;
    for (auto& [id, stream] : streams_) {
        if (!stream.gone && is_overdue(stream)) {
            give_up(stream);
            found = Overdue::answered;
        }
    }
    if (streams_.empty() && passed(std::max(watch_.last_ms(), sent_ms_), times.idle_ms)) {
        terminate(NGHTTP2_NO_ERROR, "idle", Ending::idle);
        found = Overdue::answered;
    }
    return found;
}

}  // namespace

std::unique_ptr<Connection> make_http2_connection(ConnectionContext& context) {
    return std::make_unique<Http2Connection>(context);
}

}  // namespace penstock::http
