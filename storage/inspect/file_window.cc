#include "storage/inspect/file_window.h"

#include <algorithm>
#include <array>

namespace penstock {

Status FileWindow::open(unsigned replica, std::string_view name) {
    close();
    if (buffer_ == nullptr) {
        buffer_ = engine_.allocate_buffer(capacity_);
        if (buffer_ == nullptr) {
            return fail(Errc::no_memory_room);
        }
    }
    PENSTOCK_TRY(file, engine_.open(replica, name, OpenMode::read_only));
    const auto size = engine_.size_bytes(file);
    if (!size) {
        engine_.close(file);
        return std::unexpected(size.error());
    }
    file_ = file;
    size_ = *size;
    return {};
}

void FileWindow::close() noexcept {
    if (file_ != no_file) {
        engine_.close(file_);
    }
    file_ = no_file;
    size_ = 0;
    from_ = 0;
    have_ = 0;
    failed_until_ = 0;
    error_ = Error{};
}

Bytes FileWindow::view(std::uint64_t at) const noexcept {
    if (at < from_ || at >= from_ + have_) {
        return {};
    }
    return {buffer_ + (at - from_), have_ - (at - from_)};
}

bool FileWindow::has(std::uint64_t at, std::uint64_t need) const noexcept {
    const std::uint64_t until = std::min(at + need, size_);
    return at >= until || (at >= from_ && (until <= from_ + have_ || until <= failed_until_));
}

void FileWindow::load(IoEngine& engine, std::span<FileWindow* const> windows, std::uint64_t at,
                      std::uint64_t need, std::uint64_t piece_bytes, std::uint64_t limit) {
    std::size_t in_flight = 0;
    for (std::size_t i = 0; i < windows.size(); ++i) {
        FileWindow& window = *windows[i];
        if (!window.is_open() || window.has(at, need)) {
            continue;
        }
        const std::uint64_t from = align_down(at, block_bytes);
        const std::uint64_t until =
            std::max(align_up(at + need, block_bytes), std::min(from + piece_bytes, limit));
        const std::uint64_t length =
            std::min({until - from, window.capacity_, align_up(window.size_ - from, block_bytes)});
        window.from_ = from;
        window.have_ = 0;
        window.failed_until_ = from + length;
        window.error_ = Error{};
        if (engine.queue({.kind = IoKind::read,
                          .file = window.file_,
                          .offset = from,
                          .data = window.buffer_,
                          .length = length,
                          .cookie = i})) {
            ++in_flight;
        } else {
            window.error_ = Error{Errc::unavailable, 0, 0};
        }
    }
    std::array<IoCompletion, 8> done;
    while (in_flight != 0) {
        engine.wait(100'000'000);
        const std::size_t count = engine.reap(done);
        for (std::size_t i = 0; i < count; ++i) {
            FileWindow& window = *windows[done[i].cookie];
            if (done[i].result < 0) {
                window.error_ =
                    Error{Errc::io_failed, static_cast<std::uint16_t>(-done[i].result), 0};
            } else {
                window.have_ = static_cast<std::uint64_t>(done[i].result);
            }
            --in_flight;
        }
    }
}

Bytes FileWindow::load(std::uint64_t at, std::uint64_t need, std::uint64_t piece_bytes) {
    FileWindow* self = this;
    load(engine_, {&self, 1}, at, need, piece_bytes, size_);
    return view(at);
}

}  // namespace penstock
