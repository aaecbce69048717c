// Answers that keep a port reachable: ARP, IPv6 neighbour solicitation, ICMP and ICMPv6 echo.
//
// Runs on: any thread; pure. Allocates: nothing.
// Guarantees: answers only for the addresses given, and never to a multicast or forged-looking
// sender; without addresses it answers nothing.
#pragma once

#include <cstddef>
#include <span>

#include "dataplane/wire/address.h"
#include "storage/base/bytes.h"

namespace penstock {

// Who a port is. No address of its own: it takes every destination address and answers nothing.
struct PortIdentity {
    MacAddress mac;
    std::span<const IpPrefix> addresses;

    // May a datagram to this address be taken?
    [[nodiscard]] bool accepts(const IpAddress& destination) const noexcept;
};

// Builds the answer to `frame` in `out`; returns its length, or 0 when it wants none (or when `out`
// is smaller than the answer, which has at most max(frame, 94) bytes).
[[nodiscard]] std::size_t respond(Bytes frame, const PortIdentity& self, MutableBytes out) noexcept;

}  // namespace penstock
