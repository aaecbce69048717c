// The answer of a Kinesis operation as REST's: members in snake case, times as RFC 3339, data as
// text where it is text, a status that says what happened, a link to what follows.
//
// Runs on: any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "control/http/message.h"
#include "control/rest/members.h"
#include "control/rest/route.h"

namespace penstock::rest {

// What an operation answered.
struct Answer {
    int status = 500;
    std::string body;
    [[nodiscard]] bool ok() const noexcept { return status == 200; }
    // "ResourceNotFoundException"; empty where it is ok.
    [[nodiscard]] std::string type() const;
};

// Of an answer that says the node has no room for the request now.
inline constexpr int unavailable_status = 503;

// "ResourceNotFoundException" is 404, and so on.
[[nodiscard]] int status_of(std::string_view type) noexcept;

// "MaxRecordSizeInKiB" is "max_record_size_in_kib".
[[nodiscard]] std::string snake_case(std::string_view name);

// The answer that tells somebody what is wrong with his request.
[[nodiscard]] http::HttpResponse bad_request(std::string_view why);
[[nodiscard]] http::HttpResponse error_of(const Answer& answer);

// What the request asked for, for the link to what follows.
struct Asked {
    const Route& route;
    std::string_view path;
    const http::Texts& query;
};
[[nodiscard]] http::HttpResponse response_of(const Asked& asked, const Answer& answer);
// Of GetRecords, a record a line; what follows is in the Link header.
[[nodiscard]] http::HttpResponse lines_of(const Asked& asked, const Answer& answer);

// For an answer that is not what it should be.
[[nodiscard]] http::HttpResponse broken();

// The members of `Consumers` in `answer`, as REST shows them, are put behind `out`. False when the
// answer is not what it should be, or not all of them.
[[nodiscard]] bool append_consumers(std::string& out, const Answer& answer,
                                    std::string_view stream);
// The names of a page of streams, and whether more follow.
struct StreamPage {
    std::vector<std::string> names;
    bool has_more = false;
};
// Nothing when the answer is not what it should be.
[[nodiscard]] std::optional<StreamPage> read_streams(const Answer& answer);
// The text of one member at the top; empty if it is not there.
[[nodiscard]] std::string text_member(std::string_view json, std::string_view member);

// "/v1/streams?exclusive_start_stream_name=…&limit=…": the request again with one parameter more,
// or another value for it, and without those of `without`. The names are in order, as older curls
// need them to be for a signature.
[[nodiscard]] std::string link(const Asked& asked, std::string_view name, std::string_view value,
                               std::span<const std::string_view> without = {});

}  // namespace penstock::rest
