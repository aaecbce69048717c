#include "control/kinesis/api_error.h"

#include "control/kinesis/stream/stream.h"

namespace penstock::kinesis {

namespace {
std::string text(std::initializer_list<std::string_view> parts) {
    std::string out;
    for (const std::string_view part : parts) {
        out += part;
    }
    return out;
}
}  // namespace

ApiError invalid_argument(std::string message) {
    return {"InvalidArgumentException", std::move(message)};
}
ApiError validation_error(std::string message) {
    return {"ValidationException", std::move(message)};
}
ApiError serialization_error(std::string message) {
    ApiError error{"SerializationException", std::move(message)};
    error.capital_message = true;
    error.has_message = !error.message.empty();
    return error;
}
ApiError stream_not_found(std::string_view stream, std::string_view account) {
    return {"ResourceNotFoundException",
            text({"Stream ", shown_name(stream), " under account ", account, " not found."})};
}
ApiError shard_not_found(std::string_view shard, std::string_view stream,
                         std::string_view account) {
    return {"ResourceNotFoundException", text({"Shard ", shard, " in stream ", shown_name(stream),
                                               " under account ", account, " does not exist"})};
}
ApiError internal_failure(std::string message) {
    return {"InternalFailure", std::move(message), 500};
}
ApiError dry_run_succeeded() {
    return {"DryRunOperationException",
            "The request would have succeeded, but the DryRun parameter was set."};
}
ApiError throttled(std::string message) {
    return {"ProvisionedThroughputExceededException", std::move(message)};
}

}  // namespace penstock::kinesis
