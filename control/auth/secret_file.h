// Writing files that hold secrets: readable by their owner alone, whole or not there, durable.
//
// Runs on: the thread that starts the node, and that of a command.
#pragma once

#include <expected>
#include <string>
#include <string_view>

namespace penstock::auth {

enum class IfThere : unsigned char { refuse, replace };

// The errors are lines for people, without the file's name.
//
// Makes the directory that `path` is to stand in, durably. One level only: further up, a directory
// that is missing is a mistake or a mount.
[[nodiscard]] std::expected<void, std::string> make_directory_of(const std::string& path);
// Writes it beside and moves it to its place: a crash leaves the file as it was before or as it is
// after. Makes its directory too. One that is replaced goes on to be its owner's.
[[nodiscard]] std::expected<void, std::string> write_secret_file(const std::string& path,
                                                                 std::string_view text,
                                                                 IfThere if_there);

}  // namespace penstock::auth
