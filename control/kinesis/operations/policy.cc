// PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy: the own policy of a stream, or of a
// consumer.
#include "control/kinesis/operations/operations.h"
#include "control/kinesis/operations/settings.h"

namespace penstock::kinesis {

namespace {

// What GetResourcePolicy answers for a stream without one.
constexpr std::string_view no_policy = "{}";

const std::string& policy_of(const ConsumerView& found) noexcept {
    return found.consumer != nullptr ? found.consumer->resource_policy
                                     : found.view->stream().resource_policy;
}

ApiStatus set_policy(const OperationContext& context, const ConsumerView& found,
                     std::string_view policy) {
    const Stream& stream = found.view->stream();
    const Status done = found.consumer != nullptr
                            ? update_consumer(context, found,
                                              [&](Consumer& consumer) -> Status {
                                                  consumer.resource_policy = policy;
                                                  return {};
                                              })
                            : context.streams.update(stream.name, [&](Stream& now) -> Status {
                                  // What is to be taken away may be gone by now.
                                  if (policy.empty() && now.resource_policy.empty()) {
                                      return fail(Errc::not_found);
                                  }
                                  now.resource_policy = policy;
                                  return {};
                              });
    if (!done) {
        return std::unexpected(stream_failure(context, stream, done.error()));
    }
    return {};
}

}  // namespace

ApiStatus put_resource_policy(const OperationContext& context, const ResourcePolicyInput& input) {
    const auto found = resolve_resource(context, input.stream);
    if (!found) {
        return std::unexpected(found.error());
    }
    const auto policy = auth::Policy::parse(*input.policy, auth::Policy::Kind::of_resource);
    if (!policy) {
        return std::unexpected(invalid_argument("Policy: " + policy.error() + "."));
    }
    return set_policy(context, *found, *input.policy);
}

ApiStatus get_resource_policy(const OperationContext& context, const ResourcePolicyInput& input,
                              ReplyWriter& reply) {
    const auto found = resolve_resource(context, input.stream);
    if (!found) {
        return std::unexpected(found.error());
    }
    const std::string& policy = policy_of(*found);
    reply.begin_object();
    reply.key("Policy");
    reply.text(policy.empty() ? no_policy : policy);
    reply.end_object();
    return {};
}

ApiStatus delete_resource_policy(const OperationContext& context,
                                 const ResourcePolicyInput& input) {
    const auto found = resolve_resource(context, input.stream);
    if (!found) {
        return std::unexpected(found.error());
    }
    if (policy_of(*found).empty()) {
        return std::unexpected(ApiError{
            "ResourceNotFoundException",
            "No resource policy found for resource ARN " + std::string(*input.stream.arn)});
    }
    return set_policy(context, *found, {});
}

}  // namespace penstock::kinesis
