// Follows the boundaries of HTTP/2 frames in what a peer sends, for what nghttp2 does not tell:
// how long a frame or header block has been under way, and how many frames brought nothing.
//
// Runs on: one control thread.
// Guarantees: looks at lengths, types and flags only; judging the frames is nghttp2's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::http {

class FrameWatch {
public:
    void see(std::string_view bytes, std::uint64_t now_ms) noexcept;

    // A frame, a header block of several frames, or the preface has begun and is not complete.
    [[nodiscard]] bool within() const noexcept {
        return preface_left_bytes_ != 0 || header_bytes_ != 0 || in_block_;
    }
    // What is under way is a DATA frame: its stream's progress counts, not its beginning.
    [[nodiscard]] bool within_data() const noexcept;
    [[nodiscard]] std::uint64_t since_ms() const noexcept { return since_ms_; }
    // When a frame was last complete.
    [[nodiscard]] std::uint64_t last_ms() const noexcept { return last_ms_; }
    void start(std::uint64_t now_ms) noexcept { since_ms_ = last_ms_ = now_ms; }

    // Complete frames that asked for nothing and brought nothing: resets, pings, settings,
    // priorities, unknown ones, empty DATA that does not end its stream.
    [[nodiscard]] std::uint64_t idle_frames() const noexcept { return idle_frames_; }

private:
    void finish(std::uint64_t now_ms) noexcept;

    std::array<unsigned char, 9> header_{};
    std::size_t header_bytes_ = 0;
    std::size_t preface_left_bytes_ = 24;
    std::size_t payload_left_bytes_ = 0;
    std::size_t length_bytes_ = 0;
    bool in_block_ = false;
    std::uint64_t since_ms_ = 0;
    std::uint64_t last_ms_ = 0;
    std::uint64_t idle_frames_ = 0;
};

}  // namespace penstock::http
