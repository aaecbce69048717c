"""The program's own manners: options, help, start and end, metrics as documented."""

import contextlib
import fcntl
import http.client
import http.server
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import unittest

from node import BINARY, ROOT, LabError, NodeTest, free_port, main, penstock, run, wait_for
import tempfile


class CommandLine(unittest.TestCase):
    def test_bad_values_are_one_line_and_exit_2(self):
        serve = ["serve", "--data", "/nonexistent", "--unsigned"]
        for words, said in (
                (["serve"], ["--data", "not given"]),
                (["serve", "--data", "/nonexistent"], ["--key-file", "not given", "--unsigned"]),
                (serve + ["--http", "0.0.0.0:4567"], ["--http", "0.0.0.0", "loopback"]),
                (serve + ["--http", "nonsense"], ["--http", "nonsense", "HOST:PORT"]),
                (serve + ["--ack-level", "memory"], ["--ack-level", "memory", "quorum or all"]),
                (serve + ["--poll", "never"], ["--poll", "never", "adaptive or busy"]),
                (serve + ["--door", "udp:70000=a"], ["--door", "70000"]),
                (serve + ["--door", "tcp:1=a"], ["--door", "tcp"]),
                (serve + ["--address", "1.2.3.4/24"], ["--address", "--port"]),
                (serve + ["--lanes", "4096"], ["--lanes", "4096"]),
                (serve + ["--groups", "0"], ["--groups", "0", "1 to 256"]),
                (serve + ["--memory", "lots"], ["--memory", "lots"]),
                (serve + ["--unknown"], ["--unknown"]),
                (["dance"], ["dance", "serve"]),
        ):
            with self.subTest(words=words):
                done = penstock(*words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                for part in said:
                    self.assertIn(part, done.stderr)

    def test_help_everywhere(self):
        for words in ([], ["serve"], ["doctor"], ["inspect"], ["replica"], ["replica", "status"],
                      ["replica", "replace"], ["certificate"], ["certificate", "make"], ["capture"], ["top"],
                      ["credentials"], ["credentials", "make"], ["credentials", "rotate"], ["port"],
                      ["port", "release"],
                      ["version"]):
            done = penstock(*words, "--help")
            self.assertEqual(done.returncode, 0, words)
            self.assertIn("--help", done.stdout)
            self.assertEqual(done.stderr, "")

    def test_version_is_json_too(self):
        facts = json.loads(penstock("version", "--json").stdout)
        self.assertEqual(set(facts), {"version", "build", "compiler", "dpdk", "liburing", "isa_l",
                                      "block_format", "frame_format"})
        self.assertIn(facts["version"], penstock("version").stdout)

    def test_doctor_changes_nothing_and_says_the_same_as_text_and_json(self):
        with tempfile.TemporaryDirectory() as directory:
            words = ["doctor", "--data", directory, "--port", "net_af_packet0,iface=nosuch0"]
            done = penstock(*words, "--json")
            self.assertEqual(done.returncode, 1, done.stderr)
            report = json.loads(done.stdout)
            text = penstock(*words)
            self.assertEqual(text.returncode, 1, text.stderr)
            self.assertEqual(os.listdir(directory), [])
        findings = report["findings"]
        for finding in findings:
            self.assertEqual(set(finding), {"level", "id", "about", "text", "mend"})
            self.assertIn(finding["level"], ("ok", "note", "warning", "error"))
            self.assertEqual(finding["level"] == "ok", finding["mend"] == "", finding)
        for level in ("error", "warning", "note"):
            self.assertEqual(report[level + "s"], sum(f["level"] == level for f in findings))
        self.assertIn(("error", "port-interface", "nosuch0"),
                      {(f["level"], f["id"], f["about"]) for f in findings})
        # How fast a drive flushed may differ from run to run, and so what is thought of it.
        def level(name, found):
            return "measured" if name == "drive-flush" else found
        shown = re.findall(r"^(ok|note|warning|error) +([\w-]+)(?: ([^:]+))?: ", text.stdout, re.M)
        self.assertEqual([(level(i, l), i, about) for l, i, about in shown],
                         [(level(f["id"], f["level"]), f["id"], f["about"]) for f in findings])

    def test_doctor_looks_at_the_files_with_keys_that_the_configuration_names(self):
        with tempfile.TemporaryDirectory() as directory:
            keys = os.path.join(directory, "keys")
            self.assertEqual(penstock("keys", "make", "--keys-file", keys).returncode, 0)
            config = os.path.join(directory, "penstock.toml")
            with open(config, "w", encoding="utf-8") as file:
                file.write(f'keys-file = "{keys}"\nkey-file = "{keys}"\n')

            def found():
                report = json.loads(penstock("doctor", "--config", config, "--json").stdout)
                return {f["id"]: (f["level"], f["mend"]) for f in report["findings"]}
            # The one is no such file as the other.
            self.assertEqual(found()["keys-file"], ("ok", ""))
            self.assertEqual(found()["key-file"], ("error", f"cp -p COPY {keys}"))
            os.chmod(keys, 0o644)
            self.assertEqual(found()["keys-file"], ("error", f"chmod 600 {keys}"))

    def test_doctor_refuses_what_serve_would(self):
        for words, said in ((["--port", "eth0!"], "--port"), (["--lanes", "3-1"], "--lanes"),
                            (["--data", "/a", "--data", "/b"], "found 2")):
            done = penstock("doctor", *words)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertEqual(done.stdout, "")
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(said, done.stderr)


class StartAndEnd(NodeTest):
    def test_ready_within_a_second_and_sigterm_ends_with_0(self):
        node = self.node(start=False)
        self.assertLess(node.start(), 2.0)   # 1 s and what a busy machine adds
        self.assertEqual(node.http("/healthz")[0], 200)
        self.assertEqual(node.stop(), 0)
        self.assertIn("stopped: everything is in its segment", node.log())
        node.start()
        node.process.send_signal(signal.SIGINT)
        self.assertEqual(node.process.wait(20), 0)

    def test_one_directory_warns_that_replicas_share_a_device(self):
        node = self.node()
        self.assertRegex(node.log().lower(), r"(share|same).*(device|drive)")

    def test_existing_refuses_an_empty_directory(self):
        node = self.node("--existing", start=False)
        with self.assertRaisesRegex(LabError, "ended with 1"):
            node.start()

    def test_config_file_and_its_mistakes(self):
        node = self.node(start=False)
        path = os.path.join(node.own, "node.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write('account = "111122223333"\n[[port]]\ndevice = "kernel:127.0.0.1"\n')
        node.start("--config", path)
        node.create_stream("s", 1)
        arn = node.boto().describe_stream_summary(StreamName="s")["StreamDescriptionSummary"][
            "StreamARN"]
        self.assertEqual(arn, "arn:aws:kinesis:us-east-1:111122223333:stream/s")
        with open(path, "a", encoding="utf-8") as file:
            file.write("weight = 1\n")
        done = penstock("serve", "--data", node.data[0], "--unsigned", "--config", path)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"{path}:4: unknown key 'weight'", done.stderr)

    def test_second_node_on_the_same_directory_is_refused(self):
        node = self.node()
        done = penstock("serve", "--data", node.data[0], "--unsigned",
                        "--http", f"127.0.0.1:{free_port()}")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout + done.stderr, "lock|another process")
        self.assertTrue(node.alive())

    def test_taken_http_port_is_one_clear_line(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            node = self.node(start=False, http_port=taken.getsockname()[1])
            with self.assertRaisesRegex(LabError, "ended with 1"):
                node.start()
            self.assertIn(str(node.http_port), node.log())


class Metrics(NodeTest):
    def documented(self):
        with open(os.path.join(ROOT, "docs/operations/metrics.md"), encoding="utf-8") as file:
            rows = re.findall(r"^\| `(penstock_\w+)` \| (\w+) \| ([^|]*) \|", file.read(), re.M)
        return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}

    def test_what_metrics_says_is_what_is_documented(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()
        client.put_record(StreamName="s", PartitionKey="k", Data=b"d")
        self.assert_committed(node, "s", 1)   # a lane that answers late is shown as it was
        metrics = node.metrics()
        documented = self.documented()
        self.assertEqual(set(metrics.types), set(documented))
        for name, (kind, labels) in documented.items():
            self.assertEqual(metrics.types[name], kind, name)
            for found, has, _ in metrics.samples:
                if re.fullmatch(name + "(_bucket|_sum|_count)?", found):
                    self.assertEqual(set(has) - {"le"}, labels, found)
        self.assertEqual(metrics.get("penstock_records_committed_total", stream="s"), 1)
        self.assertEqual(metrics.get("penstock_bytes_committed_total", stream="s"), 2)
        self.assertGreaterEqual(metrics.get("penstock_commit_latency_seconds_count"), 1)
        self.assertEqual(metrics.get("penstock_shard_records_committed_total", stream="s",
                                     shard="shardId-000000000000"), 1)
        self.assertEqual(metrics.get("penstock_shard_bytes_committed_total", stream="s"), 2)
        self.assertEqual(metrics.by("penstock_lane_records_total", "from"), {"doors": 0, "api": 1})
        self.assertEqual(metrics.get("penstock_http_requests_total", operation="PutRecord", code="200"), 1)
        self.assertEqual(metrics.get("penstock_http_request_seconds_count", operation="PutRecord"), 1)
        with self.assertRaises(client.exceptions.ResourceNotFoundException):
            client.put_record(StreamName="none", PartitionKey="k", Data=b"d")
        self.assertEqual(node.metrics().by("penstock_http_requests_total", "code")["400"], 1)

    def test_parts_are_counted_where_they_are(self):
        door = free_port(socket.SOCK_DGRAM)
        node = self.node("--port", "kernel:127.0.0.1", "--door", f"udp:{door}=s", "--lanes", "0,1")
        node.create_stream("s", 2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", door))
            for number in range(20):
                sender.send(b"%d" % number)
            sender.send(b"")   # refused: empty_datagram
        self.assert_committed(node, "s", 20)
        wait_for(lambda: node.metrics().get("penstock_dropped_total") == 1, "the drop to be counted")
        metrics = node.metrics()
        self.assertEqual(metrics.get("penstock_port_received_packets_total",
                                     port="kernel:127.0.0.1"), 21)
        self.assertEqual(metrics.get("penstock_lane_records_total", **{"from": "doors"}), 20)
        self.assertEqual(metrics.get("penstock_lane_dropped_total", reason="empty_datagram"), 1)
        self.assertEqual(metrics.get("penstock_lane_dropped_total"), 1)
        shards = metrics.by("penstock_shard_records_committed_total", "shard")
        self.assertEqual(sum(shards.values()), 20)
        for name in ("free", "size"):
            self.assertEqual(set(metrics.by(f"penstock_replica_{name}_bytes", "replica")),
                             {"0", "1", "2"})

    def test_segment_writes_are_told_apart_by_what_they_do(self):
        node = self.node()
        node.create_stream("s", 1)
        client = node.boto()

        def writes(name, kind, **more):
            return node.metrics().get(f"penstock_segment_{name}_total", kind=kind, **more)
        client.put_record(StreamName="s", PartitionKey="k", Data=b"d" * 900_000)
        wait_for(lambda: writes("writes", "direct") >= 1, "a large record's own write")
        self.assertGreaterEqual(writes("written_bytes", "direct"), 900_000)
        self.assertEqual(writes("writes", "moved"), 0)
        self.assertEqual(node.metrics().get("penstock_segment_flushes_total"), 0)
        direct = writes("writes", "direct")
        client.put_record(StreamName="s", PartitionKey="k", Data=b"small")
        # The journal holds it until it has waited two seconds.
        wait_for(lambda: writes("writes", "moved") == 1, "a small record's move")
        self.assertEqual(writes("written_bytes", "moved"), 4096)
        self.assertGreaterEqual(node.metrics().get("penstock_segment_flushes_total"), 1)
        self.assertEqual(writes("writes", "direct"), direct)

    def test_every_drop_reason_is_there_from_the_start(self):
        drops = self.node().metrics().by("penstock_dropped_total", "reason")
        for reason in ("fragment", "bad_udp_checksum", "no_door", "disk_full", "no_quorum"):
            self.assertEqual(drops.get(reason), 0)

    def test_only_this_machine_is_answered(self):
        node = self.node()
        for headers in ({"Host": "penstock.example"}, {"Origin": "http://127.0.0.1"}):
            connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=5)
            connection.request("GET", "/metrics", headers=headers)
            self.assertEqual(connection.getresponse().status, 403, headers)
            connection.close()


class Answer(http.server.BaseHTTPRequestHandler):
    """A server that is no node, by the path of its class."""
    protocol_version = "HTTP/1.1"
    status, chunks = 200, [b""]

    def do_GET(self):  # pylint: disable=invalid-name
        self.send_response(self.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in self.chunks + [b""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
            time.sleep(0.05)

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


class Top(NodeTest):
    def fed_node(self):
        """A node that gets twenty records and a refused packet every hundredth of a second."""
        door = free_port(socket.SOCK_DGRAM)
        node = self.node("--port", "kernel:127.0.0.1", "--door", f"udp:{door}=telemetry")
        node.create_stream("telemetry", 1)
        node.create_stream("idle", 1)
        ended = threading.Event()

        def feed():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(("127.0.0.1", door))
                while not ended.wait(0.01):
                    for _ in range(20):
                        sender.send(b"x" * 100)
                    sender.send(b"")
        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        self.addCleanup(feeder.join)
        self.addCleanup(ended.set)
        wait_for(lambda: node.metrics().get("penstock_records_committed_total",
                                            stream="telemetry") > 100, "records")
        return node

    def test_once_prints_one_plain_table(self):
        node = self.fed_node()
        done = penstock("top", "--http", f"127.0.0.1:{node.http_port}", "--interval", "0.5", "--once")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("\x1b", done.stdout)
        self.assertNotIn("\r", done.stdout)
        rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
        # About 2000 a second, but this machine may be busy.
        self.assertEqual(rows["LANE"][:4], ["LANE", "DUTY", "PACKETS/s", "DOORS/s"])
        self.assertRegex(done.stdout, r"(?m)^0 .*empty_datagram [1-9]")
        self.assertGreater(float(rows["kernel:127.0.0.1"][1]), 50)
        self.assertGreater(float(rows["telemetry"][1]), 50)
        self.assertGreater(float(rows["telemetry"][2]), 0.004)
        self.assertEqual(rows["shardId-000000000000"][1], "telemetry")
        self.assertRegex(done.stdout, r"p50 [0-9.]+ ms, p99 [0-9.]+ ms")
        self.assertEqual(done.stdout.count("voting"), 3)
        self.assertEqual(done.stdout.count("STREAM "), 2)   # its heading, and a column of shards

    def test_terminal_is_drawn_in_its_size_and_restored(self):
        node = self.fed_node()
        for ending in (b"q", signal.SIGINT, signal.SIGTERM):
            with self.subTest(ending=ending):
                master, slave = pty.openpty()
                fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
                before = termios.tcgetattr(slave)
                with subprocess.Popen(
                        [BINARY, "top", "--http", f"127.0.0.1:{node.http_port}", "--interval", "0.2"],
                        stdin=slave, stdout=slave, stderr=slave,
                        env={**os.environ, "TERM": "xterm"}) as process, \
                        contextlib.ExitStack() as on_failure:
                    on_failure.callback(process.kill)
                    output = b""

                    def until(part, start=0):
                        nonlocal output
                        end = time.monotonic() + 10
                        while part not in output[start:]:
                            self.assertLess(time.monotonic(), end, output[-3000:])
                            if select.select([master], [], [], 0.1)[0]:
                                output += os.read(master, 65536)

                    until(b"shardId-")
                    self.assertTrue(output.startswith(b"\x1b[?1049h\x1b[?25l"), output[:40])
                    self.assertFalse(termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON))
                    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
                    process.send_signal(signal.SIGWINCH)
                    until(b"\x1b[H", len(output))
                    start = len(output)   # within a frame that knows of the change, or behind it
                    while output[start:].count(b"\x1b[H") < 2:
                        until(b"\x1b[H", len(output))
                    frame = output[start:].split(b"\x1b[H")[-2].decode()
                    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame).split("\n")
                    lines = [line.rstrip("\r") for line in lines]
                    self.assertLessEqual(len(lines), 10)
                    self.assertLessEqual(max(map(len, lines)), 40)
                    if isinstance(ending, bytes):
                        os.write(master, ending)
                    else:
                        process.send_signal(ending)
                    until(b"\x1b[?25h\x1b[?1049l")
                    self.assertEqual(process.wait(10), 0)
                    on_failure.pop_all()
                self.assertTrue(output.endswith(b"\x1b[?25h\x1b[?1049l"))
                self.assertEqual(termios.tcgetattr(slave), before)
                os.close(master)
                os.close(slave)

    def other_server(self, status, chunks):
        server = http.server.HTTPServer(("127.0.0.1", 0), type(
            "Other", (Answer,), {"status": status, "chunks": chunks}))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        return server.server_port

    def top(self, port):
        return penstock("top", "--once", "--interval", "0.1", "--http", f"127.0.0.1:{port}")

    def test_answers_in_pieces_are_put_together(self):
        port = self.other_server(200, [b'penstock_build_info{version="9.', b'8.7"} 1\n'])
        done = self.top(port)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("penstock 9.8.7 at", done.stdout)

    def test_without_a_node_it_is_one_line_and_exit_1(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            for port, said in ((free_port(), "connect"), (silent.getsockname()[1], "timed out"),
                               (self.other_server(404, [b"no"]), "answered 404")):
                done = self.top(port)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(said, done.stderr)
                self.assertIn(str(port), done.stderr)


if __name__ == "__main__":
    main()
