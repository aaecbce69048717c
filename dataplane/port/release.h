// Gives back what a node that crashed left of a port.
//
// Most of what a port takes ends with the process: packet sockets, tap interfaces, the XDP program
// once the port is open. What can be left is a program that was attached when the node was killed
// in the moment of opening the port, and the file of a memif socket.
//
// Runs on: control threads, and the `port release` command.
#pragma once

#include <string>
#include <vector>

#include "storage/base/result.h"

namespace penstock {

struct PortRelease {
    enum class Outcome : std::uint8_t { nothing_left, released, in_use };
    std::string subject;  // the port, or an interface
    Outcome outcome = Outcome::nothing_left;
    std::string detail;  // what was found and done, for people
};

// `device` as --port has it. Fails, with the reason in `why`, for what is no port.
[[nodiscard]] Result<PortRelease> release_port(const std::string& device, std::string& why);

// Every interface of this machine that runs an XDP program of ours.
[[nodiscard]] std::vector<PortRelease> release_interfaces();

}  // namespace penstock
