// REST: /v1/streams and /v1/consumers, plain JSON for people with curl, carried out by the
// operations of the Kinesis API (docs/operations/rest.md).
//
// Runs on: the control thread it was made on.
// Allocates: per request.
// Guarantees: whoever may not do an operation cannot do it here either, and is told the same.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "control/auth/gate.h"
#include "control/http/server.h"
#include "control/kinesis/service.h"
#include "control/rest/answer.h"
#include "control/rest/members.h"
#include "control/rest/route.h"

namespace penstock::rest {

struct RestOptions {
    std::string account = "000000000000";
    std::string region = "us-east-1";
};

class RestHandler final : private http::ResponseSink {
public:
    // Must outlive `kinesis`, whose answers come here until it is gone. Without a gate requests
    // are not signed.
    RestHandler(kinesis::KinesisHandler& kinesis, auth::Gate* gate, RestOptions options);

    // For a path that is_ours().
    void handle(std::unique_ptr<http::HttpExchange> exchange);

private:
    // One request, until it is answered.
    struct Call {
        std::unique_ptr<http::HttpExchange> exchange;
        Match match;
        http::Texts query;
        auth::Caller caller;
        [[nodiscard]] Asked asked() const {
            return {*match.route, exchange->request().path, query};
        }
    };
    using CallPtr = std::shared_ptr<Call>;
    using Then = std::function<void(const Answer&)>;
    struct Waiting {
        CallPtr call;
        Then then;
    };

    void respond(http::ConnectionId connection, http::StreamId stream,
                 http::HttpResponse&& response) override;
    [[nodiscard]] bool is_open(http::ConnectionId connection) const noexcept override;

    // Who asks; nothing when he was refused, and told so.
    [[nodiscard]] bool admit(Call& call) const;
    // Runs an operation that is answered at once.
    [[nodiscard]] Answer ask(const Call& call, kinesis::Operation operation,
                             const std::string& input);
    // Runs any operation; `then` is called on this thread, perhaps before this returns.
    void ask_lanes(const CallPtr& call, kinesis::Operation operation, const std::string& input,
                   Then then);
    // Its body, made of the caller's and somewhat larger, is charged where that is; null when there
    // is no room for it.
    [[nodiscard]] std::unique_ptr<http::HttpExchange> inner_exchange(http::ResponseSink& sink,
                                                                     http::StreamId id,
                                                                     const Call& call,
                                                                     const std::string& input);

    [[nodiscard]] std::string arn_of(std::string_view stream) const;
    // The members that the path, the query and the body give; the error is a line for people.
    [[nodiscard]] Read<Members> read_members(const Call& call) const;
    void run(const CallPtr& call);
    void run_simple(Call& call);
    void change_retention(Call& call);
    void list_all_consumers(Call& call);
    void put(const CallPtr& call);
    void get_records(const CallPtr& call);
    [[nodiscard]] Read<Members> read_place(const Call& call) const;
    void read_from(const CallPtr& call, std::string_view iterator);

    kinesis::KinesisHandler& kinesis_;
    auth::Gate* gate_;
    const RestOptions options_;
    std::unordered_map<std::uint64_t, Waiting> waiting_;
    std::uint64_t next_id_ = 1;
};

}  // namespace penstock::rest
