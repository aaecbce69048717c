#include "control/rest/answer.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "control/auth/credentials_page.h"
#include "control/kinesis/input/base64.h"
#include "control/kinesis/reply/reply_writer.h"
#include "storage/base/bytes.h"

namespace penstock::rest {

namespace {

using simdjson::dom::element;

// What a link says instead, or what says the same twice.
constexpr std::array<std::string_view, 5> left_out{
    "NextToken", "NextShardIterator", "HasMoreStreams", "HasMoreShards", "StreamNames"};
// How a place in a shard is named; a link to what follows names it by an iterator.
constexpr std::array<std::string_view, 4> places{"shard_id", "shard_iterator_type",
                                                 "sequence_number", "timestamp"};
constexpr int stored_in_part = 207;
constexpr double time_seconds_max = 1e11;  // some thousand years on

bool is_upper(char c) noexcept {
    return c >= 'A' && c <= 'Z';
}
bool is_lower(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// Commas between members and items.
class Writer {
public:
    explicit Writer(std::string& out) : out_(out) {}

    void key(std::string_view name) {
        comma();
        text(name);
        out_.push_back(':');
    }
    void comma() {
        if (!out_.empty() && out_.back() != '{' && out_.back() != '[' && out_.back() != ':') {
            out_.push_back(',');
        }
    }
    void text(std::string_view value) { kinesis::append_json_string(out_, value); }

    void members(simdjson::dom::object object) {
        for (const auto& [name, value] : object) {
            member(name, value);
        }
    }
    void member(std::string_view name, element value) {
        simdjson::dom::object details;
        if (std::find(left_out.begin(), left_out.end(), name) != left_out.end()) {
            return;
        }
        if (name == "StreamModeDetails" && value.get(details) == simdjson::SUCCESS) {
            return members(details);
        }
        std::string_view base64;
        if (name == "Data" && value.get(base64) == simdjson::SUCCESS) {
            return data(base64);
        }
        key(name == "StreamSummaries" ? "streams" : snake_case(name));
        double seconds = 0;
        if (name.ends_with("Timestamp") && value.get(seconds) == simdjson::SUCCESS &&
            std::abs(seconds) < time_seconds_max) {
            return text(format_time_ms(std::llround(seconds * 1000)));
        }
        plain(value);
    }

private:
    void plain(element value) {
        simdjson::dom::object object;
        simdjson::dom::array array;
        if (value.get(object) == simdjson::SUCCESS) {
            out_.push_back('{');
            members(object);
            out_.push_back('}');
        } else if (value.get(array) == simdjson::SUCCESS) {
            out_.push_back('[');
            for (const element item : array) {
                comma();
                plain(item);
            }
            out_.push_back(']');
        } else {
            out_ += simdjson::minify(value);
        }
    }
    void data(std::string_view base64) {
        std::vector<std::byte> bytes(kinesis::base64_decoded_size_max(base64.size()) +
                                     kinesis::base64_decode_slack);
        const auto size = kinesis::base64_decode(base64, bytes.data());
        const std::string_view decoded = as_text(Bytes(bytes).first(size.value_or(0)));
        const bool is_text = size && simdjson::validate_utf8(decoded.data(), decoded.size());
        key(is_text ? "data" : "data_base64");
        text(is_text ? decoded : base64);
    }

    std::string& out_;
};

http::HttpResponse json_response(int status, std::string body) {
    http::HttpResponse response;
    response.status = status;
    response.content_type = json_type;
    response.body = std::move(body);
    response.body.push_back('\n');
    return response;
}

std::string text_of(element object, std::string_view member) {
    std::string_view text;
    return object.at_key(member).get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

// The last member of the list at the top, or its member `part`.
std::string last_of(element object, std::string_view list, std::string_view part) {
    simdjson::dom::array items;
    if (object.at_key(list).get(items) != simdjson::SUCCESS || items.size() == 0) {
        return {};
    }
    element last;
    if (items.at(items.size() - 1).get(last) != simdjson::SUCCESS) {
        return {};
    }
    std::string_view text;
    if (part.empty()) {
        return last.get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
    }
    return text_of(last, part);
}

// Where the page after this one is; empty where there is none.
std::string next_of(const Asked& asked, element object) {
    const std::string token = text_of(object, "NextToken");
    switch (asked.route.operation) {
        case kinesis::Operation::list_streams:
            return token.empty() ? token
                                 : link(asked, "exclusive_start_stream_name",
                                        last_of(object, "StreamNames", ""));
        case kinesis::Operation::list_shards:
            return token.empty() ? token
                                 : link(asked, "exclusive_start_shard_id",
                                        last_of(object, "Shards", "ShardId"));
        case kinesis::Operation::get_records: {
            const std::string iterator = text_of(object, "NextShardIterator");
            return iterator.empty()
                       ? iterator
                       : link(asked, "shard_iterator", iterator_for_link(iterator), places);
        }
        default:
            return token.empty() ? token : link(asked, "next_token", token);
    }
}

}  // namespace

http::HttpResponse broken() {
    return auth::json_error(500, "InternalFailure", "An operation's answer could not be read.");
}

std::string Answer::type() const {
    return ok() ? std::string() : text_member(body, "__type");
}

int status_of(std::string_view type) noexcept {
    struct Known {
        std::string_view type;
        int status;
    };
    constexpr std::array known{Known{"ResourceNotFoundException", 404},
                               Known{"ResourceInUseException", 409},
                               Known{"LimitExceededException", 429},
                               Known{"ProvisionedThroughputExceededException", 429},
                               Known{"KMSThrottlingException", 429},
                               Known{"AccessDeniedException", 403},
                               Known{"InternalFailure", 500},
                               Known{"InternalFailureException", 500}};
    for (const Known& one : known) {
        if (one.type == type) {
            return one.status;
        }
    }
    return 400;
}

std::string snake_case(std::string_view name) {
    // Units whose capitals are no words.
    std::string text(name);
    for (const auto& [unit, plain] : {std::pair{"KiB", "Kib"}, std::pair{"MiB", "Mib"}}) {
        if (const std::size_t at = text.find(unit); at != std::string::npos) {
            text.replace(at, 3, plain);
        }
    }
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool begins_word =
            i != 0 && is_upper(text[i]) &&
            (is_lower(text[i - 1]) || (i + 1 < text.size() && is_lower(text[i + 1])));
        if (begins_word) {
            out.push_back('_');
        }
        out.push_back(is_upper(text[i]) ? static_cast<char>(text[i] | 0x20) : text[i]);
    }
    return out;
}

http::HttpResponse bad_request(std::string_view why) {
    return auth::json_error(400, "InvalidArgumentException", why);
}

http::HttpResponse error_of(const Answer& answer) {
    simdjson::dom::parser parser;
    element object;
    if (parser.parse(answer.body).get(object) != simdjson::SUCCESS) {
        return auth::json_error(500, "InternalFailure",
                                "The operation was given up; try again, or look at the log.");
    }
    const std::string type = text_of(object, "__type");
    std::string message = text_of(object, "message");
    if (message.empty()) {
        message = text_of(object, "Message");
    }
    const int status = answer.status == unavailable_status ? answer.status : status_of(type);
    return auth::json_error(status, type, message);
}

http::HttpResponse response_of(const Asked& asked, const Answer& answer) {
    if (!answer.ok()) {
        return error_of(answer);
    }
    if (answer.body.empty()) {
        return json_response(asked.route.status, "{}");
    }
    simdjson::dom::parser parser;
    element whole;
    simdjson::dom::object object;
    if (parser.parse(answer.body).get(whole) != simdjson::SUCCESS ||
        (asked.route.unwrap.empty()
             ? whole.get(object)
             : whole.at_key(asked.route.unwrap).get(object)) != simdjson::SUCCESS) {
        return broken();
    }
    std::string body = "{";
    Writer writer(body);
    for (const auto& [name, value] : object) {
        if (asked.route.only.empty() || name == asked.route.only) {
            writer.member(name, value);
        }
    }
    if (const std::string next = asked.route.has_next ? next_of(asked, whole) : std::string();
        !next.empty()) {
        writer.key("next");
        writer.text(next);
    }
    body.push_back('}');
    std::int64_t failed = 0;
    const bool in_part =
        whole.at_key("FailedRecordCount").get(failed) == simdjson::SUCCESS && failed != 0;
    return json_response(in_part ? stored_in_part : asked.route.status, std::move(body));
}

http::HttpResponse lines_of(const Asked& asked, const Answer& answer) {
    if (!answer.ok()) {
        return error_of(answer);
    }
    simdjson::dom::parser parser;
    element whole;
    simdjson::dom::array records;
    std::int64_t behind_ms = 0;
    if (parser.parse(answer.body).get(whole) != simdjson::SUCCESS ||
        whole.at_key("Records").get(records) != simdjson::SUCCESS ||
        whole.at_key("MillisBehindLatest").get(behind_ms) != simdjson::SUCCESS) {
        return broken();
    }
    http::HttpResponse response;
    response.content_type = lines_type;
    for (const element item : records) {
        std::string line = "{";
        simdjson::dom::object record;
        if (item.get(record) != simdjson::SUCCESS) {
            return broken();
        }
        Writer(line).members(record);
        response.body += line + "}\n";
    }
    if (const std::string next = next_of(asked, whole); !next.empty()) {
        response.headers.emplace_back("Link", "<" + next + ">; rel=\"next\"");
    }
    response.headers.emplace_back("x-penstock-millis-behind-latest", std::to_string(behind_ms));
    return response;
}

bool append_consumers(std::string& out, const Answer& answer, std::string_view stream) {
    simdjson::dom::parser parser;
    element whole;
    simdjson::dom::array consumers;
    if (parser.parse(answer.body).get(whole) != simdjson::SUCCESS ||
        whole.at_key("Consumers").get(consumers) != simdjson::SUCCESS ||
        !text_of(whole, "NextToken").empty()) {
        return false;
    }
    Writer writer(out);
    for (const element consumer : consumers) {
        simdjson::dom::object object;
        if (consumer.get(object) != simdjson::SUCCESS) {
            return false;
        }
        writer.comma();
        out.push_back('{');
        writer.key("stream_name");
        writer.text(stream);
        writer.members(object);
        out.push_back('}');
    }
    return true;
}

std::optional<StreamPage> read_streams(const Answer& answer) {
    simdjson::dom::parser parser;
    element whole;
    simdjson::dom::array names;
    StreamPage page;
    if (parser.parse(answer.body).get(whole) != simdjson::SUCCESS ||
        whole.at_key("StreamNames").get(names) != simdjson::SUCCESS) {
        return std::nullopt;
    }
    for (const element name : names) {
        std::string_view text;
        if (name.get(text) != simdjson::SUCCESS) {
            return std::nullopt;
        }
        page.names.emplace_back(text);
    }
    page.has_more = !text_of(whole, "NextToken").empty();
    return page.has_more && page.names.empty() ? std::nullopt : std::optional(page);
}

std::string text_member(std::string_view json, std::string_view member) {
    simdjson::dom::parser parser;
    element object;
    return parser.parse(json.data(), json.size()).get(object) == simdjson::SUCCESS
               ? text_of(object, member)
               : std::string();
}

std::string link(const Asked& asked, std::string_view name, std::string_view value,
                 std::span<const std::string_view> without) {
    std::map<std::string_view, std::string_view> parameters;
    for (const auto& [given, text] : asked.query) {
        if (std::find(without.begin(), without.end(), given) == without.end()) {
            parameters[given] = text;
        }
    }
    parameters[name] = value;
    std::string address(asked.path);
    char sign = '?';
    for (const auto& [key, text] : parameters) {
        address += sign + http::encode_percent(key) + "=" + http::encode_percent(text);
        sign = '&';
    }
    return address;
}

}  // namespace penstock::rest
