// libFuzzer: messages of event streams made from the input come back as they were, and a reader of
// whatever bytes ends.
#include <cstdint>
#include <string>
#include <string_view>

#include "control/kinesis/reply/event_stream.h"
#include "storage/base/check.h"
#include "tests/unit/control/kinesis/event_reader.h"

using namespace penstock::kinesis;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    std::string_view any = input;
    while (read_event(any)) {
    }
    // The first bytes cut the rest into a name, a value and a payload.
    if (size < 3) {
        return 0;
    }
    const std::string_view rest = input.substr(3);
    const std::size_t name = 1 + data[0] % 255;
    const std::size_t value = std::size_t{data[1]} << 7 | data[2] >> 1;
    if (rest.size() < name) {
        return 0;
    }
    const std::string_view name_text = rest.substr(0, name);
    const std::string_view value_text = rest.substr(name, value);
    const std::string_view payload = rest.substr(name + value_text.size());
    std::string out;
    append_event(out, {{name_text, value_text}}, payload);
    {
        EventMessage message(out, {});
        out += payload;
        message.finish();
    }
    std::string_view left = out;
    const auto first = read_event(left);
    PENSTOCK_CHECK(first && first->payload == payload && first->headers.size() == 1 &&
                   first->headers.begin()->first == name_text &&
                   first->headers.begin()->second == value_text);
    const auto second = read_event(left);
    PENSTOCK_CHECK(second && second->payload == payload && second->headers.empty() && left.empty());
    return 0;
}
