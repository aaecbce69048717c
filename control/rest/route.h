// What REST answers to: methods, paths and parameters, each carried out by an operation of the
// Kinesis API. Members and parameters are those of the operation in snake case.
//
// Runs on: any thread.
// Format: docs/openapi.json, which a test holds against this table.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/http/message.h"
#include "control/http/target.h"
#include "control/kinesis/input/inputs.h"

namespace penstock::rest {

// How a route's request becomes operations, and their answers its own.
enum class Action : std::uint8_t {
    simple,              // one operation, its members as they are
    change_retention,    // to more or less, whichever it is
    list_all_consumers,  // of every stream that the caller may ask
    put,                 // a record, or several
    get_records,         // from an iterator, or from a place that an iterator is asked for first
};

enum class Kind : std::uint8_t { text, integer, boolean, time, object, list };

struct Field {
    std::string_view name;    // in the query or the body: "stream_mode"
    std::string_view member;  // the operation's: "StreamModeDetails.StreamMode"; empty: ours
    Kind kind = Kind::text;
    bool is_required = false;
};

struct Route {
    std::string_view method;
    std::string_view path;         // "/v1/streams/{stream_name}/shards"
    kinesis::Operation operation;  // whose action is asked for and whose metrics it counts in
    Action action = Action::simple;
    int status = 200;  // of success
    std::span<const Field> path_fields = {};
    std::span<const Field> query = {};
    std::span<const Field> body = {};
    std::string_view unwrap = {};  // the member of the answer that is the answer
    std::string_view only = {};    // the one member of that which is shown; empty: all
    bool has_next = false;         // the answer may have a link to the next page
};
[[nodiscard]] std::span<const Route> routes() noexcept;

struct Match {
    const Route* route = nullptr;
    std::vector<std::string> parts;  // by path_fields
};
struct Mismatch {
    bool path_is_known = false;  // with other methods
    std::string allow;           // those: "GET, POST"
};
[[nodiscard]] std::expected<Match, Mismatch> match(std::string_view method, std::string_view path);
// Whether the path is REST's to answer, if only with 404, unless a page of the node is there.
[[nodiscard]] bool is_ours(std::string_view path) noexcept;

// The operation a request will be carried out with; nothing when there is no such route.
[[nodiscard]] std::optional<kinesis::Operation> operation_of(const http::HttpRequest& request);
// Of a request that puts records: the body is one record, and not a list of them.
[[nodiscard]] bool puts_one(const http::HttpRequest& request);
// "application/json" of "application/json; charset=utf-8", in lower case.
[[nodiscard]] std::string content_type_of(const http::HttpRequest& request);

inline constexpr std::string_view partition_key_header = "x-penstock-partition-key";
inline constexpr std::string_view json_type = "application/json";
inline constexpr std::string_view lines_type = "application/x-ndjson";

}  // namespace penstock::rest
