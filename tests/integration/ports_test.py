"""Every kind of port with the real process: memif, tap, null, pcap, jumbo frames, several at once."""

import os
import shutil
import signal
import socket
import struct
import subprocess

from frames import udp4_frame
from node import BINARY, PYTHON, NodeTest, main, penstock, read_stream, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
SENDER = os.path.join(HERE, "sender.py")
TESTPMD = shutil.which("dpdk-testpmd")
COMBINED_QUEUES = os.environ.get("PENSTOCK_COMBINED_QUEUES", os.path.join(
    os.path.dirname(BINARY), "tests", "integration", "libcombined_queues.so"))
NODE4, PEER4 = "192.0.2.1", "192.0.2.2"


def records(node, stream):
    return [r for shard in read_stream(node.boto(), stream).values() for r in shard]


def numbers(found):
    return [int(record["Data"].split()[0]) for record in found]


def numbered(first, count, size, port=5514, **kwargs):
    """Frames whose datagrams begin with a number, `size` bytes each."""
    return [udp4_frame((b"%d " % i).ljust(size, b"x"), port, **kwargs)
            for i in range(first, first + count)]


def write_pcap(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


class PortTest(NodeTest):
    def send(self, link, *words):
        link.exec(PYTHON, SENDER, "udp", *map(str, words))

    def drops(self, node):
        return {reason: int(count) for reason, count in
                node.metrics().by("penstock_dropped_total", "reason").items()
                if count and reason != "link_control"}

    def sends_over_memif(self, node, socket_path, frames):
        """A DPDK process of its own puts the frames into the memif socket, once, in order."""
        if TESTPMD is None:
            self.skipTest("dpdk-testpmd is not installed (Debian: dpdk)")
        path = os.path.join(node.own, "frames.pcap")
        write_pcap(path, frames)
        # It forwards once its links are up, what was read of the file by then included.
        sender = subprocess.Popen(
            [TESTPMD, "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "128",
             "--lcores", "0@0,1@0", "--vdev", f"net_memif0,role=client,socket={socket_path},"
             "socket-abstract=no", "--vdev", f"net_pcap0,rx_pcap={path}", "--", "--forward-mode=io",
             "--total-num-mbufs=8192", "--no-flush-rx"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def end():
            if sender.poll() is None:
                sender.kill()
            sender.communicate()
        self.addCleanup(end)
        return sender

    def assert_whole(self, found, count, size):
        self.assertEqual(numbers(found), list(range(count)))
        for record in found:
            number = b"%d " % numbers([record])[0]
            self.assertEqual(record["Data"], number.ljust(size, b"x"))


class Memif(PortTest):
    def made(self, *more):
        node = self.node(start=False)
        path = os.path.join(node.own, "memif.sock")
        node.arguments += ["--port", f"net_memif0,role=server,socket={path},socket-abstract=no",
                           *more, "--door", "udp:5514=s"]
        node.start()
        node.create_stream("s", 1)
        return node, path

    def test_datagrams_of_another_process_are_read_back_in_order(self):
        node, path = self.made("--address", f"{NODE4}/24")
        self.sends_over_memif(node, path, numbered(0, 800, 300))
        self.assert_committed(node, "s", 800, 30)
        self.assert_whole(records(node, "s"), 800, 300)
        self.assertEqual(self.drops(node), {})
        self.assertEqual(node.stop(), 0)
        self.assertFalse(os.path.exists(path))

    def test_a_peer_that_leaves_takes_no_counts_with_it(self):
        node, path = self.made()
        for total in (300, 600):
            sender = self.sends_over_memif(node, path, numbered(0, 300, 300))
            self.assert_committed(node, "s", total, 30)
            sender.kill()
            sender.wait()
            wait_for(lambda: node.metrics().get("penstock_port_received_packets_total") == total,
                     f"{total} packets to stay counted", 10)

    def test_jumbo_datagrams_arrive_whole_from_chained_buffers(self):
        node, path = self.made("--mtu", "9000")
        self.assertIn("MTU 9000", node.log())
        self.sends_over_memif(node, path, numbered(0, 100, 8900))
        self.assert_committed(node, "s", 100, 30)
        self.assert_whole(records(node, "s"), 100, 8900)
        self.assertEqual(self.drops(node), {})

    def test_what_is_longer_than_the_mtu_is_counted(self):
        node, path = self.made()
        self.sends_over_memif(node, path, numbered(0, 5, 8900) + numbered(0, 5, 100))
        self.assert_committed(node, "s", 5, 30)
        self.assert_whole(records(node, "s"), 5, 100)
        self.assertEqual(self.drops(node), {"segment_chain_too_long": 5})


class TapPort(PortTest):
    """DPDK makes the interface; the test puts it into a namespace, where the kernel sends."""

    def made(self, *more, mtu=1500):
        space = self.link(None)    # for its namespace
        name = space.host[:-1] + "t"
        node = self.node("--port", f"net_tap0,iface={name}", "--address", f"{NODE4}/24", *more,
                         "--door", "udp:5514=s")
        run("ip", "link", "set", name, "netns", space.namespace)
        space.exec("ip", "addr", "add", f"{PEER4}/24", "dev", name)
        space.exec("ip", "link", "set", name, "up")
        self.assertIn(f"mtu {mtu} ", space.exec("ip", "link", "show", name).stdout)
        node.create_stream("s", 1)
        return space, node, name

    def test_the_kernel_sends_through_the_interface(self):
        space, node, name = self.made()
        space.exec("ping", "-c", "2", "-i", "0.2", "-W", "5", NODE4)
        self.send(space, NODE4, 5514, 0, 500)
        self.assert_committed(node, "s", 500)
        self.assertEqual(numbers(records(node, "s")), list(range(500)))
        self.assertEqual(self.drops(node), {})
        # The interface goes with the process, however it ends.
        node.kill()
        wait_for(lambda: space.exec("ip", "link", "show", name, check=False).returncode != 0,
                 f"{name} to be gone", 3)

    def test_two_lanes_poll_a_queue_each(self):
        space, node, _ = self.made("--lanes", "0,1")
        self.assertIn("2 queues", node.log())
        for source_port in range(40000, 40016):    # flows, which the kernel spreads over queues
            self.send(space, NODE4, 5514, 0, 50, 64, source_port)
        self.assert_committed(node, "s", 800)
        self.assertEqual(sorted(numbers(records(node, "s"))), sorted(16 * list(range(50))))
        lanes = node.metrics().by("penstock_packets_received_total", "lane")
        self.assertEqual(set(lanes), {"0", "1"})
        self.assertGreater(min(lanes.values()), 0, lanes)

    def test_jumbo_datagrams_arrive_whole(self):
        space, node, _ = self.made("--mtu", "9000", mtu=9000)
        space.exec("ping", "-c", "1", "-W", "5", NODE4)   # its driver sends 1500 at most
        self.send(space, NODE4, 5514, 0, 50, 8900)
        self.assert_committed(node, "s", 50)
        self.assert_whole(records(node, "s"), 50, 8900)
        self.assertEqual(self.drops(node), {})


class NullPort(PortTest):
    def test_packets_come_without_a_device_and_are_counted(self):
        node = self.node("--port", "net_null0", "--door", "udp:5514=s")

        def counted():
            # Frames of zeros have no protocol.
            return node.metrics().get("penstock_dropped_total", reason="link_control")
        wait_for(lambda: counted() > 10000, "packets to be counted", 5)
        self.assertEqual(self.drops(node), {})
        first = counted()
        self.assertGreaterEqual(node.metrics().get("penstock_packets_received_total"), first)


class VethPort(PortTest):
    def made(self, device, *more, mtu=1500, **kwargs):
        link = self.link(f"{PEER4}/24", **kwargs)
        run("ip", "link", "set", link.host, "mtu", str(mtu))
        link.exec("ip", "link", "set", link.peer, "mtu", str(mtu))
        node = self.node("--port", f"{device}0,iface={link.host}", "--address", f"{NODE4}/24",
                         *more, "--door", "udp:5514=s")
        node.create_stream("s", 1)
        return link, node

    def flags(self, link):
        with open(f"/sys/class/net/{link.host}/flags", encoding="ascii") as file:
            return int(file.read(), 16)

    def test_jumbo_datagrams_arrive_whole(self):
        for device in ("net_af_packet", "net_pcap"):
            with self.subTest(device=device):
                link, node = self.made(device, mtu=9000)
                self.assertIn("MTU 9000", node.log())
                link.exec("ping", "-c", "1", "-W", "5", "-M", "do", "-s", "8900", NODE4)
                self.send(link, NODE4, 5514, 0, 50, 8900)
                self.assert_committed(node, "s", 50)
                self.assert_whole(records(node, "s"), 50, 8900)
                self.assertEqual(self.drops(node), {})

    def test_the_interface_is_left_as_it_was_also_after_a_crash(self):
        link = self.link(f"{PEER4}/24")
        before = self.flags(link)
        node = self.node("--port", f"net_af_packet0,iface={link.host}", "--door", "udp:5514=s")
        node.create_stream("s", 1)
        # No address: frames to anybody are taken, as the neighbour entry shows.
        link.exec("ip", "neigh", "add", NODE4, "lladdr", "02:00:00:00:00:99", "dev", link.peer)
        self.send(link, NODE4, 5514, 0, 10)
        self.assert_committed(node, "s", 10)
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        self.assertEqual(self.flags(link), before)

    def test_mtu_of_an_interface_is_not_ours_to_set(self):
        link = self.link(f"{PEER4}/24")
        node = self.node("--port", f"net_af_packet0,iface={link.host}", "--mtu", "9000",
                         start=False)
        with self.assertRaisesRegex(Exception, "ended with 1"):
            node.start()
        self.assertIn(f"ip link set {link.host} mtu", node.log())


class XdpPort(PortTest):
    """net_af_xdp on a veth whose addresses the kernel has, so every test has a subnet of its own."""

    def made(self, *more, doors=("udp:5514=s",), start=True, queues=1):
        third = os.getpid() % 200 + 10
        self.node4, self.peer4 = f"198.19.{third}.1", f"198.19.{third}.2"
        self.node6, self.peer6 = f"2001:db8:{third}::1", f"2001:db8:{third}::2"
        link = self.link(f"{self.peer4}/24", ipv6=f"{self.peer6}/64", queues=queues)
        link.write(f"/proc/sys/net/ipv6/conf/{link.host}/disable_ipv6", "0")
        run("ip", "addr", "add", f"{self.node4}/24", "dev", link.host)
        run("ip", "addr", "add", f"{self.node6}/64", "dev", link.host, "nodad")
        words = ["--port", f"net_af_xdp0,iface={link.host}", *more]
        for door in doors:
            words += ["--door", door]
        node = self.node(*words, start=start)
        if start:
            node.create_stream("s", 1)
        return link, node

    def program(self, link):
        """Name of the XDP program on the node's interface."""
        words = run("ip", "-d", "link", "show", link.host).stdout.split()
        return words[words.index("name") + 1] if "prog/xdp" in words else None

    def kernel_socket(self, port):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(receiver.close)
        receiver.bind((self.node4, port))
        receiver.settimeout(5)
        return receiver

    def test_only_our_ports_are_taken_the_kernel_keeps_the_rest(self):
        link, node = self.made()
        self.assertEqual(self.program(link), "penstock_steer")
        for address in (self.node4, self.node6):
            link.exec("ping", "-c", "2", "-i", "0.2", "-W", "5", address)
        other = self.kernel_socket(5515)
        ours = self.kernel_socket(5514)
        self.send(link, self.node4, 5514, 0, 300, 1400)
        self.send(link, self.node6, 5514, 300, 300)
        self.send(link, self.node4, 5515, 0, 1)
        self.assert_committed(node, "s", 600)
        self.assertEqual(numbers(records(node, "s")), list(range(600)))
        self.assertEqual({r["PartitionKey"] for r in records(node, "s")}, {self.peer4, self.peer6})
        self.assertTrue(other.recv(100).startswith(b"0 "))
        ours.settimeout(0)
        with self.assertRaises(BlockingIOError):
            ours.recv(100)    # the kernel never saw it
        metrics = node.metrics()
        self.assertEqual(metrics.get("penstock_packets_received_total"), 600)
        self.assertEqual(metrics.get("penstock_dropped_total"), 0)

    def test_datagrams_for_other_addresses_stay_with_the_kernel(self):
        link, node = self.made("--address", "198.51.100.7/32")
        ours = self.kernel_socket(5514)
        self.send(link, self.node4, 5514, 7, 1)
        self.assertTrue(ours.recv(100).startswith(b"7 "))
        # An address of the port that the kernel does not have.
        link.exec("ip", "route", "add", "198.51.100.7", "via", self.node4)
        self.send(link, "198.51.100.7", 5514, 0, 20)
        self.assert_committed(node, "s", 20)
        self.assertEqual(node.metrics().get("penstock_packets_received_total"), 20)

    def test_tags_and_options_are_looked_through_fragments_are_not(self):
        link, node = self.made()
        frames = [udp4_frame(b"0 ", 5514, destination=self.node4, vlan=5),
                  udp4_frame(b"1 ", 5514, destination=self.node4, options=b"\1" * 8),
                  udp4_frame(b"x ", 5514, destination=self.node4, flags=0x2000),
                  udp4_frame(b"x ", 5514, destination=self.node4, protocol=132),
                  udp4_frame(b"2 ", 5514, destination=self.node4)]
        sender = link.popen(PYTHON, SENDER, "frames", link.peer, stdin=-1, text=True)
        sender.communicate("".join(frame.hex() + "\n" for frame in frames), timeout=20)
        self.assert_committed(node, "s", 3)
        self.assertEqual(numbers(records(node, "s")), [0, 1, 2])
        self.assertEqual(node.metrics().get("penstock_packets_received_total"), 3)

    def test_the_program_goes_with_the_node_also_when_it_is_killed(self):
        link, node = self.made()
        node.kill()
        wait_for(lambda: self.program(link) is None, "the program to be detached", 3)
        node.start()
        self.assertEqual(self.program(link), "penstock_steer")
        self.send(link, self.node4, 5514, 0, 10)
        self.assert_committed(node, "s", 10)
        self.assertEqual(node.stop(), 0)
        self.assertIsNone(self.program(link))

    def leave_program(self, link):
        """What a node leaves that is killed between the driver's attaching and our taking over."""
        build = os.path.dirname(BINARY)
        run("ip", "link", "set", link.host, "xdp", "obj",
            os.path.join(build, "dataplane/port/xdp_steer.bpf.o"), "sec", "xdp")
        self.assertEqual(self.program(link), "penstock_steer")

    def test_what_a_crashed_node_left_is_released_or_taken_over(self):
        link, node = self.made(start=False)
        port = f"net_af_xdp0,iface={link.host}"
        self.leave_program(link)
        done = penstock("port", "release", port)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"{port}: released: ", done.stdout)
        self.assertIsNone(self.program(link))
        self.assertIn("nothing left", penstock("port", "release", port).stdout)

        self.leave_program(link)
        self.assertIn(f"{link.host}: released: ", penstock("port", "release").stdout)

        self.leave_program(link)
        node.start()
        done = penstock("port", "release", port)
        self.assertEqual(done.returncode, 1)
        self.assertIn("in use", done.stdout)
        node.create_stream("s", 1)
        self.send(link, self.node4, 5514, 0, 10)
        self.assert_committed(node, "s", 10)

    def test_packets_are_taken_up_to_a_page(self):
        link, node = self.made(start=False)
        for mtu in (3401, 3400):
            run("ip", "link", "set", link.host, "mtu", str(mtu))
            link.exec("ip", "link", "set", link.peer, "mtu", str(mtu))
            if mtu == 3401:
                with self.assertRaisesRegex(Exception, "ended with 1"):
                    node.start()
                self.assertIn(f"`ip link set {link.host} mtu 3400`", node.log())
                self.assertIsNone(self.program(link))
        node.start()
        node.create_stream("s", 1)
        link.exec("ping", "-c", "1", "-W", "5", self.node4)
        self.send(link, self.node4, 5514, 0, 50, 3370)
        self.assert_committed(node, "s", 50)
        self.assert_whole(records(node, "s"), 50, 3370)

    def call_queues_combined(self):
        """Nodes started from now on find a veth's queues to be what a NIC's are, which DPDK asks for."""
        if not os.path.exists(COMBINED_QUEUES):
            self.skipTest(f"found no {COMBINED_QUEUES}; expected it from a build with tests")
        os.environ["LD_PRELOAD"] = COMBINED_QUEUES
        self.addCleanup(os.environ.pop, "LD_PRELOAD")

    def test_two_lanes_take_a_receive_queue_each(self):
        self.call_queues_combined()
        link, node = self.made("--lanes", "0,1", queues=2,
                               doors=("udp:5514=s", "udp:5600=t,ports=per-lane"))
        self.assertIn("2 queues, spread by the kernel, no steering by UDP port (", node.log())
        node.create_stream("t", 4)
        for source_port in range(40000, 40012):    # flows, which the kernel spreads over queues
            address = self.node4 if source_port % 2 else self.node6
            for udp_port in (5514, 5600, 5601):
                self.send(link, address, udp_port, 0, 20, 64, source_port)
        self.assert_committed(node, "s", 240)
        self.assert_committed(node, "t", 480)
        self.assertEqual(sorted(numbers(records(node, "s"))), sorted(12 * list(range(20))))
        self.assertEqual(sorted(numbers(records(node, "t"))), sorted(24 * list(range(20))))
        metrics = node.metrics()
        lanes = metrics.by("penstock_packets_received_total", "lane")
        self.assertEqual(sum(lanes.values()), 720)
        self.assertGreater(min(lanes["0"], lanes["1"]), 0, lanes)
        self.assertEqual(self.drops(node), {})
        self.assertEqual(node.stop(), 0)
        self.assertIsNone(self.program(link))
        node.start()
        self.assertEqual(self.program(link), "penstock_steer")
        node.kill()
        wait_for(lambda: self.program(link) is None, "the program to be detached", 3)

    def refused(self, link, node, cases):
        for more, said in cases:
            with self.assertRaisesRegex(Exception, "ended with 1"):
                node.start(*more)
            self.assertIn(said, node.log())
            self.assertIsNone(self.program(link))

    def test_queues_that_no_lane_would_poll_are_refused(self):
        link, node = self.made(queues=2, start=False)
        self.refused(link, node, [
            (("--lanes", "0,1"), "over 2 receive queues, but DPDK's driver takes several only where they "
             f"are combined with transmit queues; `ethtool -L {link.host} rx 1` first")])
        self.call_queues_combined()
        self.refused(link, node, [
            ((), f"there are lanes for 1 only; `ethtool -L {link.host} combined 1` first, or run more"),
            (("--lanes", "0,1", "--rss", "off"), "with --rss off there is one queue only"),
            (("--lanes", "0,1", "--rss", "on"), "the kernel fills the queues of net_af_xdp")])

    def test_a_taken_interface_is_refused(self):
        link, _ = self.made()
        second = self.node("--port", f"net_af_xdp0,iface={link.host}", start=False)
        with self.assertRaisesRegex(Exception, "ended with 1"):
            second.start()
        self.assertIn("another node has interface", second.log())
        self.assertEqual(self.program(link), "penstock_steer")


class SeveralPorts(PortTest):
    def test_two_lanes_take_from_three_ports(self):
        first, second = self.link(f"{PEER4}/24"), self.link("203.0.113.2/24")
        node = self.node(start=False)
        path = os.path.join(node.own, "memif.sock")
        node.arguments += [
            "--lanes", "0,1",
            "--port", f"net_af_packet0,iface={first.host}", "--address", f"{NODE4}/24",
            "--port", f"net_pcap1,iface={second.host}", "--address", "203.0.113.1/24",
            "--port", f"net_memif0,role=server,socket={path},socket-abstract=no",
            "--door", "udp:5514=s", "--door", "udp:5515=t"]
        node.start()
        for stream in "st":
            node.create_stream(stream, 4)
        self.sends_over_memif(node, path, [
            frame for i in range(100) for source in range(10, 14) for frame in
            numbered(i, 1, 50, 5514 + i % 2, source=f"198.51.100.{source}")])
        # What waits for an answer to ARP is overtaken by what is sent after it came.
        first.exec("ping", "-c", "1", "-W", "5", NODE4)
        second.exec("ping", "-c", "1", "-W", "5", "203.0.113.1")
        self.send(first, NODE4, 5514, 0, 200)
        self.send(second, "203.0.113.1", 5515, 0, 200)
        self.assert_committed(node, "s", 400, 30)
        self.assert_committed(node, "t", 400, 30)
        self.assertEqual(self.drops(node), {})
        by_source = {}
        for stream in "st":
            for record in records(node, stream):
                by_source.setdefault((stream, record["PartitionKey"]), []).append(record)
        expected = {("s", PEER4): range(200), ("t", "203.0.113.2"): range(200)}
        for source in range(10, 14):
            expected["s", f"198.51.100.{source}"] = range(0, 100, 2)
            expected["t", f"198.51.100.{source}"] = range(1, 100, 2)
        self.assertEqual(set(by_source), set(expected))
        for key, wanted in expected.items():
            self.assertEqual(numbers(by_source[key]), list(wanted), key)
        # Both lanes own shards, and both took packets or were handed records.
        self.assertGreater(node.metrics().get("penstock_lane_handed_over_total"), 0)


class PerLaneDoor(PortTest):
    """A door with a UDP port for each lane, on ports that steer by it and on ports that cannot."""

    def free_base(self):
        """A UDP port of 127.0.0.1 that is free together with the one after it."""
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first, \
                    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
                first.bind(("127.0.0.1", 0))
                try:
                    second.bind(("127.0.0.1", first.getsockname()[1] + 1))
                except (OSError, OverflowError):
                    continue
                return first.getsockname()[1]

    def by_lane(self, node, name):
        return {lane: int(count) for lane, count in node.metrics().by(name, "lane").items()}

    def send_here(self, *words):
        run(PYTHON, SENDER, "udp", *map(str, words))

    def test_on_one_port_that_cannot_steer_records_arrive_whichever_lane_takes_them(self):
        link = self.link(f"{PEER4}/24")
        node = self.node("--lanes", "0,1", "--port", f"net_af_packet0,iface={link.host}",
                         "--address", f"{NODE4}/24", "--door", "udp:5600=s,ports=per-lane",
                         "--door", "udp:5514=t")
        self.assertIn("2 queues, spread by the kernel, no steering by UDP port (UDP port 5600 over "
                      "IPv4 to queue 0: Function not implemented): lanes hand records over", node.log())
        for stream in "st":
            node.create_stream(stream, 4)
        link.exec("ping", "-c", "1", "-W", "5", NODE4)
        for source_port in range(40000, 40010):    # flows, which the kernel spreads over queues
            for lane in range(2):
                self.send(link, NODE4, 5600 + lane, 0, 25, 64, source_port)
        self.send(link, NODE4, 5514, 0, 10)
        self.send(link, NODE4, 5602, 0, 5)     # no third lane, so no such port
        self.assert_committed(node, "s", 500)
        self.assert_committed(node, "t", 10)
        self.assertEqual(sorted(numbers(records(node, "s"))), sorted(20 * list(range(25))))
        wait_for(lambda: self.drops(node) == {"no_door": 5}, "5 datagrams for no door")
        # Twenty flows: neither lane gets exactly its own.
        astray = self.by_lane(node, "penstock_lane_astray_total")
        self.assertGreater(sum(astray.values()), 0)
        self.assertLess(sum(astray.values()), 500)
        self.assertGreater(min(self.by_lane(node, "penstock_packets_received_total").values()), 0)

    def test_kernel_sockets_deliver_each_lane_its_own(self):
        base = self.free_base()
        node = self.node("--lanes", "0,1", "--port", "kernel:127.0.0.1",
                         "--door", f"udp:{base}=s,ports=per-lane")
        node.create_stream("s", 4)
        for source_port in range(8):
            self.send_here("127.0.0.1", base + 1, source_port * 50, 50)
        self.assert_committed(node, "s", 400)
        self.assertEqual(self.by_lane(node, "penstock_packets_received_total"), {"0": 0, "1": 400})
        self.send_here("127.0.0.1", base, 400, 30)
        self.assert_committed(node, "s", 430)
        self.assertEqual(self.by_lane(node, "penstock_packets_received_total"), {"0": 30, "1": 400})
        self.assertEqual(self.by_lane(node, "penstock_lane_astray_total"), {"0": 0, "1": 0})
        self.assertEqual(sorted(numbers(records(node, "s"))), list(range(430)))
        self.assertEqual(self.drops(node), {})

    def test_one_door_on_two_ports_with_two_lanes(self):
        base = self.free_base()
        link = self.link(f"{PEER4}/24")
        node = self.node("--lanes", "0,1", "--port", f"net_af_packet0,iface={link.host}",
                         "--address", f"{NODE4}/24", "--port", "kernel:127.0.0.1",
                         "--door", f"udp:{base}=s,ports=per-lane")
        node.create_stream("s", 4)
        link.exec("ping", "-c", "1", "-W", "5", NODE4)
        for lane in range(2):
            for source_port in range(40000, 40004):
                self.send(link, NODE4, base + lane, 0, 25, 64, source_port)
            self.send_here("127.0.0.1", base + lane, 25, 100)
        self.assert_committed(node, "s", 400)
        by_source = {}
        for record in records(node, "s"):
            by_source.setdefault(record["PartitionKey"], []).append(record)
        self.assertEqual(sorted(numbers(by_source[PEER4])), sorted(8 * list(range(25))))
        self.assertEqual(sorted(numbers(by_source["127.0.0.1"])), sorted(2 * list(range(25, 125))))
        self.assertEqual(self.drops(node), {})
        self.assertGreater(min(self.by_lane(node, "penstock_packets_received_total").values()), 0)

    def test_a_tap_steers_by_port_or_says_why_not(self):
        # On this side: its rules are the kernel's, and go when an interface changes its namespace.
        third = os.getpid() % 200 + 10
        ours, theirs = f"198.19.{third}.1", f"198.19.{third}.2"
        name = f"ps{os.getpid()}y"
        node = self.node("--lanes", "0,1", "--port", f"net_tap0,iface={name}", "--address", f"{ours}/24",
                         "--door", "udp:5600=s,ports=per-lane")
        run("ip", "addr", "add", f"{theirs}/24", "dev", name)
        run("ip", "link", "set", name, "up")
        node.create_stream("s", 4)
        run("ping", "-c", "1", "-W", "5", ours)
        for source_port in range(40000, 40010):
            for lane in range(2):
                self.send_here(ours, 5600 + lane, 0, 25, 64, source_port)
        self.assert_committed(node, "s", 500)
        self.assertEqual(sorted(numbers(records(node, "s"))), sorted(20 * list(range(25))))
        self.assertEqual(self.drops(node), {})
        steered = "4 rte_flow rules steer UDP ports to their lanes" in node.log()
        astray = sum(self.by_lane(node, "penstock_lane_astray_total").values())
        if steered:
            self.assertEqual(astray, 0)
        else:    # a kernel without multiq, flower or skbedit
            self.assertRegex(node.log(), r"no steering by UDP port \(UDP port 5600 over IPv4 to queue 0: "
                                         r".+\): lanes hand records over")
            self.assertGreater(astray, 0)
        self.assertEqual(node.stop(), 0)


class Refusal(PortTest):
    """Inside a namespace whose default route goes over the link's other end, or over what stands on it."""

    def serve(self, link, node, port, *more):
        return link.exec(BINARY, "serve", "--unsigned", "--data", node.data[0], "--http", "127.0.0.1:0",
                         "--journal-size", "16MiB", "--container-size", "16MiB", "--port", port,
                         *more, check=False, timeout=60)

    def test_no_kind_of_port_takes_the_default_route(self):
        link = self.link(f"{PEER4}/24")
        link.exec("ip", "route", "add", "default", "via", NODE4)
        node = self.node(start=False)
        for device in ("net_af_packet0,iface=", "net_af_xdp0,iface=", "net_pcap0,iface=",
                       "net_pcap0,rx_iface=", "net_tap0,iface=mine,remote="):
            with self.subTest(device=device):
                done = self.serve(link, node, device + link.peer)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"interface '{link.peer}' carries the default route",
                              done.stdout + done.stderr)

    def test_nor_what_carries_it_on_top(self):
        link = self.link()
        link.exec("ip", "link", "add", "br0", "type", "bridge")
        link.exec("ip", "link", "set", link.peer, "master", "br0")
        link.exec("ip", "addr", "add", f"{PEER4}/24", "dev", "br0")
        link.exec("ip", "link", "set", "br0", "up")
        link.exec("ip", "route", "add", "default", "via", NODE4)
        node = self.node(start=False)
        done = self.serve(link, node, f"net_af_packet0,iface={link.peer}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"'br0', which stands on interface '{link.peer}', carries the default route",
                      done.stdout + done.stderr)

    def test_a_login_is_not_cut_off_and_force_takes_it_all_the_same(self):
        link = self.link()
        third = os.getpid() % 200 + 10
        address = f"198.19.{third}.1"
        run("ip", "addr", "add", f"{address}/24", "dev", link.host)
        node = self.node("--port", f"net_af_packet0,iface={link.host}", start=False)
        os.environ["SSH_CONNECTION"] = f"198.19.{third}.2 50000 {address} 22"
        self.addCleanup(os.environ.pop, "SSH_CONNECTION")
        with self.assertRaisesRegex(Exception, "ended with 1"):
            node.start()
        self.assertIn(f"interface '{link.host}' carries the login", node.log())
        node.start("--force")


class Release(PortTest):
    def test_a_memif_socket_left_behind_is_removed(self):
        node = self.node(start=False)
        path = os.path.join(node.own, "memif.sock")
        port = f"net_memif0,role=server,socket={path},socket-abstract=no"
        node.arguments += ["--port", port]
        node.start()
        done = penstock("port", "release", port)
        self.assertEqual(done.returncode, 1, done.stdout)
        node.kill()
        self.assertTrue(os.path.exists(path))
        node.start()    # takes over what is left
        node.kill()
        done = penstock("port", "release", port)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("released", done.stdout)
        self.assertFalse(os.path.exists(path))

    def test_what_is_no_port_is_refused(self):
        done = penstock("port", "release", "eth0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("kernel:ADDR", done.stderr)
        self.assertIn("nothing left", penstock("port", "release", "net_tap0,iface=t").stdout)


if __name__ == "__main__":
    main()
