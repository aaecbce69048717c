"""Clients that mean harm: memory stays bounded, each end is counted by its reason, and an honest client
beside them is served. The sizes are small; bench/run --row abuse has the full ones."""

import base64
import contextlib
import http.client
import json
import os
import resource
import subprocess
import sys
import time

from node import NodeTest, main, wait_for

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


if __name__ == "__main__":
    main()
