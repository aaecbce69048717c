// A request each part of which is a heap block of its own, exactly as long as it is: so a sanitizer
// sees a reader that goes one byte too far, where in a real request the next part follows.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "control/http/message.h"

namespace penstock::fuzz {

// Copies of bytes, each in a block without a byte to spare.
class ExactBlocks {
public:
    std::string_view keep(std::string_view bytes) {
        auto& block = blocks_.emplace_back(std::make_unique_for_overwrite<char[]>(bytes.size()));
        if (!bytes.empty()) {
            std::memcpy(block.get(), bytes.data(), bytes.size());
        }
        return {block.get(), bytes.size()};
    }

private:
    std::vector<std::unique_ptr<char[]>> blocks_;
};

// `blocks` must outlive the request.
inline std::unique_ptr<http::HttpRequest> exact_request(
    ExactBlocks& blocks, std::string_view method, std::string_view target,
    const std::vector<std::pair<std::string_view, std::string_view>>& headers,
    std::string_view body) {
    auto request = http::HttpRequest::make("", "/", {}, body);
    request->method = blocks.keep(method);
    // The path ends before the query begins, within one block: each gets its own.
    request->set_target(blocks.keep(target));
    request->path = blocks.keep(request->path);
    request->query = blocks.keep(request->query);
    request->authority = blocks.keep(request->authority);
    for (const auto& [name, value] : headers) {
        const std::string_view kept_name = blocks.keep(name);
        request->headers.push_back({kept_name, blocks.keep(value)});
        if (name == ":authority") {
            request->authority = request->headers.back().value;
            request->version = 20;
        }
    }
    return request;
}

// Takes the bytes up to the next line break, and that.
inline std::string_view take_line(std::string_view& rest) noexcept {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
}

// "name:value" in each line, up to an empty one.
inline std::vector<std::pair<std::string_view, std::string_view>> take_headers(
    std::string_view& rest) {
    std::vector<std::pair<std::string_view, std::string_view>> headers;
    while (!rest.empty() && headers.size() < 100) {
        const std::string_view line = take_line(rest);
        if (line.empty()) {
            break;
        }
        const std::size_t colon = std::min(line.find(':', 1), line.size());
        headers.emplace_back(line.substr(0, colon), line.substr(std::min(colon + 1, line.size())));
    }
    return headers;
}

}  // namespace penstock::fuzz
