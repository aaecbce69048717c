#include "control/node/request_metrics.h"

#include <memory>
#include <set>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace penstock {
namespace {

class HandClock final : public Clock {
public:
    std::uint64_t monotonic_ns() noexcept override { return now_ns; }
    std::int64_t wall_ms() noexcept override { return 0; }
    std::uint64_t now_ns = 1'000;
};

class RequestMetrics : public ::testing::Test, public http::ResponseSink {
protected:
    RequestMetrics() { add_request_families(registry, threads); }

    using Headers = std::vector<std::pair<std::string, std::string>>;
    static Headers asks_for(const std::string& operation) {
        return {{"X-Amz-Target", "Kinesis_20131202." + operation}};
    }
    std::unique_ptr<http::HttpExchange> begin(RequestCounters& thread, std::string_view method,
                                              std::string_view path, const Headers& headers = {}) {
        auto exchange = std::make_unique<http::HttpExchange>(
            *this, http::ConnectionId{1}, http::StreamId{1},
            http::HttpRequest::make(method, path, headers, ""));
        thread.begin(*exchange);
        return exchange;
    }
    void ask(std::string_view method, std::string_view path, const Headers& headers, int status) {
        begin(first, method, path, headers)->respond(http::HttpResponse::text(status, "x"));
    }
    // The value of a sample, or "" if there is none.
    std::string sample(const std::string& name) const {
        const std::string text = "\n" + registry.render();
        const auto at = text.find("\n" + name + " ");
        if (at == std::string::npos) {
            return "";
        }
        const auto value = at + name.size() + 2;
        return text.substr(value, text.find('\n', value) - value);
    }
    static std::string total(const std::string& operation, int code) {
        return "penstock_http_requests_total{operation=\"" + operation + "\",code=\"" +
               std::to_string(code) + "\"}";
    }
    static std::string bucket(const std::string& operation, const std::string& bound) {
        return "penstock_http_request_seconds_bucket{operation=\"" + operation + "\",le=\"" +
               bound + "\"}";
    }

    HandClock clock;
    RequestCounters first{clock};
    RequestCounters second{clock};
    std::vector<const RequestCounters*> threads{&first, &second};
    metrics::Registry registry;
    int sent = 0;

private:
    void respond(http::ConnectionId, http::StreamId, http::HttpResponse&&) override { ++sent; }
    bool is_open(http::ConnectionId) const noexcept override { return true; }
};

TEST_F(RequestMetrics, EveryOperationIsCountedUnderItsNameAndOthersUnderOne) {
    for (const std::string_view name : kinesis::operation_names) {
        ask("POST", "/", asks_for(std::string(name)), 200);
    }
    ask("GET", "/healthz", {}, 200);
    ask("HEAD", "/readyz", {}, 503);
    ask("GET", "/metrics", {}, 200);
    ask("GET", "/v1/replicas", {}, 200);
    ask("DELETE", "/v1/credentials/reader", {}, 200);
    ask("GET", "/v1/node", {}, 200);
    ask("GET", "/v1/openapi.json", {}, 200);
    ask("POST", "/", asks_for("CreateChannel"), 400);
    ask("POST", "/", {{"X-Amz-Target", "DynamoDB_20120810.PutItem"}}, 404);
    ask("GET", "/" + std::string(300, 'x'), {}, 403);
    for (const std::string_view name : kinesis::operation_names) {
        EXPECT_EQ(sample(total(std::string(name), 200)), "1") << name;
    }
    EXPECT_EQ(sample(total("healthz", 200)), "1");
    EXPECT_EQ(sample(total("readyz", 503)), "1");
    EXPECT_EQ(sample(total("metrics", 200)), "1");
    EXPECT_EQ(sample(total("replicas", 200)), "1");
    EXPECT_EQ(sample(total("credentials", 200)), "1");
    EXPECT_EQ(sample(total("node", 200)), "1");
    EXPECT_EQ(sample(total("openapi", 200)), "1");
    EXPECT_EQ(sample(total("other", 400)), "1");
    EXPECT_EQ(sample(total("other", 404)), "1");
    EXPECT_EQ(sample(total("other", 403)), "1");
    EXPECT_EQ(sent, kinesis::operation_names.size() + 10);
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < http_operation_count; ++i) {
        EXPECT_TRUE(names.insert(http_operation_name(i)).second) << http_operation_name(i);
    }
}

TEST_F(RequestMetrics, RestCountsAsTheOperationsItIsCarriedOutWith) {
    ask("GET", "/v1/streams/s", {}, 404);
    ask("POST", "/v1/streams/s/records", {{"Content-Type", "application/json"}}, 207);
    ask("POST", "/v1/streams/s/records?partition_key=k", {}, 200);
    ask("GET", "/v1/streams/s/nothing", {}, 404);
    EXPECT_EQ(sample(total("DescribeStreamSummary", 404)), "1");
    EXPECT_EQ(sample(total("PutRecords", 207)), "1");
    EXPECT_EQ(sample(total("PutRecord", 200)), "1");
    EXPECT_EQ(sample(total("other", 404)), "1");
}

TEST_F(RequestMetrics, SuccessesAreThereFromTheStartAndErrorsOnceThereIsOne) {
    EXPECT_EQ(sample(total("PutRecord", 200)), "0");
    EXPECT_EQ(sample(total("PutRecord", 400)), "");
    EXPECT_EQ(sample(bucket("PutRecord", "+Inf")), "0");
    ask("POST", "/", asks_for("PutRecord"), 400);
    EXPECT_EQ(sample(total("PutRecord", 400)), "1");
}

TEST_F(RequestMetrics, TheTimeIsFromTheRequestToItsAnswerOverAllThreads) {
    auto slow = begin(first, "POST", "/", asks_for("GetRecords"));
    auto quick = begin(second, "POST", "/", asks_for("GetRecords"));
    clock.now_ns += 150'000;
    quick->respond(http::HttpResponse::text(200, ""));
    EXPECT_EQ(sample(total("GetRecords", 200)), "1") << "one is not answered yet";
    clock.now_ns += 30'000'000;
    slow->respond(http::HttpResponse::text(200, ""));
    slow.reset();
    quick.reset();
    EXPECT_EQ(sample(total("GetRecords", 200)), "2") << "each once";
    EXPECT_EQ(sample(bucket("GetRecords", "1e-04")), "0");
    EXPECT_EQ(sample(bucket("GetRecords", "2e-04")), "1");
    EXPECT_EQ(sample(bucket("GetRecords", "0.02")), "1");
    EXPECT_EQ(sample(bucket("GetRecords", "0.05")), "2");
    EXPECT_EQ(sample("penstock_http_request_seconds_count{operation=\"GetRecords\"}"), "2");
    EXPECT_EQ(sample("penstock_http_request_seconds_sum{operation=\"GetRecords\"}"), "0.0303");
}

TEST_F(RequestMetrics, AnExchangeDroppedWithoutAnAnswerCountsAsItsError) {
    begin(first, "POST", "/", asks_for("PutRecords")).reset();
    EXPECT_EQ(sample(total("PutRecords", 500)), "1");
    EXPECT_EQ(sent, 1);
}

}  // namespace
}  // namespace penstock
