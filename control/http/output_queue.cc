#include "control/http/output_queue.h"

#include "storage/base/check.h"

namespace penstock::http {
namespace {

// Small pieces are joined up to this size: each costs an entry of the system call that sends them.
constexpr std::size_t joined_bytes_max = 16 * 1024;

}  // namespace

void OutputQueue::copy(std::string_view bytes) {
    size_bytes_ += bytes.size();
    if (!pieces_.empty() && !pieces_.back().owner &&
        pieces_.back().own.size() + bytes.size() <= joined_bytes_max) {
        pieces_.back().own.append(bytes);
    } else if (!bytes.empty()) {
        pieces_.push_back({std::string(bytes), nullptr, {}});
    }
}

void OutputQueue::take(std::string&& bytes) {
    if (!bytes.empty()) {
        size_bytes_ += bytes.size();
        pieces_.push_back({std::move(bytes), nullptr, {}});
    }
}

void OutputQueue::lend(BodyPiece owner, std::string_view bytes) {
    if (!bytes.empty()) {
        size_bytes_ += bytes.size();
        pieces_.push_back({{}, std::move(owner), bytes});
    }
}

std::size_t OutputQueue::fill(std::span<std::string_view> pieces) const noexcept {
    std::size_t count = 0;
    for (const Piece& piece : pieces_) {
        if (count == pieces.size()) {
            break;
        }
        pieces[count] = count == 0 ? piece.view().substr(offset_) : piece.view();
        ++count;
    }
    return count;
}

void OutputQueue::sent(std::size_t count_bytes) {
    PENSTOCK_CHECK(count_bytes <= size_bytes_);
    size_bytes_ -= count_bytes;
    while (count_bytes > 0) {
        const std::size_t left = pieces_.front().view().size() - offset_;
        if (count_bytes < left) {
            offset_ += count_bytes;
            return;
        }
        count_bytes -= left;
        pieces_.pop_front();
        offset_ = 0;
    }
}

void OutputQueue::clear() noexcept {
    pieces_.clear();
    offset_ = 0;
    size_bytes_ = 0;
}

}  // namespace penstock::http
