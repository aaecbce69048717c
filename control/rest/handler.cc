#include "control/rest/handler.h"

#include <simdjson.h>

#include <algorithm>

#include "control/auth/credentials_page.h"
#include "storage/base/check.h"

namespace penstock::rest {

namespace {

using kinesis::Operation;

// As AWS' REST services answer; the Kinesis API says 400.
constexpr int forbidden_status = 403;
constexpr int created_status = 201;
// Headers of ours that say more about a request than its body, for the operation to read.
constexpr std::string_view own_headers = "x-penstock-";
// More than a stream may have, and as many as can be asked for.
constexpr std::string_view consumers_per_page = "10000";

// Keeps the answer of an operation that is answered at once.
class Kept final : public http::ResponseSink {
public:
    std::optional<Answer> answer;

private:
    void respond(http::ConnectionId, http::StreamId, http::HttpResponse&& response) override {
        answer = Answer{response.status, std::move(response.body)};
    }
    [[nodiscard]] bool is_open(http::ConnectionId) const noexcept override { return true; }
};

// As a connection answers a body that it has no memory for.
Answer no_memory() {
    return {unavailable_status,
            R"({"__type":"InternalFailure",)"
            R"("message":"There is no memory for another request body: try again later."})"};
}

bool wants_lines(const http::HttpRequest& request) noexcept {
    return request.header("accept").find(lines_type) != std::string_view::npos;
}

http::HttpResponse not_there(const Mismatch& mismatch, const http::HttpRequest& request) {
    if (!mismatch.path_is_known) {
        return auth::json_error(404, "UnknownOperationException",
                                "There is no such page; /v1/openapi.json describes those there "
                                "are.");
    }
    http::HttpResponse response =
        auth::json_error(405, "UnknownOperationException",
                         "Found " + std::string(request.method) + ", expected " + mismatch.allow);
    response.headers.emplace_back("Allow", mismatch.allow);
    return response;
}

}  // namespace

RestHandler::RestHandler(kinesis::KinesisHandler& kinesis, auth::Gate* gate, RestOptions options)
    : kinesis_(kinesis), gate_(gate), options_(std::move(options)) {}

void RestHandler::respond(http::ConnectionId, http::StreamId stream,
                          http::HttpResponse&& response) {
    auto node = waiting_.extract(static_cast<std::uint64_t>(stream));
    if (!node.empty()) {
        node.mapped().then(Answer{response.status, std::move(response.body)});
    }
}

bool RestHandler::is_open(http::ConnectionId connection) const noexcept {
    return std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& waiting) {
        const http::HttpExchange& exchange = *waiting.second.call->exchange;
        return exchange.connection() == connection && exchange.is_open();
    });
}

void RestHandler::handle(std::unique_ptr<http::HttpExchange> exchange) {
    auto call = std::make_shared<Call>();
    call->exchange = std::move(exchange);
    if (!admit(*call)) {
        return;
    }
    const http::HttpRequest& request = call->exchange->request();
    auto found = match(request.method, request.path);
    if (!found) {
        return call->exchange->respond(not_there(found.error(), request));
    }
    call->match = std::move(*found);
    auto query = http::read_query(request.query);
    if (!query) {
        return call->exchange->respond(bad_request(query.error()));
    }
    call->query = std::move(*query);
    run(call);
}

bool RestHandler::admit(Call& call) const {
    if (gate_ == nullptr) {
        call.caller.region = options_.region;
        return true;
    }
    auto caller = gate_->check(call.exchange->request());
    if (!caller) {
        call.exchange->respond(
            auth::json_error(forbidden_status, caller.error().exception(), caller.error().message));
        return false;
    }
    call.caller = std::move(*caller);
    return true;
}

std::unique_ptr<http::HttpExchange> RestHandler::inner_exchange(http::ResponseSink& sink,
                                                                http::StreamId id, const Call& call,
                                                                const std::string& input) {
    std::vector<std::pair<std::string, std::string>> headers;
    for (const http::HeaderField& field : call.exchange->request().headers) {
        if (http::equals_ignoring_case(field.name.substr(0, own_headers.size()), own_headers)) {
            headers.emplace_back(field.name, field.value);
        }
    }
    auto request = http::HttpRequest::make("POST", "/", headers, input,
                                           call.exchange->request().body_budget());
    return request == nullptr ? nullptr
                              : std::make_unique<http::HttpExchange>(
                                    sink, call.exchange->connection(), id, std::move(request));
}

Answer RestHandler::ask(const Call& call, Operation operation, const std::string& input) {
    Kept kept;
    auto inner = inner_exchange(kept, http::StreamId{}, call, input);
    if (inner == nullptr) {
        return no_memory();
    }
    kinesis_.run(operation, std::move(inner), call.caller);
    PENSTOCK_CHECK(kept.answer);  // an operation that waits for a lane is for ask_lanes()
    return std::move(*kept.answer);
}

void RestHandler::ask_lanes(const CallPtr& call, Operation operation, const std::string& input,
                            Then then) {
    const std::uint64_t id = next_id_++;
    auto inner = inner_exchange(*this, http::StreamId{id}, *call, input);
    if (inner == nullptr) {
        return then(no_memory());
    }
    waiting_.emplace(id, Waiting{call, std::move(then)});
    kinesis_.run(operation, std::move(inner), call->caller);
}

std::string RestHandler::arn_of(std::string_view stream) const {
    return "arn:aws:kinesis:" + options_.region + ":" + options_.account + ":stream/" +
           std::string(stream);
}

Read<Members> RestHandler::read_members(const Call& call) const {
    Members members;
    const Route& route = *call.match.route;
    for (std::size_t i = 0; i < route.path_fields.size(); ++i) {
        const Field& field = route.path_fields[i];
        auto json = to_json(
            field, field.member == "StreamARN" ? arn_of(call.match.parts[i]) : call.match.parts[i]);
        if (!json) {
            return std::unexpected(std::move(json.error()));
        }
        members.add(field.member, std::move(*json));
    }
    if (auto read = read_parameters(route, call.query, members); !read) {
        return std::unexpected(std::move(read.error()));
    }
    // A list of records is read apart.
    if (route.action == Action::put) {
        return members;
    }
    if (auto read = read_body(route, call.exchange->request().body(), members); !read) {
        return std::unexpected(std::move(read.error()));
    }
    return members;
}

void RestHandler::run(const CallPtr& call) {
    switch (call->match.route->action) {
        case Action::simple:
            return run_simple(*call);
        case Action::change_retention:
            return change_retention(*call);
        case Action::list_all_consumers:
            return list_all_consumers(*call);
        case Action::put:
            return put(call);
        case Action::get_records:
            return get_records(call);
    }
}

void RestHandler::run_simple(Call& call) {
    const auto members = read_members(call);
    if (!members) {
        return call.exchange->respond(bad_request(members.error()));
    }
    if (call.match.route->operation == Operation::update_shard_count) {
        Members scaling = *members;
        scaling.add_text("ScalingType", "UNIFORM_SCALING");  // there is no other
        return call.exchange->respond(
            response_of(call.asked(), ask(call, call.match.route->operation, scaling.json())));
    }
    const Answer answer = ask(call, call.match.route->operation, members->json());
    http::HttpResponse response = response_of(call.asked(), answer);
    if (response.status == created_status) {
        const std::string input = members->json();
        std::string name = text_member(input, "ConsumerName");
        if (name.empty()) {
            name = text_member(input, "StreamName");
        }
        response.headers.emplace_back("Location", std::string(call.exchange->request().path) + "/" +
                                                      http::encode_percent(name));
    }
    call.exchange->respond(std::move(response));
}

// One of the two operations refuses the number, as it is the other's. Which one is known only to
// whoever may do it, so both are asked for.
void RestHandler::change_retention(Call& call) {
    const auto members = read_members(call);
    if (!members) {
        return call.exchange->respond(bad_request(members.error()));
    }
    const std::string input = members->json();
    Answer answer = ask(call, Operation::increase_retention, input);
    const std::string first = answer.type();
    if (first == "InvalidArgumentException" || first == "AccessDeniedException") {
        Answer second = ask(call, Operation::decrease_retention, input);
        // Whoever may do neither hears of the first.
        if (first != "AccessDeniedException" || second.type() != first) {
            answer = std::move(second);
        }
    }
    call.exchange->respond(response_of(call.asked(), answer));
}

void RestHandler::list_all_consumers(Call& call) {
    const auto members = read_members(call);
    if (!members) {
        return call.exchange->respond(bad_request(members.error()));
    }
    const Answer streams = ask(call, Operation::list_streams, members->json());
    if (!streams.ok()) {
        return call.exchange->respond(error_of(streams));
    }
    const std::optional<StreamPage> page = read_streams(streams);
    if (!page) {
        return call.exchange->respond(broken());
    }
    std::string body = "{\"consumers\":[";
    for (const std::string& stream : page->names) {
        Members wanted;
        wanted.add_text("StreamARN", arn_of(stream));
        wanted.add("MaxResults", std::string(consumers_per_page));
        const Answer answer = ask(call, Operation::list_consumers, wanted.json());
        if (answer.ok()) {
            if (!append_consumers(body, answer, stream)) {
                return call.exchange->respond(broken());
            }
        } else if (answer.type() != "AccessDeniedException" &&
                   answer.type() != "ResourceNotFoundException") {
            return call.exchange->respond(error_of(answer));
        }
    }
    body += "]";
    if (page->has_more) {
        body += ",\"next\":\"" +
                link(call.asked(), "exclusive_start_stream_name", page->names.back()) + "\"";
    }
    http::HttpResponse response;
    response.content_type = json_type;
    response.body = body + "}\n";
    call.exchange->respond(std::move(response));
}

void RestHandler::put(const CallPtr& call) {
    const http::HttpRequest& request = call->exchange->request();
    auto members = read_members(*call);
    Placing placing;
    if (const std::string* key = http::find(call->query, "partition_key")) {
        placing.partition_key = *key;
    } else if (request.has_header(partition_key_header)) {
        placing.partition_key = request.header(partition_key_header);
    }
    // Parameters were looked at as they were read.
    if (placing.partition_key && !simdjson::validate_utf8(*placing.partition_key)) {
        return call->exchange->respond(
            bad_request(std::string(partition_key_header) + ": expected UTF-8"));
    }
    if (const std::string* hash = http::find(call->query, "explicit_hash_key")) {
        placing.explicit_hash_key = *hash;
    }
    const bool one = puts_one(request);
    const bool lines = content_type_of(request) == lines_type;
    if (placing.explicit_hash_key && !placing.partition_key && !one) {
        return call->exchange->respond(bad_request(
            "explicit_hash_key: found in the query without partition_key; a list has it in each "
            "record"));
    }
    auto records = !members ? Read<std::string>(std::unexpected(std::move(members.error())))
                   : one    ? one_record(request.body(), placing)
                   : lines  ? lines_of_records(request.body(), placing)
                            : listed_records(request.body());
    if (!records) {
        return call->exchange->respond(bad_request(records.error()));
    }
    std::string input = members->json();
    input.pop_back();
    input += one ? "," + *records : ",\"Records\":[" + *records + "]";
    input += "}";
    ask_lanes(call, one ? Operation::put_record : Operation::put_records, input,
              [call](const Answer& answer) {
                  call->exchange->respond(response_of(call->asked(), answer));
              });
}

// Where reading begins, as GetShardIterator takes it.
Read<Members> RestHandler::read_place(const Call& call) const {
    const std::string* shard = http::find(call.query, "shard_id");
    const std::string* type = http::find(call.query, "shard_iterator_type");
    const std::string* sequence = http::find(call.query, "sequence_number");
    const std::string* time = http::find(call.query, "timestamp");
    if (shard == nullptr) {
        return std::unexpected("shard_id: not given; expected the id of a shard, see " +
                               std::string(call.exchange->request().path.substr(
                                   0, call.exchange->request().path.rfind('/'))) +
                               "/shards");
    }
    Members place;
    place.add_text("StreamName", call.match.parts[0]);
    place.add_text("ShardId", *shard);
    place.add_text("ShardIteratorType", type != nullptr       ? std::string_view(*type)
                                        : sequence != nullptr ? "AFTER_SEQUENCE_NUMBER"
                                        : time != nullptr     ? "AT_TIMESTAMP"
                                                              : "TRIM_HORIZON");
    if (sequence != nullptr) {
        place.add_text("StartingSequenceNumber", *sequence);
    }
    if (time != nullptr) {
        constexpr Field field{"timestamp", "Timestamp", Kind::time};
        auto json = to_json(field, *time);
        if (!json) {
            return std::unexpected(std::move(json.error()));
        }
        place.add("Timestamp", std::move(*json));
    }
    return place;
}

void RestHandler::get_records(const CallPtr& call) {
    if (const auto members = read_members(*call); !members) {
        return call->exchange->respond(bad_request(members.error()));
    }
    if (const std::string* iterator = http::find(call->query, "shard_iterator")) {
        for (const auto& [name, text] : call->query) {
            if (name != "shard_iterator" && name != "limit") {
                return call->exchange->respond(bad_request(
                    name + ": found beside shard_iterator, which says where to read already"));
            }
        }
        return read_from(call, iterator_from_link(*iterator));
    }
    const auto place = read_place(*call);
    if (!place) {
        return call->exchange->respond(bad_request(place.error()));
    }
    ask_lanes(call, Operation::get_shard_iterator, place->json(),
              [this, call](const Answer& answer) {
                  if (!answer.ok()) {
                      return call->exchange->respond(error_of(answer));
                  }
                  read_from(call, text_member(answer.body, "ShardIterator"));
              });
}

void RestHandler::read_from(const CallPtr& call, std::string_view iterator) {
    Members input;
    input.add_text("ShardIterator", iterator);
    // So that the iterator is refused under another stream's path.
    input.add_text("StreamARN", arn_of(call->match.parts[0]));
    if (const std::string* limit = http::find(call->query, "limit")) {
        input.add("Limit", *limit);
    }
    ask_lanes(call, Operation::get_records, input.json(), [call](const Answer& answer) {
        call->exchange->respond(wants_lines(call->exchange->request())
                                    ? lines_of(call->asked(), answer)
                                    : response_of(call->asked(), answer));
    });
}

}  // namespace penstock::rest
