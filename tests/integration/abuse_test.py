"""Clients that mean harm: memory stays bounded, each end is counted by its reason, and an honest client
beside them is served. The sizes are small; bench/run --row abuse has the full ones."""

import base64
import contextlib
import http.client
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time

from attacks import (DATA, END_HEADERS, END_STREAM, HEADERS, OPENING, REQUEST, SETTINGS,
                     frame)
from node import NodeTest, main, wait_for

WINDOW_UPDATE = 8
HERE = os.path.dirname(os.path.abspath(__file__))


class Attack:
    """attacks.py at work, from when its connections stand until the block ends."""

    def __init__(self, kind, port, count, seconds=60.0, **options):
        more = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            [sys.executable, "-B", os.path.join(HERE, "attacks.py"), kind, "--port", str(port),
             "--count", str(count), "--seconds", str(seconds), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.result = None

    def __enter__(self):
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
        self.result = json.loads(self.process.stdout.read() or "{}")
        self.process.stdout.close()
        self.process.wait(60)


class Abuse(NodeTest):
    def resident(self, node):
        with open(f"/proc/{node.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def peak(self, node):
        with open(f"/proc/{node.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

    def ended(self, node, reason):
        return node.metrics().get("penstock_http_connections_closed_total", reason=reason)

    def put(self, connection, data=b"honest"):
        connection.request("POST", "/", json.dumps({
            "StreamName": "s", "PartitionKey": "k", "Data": base64.b64encode(data).decode()}), {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": "Kinesis_20131202.PutRecord"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    @contextlib.contextmanager
    def honest(self, node):
        connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=30)
        with contextlib.closing(connection):
            self.assertEqual(self.put(connection)[0], 200)
            yield connection

    def assert_served(self, node, connection, count=20):
        """On the connection that stood before, and on new ones."""
        for _ in range(count):
            status, text = self.put(connection)
            self.assertEqual(status, 200, text)
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", node.http_port,
                                                               timeout=30)) as fresh:
                status, text = self.put(fresh)
                self.assertEqual(status, 200, text)

    def abused(self, *arguments, **kwargs):
        node = self.node(*arguments, **kwargs)
        node.create_stream("s", 1)
        return node

    def test_idle_connections_make_place_for_others(self):
        node = self.node(start=False)
        plain = node.command
        # It raises its limit to 600, of which half is for connections.
        node.command = lambda *more: ["prlimit", "--nofile=300:600", *plain(*more)]
        node.start()
        node.create_stream("s", 1)
        with self.honest(node) as connection, Attack("idle", node.http_port, 450):
            self.assert_served(node, connection)
            metrics = node.metrics()
            self.assertGreaterEqual(self.ended(node, "crowded"), 150)
            self.assertLessEqual(metrics.get("penstock_http_connections_open"), 310)
            self.assertEqual(metrics.get("penstock_http_connections_refused_total"), 0)

    def test_what_comes_slowly_takes_little_and_is_ended(self):
        node = self.abused()
        before = self.resident(node)
        large = b"x" * 700_000
        with self.honest(node) as connection, contextlib.ExitStack() as attacks:
            for kind, count in (("slow-heads", 150), ("slow-bodies", 150), ("slow-heads-h2", 50),
                                ("slow-bodies-h2", 100)):
                attacks.enter_context(Attack(kind, node.http_port, count))
            begun = time.monotonic()
            # Together they have announced 160 GB of bodies, and asked for more memory than there is.
            for _ in range(5):
                status, text = self.put(connection, large)
                self.assertEqual(status, 200, text)
            self.assert_served(node, connection)
            wait_for(lambda: self.ended(node, "slow") >= 200, "heads without an end to be ended", 40)
            self.assertGreater(time.monotonic() - begun, 5)
            self.assertLess(self.resident(node) - before, 300e6)
            self.assert_served(node, connection)
        self.assertEqual(node.http("/readyz")[0], 200)

    def test_floods_are_ended_and_counted(self):
        node = self.abused()
        before = self.resident(node)
        with self.honest(node) as connection:
            for kind in ("rapid-reset", "pings", "settings", "continuations", "hpack-bombs"):
                counted = self.ended(node, "flood")
                with Attack(kind, node.http_port, 8) as attack:
                    wait_for(lambda start=counted: self.ended(node, "flood") >= start + 8,
                             f"{kind} to be ended", 30)
                    self.assert_served(node, connection, 5)
                self.assertGreaterEqual(attack.result["opened"], 8, attack.result)
        self.assertGreaterEqual(node.metrics().get("penstock_http2_floods_total"), 40)
        self.assertLess(self.resident(node) - before, 200e6)

    def test_what_is_too_large_is_refused_and_counted(self):
        node = self.abused()
        before = self.resident(node)
        with self.honest(node) as connection:
            for kind, status in (("long-heads", "431"), ("many-headers", "431"),
                                 ("too-long-bodies", "413")):
                counted = self.ended(node, "too_large")
                with Attack(kind, node.http_port, 8) as attack:
                    wait_for(lambda start=counted: self.ended(node, "too_large") >= start + 8,
                             f"{kind} to be refused", 30)
                    self.assert_served(node, connection, 5)
                # An answer may be lost where the client goes on sending; not all are.
                self.assertGreater(attack.result["answers"].get(status, 0), 0, attack.result)
            with Attack("long-bodies", node.http_port, 8):
                self.assert_served(node, connection, 5)
        self.assertLess(self.resident(node) - before, 400e6)

    def full(self, records=10):
        """A node with a stream whose GetRecords answers are as large as they get, and its iterator."""
        node = self.abused()
        client = node.boto()
        for _ in range(records):
            client.put_record(StreamName="s", PartitionKey="k", Data=os.urandom(1_048_000))
        iterator = client.get_shard_iterator(StreamName="s", ShardId="shardId-000000000000",
                                             ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        # What one answer takes in passing is none of the test's business.
        self.assertEqual(len(client.get_records(ShardIterator=iterator)["Records"]), records)
        return node, client, iterator

    def held(self, node):
        return node.metrics().get("penstock_http_requests_held_total")

    def assert_few_answers(self, node, asked, before):
        """Four that are made, and what the kernel took of them."""
        metrics = node.metrics()
        answered = metrics.get("penstock_http_requests_total", operation="GetRecords") - 1
        self.assertLess(answered, 8)
        self.assertLessEqual(metrics.get("penstock_http_large_answer_bytes"), 64 << 20)
        self.assertLess(self.peak(node) - before, 200e6, f"{answered} of {asked} answers were made")

    def test_pipelined_answers_that_are_not_read_are_not_made(self):
        node, _, iterator = self.full()
        before = self.peak(node)
        asked = 32
        body = json.dumps({"ShardIterator": iterator})
        request = (f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                   "Content-Type: application/x-amz-json-1.1\r\n"
                   f"X-Amz-Target: Kinesis_20131202.GetRecords\r\n\r\n{body}")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=60)) \
                as connection, self.honest(node) as other:
            connection.connect()
            connection.sock.sendall(request.encode() * asked)
            wait_for(lambda: self.held(node) >= 1, "requests to be held", 30)
            self.assert_served(node, other, 5)
            self.assert_few_answers(node, asked, before)
            with connection.sock.makefile("rb") as answers:
                for _ in range(asked):
                    self.assertIn(b" 200 ", answers.readline())
                    headers = http.client.parse_headers(answers)
                    self.assertGreater(len(answers.read(int(headers["Content-Length"]))), 13_900_000)
        self.assertLess(self.peak(node) - before, 200e6)
        wait_for(lambda: node.metrics().get("penstock_http_large_answer_bytes") == 0,
                 "the answers to be forgotten")

    def test_streams_that_are_not_read_are_not_answered_and_do_not_hold_up_a_subscription(self):
        node, client, iterator = self.full()
        arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
        consumer = client.register_stream_consumer(
            StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
        before = self.peak(node)

        def field(name, value):
            return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

        def ask(stream, operation, **members):
            fields = (REQUEST + field(b"content-type", b"application/x-amz-json-1.1")
                      + field(b"x-amz-target", b"Kinesis_20131202." + operation.encode()))
            return (frame(HEADERS, fields, END_HEADERS, stream)
                    + frame(DATA, json.dumps(members).encode(), END_STREAM, stream))

        with contextlib.closing(socket.create_connection(("127.0.0.1", node.http_port), timeout=30)) \
                as connection, connection.makefile("rb") as frames, self.honest(node) as other:
            # 16 KiB of each stream, and as much as there is of all: the answers' own windows hold them.
            connection.sendall(OPENING + frame(SETTINGS, struct.pack(">HI", 4, 16384))
                               + frame(WINDOW_UPDATE, struct.pack(">I", 1 << 30)))
            asked = 100
            connection.sendall(b"".join(ask(2 * i + 1, "GetRecords", ShardIterator=iterator)
                                        for i in range(asked)))
            wait_for(lambda: self.held(node) >= asked - 4, "requests to be held", 30)
            stream = 2 * asked + 1
            connection.sendall(ask(stream, "SubscribeToShard", ConsumerARN=consumer,
                                   ShardId="shardId-000000000000",
                                   StartingPosition={"Type": "LATEST"}))

            def until(wanted):
                got = b""
                while wanted not in got:
                    head = frames.read(9)
                    self.assertEqual(len(head), 9, "the connection ended")
                    payload = frames.read(int.from_bytes(head[:3], "big"))
                    if head[3] == DATA and int.from_bytes(head[5:], "big") == stream:
                        got += payload

            until(b"initial-response")
            for i in range(3):
                word = b"word %d" % i
                self.assertEqual(self.put(other, word)[0], 200)
                until(base64.b64encode(word))
            self.assert_served(node, other, 5)
            self.assert_few_answers(node, asked, before)
        wait_for(lambda: node.metrics().get("penstock_http_large_answer_bytes") == 0,
                 "the answers to be forgotten")


if __name__ == "__main__":
    main()
