#include "control/kinesis/service.h"

#include <algorithm>

#include "control/kinesis/fan_out/fan_out.h"
#include "control/kinesis/input/input_value.h"
#include "control/kinesis/operations/encryption.h"
#include "control/kinesis/operations/settings.h"
#include "control/kinesis/records/put_call.h"
#include "control/kinesis/records/read_call.h"

namespace penstock::kinesis {

namespace {

constexpr std::string_view event_stream_type = "application/vnd.amazon.eventstream";
constexpr std::string_view target_prefix = "Kinesis_20131202.";
constexpr std::uint64_t deadline_check_ms = 250;
constexpr std::size_t idle_puts_max = 64;
constexpr std::size_t arena_keep_bytes = 64U << 10;

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
        text.remove_suffix(1);
    }
    return text;
}

// "AWS4-HMAC-SHA256 Credential=KEY/20260101/eu-west-1/kinesis/aws4_request, …": the region, if it
// looks like one.
std::string region_of(std::string_view authorization, const std::string& otherwise) {
    const std::size_t at = authorization.find("Credential=");
    if (at == std::string_view::npos) {
        return otherwise;
    }
    std::string_view scope = authorization.substr(at, authorization.find(',', at) - at);
    for (int part = 0; part < 2; ++part) {
        const std::size_t slash = scope.find('/');
        if (slash == std::string_view::npos) {
            return otherwise;
        }
        scope.remove_prefix(slash + 1);
    }
    const std::string_view region = scope.substr(0, scope.find('/'));
    const bool is_sound = !region.empty() && region.size() <= 32 &&
                          std::all_of(region.begin(), region.end(), [](char c) {
                              return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
                          });
    return is_sound ? std::string(region) : otherwise;
}

// What Kinesis answers to what is no request of its protocol.
http::HttpResponse xml_error(int status, std::string_view type, std::string_view message) {
    http::HttpResponse response;
    response.status = status;
    response.body = "<" + std::string(type);
    if (message.empty()) {
        response.body += "/>\n";
    } else {
        response.body +=
            ">\n  <Message>" + std::string(message) + "</Message>\n</" + std::string(type) + ">\n";
    }
    return response;
}

void add_cors(const http::HttpRequest& request, http::HttpResponse& response) {
    for (auto& header : cors_headers(request)) {
        response.headers.push_back(std::move(header));
    }
}

}  // namespace

std::optional<Operation> operation_of(const http::HttpRequest& request) noexcept {
    const std::string_view target = request.header("x-amz-target");
    return target.starts_with(target_prefix) ? find_operation(target.substr(target_prefix.size()))
                                             : std::nullopt;
}

Reply::Reply(std::unique_ptr<http::HttpExchange> exchange, std::string request_id,
             std::string extended_id, Dialect dialect)
    : exchange_(std::move(exchange)),
      request_id_(std::move(request_id)),
      extended_id_(std::move(extended_id)),
      dialect_(dialect) {}

void Reply::add_ids(http::HttpResponse& response) {
    response.headers.emplace_back("x-amzn-RequestId", std::move(request_id_));
    response.headers.emplace_back("x-amz-id-2", std::move(extended_id_));
}

void Reply::send_events(std::unique_ptr<http::BodyStream> events) {
    http::HttpResponse response;
    response.status = 200;
    response.content_type = event_stream_type;
    add_ids(response);
    response.stream = std::move(events);
    exchange_->respond(std::move(response));
}

void Reply::respond(int status, std::string body) {
    http::HttpResponse response;
    response.status = status;
    response.content_type = content_type_of(dialect_);
    add_ids(response);
    add_cors(request(), response);
    response.body = std::move(body);
    exchange_->respond(std::move(response));
}

void Reply::send(std::string body) {
    respond(200, std::move(body));
}

void Reply::send(const ApiError& error) {
    std::string body;
    with_writer(dialect_, body, [&](auto& writer) {
        writer.begin_object();
        writer.key("__type");
        writer.plain(error.type);
        if (error.has_message) {
            writer.key(error.capital_message ? "Message" : "message");
            writer.text(error.message);
        }
        writer.end_object();
    });
    respond(error.status, std::move(body));
}

KinesisHandler::KinesisHandler(http::LoopThread& loop, StreamStore& streams, ShardService& lanes,
                               Clock& clock, const RecordSourceFactory& record_sources,
                               ServiceOptions options, auth::Gate* gate)
    : options_(std::move(options)),
      clock_(clock),
      loop_(loop),
      streams_(streams),
      gate_(gate),
      sealer_(streams.iterator_key()),
      records_(record_sources()),
      lanes_(std::make_unique<LaneClient>(loop, lanes, options_.lane_requests_max)),
      context_(std::make_unique<ServiceContext>(ServiceContext{*this, streams_, clock_, options_,
                                                               sealer_, *lanes_, *records_, parser_,
                                                               loop_, gate_, opener_})),
      fan_out_(std::make_unique<FanOut>(*context_, lanes)) {
    deadline_timer_ = loop_.run_after(deadline_check_ms, [this] { check_deadlines(); });
}

KinesisHandler::~KinesisHandler() {
    loop_.cancel(deadline_timer_);
    fan_out_.reset();
    lanes_->wait_for_all();
}

void KinesisHandler::stopping() {
    fan_out_->stop();
}

// What a browser asks before a request of another origin, as Kinesis answers it. It lets nobody in:
// what follows is signed as any other request, and where requests are not signed, none with an
// Origin gets here (http::refuse).
void KinesisHandler::answer_preflight(http::HttpExchange& exchange) {
    const http::HttpRequest& request = exchange.request();
    http::HttpResponse response;
    response.headers.emplace_back("x-amzn-RequestId", ids_.request_id());
    response.headers.emplace_back("Access-Control-Allow-Origin", "*");
    for (const auto& [asked, answered] :
         {std::pair{"Access-Control-Request-Headers", "Access-Control-Allow-Headers"},
          std::pair{"Access-Control-Request-Method", "Access-Control-Allow-Methods"}}) {
        if (request.has_header(asked)) {
            response.headers.emplace_back(answered, request.header(asked));
        }
    }
    response.headers.emplace_back("Access-Control-Max-Age", "172800");
    exchange.respond(std::move(response));
}

// What is no request of the protocol, answered as Kinesis does; false for one that is.
bool KinesisHandler::answer_misfit(http::HttpExchange& exchange, std::string_view type) {
    const http::HttpRequest& request = exchange.request();
    const std::string_view target = request.header("x-amz-target");
    const bool is_post = request.method == "POST";
    http::HttpResponse response;
    if (is_post && request.body().empty()) {
        // Without a body whatever isn't JSON is CBOR.
        const Dialect dialect = type == json_content_type ? Dialect::json : Dialect::cbor;
        response.status = 400;
        response.content_type = content_type_of(dialect);
        with_writer(dialect, response.body, [&](auto& writer) {
            writer.begin_object();
            writer.key("__type");
            writer.plain(operation_of(request) ? "SerializationException"
                                               : "UnknownOperationException");
            writer.end_object();
        });
    } else if (is_post && type == "application/json") {
        // An older protocol's envelope, from before there was 1.1: nothing is found there.
        const bool is_sound =
            !read_body(parser_, arena_, request.body(), [](std::string_view, InputValue) {});
        arena_.clear(arena_keep_bytes);
        response.content_type = "application/json";
        response.body = is_sound ? R"({"Output":{"__type":"com.amazon.coral.service#)"
                                   R"(UnknownOperationException","message":null},"Version":"1.0"})"
                                 : R"({"Output":{"__type":"com.amazon.coral.service#)"
                                   R"(SerializationException","Message":null},"Version":"1.0"})";
    } else if (!is_post || (type != json_content_type && type != cbor_content_type)) {
        response = is_post && target.find('.') != std::string_view::npos
                       ? xml_error(404, "UnknownOperationException", {})
                       : xml_error(403, "AccessDeniedException",
                                   "Unable to determine service/operation name to be authorized");
    } else {
        return false;
    }
    response.headers.emplace_back("x-amzn-RequestId", ids_.request_id());
    response.headers.emplace_back("x-amz-id-2", ids_.extended_id());
    add_cors(request, response);
    exchange.respond(std::move(response));
    return true;
}

void KinesisHandler::handle(std::unique_ptr<http::HttpExchange> exchange) {
    const http::HttpRequest& request = exchange->request();
    if (request.method == "OPTIONS" && request.has_header("Origin")) {
        return answer_preflight(*exchange);
    }
    const std::string_view type_header = request.header("content-type");
    const std::string_view type = trim(type_header.substr(0, type_header.find(';')));
    if (answer_misfit(*exchange, type)) {
        return;
    }
    const auto operation = operation_of(request);
    auto reply = std::make_unique<Reply>(std::move(exchange), ids_.request_id(), ids_.extended_id(),
                                         type == cbor_content_type ? Dialect::cbor : Dialect::json);
    if (!operation) {
        ApiError error{"UnknownOperationException", ""};
        error.has_message = false;
        return reply->send(error);
    }
    if (gate_ == nullptr) {
        reply->set_caller({nullptr, nullptr,
                           region_of(request.header("authorization"), options_.regions.front())});
        return run_operation(*operation, std::move(reply));
    }
    auto caller = gate_->check(request);
    if (!caller) {
        return reply->send(
            ApiError{std::string(caller.error().exception()), std::move(caller.error().message)});
    }
    reply->set_caller(std::move(*caller));
    run_operation(*operation, std::move(reply));
}

void KinesisHandler::run(Operation operation, std::unique_ptr<http::HttpExchange> exchange,
                         auth::Caller caller) {
    auto reply =
        std::make_unique<Reply>(std::move(exchange), ids_.request_id(), ids_.extended_id());
    reply->set_caller(std::move(caller));
    run_operation(operation, std::move(reply));
}

void KinesisHandler::run_operation(Operation operation, std::unique_ptr<Reply> reply) {
    switch (operation) {
        case Operation::put_record:
            return start_put(std::move(reply), false);
        case Operation::put_records:
            return start_put(std::move(reply), true);
        case Operation::get_shard_iterator:
            return start_read(std::move(reply), false);
        case Operation::get_records:
            return start_read(std::move(reply), true);
        case Operation::subscribe_to_shard:
            return fan_out_->subscribe(std::move(reply));
        default:
            break;
    }
    const OperationContext context{streams_,        clock_,
                                   sealer_,         options_.account,
                                   reply->region(), options_.regions,
                                   operation,       reply->caller(),
                                   gate_,           options_.consumers_max,
                                   options_.rates};
    const InputSource source{parser_, arena_, reply->body()};
    std::string body;
    const ApiStatus done = with_writer(source.body.dialect, body, [&](ReplyWriter& writer) {
        return run_at_once(operation, source, context, writer);
    });
    arena_.clear(arena_keep_bytes);
    done ? reply->send(std::move(body)) : reply->send(done.error());
}

namespace {

// Reads the input of one operation and runs it.
template <typename Input, typename Run>
ApiStatus with_input(const InputSource& source, const Run& run) {
    Input input;
    if (auto fault = read_input(source, input)) {
        return std::unexpected(std::move(*fault));
    }
    return run(input);
}

}  // namespace

ApiStatus KinesisHandler::run_at_once(Operation operation, const InputSource& source,
                                      const OperationContext& context, ReplyWriter& writer) {
    if (auto done = run_settings_operation(context, source, writer)) {
        return std::move(*done);
    }
    if (auto done = run_encryption_operation(context, source)) {
        return std::move(*done);
    }
    switch (operation) {
        case Operation::create_stream:
            return with_input<CreateStreamInput>(
                source, [&](const auto& input) { return create_stream(context, input); });
        case Operation::delete_stream:
            return with_input<StreamInput>(
                source, [&](const auto& input) { return delete_stream(context, input); });
        case Operation::increase_retention:
        case Operation::decrease_retention: {
            const bool increase = operation == Operation::increase_retention;
            return with_input<RetentionInput>(source, [&](const auto& input) {
                return change_retention(context, input, increase);
            });
        }
        case Operation::list_streams:
            return with_input<ListStreamsInput>(
                source, [&](const auto& input) { return list_streams(context, input, writer); });
        case Operation::describe_stream:
            return with_input<DescribeStreamInput>(
                source, [&](const auto& input) { return describe_stream(context, input, writer); });
        case Operation::describe_stream_summary:
            return with_input<StreamInput>(source, [&](const auto& input) {
                return describe_stream_summary(context, input, writer);
            });
        case Operation::list_shards:
            return with_input<ListShardsInput>(
                source, [&](const auto& input) { return list_shards(context, input, writer); });
        case Operation::put_resource_policy: {
            ResourcePolicyInput input;
            if (auto fault = read_put_policy(source, input)) {
                return std::unexpected(std::move(*fault));
            }
            return put_resource_policy(context, input);
        }
        case Operation::get_resource_policy:
            return with_input<ResourcePolicyInput>(source, [&](const auto& input) {
                return get_resource_policy(context, input, writer);
            });
        case Operation::delete_resource_policy:
            return with_input<ResourcePolicyInput>(
                source, [&](const auto& input) { return delete_resource_policy(context, input); });
        case Operation::register_consumer:
            return with_input<RegisterConsumerInput>(source, [&](const auto& input) {
                return register_consumer(context, input, writer);
            });
        case Operation::deregister_consumer:
            return with_input<ConsumerInput>(
                source, [&](const auto& input) { return deregister_consumer(context, input); });
        case Operation::describe_consumer:
            return with_input<ConsumerInput>(source, [&](const auto& input) {
                return describe_consumer(context, input, writer);
            });
        case Operation::list_consumers:
            return with_input<ListConsumersInput>(
                source, [&](const auto& input) { return list_consumers(context, input, writer); });
        case Operation::split_shard:
            return with_input<SplitShardInput>(
                source, [&](const auto& input) { return split_shard(context, input); });
        case Operation::merge_shards:
            return with_input<MergeShardsInput>(
                source, [&](const auto& input) { return merge_shards(context, input); });
        case Operation::update_shard_count:
            return with_input<UpdateShardCountInput>(source, [&](const auto& input) {
                return update_shard_count(context, input, writer);
            });
        case Operation::update_stream_mode:
            return with_input<UpdateStreamModeInput>(
                source, [&](const auto& input) { return update_stream_mode(context, input); });
        default:
            break;  // not at once
    }
    return std::unexpected(internal_failure("This operation is answered elsewhere."));
}

void KinesisHandler::start_put(std::unique_ptr<Reply> reply, bool many) {
    std::unique_ptr<PutCall> call;
    if (!idle_puts_.empty()) {
        call = std::move(idle_puts_.back());
        idle_puts_.pop_back();
    } else {
        call = std::make_unique<PutCall>(*context_);
    }
    PutCall& started = *call;
    puts_.emplace(&started, std::move(call));
    started.start(std::move(reply), many);
}

void KinesisHandler::start_read(std::unique_ptr<Reply> reply, bool records) {
    auto call = std::make_unique<ReadCall>(*context_);
    ReadCall& started = *call;
    reads_.emplace(&started, std::move(call));
    records ? started.start_records(std::move(reply)) : started.start_iterator(std::move(reply));
}

void KinesisHandler::idle(PutCall& call) {
    auto node = puts_.extract(&call);
    if (idle_puts_.size() < idle_puts_max) {
        idle_puts_.push_back(std::move(node.mapped()));
    }
}

void KinesisHandler::done(ReadCall& call) {
    reads_.erase(&call);
}

void KinesisHandler::check_deadlines() {
    for (auto& [raw, call] : puts_) {
        call->check_deadline(loop_.now_ms());
    }
    deadline_timer_ = loop_.run_after(deadline_check_ms, [this] { check_deadlines(); });
}

}  // namespace penstock::kinesis
