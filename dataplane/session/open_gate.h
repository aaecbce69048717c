// Who may ask a control thread to open a session by its pre-shared key: everybody, as long as few
// do; when many do, those who have shown by a cookie that they are reached at their address.
//
// Runs on: the lane. Allocates: when made.
// Guarantees: nothing is kept of a datagram; an answer is smaller than what it answers.
// Format: docs/formats/session.md, "Opening with a pre-shared key".
#pragma once

#include <cstdint>

#include "dataplane/session/session_table.h"

namespace penstock::session {

class OpenGate {
public:
    struct Limits {
        // Without a cookie; as many may come at once as in a tenth of a second.
        std::uint32_t per_second = 1000;
    };
    enum class Fate : std::uint8_t { pass, retry, bad_cookie };

    OpenGate(const Limits& limits, std::unique_ptr<Cmac> cmac) noexcept;

    // Of an OPEN that check_at_server() lets pass. `is_busy`: control threads have enough to do.
    [[nodiscard]] Fate judge(Bytes datagram, const Peer& from, bool is_busy, std::uint64_t now_ns,
                             std::int64_t clock_ms) noexcept;
    // The RETRY that answers it; `out` has retry_bytes.
    void write_retry(Bytes datagram, const Peer& from, std::int64_t clock_ms,
                     MutableBytes out) noexcept;

private:
    using Cookie = std::array<std::byte, cookie_bytes>;
    [[nodiscard]] Cookie cookie_of(Bytes datagram, const Peer& from, std::uint64_t minute) noexcept;
    [[nodiscard]] bool take(std::uint64_t now_ns) noexcept;

    const std::uint64_t each_ns_;
    std::unique_ptr<Cmac> cmac_;
    std::uint64_t paid_until_ns_ = 0;
};

}  // namespace penstock::session
