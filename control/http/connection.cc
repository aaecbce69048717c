#include "control/http/connection.h"

#include <algorithm>
#include <cstring>

namespace penstock::http {

std::size_t Connection::feed(std::string_view bytes) {
    std::size_t taken = 0;
    while (taken < bytes.size() && wants_input()) {
        const std::span<char> space = input_space();
        const std::size_t count = std::min(space.size(), bytes.size() - taken);
        std::memcpy(space.data(), bytes.data() + taken, count);
        input_received(count);
        taken += count;
    }
    return taken;
}

BodyStream::Next ask(BodyStream& body, BodyPiece& piece) noexcept {
    try {
        const BodyStream::Next next = body.next(piece);
        const bool holds = next != BodyStream::Next::piece || (piece && !piece->empty());
        return holds ? next : BodyStream::Next::broken;
    } catch (...) {
        return BodyStream::Next::broken;
    }
}

}  // namespace penstock::http
