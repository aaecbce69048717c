// Feeds arbitrary bytes to everything that reads packets: decoding with every flag, the answers of
// the responder, and the records of doors. What is checked besides memory safety: views stay inside
// the input, replies inside their buffer, and lines are what the framing says.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/door/door.h"
#include "dataplane/wire/packet.h"
#include "dataplane/wire/responder.h"

namespace {

using namespace penstock;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

bool within(Bytes inner, Bytes outer) {
    return inner.empty() || (inner.data() >= outer.data() &&
                             inner.data() + inner.size() <= outer.data() + outer.size());
}

void check_door(Door& door, const Decoded& datagram, Bytes input) {
    std::uint64_t records = 0;
    const DropReason reason = door.take(datagram, 0, [&](const DoorRecord& record) {
        ++records;
        require(!record.data.empty() && !record.key.empty() && within(record.data, input));
        if (door.spec().framing == DoorFraming::lines) {
            require(as_text(record.data).find('\n') == std::string_view::npos);
        }
    });
    require((reason == DropReason::none) == (records != 0));
}

struct Doors {
    Doors() {
        DoorSpec spec;
        spec.port = 1;
        spec.stream = "s";
        whole = std::make_unique<Door>(spec, nullptr);
        spec.framing = DoorFraming::lines;
        lines = std::make_unique<Door>(spec, nullptr);
    }
    std::unique_ptr<Door> whole;
    std::unique_ptr<Door> lines;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Doors doors;
    static const std::vector<IpPrefix> addresses{parse_prefix("192.0.2.1/24").value(),
                                                 parse_prefix("2001:db8::1/64").value()};
    if (size == 0 || size > 65536) {
        return 0;
    }
    // The first byte chooses the flags, the rest is the frame. Checksums marked as good let the
    // fuzzer reach the payload.
    const auto flags = static_cast<std::uint8_t>(data[0] & 0x0BU);
    const Bytes frame = std::as_bytes(std::span(data + 1, size - 1));
    const Decoded decoded = decode_frame(frame, flags);
    require(decoded.verdict < DropReason::count_ && within(decoded.payload, frame));
    if (decoded.verdict == DropReason::none) {
        check_door(*doors.whole, decoded, frame);
        check_door(*doors.lines, decoded, frame);
    }
    MacAddress mac;
    mac.bytes[0] = std::byte{2};
    const auto reply = std::make_unique<std::byte[]>(2048);
    const std::size_t room = 2048U >> (data[0] >> 5);
    const std::size_t length = respond(frame, {mac, addresses}, {reply.get(), room});
    require(length <= room && length <= std::max<std::size_t>(frame.size(), 94));
    require(respond(frame, {mac, {}}, {reply.get(), room}) == 0);

    std::string why;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto spec = parse_door(text, why)) {
        const auto again = parse_door(to_text(*spec), why);
        require(again.has_value() && *again == *spec);
    } else {
        require(!why.empty());
    }
    return 0;
}
