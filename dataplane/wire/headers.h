// Field offsets and numbers of the Ethernet, IP, UDP, ARP and ICMP headers we read and write.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock::wire {

inline constexpr std::size_t ethernet_bytes = 14;
inline constexpr std::size_t vlan_tag_bytes = 4;
inline constexpr std::size_t ethernet_frame_min = 60;  // without the check sequence
inline constexpr unsigned vlan_tags_max = 2;

inline constexpr std::uint16_t ethertype_ipv4 = 0x0800;
inline constexpr std::uint16_t ethertype_arp = 0x0806;
inline constexpr std::uint16_t ethertype_vlan = 0x8100;
inline constexpr std::uint16_t ethertype_qinq = 0x88A8;
inline constexpr std::uint16_t ethertype_ipv6 = 0x86DD;
inline constexpr std::uint16_t ethertype_slow_protocols = 0x8809;  // LACP
inline constexpr std::uint16_t ethertype_eapol = 0x888E;
inline constexpr std::uint16_t ethertype_lldp = 0x88CC;
inline constexpr std::uint16_t ethertype_min = 0x0600;  // below: a length, so 802.3 with LLC

inline constexpr std::size_t arp_bytes = 28;
inline constexpr std::size_t ipv4_bytes_min = 20;
inline constexpr std::size_t ipv6_bytes = 40;
inline constexpr std::size_t udp_bytes = 8;
inline constexpr std::size_t icmp_bytes_min = 8;
inline constexpr std::size_t neighbor_bytes = 24;  // NS and NA without options

inline constexpr std::uint8_t protocol_hop_by_hop = 0;
inline constexpr std::uint8_t protocol_icmp = 1;
inline constexpr std::uint8_t protocol_igmp = 2;
inline constexpr std::uint8_t protocol_udp = 17;
inline constexpr std::uint8_t protocol_routing = 43;
inline constexpr std::uint8_t protocol_fragment = 44;
inline constexpr std::uint8_t protocol_icmpv6 = 58;
inline constexpr std::uint8_t protocol_destination_options = 60;

inline constexpr std::uint8_t icmp_echo_reply = 0;
inline constexpr std::uint8_t icmp_echo_request = 8;
inline constexpr std::uint8_t icmpv6_echo_request = 128;
inline constexpr std::uint8_t icmpv6_echo_reply = 129;
inline constexpr std::uint8_t icmpv6_neighbor_solicitation = 135;
inline constexpr std::uint8_t icmpv6_neighbor_advertisement = 136;

}  // namespace penstock::wire
