// A whole Kinesis handler over lanes and a catalog in memory.
#pragma once

#include <nlohmann/json.hpp>

#include <chrono>

#include <gtest/gtest.h>

#include "control/catalog/embedded_catalog.h"
#include "control/kinesis/input/base64.h"
#include "control/kinesis/service.h"
#include "control/kinesis/stream/shard_id.h"
#include "tests/unit/control/kinesis/memory_lane.h"
#include "tests/unit/control/kinesis/memory_log.h"

namespace penstock::kinesis {

class ApiTest : public ::testing::Test, private http::ResponseSink {
protected:
    struct Answer {
        int status = 0;
        std::string body;
        std::string content_type;
        std::map<std::string, std::string> headers;
        nlohmann::json json;
        [[nodiscard]] std::string type() const {
            return json.is_object() && json.contains("__type") ? json["__type"].get<std::string>()
                                                               : "";
        }
        [[nodiscard]] std::string message() const {
            return json.is_object() && json.contains("message") ? json["message"].get<std::string>()
                                                                : "";
        }
    };

    ApiTest() { open(); }
    ~ApiTest() override {
        close();
        EXPECT_EQ(lanes.bugs, 0);
        EXPECT_EQ(lanes.leases(), 0);
    }

    virtual void on_resume(std::uint64_t /*id*/) {}

    void open(ServiceOptions options = {}) {
        auto opened_catalog = EmbeddedCatalog::open(log, clock);
        ASSERT_TRUE(opened_catalog);
        catalog = std::move(*opened_catalog);
        StreamStoreOptions store_options;
        store_options.retry_ms = 5;
        store_options.shards_max = 5000;
        store_options.keys = &key_store;
        store_options.publish = [this](std::unique_ptr<const RouteTable> table) {
            const std::lock_guard lock(routes_mutex);
            routes = std::move(table);
        };
        auto opened_store = StreamStore::open(*catalog, lanes, clock, std::move(store_options));
        ASSERT_TRUE(opened_store);
        store = std::move(*opened_store);
        auto opened_loop = http::LoopThread::open();
        ASSERT_TRUE(opened_loop);
        loop = std::move(*opened_loop);
        handler = std::make_unique<KinesisHandler>(
            *loop, *store, lanes, clock,
            [this] {
                auto made = std::make_unique<MemoryRecordSource>(lanes);
                source = made.get();
                return made;
            },
            std::move(options));
    }
    void close() {
        handler.reset();
        loop.reset();
        store.reset();
        catalog.reset();
    }

    using Headers = std::vector<std::pair<std::string, std::string>>;

    // Hands the request in; wait() gives its answer.
    std::uint64_t send(std::string_view operation, std::string_view body, Headers more = {}) {
        Headers headers = {{"Content-Type", "application/x-amz-json-1.1"},
                           {"X-Amz-Target", "Kinesis_20131202." + std::string(operation)}};
        headers.insert(headers.end(), more.begin(), more.end());
        return send_raw("POST", headers, body);
    }
    std::uint64_t send_raw(std::string_view method, const Headers& headers, std::string_view body) {
        auto [id, exchange] = new_exchange(method, "/", headers, body);
        handler->handle(std::move(exchange));
        return id;
    }
    // For another handler to answer; wait() gives that.
    std::pair<std::uint64_t, std::unique_ptr<http::HttpExchange>> new_exchange(
        std::string_view method, std::string_view target, const Headers& headers,
        std::string_view body, const std::shared_ptr<http::BodyBudget>& budget = nullptr) {
        const std::uint64_t id = next_id_++;
        return {id, std::make_unique<http::HttpExchange>(
                        static_cast<http::ResponseSink&>(*this), http::ConnectionId{1},
                        http::StreamId{id},
                        http::HttpRequest::make(method, target, headers, body, budget))};
    }
    Answer wait(std::uint64_t id) {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!answers_.contains(id) && std::chrono::steady_clock::now() < give_up) {
            loop->run_once(10);
        }
        Answer answer;
        if (!answers_.contains(id)) {
            ADD_FAILURE() << "no answer";
            return answer;
        }
        http::HttpResponse& response = answers_[id];
        answer.status = response.status;
        answer.body = std::move(response.body);
        answer.content_type = response.content_type;
        answer.headers.insert(response.headers.begin(), response.headers.end());
        if (answer.body.starts_with('{') && answer.content_type != "application/x-ndjson") {
            answer.json = nlohmann::json::parse(answer.body, nullptr, false);
            EXPECT_FALSE(answer.json.is_discarded()) << answer.body.substr(0, 2000);
        }
        answers_.erase(id);
        return answer;
    }
    Answer call(std::string_view operation, std::string_view body, Headers more = {}) {
        return wait(send(operation, body, std::move(more)));
    }
    // The body of an answer that is made over time; null, and the answer stays, if it is none.
    std::unique_ptr<http::BodyStream> take_stream(std::uint64_t id) {
        const auto found = answers_.find(id);
        if (found == answers_.end() || !found->second.stream) {
            return nullptr;
        }
        auto stream = std::move(found->second.stream);
        answers_.erase(found);
        return stream;
    }
    [[nodiscard]] bool is_answered(std::uint64_t id) const { return answers_.contains(id); }

    void settle() {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!store->settled()) {
            ASSERT_LT(std::chrono::steady_clock::now(), give_up);
            loop->run_once(1);
        }
    }
    void make_stream(const std::string& name, int shards) {
        ASSERT_EQ(call("CreateStream", R"({"StreamName":")" + name + R"(","ShardCount":)" +
                                           std::to_string(shards) + "}")
                      .status,
                  200);
        settle();
        ASSERT_TRUE(store->find(name)->takes_records());
    }
    static std::string base64(std::string_view text) {
        std::string out;
        base64_append(out, as_bytes(text));
        return out;
    }
    Answer put(const std::string& stream, std::string_view data, const std::string& key = "k") {
        return call("PutRecord", R"({"StreamName":")" + stream + R"(","Data":")" + base64(data) +
                                     R"(","PartitionKey":")" + key + "\"}");
    }
    std::string iterator(const std::string& stream, const std::string& rest,
                         const std::string& shard = "shardId-000000000000") {
        const Answer answer =
            call("GetShardIterator",
                 R"({"StreamName":")" + stream + R"(","ShardId":")" + shard + R"(",)" + rest + "}");
        EXPECT_EQ(answer.status, 200) << answer.body.substr(0, 2000);
        return answer.status == 200 ? answer.json["ShardIterator"].get<std::string>() : "";
    }
    Answer get(const std::string& token, const std::string& rest = "") {
        return call("GetRecords", R"({"ShardIterator":")" + token + "\"" + rest + "}");
    }
    static std::vector<std::string> data_of(const Answer& answer) {
        std::vector<std::string> all;
        for (const auto& record : answer.json["Records"]) {
            const std::string text = record["Data"].get<std::string>();
            std::vector<std::byte> bytes(base64_decoded_size_max(text.size()) +
                                         base64_decode_slack);
            const auto size = base64_decode(text, bytes.data());
            all.emplace_back(as_text(Bytes(bytes).first(size.value_or(0))));
        }
        return all;
    }
    static std::string next_of(const Answer& answer) {
        return answer.json.contains("NextShardIterator")
                   ? answer.json["NextShardIterator"].get<std::string>()
                   : "";
    }

    ManualClock clock;
    MemoryLog log;
    MemoryLanes lanes{clock, 2, 4};
    keys::KeyStore key_store;  // without a keys file
    std::unique_ptr<EmbeddedCatalog> catalog;
    std::unique_ptr<StreamStore> store;
    std::unique_ptr<http::LoopThread> loop;
    std::unique_ptr<KinesisHandler> handler;
    MemoryRecordSource* source = nullptr;
    std::mutex routes_mutex;
    std::unique_ptr<const RouteTable> routes;

private:
    void respond(http::ConnectionId, http::StreamId stream,
                 http::HttpResponse&& response) override {
        const auto id = static_cast<std::uint64_t>(stream);
        EXPECT_FALSE(answers_.contains(id));
        answers_[id] = std::move(response);
    }
    bool is_open(http::ConnectionId) const noexcept override { return true; }
    void resume(http::ConnectionId, http::StreamId stream) override {
        on_resume(static_cast<std::uint64_t>(stream));
    }

    std::map<std::uint64_t, http::HttpResponse> answers_;
    std::uint64_t next_id_ = 1;
};

}  // namespace penstock::kinesis
