#include "control/http/connection.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace penstock::http {
namespace {

constexpr std::array<std::string_view, ending_count> ending_names{
    "peer", "served", "malformed", "too_large", "slow",    "unread",
    "idle", "flood",  "tls",       "crowded",   "stopping"};

// What the first bytes of a body take: so little that many who send no more of it do no harm.
constexpr std::size_t body_first_bytes = 64 * 1024;
// Up to here it is copied once at most, beyond it each time that it has become four times as large.
constexpr std::size_t body_second_bytes = 1024 * 1024;

}  // namespace

std::string_view name_of(Ending ending) noexcept {
    return ending_names[static_cast<std::size_t>(ending)];
}

std::size_t next_body_capacity(std::size_t capacity_bytes, std::size_t whole_bytes) noexcept {
    const std::size_t wanted = capacity_bytes == 0                  ? body_first_bytes
                               : capacity_bytes < body_second_bytes ? body_second_bytes
                                                                    : 4 * capacity_bytes;
    return std::min(wanted, whole_bytes);
}

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

HttpResponse make_refusal(const ConnectionContext& context, HttpResponse response) {
    if (context.complete_refusal) {
        context.complete_refusal(response);
    }
    return response;
}

}  // namespace penstock::http
