#!/usr/bin/python3
"""Makes session-v1.json from docs/formats/session.md alone, with Python's cryptography: the second
implementation that dataplane/session/ is held against. `--check` says whether the file still is
what this makes.

    tests/golden/session_v1.py > tests/golden/session-v1.json
"""
import hashlib
import hmac
import json
import os
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION, OPEN, RETRY, ACCEPT, DATA, SERVER = 1, 1, 2, 3, 4, 5
SESSION, OWNER_EPOCH, NODE = 0x8F1D2C3B4A596877, 12, 0x1122334455667788
SECRET = bytes(range(32))
PSK_ID, PSK = 0x0102030405060708, bytes(range(64, 96))
CLIENT_RANDOM, SERVER_RANDOM = bytes(range(128, 160)), bytes(range(160, 192))


def extract(salt, ikm):
    return hmac.new(salt, ikm, hashlib.sha256).digest()


def expand(prk, info, size):
    out, last, count = b"", b"", 1
    while len(out) < size:
        last = hmac.new(prk, last + info + bytes([count]), hashlib.sha256).digest()
        out += last
        count += 1
    return out[:size]


def lane_okm(lane, direction, key_epoch):
    info = b"penstock lane key" + struct.pack("<QQQHBB", SESSION, OWNER_EPOCH, NODE, lane, direction, key_epoch)
    return expand(extract(b"penstock session 1", SECRET), info, 28)


def header(kind, number, session=SESSION, lane=0, map_epoch=3, sent_at=0x01020304):
    return struct.pack("<BBBBHHQQII", VERSION, kind, 0, number >> 28, lane, 0, session, number, map_epoch, sent_at)


def seal(okm, number, aad, text):
    nonce = okm[16:20] + bytes(a ^ b for a, b in zip(okm[20:28], struct.pack("<Q", number)))
    return aad + AESGCM(okm[:16]).encrypt(nonce, text, aad)


def block(kind, body, flags=0):
    return struct.pack("<BBH", kind, flags, 4 + len(body)) + body


def record(key=b"", data=b"", explicit=None, alias=None, define=None, skip=None):
    flags = (explicit is not None) | 2 * (alias is not None) | 4 * (define is not None) | 8 * (skip is not None)
    out = struct.pack("<BBHI", flags, 0, alias if alias is not None else len(key), len(data))
    if explicit is not None:
        out += struct.pack("<QQ", *explicit)
    if define is not None:
        out += struct.pack("<H", define)
    if skip is not None:
        out += struct.pack("<H", skip)
    return out + key + data


def part(count, offset, shard, batch, flow, follows):
    return struct.pack("<HHQQIHH", count, offset, shard, batch, flow, follows, 0)


def batch(records, offset=0, shard=5, number=1, flow=0, follows=0, flags=3):
    return block(2, part(len(records), offset, shard, number, flow, follows) + b"".join(records), flags)


def fragment(total, at, size, piece, flags=3):
    return block(3, part(1, 0, 5, 9, 1, 1) + struct.pack("<IIHHI", total, at, size, 0, 0) + piece, flags)


def main():
    datagrams = []

    def add(name, kind, number, text, lane=0):
        okm = lane_okm(lane, 1 if kind == DATA else 2, number >> 28)
        datagrams.append({"name": name, "lane": lane, "direction": 1 if kind == DATA else 2, "packet_number": number,
                          "clear": text.hex(), "datagram": seal(okm, number, header(kind, number, lane=lane), text).hex()})

    add("batch", DATA, 1, batch([record(b"pk", b"hello")]))
    add("blocks", DATA, 2, block(5, bytes(range(8))) + block(4, b"", 1)
        + batch([record(b"pk", b"a", define=7), record(data=b"bc", alias=7), record(b"k", b"", explicit=(1, 2), skip=3),
                 record(b"key", b"d", explicit=(1 << 63, 0), define=8, skip=500)], number=2, flow=1, follows=1, flags=0)
        + batch([record(b"x", b"y", skip=11)], offset=500, shard=6, number=3, flow=2, flags=2, follows=2) + block(1, bytes(9)))
    body = record(b"large", b"z" * 1500)
    add("fragment-first", DATA, 3, fragment(len(body), 0, 1024, body[:1024]))
    add("fragment-last", DATA, 4, fragment(len(body), 1024, 1024, body[1024:]))
    add("key-epoch-1", DATA, 1 << 28, batch([record(b"pk", b"hello")], number=4, follows=1, flags=2), lane=3)
    add("ask-map", DATA, 5, block(6, struct.pack("<QQ", 1 << 63, 9)))
    add("subscribe", DATA, 6, block(8, struct.pack("<IQBBHIQ16x", 4, 5, 3, 0, 0, 1 << 20, 4294967299))
        + block(9, struct.pack("<IQII", 4, 4294967299, 1 << 16, 0), 1))
    add("close", DATA, 7, block(7, struct.pack("<HH", 1, 0)))

    bits = bytearray(32)
    bits[0], bits[31] = 0b00000111, 0b10000000
    report = block(16, struct.pack("<IQIIQ", 0x01020304, 300, 250, 0, 299) + bytes(bits))
    results = block(17, struct.pack("<IQQII", 0, 5, 1, 3, 0)
                    + struct.pack("<QHHBBHQq", 1, 0, 1, 1, 1, 0, 4294967299, 1700000000000)
                    + struct.pack("<QHHBBHQq", 2, 0, 64, 3, 0, 1, 0, 2500))
    credit = block(18, struct.pack("<HBBQIIq", 64, 1, 0, 4 << 20, 0, 3600, 1700000000000))
    address = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1])
    shards = block(19, struct.pack("<I", 3) + struct.pack("<QQQQQqIHH", 5, 0, 0, (1 << 63) - 1, (1 << 64) - 1,
                                                       1700000000, 0, 1, 4601) + address + struct.pack("<B7x", 1), 1)
    add("server", SERVER, 1, block(20, bytes(range(8))) + results + report + credit + shards)
    add("closed", SERVER, 2, block(21, struct.pack("<HHQ", 4, 0, 217382401)))

    wanted = struct.pack("<IIBBHIQQ", 0, 3600, 1, 1, 0, 0, 0, 0)
    open_prk = extract(CLIENT_RANDOM, PSK)
    cookie = bytes(range(200, 224))
    first = header(OPEN, 1, session=PSK_ID, map_epoch=0)
    again = header(OPEN, 2, session=PSK_ID, map_epoch=0)
    open_okm = expand(open_prk, b"penstock open key" + struct.pack("<Q", PSK_ID), 28)
    both = extract(CLIENT_RANDOM + SERVER_RANDOM, PSK)
    accept_okm = expand(both, b"penstock accept key" + struct.pack("<Q", PSK_ID), 28)
    grant = struct.pack("<QQQQIIqHHHH", SESSION, OWNER_EPOCH, NODE, 0x0011223344556677, 217382400, 3600, 1700000000000,
                        2, 4600, 0, 64)
    accepting = header(ACCEPT, 1, session=PSK_ID) + SERVER_RANDOM
    vectors = {
        "about": "docs/formats/session.md; made by session_v1.py",
        "session": {"id": f"{SESSION:016x}", "owner_epoch": OWNER_EPOCH, "node": f"{NODE:016x}", "secret": SECRET.hex(),
                    "prk": extract(b"penstock session 1", SECRET).hex()},
        "lane_keys": [{"lane": lane, "direction": direction, "key_epoch": epoch,
                       "key": lane_okm(lane, direction, epoch)[:16].hex(), "salt": lane_okm(lane, direction, epoch)[16:].hex()}
                      for lane, direction, epoch in ((0, 1, 0), (0, 2, 0), (3, 1, 1), (65535, 2, 255))],
        "psk": {"id": f"{PSK_ID:016x}", "psk": PSK.hex(), "client_random": CLIENT_RANDOM.hex(),
                "server_random": SERVER_RANDOM.hex(), "cookie": cookie.hex(), "open_key": open_okm.hex(),
                "accept_key": accept_okm.hex(),
                "session_secret": expand(both, b"penstock session secret" + struct.pack("<Q", PSK_ID), 32).hex(),
                "open": seal(open_okm, 1, first + CLIENT_RANDOM + bytes(24), wanted.ljust(1096, b"\0")).hex(),
                "open_again": seal(open_okm, 2, again + CLIENT_RANDOM + cookie, wanted.ljust(1096, b"\0")).hex(),
                "retry": (header(RETRY, 1, session=PSK_ID) + CLIENT_RANDOM + cookie).hex(),
                "accept": seal(accept_okm, 1, accepting, grant + credit).hex()},
        "datagrams": datagrams,
    }
    text = json.dumps(vectors, indent=1) + "\n"
    if sys.argv[1:] != ["--check"]:
        sys.stdout.write(text)
        return 0
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "session-v1.json")
    with open(path, encoding="ascii") as file:
        if file.read() == text:
            return 0
    print(f"{path}: expected what session_v1.py makes, found something else; a changed format needs a "
          "new version")
    return 1


sys.exit(main())
