// A Kinesis endpoint as a reader sees it: an operation's name and JSON in, a reply out.
//
// Runs on: one thread at a time; cancel() from any.
#pragma once

#include <string>
#include <string_view>

#include "tools/client/http_client.h"

namespace penstock::consumer {

class KinesisApi {
public:
    virtual ~KinesisApi() = default;
    // As HttpClient::kinesis().
    [[nodiscard]] virtual Result<HttpReply> call(std::string_view operation,
                                                 const std::string& body, std::string& why) = 0;
    // The call under way, and every later one, ends soon with Errc::canceled.
    virtual void cancel() noexcept = 0;
};

class HttpKinesisApi final : public KinesisApi {
public:
    explicit HttpKinesisApi(HttpEndpoint endpoint) : client_(std::move(endpoint)) {}
    [[nodiscard]] Result<HttpReply> call(std::string_view operation, const std::string& body,
                                         std::string& why) override {
        return client_.kinesis(operation, body, why);
    }
    void cancel() noexcept override { client_.cancel(); }

private:
    HttpClient client_;
};

}  // namespace penstock::consumer
