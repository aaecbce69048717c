#include "control/http/target.h"

#include <algorithm>

#include "control/http/message.h"
#include "control/http/text.h"

namespace penstock::http {

namespace {

// Takes the part before the next slash.
std::string_view take_part(std::string_view& path) noexcept {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    return part;
}

// Of "%41" and what follows; -1 where no escape begins.
int escaped_byte(std::string_view text) noexcept {
    if (text.size() < 3 || text[0] != '%') {
        return -1;
    }
    const int high = hex_value(text[1]);
    const int low = hex_value(text[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Of a presigned address; the gate has looked at them.
bool is_of_signature(std::string_view name) noexcept {
    return name.size() > 6 && equals_ignoring_case(name.substr(0, 6), "X-Amz-");
}

}  // namespace

std::optional<std::vector<std::string>> fit(std::string_view pattern, std::string_view path) {
    if (std::count(pattern.begin(), pattern.end(), '/') !=
        std::count(path.begin(), path.end(), '/')) {
        return std::nullopt;
    }
    std::vector<std::string> parts;
    while (!pattern.empty()) {
        const std::string_view wanted = take_part(pattern);
        const std::string_view found = take_part(path);
        if (!wanted.starts_with('{')) {
            if (wanted != found) {
                return std::nullopt;
            }
            continue;
        }
        auto part = decode_percent(found);
        if (!part || part->empty()) {
            return std::nullopt;
        }
        parts.push_back(std::move(*part));
    }
    return parts;
}

const std::string* find(const Texts& texts, std::string_view name) noexcept {
    const auto it =
        std::find_if(texts.begin(), texts.end(), [&](const auto& t) { return t.first == name; });
    return it == texts.end() ? nullptr : &it->second;
}

std::optional<std::string> decode_percent(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out.push_back(text[i]);
            continue;
        }
        const int byte = escaped_byte(text.substr(i));
        if (byte < 0) {
            return std::nullopt;
        }
        out.push_back(static_cast<char>(byte));
        i += 2;
    }
    return out;
}

std::string decode_percent_leniently(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const int byte = escaped_byte(text.substr(i));
        out.push_back(byte < 0 ? text[i] : static_cast<char>(byte));
        i += byte < 0 ? 0 : 2;
    }
    return out;
}

void append_percent_encoded(std::string& out, std::string_view text) {
    static constexpr std::string_view plain = "-._~";
    static constexpr std::string_view hex = "0123456789ABCDEF";
    for (const char c : text) {
        if (is_letter_or_digit(c) || plain.find(c) != std::string_view::npos) {
            out.push_back(c);
        } else {
            const auto byte = static_cast<unsigned char>(c);
            out.push_back('%');
            out.push_back(hex[byte >> 4]);
            out.push_back(hex[byte & 15]);
        }
    }
}

std::string encode_percent(std::string_view text) {
    std::string out;
    append_percent_encoded(out, text);
    return out;
}

std::expected<Texts, std::string> read_query(std::string_view query) {
    Texts texts;
    while (!query.empty()) {
        const std::size_t end = std::min(query.find('&'), query.size());
        const std::string_view pair = query.substr(0, end);
        query.remove_prefix(std::min(end + 1, query.size()));
        if (pair.empty()) {
            continue;
        }
        const std::size_t equals = std::min(pair.find('='), pair.size());
        auto name = decode_percent(pair.substr(0, equals));
        auto value = decode_percent(pair.substr(std::min(equals + 1, pair.size())));
        if (!name || !value) {
            return std::unexpected(
                "the query: a percent sign must be followed by two hexadecimal "
                "digits; write %25 for the sign itself");
        }
        if (is_of_signature(*name)) {
            continue;
        }
        if (find(texts, *name) != nullptr) {
            return std::unexpected("the query: found " + *name + " twice, expected it once");
        }
        texts.emplace_back(std::move(*name), std::move(*value));
    }
    return texts;
}

}  // namespace penstock::http
