// libFuzzer: a whole request body through the reader of each operation, and the decoders of what
// users hand back (tokens, sequence numbers, base64) and of what the catalog keeps.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "control/catalog/change_codec.h"
#include "control/kinesis/input/base64.h"
#include "control/kinesis/input/inputs.h"
#include "control/kinesis/operations/settings.h"
#include "control/kinesis/operations/token.h"
#include "control/kinesis/stream/sequence_number.h"
#include "control/kinesis/stream/stream.h"
#include "storage/base/check.h"

namespace {

using namespace penstock;
using namespace penstock::kinesis;

template <typename Input>
void read_as(simdjson::ondemand::parser& parser, std::string_view padded) {
    Arena arena;
    Input input;
    static_cast<void>(read_input({parser, arena, padded}, input));
}

void read_tags(simdjson::ondemand::parser& parser, std::string_view body) {
    for (const Operation operation :
         {Operation::tag_resource, Operation::remove_tags_from_stream}) {
        Arena arena;
        TagsInput input;
        static_cast<void>(read_tags_input({parser, arena, body}, operation, input));
    }
}

void read_tokens(std::string_view text) {
    const TokenSealer sealer("key");
    PENSTOCK_CHECK(!decode_iterator(sealer, text));
    PENSTOCK_CHECK(!decode_page(sealer, text));
    // With a sound seal, whatever is inside.
    static_cast<void>(decode_iterator(sealer, sealer.seal(text)));
    static_cast<void>(decode_page(sealer, sealer.seal(text)));
    if (const auto number = parse_sequence_number(text)) {
        PENSTOCK_CHECK(format_sequence_number(*number) == text);
    }
    std::vector<std::byte> out(base64_decoded_size_max(text.size()) + base64_decode_slack);
    if (const auto size = base64_decode(text, out.data())) {
        std::string again;
        base64_append(again, Bytes(out).first(*size));
        PENSTOCK_CHECK(again == text);
    }
    if (const auto record = decode_catalog_record(as_bytes(text))) {
        PENSTOCK_CHECK(encode_catalog_record(*record) == text);
    }
    if (const auto stream = decode_stream(text)) {
        PENSTOCK_CHECK(*decode_stream(encode_stream(*stream)) == *stream);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static simdjson::ondemand::parser parser;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    // On the heap with exactly the padding that is promised, so that reading past it is seen.
    std::vector<char> room(size + simdjson::SIMDJSON_PADDING, '\0');
    std::memcpy(room.data(), data, size);
    const std::string_view padded(room.data(), size);
    read_as<CreateStreamInput>(parser, padded);
    read_as<StreamInput>(parser, padded);
    read_as<ListStreamsInput>(parser, padded);
    read_as<DescribeStreamInput>(parser, padded);
    read_as<ListShardsInput>(parser, padded);
    read_as<PutRecordInput>(parser, padded);
    read_as<PutRecordsInput>(parser, padded);
    read_as<GetShardIteratorInput>(parser, padded);
    read_as<GetRecordsInput>(parser, padded);
    read_as<RetentionInput>(parser, padded);
    read_as<RegisterConsumerInput>(parser, padded);
    read_as<ConsumerInput>(parser, padded);
    read_as<ListConsumersInput>(parser, padded);
    read_as<SubscribeInput>(parser, padded);
    read_as<MonitoringInput>(parser, padded);
    read_as<AccountSettingsInput>(parser, padded);
    read_tags(parser, padded);
    read_tokens(text);
    return 0;
}
