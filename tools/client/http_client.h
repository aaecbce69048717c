// Signed HTTP requests to one endpoint: a node's, or anything else that speaks the Kinesis API.
//
// Requests are signed with AWS Signature Version 4 by libcurl. Connections are kept between
// requests; every wait has a bound, and cancel() ends it.
//
// Runs on: one thread at a time; cancel() from any. Blocks.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/base/result.h"
#include "tools/client/aws_settings.h"

namespace penstock {

struct HttpEndpoint {
    std::string url;  // https://HOST[:PORT], or http:// to loopback; without a path
    AwsCredential credential;
    std::string region = "us-east-1";
    std::string ca_bundle;  // empty: the system's
    long connect_timeout_ms = 5'000;
};

struct HttpRequest {
    std::string_view method = "POST";
    std::string_view path = "/";  // with its query, encoded
    std::vector<std::pair<std::string, std::string>> headers;
    std::string_view body;
    long timeout_ms = 30'000;
};

struct HttpReply {
    int status = 0;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
    double connect_s = 0;    // of its TCP handshake; 0 where a connection was there
    std::string address;     // of the other end, as numbers
};

class HttpClient {
public:
    explicit HttpClient(HttpEndpoint endpoint);
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    // Any status is a reply. Errors: unavailable (nothing was heard, or not all), timed_out,
    // invalid_argument (the URL, the CA file), canceled; one line in `why`.
    [[nodiscard]] Result<HttpReply> send(const HttpRequest& request, std::string& why);
    // An operation of the Kinesis API, named as in X-Amz-Target behind the dot; `body` is JSON.
    [[nodiscard]] Result<HttpReply> kinesis(std::string_view operation, std::string_view body,
                                            std::string& why, long timeout_ms = 30'000);

    // The request under way, and every later one, ends soon with `canceled`.
    void cancel() noexcept { canceled_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] const HttpEndpoint& endpoint() const noexcept { return endpoint_; }

private:
    struct Handle;
    const HttpEndpoint endpoint_;
    std::atomic<bool> canceled_{false};
    std::unique_ptr<Handle> handle_;
};

// `message` of an error's JSON, else its status; for people.
[[nodiscard]] std::string error_message(const HttpReply& reply);
// The error's name, as `ProvisionedThroughputExceededException`; empty if it has none.
[[nodiscard]] std::string error_type(const HttpReply& reply);
// Worth being sent again after a while: throttled, or the other end is in trouble.
[[nodiscard]] bool is_passing(const HttpReply& reply);

}  // namespace penstock
