// PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy: a stream's own policy.
#include "control/kinesis/operations.h"

namespace penstock::kinesis {

namespace {

// What GetResourcePolicy answers for a stream without one.
constexpr std::string_view no_policy = "{}";

ApiError failure(const OperationContext& context, const Stream& stream, const Error& error) {
    switch (error.code) {
        case Errc::not_found:
            return stream_not_found(stream.name, context.account);
        case Errc::locked:
            return {"ResourceInUseException",
                    "Stream " + stream.name + " under account " + std::string(context.account) +
                        " not ACTIVE, instead in state " + std::string(name_of(stream.status))};
        default:
            return catalog_failure(error);
    }
}

}  // namespace

ApiStatus put_resource_policy(const OperationContext& context, const ResourcePolicyInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const auto policy = auth::Policy::parse(*input.policy, auth::Policy::Kind::of_resource);
    if (!policy) {
        return std::unexpected(invalid_argument("Policy: " + policy.error() + "."));
    }
    const Stream& stream = (*view)->stream();
    if (const Status done = context.streams.set_resource_policy(stream.name, *input.policy);
        !done) {
        return std::unexpected(failure(context, stream, done.error()));
    }
    return {};
}

ApiStatus get_resource_policy(const OperationContext& context, const ResourcePolicyInput& input,
                              ReplyWriter& reply) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const std::string& policy = (*view)->stream().resource_policy;
    reply.begin_object();
    reply.key("Policy");
    reply.text(policy.empty() ? no_policy : policy);
    reply.end_object();
    return {};
}

ApiStatus delete_resource_policy(const OperationContext& context,
                                 const ResourcePolicyInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    if (stream.resource_policy.empty()) {
        return std::unexpected(ApiError{
            "ResourceNotFoundException",
            "No resource policy found for resource ARN " + std::string(*input.stream.arn)});
    }
    if (const Status done = context.streams.set_resource_policy(stream.name, {}); !done) {
        return std::unexpected(failure(context, stream, done.error()));
    }
    return {};
}

}  // namespace penstock::kinesis
