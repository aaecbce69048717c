// pcapng (draft-ietf-opsawg-pcapng), as much of it as a capture of ours needs: one section, one
// interface per port, packets with nanosecond times and their fate as a comment, little-endian.
//
// Runs on: any thread. Allocates: in the string it appends to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dataplane/capture/tap.h"

namespace penstock {

// Section header. `application` names who wrote it.
void append_pcapng_section(std::string& out, std::string_view application);
// Interfaces are numbered in the order they are appended. `raw`: packets begin with an IP header,
// not with an Ethernet one.
void append_pcapng_interface(std::string& out, std::string_view name, bool raw);
// A packet of a kernel socket gets the IP and UDP headers that the kernel took away.
void append_pcapng_packet(std::string& out, const CapturedPacket& packet, Bytes bytes);

}  // namespace penstock
