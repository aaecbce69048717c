#include "control/http/frame_watch.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>

namespace penstock::http {
namespace {

static_assert(NGHTTP2_CLIENT_MAGIC_LEN == 24);
constexpr std::size_t type_at = 3;
constexpr std::size_t flags_at = 4;

}  // namespace

void FrameWatch::see(std::string_view bytes, std::uint64_t now_ms) noexcept {
    const std::size_t preface = std::min(preface_left_bytes_, bytes.size());
    preface_left_bytes_ -= preface;
    bytes.remove_prefix(preface);
    while (!bytes.empty()) {
        if (header_bytes_ < header_.size()) {
            if (header_bytes_ == 0 && !in_block_) {
                since_ms_ = now_ms;
            }
            const std::size_t count = std::min(header_.size() - header_bytes_, bytes.size());
            std::memcpy(header_.data() + header_bytes_, bytes.data(), count);
            header_bytes_ += count;
            bytes.remove_prefix(count);
            if (header_bytes_ < header_.size()) {
                return;
            }
            length_bytes_ = (std::size_t{header_[0]} << 16) | (std::size_t{header_[1]} << 8) |
                            std::size_t{header_[2]};
            payload_left_bytes_ = length_bytes_;
        }
        const std::size_t count = std::min(payload_left_bytes_, bytes.size());
        payload_left_bytes_ -= count;
        bytes.remove_prefix(count);
        if (payload_left_bytes_ == 0) {
            finish(now_ms);
        }
    }
}

bool FrameWatch::within_data() const noexcept {
    return header_bytes_ == header_.size() && header_[type_at] == NGHTTP2_DATA;
}

void FrameWatch::finish(std::uint64_t now_ms) noexcept {
    last_ms_ = now_ms;
    header_bytes_ = 0;
    const unsigned type = header_[type_at];
    const unsigned flags = header_[flags_at];
    switch (type) {
        case NGHTTP2_HEADERS:
        case NGHTTP2_CONTINUATION:
            in_block_ = (flags & NGHTTP2_FLAG_END_HEADERS) == 0;
            break;
        case NGHTTP2_DATA:
            idle_frames_ += length_bytes_ == 0 && (flags & NGHTTP2_FLAG_END_STREAM) == 0 ? 1U : 0U;
            break;
        case NGHTTP2_WINDOW_UPDATE:
        case NGHTTP2_GOAWAY:
            break;
        default:
            ++idle_frames_;
    }
}

}  // namespace penstock::http
