// The node's unix socket, for programs on this machine that run as root or as the node's own user:
// how the first credential is made, and how `penstock top` and the like get in without one.
//
// Runs on: the thread that starts the node; connect_local() and is_trusted() on any.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace penstock {

// Where a node listens whose HTTP is at that address, unless told otherwise: "@penstock-4567", and
// "@penstock-127.0.0.2-4567" of a host that is not 127.0.0.1, so that each of several nodes on one
// port has its own. All addresses (0.0.0.0, ::) are that host's too.
[[nodiscard]] std::string default_local_socket(std::string_view http_host, std::uint16_t http_port);

// Listens on an absolute path, made for its owner alone, or on a name in the abstract namespace
// ("@name"), which leaves nothing behind. A path that a dead process left is taken over. The error
// is one line for people.
[[nodiscard]] std::expected<int, std::string> listen_local(const std::string& name);
void remove_local(const std::string& name) noexcept;

// A connection there that does not block, or -1 and errno.
[[nodiscard]] int connect_local(std::string_view name) noexcept;
// Of the abstract namespace, where a name is whoever's comes first.
[[nodiscard]] bool is_abstract(std::string_view name) noexcept;

// Whether the process at the other end is root's or our own user's, as the kernel says.
[[nodiscard]] bool is_trusted(int fd) noexcept;

}  // namespace penstock
