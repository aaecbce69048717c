"""More than a node takes: who gets through, that everything is counted, and that memory stays flat."""

import os
import re
import socket
import threading
import time
import unittest

from botocore.exceptions import ClientError

from node import PYTHON, NodeTest, free_port, main, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
SENDER = os.path.join(HERE, "sender.py")
NODE4, PEER4 = "192.0.2.1", "192.0.2.2"
MIB = 1 << 20
# Bounds of every flood, whichever comes first.
FLOOD_SECONDS, FLOOD_DATAGRAMS = 3, 2_000_000
QUIET_PER_SECOND = 1000
# Given to the process beyond what its memory settings say: stacks, allocator, page tables.
RSS_SLACK = 24 * MIB


class Sender:
    """A process that floods or trickles; result() is how many datagrams it sent."""

    def __init__(self, kind, address, port, size, inside=None, seconds=FLOOD_SECONDS):
        words = [PYTHON, SENDER, kind, address, port, size, seconds,
                 FLOOD_DATAGRAMS if kind == "flood" else QUIET_PER_SECOND]
        words = [str(word) for word in words]
        self.process = inside.popen(*words, stdout=-1, text=True) if inside else \
            popen(words)

    def result(self):
        out, _ = self.process.communicate(timeout=FLOOD_SECONDS + 30)
        if self.process.returncode != 0:
            raise AssertionError(f"the sender ended with {self.process.returncode}")
        return int(out)


def popen(words):
    import subprocess
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


class Seen:
    """What a node's metrics say at one moment, of what concerns drops."""

    def __init__(self, node):
        self.metrics = metrics = node.metrics()
        self.packets = int(metrics.get("penstock_packets_received_total"))
        self.drops = {reason: int(count) for reason, count in
                      metrics.by("penstock_dropped_total", "reason").items() if count}
        self.missed = sum(self.drops.get(reason, 0)
                          for reason in ("nic_missed", "nic_error", "nic_no_buffer"))
        self.refused = sum(self.drops.values()) - self.missed
        self.records = int(metrics.by("penstock_lane_records_total", "from").get("doors", 0))

    def committed(self, stream):
        return int(self.metrics.get("penstock_records_committed_total", stream=stream))


class Putter(threading.Thread):
    """Puts records as long as it is told to and keeps every answer."""

    def __init__(self, client, stream):
        super().__init__(daemon=True)
        self.client, self.stream = client, stream
        self.accepted, self.pushed_back, self.wrong = 0, 0, []
        self.slowest = 0.0
        self.ending = threading.Event()

    def run(self):
        while not self.ending.wait(0.02):
            began = time.monotonic()
            try:
                answer = self.client.put_records(StreamName=self.stream, Records=[
                    {"PartitionKey": f"k{i}", "Data": b"p" * 200} for i in range(5)])
            except ClientError as error:
                self.wrong.append(repr(error))
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            for record in answer["Records"]:
                if "ErrorCode" not in record:
                    self.accepted += 1
                elif record["ErrorCode"] == "ProvisionedThroughputExceededException":
                    self.pushed_back += 1
                else:
                    self.wrong.append(record["ErrorMessage"])

    def end(self):
        self.ending.set()
        self.join(60)
        if self.is_alive():
            raise AssertionError(f"a PutRecords to {self.stream} hangs")


class Overload(NodeTest):
    def rss(self, node):
        with open(f"/proc/{node.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) << 10

    def flood(self, node, hot, quiet, size, inside=None, address="127.0.0.1"):
        """One flood beside a trickle; returns what was sent of both."""
        senders = [Sender("flood", address, hot, size, inside),
                   Sender("trickle", address, quiet, 100, inside)]
        return [sender.result() for sender in senders]

    def settled(self, node):
        """The metrics once nothing moves any more."""
        last = [None]

        def same():
            now = Seen(node)
            quiet = last[0] is not None and (now.packets, now.drops, now.records) == last[0]
            last[0] = (now.packets, now.drops, now.records)
            return now if quiet else None
        return wait_for(same, "the node to have taken what was sent", 20, 0.3)

    def assert_overloaded(self, seen):
        self.assertGreater(seen.refused + seen.missed, 0,
                           "the drives took all of the flood: there was no overload to look at")

    def test_kernel_port_beside_a_flood(self):
        hot, quiet = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        node = self.node("--port", "kernel:127.0.0.1", "--door", f"udp:{hot}=hot",
                         "--door", f"udp:{quiet}=quiet")
        for stream in ("hot", "quiet", "api"):
            node.create_stream(stream, 1)
        # The first flood touches all memory there is; the second must not want more.
        sent_hot, sent_quiet = self.flood(node, hot, quiet, 60_000)
        warm = self.rss(node)
        putters = [Putter(node.boto(), stream) for stream in ("api", "hot")]
        for putter in putters:
            putter.start()
        before, began = Seen(node), time.monotonic()
        more_hot, more_quiet = self.flood(node, hot, quiet, 60_000)
        for putter in putters:
            putter.end()
        took = time.monotonic() - began
        hottest = self.rss(node)

        # What a socket lost it tells with its next datagram.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            self.settled(node)
            for port in (hot, quiet):
                sender.sendto(b"last", ("127.0.0.1", port))
        seen = self.settled(node)
        sent = sent_hot + more_hot + sent_quiet + more_quiet + 2
        self.assert_overloaded(seen)
        self.assertEqual(seen.packets + seen.missed, sent, seen.drops)
        self.assertEqual(seen.records + seen.refused, seen.packets, seen.drops)
        self.assertLessEqual(set(seen.drops), {"shard_behind", "nic_missed", "no_room"}, seen.drops)

        # The quiet door lost nothing, and neither did clients of another stream.
        self.assert_committed(node, "quiet", sent_quiet + more_quiet + 1)
        for putter in putters:
            self.assertEqual(putter.wrong, [])
            self.assertGreater(putter.accepted, 0, putter.stream)
        self.assertEqual(putters[0].pushed_back, 0)

        self.assertLess(hottest - warm, RSS_SLACK)
        self.assert_latency_bounded(node, before, took)

    def assert_latency_bounded(self, node, before, seconds):
        """What was accepted waited at most for the lane's memory to be written, give or take."""
        after = Seen(node).metrics
        rate = (after.get("penstock_bytes_committed_total") -
                before.metrics.get("penstock_bytes_committed_total")) / seconds
        memory = after.get("penstock_memory_size_bytes")
        slowest = after.quantile("penstock_commit_latency_seconds", 1.0, before.metrics)
        self.assertLess(slowest, 2 + 4 * memory / rate, f"at {rate / MIB:.0f} MiB/s")

    def test_a_shared_ring_beside_a_flood(self):
        link = self.link(f"{PEER4}/24")
        node = self.node("--port", f"net_af_packet0,iface={link.host}", "--address", f"{NODE4}/24",
                         "--door", "udp:5514=hot", "--door", "udp:5515=quiet")
        for stream in ("hot", "quiet"):
            node.create_stream(stream, 1)
        link.exec("ping", "-c", "1", "-W", "2", NODE4)
        hardware = re.search(r"lladdr (\S+)", link.exec("ip", "neigh", "show", NODE4).stdout)[1]
        link.exec("ip", "neigh", "replace", NODE4, "lladdr", hardware, "nud", "permanent", "dev",
                  link.peer)
        start = Seen(node)
        already = link.udp_sent()
        before, began = start, time.monotonic()
        _, sent_quiet = self.flood(node, 5514, 5515, 1400, link, NODE4)
        took = time.monotonic() - began
        seen = self.settled(node)
        sent = link.udp_sent() - already
        other = seen.drops.get("link_control", 0) - start.drops.get("link_control", 0)
        self.assertEqual(seen.packets - start.packets + seen.missed - start.missed - other, sent,
                         seen.drops)
        self.assertEqual(seen.records + seen.refused, seen.packets - int(
            seen.metrics.get("penstock_lane_answered_total")), seen.drops)
        # The ring is one for both doors: what overflows it before the lane could look takes of
        # either. Whatever the lane saw of the quiet door it took.
        wait_for(lambda: Seen(node).committed("quiet") >= sent_quiet - seen.missed,
                 f"{sent_quiet} records of the quiet door but {seen.missed} to be committed")
        missed = (seen.missed - start.missed) / sent
        self.assertLessEqual(1 - seen.committed("quiet") / sent_quiet, missed + 0.1, seen.drops)
        self.assert_latency_bounded(node, before, took)


if __name__ == "__main__":
    main()
