// REST's members and parameters as the input of a Kinesis operation, which checks their values.
//
// Runs on: any thread.
// Guarantees: what is built is sound JSON, whatever a client sent. Errors are lines for people.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/rest/route.h"

namespace penstock::rest {

// An operation's members with their values as JSON; "Structure.Member" for one of a structure.
class Members {
public:
    void add(std::string_view member, std::string json) {
        all_.emplace_back(member, std::move(json));
    }
    void add_text(std::string_view member, std::string_view text);
    // {"Member":…,"Structure":{"Member":…}}
    [[nodiscard]] std::string json() const;

private:
    std::vector<std::pair<std::string_view, std::string>> all_;
};

template <typename T>
using Read = std::expected<T, std::string>;

// A parameter's text as the JSON of its kind.
[[nodiscard]] Read<std::string> to_json(const Field& field, std::string_view text);
// The parameters that were given; all must be the route's.
[[nodiscard]] Read<void> read_parameters(const Route& route, const http::Texts& query,
                                         Members& members);
// The body, which must be an object of the route's members, or nothing if it has none.
[[nodiscard]] Read<void> read_body(const Route& route, std::string_view body, Members& members);

// What a request says of all its records.
struct Placing {
    std::optional<std::string> partition_key;
    std::optional<std::string> explicit_hash_key;
};
// The members of PutRecord, or the list of PutRecords, as JSON without their brackets.
//
// The whole body as one record.
[[nodiscard]] Read<std::string> one_record(std::string_view body, const Placing& placing);
// {"records":[{"data":…,"partition_key":…}]}
[[nodiscard]] Read<std::string> listed_records(std::string_view body);
// A record in each line: as it stands where a partition key is given for all, else an object as in
// the list.
[[nodiscard]] Read<std::string> lines_of_records(std::string_view body, const Placing& placing);

// "2026-01-31T12:00:00.123Z", with another offset, or seconds since 1970. Nothing before 1970,
// where no record is, and which the JSON of a time has no form for.
[[nodiscard]] std::optional<std::int64_t> parse_time_ms(std::string_view text);
[[nodiscard]] std::string format_time_ms(std::int64_t wall_ms);

// An iterator as it stands in a link, where base64's own signs would need escaping, and back.
[[nodiscard]] std::string iterator_for_link(std::string_view iterator);
[[nodiscard]] std::string iterator_from_link(std::string_view text);

}  // namespace penstock::rest
