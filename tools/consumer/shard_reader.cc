#include "tools/consumer/shard_reader.h"

#include <curl/curl.h>
#include <simdjson.h>

#include <chrono>
#include <cmath>

#include "control/kinesis/input/base64.h"
#include "tools/penstock/json_text.h"

namespace penstock::consumer {

namespace {

using simdjson::SUCCESS;

constexpr std::string_view shard_list_size = "1000";

std::string text_of(const simdjson::dom::object& object, std::string_view key) {
    std::string_view text;
    return object.at_key(key).get(text) == SUCCESS ? std::string(text) : std::string();
}

// What a reply that is none, or an error, means for the caller.
void judge(const Result<HttpReply>& reply, const std::string& what, std::string& why, Step& out) {
    if (!reply) {
        const Errc code = reply.error().code;
        out.outcome = code == Errc::canceled           ? StepOutcome::canceled
                      : code == Errc::invalid_argument ? StepOutcome::failed
                                                       : StepOutcome::wait;
        out.why = what + ": " + why;
        return;
    }
    out.outcome = is_passing(*reply) ? StepOutcome::wait : StepOutcome::failed;
    const std::string type = error_type(*reply);
    out.why = what + ": " + (type.empty() ? "" : type + ": ") + error_message(*reply);
}

void bad_reply(const std::string& what, Step& out) {
    out.outcome = StepOutcome::failed;
    out.why =
        what + ": found a reply that is no JSON of this operation; expected a Kinesis endpoint";
}

bool is_ok(const Result<HttpReply>& reply) {
    return reply && reply->status == 200;
}

bool take_data(std::string_view text, std::string& out) {
    out.resize(kinesis::base64_decoded_size_max(text.size()) + kinesis::base64_decode_slack);
    const auto size = kinesis::base64_decode(text, reinterpret_cast<std::byte*>(out.data()));
    out.resize(size ? *size : 0);
    return size.has_value();
}

bool take_record(const simdjson::dom::element& element, Record& out) {
    simdjson::dom::object object;
    std::string_view sequence;
    std::string_view data;
    std::string_view key;
    double arrival_s = 0;
    if (element.get(object) != SUCCESS || object["SequenceNumber"].get(sequence) != SUCCESS ||
        object["Data"].get(data) != SUCCESS || object["PartitionKey"].get(key) != SUCCESS) {
        return false;
    }
    out.sequence = sequence;
    out.key = key;
    if (object["ApproximateArrivalTimestamp"].get(arrival_s) == SUCCESS) {
        out.arrival_ms = std::llround(arrival_s * 1000);
    }
    return take_data(data, out.data);
}

std::int64_t date_of(const HttpReply& reply) {
    const auto date = reply.headers.find("date");
    const time_t seconds =
        date == reply.headers.end() ? -1 : curl_getdate(date->second.c_str(), nullptr);
    return seconds < 0 ? 0 : std::int64_t{seconds} * 1000;
}

ShardEntry entry_of(const simdjson::dom::object& object) {
    ShardEntry entry;
    entry.id = text_of(object, "ShardId");
    entry.parent = text_of(object, "ParentShardId");
    entry.adjacent_parent = text_of(object, "AdjacentParentShardId");
    simdjson::dom::object range;
    entry.is_closed = object["SequenceNumberRange"].get(range) == SUCCESS &&
                      !text_of(range, "EndingSequenceNumber").empty();
    return entry;
}

// ChildShards of GetRecords name all parents in a list.
ShardEntry child_of(const simdjson::dom::object& object) {
    ShardEntry entry;
    entry.id = text_of(object, "ShardId");
    simdjson::dom::array parents;
    if (object["ParentShards"].get(parents) == SUCCESS) {
        for (const simdjson::dom::element parent : parents) {
            std::string_view id;
            if (parent.get(id) == SUCCESS) {
                (entry.parent.empty() ? entry.parent : entry.adjacent_parent) = id;
            }
        }
    }
    return entry;
}

std::string iterator_request(const std::string& stream, const std::string& shard,
                             const Position& from) {
    std::string text = "{" + stream_member(stream) + ",\"ShardId\":" + json_text(shard) +
                       ",\"ShardIteratorType\":";
    switch (from.kind) {
        case PositionKind::oldest:
            return text + "\"TRIM_HORIZON\"}";
        case PositionKind::newest:
            return text + "\"LATEST\"}";
        case PositionKind::at_time: {
            std::string ms = std::to_string(from.time_ms % 1000);
            ms.insert(0, 3 - ms.size(), '0');
            return text + "\"AT_TIMESTAMP\",\"Timestamp\":" + std::to_string(from.time_ms / 1000) +
                   "." + ms + "}";
        }
        case PositionKind::at_sequence:
            text += "\"AT_SEQUENCE_NUMBER\"";
            break;
        case PositionKind::after_sequence:
            text += "\"AFTER_SEQUENCE_NUMBER\"";
            break;
    }
    return text + ",\"StartingSequenceNumber\":" + json_text(from.sequence) + "}";
}

}  // namespace

std::string stream_member(std::string_view stream) {
    return (stream.starts_with("arn:") ? "\"StreamARN\":" : "\"StreamName\":") + json_text(stream);
}

bool ShardReader::find_iterator(KinesisApi& api, Step& out) {
    std::string why;
    const auto reply = api.call("GetShardIterator", iterator_request(stream_, shard_, from_), why);
    const std::string what = shard_ + ": GetShardIterator";
    if (!is_ok(reply)) {
        judge(reply, what, why, out);
        return false;
    }
    simdjson::dom::parser parser;
    simdjson::dom::object root;
    if (parser.parse(reply->body).get(root) == SUCCESS) {
        iterator_ = text_of(root, "ShardIterator");
    }
    if (iterator_.empty()) {
        bad_reply(what, out);
        return false;
    }
    // Said again later, it would be another place.
    if (from_.kind == PositionKind::newest) {
        from_ = {PositionKind::at_time, started_ms_, {}};
    }
    return true;
}

Step ShardReader::step(KinesisApi& api) {
    Step out;
    if (iterator_.empty() && !find_iterator(api, out)) {
        return out;
    }
    std::string request =
        "{\"ShardIterator\":" + json_text(iterator_) + ",\"Limit\":" + std::to_string(limit_);
    if (stream_.starts_with("arn:")) {
        request += "," + stream_member(stream_);
    }
    std::string why;
    const auto reply = api.call("GetRecords", request + "}", why);
    if (!is_ok(reply)) {
        judge(reply, shard_ + ": GetRecords", why, out);
        if (reply && error_type(*reply) == "ExpiredIteratorException") {
            iterator_.clear();
            out.outcome = StepOutcome::wait;
        }
        return out;
    }
    if (!take_reply(reply->body, out)) {
        bad_reply(shard_ + ": GetRecords", out);
        out.records.clear();
        return out;
    }
    if (!out.records.empty()) {
        last_sequence_ = out.records.back().sequence;
        from_ = {PositionKind::after_sequence, 0, last_sequence_};
    }
    return out;
}

bool ShardReader::take_reply(const std::string& body, Step& out) {
    simdjson::dom::parser parser;
    simdjson::dom::object root;
    simdjson::dom::array records;
    if (parser.parse(body).get(root) != SUCCESS || root["Records"].get(records) != SUCCESS) {
        return false;
    }
    out.records.reserve(records.size());
    for (const simdjson::dom::element element : records) {
        if (!take_record(element, out.records.emplace_back())) {
            return false;
        }
    }
    std::int64_t behind_ms = 0;
    const bool told = root["MillisBehindLatest"].get(behind_ms) == SUCCESS;
    iterator_ = text_of(root, "NextShardIterator");
    out.is_end = iterator_.empty();
    // Who doesn't tell is at the tip where nothing comes.
    out.is_tip = told ? behind_ms == 0 : out.records.empty();
    simdjson::dom::array children;
    if (out.is_end && root["ChildShards"].get(children) == SUCCESS) {
        for (const simdjson::dom::element child : children) {
            simdjson::dom::object object;
            if (child.get(object) == SUCCESS) {
                out.children.push_back(child_of(object));
            }
        }
    }
    return true;
}

bool list_shards(KinesisApi& api, std::string_view stream, std::vector<ShardEntry>& shards,
                 std::int64_t& server_ms, Step& out) {
    shards.clear();
    std::string token;
    do {
        const std::string request =
            "{" + (token.empty() ? stream_member(stream) : "\"NextToken\":" + json_text(token)) +
            ",\"MaxResults\":" + std::string(shard_list_size) + "}";
        std::string why;
        const auto reply = api.call("ListShards", request, why);
        if (!is_ok(reply)) {
            judge(reply, "ListShards", why, out);
            return false;
        }
        simdjson::dom::parser parser;
        simdjson::dom::object root;
        simdjson::dom::array list;
        if (parser.parse(reply->body).get(root) != SUCCESS || root["Shards"].get(list) != SUCCESS) {
            bad_reply("ListShards", out);
            return false;
        }
        for (const simdjson::dom::element element : list) {
            simdjson::dom::object object;
            if (element.get(object) == SUCCESS) {
                shards.push_back(entry_of(object));
            }
        }
        if (token.empty()) {
            server_ms = date_of(*reply);
        }
        token = text_of(root, "NextToken");
    } while (!token.empty());
    return true;
}

}  // namespace penstock::consumer
