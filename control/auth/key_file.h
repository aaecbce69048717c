// The file with the key that seals credentials: 64 hexadecimal digits, readable by its owner alone,
// kept apart from the data that it protects.
//
// Runs on: the thread that starts the node.
#pragma once

#include <cstddef>
#include <expected>
#include <span>
#include <string>

namespace penstock::auth {

enum class KeyFileFault : unsigned char { missing, refused };
struct KeyFileProblem {
    KeyFileFault fault = KeyFileFault::refused;
    std::string why;  // one line for people, without the option's name
};

// The whole text of a file that holds secrets. Refused: a path within one of `data_directories`, a
// file that others than its owner may use, one of more than `bytes_max`.
[[nodiscard]] std::expected<std::string, KeyFileProblem> read_secret_file(
    const std::string& path, std::span<const std::string> data_directories, std::size_t bytes_max);
// The 32 bytes. Refused: a path within one of `data_directories`, a file that others may read, or
// that holds something else.
[[nodiscard]] std::expected<std::string, KeyFileProblem> read_key_file(
    const std::string& path, std::span<const std::string> data_directories);
// Empty when a start can go on: the file holds a key, or there is none and one can be made. Changes
// nothing; otherwise what is wrong, one line for people, without the option's name.
[[nodiscard]] std::string key_file_problem(const std::string& path,
                                           std::span<const std::string> data_directories);
// Makes the file with a new key, durably. Refused where one is already.
[[nodiscard]] std::expected<std::string, KeyFileProblem> make_key_file(
    const std::string& path, std::span<const std::string> data_directories);

}  // namespace penstock::auth
