// Messages of AWS' event streams (application/vnd.amazon.eventstream), which carry a subscription.
//
//   total length 4 | headers' length 4 | CRC-32 of these 4 | headers | payload | CRC-32 of all 4
//
// in network byte order; a header is its name's length (1), name, type (1; 7 is text), value's
// length (2) and value.
//
// Runs on: any thread.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace penstock::kinesis {

using EventHeader = std::pair<std::string_view, std::string_view>;

// A message is appended to a string in two steps, so that its payload is written where it stays.
class EventMessage {
public:
    // Names of 1..255 bytes, values of up to 32767. `out` must outlive this.
    EventMessage(std::string& out, std::initializer_list<EventHeader> headers);
    EventMessage(const EventMessage&) = delete;
    EventMessage& operator=(const EventMessage&) = delete;
    // What was appended to `out` since is the payload.
    void finish();

private:
    std::string& out_;
    std::size_t start_;
};

// A whole message.
void append_event(std::string& out, std::initializer_list<EventHeader> headers,
                  std::string_view payload);

}  // namespace penstock::kinesis
