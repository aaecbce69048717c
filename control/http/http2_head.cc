#include "control/http/http2_head.h"

#include <algorithm>
#include <array>

#include "control/http/message.h"

namespace penstock::http {
namespace {

// RFC 9113, 10.5.1: what a field costs beside its name and value.
constexpr std::size_t field_overhead_bytes = 32;

constexpr std::array<std::string_view, 5> connection_headers{
    "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"};

}  // namespace

void HeadBlock::add(std::string_view name, std::string_view value, std::size_t bytes_max) {
    size_bytes += name.size() + value.size() + field_overhead_bytes;
    if (size_bytes <= bytes_max) {
        text.append(name).append(value);
        fields.push_back({name.size(), value.size()});
    }
}

void HeadBlock::clear() noexcept {
    text.clear();
    fields.clear();
    size_bytes = 0;
    invalid = false;
}

void AnswerHead::add(std::string_view name, std::string_view value) {
    if (std::ranges::any_of(connection_headers, [name](std::string_view forbidden) {
            return equals_ignoring_case(name, forbidden);
        })) {
        return;
    }
    for (const char c : name) {
        text_.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    }
    for (const char c : value) {
        // A control character would make the answer malformed for the peer.
        const auto byte = static_cast<unsigned char>(c);
        text_.push_back(byte < 0x20 || byte == 0x7f ? ' ' : c);
    }
    sizes_.emplace_back(name.size(), value.size());
}

std::span<const nghttp2_nv> AnswerHead::fields() {
    auto* at = reinterpret_cast<std::uint8_t*>(text_.data());
    fields_.clear();
    for (const auto& [name_bytes, value_bytes] : sizes_) {
        fields_.push_back({at, at + name_bytes, name_bytes, value_bytes, NGHTTP2_NV_FLAG_NONE});
        at += name_bytes + value_bytes;
    }
    return fields_;
}

}  // namespace penstock::http
