// An error as the Kinesis API answers it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace penstock::kinesis {

struct ApiError {
    std::string type;  // "ResourceNotFoundException"
    std::string message;
    int status = 400;
    bool has_message = true;
    bool capital_message = false;  // "Message", as serialisation faults have it
};

[[nodiscard]] ApiError invalid_argument(std::string message);
[[nodiscard]] ApiError validation_error(std::string message);
[[nodiscard]] ApiError serialization_error(std::string message);
[[nodiscard]] ApiError stream_not_found(std::string_view stream, std::string_view account);
[[nodiscard]] ApiError shard_not_found(std::string_view shard, std::string_view stream,
                                       std::string_view account);
[[nodiscard]] ApiError internal_failure(std::string message);
// The answer to a request with DryRun that would have succeeded.
[[nodiscard]] ApiError dry_run_succeeded();
[[nodiscard]] ApiError throttled(std::string message);

}  // namespace penstock::kinesis
