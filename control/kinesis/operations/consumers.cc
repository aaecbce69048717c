// RegisterStreamConsumer, DeregisterStreamConsumer, DescribeStreamConsumer, ListStreamConsumers:
// who reads a stream by subscription.
#include <algorithm>

#include "control/kinesis/operations/operations.h"
#include "control/kinesis/operations/settings.h"
#include "storage/base/counted.h"

namespace penstock::kinesis {

namespace {

constexpr std::int64_t consumers_per_page = 100;

std::string arn_of(const OperationContext& context, std::string_view stream,
                   std::string_view consumer, std::string_view created_s) {
    std::string arn = context.arn_of(stream);
    arn += "/consumer/";
    arn += consumer;
    arn += ':';
    arn += created_s;
    return arn;
}

std::string arn_of(const OperationContext& context, const Stream& stream,
                   const Consumer& consumer) {
    return arn_of(context, stream.name, consumer.name, std::to_string(consumer.created_ms / 1000));
}

ApiError consumer_not_found(std::string_view consumer, std::string_view stream,
                            std::string_view account) {
    return {"ResourceNotFoundException", "Consumer " + std::string(consumer) + " under stream " +
                                             std::string(stream) + " under account " +
                                             std::string(account) + " not found."};
}

void write_consumer(const OperationContext& context, const Stream& stream, const Consumer& consumer,
                    std::string_view status, ReplyWriter& reply) {
    reply.key("ConsumerName");
    reply.plain(consumer.name);
    reply.key("ConsumerARN");
    reply.plain(arn_of(context, stream, consumer));
    reply.key("ConsumerStatus");
    reply.plain(status);
    reply.key("ConsumerCreationTimestamp");
    reply.timestamp_ms(consumer.created_ms);
}

// What a request names: the parts of an ARN, whether there is such a consumer or not.
struct Named {
    std::string_view account;
    std::string_view stream;
    std::string_view consumer;
    std::string_view created_s;  // empty: by name
};

ApiResult<Named> read_reference(const ConsumerInput& input) {
    std::optional<Named> by_name;
    if (input.stream.arn && input.name) {
        const auto arn = parse_stream_arn(*input.stream.arn);
        if (!arn) {
            return std::unexpected(internal_failure("A StreamARN was checked and is unsound."));
        }
        by_name = Named{arn->account, arn->stream, *input.name, {}};
    } else if (!input.arn || input.stream.arn || input.name) {
        return std::unexpected(invalid_argument(
            "A consumer is named by its ConsumerARN, or by StreamARN and ConsumerName: expected "
            "one of the two."));
    }
    if (!input.arn) {
        return *by_name;
    }
    const auto arn = parse_consumer_arn(*input.arn);
    if (!arn) {
        return std::unexpected(internal_failure("A ConsumerARN was checked and is unsound."));
    }
    if (by_name && (by_name->account != arn->account || by_name->stream != arn->stream ||
                    by_name->consumer != arn->name)) {
        return std::unexpected(invalid_argument(
            "ConsumerARN, StreamARN and ConsumerName must name the same consumer: found " +
            std::string(*input.arn) + ", " + std::string(*input.stream.arn) + " and " +
            std::string(*input.name) + "."));
    }
    return Named{arn->account, arn->stream, arn->name, arn->created_s};
}

// Asks for the consumer's ARN. One that was named without its time is asked for with it if it
// exists, and refused in words that do not tell whether it does.
ApiStatus authorize_consumer(const OperationContext& context, const Named& named,
                             const ConsumerView& view) {
    const Consumer* found = view.consumer;
    if (context.gate == nullptr) {
        return {};
    }
    std::string action = "kinesis:";
    action += operation_names[static_cast<std::size_t>(context.operation)];
    const std::string shown = "arn:aws:kinesis:" + context.region + ":" +
                              std::string(named.account) + ":stream/" + std::string(named.stream) +
                              "/consumer/" + std::string(named.consumer) + ":" +
                              (named.created_s.empty() ? "*" : std::string(named.created_s));
    const std::string asked = named.created_s.empty() && found != nullptr
                                  ? arn_of(context, named.stream, named.consumer,
                                           std::to_string(found->created_ms / 1000))
                                  : shown;
    const auth::Policy* policy = found != nullptr && !is_about_the_policy(context.operation)
                                     ? view.view->resource_policy(*found)
                                     : nullptr;
    auto refusal = context.gate->authorize(*context.caller, action, asked, policy);
    if (!refusal) {
        return {};
    }
    ApiError error{std::string(refusal->exception()), std::move(refusal->message)};
    if (const std::size_t at = error.message.find(asked); at != std::string::npos) {
        error.message.replace(at, asked.size(), shown);
    }
    return std::unexpected(std::move(error));
}

}  // namespace

ApiResult<ConsumerView> resolve_consumer(const OperationContext& context,
                                         const ConsumerInput& input) {
    const auto named = read_reference(input);
    if (!named) {
        return std::unexpected(named.error());
    }
    ConsumerView found;
    const bool is_elsewhere =
        context.is_elsewhere(input.arn ? *input.arn : *input.stream.arn, named->stream);
    if (named->account == context.account && !is_elsewhere) {
        found.view = context.streams.find(context.stored_name(named->stream));
    }
    if (found.view && found.view->stream().status != StreamStatus::deleting) {
        found.consumer = found.view->stream().consumer(named->consumer);
    }
    if (auto allowed = authorize_consumer(context, *named, found); !allowed) {
        return std::unexpected(std::move(allowed.error()));
    }
    const RateLimit* limit = rate_limit_of(context.operation);
    if (limit != nullptr && limit->scope == RateScope::stream) {
        if (auto taken = take_rate(context, named->stream); !taken) {
            return std::unexpected(std::move(taken.error()));
        }
    }
    if (!found.view) {
        return std::unexpected(stream_not_found(named->stream, named->account));
    }
    const bool is_it = found.consumer != nullptr &&
                       (named->created_s.empty() ||
                        named->created_s == std::to_string(found.consumer->created_ms / 1000));
    if (!is_it) {
        return std::unexpected(consumer_not_found(named->consumer, named->stream, context.account));
    }
    return found;
}

ApiResult<ConsumerView> resolve_resource(const OperationContext& context,
                                         const StreamRef& resource) {
    if (resource.arn && parse_consumer_arn(*resource.arn)) {
        ConsumerInput input;
        input.arn = resource.arn;
        return resolve_consumer(context, input);
    }
    auto view = resolve_stream(context, resource);
    if (!view) {
        return std::unexpected(std::move(view.error()));
    }
    return ConsumerView{std::move(*view), nullptr};
}

Status update_consumer(const OperationContext& context, const ConsumerView& found,
                       const std::function<Status(Consumer&)>& edit) {
    const Stream& stream = found.view->stream();
    return context.streams.update(stream.name, [&](Stream& now) -> Status {
        const auto it = std::find_if(
            now.consumers.begin(), now.consumers.end(),
            [&](const Consumer& consumer) { return consumer.number == found.consumer->number; });
        if (now.incarnation != stream.incarnation || it == now.consumers.end()) {
            return fail(Errc::not_found);
        }
        return edit(*it);
    });
}

ApiStatus register_consumer(const OperationContext& context, const RegisterConsumerInput& input,
                            ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    const std::string account(context.account);
    if (auto fault = check_tags(input.tags, *input.name, account)) {
        return std::unexpected(std::move(*fault));
    }
    std::map<std::string, std::string> tags;
    for (const auto& [key, text] : input.tags) {
        tags.emplace(key, text);
    }
    const auto added =
        context.streams.add_consumer(stream.name, *input.name, tags, context.consumers_max);
    if (added) {
        reply.begin_object();
        reply.key("Consumer");
        reply.begin_object();
        // As Kinesis answers it; it is ACTIVE as soon as anybody asks.
        write_consumer(context, stream, *added, "CREATING", reply);
        reply.end_object();
        reply.end_object();
        return {};
    }
    switch (added.error().code) {
        case Errc::already_exists:
            return std::unexpected(ApiError{"ResourceInUseException",
                                            "Consumer " + std::string(*input.name) +
                                                " under stream " + stream.shown() +
                                                " already exists for account " + account + "."});
        case Errc::no_space:
            return std::unexpected(
                ApiError{"LimitExceededException",
                         "Stream " + stream.shown() + " under account " + account + " has " +
                             counted(context.consumers_max, "consumer") +
                             ", which is as many as there may be; deregister one first."});
        default:
            return std::unexpected(stream_failure(context, stream, added.error()));
    }
}

ApiStatus deregister_consumer(const OperationContext& context, const ConsumerInput& input) {
    const auto found = resolve_consumer(context, input);
    if (!found) {
        return std::unexpected(found.error());
    }
    const Stream& stream = found->view->stream();
    const Status done =
        context.streams.remove_consumer(stream.name, stream.incarnation, found->consumer->number);
    if (done) {
        return {};
    }
    return std::unexpected(
        done.error().code == Errc::not_found
            ? consumer_not_found(found->consumer->name, stream.shown(), context.account)
            : catalog_failure(done.error()));
}

ApiStatus describe_consumer(const OperationContext& context, const ConsumerInput& input,
                            ReplyWriter& reply) {
    const auto found = resolve_consumer(context, input);
    if (!found) {
        return std::unexpected(found.error());
    }
    const Stream& stream = found->view->stream();
    reply.begin_object();
    reply.key("ConsumerDescription");
    reply.begin_object();
    write_consumer(context, stream, *found->consumer, "ACTIVE", reply);
    reply.key("StreamARN");
    reply.plain(context.arn_of(stream.name));
    reply.end_object();
    reply.end_object();
    return {};
}

namespace {

// The number of the consumer that the page before ended with.
ApiResult<std::uint32_t> read_token(const OperationContext& context,
                                    const ListConsumersInput& input, const Stream& stream) {
    if (input.created_ms) {
        return std::unexpected(
            invalid_argument("NextToken and StreamCreationTimestamp cannot be provided together."));
    }
    const auto page = decode_page(context.sealer, *input.next_token);
    if (!page || page->kind != PageToken::Kind::list_consumers || page->stream != stream.name ||
        page->incarnation != stream.incarnation) {
        return std::unexpected(invalid_argument("NextToken is invalid."));
    }
    if (context.clock.wall_ms() - page->issued_ms > token_life_ms) {
        return std::unexpected(ApiError{"ExpiredNextTokenException", "NextToken has expired."});
    }
    return page->after_shard;
}

}  // namespace

ApiStatus list_consumers(const OperationContext& context, const ListConsumersInput& input,
                         ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    std::uint32_t after = 0;
    if (input.next_token) {
        const auto read = read_token(context, input, stream);
        if (!read) {
            return std::unexpected(read.error());
        }
        after = *read;
    } else if (input.created_ms && *input.created_ms / 1000 != stream.created_ms / 1000) {
        return std::unexpected(stream_not_found(stream.name, context.account));
    }
    const auto first =
        std::find_if(stream.consumers.begin(), stream.consumers.end(),
                     [&](const Consumer& consumer) { return consumer.number > after; });
    const auto count = std::min<std::int64_t>(input.max_results.value_or(consumers_per_page),
                                              stream.consumers.end() - first);
    const auto end = first + count;
    reply.begin_object();
    reply.key("Consumers");
    reply.begin_array();
    for (auto it = first; it != end; ++it) {
        reply.begin_object();
        write_consumer(context, stream, *it, "ACTIVE", reply);
        reply.end_object();
    }
    reply.end_array();
    if (end != stream.consumers.end()) {
        PageToken page;
        page.kind = PageToken::Kind::list_consumers;
        page.after_shard = std::prev(end)->number;
        page.incarnation = stream.incarnation;
        page.issued_ms = context.clock.wall_ms();
        page.stream = stream.name;
        reply.key("NextToken");
        reply.plain(encode_page(context.sealer, page));
    }
    reply.end_object();
    return {};
}

}  // namespace penstock::kinesis
