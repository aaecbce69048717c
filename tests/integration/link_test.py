"""Packets over a real link: DPDK on one end of a veth pair, ordinary senders in a namespace."""

import os
import socket

from frames import udp4_frame
from node import (PYTHON, NodeTest, Tap, free_port, main, read_stream, run, wait_for)

HERE = os.path.dirname(os.path.abspath(__file__))
SENDER = os.path.join(HERE, "sender.py")
NODE4, PEER4 = "192.0.2.1", "192.0.2.2"
NODE6, PEER6 = "2001:db8::1", "2001:db8::2"


def records(node, stream):
    return [r for shard in read_stream(node.boto(), stream).values() for r in shard]


def numbers(found):
    return [int(record["Data"].split()[0]) for record in found]


class DpdkPort(NodeTest):
    def made(self, *doors, address=True, ipv6=False, more=(), streams=None, device="net_af_packet0"):
        link = self.link(f"{PEER4}/24", ipv6=f"{PEER6}/64" if ipv6 else None)
        arguments = ["--port", f"{device},iface={link.host}"]
        if address:
            arguments += ["--address", f"{NODE4}/24"]
        if ipv6:
            arguments += ["--address", f"{NODE6}/64"]
        for door in doors or ("udp:5514=s",):
            arguments += ["--door", door]
        node = self.node(*arguments, *more)
        for stream, shards in (streams or {"s": 1}).items():
            node.create_stream(stream, shards)
        return link, node

    def send(self, link, *words):
        link.exec(PYTHON, SENDER, "udp", *map(str, words))

    def send_frames(self, link, frames):
        sender = link.popen(PYTHON, SENDER, "frames", link.peer, stdin=-1, text=True)
        sender.communicate("".join(frame.hex() + "\n" for frame in frames), timeout=20)
        self.assertEqual(sender.returncode, 0)

    def drops(self, node):
        return {reason: int(count) for reason, count in
                node.metrics().by("penstock_dropped_total", "reason").items() if count}

    def test_logger_over_ipv4_in_order(self):
        link, node = self.made()
        # Datagrams that wait for the neighbour's address are sent by whatever CPU hears of it, beside
        # later ones: their order on the wire is then not the one that the tap saw.
        link.exec("ping", "-c", "1", "-W", "2", NODE4)
        tap = Tap(link, node.own)
        path = os.path.join(node.own, "lines")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"message {i}\n" for i in range(2000))
        link.exec("logger", "-n", NODE4, "-P", "5514", "-d", "-t", "test", "-f", path)
        sent = tap.finish()
        self.assertEqual(len(sent), 2000)
        self.assert_committed(node, "s", 2000)
        found = records(node, "s")
        self.assertEqual([r["Data"] for r in found], [data for *_, data in sent])
        self.assertEqual({r["PartitionKey"] for r in found}, {PEER4})
        self.assertEqual(self.drops(node), {})

    def test_ipv6_and_ping_of_both(self):
        link, node = self.made(ipv6=True)
        link.exec("ping", "-c", "3", "-i", "0.2", "-W", "2", NODE4)
        link.exec("ping", "-6", "-c", "3", "-i", "0.2", "-W", "2", NODE6)
        # Larger than one cache line, odd length: the checksum must still fit.
        link.exec("ping", "-c", "1", "-W", "2", "-s", "1399", NODE4)
        self.send(link, NODE6, 5514, 0, 300)
        self.assert_committed(node, "s", 300)
        found = records(node, "s")
        self.assertEqual(numbers(found), list(range(300)))
        self.assertEqual({r["PartitionKey"] for r in found}, {PEER6})

    def test_neighbours_are_told_one_hardware_address(self):
        link, _ = self.made()
        link.exec("ping", "-c", "1", "-W", "2", NODE4)
        with open(f"/sys/class/net/{link.host}/address", encoding="ascii") as file:
            hardware = file.read().strip()
        self.assertIn(hardware, link.exec("ip", "neigh", "show", NODE4).stdout)
        # An address that isn't ours stays unanswered.
        self.assertNotEqual(
            link.exec("ping", "-c", "1", "-W", "1", "192.0.2.77", check=False).returncode, 0)

    def test_port_without_address_takes_all_and_answers_nothing(self):
        link, node = self.made(address=False)
        self.assertNotEqual(link.exec("ping", "-c", "1", "-W", "1", NODE4, check=False).returncode, 0)
        frames = [udp4_frame(b"%d " % i, 5514, destination=f"198.51.100.{i + 1}") for i in range(20)]
        self.send_frames(link, frames)
        self.assert_committed(node, "s", 20)
        self.assertEqual(numbers(records(node, "s")), list(range(20)))

    def test_vlan_tag_is_tolerated(self):
        link, node = self.made()
        self.send_frames(link, [udp4_frame(b"%d " % i, 5514, vlan=5) for i in range(10)])
        self.assert_committed(node, "s", 10)
        self.assertEqual(self.drops(node), {})

    def test_every_refusal_is_counted_by_its_reason(self):
        link, node = self.made("udp:5514=s", "udp:5515=absent", "udp:5516=s,from=10.0.0.0/8")
        good = [udp4_frame(b"1 ", 5514), udp4_frame(b"2 ", 5514, options=b"\1" * 8),
                udp4_frame(b"3 ", 5514, no_udp_checksum=True)]
        bad = {
            "bad_udp_checksum": [udp4_frame(b"x", 5514, break_udp=True)],
            "bad_ip_checksum": [udp4_frame(b"x", 5514, break_ip=True)],
            "not_udp": [udp4_frame(b"x", 5514, protocol=132)],
            "not_ip": [udp4_frame(b"x", 5514, ethertype=0x88b5)],
            "not_ours": [udp4_frame(b"x", 5514, destination="192.0.2.9")],
            "no_door": [udp4_frame(b"x", 9)],
            "stream_missing": [udp4_frame(b"x", 5515)],
            "source_not_allowed": [udp4_frame(b"x", 5516)],
            "empty_datagram": [udp4_frame(b"", 5514)],
        }
        self.send_frames(link, good + [frame for frames in bad.values() for frame in frames])
        expected = {reason: len(frames) for reason, frames in bad.items()}
        wait_for(lambda: self.drops(node) == expected or None, f"the drops to be {expected}, found "
                 f"{self.drops(node)}", 3)
        self.assert_committed(node, "s", len(good))
        self.assertEqual(numbers(records(node, "s")), [1, 2, 3])

    def test_fragmented_datagrams_are_counted_not_taken(self):
        link, node = self.made(ipv6=True)
        link.exec("ping", "-6", "-c", "1", "-W", "2", NODE6)
        link.exec("ping", "-c", "1", "-W", "2", NODE4)

        def lost():
            return {k: v for k, v in self.drops(node).items() if k != "link_control"}
        self.send(link, NODE6, 5514, 0, 5, 4000)   # three fragments each
        wait_for(lambda: lost() == {"fragment": 15}, "15 fragments to be counted", 3)
        # The packet socket puts IPv4's together, and its ring cuts what is longer than a frame.
        self.send(link, NODE4, 5514, 0, 5, 4000)
        wait_for(lambda: lost() == {"fragment": 15, "truncated": 5}, "5 cut datagrams", 3)
        self.assertEqual(records(node, "s"), [])

    def test_a_device_that_hands_on_fragments_as_they_came(self):
        link, node = self.made(device="net_pcap0")
        link.exec("ping", "-c", "1", "-W", "5", NODE4)
        self.send(link, NODE4, 5514, 0, 5, 4000)
        self.send(link, NODE4, 5514, 5, 3, 100)
        wait_for(lambda: self.drops(node).get("fragment") == 15, "15 fragments to be counted", 5)
        self.assert_committed(node, "s", 3)
        self.assertEqual(numbers(records(node, "s")), [5, 6, 7])

    def test_lines_framing_and_fixed_key(self):
        link, node = self.made("udp:5514=s,framing=lines,key=fixed:meter")
        self.send_frames(link, [udp4_frame(b"1 a\n2 b\n\n3 c", 5514), udp4_frame(b"4 d\r\n", 5514)])
        self.assert_committed(node, "s", 4)
        found = records(node, "s")
        self.assertEqual(numbers(found), [1, 2, 3, 4])
        self.assertEqual({r["PartitionKey"] for r in found}, {"meter"})

    def test_quota_drops_what_is_above_it(self):
        link, node = self.made("udp:5514=s,quota=100000")
        link.exec("ping", "-c", "1", "-W", "2", NODE4)
        self.send(link, NODE4, 5514, 0, 1000, 1000)
        wait_for(lambda: self.drops(node).get("door_quota", 0) + len(records(node, "s")) == 1000,
                 "every datagram to be a record or a drop", 5)
        self.assertGreater(self.drops(node)["door_quota"], 500)
        self.assertGreaterEqual(len(records(node, "s")), 60)

    def test_two_lanes_share_the_load_and_keep_order(self):
        link, node = self.made("udp:5514=s", "udp:5515=t", more=["--lanes", "0,1"],
                               streams={"s": 8, "t": 8})
        link.exec("ping", "-c", "1", "-W", "2", NODE4)
        sources = [f"192.0.2.{i}" for i in range(10, 42)]
        frames = []
        for i in range(60):
            for n, source in enumerate(sources):
                frames.append(udp4_frame(b"%d %d" % (i, n), 5514 + i % 2, source=source))
        self.send_frames(link, frames)
        self.assert_committed(node, "s", 30 * len(sources))
        self.assert_committed(node, "t", 30 * len(sources))
        self.assertEqual(self.drops(node), {})
        for stream, parity in (("s", 0), ("t", 1)):
            per_key = {}
            for record in records(node, stream):
                per_key.setdefault(record["PartitionKey"], []).append(
                    int(record["Data"].split()[0]))
            self.assertEqual(set(per_key), set(sources))
            for found in per_key.values():
                self.assertEqual(found, list(range(parity, 60, 2)))

    def test_start_up_names_huge_pages_in_one_line(self):
        _, node = self.made(more=["--hugepages", "never"])
        lines = [line for line in node.log().splitlines() if "huge page" in line.lower()]
        self.assertEqual(len(lines), 1, lines)


class KernelPort(NodeTest):
    def test_logger_and_lines_without_dpdk(self):
        syslog, lines = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        node = self.node("--port", "kernel:127.0.0.1", "--door", f"udp:{syslog}=syslog",
                         "--door", f"udp:{lines}=lines,framing=lines")
        node.create_stream("syslog", 2)
        node.create_stream("lines", 1)
        for i in range(50):
            run("logger", "-n", "127.0.0.1", "-P", str(syslog), "-d", "-t", "test", f"message {i}")
        self.assert_committed(node, "syslog", 50)
        found = records(node, "syslog")
        self.assertEqual([r["Data"].split()[-1] for r in found], [b"%d" % i for i in range(50)])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"1 a\n2 b\n", ("127.0.0.1", lines))
        self.assert_committed(node, "lines", 2)
        self.assertEqual(numbers(records(node, "lines")), [1, 2])

    def test_ipv6_loopback(self):
        port = free_port(socket.SOCK_DGRAM)
        node = self.node("--port", "kernel:[::1]", "--door", f"udp:{port}=s")
        node.create_stream("s", 1)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            for i in range(10):
                sender.sendto(b"%d " % i, ("::1", port))
        self.assert_committed(node, "s", 10)
        self.assertEqual({r["PartitionKey"] for r in records(node, "s")}, {"::1"})

    def test_a_restart_keeps_what_was_committed(self):
        port = free_port(socket.SOCK_DGRAM)
        node = self.node("--port", "kernel:127.0.0.1", "--door", f"udp:{port}=s")
        node.create_stream("s", 4)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for i in range(500):
                sender.sendto(b"%d " % i, ("127.0.0.1", port))
        self.assert_committed(node, "s", 500)
        node.kill()
        node.start()
        self.assertEqual(numbers(records(node, "s")), list(range(500)))


if __name__ == "__main__":
    main()
