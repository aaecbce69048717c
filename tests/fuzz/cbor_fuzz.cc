// libFuzzer: a whole CBOR request body through the reader of each operation. What a reader takes,
// libcbor's own document reader must take too.
#include <cbor.h>

#include <cstdint>
#include <vector>

#include "control/kinesis/input/cbor_input.h"
#include "control/kinesis/input/input_value.h"
#include "control/kinesis/input/inputs.h"
#include "control/kinesis/operations/settings.h"
#include "storage/base/check.h"

namespace {

using namespace penstock;
using namespace penstock::kinesis;

template <typename Input>
void read_as(simdjson::ondemand::parser& parser, const EncodedBody& body) {
    Arena arena;
    Input input;
    static_cast<void>(read_input({parser, arena, body}, input));
}

void read_tags(simdjson::ondemand::parser& parser, const EncodedBody& body) {
    for (const Operation operation :
         {Operation::tag_resource, Operation::remove_tags_from_stream}) {
        Arena arena;
        TagsInput input;
        static_cast<void>(read_tags_input({parser, arena, body}, operation, input));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static simdjson::ondemand::parser parser;
    // On the heap and without padding, so that reading past the end is seen.
    const std::vector<char> room(reinterpret_cast<const char*>(data),
                                 reinterpret_cast<const char*>(data) + size);
    const EncodedBody body({room.data(), size}, Dialect::cbor);
    Arena arena;
    // Takes nothing, so everything is skipped and must be well formed.
    if (!read_body(parser, arena, body, [](std::string_view, InputValue) {})) {
        cbor_load_result result{};
        cbor_item_t* item = cbor_load(data, size, &result);
        PENSTOCK_CHECK(item != nullptr && result.read == size);
        cbor_decref(&item);
    }
    read_as<CreateStreamInput>(parser, body);
    read_as<StreamInput>(parser, body);
    read_as<ListStreamsInput>(parser, body);
    read_as<DescribeStreamInput>(parser, body);
    read_as<ListShardsInput>(parser, body);
    read_as<PutRecordInput>(parser, body);
    read_as<PutRecordsInput>(parser, body);
    read_as<GetShardIteratorInput>(parser, body);
    read_as<GetRecordsInput>(parser, body);
    read_as<RetentionInput>(parser, body);
    read_as<MonitoringInput>(parser, body);
    read_as<AccountSettingsInput>(parser, body);
    read_tags(parser, body);
    return 0;
}
