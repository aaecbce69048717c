#include "control/http/guard.h"

#include <gtest/gtest.h>

namespace penstock::http {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

int outcome(const Headers& headers, std::string_view target = "/",
            std::string_view bound = "127.0.0.1") {
    const auto refusal = refuse(*HttpRequest::make("POST", target, headers, ""), bound);
    return refusal ? refusal->status : 0;
}

TEST(HttpGuard, OnlyLoopbackMayBeBound) {
    for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LocalHost"}) {
        EXPECT_TRUE(check_bind_address(host)) << host;
    }
    for (const char* host :
         {"0.0.0.0", "::", "[::]", "10.0.0.1", "", "example.com", "127.0.0.1.evil", "[127.0.0.1]",
          "localhost.evil", "::ffff:10.0.0.1", "1270.0.0.1"}) {
        const auto allowed = check_bind_address(host);
        ASSERT_FALSE(allowed) << host;
        EXPECT_EQ(allowed.error().find('\n'), std::string::npos);
        EXPECT_NE(allowed.error().find("127.0.0.1"), std::string::npos);
    }
}

TEST(HttpGuard, HostMustNameThisMachine) {
    for (const char* host :
         {"localhost", "LOCALHOST:4567", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:4567"}) {
        EXPECT_EQ(outcome({{"Host", host}}), 0) << host;
    }
    for (const char* host : {"", "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "10.0.0.1",
                             "localhost:80@evil.com", "localhost:x", "127.0.0.2", ":4567",
                             "localhost:123456", "[::2]", "::1"}) {
        EXPECT_EQ(outcome({{"hOST", host}}), 403) << host;
    }
    EXPECT_EQ(outcome({}), 403);
    EXPECT_EQ(outcome({{"Host", "localhost"}, {"Host", "evil.com"}}), 403);
    EXPECT_EQ(outcome({{"Host", "127.0.0.2:9"}}, "/", "127.0.0.2"), 0);
}

TEST(HttpGuard, TheAuthorityOfHttp2CountsAsHost) {
    EXPECT_EQ(outcome({{":authority", "localhost:4567"}}), 0);
    EXPECT_EQ(outcome({{":authority", "localhost"}, {"host", "localhost"}}), 0);
    EXPECT_EQ(outcome({{":authority", "evil.com"}}), 403);
    EXPECT_EQ(outcome({{":authority", "evil.com"}, {"host", "localhost"}}), 403);
    EXPECT_EQ(outcome({{":authority", ""}}), 403);
    // A request of HTTP/1.1 cannot have such a header; its Host header counts.
    const Headers headers{{":authority", "evil.com"}, {"host", "localhost"}};
    const auto request = HttpRequest::make("GET", "/", headers, "");
    EXPECT_EQ(request->host(), "evil.com");
    request->version = 11;
    EXPECT_EQ(request->host(), "localhost");
}

TEST(HttpGuard, NamesInTheTargetMustBeOursToo) {
    EXPECT_EQ(outcome({{"Host", "localhost"}}, "http://localhost:4567/"), 0);
    EXPECT_EQ(outcome({{"Host", "localhost"}}, "http://evil.com/"), 403);
}

TEST(HttpGuard, WebPagesAreRefused) {
    EXPECT_EQ(outcome({{"Host", "localhost"}, {"origin", "http://localhost"}}), 403);
    EXPECT_EQ(outcome({{"Host", "localhost"}, {"Origin", ""}}), 403);
    EXPECT_EQ(outcome({{"Host", "localhost"}, {"Sec-Fetch-Site", "cross-site"}}), 403);
    EXPECT_EQ(outcome({{"Host", "localhost"}, {"Sec-Fetch-Site", "none"}}), 0);
}

TEST(HttpGuard, RefusalIsOneLineWhateverTheHostHeaderHolds) {
    const auto refusal = refuse(
        *HttpRequest::make("GET", "/", Headers{{"Host", "a\r\nb" + std::string(500, 'x')}}, ""),
        "127.0.0.1");
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->body.find('\n'), refusal->body.size() - 1);
    EXPECT_LT(refusal->body.size(), 250U);
}

}  // namespace
}  // namespace penstock::http
