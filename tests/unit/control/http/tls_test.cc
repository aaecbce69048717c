#include "control/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/unit/control/http/certificates.h"
#include "tests/unit/control/http/http2_client.h"
#include "tests/unit/control/http/scripted_body.h"
#include "tests/unit/control/http/tls12_sealer.h"

namespace penstock::http {
namespace {

class TestClock final : public Clock {
public:
    std::uint64_t monotonic_ns() noexcept override { return now_ns; }
    std::int64_t wall_ms() noexcept override { return std::time(nullptr) * 1000; }
    std::uint64_t now_ns = 1;
};

// A TLS client whose bytes are carried by the test.
class TlsClient {
public:
    explicit TlsClient(std::string_view alpn = {}, SSL_SESSION* session = nullptr,
                       int version_max = TLS1_3_VERSION) {
        context_ = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_max_proto_version(context_, version_max);
        if (version_max < TLS1_2_VERSION) {
            SSL_CTX_set_cipher_list(context_, "ALL:@SECLEVEL=0");
            SSL_CTX_set_min_proto_version(context_, version_max);
        }
        ssl_ = SSL_new(context_);
        in_ = BIO_new(BIO_s_mem());
        out_ = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl_, in_, out_);
        SSL_set_connect_state(ssl_);
        if (!alpn.empty()) {
            SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(alpn.data()),
                                static_cast<unsigned>(alpn.size()));
        }
        if (session != nullptr) {
            SSL_set_session(ssl_, session);
        }
    }
    ~TlsClient() {
        // Else its session would count as broken.
        SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(ssl_);
        SSL_CTX_free(context_);
        ERR_clear_error();
    }
    TlsClient(const TlsClient&) = delete;
    TlsClient& operator=(const TlsClient&) = delete;

    // Says `bytes` once the handshake is done; returns what it has for the server by now.
    std::string output(std::string_view bytes = {}) {
        unsent_.append(bytes);
        if (SSL_do_handshake(ssl_) == 1 && !unsent_.empty()) {
            SSL_write(ssl_, unsent_.data(), static_cast<int>(unsent_.size()));
            unsent_.clear();
        }
        std::string sealed(BIO_pending(out_), '\0');
        sealed.resize(static_cast<std::size_t>(
            std::max(0, BIO_read(out_, sealed.data(), static_cast<int>(sealed.size())))));
        return sealed;
    }
    void input(std::string_view bytes) {
        BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
        SSL_do_handshake(ssl_);
        std::array<char, 4096> opened;
        for (int count = 0; (count = SSL_read(ssl_, opened.data(), opened.size())) > 0;) {
            heard_.append(opened.data(), static_cast<std::size_t>(count));
        }
    }
    [[nodiscard]] std::string take_heard() { return std::exchange(heard_, {}); }
    [[nodiscard]] const std::string& heard() const { return heard_; }
    [[nodiscard]] bool connected() const { return SSL_is_init_finished(ssl_) == 1; }
    [[nodiscard]] bool resumed() const { return SSL_session_reused(ssl_) == 1; }
    [[nodiscard]] bool told_goodbye() const {
        return (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0;
    }
    void say_goodbye() { SSL_shutdown(ssl_); }
    [[nodiscard]] SSL_SESSION* session() const { return SSL_get1_session(ssl_); }
    [[nodiscard]] SSL* ssl() const { return ssl_; }
    [[nodiscard]] std::string protocol() const {
        const unsigned char* name = nullptr;
        unsigned size = 0;
        SSL_get0_alpn_selected(ssl_, &name, &size);
        return {reinterpret_cast<const char*>(name), size};
    }
    [[nodiscard]] std::string peer() const {
        X509* own = SSL_get1_peer_certificate(ssl_);
        std::array<char, 100> name{};
        X509_NAME_oneline(X509_get_subject_name(own), name.data(), name.size());
        X509_free(own);
        return name.data();
    }

private:
    SSL_CTX* context_;
    SSL* ssl_;
    BIO* in_;
    BIO* out_;
    std::string unsent_;
    std::string heard_;
};

constexpr std::string_view alpn_h2 = "\x02h2";
constexpr std::string_view alpn_both = "\x02h2\x08http/1.1";
constexpr std::string_view alpn_http1 = "\x08http/1.1";
constexpr std::string_view alpn_other = "\x06spdy/9";

class Tls : public ::testing::Test {
protected:
    void SetUp() override {
        certificates_.make("one");
        open();
    }
    void open(const std::string& name = "one") {
        auto opened = TlsContext::open(
            {certificates_.path(name + ".pem"), certificates_.path(name + "-key.pem")}, clock_);
        ASSERT_TRUE(opened) << opened.error();
        tls_ = std::move(*opened);
        connection_ = tls_->connect(context_);
    }
    static std::string take_output(Connection& connection) {
        std::string out;
        std::array<std::string_view, 3> pieces;
        while (const std::size_t count = connection.next_output(pieces)) {
            std::size_t bytes = 0;
            for (std::size_t i = 0; i < count; ++i) {
                out.append(pieces[i]);
                bytes += pieces[i].size();
            }
            connection.output_sent(bytes / 2);
            connection.output_sent(bytes - bytes / 2);
        }
        return out;
    }
    // Bytes reach the server `step` at a time.
    void run(TlsClient& client, std::string_view says = {}, std::size_t step = 1 << 20) {
        std::string to_server = client.output(says);
        for (bool moved = true; moved;) {
            moved = !to_server.empty();
            std::string_view rest = to_server;
            while (!rest.empty() && connection_->wants_input()) {
                rest.remove_prefix(connection_->feed(rest.substr(0, step)));
                answer_requests();
            }
            answer_requests();
            const std::string to_client = take_output(*connection_);
            moved = moved || !to_client.empty();
            client.input(to_client);
            to_server = std::string(rest) + client.output();
        }
    }
    void answer_requests() {
        while (auto incoming = connection_->next_request()) {
            HttpResponse response;
            response.body = incoming->request->body();
            if (incoming->request->path == "/large") {
                response.body = std::string(3'000'000, 'L');
            }
            if (incoming->request->path == "/events") {
                response = script_.response();
                streaming_ = incoming->stream;
            }
            connection_->respond(incoming->stream, std::move(response));
        }
    }
    static std::string post(std::string_view body, std::string_view path = "/") {
        return "POST " + std::string(path) +
               " HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
               "\r\n\r\n" + std::string(body);
    }

    TestCertificates certificates_;
    TestClock clock_;
    BodyScript script_;
    StreamId streaming_{};
    ConnectionContext context_;
    std::unique_ptr<TlsContext> tls_;
    std::unique_ptr<Connection> connection_;
};

TEST_F(Tls, AlpnDecidesTheProtocol) {
    for (const auto& [alpn, chosen] : {std::pair{alpn_both, "h2"},
                                       {alpn_h2, "h2"},
                                       {alpn_http1, "http/1.1"},
                                       {std::string_view{}, ""}}) {
        connection_ = tls_->connect(context_);
        TlsClient client(alpn);
        run(client);
        EXPECT_TRUE(client.connected());
        EXPECT_EQ(client.protocol(), chosen);
        EXPECT_EQ(connection_->protocol(),
                  client.protocol() == "h2" ? Protocol::http2 : Protocol::http1);
    }
    EXPECT_EQ(context_.counters->tls_handshakes.get(), 4U);
    connection_ = tls_->connect(context_);
    TlsClient other(alpn_other);
    run(other);
    EXPECT_FALSE(other.connected());
    EXPECT_TRUE(connection_->wants_close());
    EXPECT_EQ(context_.counters->tls_failures.get(), 1U);
}

TEST_F(Tls, RequestsPassInPiecesOfAnySize) {
    for (const std::size_t step : {1U, 2U, 7U, 100U, 1U << 20}) {
        connection_ = tls_->connect(context_);
        TlsClient client(alpn_http1);
        run(client, post("hello") + post("second"), step);
        EXPECT_TRUE(client.heard().ends_with("\r\n\r\nsecond")) << step;
        EXPECT_EQ(client.heard().find("hello"), client.heard().find("\r\n\r\n") + 4) << step;
    }
}

TEST_F(Tls, Http2PassesWithLargeBodiesBothWays) {
    TlsClient client(alpn_h2);
    Http2Client http2;
    const std::string body(5'000'000, 'b');
    const std::int32_t first = http2.ask("/", body);
    const std::int32_t second = http2.ask("/large");
    for (int round = 0;
         round < 1000 && !(http2.answer(first).closed && http2.answer(second).closed); ++round) {
        run(client, http2.output());
        http2.input(client.take_heard());
    }
    EXPECT_EQ(http2.answer(first).body, body);
    EXPECT_EQ(http2.answer(second).body.size(), 3'000'000U);
}

TEST_F(Tls, WithoutAlpnThePrefaceStillFindsHttp2) {
    TlsClient client;
    Http2Client http2;
    const std::int32_t id = http2.ask("/", "body");
    run(client, http2.output());
    http2.input(client.take_heard());
    EXPECT_EQ(http2.answer(id).body, "body");
}

TEST_F(Tls, InputWaitsWhileTheConnectionWithinHasEnough) {
    context_.limits.unsent_bytes_max = 1'000;
    TlsClient client(alpn_http1);
    run(client);
    std::string all;
    for (int i = 0; i < 40; ++i) {
        all += post(std::string(2'000, 'x'));
    }
    const std::string sealed = client.output(all);
    const std::size_t taken = connection_->feed(sealed);
    const auto first = connection_->next_request();
    ASSERT_TRUE(first);
    connection_->respond(first->stream, HttpResponse::text(200, std::string(500'000, 'y')));
    EXPECT_FALSE(connection_->next_request());
    EXPECT_FALSE(connection_->wants_input());
    // Sealed bytes are bounded, too.
    std::array<std::string_view, 3> pieces;
    EXPECT_NE(connection_->next_output(pieces), 0U);
    EXPECT_GT(connection_->unsent_bytes(), 400'000U);
    run(client);
    std::string_view rest = std::string_view(sealed).substr(taken);
    for (int round = 0; round < 100 && !rest.empty(); ++round) {
        rest.remove_prefix(connection_->feed(rest));
        run(client);
    }
    std::size_t answers = 0;
    for (std::size_t at = 0; (at = client.heard().find("HTTP/1.1 200", at)) != std::string::npos;
         ++at) {
        ++answers;
    }
    EXPECT_EQ(answers, 40U);
}

TEST_F(Tls, AStreamedBodyPassesAsItIsMade) {
    script_.pieces = {"one", "", "two"};
    TlsClient client(alpn_http1);
    run(client, post("", "/events"));
    EXPECT_TRUE(client.heard().ends_with("3\r\none\r\n"));
    connection_->resume(streaming_);
    run(client);
    EXPECT_TRUE(client.heard().ends_with("3\r\ntwo\r\n0\r\n\r\n"));
    // Unread, it may stay longer than an answer.
    EXPECT_EQ(script_.alive, 0);
}

TEST_F(Tls, SessionsAreResumedAcrossConnectionsContextsOfAReloadAndOneChangeOfKeys) {
    const auto connect = [this](SSL_SESSION* session, int version = TLS1_3_VERSION) {
        connection_ = tls_->connect(context_);
        auto client = std::make_unique<TlsClient>(alpn_http1, session, version);
        run(*client, post("x"));
        EXPECT_TRUE(client->heard().ends_with("x"));
        return client;
    };
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        const auto first = connect(nullptr, version);
        EXPECT_FALSE(first->resumed());
        SSL_SESSION* session = first->session();
        EXPECT_TRUE(connect(session, version)->resumed());
        certificates_.make("one");
        ASSERT_TRUE(tls_->reload());
        EXPECT_TRUE(connect(session, version)->resumed());
        clock_.now_ns += static_cast<std::uint64_t>(
            std::chrono::nanoseconds(ticket_key_life + std::chrono::hours(1)).count());
        EXPECT_TRUE(connect(session, version)->resumed());
        clock_.now_ns +=
            static_cast<std::uint64_t>(std::chrono::nanoseconds(ticket_key_life).count());
        EXPECT_FALSE(connect(session, version)->resumed());
        SSL_SESSION_free(session);
    }
    EXPECT_EQ(context_.counters->tls_resumptions.get(), 6U);
    EXPECT_EQ(context_.counters->tls_handshakes.get(), 10U);
}

TEST_F(Tls, AKeyOpensTicketsUntilItIsTwiceAsOldAsItMakesThemWheneverTheNextWasMade) {
    const auto life_ns =
        static_cast<std::uint64_t>(std::chrono::nanoseconds(ticket_key_life).count());
    const auto connect = [this](SSL_SESSION* session) {
        connection_ = tls_->connect(context_);
        auto client = std::make_unique<TlsClient>(alpn_http1, session, TLS1_2_VERSION);
        run(*client, post("x"));
        EXPECT_TRUE(client->heard().ends_with("x"));
        return client;
    };
    SSL_SESSION* session = connect(nullptr)->session();
    // Nobody connects until the key has nearly ended; then it has a successor.
    clock_.now_ns += 2 * life_ns - 1;
    EXPECT_TRUE(connect(session)->resumed());
    EXPECT_EQ(tls_->wipe_old_ticket_keys(), 2U);
    clock_.now_ns += 1;
    EXPECT_FALSE(connect(session)->resumed());
    EXPECT_EQ(tls_->wipe_old_ticket_keys(), 1U);
    SSL_SESSION_free(session);
}

TEST_F(Tls, OldTicketKeysGoWhileNobodyConnects) {
    EXPECT_EQ(tls_->wipe_old_ticket_keys(), 0U);
    TlsClient client(alpn_http1);
    run(client, post("x"));
    EXPECT_EQ(tls_->wipe_old_ticket_keys(), 1U);
    clock_.now_ns += static_cast<std::uint64_t>(std::chrono::nanoseconds(ticket_key_life).count());
    EXPECT_EQ(tls_->wipe_old_ticket_keys(), 1U);
    clock_.now_ns += static_cast<std::uint64_t>(std::chrono::nanoseconds(ticket_key_life).count());
    EXPECT_EQ(tls_->wipe_old_ticket_keys(), 0U);
}

TEST_F(Tls, OldVersionsAreRefused) {
    TlsClient client(alpn_http1, nullptr, TLS1_1_VERSION);
    run(client);
    EXPECT_FALSE(client.connected());
    EXPECT_TRUE(connection_->wants_close());
    EXPECT_EQ(context_.counters->tls_failures.get(), 1U);
}

TEST_F(Tls, ReloadServesTheNewCertificateAndLeavesOpenConnectionsAlone) {
    TlsClient before(alpn_http1);
    run(before, post("1"));
    const auto old_connection = std::move(connection_);
    certificates_.make("two");
    for (const char* part : {".pem", "-key.pem"}) {
        std::filesystem::rename(certificates_.path(std::string("two") + part),
                                certificates_.path(std::string("one") + part));
    }
    const auto loaded = tls_->reload();
    ASSERT_TRUE(loaded) << loaded.error();
    EXPECT_EQ(loaded->subject, "/CN=two");
    EXPECT_GT(loaded->expires_seconds, std::time(nullptr));
    EXPECT_EQ(loaded->warning, "");
    connection_ = tls_->connect(context_);
    TlsClient after(alpn_http1);
    run(after, post("2"));
    EXPECT_EQ(after.peer(), "/CN=two");
    EXPECT_EQ(before.peer(), "/CN=one");
    old_connection->feed(before.output(post("3")));
    ASSERT_TRUE(old_connection->next_request());
}

TEST_F(Tls, AReloadThatFailsIsOneLineAndChangesNothing) {
    certificates_.make("two");
    const auto put = [this](const std::string& file, const std::string& text) {
        std::ofstream(certificates_.path(file)) << text;
    };
    const auto fails = [this](std::string_view says) {
        const auto loaded = tls_->reload();
        ASSERT_FALSE(loaded);
        EXPECT_NE(loaded.error().find(says), std::string::npos) << loaded.error();
        EXPECT_EQ(loaded.error().find('\n'), std::string::npos);
        connection_ = tls_->connect(context_);
        TlsClient client(alpn_http1);
        run(client, post("on"));
        EXPECT_TRUE(client.heard().ends_with("on"));
    };
    std::filesystem::rename(certificates_.path("one-key.pem"), certificates_.path("kept"));
    fails("No such file");
    std::filesystem::rename(certificates_.path("two-key.pem"), certificates_.path("one-key.pem"));
    fails("mismatch");
    put("one-key.pem", "nonsense");
    fails("without a password");
    std::filesystem::rename(certificates_.path("kept"), certificates_.path("one-key.pem"));
    put("one.pem", "");
    fails("server's certificate first");
}

TEST_F(Tls, ACertificateThatClientsWillRefuseIsServedWithAWarning) {
    certificates_.make("old", -1);
    open("old");
    EXPECT_NE(tls_->certificate().warning.find("expired"), std::string::npos);
}

TEST_F(Tls, ClearTextOnATlsPortIsToldSo) {
    connection_->feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const std::string out = take_output(*connection_);
    EXPECT_TRUE(out.starts_with("HTTP/1.1 400 ")) << out;
    EXPECT_NE(out.find("https://"), std::string::npos);
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Tls, NonsenseEndsInAnAlertAndAClose) {
    connection_->feed(std::string(100, '\xff'));
    static_cast<void>(take_output(*connection_));
    EXPECT_TRUE(connection_->wants_close());
    EXPECT_FALSE(connection_->wants_input());
    // And after the handshake: a record that was tampered with.
    connection_ = tls_->connect(context_);
    TlsClient client(alpn_http1);
    run(client, post("1"));
    std::string record = client.output(post("2"));
    record.back() ^= 1;
    connection_->feed(record);
    EXPECT_FALSE(connection_->next_request());
    static_cast<void>(take_output(*connection_));
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Tls, APeerThatBeginsHandshakesWithoutEndAndDoesNotReadIsAFlood) {
    TlsClient client(alpn_http1, nullptr, TLS1_2_VERSION);
    run(client);
    ASSERT_TRUE(client.connected());
    Tls12Sealer sealer(client.ssl());
    std::string hellos;
    for (int i = 0; i < 100'000; ++i) {
        hellos += sealer.hello();
    }
    connection_->feed(hellos);
    EXPECT_EQ(connection_->ending(), Ending::flood);
    EXPECT_TRUE(connection_->wants_close());
    EXPECT_FALSE(connection_->wants_input());
    EXPECT_EQ(connection_->unsent_bytes(), 0U);
}

TEST_F(Tls, HandshakesBegunBetweenDataQueueNoMoreThanAnswersMay) {
    context_.limits.unsent_bytes_max = 64 * 1024;
    TlsClient client(alpn_http1, nullptr, TLS1_2_VERSION);
    run(client);
    ASSERT_TRUE(client.connected());
    Tls12Sealer sealer(client.ssl());
    std::string bytes =
        sealer.data("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    for (int i = 0; i < 10'000; ++i) {
        bytes += sealer.hello();
        bytes += sealer.data("x");
    }
    std::string_view rest = bytes;
    while (!rest.empty() && connection_->wants_input()) {
        rest.remove_prefix(connection_->feed(rest.substr(0, 4096)));
        EXPECT_FALSE(connection_->next_request());
    }
    EXPECT_FALSE(rest.empty());
    EXPECT_LT(connection_->unsent_bytes(), 72U * 1024);
    // Once it reads, it is read from.
    bytes = rest;
    for (int i = 0; i < 99; ++i) {
        bytes += sealer.data(std::string(10'000, 'x'));
    }
    rest = bytes;
    std::optional<IncomingRequest> incoming;
    while (!rest.empty()) {
        static_cast<void>(take_output(*connection_));
        incoming = connection_->next_request();
        ASSERT_TRUE(connection_->wants_input()) << rest.size();
        rest.remove_prefix(connection_->feed(rest.substr(0, 4096)));
    }
    incoming = connection_->next_request();
    ASSERT_TRUE(incoming);
    EXPECT_EQ(incoming->request->body(), std::string(1'000'000, 'x'));
}

TEST_F(Tls, HandshakesThatTakeTooLongAreGivenUp) {
    TlsClient client(alpn_http1);
    const std::string hello = client.output();
    connection_->feed(std::string_view(hello).substr(0, 50));
    context_.now_ms += context_.times.header_ms;
    EXPECT_EQ(connection_->check_time(), Overdue::nothing);
    context_.now_ms += 1;
    EXPECT_EQ(connection_->check_time(), Overdue::close);
    EXPECT_EQ(context_.counters->tls_failures.get(), 1U);
}

TEST_F(Tls, SlownessWithinIsFoundToo) {
    TlsClient client(alpn_http1);
    run(client, "POST / HT");
    context_.now_ms += context_.times.header_ms + 1;
    EXPECT_EQ(connection_->check_time(), Overdue::answered);
    run(client);
    EXPECT_TRUE(client.heard().starts_with("HTTP/1.1 408 "));
    EXPECT_TRUE(client.told_goodbye());
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Tls, GoodbyesAreSaidAndHeard) {
    TlsClient client(alpn_http1);
    run(client, post("1"));
    connection_->begin_shutdown();
    run(client);
    EXPECT_TRUE(client.told_goodbye());
    EXPECT_TRUE(connection_->wants_close());
    connection_ = tls_->connect(context_);
    TlsClient other(alpn_http1);
    run(other, post("1"));
    other.say_goodbye();
    run(other);
    EXPECT_TRUE(connection_->wants_close());
    // A shutdown in the middle of a handshake has nothing to wait for.
    connection_ = tls_->connect(context_);
    connection_->begin_shutdown();
    EXPECT_TRUE(connection_->wants_close());
}

}  // namespace
}  // namespace penstock::http
