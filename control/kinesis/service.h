// The Kinesis API over HTTP: one handler per control thread.
//
// Runs on: the control thread it was made on.
// Allocates: per request from pools that are kept.
// Guarantees: every request is answered once. What lanes hold of a request outlives the request's
// client, its deadline and its answer.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/auth/gate.h"
#include "control/http/loop.h"
#include "control/http/server.h"
#include "control/keys/stream_crypt.h"
#include "control/kinesis/fan_out/subscription_table.h"
#include "control/kinesis/lane_client.h"
#include "control/kinesis/operations/operations.h"
#include "control/kinesis/operations/token.h"
#include "control/kinesis/records/record_source.h"
#include "control/kinesis/reply/request_ids.h"
#include "control/kinesis/stream/shard_quota.h"
#include "control/kinesis/stream/stream_store.h"
#include "storage/base/clock.h"

namespace penstock::kinesis {

struct FanOutOptions {
    std::uint64_t life_ms = 300'000;            // of a subscription
    std::uint64_t quiet_ms_max = 4'700;         // without an event; Kinesis promises one every 5 s
    std::uint64_t takeover_ms = 5'000;          // from when on a second subscription ends the first
    std::uint64_t look_ms = 200;                // between two looks at these times
    std::uint64_t rate_bytes_per_s = 2U << 20;  // of a consumer and shard; 0: as fast as it goes
    std::size_t subscriptions_max = 4096;       // of one control thread
    // Data and keys of one event; a larger record comes alone.
    std::size_t event_bytes_max = 1U << 20;
    // Events of one control thread that wait for their clients; past it they are made as small as
    // `event_bytes_tight`, and a subscriber that falls behind keeps nothing but its place.
    std::size_t held_bytes_max = 256U << 20;
    std::size_t event_bytes_tight = 64U << 10;
    // Events that wait for one client who reads more slowly than they come.
    std::size_t queued_bytes_max = 256U << 10;
};

struct ServiceOptions {
    std::string account = "000000000000";
    // The regions that are served. Streams of the first are meant where a request names none, or,
    // in a node whose requests are unsigned, one that is not served.
    std::vector<std::string> regions{"us-east-1"};
    AckLevel ack_level = AckLevel::quorum;
    // Of PROVISIONED streams' shards; null: unlimited. Must outlive the handler.
    ShardQuotas* quotas = nullptr;
    // Of operations; null: unlimited. Must outlive the handler.
    RateLimits* rates = nullptr;
    // After this a put whose commit is not known is answered InternalFailure.
    std::uint64_t commit_deadline_ms = 30'000;
    // Requests of one control thread with the lanes at once; a power of two.
    std::size_t lane_requests_max = 4096;
    std::size_t consumers_max = 20;  // of a stream
    FanOutOptions fan_out;
    // Shared by the handlers of a node.
    std::shared_ptr<SubscriptionTable> subscriptions = std::make_shared<SubscriptionTable>();
};

// The operation a request names; nothing for what this server does not have. Whether the request is
// fit for it is another matter.
[[nodiscard]] std::optional<Operation> operation_of(const http::HttpRequest& request) noexcept;

class FanOut;
class PutCall;
class ReadCall;

// Who keeps the calls of one control thread.
class CallOwner {
public:
    virtual ~CallOwner() = default;
    // The call can be used again; it may be gone when this returns.
    virtual void idle(PutCall& call) = 0;
    virtual void done(ReadCall& call) = 0;
};

// What calls of one control thread share.
struct ServiceContext {
    CallOwner& owner;
    StreamStore& streams;
    Clock& clock;
    const ServiceOptions& options;
    const TokenSealer& sealer;
    LaneClient& lanes;
    RecordSource& records;
    simdjson::ondemand::parser& parser;
    http::LoopThread& loop;
    auth::Gate* gate;  // null: requests are not signed
    keys::RecordOpener& opener;
};

// The answer to one request: how it is headed, and where it goes.
class Reply {
public:
    Reply(std::unique_ptr<http::HttpExchange> exchange, std::string request_id,
          std::string extended_id, Dialect dialect = Dialect::json);
    // Who asked, and the region of the answer.
    void set_caller(auth::Caller caller) { caller_ = std::move(caller); }
    // With no body: operations without a result.
    void send(std::string body = {});
    void send(const ApiError& error);
    // Messages of an event stream, made over time.
    void send_events(std::unique_ptr<http::BodyStream> events);
    // For the body of send_events(); outlives the reply.
    [[nodiscard]] http::BodyWaker waker() const noexcept { return exchange_->waker(); }
    [[nodiscard]] const http::HttpRequest& request() const { return exchange_->request(); }
    [[nodiscard]] EncodedBody body() const { return {request().body(), dialect_}; }
    // What the request is written in, and the answer is to be.
    [[nodiscard]] Dialect dialect() const noexcept { return dialect_; }
    [[nodiscard]] const std::string& region() const noexcept { return caller_.region; }
    [[nodiscard]] const auth::Caller* caller() const noexcept { return &caller_; }

private:
    void respond(int status, std::string body);
    void add_ids(http::HttpResponse& response);
    std::unique_ptr<http::HttpExchange> exchange_;
    std::string request_id_;
    std::string extended_id_;
    Dialect dialect_;
    auth::Caller caller_;
};

class KinesisHandler final : public http::HttpHandler, private CallOwner {
public:
    // All that is referred to must outlive the handler; the lanes must answer until it is gone.
    // Without a gate requests are not signed, and whoever reaches the handler may do everything.
    KinesisHandler(http::LoopThread& loop, StreamStore& streams, ShardService& lanes, Clock& clock,
                   const RecordSourceFactory& record_sources, ServiceOptions options,
                   auth::Gate* gate = nullptr);
    ~KinesisHandler() override;

    void handle(std::unique_ptr<http::HttpExchange> exchange) override;
    // One operation for somebody who is known already; the exchange's body is its input as
    // JSON 1.1, whatever its headers say. Where requests are not signed, the caller is only a
    // region.
    void run(Operation operation, std::unique_ptr<http::HttpExchange> exchange,
             auth::Caller caller);
    void stopping() override;

private:
    void idle(PutCall& call) override;
    void done(ReadCall& call) override;
    void answer_preflight(http::HttpExchange& exchange);
    [[nodiscard]] bool answer_misfit(http::HttpExchange& exchange, std::string_view type);
    void run_operation(Operation operation, std::unique_ptr<Reply> reply);
    [[nodiscard]] ApiStatus run_at_once(Operation operation, const InputSource& source,
                                        const OperationContext& context, ReplyWriter& writer);
    void start_put(std::unique_ptr<Reply> reply, bool many);
    void start_read(std::unique_ptr<Reply> reply, bool records);
    void check_deadlines();

    const ServiceOptions options_;
    Clock& clock_;
    http::LoopThread& loop_;
    StreamStore& streams_;
    auth::Gate* gate_;
    TokenSealer sealer_;
    simdjson::ondemand::parser parser_;
    Arena arena_;
    std::unique_ptr<RecordSource> records_;
    keys::RecordOpener opener_;
    RequestIds ids_;
    http::TimerId deadline_timer_{};
    std::unordered_map<PutCall*, std::unique_ptr<PutCall>> puts_;
    std::vector<std::unique_ptr<PutCall>> idle_puts_;
    std::unordered_map<ReadCall*, std::unique_ptr<ReadCall>> reads_;
    // Last, so that it is destroyed first: its destructor waits for the calls above.
    std::unique_ptr<LaneClient> lanes_;
    std::unique_ptr<ServiceContext> context_;
    std::unique_ptr<FanOut> fan_out_;
};

}  // namespace penstock::kinesis
