// libFuzzer: texts of requests that are taken apart before anybody is authorized (ARNs, ids,
// numbers) and judged. Whatever comes, a reader ends; what it takes is put together again to what
// was read.
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "control/kinesis/input/checks.h"
#include "control/kinesis/input/producer_header.h"
#include "control/kinesis/stream/hash_key.h"
#include "control/kinesis/stream/sequence_number.h"
#include "control/kinesis/stream/shard_id.h"
#include "storage/base/check.h"

using namespace penstock::kinesis;

namespace {

std::string joined(std::initializer_list<std::string_view> parts) {
    std::string all;
    for (const std::string_view part : parts) {
        all += part;
    }
    return all;
}

void read_arns(std::string_view text) {
    const auto stream = parse_stream_arn(text);
    PENSTOCK_CHECK(!stream ||
                   text.ends_with(joined({":", stream->account, ":stream/", stream->stream})));
    const auto consumer = parse_consumer_arn(text);
    if (consumer) {
        const std::string of_stream =
            joined({":", consumer->account, ":stream/", consumer->stream});
        const std::string rest = joined({"/consumer/", consumer->name, ":", consumer->created_s});
        PENSTOCK_CHECK(text.ends_with(of_stream + rest));
        const auto again = parse_stream_arn(text.substr(0, text.size() - rest.size()));
        PENSTOCK_CHECK(again && again->account == consumer->account &&
                       again->stream == consumer->stream);
    }
}

void read_numbers(std::string_view text) {
    if (const auto shard = parse_shard_id(text)) {
        PENSTOCK_CHECK(parse_shard_id(format_shard_id(*shard)) == shard);
    }
    if (const auto hash = parse_hash_key(text)) {
        PENSTOCK_CHECK(to_decimal(*hash) == text);
    }
    if (const auto number = parse_sequence_number(text)) {
        PENSTOCK_CHECK(format_sequence_number(*number) == text);
    }
    static_cast<void>(parse_producer_header(text));
}

// The text as a value of each kind, and in pieces as lists and tags.
void judge(std::string_view text) {
    Checks of_texts;
    of_texts.name("name", text);
    of_texts.length("length", text, 1, 8);
    of_texts.choice("choice", text, {"ONE", "ANOTHER"});
    of_texts.decimal("sequence", text, sequence_pattern, 129);
    of_texts.stream_arn("streamARN", text);
    of_texts.consumer_arn("consumerARN", text);
    of_texts.resource_arn("resourceARN", text);
    of_texts.stream_id(text);
    PENSTOCK_CHECK(of_texts.result());  // no text is all of these
    std::vector<std::string_view> pieces;
    Checks::TextPairs pairs;
    while (!text.empty()) {
        const std::string_view piece = text.substr(0, text.find(','));
        pieces.push_back(piece);
        pairs.emplace_back(piece, text);
        text.remove_prefix(std::min(piece.size() + 1, text.size()));
    }
    Checks of_lists;
    of_lists.texts("tagKeys", pieces, 50);
    of_lists.tags("tags", pairs);
    static_cast<void>(of_lists.result());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    PENSTOCK_CHECK(count_characters(text) <= text.size());
    read_arns(text);
    read_numbers(text);
    judge(text);
    return 0;
}
