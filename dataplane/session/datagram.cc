#include "dataplane/session/datagram.h"

namespace penstock::session {
namespace {

DropReason check(Bytes datagram, Header& out) noexcept {
    if (datagram.size() < datagram_bytes_min || datagram.size() > datagram_bytes_max) {
        return DropReason::session_truncated;
    }
    out = load<Header>(datagram.data());
    if (out.version != protocol_version || out.type == DatagramType::none ||
        out.type > DatagramType::server || out.flags != 0 || out.reserved != 0 ||
        out.packet_number == 0) {
        return DropReason::session_version;
    }
    if (out.session == 0) {
        return DropReason::session_unknown;
    }
    if (out.packet_number > packet_number_max || out.key_epoch != key_epoch_of(out.packet_number)) {
        return DropReason::session_key_epoch;
    }
    return DropReason::none;
}

}  // namespace

DropReason check_at_server(Bytes datagram, Header& out) noexcept {
    if (const DropReason reason = check(datagram, out); reason != DropReason::none) {
        return reason;
    }
    switch (out.type) {
        case DatagramType::data:
            return DropReason::none;
        case DatagramType::open:
            return datagram.size() == open_bytes ? DropReason::none : DropReason::session_open_size;
        default:
            return DropReason::session_direction;
    }
}

DropReason check_at_client(Bytes datagram, Header& out) noexcept {
    if (const DropReason reason = check(datagram, out); reason != DropReason::none) {
        return reason;
    }
    switch (out.type) {
        case DatagramType::server:
            return DropReason::none;
        case DatagramType::retry:
            return datagram.size() == retry_bytes ? DropReason::none
                                                  : DropReason::session_truncated;
        case DatagramType::accept:
            return datagram.size() <= open_bytes &&
                           datagram.size() >= header_bytes + random_bytes + tag_bytes
                       ? DropReason::none
                       : DropReason::session_truncated;
        default:
            return DropReason::session_direction;
    }
}

}  // namespace penstock::session
