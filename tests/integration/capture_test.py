"""`penstock capture`: what the lanes saw, as tshark reads it."""

import os
import subprocess
import tempfile
import time
import unittest

from link_test import NODE4, PEER4, SENDER, udp4_frame
from node import BINARY, PYTHON, NodeTest, main, penstock, wait_for


def tshark(path, *fields):
    """One list of fields per packet."""
    words = ["tshark", "-r", path, "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
             "-T", "fields", "-E", "separator=|"]
    for field in fields:
        words += ["-e", field]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          timeout=60, text=True)
    return [line.split("|") for line in said.stdout.splitlines()]


class Capture(NodeTest):
    def setUp(self):
        super().setUp()
        self.directory = tempfile.mkdtemp(prefix="penstock-capture-")
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", self.directory], check=False))
        self.path = os.path.join(self.directory, "packets.pcapng")

    def made(self, *more):
        link = self.link(f"{PEER4}/24")
        node = self.node("--port", f"net_af_packet0,iface={link.host}", "--address", f"{NODE4}/24",
                         "--door", "udp:5514=s", *more)
        node.create_stream("s", 1)
        link.exec("ping", "-c", "1", "-W", "5", NODE4)
        return link, node

    def start(self, node, *words):
        process = subprocess.Popen([BINARY, "capture", "--http", f"127.0.0.1:{node.http_port}",
                                    "--write", self.path, *words], stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        # It has begun when the file has its header.
        wait_for(lambda: os.path.exists(self.path) and os.path.getsize(self.path) > 0
                 or process.poll() is not None, "the capture to begin", 10)
        return process

    def finished(self, process, seconds=20):
        _, said = process.communicate(timeout=seconds)
        self.assertEqual(process.returncode, 0, said)
        return said

    def send(self, link, port, first, count, size=100):
        link.exec(PYTHON, SENDER, "udp", NODE4, str(port), str(first), str(count), str(size))

    def test_by_reason_of_a_port_that_the_kernel_does_not_see(self):
        link, node = self.made()
        capture = self.start(node, "--reason", "no_door", "--count", "5")
        self.send(link, 5514, 0, 20)
        self.send(link, 5999, 20, 5)
        self.assertIn("5 packets written", self.finished(capture))
        found = tshark(self.path, "frame.comment", "eth.type", "ip.src", "ip.dst", "udp.dstport",
                       "udp.length", "frame.interface_name")
        self.assertEqual(found, [["dropped: no_door", "0x0800", PEER4, NODE4, "5999", "108",
                                  f"net_af_packet0,iface={link.host}"]] * 5)
        self.assert_committed(node, "s", 20)

    def test_of_a_door_cut_and_sampled(self):
        link, node = self.made()
        capture = self.start(node, "--door", "5514", "--sample", "10", "--snap", "60", "--seconds", "30")
        self.send(link, 5999, 0, 50)
        self.send(link, 5514, 0, 200)
        self.assert_committed(node, "s", 200)
        wait_for(lambda: len(tshark(self.path, "frame.number")) >= 20, "20 packets", 10, step=0.2)
        capture.terminate()
        said = self.finished(capture)
        self.assertIn("20 packets written, 200 matched (one in 10 is kept)", said)
        found = tshark(self.path, "frame.comment", "frame.len", "frame.cap_len", "udp.dstport")
        self.assertEqual(found, [["taken", "142", "60", "5514"]] * 20)

    def test_a_door_with_a_port_for_each_lane_is_one_door(self):
        link, node = self.made("--lanes", "0,1", "--door", "udp:5600=t,ports=per-lane")
        node.create_stream("t", 2)
        capture = self.start(node, "--door", "5601", "--count", "20")
        for port, count in ((5514, 5), (5602, 5), (5600, 12), (5601, 8)):
            self.send(link, port, 0, count)
        self.finished(capture)
        ports = [row[0] for row in tshark(self.path, "udp.dstport")]
        self.assertEqual(sorted(ports), ["5600"] * 12 + ["5601"] * 8)

    def test_damaged_packets_and_what_is_answered(self):
        link, node = self.made()
        capture = self.start(node, "--count", "4")
        frames = [udp4_frame(b"1 fine", 5514), udp4_frame(b"2 broken", 5514, break_udp=True),
                  udp4_frame(b"3 broken", 5514, break_ip=True)]
        sender = link.popen(PYTHON, SENDER, "frames", link.peer, stdin=-1, text=True)
        sender.communicate("".join(frame.hex() + "\n" for frame in frames), timeout=20)
        link.exec("ping", "-c", "1", "-W", "5", NODE4)
        self.finished(capture)
        found = [row[0] for row in tshark(self.path, "frame.comment")]
        self.assertEqual(found[:3], ["taken", "dropped: bad_udp_checksum", "dropped: bad_ip_checksum"])
        self.assertEqual(found[3], "dropped: link_control")

    def test_kernel_sockets_get_their_headers_back(self):
        node = self.node("--port", "kernel:127.0.0.1", "--port", "kernel:[::1]", "--door", "udp:5521=s")
        node.create_stream("s", 1)
        capture = self.start(node, "--count", "2")
        for address in ("127.0.0.1", "::1"):
            subprocess.run(["logger", "-n", address, "-P", "5521", "-d", "-t", "test", "odd number"],
                           check=True, timeout=10)
            self.assert_committed(node, "s", 1 if address == "127.0.0.1" else 2)
        self.finished(capture)
        found = tshark(self.path, "frame.interface_name", "ip.src", "ipv6.src", "udp.dstport",
                       "udp.checksum.status", "ip.checksum.status")
        self.assertEqual(found, [["kernel:127.0.0.1", "127.0.0.1", "", "5521", "1", "1"],
                                 ["kernel:[::1]", "", "::1", "5521", "1", ""]])

    def test_a_second_one_is_refused_and_an_abandoned_one_is_not_in_the_way(self):
        _, node = self.made("--lanes", "0,1")
        capture = self.start(node)
        http = f"127.0.0.1:{node.http_port}"
        second = penstock("capture", "--http", http, "--write", "/dev/null")
        self.assertEqual(second.returncode, 1)
        self.assertIn("another capture is running", second.stderr)
        capture.kill()   # without a word to the node
        capture.wait(10)
        time.sleep(10.5)   # what the page promises
        third = penstock("capture", "--http", http, "--write", "/dev/null", "--seconds", "1")
        self.assertEqual(third.returncode, 0, third.stderr)
        self.assertIn("0 packets written", third.stderr)

    def test_what_is_wrong_is_said_in_one_line(self):
        node = self.node()
        http = f"127.0.0.1:{node.http_port}"
        for words, code, text in (
                (["--http", "127.0.0.1:1"], 1, "expected a running node there"),
                (["--http", http, "--reason", "bad_luck"], 1, "found 'bad_luck'; expected labels"),
                (["--http", http, "--port", "7"], 1, "port: expected a number from 0 to 0"),
                (["--http", "nowhere"], 2, "expected HOST:PORT"),
                (["--http", http, "--snap", "3"], 2, "--snap")):
            answer = penstock("capture", "--write", self.path, *words)
            self.assertEqual(answer.returncode, code, answer.stderr)
            self.assertIn(text, answer.stderr)
            self.assertEqual(answer.stderr.count("\n"), 1)


if __name__ == "__main__":
    main()
