#include "dataplane/drop.h"

#include "storage/base/check.h"

namespace penstock {
namespace {

struct ReasonText {
    DropReason reason;
    bool loses_data;
    const char* label;
    const char* description;
};

constexpr std::array<ReasonText, drop_reason_count> texts{{
    {DropReason::none, false, "none", "taken"},
    {DropReason::truncated, true, "truncated",
     "the packet ends before its own length fields say; check the link's MTU"},
    {DropReason::not_ip, true, "not_ip", "an Ethernet frame that carries neither IPv4 nor IPv6"},
    {DropReason::bad_ip_header, true, "bad_ip_header",
     "an IP header that contradicts itself: version, header length or extension headers"},
    {DropReason::bad_ip_checksum, true, "bad_ip_checksum",
     "the IPv4 header checksum is wrong: damaged on the way"},
    {DropReason::fragment, true, "fragment",
     "a fragment; fragments are not put together: let the producer send at most the MTU"},
    {DropReason::not_udp, true, "not_udp",
     "an IP packet of another protocol (TCP, …); doors take UDP only"},
    {DropReason::bad_udp_header, true, "bad_udp_header", "a UDP length below its own header's"},
    {DropReason::bad_udp_checksum, true, "bad_udp_checksum",
     "the UDP checksum is wrong, or missing over IPv6: damaged on the way, or a sender that leaves "
     "it to hardware"},
    {DropReason::link_control, false, "link_control",
     "housekeeping of the link that carries no record: ARP, ICMP, neighbour discovery, multicast "
     "membership, LLDP, spanning tree"},
    {DropReason::not_ours, true, "not_ours",
     "the destination address is none of the port's --address"},
    {DropReason::no_door, true, "no_door", "no door has this UDP port; add --door udp:PORT=STREAM"},
    {DropReason::source_not_allowed, true, "source_not_allowed",
     "the source address is outside the door's from= prefixes"},
    {DropReason::door_quota, true, "door_quota",
     "the door's quota= of bytes per second was used up"},
    {DropReason::stream_missing, true, "stream_missing",
     "the door's stream does not exist; create it"},
    {DropReason::empty_datagram, true, "empty_datagram",
     "a datagram without payload, or of empty lines only: there is nothing to record"},
    {DropReason::too_large, true, "too_large",
     "a record above the stream's record size limit, or a quarter of the lane's memory"},
    {DropReason::lane_ring_full, true, "lane_ring_full",
     "the ring to the lane that owns the shard was full"},
    {DropReason::no_memory, true, "no_memory",
     "the lane's buffers were full, for every shard: the replicas are slower than the producers"},
    {DropReason::shard_behind, true, "shard_behind",
     "the shard had filled its share of the lane's buffers: its producers are faster than the "
     "replicas; other shards were not held up"},
    {DropReason::no_room, true, "no_room",
     "space for more was still being reserved: the replicas grow slower than producers send"},
    {DropReason::disk_full, true, "disk_full",
     "the replicas have only their reserve left: shorten retention or add space"},
    {DropReason::no_quorum, true, "no_quorum",
     "fewer than two replicas take writes; see `penstock replica status`"},
    {DropReason::needs_all, true, "needs_all",
     "ack level `all` was asked for and a replica is out"},
    {DropReason::unknown_shard, true, "unknown_shard",
     "the shard went away between routing and appending: its stream was deleted"},
    {DropReason::shard_closed, true, "shard_closed",
     "the shard was closed by a split or merge between routing and appending"},
    {DropReason::key_unavailable, true, "key_unavailable",
     "the stream is encrypted and its key is not to be had; see `penstock keys list`"},
    {DropReason::producer_fenced, true, "producer_fenced",
     "its producer has put records of a newer epoch: an older life of it still sends"},
    {DropReason::producer_window, true, "producer_window",
     "its producer's sequence number is not remembered any more: too many calls were under way"},
    {DropReason::producers_full, true, "producers_full",
     "no room to remember more producers: fewer names, or wait until some have been silent for an "
     "hour"},
    {DropReason::session_truncated, true, "session_truncated",
     "a session datagram that is shorter or longer than its kind can be; check the path's MTU"},
    {DropReason::session_version, true, "session_version",
     "not a session datagram of version 1: something else sends to the session port, or a newer "
     "client"},
    {DropReason::session_direction, true, "session_direction",
     "a session datagram that only a server sends: somebody returns our own"},
    {DropReason::session_open_size, true, "session_open_size",
     "a request to open a session that isn't padded to 1200 bytes"},
    {DropReason::session_unknown, true, "session_unknown",
     "a session this lane doesn't have: it has ended, or the node was restarted; its client opens "
     "another"},
    {DropReason::session_key_epoch, true, "session_key_epoch",
     "a packet number of a key that is over, or isn't there yet; its sender sends it again"},
    {DropReason::session_replay_old, true, "session_replay_old",
     "a packet number too far behind the session's newest to know whether it came before"},
    {DropReason::session_replayed, true, "session_replayed",
     "a session datagram that came before: the network doubled it, or somebody replays it"},
    {DropReason::session_forged, true, "session_forged",
     "a session datagram that is not what its session's client sent: damaged or forged"},
    {DropReason::session_malformed, true, "session_malformed",
     "an authentic session datagram that breaks the protocol: a defect of the client; its session "
     "is closed"},
    {DropReason::session_cookie, true, "session_cookie",
     "a request to open a session with a cookie that isn't its address's, or is over a minute old"},
    {DropReason::session_open_busy, true, "session_open_busy",
     "more requests to open sessions than are looked at; clients ask again"},
    {DropReason::segment_chain_too_long, true, "segment_chain_too_long",
     "a packet in more pieces than one packet buffer holds; lower the link's MTU"},
    {DropReason::tx_full, false, "tx_full",
     "an answer could not be sent: the transmit ring was full"},
    {DropReason::nic_missed, true, "nic_missed",
     "the device or kernel dropped packets because our receive ring was full: give it more lanes "
     "or faster replicas"},
    {DropReason::nic_error, true, "nic_error", "the device received damaged packets"},
    {DropReason::nic_no_buffer, true, "nic_no_buffer",
     "the device found no free packet buffer: give EAL more memory"},
}};

constexpr bool texts_in_order() {
    for (std::size_t i = 0; i < texts.size(); ++i) {
        if (static_cast<std::size_t>(texts[i].reason) != i || texts[i].label == nullptr) {
            return false;
        }
    }
    return true;
}
static_assert(texts_in_order(), "one text per reason, in the order of the enum");

const ReasonText& text_of(DropReason reason) noexcept {
    PENSTOCK_CHECK(reason < DropReason::count_);
    return texts[static_cast<std::size_t>(reason)];
}

}  // namespace

const char* label(DropReason reason) noexcept {
    return text_of(reason).label;
}
const char* describe(DropReason reason) noexcept {
    return text_of(reason).description;
}
bool loses_data(DropReason reason) noexcept {
    return text_of(reason).loses_data;
}

DropReason drop_reason(AppendVerdict verdict) noexcept {
    switch (verdict) {
        case AppendVerdict::accepted:
            return DropReason::none;
        case AppendVerdict::no_memory:
            return DropReason::no_memory;
        case AppendVerdict::shard_behind:
            return DropReason::shard_behind;
        case AppendVerdict::no_room:
            return DropReason::no_room;
        case AppendVerdict::disk_full:
            return DropReason::disk_full;
        case AppendVerdict::no_quorum:
            return DropReason::no_quorum;
        case AppendVerdict::needs_all:
            return DropReason::needs_all;
        case AppendVerdict::unknown_shard:
            return DropReason::unknown_shard;
        case AppendVerdict::shard_closed:
            return DropReason::shard_closed;
        case AppendVerdict::too_large:
            return DropReason::too_large;
        case AppendVerdict::producer_fenced:
            return DropReason::producer_fenced;
        case AppendVerdict::producer_window:
            return DropReason::producer_window;
        case AppendVerdict::producers_full:
            return DropReason::producers_full;
        case AppendVerdict::count_:
            break;
    }
    PENSTOCK_CHECK(false);
}

}  // namespace penstock
