// The operations that need only the streams as the catalog has them. Those that ask a lane are
// PutCall and ReadCall.
//
// Runs on: any control thread; create, delete and retention block on the catalog.
#pragma once

#include <expected>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "control/auth/gate.h"
#include "control/kinesis/api_error.h"
#include "control/kinesis/input/inputs.h"
#include "control/kinesis/operations/rate_limits.h"
#include "control/kinesis/operations/token.h"
#include "control/kinesis/reply/reply_writer.h"
#include "control/kinesis/stream/stream_store.h"
#include "storage/base/clock.h"

namespace penstock::kinesis {

inline constexpr std::uint32_t retention_hours_min = 24;
inline constexpr std::uint32_t retention_hours_max = 8760;

// What a request's operation may use; lives as long as the request.
struct OperationContext {
    StreamStore& streams;
    Clock& clock;
    const TokenSealer& sealer;
    std::string_view account;
    std::string region;
    std::span<const std::string> regions;  // that are served
    Operation operation{};
    // Who asks, and who judges that; null where requests are not signed and everybody may.
    const auth::Caller* caller = nullptr;
    auth::Gate* gate = nullptr;
    std::size_t consumers_max = 20;  // of a stream
    RateLimits* rates = nullptr;     // null: operations may be asked for as often as one likes

    // The name of the request's region's stream in the store (stream.h). Not for a name with a
    // slash, which an ARN may have: in the first region it would be another region's stream.
    [[nodiscard]] std::string stored_name(std::string_view shown) const;
    // Whether an ARN names what this request cannot mean: a stream of another region, or by a name
    // that no stream has.
    [[nodiscard]] bool is_elsewhere(std::string_view arn, std::string_view stream) const {
        return is_of_other_region(arn) || stream.find('/') != std::string_view::npos;
    }
    // Whether a stream, by its name in the store, is of the request's region.
    [[nodiscard]] bool is_of_region(std::string_view stream) const;
    // Whether an ARN names another region than the request, and one that is served.
    [[nodiscard]] bool is_of_other_region(std::string_view arn) const;
    // Of a stream by its name in the store.
    [[nodiscard]] std::string arn_of(std::string_view stream) const;
};

template <typename T>
using ApiResult = std::expected<T, ApiError>;
using ApiStatus = ApiResult<void>;

// Whether the operation's rate allows one more about `subject`: a stream's name, "*" for all, or
// what the operation's RateScope says. authorize() and resolve_consumer() ask this once they have
// allowed it, but for the scopes that only the operation knows.
[[nodiscard]] ApiStatus take_rate(const OperationContext& context, std::string_view subject);

// Whether the caller may do the operation on the stream of that name, "*" for all. `view` is the
// stream if there is one. Every operation asks this before it looks at a stream or says whether
// there is one; the functions that resolve a name do it themselves.
[[nodiscard]] ApiStatus authorize(const OperationContext& context, std::string_view stream,
                                  const StreamView* view);

// The name meant; an ARN must be of this account, and agree with the name if both are given.
[[nodiscard]] ApiResult<std::string> resolve_name(const OperationContext& context,
                                                  const StreamRef& stream);
[[nodiscard]] ApiResult<std::shared_ptr<const StreamView>> resolve_stream(
    const OperationContext& context, const StreamRef& stream);
// The error of an operation whose catalog change failed.
[[nodiscard]] ApiError catalog_failure(const Error& error);
// The same of a change of a stream, by what StreamStore says: it may be gone or not be ACTIVE.
[[nodiscard]] ApiError stream_failure(const OperationContext& context, const Stream& stream,
                                      const Error& error);
[[nodiscard]] ApiError not_active(const OperationContext& context, const Stream& stream);

[[nodiscard]] ApiStatus create_stream(const OperationContext& context,
                                      const CreateStreamInput& input);
[[nodiscard]] ApiStatus delete_stream(const OperationContext& context, const StreamInput& input);
[[nodiscard]] ApiStatus change_retention(const OperationContext& context,
                                         const RetentionInput& input, bool increase);

[[nodiscard]] ApiStatus list_streams(const OperationContext& context, const ListStreamsInput& input,
                                     ReplyWriter& reply);
[[nodiscard]] ApiStatus describe_stream(const OperationContext& context,
                                        const DescribeStreamInput& input, ReplyWriter& reply);
[[nodiscard]] ApiStatus describe_stream_summary(const OperationContext& context,
                                                const StreamInput& input, ReplyWriter& reply);
[[nodiscard]] ApiStatus list_shards(const OperationContext& context, const ListShardsInput& input,
                                    ReplyWriter& reply);

[[nodiscard]] ApiStatus put_resource_policy(const OperationContext& context,
                                            const ResourcePolicyInput& input);
[[nodiscard]] ApiStatus get_resource_policy(const OperationContext& context,
                                            const ResourcePolicyInput& input, ReplyWriter& reply);
[[nodiscard]] ApiStatus delete_resource_policy(const OperationContext& context,
                                               const ResourcePolicyInput& input);

[[nodiscard]] ApiStatus register_consumer(const OperationContext& context,
                                          const RegisterConsumerInput& input, ReplyWriter& reply);
[[nodiscard]] ApiStatus deregister_consumer(const OperationContext& context,
                                            const ConsumerInput& input);
[[nodiscard]] ApiStatus describe_consumer(const OperationContext& context,
                                          const ConsumerInput& input, ReplyWriter& reply);
[[nodiscard]] ApiStatus list_consumers(const OperationContext& context,
                                       const ListConsumersInput& input, ReplyWriter& reply);

// A consumer that a request means, and its stream.
struct ConsumerView {
    std::shared_ptr<const StreamView> view;
    const Consumer* consumer = nullptr;  // in view->stream()
};
// What a Resource operation is about: a stream, or a consumer of its.
[[nodiscard]] ApiResult<ConsumerView> resolve_resource(const OperationContext& context,
                                                       const StreamRef& resource);
// Changes a consumer as the catalog has it. Errors: not_found, and StreamStore::update()'s.
[[nodiscard]] Status update_consumer(const OperationContext& context, const ConsumerView& found,
                                     const std::function<Status(Consumer&)>& edit);
// The three operations that go by the caller's policy alone: whoever may change a resource's policy
// must be able to take back a mistake in it.
[[nodiscard]] bool is_about_the_policy(Operation operation) noexcept;
// By the consumer's ARN, or by its name and its stream's ARN; the caller may do the operation on
// the consumer's ARN.
[[nodiscard]] ApiResult<ConsumerView> resolve_consumer(const OperationContext& context,
                                                       const ConsumerInput& input);
[[nodiscard]] ApiStatus split_shard(const OperationContext& context, const SplitShardInput& input);
[[nodiscard]] ApiStatus merge_shards(const OperationContext& context,
                                     const MergeShardsInput& input);
[[nodiscard]] ApiStatus update_shard_count(const OperationContext& context,
                                           const UpdateShardCountInput& input, ReplyWriter& reply);
[[nodiscard]] ApiStatus update_stream_mode(const OperationContext& context,
                                           const UpdateStreamModeInput& input);
[[nodiscard]] ApiStatus update_warm_throughput(const OperationContext& context,
                                               const StreamRef& stream, std::int64_t mibps,
                                               ReplyWriter& reply);
// Nothing when a stream may have the shards that so much warm throughput needs.
[[nodiscard]] std::optional<ApiError> check_warm_throughput(const OperationContext& context,
                                                            std::string_view stream,
                                                            std::int64_t mibps);

// Shared by the answers that show shards.
void write_hash_range(ReplyWriter& reply, const HashRange& range);
void write_shard(ReplyWriter& reply, const Shard& shard);
// [{"ShardId":…,"ParentShards":[…],"HashKeyRange":…}] of the shards that `parent` was cut into.
void write_child_shards(ReplyWriter& reply, const Stream& stream, const Shard& parent);
// "Thu Jan 22 01:22:02 UTC 2015"
[[nodiscard]] std::string format_time(std::int64_t wall_ms);

}  // namespace penstock::kinesis
