// Bytes on their way to a peer, in order: some copied, some lent by the answers they belong to.
//
// Runs on: one control thread.
// Guarantees: what fill() shows stays valid until something is added or taken away.
#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <string_view>

#include "control/http/message.h"

namespace penstock::http {

class OutputQueue {
public:
    void copy(std::string_view bytes);
    void take(std::string&& bytes);
    // `bytes` is a part of `*owner`, which is kept until they are sent.
    void lend(BodyPiece owner, std::string_view bytes);

    // The next bytes to send; returns how many of `pieces` were filled.
    [[nodiscard]] std::size_t fill(std::span<std::string_view> pieces) const noexcept;
    void sent(std::size_t count_bytes);
    void clear() noexcept;
    [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }
    [[nodiscard]] bool empty() const noexcept { return size_bytes_ == 0; }

private:
    struct Piece {
        std::string own;
        BodyPiece owner;  // set: `lent` counts, else `own`
        std::string_view lent;

        [[nodiscard]] std::string_view view() const noexcept { return owner ? lent : own; }
    };

    std::deque<Piece> pieces_;
    std::size_t offset_ = 0;  // of the first piece, sent already
    std::size_t size_bytes_ = 0;
};

}  // namespace penstock::http
