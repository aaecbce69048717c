#include "control/kinesis/reply/event_stream.h"

#include <cstdint>

#include <isa-l.h>

#include "storage/base/check.h"

namespace penstock::kinesis {

namespace {

constexpr std::size_t prelude_bytes = 12;  // two lengths and their checksum
constexpr char text_type = 7;

void put_u32(char* at, std::size_t value) noexcept {
    for (int i = 0; i < 4; ++i) {
        at[i] = static_cast<char>(value >> (24 - 8 * i) & 0xff);
    }
}

// ISA-L takes what was computed before as its first argument.
std::uint32_t crc32(const char* from, std::size_t size) noexcept {
    return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(from), size);
}

}  // namespace

EventMessage::EventMessage(std::string& out, std::initializer_list<EventHeader> headers)
    : out_(out), start_(out.size()) {
    out_.append(prelude_bytes, '\0');
    for (const auto& [name, value] : headers) {
        PENSTOCK_CHECK(!name.empty() && name.size() <= 255 && value.size() <= 32767);
        out_.push_back(static_cast<char>(name.size()));
        out_ += name;
        out_.push_back(text_type);
        out_.push_back(static_cast<char>(value.size() >> 8));
        out_.push_back(static_cast<char>(value.size() & 0xff));
        out_ += value;
    }
    put_u32(out_.data() + start_ + 4, out_.size() - start_ - prelude_bytes);
}

void EventMessage::finish() {
    char* const message = out_.data() + start_;
    put_u32(message, out_.size() - start_ + 4);
    put_u32(message + 8, crc32(message, 8));
    const std::uint32_t whole = crc32(message, out_.size() - start_);
    out_.append(4, '\0');
    put_u32(out_.data() + out_.size() - 4, whole);
}

void append_event(std::string& out, std::initializer_list<EventHeader> headers,
                  std::string_view payload) {
    EventMessage message(out, headers);
    out += payload;
    message.finish();
}

}  // namespace penstock::kinesis
