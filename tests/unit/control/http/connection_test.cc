#include "control/http/connection.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "control/http/output_queue.h"
#include "tests/unit/control/http/scripted_body.h"

namespace penstock::http {
namespace {

// A connection whose requests are answered at once with what was seen of them.
class Echo {
public:
    explicit Echo(ConnectionLimits limits = {}) {
        context_.limits = limits;
        connection_ = make_http1_connection(context_);
    }

    void give(std::string_view bytes) {
        while (!bytes.empty() && connection_->wants_input()) {
            bytes.remove_prefix(connection_->feed(bytes));
            drain();
        }
    }
    void end() {
        connection_->input_ended();
        drain();
    }
    void drain() {
        while (auto incoming = connection_->next_request()) {
            const HttpRequest& request = *incoming->request;
            for (std::size_t i = 0; i < body_padding_bytes; ++i) {
                EXPECT_EQ(request.body().data()[request.body().size() + i], 0);
            }
            HttpResponse response;
            response.body = std::string(request.method) + " " + std::string(request.path) + " " +
                            std::string(request.body());
            seen_.push_back(response.body);
            connection_->respond(incoming->stream, std::move(response));
        }
        collect();
    }
    void collect() {
        std::array<std::string_view, 3> pieces;
        while (const std::size_t count = connection_->next_output(pieces)) {
            std::size_t bytes = 0;
            for (std::size_t i = 0; i < count; ++i) {
                out_.append(pieces[i]);
                bytes += pieces[i].size();
            }
            // In two steps, so that an offset within a piece occurs.
            connection_->output_sent(bytes / 2);
            connection_->output_sent(bytes - bytes / 2);
        }
    }

    ConnectionContext context_;
    std::unique_ptr<Connection> connection_;
    std::vector<std::string> seen_;
    std::string out_;
};

std::string post(std::string_view body, std::string_view more = {}) {
    return "POST /p HTTP/1.1\r\nHost: localhost\r\n" + std::string(more) +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

int status_of(const std::string& out) {
    return out.size() > 12 ? std::stoi(out.substr(9, 3)) : 0;
}

TEST(HttpConnection, EveryCutOfTheInputGivesTheSameRequestsAndAnswers) {
    const std::vector<std::string> inputs{
        post("hello") + "GET /second?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nPOST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;ext=\"1\"\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n" +
            post("after"),
        "POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /h HTTP/1.0\r\n\r\n",
        post("x") + "BAD\r\n\r\n" + post("never"),
    };
    for (const std::string& input : inputs) {
        Echo whole;
        whole.give(input);
        whole.end();
        EXPECT_FALSE(whole.seen_.empty());
        EXPECT_TRUE(whole.connection_->wants_close());
        for (std::size_t cut = 1; cut < input.size(); ++cut) {
            Echo parts;
            parts.give(std::string_view(input).substr(0, cut));
            parts.give(std::string_view(input).substr(cut));
            parts.end();
            ASSERT_EQ(parts.seen_, whole.seen_) << input << " cut at " << cut;
            ASSERT_EQ(parts.out_, whole.out_) << input << " cut at " << cut;
        }
        Echo bytes;
        for (const char c : input) {
            bytes.give({&c, 1});
        }
        bytes.end();
        EXPECT_EQ(bytes.seen_, whole.seen_);
        EXPECT_EQ(bytes.out_, whole.out_);
    }
}

TEST(HttpConnection, ChunkedBodyIsPutTogetherAndTheNextRequestFound) {
    Echo echo;
    echo.give(
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        "005\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n" +
        post("next"));
    EXPECT_EQ(echo.seen_, (std::vector<std::string>{"POST /c hello0123456789", "POST /p next"}));
}

TEST(HttpConnection, AnswersLeaveInTheOrderOfTheRequestsHoweverTheyCame) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1") + post("2") + post("3"));
    std::vector<StreamId> streams;
    while (auto incoming = connection->next_request()) {
        streams.push_back(incoming->stream);
    }
    ASSERT_EQ(streams.size(), 3U);
    connection->respond(streams[2], HttpResponse::text(200, "three"));
    EXPECT_EQ(connection->unsent_bytes(), 0U);
    connection->respond(streams[0], HttpResponse::text(200, "one"));
    connection->respond(streams[0], HttpResponse::text(200, "again"));
    connection->respond(streams[1], HttpResponse::text(200, "two"));
    std::array<std::string_view, 8> pieces;
    std::string out;
    for (std::size_t i = 0, count = connection->next_output(pieces); i < count; ++i) {
        out.append(pieces[i]);
    }
    EXPECT_LT(out.find("one"), out.find("two"));
    EXPECT_LT(out.find("two"), out.find("three"));
    EXPECT_EQ(out.find("again"), std::string::npos);
    EXPECT_EQ(connection->outstanding(), 0U);
}

TEST(HttpConnection, NoMoreInputIsWantedWhileEnoughRequestsAreUnanswered) {
    ConnectionContext context;
    context.limits.outstanding_max = 2;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1") + post("2") + post("3"));
    const auto first = connection->next_request();
    ASSERT_TRUE(first && connection->next_request());
    EXPECT_FALSE(connection->next_request());
    EXPECT_FALSE(connection->wants_input());
    connection->respond(first->stream, HttpResponse::text(200, "one"));
    EXPECT_TRUE(connection->next_request());
}

TEST(HttpConnection, NoMoreRequestsAreTakenWhileTooMuchIsUnsent) {
    ConnectionContext context;
    context.limits.unsent_bytes_max = 1000;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1") + post("2"));
    const auto first = connection->next_request();
    ASSERT_TRUE(first);
    connection->respond(first->stream, HttpResponse::text(200, std::string(50'000, 'x')));
    EXPECT_FALSE(connection->next_request());
    EXPECT_FALSE(connection->wants_input());
    connection->output_sent(connection->unsent_bytes());
    EXPECT_TRUE(connection->next_request());
}

// "/large" may have answers of 100 kB, of which 250 kB may be there.
void limit_large_answers(ConnectionContext& context) {
    context.limits.large_answers_bytes_max = 250'000;
    context.large_answer_bytes = [](const HttpRequest& request) -> std::size_t {
        return request.path == "/large" ? 100'000 : 0;
    };
}

std::size_t large_answer_bytes(const ConnectionContext& context) {
    return context.answer_counters->claimed_bytes.get() -
           context.answer_counters->given_back_bytes.get();
}

TEST(HttpConnection, NoMoreLargeAnswersAreBegunThanMayBeThere) {
    ConnectionContext context;
    limit_large_answers(context);
    const auto connection = make_http1_connection(context);
    const std::string large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    connection->feed(large + large + large + large + post("small"));
    const auto first = connection->next_request();
    const auto second = connection->next_request();
    ASSERT_TRUE(first && second);
    EXPECT_FALSE(connection->next_request());
    EXPECT_FALSE(connection->next_request());
    EXPECT_EQ(large_answer_bytes(context), 200'000U);
    EXPECT_EQ(context.answer_counters->held.get(), 1U);
    // An answer that is there counts with its size, also while it waits for its turn.
    connection->respond(second->stream, HttpResponse::text(200, std::string(179'999, 'x')));
    EXPECT_EQ(large_answer_bytes(context), 280'000U);
    connection->respond(first->stream, HttpResponse::text(200, std::string(99, 'x')));
    EXPECT_EQ(large_answer_bytes(context), 180'000U);
    EXPECT_FALSE(connection->next_request());
    connection->output_sent(connection->unsent_bytes());
    EXPECT_EQ(large_answer_bytes(context), 0U);
    const auto third = connection->next_request();
    ASSERT_TRUE(third && connection->next_request());
    EXPECT_EQ(connection->next_request()->request->body(), "small");
    EXPECT_EQ(context.answer_counters->held.get(), 1U);
}

TEST(HttpConnection, AClaimForALargeAnswerEndsWithItsLastByteOrItsConnection) {
    ConnectionContext context;
    limit_large_answers(context);
    auto connection = make_http1_connection(context);
    connection->feed("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    const auto first = connection->next_request();
    ASSERT_TRUE(first);
    // More than was thought, and than may be there.
    connection->respond(first->stream, HttpResponse::text(200, std::string(300'000, 'x')));
    EXPECT_EQ(large_answer_bytes(context), 300'001U);
    connection->output_sent(connection->unsent_bytes() - 1);
    EXPECT_EQ(large_answer_bytes(context), 300'001U);
    connection->output_sent(1);
    EXPECT_EQ(large_answer_bytes(context), 0U);
    connection->feed("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    ASSERT_TRUE(connection->next_request());
    EXPECT_EQ(large_answer_bytes(context), 100'000U);
    connection.reset();
    EXPECT_EQ(large_answer_bytes(context), 0U);
}

TEST(HttpConnection, AnAnswerLargerThanAllThatMayBeThereIsMadeAlone) {
    ConnectionContext context;
    limit_large_answers(context);
    context.limits.large_answers_bytes_max = 10;
    const auto connection = make_http1_connection(context);
    const std::string large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    connection->feed(large + large);
    const auto first = connection->next_request();
    ASSERT_TRUE(first);
    EXPECT_FALSE(connection->next_request());
    // It waits for room and not for input: time does not run for its peer.
    context.now_ms += 10 * context.times.idle_ms;
    EXPECT_EQ(connection->check_time(), Overdue::nothing);
    connection->respond(first->stream, HttpResponse::text(200, "x"));
    connection->output_sent(connection->unsent_bytes());
    EXPECT_TRUE(connection->next_request());
}

TEST(HttpConnection, WaitingPeerIsToldToContinueButNotBeforeEarlierAnswers) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1") +
                     "POST /b HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
                     "Content-Length: 3\r\n\r\n");
    const auto first = connection->next_request();
    ASSERT_TRUE(first);
    EXPECT_FALSE(connection->next_request());
    EXPECT_EQ(connection->unsent_bytes(), 0U);
    connection->respond(first->stream, HttpResponse::text(200, "one"));
    std::array<std::string_view, 8> pieces;
    const std::size_t count = connection->next_output(pieces);
    ASSERT_EQ(count, 2U);
    EXPECT_EQ(pieces[1], "HTTP/1.1 100 Continue\r\n\r\n");
    connection->feed("abc");
    const auto second = connection->next_request();
    ASSERT_TRUE(second);
    EXPECT_EQ(second->request->body(), "abc");
}

TEST(HttpConnection, LargeBodyArrivesWholeThroughItsOwnBuffer) {
    std::string body(3'000'000, '?');
    for (std::size_t i = 0; i < body.size(); ++i) {
        body[i] = static_cast<char>('a' + i % 23);
    }
    Echo echo;
    const std::string input = post(body) + post("tail");
    for (std::size_t at = 0; at < input.size(); at += 65'537) {
        echo.give(std::string_view(input).substr(at, 65'537));
    }
    ASSERT_EQ(echo.seen_.size(), 2U);
    EXPECT_EQ(echo.seen_[0], "POST /p " + body);
    EXPECT_EQ(echo.context_.body_budget->used_bytes, 0U);
}

struct Bad {
    const char* name;
    std::string input;
    int status;
};

TEST(HttpConnection, BadInputIsAnsweredWithOneLineAndTheConnectionCloses) {
    const std::string start = "POST / HTTP/1.1\r\nHost: a\r\n";
    const std::vector<Bad> catalogue{
        {"length and coding", start + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"coding and length", start + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
         400},
        {"two lengths", start + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
        {"same length twice", start + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
        {"list of lengths", start + "Content-Length: 5, 5\r\n\r\n", 400},
        {"signed length", start + "Content-Length: +5\r\n\r\n", 400},
        {"negative length", start + "Content-Length: -5\r\n\r\n", 400},
        {"empty length", start + "Content-Length:\r\n\r\n", 400},
        {"hex length", start + "Content-Length: 0x5\r\n\r\n", 400},
        {"huge length", start + "Content-Length: 99999999999999999999999\r\n\r\n", 400},
        {"too large", start + "Content-Length: 16777217\r\n\r\n", 413},
        {"other coding", start + "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"coding not last", start + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"coding twice", start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"space before colon", start + "Content-Length : 5\r\n\r\n", 400},
        {"folded header", start + "X: a\r\n b\r\n\r\n", 400},
        {"folded behind a tab", start + "X: a\r\n\tb\r\n\r\n", 400},
        {"folded with nothing before", start + "X:\r\n b\r\n\r\n", 400},
        {"folded coding", start + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
        {"folded length", start + "Content-Length: \r\n\t5\r\n\r\nhello", 400},
        {"folded into nothing", start + "X: a\r\n \r\n\r\n", 400},
        {"folded request line", "POST / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", 400},
        {"bare line feed", "GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\n\r\n", 400},
        {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
        {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
        {"nul in header", start + std::string("X: a\0b\r\n\r\n", 10), 400},
        {"version 2", "PRI * HTTP/2.0\r\n\r\n", 400},
        {"no version", "GET /\r\n\r\n", 400},
        {"bad method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"expectation", start + "Expect: more\r\n\r\n", 417},
        {"head too long", start + "X: " + std::string(20'000, 'x') + "\r\n\r\n", 431},
        {"endless head", start + "X: " + std::string(60'000, 'x'), 431},
        {"bad chunk size", start + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
        {"chunk without end", start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400},
        {"chunk ended by another", start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\n0\r\n\r\n",
         400},
        {"chunk with bare lf", start + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n", 400},
        {"chunk size overflow", start + "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\n",
         400},
        {"chunks too large",
         start + "Transfer-Encoding: chunked\r\n\r\n1000001\r\n" + std::string(16'777'217, 'x'),
         413},
        {"endless extension",
         start + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(60'000, 'x'), 431},
        {"endless trailer",
         start + "Transfer-Encoding: chunked\r\n\r\n0\r\nX:" + std::string(60'000, 'x'), 431},
        {"ends in head", "GET / HT", 400},
        {"ends in body", start + "Content-Length: 5\r\n\r\nabc", 400},
        {"ends in chunks", start + "Transfer-Encoding: chunked\r\n\r\n3\r\nab", 400},
    };
    for (const Bad& bad : catalogue) {
        Echo echo;
        echo.give(bad.input);
        // What is wrong in itself is refused at once, not only when the peer stops sending.
        EXPECT_EQ(echo.out_.empty(), std::string_view(bad.name).starts_with("ends ")) << bad.name;
        echo.end();
        EXPECT_TRUE(echo.seen_.empty()) << bad.name;
        EXPECT_EQ(status_of(echo.out_), bad.status) << bad.name << ": " << echo.out_;
        EXPECT_NE(echo.out_.find("Connection: close\r\n"), std::string::npos) << bad.name;
        EXPECT_EQ(std::count(echo.out_.begin() + static_cast<long>(echo.out_.find("\r\n\r\n")) + 4,
                             echo.out_.end(), '\n'),
                  1)
            << bad.name;
        EXPECT_TRUE(echo.connection_->wants_close()) << bad.name;
        EXPECT_FALSE(echo.connection_->wants_input()) << bad.name;
        EXPECT_EQ(echo.connection_->refused(), 1U) << bad.name;
    }
}

TEST(HttpConnection, BodiesBeyondTheBudgetOfAllAreRefusedAndTheBudgetIsGivenBack) {
    ConnectionContext context;
    context.body_budget->limit_bytes = 1000;
    const auto first = make_http1_connection(context);
    first->feed(post(std::string(800, 'x')));
    auto held = first->next_request();
    ASSERT_TRUE(held);
    const auto second = make_http1_connection(context);
    second->feed(post(std::string(300, 'x')));
    EXPECT_FALSE(second->next_request());
    std::array<std::string_view, 4> pieces;
    ASSERT_EQ(second->next_output(pieces), 1U);
    EXPECT_EQ(status_of(std::string(pieces[0])), 503);
    held.reset();
    EXPECT_EQ(context.body_budget->used_bytes, 0U);
}

TEST(HttpConnection, AnAnnouncedBodyCostsNoMemoryBeforeItArrives) {
    Echo honest;
    ConnectionContext& context = honest.context_;
    const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 16000000\r\n\r\n";
    std::vector<std::unique_ptr<Connection>> slow;
    for (int i = 0; i < 1000; ++i) {
        slow.push_back(make_http1_connection(context));
        slow.back()->feed(head + "x");
        EXPECT_FALSE(slow.back()->next_request());
    }
    EXPECT_LE(context.body_budget->used_bytes, 1000U * 64 * 1024);
    honest.give(post(std::string(16'000'000, 'y')));
    EXPECT_EQ(status_of(honest.out_), 200);
    EXPECT_EQ(honest.out_.size(), honest.out_.find("\r\n\r\n") + 4 + 8 + 16'000'000);
}

TEST(HttpConnection, WhoeverHoldsManyBodiesLeavesRoomForThoseThatCome) {
    ConnectionContext context;
    context.body_budget->limit_bytes = 64 * 1024 * 1024;
    const auto greedy = make_http1_connection(context);
    std::vector<IncomingRequest> held;
    const std::string one = post(std::string(8 * 1024 * 1024, 'x'));
    for (bool taken = true; taken;) {
        taken = false;
        std::string_view rest = one;
        while (!rest.empty() && greedy->wants_input()) {
            rest.remove_prefix(greedy->feed(rest));
            if (auto incoming = greedy->next_request()) {
                held.push_back(std::move(*incoming));
                taken = true;
            }
        }
    }
    // Half of the room, and of what is left half again goes to the next one.
    EXPECT_EQ(held.size(), 4U);
    const auto next = make_http1_connection(context);
    std::string_view rest = one;
    std::optional<IncomingRequest> incoming;
    while (!rest.empty() && next->wants_input()) {
        rest.remove_prefix(next->feed(rest));
        incoming = next->next_request();
    }
    EXPECT_TRUE(incoming);
    held.clear();
    incoming.reset();
    EXPECT_EQ(context.body_budget->used_bytes, 0U);
}

TEST(HttpConnection, WhyAConnectionEndsIsKnown) {
    ConnectionContext context;
    const auto after = [&](std::string_view input, std::uint64_t passed_ms, bool ends = false) {
        context.now_ms = 0;
        const auto connection = make_clear_connection(context);
        connection->feed(input);
        if (ends) {
            connection->input_ended();
        }
        while (auto incoming = connection->next_request()) {
            connection->respond(incoming->stream, HttpResponse::text(200, "fine"));
        }
        context.now_ms = passed_ms;
        static_cast<void>(connection->check_time());
        return connection->ending();
    };
    EXPECT_EQ(after("", 200'000), Ending::idle);
    EXPECT_EQ(after("", 0, true), Ending::peer);
    EXPECT_EQ(after("PRI * HT", 11'000), Ending::slow);
    EXPECT_EQ(after("POST / HTT", 11'000), Ending::slow);
    EXPECT_EQ(after(post(std::string(500, 'x')).substr(0, 200), 31'000), Ending::slow);
    EXPECT_EQ(after("nonsense\r\n\r\n", 0), Ending::malformed);
    EXPECT_EQ(after("GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x'), 0), Ending::too_large);
    EXPECT_EQ(after("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", 0),
              Ending::too_large);
    EXPECT_EQ(after(post("x", "Connection: close\r\n"), 0), Ending::served);
    EXPECT_EQ(after(post("x"), 31'000), Ending::unread);
    EXPECT_EQ(name_of(Ending::peer), "peer");
    EXPECT_EQ(name_of(Ending::stopping), "stopping");
}

TEST(HttpConnection, HeadIsAnsweredWithoutBodyAndHeaderValuesCannotEndTheirLine) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    const auto incoming = connection->next_request();
    ASSERT_TRUE(incoming);
    HttpResponse response = HttpResponse::text(200, "hidden");
    response.headers.emplace_back("X-A", "b\r\nInjected: c");
    connection->respond(incoming->stream, std::move(response));
    std::array<std::string_view, 4> pieces;
    ASSERT_EQ(connection->next_output(pieces), 1U);
    EXPECT_NE(pieces[0].find("Content-Length: 7\r\n"), std::string_view::npos);
    EXPECT_EQ(pieces[0].find("hidden"), std::string_view::npos);
    EXPECT_EQ(pieces[0].find("\nInjected"), std::string_view::npos);
}

TEST(HttpConnection, ShutdownAnswersWhatIsOutstandingAndThenCloses) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1"));
    const auto incoming = connection->next_request();
    ASSERT_TRUE(incoming);
    connection->begin_shutdown();
    EXPECT_FALSE(connection->wants_close());
    connection->respond(incoming->stream, HttpResponse::text(200, "one"));
    std::array<std::string_view, 4> pieces;
    ASSERT_EQ(connection->next_output(pieces), 1U);
    EXPECT_NE(pieces[0].find("Connection: close"), std::string_view::npos);
    connection->output_sent(connection->unsent_bytes());
    EXPECT_TRUE(connection->wants_close());
}

// Everything there is to send, sent.
std::string take_all(Connection& connection) {
    std::string out;
    std::array<std::string_view, 3> pieces;
    while (const std::size_t count = connection.next_output(pieces)) {
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < count; ++i) {
            out.append(pieces[i]);
            bytes += pieces[i].size();
        }
        connection.output_sent(bytes);
    }
    return out;
}

TEST(HttpConnection, ABodyMadeOverTimeGoesInChunksAndTheNextAnswerWaitsForItsEnd) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1") + post("2"));
    const auto first = connection->next_request();
    const auto second = connection->next_request();
    ASSERT_TRUE(first && second);
    BodyScript script{{"one", "", "two two two two two two"}};
    connection->respond(second->stream, HttpResponse::text(200, "second"));
    connection->respond(first->stream, script.response());
    const std::string start = take_all(*connection);
    EXPECT_NE(start.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
    EXPECT_EQ(start.find("Content-Length"), std::string::npos);
    EXPECT_TRUE(start.ends_with("\r\n\r\n3\r\none\r\n")) << start;
    EXPECT_EQ(take_all(*connection), "");
    // Another stream's waking is none of ours.
    connection->resume(second->stream);
    EXPECT_EQ(take_all(*connection), "");
    connection->resume(first->stream);
    const std::string rest = take_all(*connection);
    EXPECT_TRUE(rest.starts_with("17\r\ntwo two two two two two\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"))
        << rest;
    EXPECT_TRUE(rest.ends_with("second\n"));
    EXPECT_EQ(script.alive, 0);
}

TEST(HttpConnection, APeerThatDoesNotReadHoldsOnePieceOfAStreamedBody) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1"));
    BodyScript script{std::vector<std::string>(100, std::string(100'000, 'x'))};
    connection->respond(connection->next_request()->stream, script.response());
    std::array<std::string_view, 3> pieces;
    for (int i = 0; i < 10; ++i) {
        EXPECT_NE(connection->next_output(pieces), 0U);
    }
    EXPECT_EQ(script.asked, 1);
    EXPECT_LT(connection->unsent_bytes(), 101'000U);
    // Not reading a stream is allowed for longer than not reading an answer.
    context.now_ms = context.times.stall_ms + 1;
    EXPECT_EQ(connection->check_time(), Overdue::nothing);
    context.now_ms = context.times.stream_stall_ms + 1;
    EXPECT_EQ(connection->check_time(), Overdue::close);
    EXPECT_GT(take_all(*connection).size(), 10'000'000U);
    EXPECT_EQ(script.alive, 0);
}

TEST(HttpConnection, AStreamedBodyThatBreaksEndsTheConnectionWithoutItsLastChunk) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed(post("1") + post("2"));
    const auto first = connection->next_request();
    const auto second = connection->next_request();
    BodyScript script{{"one"}};
    script.last = BodyStream::Next::broken;
    connection->respond(first->stream, script.response());
    const std::string out = take_all(*connection);
    EXPECT_TRUE(out.ends_with("3\r\none\r\n")) << out;
    EXPECT_TRUE(connection->wants_close());
    connection->respond(second->stream, HttpResponse::text(200, "never"));
    EXPECT_EQ(take_all(*connection), "");
}

TEST(HttpConnection, AStreamedBodyIsNotMadeForHeadAndEndsWithTheConnectionInVersion10) {
    ConnectionContext context;
    const auto connection = make_http1_connection(context);
    connection->feed("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    BodyScript none{{"x"}};
    connection->respond(connection->next_request()->stream, none.response());
    EXPECT_TRUE(take_all(*connection).ends_with("\r\n\r\n"));
    EXPECT_EQ(none.asked, 0);
    EXPECT_EQ(none.alive, 0);
    BodyScript script{{"all of ", "it"}};
    connection->respond(connection->next_request()->stream, script.response());
    const std::string out = take_all(*connection);
    EXPECT_NE(out.find("Connection: close\r\n"), std::string::npos);
    EXPECT_EQ(out.find("chunked"), std::string::npos);
    EXPECT_TRUE(out.ends_with("\r\n\r\nall of it")) << out;
    EXPECT_TRUE(connection->wants_close());
}

TEST(HttpConnection, AConnectionThatGoesTakesItsStreamedBodyWithIt) {
    ConnectionContext context;
    auto connection = make_http1_connection(context);
    connection->feed(post("1"));
    BodyScript script{{"one", "", "two"}};
    connection->respond(connection->next_request()->stream, script.response());
    static_cast<void>(take_all(*connection));
    // A stream that waits is no idle connection.
    context.now_ms = 10'000'000;
    EXPECT_EQ(connection->check_time(), Overdue::nothing);
    EXPECT_EQ(script.alive, 1);
    connection.reset();
    EXPECT_EQ(script.alive, 0);
}

TEST(HttpOutputQueue, PiecesLeaveInOrderHoweverTheyCameAndAreCut) {
    OutputQueue queue;
    std::string expected;
    const auto owner = std::make_shared<const std::string>(5'000, 'l');
    for (int i = 0; i < 50; ++i) {
        queue.copy(std::to_string(i) + ",");
        queue.take(std::string(static_cast<std::size_t>(i) * 50, 't'));
        queue.lend(owner, std::string_view(*owner).substr(static_cast<std::size_t>(i)));
        expected += std::to_string(i) + "," + std::string(static_cast<std::size_t>(i) * 50, 't') +
                    std::string(5'000 - static_cast<std::size_t>(i), 'l');
    }
    EXPECT_EQ(queue.size_bytes(), expected.size());
    std::string out;
    std::array<std::string_view, 4> pieces;
    for (std::size_t step = 1; !queue.empty(); step = step * 7 % 9'973) {
        std::string shown;
        for (std::size_t i = 0, count = queue.fill(pieces); i < count; ++i) {
            shown.append(pieces[i]);
        }
        shown.resize(std::min(shown.size(), step));
        queue.sent(shown.size());
        out += shown;
    }
    EXPECT_EQ(out, expected);
    EXPECT_EQ(owner.use_count(), 1);
}

}  // namespace
}  // namespace penstock::http
