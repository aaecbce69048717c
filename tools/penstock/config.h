// Settings of a node by name: the table of all there are, their checks, and the TOML file they may
// stand in.
//
// Runs on: the main thread, before any other exists. Throws nothing.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/penstock/options.h"

namespace penstock {

// One value for one setting, in the order given.
struct Setting {
    std::string key;  // "http", "ack-level", …
    std::string value;
    std::string origin;  // "--http" or "node.toml:3: http", the start of an error line
};

struct SettingSpec {
    enum class Shape : std::uint8_t { single, list, flag };
    std::string_view key;
    Shape shape = Shape::single;
    std::string_view placeholder;  // what --help calls the value
    std::string_view help;
    // Stores the value; on failure what is allowed, or the whole reason.
    std::optional<std::string> (*apply)(ServeOptions& options, std::string_view value) = nullptr;
};

// Every setting of `serve`, in the order --help prints them.
[[nodiscard]] std::span<const SettingSpec> setting_specs() noexcept;

// Reads a TOML file into settings. `[[port]]` tables become a `port` and its `address` settings.
// The error is one line that names file, line and key.
[[nodiscard]] std::expected<std::vector<Setting>, std::string> read_config(const std::string& path);
[[nodiscard]] std::expected<std::vector<Setting>, std::string> parse_config(
    std::string_view text, std::string_view file_name);

// Applies file settings, then flags. A flag replaces the file's value; of a list the flags replace
// the whole list, and `--port` with `--address` count as one list. Then what must fit together is
// checked. The error is one line.
[[nodiscard]] std::expected<ServeOptions, std::string> resolve_settings(
    std::span<const Setting> file, std::span<const Setting> flags,
    std::span<const unsigned> allowed_cpus);

// "64MiB" → 67108864. Takes B, KiB, MiB, GiB, TiB or no unit; nothing on anything else or overflow.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text) noexcept;
}  // namespace penstock
