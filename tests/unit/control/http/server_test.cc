#include "control/http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace penstock::http {
namespace {

using namespace std::chrono_literals;

// A blocking client on a plain socket.
class Client {
public:
    explicit Client(std::uint16_t port, int receive_buffer_bytes = 0) {
        fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
        if (receive_buffer_bytes != 0) {
            ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(int));
        }
        const timeval limit{20, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    }
    ~Client() { close(); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    Client(Client&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}

    void close() {
        if (fd_ >= 0) {
            ::close(std::exchange(fd_, -1));
        }
    }
    void send(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) {
                return;
            }
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
    }
    // Closes at once, without the polite end of a connection.
    void reset() {
        const linger now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close();
    }
    void half_close() { ::shutdown(fd_, SHUT_WR); }
    // One answer, or what came before the end of the connection.
    std::string answer() {
        for (;;) {
            const std::size_t end = pending_.find("\r\n\r\n");
            if (end != std::string::npos) {
                const std::size_t at = pending_.find("Content-Length: ");
                const std::size_t size = end + 4 + std::stoul(pending_.substr(at + 16));
                if (pending_.size() >= size) {
                    std::string one = pending_.substr(0, size);
                    pending_.erase(0, size);
                    return one;
                }
            }
            if (!more()) {
                return std::exchange(pending_, {});
            }
        }
    }
    std::string to_end() {
        while (more()) {
        }
        return std::exchange(pending_, {});
    }
    bool connected() const { return connected_; }

private:
    bool more() {
        char bytes[65536];
        const ssize_t got = ::recv(fd_, bytes, sizeof(bytes), 0);
        if (got > 0) {
            pending_.append(bytes, static_cast<std::size_t>(got));
        }
        return got > 0;
    }
    int fd_;
    bool connected_ = false;
    std::string pending_;
};

struct Shared {
    std::atomic<int> handlers{0};
    std::atomic<int> held{0};
    std::atomic<int> ended{0};  // streamed bodies
    std::atomic<int> gone{0};   // exchanges found closed when their answer was due
    std::atomic<bool> release{false};
};

// Gives one piece for each wake(), five in all.
class TickingBody final : public BodyStream {
public:
    explicit TickingBody(std::shared_ptr<int> ticks) : ticks_(std::move(ticks)) {}
    ~TickingBody() override { *ticks_ = -1; }
    Next next(BodyPiece& piece) override {
        if (given_ == 5) {
            return Next::end;
        }
        if (given_ == *ticks_) {
            return Next::later;
        }
        piece = std::make_shared<const std::string>(std::to_string(++given_) + "!");
        return Next::piece;
    }

private:
    std::shared_ptr<int> ticks_;  // -1: the body is gone
    int given_ = 0;
};

// /events ticks every 10 ms,
// /echo answers at once, /later after 50 ms, /hold when told to, /large with 8 MiB, /throw throws,
// /drop forgets.
class TestHandler final : public HttpHandler {
public:
    TestHandler(LoopThread& loop, Shared& shared) : loop_(loop), shared_(shared) {
        ++shared_.handlers;
    }
    ~TestHandler() override { --shared_.handlers; }

    void handle(std::unique_ptr<HttpExchange> exchange) override {
        const std::string_view path = exchange->request().path;
        if (path == "/echo") {
            HttpResponse response;
            response.body = exchange->request().body();
            exchange->respond(std::move(response));
        } else if (path == "/later") {
            ++shared_.held;
            std::shared_ptr<HttpExchange> kept = std::move(exchange);
            loop_.run_after(50, [this, kept] {
                shared_.gone += kept->is_open() ? 0 : 1;
                kept->respond(HttpResponse::text(200, "later"));
                --shared_.held;
            });
        } else if (path == "/hold") {
            hold(std::move(exchange));
        } else if (path == "/large") {
            exchange->respond(HttpResponse::text(200, std::string(8 * 1024 * 1024, 'L')));
        } else if (path == "/events") {
            const auto ticks = std::make_shared<int>(0);
            HttpResponse response;
            response.stream = std::make_unique<TickingBody>(ticks);
            tick(exchange->waker(), ticks);
            exchange->respond(std::move(response));
        } else if (path == "/throw") {
            throw std::runtime_error("on purpose");
        }
    }

private:
    void tick(BodyWaker waker, std::shared_ptr<int> ticks) {
        loop_.run_after(10, [this, waker, ticks] {
            if (*ticks >= 0) {
                ++*ticks;
                tick(waker, ticks);
            } else {
                ++shared_.ended;
            }
            waker.wake();  // also of one that is gone
        });
    }

    void hold(std::shared_ptr<HttpExchange> kept) {
        loop_.run_after(5, [this, kept = std::move(kept)]() mutable {
            if (shared_.release) {
                kept->respond(HttpResponse::text(200, "held"));
            } else {
                hold(std::move(kept));
            }
        });
    }

    LoopThread& loop_;
    Shared& shared_;
};

class HttpServerTest : public ::testing::Test {
protected:
    void start(ServerOptions options = {}) {
        options.port = 0;
        auto opened = HttpServer::open(options, [this](LoopThread& loop) {
            return std::make_unique<TestHandler>(loop, shared_);
        });
        ASSERT_TRUE(opened) << opened.error();
        server_ = std::move(*opened);
    }
    static std::string request(std::string_view path, std::string_view body = {},
                               std::string_view more = {}) {
        return "POST " + std::string(path) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" +
               std::string(more) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
               std::string(body);
    }
    template <typename Condition>
    static bool soon(Condition condition) {
        for (int i = 0; i < 2000 && !condition(); ++i) {
            std::this_thread::sleep_for(5ms);
        }
        return condition();
    }

    Shared shared_;
    std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, PicksAFreePortAndAnswersOnIt) {
    start();
    ASSERT_NE(server_->port(), 0);
    Client client(server_->port());
    for (int i = 0; i < 3; ++i) {
        client.send(request("/echo", "hello"));
        EXPECT_TRUE(client.answer().ends_with("\r\n\r\nhello"));
    }
}

TEST_F(HttpServerTest, RefusesToBindBeyondLoopbackAndATakenPort) {
    start();
    const auto none = [](LoopThread&) { return std::unique_ptr<HttpHandler>(); };
    ServerOptions options;
    options.host = "0.0.0.0";
    auto open = HttpServer::open(options, none);
    ASSERT_FALSE(open);
    EXPECT_NE(open.error().find("loopback"), std::string::npos);
    options.host = "127.0.0.1";
    options.port = server_->port();
    open = HttpServer::open(options, none);
    ASSERT_FALSE(open);
    EXPECT_NE(open.error().find("another port"), std::string::npos);
}

TEST_F(HttpServerTest, AHandlerThatCannotBeMadeFailsTheStart) {
    ServerOptions options;
    options.port = 0;
    const auto opened = HttpServer::open(options, [](LoopThread&) -> std::unique_ptr<HttpHandler> {
        throw std::runtime_error("no ring");
    });
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().find("no ring"), std::string::npos);
}

TEST_F(HttpServerTest, ManyConnectionsOverTwoThreadsAreAllServed) {
    ServerOptions options;
    options.threads = 2;
    start(options);
    EXPECT_EQ(shared_.handlers, 2);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 200; ++i) {
        clients.push_back(std::make_unique<Client>(server_->port()));
        ASSERT_TRUE(clients.back()->connected());
    }
    for (int round = 0; round < 3; ++round) {
        for (auto& client : clients) {
            client->send(request(round == 1 ? "/later" : "/echo", "x"));
        }
        for (auto& client : clients) {
            EXPECT_TRUE(client->answer().starts_with("HTTP/1.1 200 OK"));
        }
    }
    EXPECT_EQ(server_->counters().requests, 600U);
    EXPECT_EQ(server_->counters().connections_open, 200U);
    clients.clear();
    EXPECT_TRUE(soon([this] { return server_->counters().connections_open == 0; }));
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrderAlsoWhenTheFirstTakesLonger) {
    start();
    Client client(server_->port());
    std::string all = request("/later");
    for (int i = 0; i < 100; ++i) {
        all += request("/echo", std::to_string(i));
    }
    client.send(all);
    EXPECT_TRUE(client.answer().ends_with("later\n"));
    for (int i = 0; i < 100; ++i) {
        EXPECT_TRUE(client.answer().ends_with("\r\n\r\n" + std::to_string(i)));
    }
}

TEST_F(HttpServerTest, HalfClosedPeerStillGetsItsAnswers) {
    start();
    Client client(server_->port());
    client.send(request("/later") + request("/echo", "last"));
    client.half_close();
    const std::string all = client.to_end();
    EXPECT_NE(all.find("later"), std::string::npos);
    EXPECT_TRUE(all.ends_with("last"));
    EXPECT_TRUE(soon([this] { return server_->counters().connections_open == 0; }));
}

TEST_F(HttpServerTest, AnExchangeOutlivesItsConnection) {
    start();
    {
        Client client(server_->port());
        client.send(request("/later"));
        ASSERT_TRUE(soon([this] { return shared_.held == 1; }));
        client.reset();
    }
    ASSERT_TRUE(soon([this] { return shared_.held == 0; }));
    EXPECT_EQ(shared_.gone, 1);
    EXPECT_TRUE(soon([this] { return server_->counters().connections_open == 0; }));
    Client other(server_->port());
    other.send(request("/echo", "alive"));
    EXPECT_TRUE(other.answer().ends_with("alive"));
}

TEST_F(HttpServerTest, ThrownAndForgottenRequestsAreAnswered500) {
    std::atomic<int> lines{0};
    ServerOptions options;
    options.log = [&lines](std::string_view) { ++lines; };
    start(options);
    Client client(server_->port());
    client.send(request("/throw") + request("/drop") + request("/echo", "on"));
    EXPECT_TRUE(client.answer().starts_with("HTTP/1.1 500 "));
    EXPECT_TRUE(client.answer().starts_with("HTTP/1.1 500 "));
    EXPECT_TRUE(client.answer().ends_with("on"));
    EXPECT_EQ(lines, 1);
}

TEST_F(HttpServerTest, SlowReaderHoldsUpOnlyItselfAndGetsEverything) {
    start();
    Client slow(server_->port(), 256 * 1024);
    slow.send(request("/large") + request("/large") + request("/large"));
    Client other(server_->port());
    other.send(request("/echo", "quick"));
    EXPECT_TRUE(other.answer().ends_with("quick"));
    // The answers not sent yet are bounded: the next request waits for the one before.
    EXPECT_LT(server_->counters().requests, 4U);
    for (int i = 0; i < 3; ++i) {
        EXPECT_GT(slow.answer().size(), 8U * 1024 * 1024);
    }
}

TEST_F(HttpServerTest, ABodyMadeOverTimeArrivesAsItIsMadeAndEndsWithItsConnection) {
    start();
    {
        Client client(server_->port());
        client.send(request("/events", "", "Connection: close\r\n"));
        const std::string answer = client.to_end();
        EXPECT_TRUE(
            answer.ends_with("2\r\n1!\r\n2\r\n2!\r\n2\r\n3!\r\n2\r\n4!\r\n2\r\n5!\r\n"
                             "0\r\n\r\n"))
            << answer;
    }
    EXPECT_TRUE(soon([this] { return shared_.ended == 1; }));
    {
        Client client(server_->port());
        client.send(request("/events"));
        ASSERT_TRUE(soon([this] { return server_->counters().requests == 2; }));
        client.reset();
    }
    EXPECT_TRUE(soon([this] { return shared_.ended == 2; }));
}

TEST_F(HttpServerTest, GuardRefusesBeforeTheHandler) {
    start();
    Client client(server_->port());
    client.send("GET /echo HTTP/1.1\r\nHost: evil.com\r\n\r\n" +
                request("/echo", "", "Origin: http://x\r\n"));
    EXPECT_TRUE(client.answer().starts_with("HTTP/1.1 403 "));
    EXPECT_TRUE(client.answer().starts_with("HTTP/1.1 403 "));
    EXPECT_EQ(server_->counters().requests_refused, 2U);
}

TEST_F(HttpServerTest, RefusalReachesAPeerThatIsStillSending) {
    start();
    Client client(server_->port());
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n");
    client.send(std::string(4'000'000, 'x'));
    EXPECT_TRUE(client.answer().starts_with("HTTP/1.1 413 "));
    EXPECT_EQ(server_->counters().requests_malformed, 1U);
}

TEST_F(HttpServerTest, OverTheLimitTheOneThatWaitedLongestMakesPlace) {
    for (const unsigned threads : {1U, 2U}) {
        ServerOptions options;
        options.connections_max = 2;
        options.threads = threads;
        start(options);
        std::vector<Client> clients;
        for (unsigned i = 0; i < 2 * threads; ++i) {
            clients.emplace_back(server_->port());
            clients.back().send(request("/echo", "1"));
            EXPECT_TRUE(clients.back().answer().ends_with("1"));
        }
        // Of each thread the first has asked again since.
        for (unsigned i = 0; i < threads; ++i) {
            clients[i].send(request("/echo", "again"));
            EXPECT_TRUE(clients[i].answer().ends_with("again"));
        }
        for (unsigned i = 0; i < threads; ++i) {
            clients.emplace_back(server_->port());
            clients.back().send(request("/echo", "new"));
            EXPECT_TRUE(clients.back().answer().ends_with("new"));
        }
        for (unsigned i = 0; i < threads; ++i) {
            EXPECT_EQ(clients[threads + i].to_end(), "");
            clients[i].send(request("/echo", "still"));
            EXPECT_TRUE(clients[i].answer().ends_with("still"));
        }
        const ServerCounters counters = server_->counters();
        EXPECT_EQ(counters.connections_closed[static_cast<std::size_t>(Ending::crowded)], threads);
        EXPECT_EQ(counters.connections_refused, 0U);
        server_.reset();
    }
}

TEST_F(HttpServerTest, WhoHasNeverAskedGoesFirst) {
    ServerOptions options;
    options.connections_max = 3;
    options.times.first_request_ms = 0;
    start(options);
    Client honest(server_->port());
    honest.send(request("/echo", "1"));
    EXPECT_TRUE(honest.answer().ends_with("1"));
    std::vector<Client> crowd;
    for (int i = 0; i < 20; ++i) {
        crowd.emplace_back(server_->port());
    }
    for (int i = 0; i < 18; ++i) {
        EXPECT_EQ(crowd[static_cast<std::size_t>(i)].to_end(), "");
    }
    honest.send(request("/echo", "2"));
    EXPECT_TRUE(honest.answer().ends_with("2"));
}

TEST_F(HttpServerTest, WhoHoardsBodiesGoesHoweverManyHoldNothingInFrontOfHim) {
    constexpr std::size_t body_bytes = 64 * 1024;
    for (const bool have_asked : {false, true}) {
        ServerOptions options;
        options.body_memory_max_bytes = 32 * body_bytes;
        options.stop_deadline_ms = 100;
        start(options);
        const auto begin = [&](Client& client) {
            if (have_asked) {
                client.send(request("/echo", "1"));
                EXPECT_TRUE(client.answer().ends_with("1"));
            }
        };
        std::vector<Client> idle;
        for (int i = 0; i < 300; ++i) {
            begin(idle.emplace_back(server_->port()));
        }
        // Each takes the memory of a body's beginning, and sends nothing of it. One at a time: what
        // comes in one turn of the loop may find no memory, which is answered 503.
        const std::string whole = request("/echo", std::string(body_bytes, 'x'));
        const std::string head = whole.substr(0, whole.size() - body_bytes);
        std::vector<Client> hoarders;
        for (int i = 0; i < 40; ++i) {
            begin(hoarders.emplace_back(server_->port()));
            const std::uint64_t before = server_->counters().received_bytes;
            hoarders.back().send(head);
            ASSERT_TRUE(
                soon([&] { return server_->counters().received_bytes == before + head.size(); }));
        }
        const auto crowded = [this] {
            return server_->counters()
                .connections_closed[static_cast<std::size_t>(Ending::crowded)];
        };
        // Those go that have held it for longest, and no more than must.
        EXPECT_TRUE(soon([&] { return crowded() == 10; })) << crowded();
        for (int i = 0; i < 10; ++i) {
            EXPECT_EQ(hoarders[static_cast<std::size_t>(i)].to_end(), "");
        }
        Client honest(server_->port());
        honest.send(request("/echo", std::string(body_bytes, 'y')));
        EXPECT_TRUE(honest.answer().ends_with(std::string(body_bytes, 'y')));
        for (Client& client : idle) {
            client.send(request("/echo", "still"));
            EXPECT_TRUE(client.answer().ends_with("still"));
        }
        EXPECT_EQ(crowded(), 10U);
        server_.reset();
    }
}

TEST_F(HttpServerTest, WhileAllAreBusyANewConnectionIsRefusedAndCounted) {
    ServerOptions options;
    options.connections_max = 2;
    start(options);
    Client first(server_->port());
    Client second(server_->port());
    for (Client* client : {&first, &second}) {
        client->send(request("/hold"));
    }
    ASSERT_TRUE(soon([&] { return server_->counters().requests == 2; }));
    Client third(server_->port());
    EXPECT_TRUE(third.to_end().starts_with("HTTP/1.1 503 "));
    EXPECT_EQ(server_->counters().connections_refused, 1U);
    shared_.release = true;
    EXPECT_TRUE(first.answer().ends_with("held\n"));
    EXPECT_TRUE(second.answer().ends_with("held\n"));
}

TEST_F(HttpServerTest, EveryEndOfAConnectionIsCountedByItsReason) {
    ServerOptions options;
    options.times.header_ms = 50;
    start(options);
    const auto closed = [this](Ending ending) {
        return server_->counters().connections_closed[static_cast<std::size_t>(ending)];
    };
    Client leaves(server_->port());
    leaves.send(request("/echo", "1"));
    EXPECT_TRUE(leaves.answer().ends_with("1"));
    leaves.close();
    EXPECT_TRUE(soon([&] { return closed(Ending::peer) == 1; }));
    Client resets(server_->port());
    resets.send(request("/echo", "1"));
    EXPECT_TRUE(resets.answer().ends_with("1"));
    resets.reset();
    EXPECT_TRUE(soon([&] { return closed(Ending::peer) == 2; }));
    {
        Client last(server_->port());
        last.send(request("/echo", "1", "Connection: close\r\n"));
        EXPECT_TRUE(last.to_end().ends_with("1"));
    }
    EXPECT_TRUE(soon([&] { return closed(Ending::served) == 1; }));
    {
        Client slow(server_->port());
        slow.send("POST /echo HTT");
        EXPECT_TRUE(slow.to_end().starts_with("HTTP/1.1 408 "));
    }
    EXPECT_TRUE(soon([&] { return closed(Ending::slow) == 1; }));
    std::uint64_t all = 0;
    for (const std::uint64_t count : server_->counters().connections_closed) {
        all += count;
    }
    EXPECT_EQ(all, server_->counters().connections_accepted);
}

TEST_F(HttpServerTest, SlowHeadsStalledBodiesAndIdleConnectionsAreEnded) {
    ServerOptions options;
    options.times.header_ms = 100;
    options.times.stall_ms = 100;
    options.times.idle_ms = 300;
    start(options);
    Client head(server_->port());
    head.send("POST /echo HTT");
    Client body(server_->port());
    body.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc");
    Client idle(server_->port());
    EXPECT_TRUE(head.to_end().starts_with("HTTP/1.1 408 "));
    EXPECT_TRUE(body.to_end().starts_with("HTTP/1.1 408 "));
    EXPECT_EQ(idle.to_end(), "");
    EXPECT_EQ(server_->counters().connections_timed_out, 3U);
}

TEST_F(HttpServerTest, StopFinishesWhatIsInProgressAndRefusesWhatComes) {
    start();
    const std::uint16_t port = server_->port();
    Client busy(port);
    busy.send(request("/later"));
    Client idle(port);
    idle.send(request("/echo", "x"));
    EXPECT_TRUE(idle.answer().ends_with("x"));
    ASSERT_TRUE(soon([this] { return shared_.held == 1; }));
    server_->stop();
    EXPECT_EQ(shared_.handlers, 0);
    const std::string answer = busy.to_end();
    EXPECT_TRUE(answer.ends_with("later\n"));
    EXPECT_NE(answer.find("Connection: close"), std::string::npos);
    EXPECT_EQ(idle.to_end(), "");
    EXPECT_FALSE(Client(port).connected());
}

TEST_F(HttpServerTest, StopGivesUpAtItsDeadline) {
    ServerOptions options;
    options.stop_deadline_ms = 100;
    start(options);
    Client slow(server_->port(), 4096);
    slow.send(request("/large"));
    ASSERT_TRUE(soon([this] { return server_->counters().requests == 1; }));
    const auto before = std::chrono::steady_clock::now();
    server_->stop();
    EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
    EXPECT_EQ(server_->counters().connections_open, 0U);
}

// Counts how often its keys are looked at.
class WatchedTls final : public TlsContext {
public:
    std::expected<TlsCertificate, std::string> reload() override { return TlsCertificate{}; }
    TlsCertificate certificate() const override { return {}; }
    std::size_t wipe_old_ticket_keys() override { return ++looks; }
    std::unique_ptr<Connection> connect(ConnectionContext& context) override {
        return make_clear_connection(context);
    }
    std::atomic<std::size_t> looks{0};
};

TEST_F(HttpServerTest, KeysOfTicketsAreLookedAtWhileNobodyConnects) {
    WatchedTls tls;
    ServerOptions options;
    options.tls = &tls;
    options.tls_keys_period_ms = 1;
    start(options);
    EXPECT_TRUE(soon([&] { return tls.looks >= 3; }));
    server_.reset();
}

TEST(LoopThread, WatchesTimersAndPostsRunAndCanBeWithdrawn) {
    auto loop = LoopThread::open();
    ASSERT_TRUE(loop);
    LoopThread& l = **loop;
    const int fd = eventfd(1, EFD_NONBLOCK);
    int seen = 0;
    int turns = 0;
    ASSERT_TRUE(l.watch(fd, [&](std::uint32_t) {
        ++seen;
        l.unwatch(fd);
    }));
    EXPECT_FALSE(l.watch(fd, [](std::uint32_t) {}));
    l.at_end_of_turn([&] { ++turns; });
    bool canceled_ran = false;
    l.cancel(l.run_after(1, [&] { canceled_ran = true; }));
    l.run_after(20, [&] { l.stop(); });
    std::thread other([&] { l.post([&] { ++seen; }); });
    l.run();
    other.join();
    l.run_once(0);
    EXPECT_EQ(seen, 2);
    EXPECT_GE(turns, 2);
    EXPECT_FALSE(canceled_ran);
    ::close(fd);
}

}  // namespace
}  // namespace penstock::http
