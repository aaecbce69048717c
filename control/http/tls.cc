// TLS by OpenSSL over memory: what the socket received is handed to it, what it made is sent.
#include "control/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <mutex>

#include "control/http/output_queue.h"
#include "control/http/tls_tickets.h"
#include "storage/base/check.h"

namespace penstock::http {
namespace {

// The largest record; a connection's output is sealed in pieces of this size.
constexpr std::size_t record_bytes_max = 16 * 1024;
// Records are sealed while less than this is unsent: enough to keep a socket busy.
constexpr std::size_t ready_bytes_max = 64 * 1024;
// What OpenSSL may answer by itself while no data comes: an alert for each handshake that a peer
// wants to begin anew, an update of keys for each that is asked for. Nobody honest needs more than
// a few, of about 30 bytes.
constexpr std::size_t unasked_bytes_max = 4 * 1024;
// Forward secrecy and authenticated encryption, which HTTP/2 demands (RFC 9113, 9.2.2).
constexpr const char* tls12_ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr std::string_view protocols = "\x02h2\x08http/1.1";

struct FreeContext {
    void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using ContextPointer = std::unique_ptr<SSL_CTX, FreeContext>;

// The reason OpenSSL gives first, which is the innermost; then it forgets them all.
std::string take_reason() {
    const unsigned long code = ERR_peek_error();
    const char* text = ERR_reason_error_string(code);
    std::string reason = ERR_SYSTEM_ERROR(code) != 0 ? std::strerror(ERR_GET_REASON(code))
                         : text != nullptr           ? text
                                                     : "unknown reason";
    ERR_clear_error();
    return reason;
}

std::int64_t seconds_of(const ASN1_TIME* time) {
    std::tm parts{};
    return ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}

TlsCertificate describe(SSL_CTX* context, std::int64_t now_seconds) {
    TlsCertificate known;
    const X509* own = SSL_CTX_get0_certificate(context);
    std::array<char, 256> name{};
    X509_NAME_oneline(X509_get_subject_name(own), name.data(), static_cast<int>(name.size()));
    known.subject = name.data();
    known.expires_seconds = seconds_of(X509_get0_notAfter(own));
    if (known.expires_seconds < now_seconds) {
        known.warning = "it has expired: clients will refuse it";
    } else if (seconds_of(X509_get0_notBefore(own)) > now_seconds) {
        known.warning = "it is not valid yet: clients will refuse it";
    }
    return known;
}

int select_protocol(SSL*, const unsigned char** out, unsigned char* out_bytes,
                    const unsigned char* in, unsigned in_bytes, void*) {
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_bytes,
                              reinterpret_cast<const unsigned char*>(protocols.data()),
                              protocols.size(), in, in_bytes) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

std::expected<ContextPointer, std::string> load(const TlsFiles& files, TicketKeys& tickets) {
    ERR_clear_error();
    ContextPointer context(SSL_CTX_new(TLS_server_method()));
    SSL_CTX* c = context.get();
    if (c == nullptr || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(c, tls12_ciphers) != 1) {
        return std::unexpected("TLS cannot be set up: " + take_reason());
    }
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // An idle connection gives its buffers back.
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(c, select_protocol, nullptr);
    // Sessions live in tickets alone, so that no control thread needs another's memory.
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(c, std::chrono::seconds(ticket_key_life).count());
    static constexpr std::array<unsigned char, 8> id{'p', 'e', 'n', 's', 't', 'o', 'c', 'k'};
    SSL_CTX_set_session_id_context(c, id.data(), id.size());
    tickets.use_in(c);
    // A key with a password would be asked for at the terminal.
    SSL_CTX_set_default_passwd_cb(c, [](char*, int, int, void*) { return 0; });
    if (SSL_CTX_use_certificate_chain_file(c, files.certificate.c_str()) != 1) {
        return std::unexpected("the TLS certificate " + files.certificate + " cannot be used: " +
                               take_reason() + "; expected PEM, the server's certificate first");
    }
    if (SSL_CTX_use_PrivateKey_file(c, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c) != 1) {
        return std::unexpected("the TLS key " + files.key + " cannot be used: " + take_reason() +
                               "; expected the private key of " + files.certificate +
                               " as PEM, without a password");
    }
    return context;
}

class Context final : public TlsContext {
public:
    Context(TlsFiles files, Clock& clock)
        : files_(std::move(files)), clock_(clock), tickets_(clock) {}

    std::expected<TlsCertificate, std::string> reload() override {
        auto loaded = load(files_, tickets_);
        if (!loaded) {
            return std::unexpected(loaded.error());
        }
        const std::lock_guard lock(mutex_);
        context_ = std::move(*loaded);
        return describe(context_.get(), now_seconds());
    }

    TlsCertificate certificate() const override {
        const std::lock_guard lock(mutex_);
        return describe(context_.get(), now_seconds());
    }

    std::size_t wipe_old_ticket_keys() override { return tickets_.wipe_old(); }

    std::unique_ptr<Connection> connect(ConnectionContext& context) override;

private:
    [[nodiscard]] std::int64_t now_seconds() const {
        return static_cast<std::int64_t>(clock_.wall_ms() / 1000);
    }

    const TlsFiles files_;
    Clock& clock_;
    TicketKeys tickets_;
    mutable std::mutex mutex_;
    ContextPointer context_;
};

class TlsConnection final : public Connection {
public:
    // Takes over `ssl`.
    TlsConnection(ConnectionContext& context, SSL* ssl)
        : context_(context), ssl_(ssl), begun_ms_(context.now_ms), sent_ms_(context.now_ms) {
        BIO* bio = BIO_new(bio_method());
        PENSTOCK_CHECK(bio != nullptr);
        BIO_set_data(bio, this);
        BIO_set_init(bio, 1);
        SSL_set_bio(ssl_, bio, bio);
        SSL_set_accept_state(ssl_);
    }
    ~TlsConnection() override { SSL_free(ssl_); }
    TlsConnection(const TlsConnection&) = delete;
    TlsConnection& operator=(const TlsConnection&) = delete;

    std::span<char> input_space() override { return context_.tls_scratch; }
    void input_received(std::size_t count_bytes) override;
    void input_ended() override;
    std::optional<IncomingRequest> next_request() override;
    void respond(StreamId stream, HttpResponse&& response) override {
        if (inner_) {
            inner_->respond(stream, std::move(response));
        }
    }
    void resume(StreamId stream) override {
        if (inner_) {
            inner_->resume(stream);
        }
    }
    std::size_t next_output(std::span<std::string_view> pieces) override;
    void output_sent(std::size_t count_bytes) override {
        sent_ms_ = context_.now_ms;
        out_.sent(count_bytes);
    }
    std::size_t unsent_bytes() const noexcept override {
        return out_.size_bytes() + (inner_ && !failed_ ? inner_->unsent_bytes() : 0);
    }
    bool wants_input() const noexcept override {
        return !failed_ && !ended_ && left_.empty() && has_output_room() &&
               (!inner_ || inner_->wants_input());
    }
    bool wants_close() const noexcept override {
        return (failed_ || said_goodbye_) && out_.empty();
    }
    std::size_t outstanding() const noexcept override { return inner_ ? inner_->outstanding() : 0; }
    std::size_t refused() const noexcept override { return inner_ ? inner_->refused() : 0; }
    Protocol protocol() const noexcept override {
        return inner_ ? inner_->protocol() : Protocol::http1;
    }
    std::uint64_t stall_ms() const noexcept override {
        return inner_ ? inner_->stall_ms() : context_.times.stall_ms;
    }
    std::size_t request_bytes() const noexcept override {
        return inner_ ? inner_->request_bytes() : 0;
    }
    bool is_busy() const noexcept override { return inner_ && inner_->is_busy(); }
    Ending ending() const noexcept override {
        return ending_ ? *ending_ : inner_ ? inner_->ending() : Ending::peer;
    }
    void begin_shutdown() override;
    Overdue check_time() override;

private:
    static const BIO_METHOD* bio_method();
    static int bio_read(BIO* bio, char* to, int room_bytes);
    static int bio_write(BIO* bio, const char* bytes, int count_bytes);
    static long bio_control(BIO*, int command, long, void*) {
        return command == BIO_CTRL_FLUSH ? 1 : 0;
    }

    [[nodiscard]] bool pump();
    // What OpenSSL answers by itself goes to `out_`, past the connection within and its limits.
    [[nodiscard]] bool has_output_room() const noexcept {
        return out_.size_bytes() < context_.limits.unsent_bytes_max;
    }
    [[nodiscard]] bool read(std::span<char> space, std::size_t& count);
    void shake_hands();
    void fail(bool in_handshake);
    void seal();
    [[nodiscard]] bool passed(std::uint64_t since_ms, std::uint64_t limit_ms) const noexcept {
        return context_.now_ms > since_ms && context_.now_ms - since_ms > limit_ms;
    }

    ConnectionContext& context_;
    SSL* ssl_;
    std::unique_ptr<Connection> inner_;  // from the end of the handshake
    std::string_view in_;                // received and not taken by OpenSSL
    std::string left_;                   // what `in_` shows, when it had to be kept
    OutputQueue out_;
    std::uint64_t begun_ms_;
    std::uint64_t sent_ms_;
    std::size_t unasked_bytes_ = 0;  // what OpenSSL answered by itself since data last came
    std::optional<Ending> ending_;   // of this layer
    bool received_any_ = false;
    bool ended_ = false;
    bool failed_ = false;
    bool said_goodbye_ = false;
};

const BIO_METHOD* TlsConnection::bio_method() {
    static const BIO_METHOD* const method = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "penstock");
        PENSTOCK_CHECK(made != nullptr);
        BIO_meth_set_read(made, &TlsConnection::bio_read);
        BIO_meth_set_write(made, &TlsConnection::bio_write);
        BIO_meth_set_ctrl(made, &TlsConnection::bio_control);
        return made;
    }();
    return method;
}

int TlsConnection::bio_read(BIO* bio, char* to, int room_bytes) {
    auto& self = *static_cast<TlsConnection*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (self.in_.empty()) {
        BIO_set_retry_read(bio);
        return -1;
    }
    const std::size_t count = std::min(self.in_.size(), static_cast<std::size_t>(room_bytes));
    std::memcpy(to, self.in_.data(), count);
    self.in_.remove_prefix(count);
    return static_cast<int>(count);
}

int TlsConnection::bio_write(BIO* bio, const char* bytes, int count_bytes) {
    auto& self = *static_cast<TlsConnection*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    self.out_.copy({bytes, static_cast<std::size_t>(count_bytes)});
    return count_bytes;
}

void TlsConnection::input_received(std::size_t count_bytes) {
    if (failed_) {
        return;
    }
    received_any_ = true;
    in_ = {context_.tls_scratch.data(), count_bytes};
    while (pump()) {
    }
    left_ = in_;
    in_ = left_;
}

// Moves what has been received one step further. False when nothing moves any more.
bool TlsConnection::pump() {
    if (failed_ || said_goodbye_) {
        return false;
    }
    if (!inner_) {
        shake_hands();
        if (!inner_) {
            return false;
        }
    }
    if (ended_ || !has_output_room() || !inner_->wants_input()) {
        return false;
    }
    std::size_t count = 0;
    if (read(inner_->input_space(), count)) {
        inner_->input_received(count);
        return true;
    }
    if (unasked_bytes_ > unasked_bytes_max) {
        failed_ = true;
        ending_ = Ending::flood;
        out_.clear();
        ERR_clear_error();
        return false;
    }
    switch (SSL_get_error(ssl_, 0)) {
        case SSL_ERROR_WANT_READ:
            break;
        case SSL_ERROR_ZERO_RETURN:
            input_ended();
            break;
        default:
            fail(false);
    }
    return false;
}

bool TlsConnection::read(std::span<char> space, std::size_t& count) {
    const std::size_t before_bytes = out_.size_bytes();
    ERR_clear_error();
    const bool got = SSL_read_ex(ssl_, space.data(), space.size(), &count) == 1;
    unasked_bytes_ = got ? 0 : unasked_bytes_ + out_.size_bytes() - before_bytes;
    return got;
}

void TlsConnection::shake_hands() {
    ERR_clear_error();
    const int done = SSL_do_handshake(ssl_);
    if (done != 1) {
        if (SSL_get_error(ssl_, done) != SSL_ERROR_WANT_READ) {
            fail(true);
        }
        return;
    }
    context_.counters->tls_handshakes.add();
    context_.counters->tls_resumptions.add(SSL_session_reused(ssl_) == 1 ? 1 : 0);
    const unsigned char* name = nullptr;
    unsigned name_bytes = 0;
    SSL_get0_alpn_selected(ssl_, &name, &name_bytes);
    const std::string_view protocol(reinterpret_cast<const char*>(name), name_bytes);
    inner_ = protocol == "h2"         ? make_http2_connection(context_)
             : protocol == "http/1.1" ? make_http1_connection(context_)
                                      : make_clear_connection(context_);
}

// What OpenSSL had to say about it, an alert, is in the output already.
void TlsConnection::fail(bool in_handshake) {
    failed_ = true;
    ending_ = in_handshake ? Ending::tls : Ending::malformed;
    context_.counters->tls_failures.add(in_handshake ? 1 : 0);
    if (in_handshake && ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_HTTP_REQUEST) {
        static constexpr std::string_view line = "This port speaks TLS: use https:// for it.\n";
        out_.clear();
        out_.take("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: " +
                  std::to_string(line.size()) + "\r\nConnection: close\r\n\r\n" +
                  std::string(line));
    }
    ERR_clear_error();
}

void TlsConnection::input_ended() {
    ended_ = true;
    if (inner_) {
        inner_->input_ended();
    } else if (!failed_) {
        failed_ = true;
        context_.counters->tls_failures.add(received_any_ ? 1 : 0);
    }
}

std::optional<IncomingRequest> TlsConnection::next_request() {
    if (!inner_ || failed_) {
        return std::nullopt;
    }
    bool moved = true;
    while (moved) {
        if (auto request = inner_->next_request()) {
            return request;
        }
        moved = pump();
    }
    if (in_.empty() && !left_.empty()) {
        left_ = {};
        in_ = {};
    }
    return std::nullopt;
}

std::size_t TlsConnection::next_output(std::span<std::string_view> pieces) {
    const bool was_empty = out_.empty();
    if (inner_ && !failed_ && !said_goodbye_) {
        seal();
        if (!failed_ && inner_->wants_close()) {
            said_goodbye_ = true;
            ERR_clear_error();
            SSL_shutdown(ssl_);
        }
    }
    if (was_empty && !out_.empty()) {
        sent_ms_ = context_.now_ms;
    }
    return out_.fill(pieces);
}

// Small pieces share a record: each costs a header, a tag and a system call's worth of work.
void TlsConnection::seal() {
    std::array<std::string_view, 16> pieces;
    std::array<char, record_bytes_max> joined;
    while (out_.size_bytes() < ready_bytes_max) {
        const std::size_t count = inner_->next_output(pieces);
        if (count == 0) {
            return;
        }
        std::string_view record = pieces[0].substr(0, record_bytes_max);
        if (record.size() < record_bytes_max && count > 1) {
            std::size_t size = 0;
            for (std::size_t i = 0; i < count && size < joined.size(); ++i) {
                const std::size_t more = std::min(joined.size() - size, pieces[i].size());
                std::memcpy(joined.data() + size, pieces[i].data(), more);
                size += more;
            }
            record = {joined.data(), size};
        }
        ERR_clear_error();
        std::size_t written = 0;
        if (SSL_write_ex(ssl_, record.data(), record.size(), &written) != 1) {
            fail(false);
            return;
        }
        inner_->output_sent(written);
    }
}

void TlsConnection::begin_shutdown() {
    if (inner_) {
        inner_->begin_shutdown();
    } else {
        failed_ = true;
    }
}

Overdue TlsConnection::check_time() {
    if (!out_.empty()) {
        if (!passed(sent_ms_, stall_ms())) {
            return Overdue::nothing;
        }
        ending_ = Ending::unread;
        return Overdue::close;
    }
    if (inner_) {
        return inner_->check_time();
    }
    if (!failed_ && passed(begun_ms_, context_.times.header_ms)) {
        ending_ = Ending::slow;
        context_.counters->tls_failures.add(received_any_ ? 1 : 0);
        return Overdue::close;
    }
    return Overdue::nothing;
}

std::unique_ptr<Connection> Context::connect(ConnectionContext& context) {
    const std::lock_guard lock(mutex_);
    SSL* ssl = SSL_new(context_.get());
    PENSTOCK_CHECK(ssl != nullptr);
    return std::make_unique<TlsConnection>(context, ssl);
}

}  // namespace

std::expected<std::unique_ptr<TlsContext>, std::string> TlsContext::open(TlsFiles files,
                                                                         Clock& clock) {
    auto context = std::make_unique<Context>(std::move(files), clock);
    if (auto loaded = context->reload(); !loaded) {
        return std::unexpected(loaded.error());
    }
    return context;
}

}  // namespace penstock::http
