// Paths and queries of request targets.
//
// Runs on: any thread.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::http {

// Nothing when a percent sign is not followed by two hexadecimal digits.
[[nodiscard]] std::optional<std::string> decode_percent(std::string_view text);
// The same, but that percent signs which begin no escape stay as they are.
[[nodiscard]] std::string decode_percent_leniently(std::string_view text);
// For a query: what is not a letter, a digit or one of -._~ becomes %XX, as SigV4 has it.
void append_percent_encoded(std::string& out, std::string_view text);
[[nodiscard]] std::string encode_percent(std::string_view text);

// What stands in `path` where `pattern` has names: {"events"} for "/v1/streams/{stream_name}" and
// "/v1/streams/events". Nothing when it does not fit; a part may not be empty.
[[nodiscard]] std::optional<std::vector<std::string>> fit(std::string_view pattern,
                                                          std::string_view path);

// The parameters of a query as they were meant, but for those of a signature, each once. The error
// is a line for people.
using Texts = std::vector<std::pair<std::string, std::string>>;
[[nodiscard]] std::expected<Texts, std::string> read_query(std::string_view query);
// Null when there is none of the name.
[[nodiscard]] const std::string* find(const Texts& texts, std::string_view name) noexcept;

}  // namespace penstock::http
