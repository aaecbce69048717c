#include <array>
#include <memory>

#include <gtest/gtest.h>

#include "control/http/connection.h"
#include "control/http/frame_watch.h"
#include "tests/unit/control/http/http2_client.h"
#include "tests/unit/control/http/scripted_body.h"

namespace penstock::http {
namespace {

using Headers = Http2Client::Headers;

std::string take_output(Connection& connection) {
    std::string out;
    std::array<std::string_view, 3> pieces;
    while (const std::size_t count = connection.next_output(pieces)) {
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < count; ++i) {
            out.append(pieces[i]);
            bytes += pieces[i].size();
        }
        // In two steps, so that an offset within a piece occurs.
        connection.output_sent(bytes / 2);
        connection.output_sent(bytes - bytes / 2);
    }
    return out;
}

// What was seen of a request, as one line.
std::string told(const HttpRequest& request) {
    std::string line(request.method);
    line.append(" ").append(request.path).append(" ").append(request.query);
    for (const HeaderField& field : request.headers) {
        line.append(" ").append(field.name).append("=").append(field.value);
    }
    return line.append(" ").append(request.body());
}

class Http2 : public ::testing::Test {
protected:
    void open(bool client_takes_data = true) {
        connection_ = make_clear_connection(context_);
        client_ = std::make_unique<Http2Client>(client_takes_data);
    }
    void give(std::string_view bytes) {
        while (!bytes.empty() && connection_->wants_input()) {
            bytes.remove_prefix(connection_->feed(bytes));
        }
    }
    // Carries bytes both ways, and answers requests if told to, until nothing moves any more.
    void run(bool answer = true) {
        for (bool moved = true; moved;) {
            const std::string to_server = client_->output();
            give(to_server);
            moved = !to_server.empty();
            while (auto incoming = connection_->next_request()) {
                moved = true;
                taken_.push_back(incoming->stream);
                seen_.push_back(told(*incoming->request));
                if (answer) {
                    HttpResponse response;
                    response.body = incoming->request->body();
                    connection_->respond(incoming->stream, std::move(response));
                } else {
                    held_.push_back(std::move(incoming->request));
                }
            }
            const std::string to_client = take_output(*connection_);
            client_->input(to_client);
            moved = moved || !to_client.empty();
        }
    }
    [[nodiscard]] std::uint64_t floods() const { return context_.counters->floods.get(); }

    ConnectionContext context_;
    std::unique_ptr<Connection> connection_;
    std::unique_ptr<Http2Client> client_;
    std::vector<StreamId> taken_;
    std::vector<std::string> seen_;
    std::vector<std::unique_ptr<HttpRequest>> held_;
};

TEST_F(Http2, RequestsAreAnsweredAndKeepTheirHeadersAsReceived) {
    open();
    const std::int32_t first =
        client_->ask("/a?x=1", "hello", {{"x-b", "2"}, {"x-a", "1"}, {"x-b", "3"}});
    const std::int32_t second = client_->ask("/", "", {{":method", "GET"}});
    run();
    EXPECT_EQ(seen_, (std::vector<std::string>{
                         "GET /  :authority=localhost:4567 ",
                         "POST /a x=1 :authority=localhost:4567 x-b=2 x-a=1 x-b=3 hello"}));
    EXPECT_EQ(client_->answer(first).status(), 200);
    EXPECT_EQ(client_->answer(first).body, "hello");
    EXPECT_EQ(client_->answer(first).header("content-length"), "5");
    EXPECT_TRUE(client_->answer(second).complete);
    EXPECT_EQ(connection_->protocol(), Protocol::http2);
    EXPECT_EQ(context_.counters->http2_connections.get(), 1U);
    EXPECT_EQ(context_.counters->streams_reset.get(), 0U);
    EXPECT_EQ(client_->setting(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS), 128U);
    EXPECT_EQ(client_->setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE), 1U << 20);
}

TEST_F(Http2, EveryCutOfTheInputGivesTheSameRequestsAndAnswers) {
    Http2Client writer;
    writer.ask("/first", std::string(300, 'b'), {{"content-length", "300"}, {"x", "y"}});
    writer.ask("/second?q", "", {{":method", "GET"}});
    writer.ask("/too-large", "x", {{"content-length", "99999999"}}, false);
    writer.ask("/two-hosts", "", {{"host", "evil.com"}});
    writer.ping();
    const std::int32_t gone = writer.ask("/never", "", {}, false);
    std::string input = writer.output();
    writer.reset(gone);
    input += writer.output();
    std::vector<std::string> whole;
    std::map<std::int32_t, std::string> answers;
    for (std::size_t cut = 0; cut < input.size(); ++cut) {
        open();
        const std::string preface = client_->output();  // so that the client takes answers
        seen_.clear();
        const auto drain = [this] {
            while (auto incoming = connection_->next_request()) {
                seen_.push_back(told(*incoming->request));
                connection_->respond(incoming->stream, HttpResponse::text(200, seen_.back()));
            }
            client_->input(take_output(*connection_));
        };
        for (int i = 0; i < 5; ++i) {
            client_->ask("/");
        }
        static_cast<void>(client_->output());
        give(std::string_view(input).substr(0, cut));
        drain();
        give(std::string_view(input).substr(cut));
        drain();
        ASSERT_FALSE(client_->failed()) << cut;
        for (const std::int32_t id : {1, 3, 5, 7}) {
            const auto& answer = client_->answer(id);
            const std::string line = std::to_string(answer.status()) + answer.body;
            if (cut == 0) {
                whole = seen_;
                answers[id] = line;
            }
            ASSERT_EQ(line, answers[id]) << cut;
        }
        std::ranges::sort(seen_);
        std::ranges::sort(whole);
        ASSERT_EQ(seen_, whole) << cut;
        ASSERT_EQ(connection_->refused(), 2U) << cut;
        ASSERT_EQ(client_->pongs(), 1U) << cut;
    }
    EXPECT_EQ(whole.size(), 2U);
    EXPECT_TRUE(answers[5].starts_with("413The body is too large"));
    EXPECT_TRUE(answers[7].starts_with("400The request must name one host"));
}

TEST_F(Http2, FirstBytesDecideTheVersion) {
    for (const std::string_view start :
         {"PUT / HTTP/1.1\r\n", "P", "PRI /x HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"}) {
        connection_ = make_clear_connection(context_);
        for (const char c : start) {
            give({&c, 1});
            EXPECT_FALSE(connection_->next_request());
        }
        EXPECT_EQ(connection_->protocol(), Protocol::http1);
    }
    connection_ = make_clear_connection(context_);
    give("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    EXPECT_EQ(connection_->protocol(), Protocol::http2);
    connection_ = make_clear_connection(context_);
    give("PRI");
    connection_->input_ended();
    EXPECT_FALSE(connection_->next_request());
    EXPECT_TRUE(take_output(*connection_).starts_with("HTTP/1.1 400 "));
    connection_ = make_clear_connection(context_);
    give("PRI");
    context_.now_ms += context_.times.header_ms + 1;
    EXPECT_EQ(connection_->check_time(), Overdue::close);
}

TEST_F(Http2, LargeBodiesPassBothWaysThroughTheWindows) {
    open();
    std::string body(10'000'000, '?');
    for (std::size_t i = 0; i < body.size(); ++i) {
        body[i] = static_cast<char>('a' + i % 23);
    }
    const std::int32_t one = client_->ask("/", body);
    const std::int32_t two =
        client_->ask("/", body, {{"content-length", std::to_string(body.size())}});
    run();
    EXPECT_EQ(client_->answer(one).body, body);
    EXPECT_EQ(client_->answer(two).body, body);
    EXPECT_EQ(context_.body_budget->used_bytes, 0U);
}

TEST_F(Http2, AnAnnouncedBodyCostsNoMemoryBeforeItArrives) {
    open();
    for (int i = 0; i < 20; ++i) {
        client_->ask("/", "x", {{"content-length", "16000000"}}, false);
    }
    run();
    EXPECT_LE(context_.body_budget->used_bytes, 20U * 66 * 1024);
}

TEST_F(Http2, WhatIsNotAcceptableIsAnsweredOnItsStreamAndTheConnectionGoesOn) {
    struct Bad {
        const char* name;
        Headers headers;
        int status;
    };
    const std::vector<Bad> catalogue{
        {"too large", {{"content-length", "16777217"}}, 413},
        {"huge", {{"content-length", "9223372036854775807"}}, 413},
        {"other host", {{"host", "evil.com"}}, 400},
        {"expectation", {{"expect", "more"}}, 417},
        {"long header", {{"x", std::string(20'000, 'x')}}, 431},
        {"many headers", Headers(400, {"x-name", "value"}), 431},
        {"connect", {{":method", "CONNECT"}, {":path", "none"}, {":scheme", "none"}}, 501},
    };
    open();
    for (std::size_t i = 0; i < catalogue.size(); ++i) {
        const Bad& bad = catalogue[i];
        const std::int32_t id = client_->ask("/", "some body", bad.headers, false);
        run();
        const auto& answer = client_->answer(id);
        EXPECT_EQ(answer.status(), bad.status) << bad.name << answer.error;
        EXPECT_TRUE(answer.body.ends_with(".\n")) << bad.name << ": " << answer.body;
        EXPECT_TRUE(answer.complete && answer.closed) << bad.name;
        EXPECT_EQ(connection_->refused(), i + 1) << bad.name;
        EXPECT_TRUE(seen_.empty()) << bad.name;
    }
    const std::int32_t good = client_->ask("/", "x", {{"host", "localhost:4567"}});
    run();
    EXPECT_EQ(client_->answer(good).status(), 200);
    EXPECT_EQ(context_.body_budget->used_bytes, 0U);
}

TEST_F(Http2, ARefusedBodyIsCutOffWhileItIsStillBeingSent) {
    context_.limits.body_bytes_max = 100'000;
    open();
    const std::int32_t id = client_->ask("/", std::string(5'000'000, 'x'));
    run();
    EXPECT_EQ(client_->answer(id).status(), 413);
    EXPECT_TRUE(client_->answer(id).closed);
    EXPECT_EQ(client_->answer(id).error, std::uint32_t{NGHTTP2_NO_ERROR});
    // What it sent meanwhile is given back to the connection's window.
    for (int i = 0; i < 40; ++i) {
        client_->ask("/", std::string(5'000'000, 'x'));
        run();
    }
    const std::int32_t good = client_->ask("/", std::string(90'000, 'y'));
    run();
    EXPECT_EQ(client_->answer(good).body.size(), 90'000U);
}

TEST_F(Http2, BodiesBeyondTheBudgetOfAllAreRefusedAndTheBudgetIsGivenBack) {
    context_.body_budget->limit_bytes = 1000;
    open();
    client_->ask("/", std::string(800, 'x'), {{"content-length", "800"}});
    run(false);
    const std::int32_t refused =
        client_->ask("/", std::string(300, 'x'), {{"content-length", "300"}});
    run(false);
    EXPECT_EQ(client_->answer(refused).status(), 503);
    held_.clear();
    EXPECT_EQ(context_.body_budget->used_bytes, 0U);
}

TEST_F(Http2, RequestsThatAreNoneAreReset) {
    const std::vector<Headers> catalogue{
        {{"content-length", "5"}},      {{"content-length", "4"}, {"content-length", "4"}},
        {{"host", "a"}, {"host", "b"}}, {{":authority", "none"}},
        {{":method", "none"}},          {{":path", "none"}},
        {{":path", "no-slash"}},        {{":scheme", "none"}},
        {{"connection", "close"}},      {{"transfer-encoding", "chunked"}},
    };
    open();
    for (std::size_t i = 0; i < catalogue.size(); ++i) {
        const std::int32_t id = client_->ask("/", "four", catalogue[i]);
        run();
        EXPECT_EQ(client_->answer(id).error, std::uint32_t{NGHTTP2_PROTOCOL_ERROR}) << i;
        EXPECT_TRUE(seen_.empty()) << i;
        EXPECT_EQ(connection_->refused(), i + 1);
    }
    const std::int32_t invalid = client_->ask("/", "", {{"x", "a\nb"}});
    run();
    EXPECT_EQ(client_->answer(invalid).status(), 400);
}

TEST_F(Http2, HeadAndBodilessAnswersHaveNoBody) {
    open();
    const std::int32_t head = client_->ask("/", "", {{":method", "HEAD"}});
    const std::int32_t nothing = client_->ask("/");
    run(false);
    connection_->respond(taken_[0], HttpResponse::text(200, "hidden"));
    HttpResponse bodiless = HttpResponse::text(204, "none");
    connection_->respond(taken_[1], std::move(bodiless));
    run();
    EXPECT_EQ(client_->answer(head).header("content-length"), "7");
    EXPECT_EQ(client_->answer(head).body, "");
    EXPECT_EQ(client_->answer(nothing).status(), 204);
    EXPECT_EQ(client_->answer(nothing).header("content-length"), "");
    EXPECT_TRUE(client_->answer(nothing).complete);
}

TEST_F(Http2, HeadersOfAnAnswerAreMadeFitForHttp2) {
    open();
    const std::int32_t id = client_->ask("/");
    run(false);
    HttpResponse response = HttpResponse::text(200, "x");
    response.headers.emplace_back("X-Amzn-RequestId", "a\r\nb");
    response.headers.emplace_back("Connection", "close");
    connection_->respond(taken_[0], std::move(response));
    run();
    EXPECT_EQ(client_->answer(id).header("x-amzn-requestid"), "a  b");
    EXPECT_EQ(client_->answer(id).header("connection"), "");
    EXPECT_FALSE(client_->failed());
}

TEST_F(Http2, APeerThatWaitsIsToldToContinue) {
    open();
    const std::int32_t id = client_->ask("/", "", {{"expect", "100-continue"}}, false);
    run();
    EXPECT_EQ(client_->answer(id).statuses, std::vector<int>{100});
    client_->more_body(id, "body", true);
    run();
    EXPECT_EQ(client_->answer(id).statuses, (std::vector<int>{100, 200}));
    EXPECT_EQ(client_->answer(id).body, "body");
}

TEST_F(Http2, OnlySoManyRequestsAreGivenOutAtOnceAndAResetOneStillCounts) {
    context_.limits.outstanding_max = 2;
    open();
    const std::int32_t first = client_->ask("/1");
    client_->ask("/2");
    const std::int32_t third = client_->ask("/3");
    const std::int32_t fourth = client_->ask("/4");
    run(false);
    EXPECT_EQ(taken_.size(), 2U);
    client_->reset(first);
    client_->reset(third);
    run(false);
    // The work for a request does not end with its stream; one not begun is not begun at all.
    EXPECT_EQ(taken_.size(), 2U);
    EXPECT_EQ(connection_->outstanding(), 2U);
    EXPECT_EQ(context_.counters->streams_reset.get(), 2U);
    connection_->respond(taken_[0], HttpResponse::text(200, "too late"));
    connection_->respond(taken_[0], HttpResponse::text(200, "twice"));
    run(false);
    ASSERT_EQ(taken_.size(), 3U);
    connection_->respond(taken_[1], HttpResponse::text(200, "second"));
    connection_->respond(taken_[2], HttpResponse::text(200, "fourth"));
    run(false);
    EXPECT_EQ(client_->answer(fourth).body, "fourth\n");
    EXPECT_EQ(connection_->outstanding(), 0U);
}

TEST_F(Http2, NoMoreRequestsAreGivenOutWhileTooMuchIsUnsent) {
    context_.limits.unsent_bytes_max = 1'000'000;
    open(false);
    for (int i = 0; i < 10; ++i) {
        client_->ask("/");
    }
    for (int i = 0; i < 10; ++i) {
        run(false);
        if (taken_.size() > static_cast<std::size_t>(i)) {
            break;
        }
    }
    ASSERT_EQ(taken_.size(), 10U);
    // The peer's windows are closed: the answers wait here.
    for (int i = 0; i < 10; ++i) {
        connection_->respond(taken_[static_cast<std::size_t>(i)],
                             HttpResponse::text(200, std::string(200'000, 'x')));
    }
    client_->ask("/late");
    run(false);
    EXPECT_EQ(taken_.size(), 10U);
    // Still read, since that is how windows open.
    EXPECT_TRUE(connection_->wants_input());
    for (int round = 0; round < 100; ++round) {
        for (std::int32_t id = 1; id < 20; id += 2) {
            client_->take_data(id, 20'000);
        }
        run(false);
    }
    EXPECT_EQ(taken_.size(), 11U);
    EXPECT_EQ(client_->answer(19).body.size(), 200'001U);
}

// "/large" may have answers of 1000 bytes, of which 2500 may be there.
class Http2Large : public Http2 {
protected:
    Http2Large() {
        context_.limits.large_answers_bytes_max = 2500;
        context_.limits.unsent_bytes_max = 100'000;
        context_.large_answer_bytes = [](const HttpRequest& request) -> std::size_t {
            return request.path == "/large" ? 1000 : 0;
        };
    }
    [[nodiscard]] std::size_t claimed() const {
        return context_.answer_counters->claimed_bytes.get() -
               context_.answer_counters->given_back_bytes.get();
    }
};

TEST_F(Http2Large, NoMoreAreBegunThanMayBeThereAndOthersPassThem) {
    open(false);
    const std::int32_t first = client_->ask("/large");
    for (int i = 0; i < 99; ++i) {
        client_->ask("/large");
    }
    const std::int32_t small = client_->ask("/small");
    run(false);
    ASSERT_EQ(taken_.size(), 3U);
    EXPECT_EQ(taken_[2], StreamId{static_cast<std::uint64_t>(small)});
    EXPECT_EQ(claimed(), 2000U);
    EXPECT_EQ(context_.answer_counters->held.get(), 98U);
    // Both answers are there, and the peer's windows are closed: nothing more is begun.
    connection_->respond(taken_[0], HttpResponse::text(200, std::string(200'000, 'x')));
    connection_->respond(taken_[1], HttpResponse::text(200, std::string(200'000, 'x')));
    run(false);
    EXPECT_EQ(taken_.size(), 3U);
    EXPECT_EQ(claimed(), 400'002U);
    // What is small goes on, unread answers or not.
    const std::int32_t late = client_->ask("/late");
    run(false);
    ASSERT_EQ(taken_.size(), 4U);
    connection_->respond(taken_[3], HttpResponse{});
    run(false);
    EXPECT_TRUE(client_->answer(late).complete);
    for (int round = 0; round < 20; ++round) {
        client_->take_data(first, 20'000);
        client_->take_data(first + 2, 20'000);
        run(false);
    }
    EXPECT_EQ(client_->answer(first).body.size(), 200'001U);
    EXPECT_EQ(taken_.size(), 6U);
    EXPECT_EQ(claimed(), 2000U);
}

TEST_F(Http2Large, WhatIsKeptOfAResetAnswerCountsUntilItIsSent) {
    open();
    const std::int32_t id = client_->ask("/large");
    give(client_->output());
    const auto incoming = connection_->next_request();
    ASSERT_TRUE(incoming);
    connection_->respond(incoming->stream, HttpResponse::text(200, std::string(50'000, 'x')));
    std::array<std::string_view, 64> pieces;
    EXPECT_NE(connection_->next_output(pieces), 0U);
    client_->reset(id);
    give(client_->output());
    // A part of it is on its way to the socket, and keeps the whole.
    EXPECT_EQ(claimed(), 50'001U);
    connection_->output_sent(connection_->unsent_bytes());
    EXPECT_EQ(claimed(), 0U);
}

TEST_F(Http2Large, ARequestWhoseStreamIsResetKeepsItsClaimUntilItsHandlerIsDone) {
    open();
    const std::int32_t first = client_->ask("/large");
    client_->ask("/large");
    client_->ask("/large");
    run(false);
    ASSERT_EQ(taken_.size(), 2U);
    client_->reset(first);
    run(false);
    EXPECT_EQ(taken_.size(), 2U);
    connection_->respond(taken_[0], HttpResponse::text(200, std::string(50'000, 'x')));
    run(false);
    EXPECT_EQ(taken_.size(), 3U);
    EXPECT_EQ(claimed(), 2000U);
    connection_.reset();
    EXPECT_EQ(claimed(), 0U);
}

TEST_F(Http2, ABodyMadeOverTimeIsSentAsItComesAndHoldsUpNobody) {
    open();
    const std::int32_t streamed = client_->ask("/events");
    run(false);
    BodyScript script{{"one", "", "two", ""}};
    connection_->respond(taken_[0], script.response());
    run(false);
    EXPECT_EQ(client_->answer(streamed).body, "one");
    EXPECT_EQ(client_->answer(streamed).header("content-length"), "");
    EXPECT_EQ(connection_->outstanding(), 0U);
    const std::int32_t other = client_->ask("/", "quick");
    run();
    EXPECT_EQ(client_->answer(other).body, "quick");
    connection_->resume(taken_[0]);
    run();
    EXPECT_EQ(client_->answer(streamed).body, "onetwo");
    EXPECT_FALSE(client_->answer(streamed).complete);
    connection_->resume(taken_[0]);
    run();
    EXPECT_TRUE(client_->answer(streamed).complete);
    EXPECT_EQ(script.alive, 0);
    connection_->resume(taken_[0]);  // of a stream that is gone
    connection_.reset();             // its bodies know the scripts
}

TEST_F(Http2, AStreamedBodyOfAPeerThatDoesNotReadHoldsOnePiece) {
    open(false);
    const std::int32_t slow = client_->ask("/events");
    const std::int32_t other = client_->ask("/events");
    run(false);
    BodyScript script{std::vector<std::string>(1000, std::string(10'000, 'x'))};
    BodyScript quick{{"quick"}};
    connection_->respond(taken_[0], script.response());
    run(false);
    // A window of 65535 bytes.
    EXPECT_EQ(script.asked, 7);
    client_->take_data(slow, 40'000);
    run(false);
    const int asked = script.asked;
    EXPECT_GT(asked, 7);
    EXPECT_LE(asked, 11);
    // Not read for longer than an answer may be, but not for ever.
    context_.now_ms += context_.times.stall_ms + 1;
    EXPECT_EQ(connection_->check_time(), Overdue::nothing);
    connection_->respond(taken_[1], quick.response());
    client_->take_data(other, 0);
    run(false);
    context_.now_ms += context_.times.stream_stall_ms + 1;
    EXPECT_EQ(connection_->check_time(), Overdue::answered);
    run(false);
    EXPECT_EQ(client_->answer(slow).error, std::uint32_t{NGHTTP2_CANCEL});
    EXPECT_EQ(script.alive, 0);
    connection_.reset();  // its bodies know the scripts
}

TEST_F(Http2, StreamsOfOneConnectionShareItEvenly) {
    open();
    client_ = std::make_unique<Http2Client>(true, 100'000'000);
    const std::int32_t endless = client_->ask("/events");
    const std::int32_t large = client_->ask("/large");
    run(false);
    BodyScript script{std::vector<std::string>(2'000, std::string(10'000, 'x'))};
    connection_->respond(taken_[0], script.response());
    connection_->respond(taken_[1], HttpResponse::text(200, std::string(1'000'000, 'y')));
    std::array<std::string_view, 8> pieces;
    while (!client_->answer(large).complete) {
        const std::size_t count = connection_->next_output(pieces);
        ASSERT_NE(count, 0U);
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < count; ++i) {
            client_->input(pieces[i]);
            bytes += pieces[i].size();
        }
        connection_->output_sent(bytes);
    }
    EXPECT_GT(client_->answer(endless).body.size(), 300'000U);
    EXPECT_LT(client_->answer(endless).body.size(), 3'000'000U);
    connection_.reset();  // its bodies know the scripts
}

TEST_F(Http2, AStreamedBodyEndsWithItsStreamOrWhenItBreaks) {
    open();
    const std::int32_t reset = client_->ask("/events");
    const std::int32_t broken = client_->ask("/events");
    client_->ask("/events");
    run(false);
    BodyScript first{{"one", ""}};
    BodyScript second{{"one"}, BodyStream::Next::broken};
    BodyScript third{{"one", ""}};
    connection_->respond(taken_[0], first.response());
    connection_->respond(taken_[1], second.response());
    connection_->respond(taken_[2], third.response());
    client_->reset(reset);
    run(false);
    EXPECT_EQ(first.alive, 0);
    EXPECT_EQ(second.alive, 0);
    EXPECT_EQ(client_->answer(broken).error, std::uint32_t{NGHTTP2_INTERNAL_ERROR});
    EXPECT_EQ(third.alive, 1);
    connection_.reset();
    EXPECT_EQ(third.alive, 0);
    connection_.reset();  // its bodies know the scripts
}

TEST_F(Http2, PingsAreAnswered) {
    open();
    client_->ping();
    client_->ping();
    run();
    EXPECT_EQ(client_->pongs(), 2U);
}

TEST_F(Http2, ShutdownAnswersWhatIsOutstandingAndThenCloses) {
    open();
    const std::int32_t id = client_->ask("/");
    run(false);
    connection_->begin_shutdown();
    client_->input(take_output(*connection_));
    ASSERT_EQ(client_->goaways().size(), 1U);
    EXPECT_EQ(client_->goaways()[0].last_stream, 0x7fffffff);
    // A request that crossed the notice is served, too.
    EXPECT_FALSE(connection_->wants_close());
    run(false);
    ASSERT_EQ(client_->goaways().size(), 2U);
    EXPECT_EQ(client_->goaways()[1].last_stream, id);
    EXPECT_EQ(client_->goaways()[1].code, std::uint32_t{NGHTTP2_NO_ERROR});
    EXPECT_FALSE(connection_->wants_close());
    connection_->respond(taken_[0], HttpResponse::text(200, "last"));
    run(false);
    EXPECT_EQ(client_->answer(id).body, "last\n");
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Http2, ShutdownOfAnIdleConnectionClosesAtOnce) {
    open();
    run();
    connection_->begin_shutdown();
    client_->input(take_output(*connection_));
    EXPECT_EQ(client_->goaways().size(), 1U);
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Http2, AHalfClosedPeerGetsItsAnswers) {
    open();
    const std::int32_t id = client_->ask("/");
    run(false);
    connection_->input_ended();
    EXPECT_FALSE(connection_->wants_close());
    EXPECT_FALSE(connection_->wants_input());
    connection_->respond(taken_[0], HttpResponse::text(200, "still"));
    client_->input(take_output(*connection_));
    EXPECT_EQ(client_->answer(id).body, "still\n");
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Http2, RapidResetsEndTheConnection) {
    open();
    run();
    int asked = 0;
    while (connection_->wants_input() && asked < 5'000) {
        const std::int32_t id = client_->ask("/");
        give(client_->output());
        client_->reset(id);
        give(client_->output());
        ++asked;
    }
    EXPECT_GT(asked, 900);
    EXPECT_LT(asked, 1'100);
    EXPECT_EQ(floods(), 1U);
    client_->input(take_output(*connection_));
    ASSERT_FALSE(client_->goaways().empty());
    EXPECT_EQ(client_->goaways()[0].code, std::uint32_t{NGHTTP2_ENHANCE_YOUR_CALM});
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Http2, ResetsWithinMeasureAreFine) {
    open();
    for (int second = 0; second < 100; ++second) {
        for (int i = 0; i < 90; ++i) {
            client_->reset(client_->ask("/"));
        }
        run();
        context_.now_ms += 1000;
    }
    EXPECT_EQ(floods(), 0U);
    const std::int32_t id = client_->ask("/", "alive");
    run();
    EXPECT_EQ(client_->answer(id).body, "alive");
}

TEST_F(Http2, FloodsOfPingsAndSettingsEndTheConnection) {
    for (const bool reads : {true, false}) {
        for (const bool pings : {true, false}) {
            open();
            run();
            const std::uint64_t before = floods();
            int sent = 0;
            for (; connection_->wants_input() && sent < 20'000; ++sent) {
                pings ? client_->ping() : client_->settings();
                give(client_->output());
                if (reads) {
                    client_->input(take_output(*connection_));
                }
            }
            EXPECT_LE(sent, 1'100) << reads << pings;
            EXPECT_EQ(floods(), before + 1) << reads << pings;
            client_->input(take_output(*connection_));
            EXPECT_TRUE(connection_->wants_close()) << reads << pings;
        }
    }
}

std::string frame(unsigned type, unsigned flags, std::uint32_t stream, std::string_view payload) {
    std::string out;
    for (const int shift : {16, 8, 0}) {
        out.push_back(static_cast<char>(payload.size() >> shift & 0xff));
    }
    out.push_back(static_cast<char>(type));
    out.push_back(static_cast<char>(flags));
    for (const int shift : {24, 16, 8, 0}) {
        out.push_back(static_cast<char>(stream >> shift & 0xff));
    }
    return out.append(payload);
}

const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "");

TEST_F(Http2, AFloodOfContinuationsEndsTheConnection) {
    open();
    give(preface + frame(1, 0, 1, ""));
    int sent = 0;
    for (; connection_->wants_input() && sent < 1'000; ++sent) {
        give(frame(9, 0, 1, ""));
    }
    EXPECT_LT(sent, 20);
    EXPECT_EQ(floods(), 1U);
    client_->input(take_output(*connection_));
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Http2, AHeaderBombIsNotUnpacked) {
    open();
    // One header of 4000 bytes that enters the table, then references to it: a byte each.
    const std::string first = std::string("\x40\x01x\x7f\xa1\x1e", 6) + std::string(4'000, 'a');
    give(preface + frame(1, 5, 1, first + std::string(10, '\xbe')));
    EXPECT_FALSE(connection_->next_request());
    client_->input(take_output(*connection_));
    EXPECT_EQ(client_->goaways().size(), 0U);
    EXPECT_EQ(floods(), 0U);
    // Far beyond what is accepted it is no mistake, and reading it all would be what it is sent
    // for.
    give(frame(1, 5, 3, std::string(12'000, '\xbe')));
    EXPECT_FALSE(connection_->next_request());
    EXPECT_EQ(floods(), 1U);
    EXPECT_EQ(connection_->ending(), Ending::flood);
    EXPECT_NE(take_output(*connection_).find("a header block without measure"), std::string::npos);
    EXPECT_TRUE(connection_->wants_close());
}

TEST_F(Http2, WhatIsNotHttp2EndsTheConnection) {
    for (const std::string& bad :
         {frame(0, 1, 1, "data on no stream"), frame(1, 4, 2, "even"), frame(9, 4, 1, ""),
          frame(1, 4, 1, "\xff\xff\xff\xff\xff\xff\xff\xff"), frame(4, 0, 1, ""),
          std::string(9, '\xff'), frame(5, 4, 1, "push")}) {
        open();
        give(preface + bad);
        const std::string out = take_output(*connection_);
        client_->input(out);
        EXPECT_FALSE(client_->goaways().empty());
        EXPECT_TRUE(connection_->wants_close());
        EXPECT_FALSE(connection_->wants_input());
    }
}

TEST_F(Http2, SlowHeadsEndTheConnection) {
    const std::vector<std::string> starts{
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",              // no settings follow
        preface + std::string(1, 0),                     // a frame's first byte
        preface + frame(1, 4, 1, "head").substr(0, 11),  // within a frame
        preface + frame(1, 0, 1, "\x82"),                // within a block
    };
    for (const std::string& start : starts) {
        open();
        context_.now_ms += 5;
        give(start);
        static_cast<void>(take_output(*connection_));
        context_.now_ms += context_.times.header_ms - 10;
        EXPECT_EQ(connection_->check_time(), Overdue::nothing) << start;
        context_.now_ms += 20;
        EXPECT_EQ(connection_->check_time(), Overdue::answered) << start;
        client_->input(take_output(*connection_));
        EXPECT_TRUE(connection_->wants_close()) << start;
    }
}

TEST_F(Http2, ASlowBodyIsRefusedAndOthersGoOn) {
    open();
    const std::int32_t slow = client_->ask("/", "some", {}, false);
    run();
    context_.now_ms += context_.times.stall_ms - 10;
    client_->more_body(slow, " more", false);
    run();
    context_.now_ms += 20;
    EXPECT_EQ(connection_->check_time(), Overdue::nothing);
    context_.now_ms += context_.times.stall_ms;
    EXPECT_EQ(connection_->check_time(), Overdue::answered);
    const std::int32_t other = client_->ask("/", "other");
    run();
    EXPECT_EQ(client_->answer(slow).status(), 408);
    EXPECT_EQ(client_->answer(other).body, "other");
    EXPECT_EQ(connection_->check_time(), Overdue::nothing);
    EXPECT_EQ(context_.body_budget->used_bytes, 0U);
}

TEST_F(Http2, AnAnswerThatIsNotReadIsGivenUpAndItsMemoryFreed) {
    open(false);
    const std::int32_t id = client_->ask("/");
    run(false);
    connection_->respond(taken_[0], HttpResponse::text(200, std::string(5'000'000, 'x')));
    run(false);
    context_.now_ms += context_.times.stall_ms + 1;
    EXPECT_EQ(connection_->check_time(), Overdue::answered);
    run(false);
    EXPECT_EQ(client_->answer(id).error, std::uint32_t{NGHTTP2_CANCEL});
    // Room for further requests again.
    client_->ask("/");
    run(false);
    EXPECT_EQ(taken_.size(), 2U);
    // While the handler takes its time, nothing is overdue.
    context_.now_ms += 10'000'000;
    EXPECT_EQ(connection_->check_time(), Overdue::nothing);
}

TEST_F(Http2, APeerThatReadsNothingAtAllIsClosed) {
    open();
    client_->ask("/");
    give(client_->output());
    const auto incoming = connection_->next_request();
    connection_->respond(incoming->stream, HttpResponse::text(200, "x"));
    std::array<std::string_view, 3> pieces;
    EXPECT_NE(connection_->next_output(pieces), 0U);
    context_.now_ms += context_.times.stall_ms + 1;
    EXPECT_EQ(connection_->check_time(), Overdue::close);
}

TEST_F(Http2, AnIdleConnectionIsSentAwayAndPingsKeepItAlive) {
    open();
    client_->ask("/");
    run();
    context_.now_ms += context_.times.idle_ms;
    client_->ping();
    run();
    context_.now_ms += context_.times.idle_ms;
    EXPECT_EQ(connection_->check_time(), Overdue::nothing);
    context_.now_ms += 1;
    EXPECT_EQ(connection_->check_time(), Overdue::answered);
    client_->input(take_output(*connection_));
    ASSERT_FALSE(client_->goaways().empty());
    EXPECT_EQ(client_->goaways()[0].code, std::uint32_t{NGHTTP2_NO_ERROR});
    EXPECT_TRUE(connection_->wants_close());
}

TEST(Http2FrameWatch, EveryCutGivesTheSameCountsAndEnds) {
    const std::string input = preface + frame(1, 4, 1, "head") + frame(0, 0, 1, "data") +
                              frame(0, 0, 1, "") + frame(0, 1, 1, "") + frame(6, 0, 0, "12345678") +
                              frame(3, 0, 1, "1234") + frame(8, 0, 0, "1234") + frame(1, 0, 3, "") +
                              frame(9, 4, 3, "more");
    for (std::size_t cut = 0; cut <= input.size(); ++cut) {
        FrameWatch watch;
        watch.see(std::string_view(input).substr(0, cut), 1);
        watch.see(std::string_view(input).substr(cut), 2);
        EXPECT_FALSE(watch.within());
        EXPECT_EQ(watch.idle_frames(), 4U) << cut;
    }
}

}  // namespace
}  // namespace penstock::http
