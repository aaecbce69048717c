"""HTTP/2 on the clear-text port: found by its preface, served beside HTTP/1.1, kept within measure."""

import base64
import json
import os
import socket
import struct
import tempfile

from node import NodeTest, javascript, main, run, wait_for

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING, GOAWAY, SETTINGS = 6, 7, 4


def frame(kind, payload=b"", flags=0, stream=0):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Frames:
    """A connection that sends frames made by hand and reads what comes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(PREFACE + frame(SETTINGS))
        self.file = self.socket.makefile("rb")

    def next(self):
        """(kind, flags, payload), or None at the end."""
        head = self.file.read(9)
        if len(head) < 9:
            return None
        return head[3], head[4], self.file.read(int.from_bytes(head[:3], "big"))

    def until(self, kind, flags=0):
        while (got := self.next()) is not None:
            if got[0] == kind and got[1] & flags == flags:
                return got
        return None

    def close(self):
        self.file.close()
        self.socket.close()


class Http2(NodeTest):
    def frames(self, node):
        frames = Frames(node.http_port)
        self.addCleanup(frames.close)
        return frames

    def curl(self, *words):
        return run("curl", "-sS", "--noproxy", "*", "--max-time", "30", *words).stdout

    def test_curl_puts_and_gets_by_prior_knowledge(self):
        node = self.node()
        node.create_stream("s", 1)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"StreamName": "s", "PartitionKey": "k",
                       "Data": base64.b64encode(bytes(1_000_000)).decode()}, file)
            file.flush()
            put = self.curl("--http2-prior-knowledge", "-H", "X-Amz-Target: Kinesis_20131202.PutRecord",
                            "-H", "Content-Type: application/x-amz-json-1.1", "--data-binary",
                            "@" + file.name, "-w", " %{http_version}", node.url)
        answer, version = put.rsplit(" ", 1)
        self.assertEqual(version, "2")
        self.assertRegex(json.loads(answer)["SequenceNumber"], r"^\d{56}$")
        for more, version in ((["--http2-prior-knowledge"], "2"), (["--http1.1"], "1.1")):
            self.assertEqual(self.curl(*more, "-w", "%{http_version}", node.url + "/healthz"),
                             "ok\n" + version)
        metrics = node.metrics()
        self.assertEqual(metrics.get("penstock_http_requests_received_total", protocol="h2"), 2)
        self.assertEqual(metrics.get("penstock_http2_connections_total"), 2)

    def test_the_guard_goes_by_the_authority(self):
        node = self.node()
        status = self.curl("--http2-prior-knowledge", "-o", os.devnull, "-w", "%{http_code}",
                           "-H", "Host: evil.example", node.url + "/healthz")
        self.assertEqual(status, "403")

    def test_many_streams_of_many_connections_are_all_answered(self):
        node = self.node("--http-threads", "2")
        done = run("h2load", "-n", "20000", "-c", "10", "-m", "100", "-T", "60",
                   node.url + "/healthz", timeout=120)
        self.assertIn("20000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)
        self.assertEqual(node.metrics().get("penstock_http2_streams_reset_total"), 0)

    def test_the_javascript_sdk_puts_gets_and_lists(self):
        node = self.node()
        found = javascript("kinesis.js", node.url, "words")
        self.assertEqual(found, {"sizes": [5] + [700000] * 4, "listed": 20,
                                 "refused": "ResourceNotFoundException"})
        metrics = node.metrics()
        self.assertGreater(metrics.get("penstock_http_requests_received_total", protocol="h2"), 25)
        self.assertEqual(metrics.get("penstock_http_requests_malformed_total"), 0)

    def test_a_flood_ends_its_own_connection_only(self):
        node = self.node()
        other = self.frames(node)
        self.assertIsNotNone(other.until(SETTINGS))
        flood = self.frames(node)
        flood.socket.sendall(frame(PING, bytes(8)) * 2000)
        goaway = flood.until(GOAWAY)
        self.assertEqual(int.from_bytes(goaway[2][4:8], "big"), 11)   # ENHANCE_YOUR_CALM
        wait_for(lambda: node.metrics().get("penstock_http2_floods_total") == 1,
                 "the flood to be counted")
        other.socket.sendall(frame(PING, b"12345678"))
        self.assertEqual(other.until(PING, flags=1)[2], b"12345678")

    def test_a_node_that_stops_says_so(self):
        node = self.node()
        idle = self.frames(node)
        self.assertIsNotNone(idle.until(SETTINGS, flags=1))
        self.assertEqual(node.stop(), 0)
        goaway = idle.until(GOAWAY)
        self.assertIsNotNone(goaway)
        self.assertEqual(int.from_bytes(goaway[2][4:8], "big"), 0)   # NO_ERROR
        self.assertIsNone(idle.until(GOAWAY))


if __name__ == "__main__":
    main()
