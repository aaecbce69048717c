// The node's unix socket, for programs on this machine that run as root or as the node's own user:
// how the first credential is made, and how `penstock top` and the like get in without one.
//
// Runs on: the thread that starts the node; is_trusted() on any.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace penstock {

// "@penstock-4567": where a node listens whose HTTP port is that, unless told otherwise.
[[nodiscard]] std::string default_local_socket(std::uint16_t http_port);

// Listens on an absolute path, made for its owner alone, or on a name in the abstract namespace
// ("@name"), which leaves nothing behind. A path that a dead process left is taken over. The error
// is one line for people.
[[nodiscard]] std::expected<int, std::string> listen_local(const std::string& name);
void remove_local(const std::string& name) noexcept;

// Whether the process at the other end is root's or our own user's, as the kernel says.
[[nodiscard]] bool is_trusted(int fd) noexcept;

}  // namespace penstock
