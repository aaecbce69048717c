"""Sends from inside a network namespace: `udp` numbered datagrams, `frames` as hexadecimal lines,
`flood` as fast as it goes and `trickle` at an even rate, both for a bounded time."""

import socket
import sys
import time


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


def flood(address, port, size, seconds, most):
    """At most `most` datagrams in at most so many seconds; prints how many."""
    payload, sent = b"x" * size, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        sender.connect((address, port))
        end = time.monotonic() + seconds
        while sent < most and time.monotonic() < end:
            for _ in range(32):
                sender.send(payload)
            sent += 32
    print(sent)


def trickle(address, port, size, seconds, per_second):
    """An even rate, whatever the receiver does; prints how many were sent."""
    payload, count = b"q" * size, seconds * per_second
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        start = time.monotonic()
        for number in range(count):
            ahead = start + number / per_second - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            sender.send(payload)
    print(count)


if __name__ == "__main__":
    if sys.argv[1] == "udp":
        numbers = [int(word) for word in sys.argv[3:]]
        send_udp(sys.argv[2], *(numbers + [0, 1, 64, 0][len(numbers) - 1:]))
    elif sys.argv[1] in ("flood", "trickle"):
        send = flood if sys.argv[1] == "flood" else trickle
        send(sys.argv[2], *(int(word) for word in sys.argv[3:]))
    else:
        send_frames(sys.argv[2])
