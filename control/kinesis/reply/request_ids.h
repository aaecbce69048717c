// Headers of every answer: its ids, x-amzn-RequestId and x-amz-id-2, and what lets a page of
// another origin read it.
//
// Runs on: the control thread it belongs to.
// Guarantees: two ids differ; they are not secret.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "control/http/server.h"

namespace penstock::kinesis {

class RequestIds {
public:
    RequestIds();
    [[nodiscard]] std::string request_id();   // 8-4-4-4-12 hex digits
    [[nodiscard]] std::string extended_id();  // base64 of 72 bytes

private:
    [[nodiscard]] std::uint64_t next() noexcept;
    std::array<std::uint64_t, 2> state_{};
};

// Of the answer to a request with an Origin; none otherwise.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> cors_headers(
    const http::HttpRequest& request);

// All of them, for an exchange that is answered by what does not know of them.
void add_headers(RequestIds& ids, http::HttpExchange& exchange);

}  // namespace penstock::kinesis
