"""Ethernet frames made by hand, sound or damaged in one chosen way."""

import socket
import struct


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def udp4_frame(payload, port, source="192.0.2.2", destination="192.0.2.1", *, flags=0, ttl=64,
               vlan=None, break_udp=False, break_ip=False, protocol=17, ethertype=0x0800, options=b"",
               no_udp_checksum=False):
    """One Ethernet frame, sound unless told otherwise."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    udp = struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload
    value = checksum(addresses + struct.pack("!BBH", 0, 17, len(udp)) + udp) or 0xffff
    if no_udp_checksum:
        value = 0
    if break_udp:
        value ^= 0x5555
    udp = udp[:6] + struct.pack("!H", value) + udp[8:]
    length = 20 + len(options)
    ip = struct.pack("!BBHHHBBH", 0x40 | length // 4, 0, length + len(udp), 7, flags, ttl, protocol,
                     0) + addresses + options
    value = checksum(ip) ^ (0x1111 if break_ip else 0)
    ip = ip[:10] + struct.pack("!H", value) + ip[12:]
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return b"\xff" * 6 + b"\x02\0\0\0\0\x02" + tag + struct.pack("!H", ethertype) + ip + udp
