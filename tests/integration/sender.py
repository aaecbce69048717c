"""Sends from inside a network namespace: `udp` numbered datagrams, `frames` as hexadecimal lines."""

import socket
import sys


def send_udp(address, port, first, count, size, source_port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        if source_port:
            sender.bind(("", source_port))
        for number in range(first, first + count):
            sender.sendto(b"%d " % number + b"x" * (size - len(b"%d " % number)), (address, port))


def send_frames(interface):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        for line in sys.stdin:
            sender.send(bytes.fromhex(line))


if __name__ == "__main__":
    if sys.argv[1] == "udp":
        numbers = [int(word) for word in sys.argv[3:]]
        send_udp(sys.argv[2], *(numbers + [0, 1, 64, 0][len(numbers) - 1:]))
    else:
        send_frames(sys.argv[2])
