#include "dataplane/session/open_gate.h"

#include <algorithm>
#include <cstring>

#include "storage/base/check.h"

namespace penstock::session {
namespace {

constexpr std::uint64_t burst_ns = 100'000'000;
constexpr std::size_t cookie_at = header_bytes + random_bytes;

std::uint64_t minute_of(std::int64_t clock_ms) noexcept {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(clock_ms, 0)) / 60'000;
}

}  // namespace

OpenGate::OpenGate(const Limits& limits, std::unique_ptr<Cmac> cmac) noexcept
    : each_ns_(1'000'000'000 / std::max(limits.per_second, 1U)), cmac_(std::move(cmac)) {}

OpenGate::Cookie OpenGate::cookie_of(Bytes datagram, const Peer& from,
                                     std::uint64_t minute) noexcept {
    struct Covered {
        std::array<std::byte, 16> address{};
        std::uint64_t minute = 0;
        std::uint64_t psk = 0;
        std::array<std::byte, random_bytes> client{};
        std::uint16_t port = 0;
        IpFamily family = IpFamily::none;
        std::uint8_t reserved[5] = {};
    };
    static_assert(std::has_unique_object_representations_v<Covered>);
    Covered covered;
    covered.address = from.address.bytes;
    covered.minute = minute;
    covered.psk = load<Header>(datagram.data()).session;
    std::memcpy(covered.client.data(), datagram.data() + header_bytes, random_bytes);
    covered.port = from.port;
    covered.family = from.address.family;
    const Cmac::Tag tag = cmac_->of({reinterpret_cast<const std::byte*>(&covered), sizeof covered});
    Cookie cookie;
    store(cookie.data(), minute);
    std::memcpy(cookie.data() + sizeof minute, tag.data(), tag.size());
    static_assert(sizeof minute + sizeof tag == cookie_bytes);
    return cookie;
}

// A token bucket as one number: when everything taken so far is paid for.
bool OpenGate::take(std::uint64_t now_ns) noexcept {
    const std::uint64_t next = std::max(paid_until_ns_, now_ns) + each_ns_;
    if (next > now_ns + burst_ns) {
        return false;
    }
    paid_until_ns_ = next;
    return true;
}

OpenGate::Fate OpenGate::judge(Bytes datagram, const Peer& from, bool is_busy, std::uint64_t now_ns,
                               std::int64_t clock_ms) noexcept {
    PENSTOCK_CHECK(datagram.size() == open_bytes);
    const Bytes cookie = datagram.subspan(cookie_at, cookie_bytes);
    const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
    if (std::all_of(cookie.begin(), cookie.end(), is_zero)) {
        return !is_busy && take(now_ns) ? Fate::pass : Fate::retry;
    }
    const std::uint64_t now = minute_of(clock_ms);
    const auto minute = load<std::uint64_t>(cookie.data());
    if (minute != now && minute + 1 != now) {
        return Fate::bad_cookie;
    }
    const Cookie right = cookie_of(datagram, from, minute);
    return same_tag(cookie.data() + 8, right.data() + 8) ? Fate::pass : Fate::bad_cookie;
}

void OpenGate::write_retry(Bytes datagram, const Peer& from, std::int64_t clock_ms,
                           MutableBytes out) noexcept {
    PENSTOCK_CHECK(datagram.size() == open_bytes && out.size() >= retry_bytes);
    auto header = load<Header>(datagram.data());
    header.type = DatagramType::retry;
    store(out.data(), header);
    std::memcpy(out.data() + header_bytes, datagram.data() + header_bytes, random_bytes);
    store(out.data() + cookie_at, cookie_of(datagram, from, minute_of(clock_ms)));
}

}  // namespace penstock::session
