#!/usr/bin/python3
"""Clients that mean harm, against a server on this machine's loopback, bounded in count and time.

    attacks.py KIND --port PORT [--count N] [--seconds S] [--interval S] [--targets FILE]

A process of its own, so that what it costs is not the tester's. Says "ready" on a line of its own when
all connections stand, ends after the time or when its input does, and then prints one JSON object.
tests/integration/abuse_test.py and the row `abuse` of bench/run use it.
"""

import argparse
import collections
import errno
import json
import resource
import selectors
import socket
import struct
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
# :method POST, :scheme http, :path /, :authority localhost
REQUEST = b"\x83\x86\x84\x01\x09localhost"
LONG_BODY = 16 * 1024 * 1024
BATCH = 64 * 1024   # bytes of frames made at a time


def frame(kind, payload=b"", flags=0, stream=0):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


OPENING = PREFACE + frame(SETTINGS)


def literal(name, value):
    """A header field without compression, which the receiver does not remember."""
    return b"\x00" + bytes([len(name)]) + name + b"\x7f" + varint(len(value) - 127) + value


def varint(number):
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


# -- What each kind sends --------------------------------------------------------------------------
# A kind is: what a new connection sends at once, and a generator of what it sends after that, or
# None; `paced` kinds send a piece each interval, the others as fast as the server takes them. Those
# that the server ended are opened again if `again`.

class Kind:
    def __init__(self, opening, more=None, paced=False, again=False):
        self.opening = opening
        self.more = more
        self.paced = paced
        self.again = again


def repeated(piece):
    def make():
        batch = piece * max(1, BATCH // len(piece))
        while True:
            yield batch
    return make


def bytes_of(text):
    def make():
        while True:
            for byte in text:
                yield bytes([byte])
    return make


def many_resets():
    stream = 1
    while stream < 1 << 30:
        batch = []
        for _ in range(500):
            batch.append(frame(HEADERS, REQUEST, END_STREAM | END_HEADERS, stream))
            batch.append(frame(RST_STREAM, b"\0\0\0\x08", 0, stream))
            stream += 2
        yield b"".join(batch)


def hpack_bombs():
    """A value of 4000 bytes enters the table; from then on each byte stands for it."""
    first = b"\x40\x01x" + b"\x7f" + varint(4000 - 127) + b"a" * 4000
    yield frame(HEADERS, REQUEST + first, END_STREAM | END_HEADERS, 1)
    stream = 3
    while stream < 1 << 30:
        yield b"".join(frame(HEADERS, REQUEST + b"\xbe" * 15_000, END_STREAM | END_HEADERS, stream + 2 * i)
                       for i in range(4))
        stream += 8


def slow_streams():
    """A hundred bodies that are announced and come a byte at a time."""
    length = literal(b"content-length", str(LONG_BODY).encode().rjust(127, b"0"))
    yield b"".join(frame(HEADERS, REQUEST + length, END_HEADERS, 1 + 2 * i) for i in range(100))
    while True:
        yield b"".join(frame(DATA, b"x", 0, 1 + 2 * i) for i in range(100))


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
KINDS = {
    "idle": Kind(b""),
    "slow-heads": Kind(b"POST / HTTP/1.1\r\n", bytes_of(b"X-A: b\r\n"), paced=True, again=True),
    "slow-bodies": Kind(POST + b"Content-Length: %d\r\n\r\n" % LONG_BODY, bytes_of(b"{ "), paced=True,
                        again=True),
    "slow-heads-h2": Kind(OPENING + frame(HEADERS, b"a" * 16_000, 0, 1)[:-15_000], bytes_of(b"a"),
                          paced=True, again=True),
    "slow-bodies-h2": Kind(OPENING, slow_streams, paced=True, again=True),
    "slow-handshakes": Kind(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bytes_of(b"r"), paced=True,
                            again=True),
    "rapid-reset": Kind(OPENING, many_resets, again=True),
    "pings": Kind(OPENING, repeated(frame(PING, bytes(8))), again=True),
    "settings": Kind(OPENING, repeated(frame(SETTINGS)), again=True),
    "continuations": Kind(OPENING + frame(HEADERS, b"", 0, 1), repeated(frame(CONTINUATION, b"", 0, 1)),
                          again=True),
    "hpack-bombs": Kind(OPENING, hpack_bombs, again=True),
    "long-heads": Kind(POST, repeated(b"X-Long: " + b"x" * 1000 + b"\r\n"), again=True),
    "many-headers": Kind(POST, repeated(b"a:\r\n"), again=True),
    "long-bodies": Kind(POST + b"Content-Length: %d\r\n\r\n" % LONG_BODY, repeated(b" " * 1024), again=True),
    "too-long-bodies": Kind(POST + b"Content-Length: 99999999999\r\n\r\n", repeated(b" " * 1024), again=True),
    # Every second one never reads what it is sent.
    "subscribers": Kind(b""),
}


class One:
    def __init__(self, connection):
        self.socket = connection
        self.pieces = None
        self.rest = b""
        self.reads = True
        self.due = 0.0
        self.begun = time.monotonic()


class Attack:
    def __init__(self, arguments):
        self.arguments = arguments
        self.kind = KINDS[arguments.kind]
        self.selector = selectors.DefaultSelector()
        self.all = set()
        self.told = collections.Counter()
        self.endings = collections.Counter()
        self.received = self.sent = self.opened = self.refused = 0
        self.lives = []
        self.targets = []
        if arguments.targets:
            with open(arguments.targets, encoding="ascii") as file:
                self.targets = [line.split() for line in file]

    def opening(self, number):
        if self.arguments.kind != "subscribers":
            return self.kind.opening
        arn, shard = self.targets[number]
        body = json.dumps({"ConsumerARN": arn, "ShardId": shard,
                           "StartingPosition": {"Type": "LATEST"}}).encode()
        return (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.1\r\n"
                b"X-Amz-Target: Kinesis_20131202.SubscribeToShard\r\nContent-Length: %d\r\n\r\n"
                % len(body)) + body

    def open(self):
        number = self.opened
        reads = self.arguments.kind != "subscribers" or number % 2 == 0
        connection = socket.socket()
        try:
            if not reads:   # little is taken from the server's hands
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", self.arguments.port))
        except OSError:
            connection.close()
            self.refused += 1
            return
        one = One(connection)
        self.opened += 1
        one.rest = self.opening(number)
        one.reads = reads
        if self.kind.more is not None:
            one.pieces = self.kind.more()
        connection.setblocking(False)
        self.all.add(one)
        self.selector.register(connection, self.events(one), one)
        self.write(one)

    def events(self, one):
        fast = one.rest or (one.pieces is not None and not self.kind.paced)
        # One that never reads is still told of its end, by a failing write if there is any.
        return (selectors.EVENT_READ if one.reads else 0) | (selectors.EVENT_WRITE if fast or not one.reads
                                                             else 0)

    def write(self, one):
        for _ in range(4):
            if not one.rest and one.pieces is not None and (not self.kind.paced or
                                                            time.monotonic() >= one.due):
                one.rest = next(one.pieces, b"")
                one.due = time.monotonic() + self.arguments.interval
            if not one.rest:
                break
            try:
                count = one.socket.send(one.rest)
            except BlockingIOError:
                break
            except OSError as error:
                self.close(one, errno.errorcode.get(error.errno, "?"))
                return
            self.sent += count
            one.rest = one.rest[count:]
        if one.reads or one.rest:
            self.selector.modify(one.socket, self.events(one), one)
        elif one.socket.fileno() in self.selector.get_map():
            self.selector.unregister(one.socket)

    def read(self, one):
        try:
            got = one.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(one, errno.errorcode.get(error.errno, "?"))
            return
        if not got:
            self.close(one, "end")
            return
        self.received += len(got)
        if got.startswith(b"HTTP/1.1 "):
            self.told[got[9:12].decode("ascii", "replace")] += 1

    def close(self, one, how):
        if one not in self.all:
            return
        self.all.discard(one)
        if one.socket.fileno() in self.selector.get_map():
            self.selector.unregister(one.socket)
        one.socket.close()
        self.endings[how] += 1
        self.lives.append(time.monotonic() - one.begun)

    def run(self):
        stdin = sys.stdin.fileno()
        self.selector.register(stdin, selectors.EVENT_READ, None)
        for _ in range(self.arguments.count):
            self.open()
        print("ready", flush=True)
        end = time.monotonic() + self.arguments.seconds
        next_pace = 0.0
        while (now := time.monotonic()) < end:
            for key, events in self.selector.select(min(0.05, end - now)):
                if key.data is None:
                    return
                if events & selectors.EVENT_READ:
                    self.read(key.data)
                if events & selectors.EVENT_WRITE and key.data in self.all:
                    self.write(key.data)
            if self.kind.paced and now >= next_pace:
                next_pace = now + self.arguments.interval
                for one in list(self.all):
                    self.write(one)
            if self.kind.again:
                for _ in range(min(self.arguments.count - len(self.all), 100)):
                    self.open()

    def result(self):
        self.lives.sort()
        return {"kind": self.arguments.kind, "opened": self.opened, "refused": self.refused,
                "standing": len(self.all), "sent_bytes": self.sent, "received_bytes": self.received,
                "answers": dict(self.told), "ends": dict(self.endings),
                "median_life_s": self.lives[len(self.lives) // 2] if self.lives else None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1, and nowhere else")
    parser.add_argument("--count", type=int, default=100, help="connections at a time")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--interval", type=float, default=0.5, help="between the pieces of what comes slowly")
    parser.add_argument("--targets", help="for subscribers: a file of lines 'ARN SHARD'")
    arguments = parser.parse_args()
    if arguments.count > 20_000 or arguments.seconds > 600:
        parser.error("at most 20000 connections and 600 s")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < arguments.count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, arguments.count + 100), hard))
    attack = Attack(arguments)
    attack.run()
    print(json.dumps(attack.result()), flush=True)


if __name__ == "__main__":
    main()
