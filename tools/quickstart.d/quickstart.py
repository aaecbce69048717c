"""The part of the quickstart that runs a node: sends it real input, reads it back, compares."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

import lab

NODE_ADDRESS = "192.0.2.1"
PEER_ADDRESS = "192.0.2.2"
SYSLOG_PORT, NETFLOW_PORT = 5514, 2055
# What the system itself has noted; the first that exist are sent, up to so many lines.
MESSAGE_FILES = ["/var/log/dpkg.log", "/var/log/alternatives.log", "/var/log/apt/history.log",
                 "/var/log/apt/term.log", "/var/lib/dpkg/status"]
MESSAGES_MAX = 12000
# softflowd's capture hands packets over in blocks of 256 KiB: fewer messages might fill none.
MESSAGES_MIN = 4000
# Each sender has a port of its own, hence is a flow of its own.
SENDERS = 300
# ARP and the like, and answers to them: counted, but nobody's record.
LOSES_NO_RECORD = ("link_control", "tx_full")


def step(text):
    print(f"\n== {text}", flush=True)


def say(text):
    print(text, flush=True)


def read_messages():
    lines = []
    for path in MESSAGE_FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines += [line.rstrip("\n") for line in file if line.strip()]
        except OSError:
            continue
        if len(lines) >= MESSAGES_MAX:
            break
    lines = [line for line in lines[:MESSAGES_MAX] if len(line) < 800]
    if len(lines) < MESSAGES_MIN:
        raise lab.LabError(f"found {len(lines)} lines in {', '.join(MESSAGE_FILES)}; expected at "
                           f"least {MESSAGES_MIN} messages to send")
    return lines


def read_weather(path):
    """(key, data) of every line: the day is the key, so that its hours stay in order."""
    with open(path, "rb") as file:
        rows = file.read().splitlines()[1:]
    return [(row.split(b",", 1)[0].decode()[:10], row) for row in rows if row]


class Feed:
    """What one stream got and gave back."""

    def __init__(self, stream):
        self.stream = stream
        self.sent = []          # payloads, in order where there is one
        self.durable = 0
        self.seconds = 0.0
        self.read = 0
        self.problem = "not compared"

    def row(self):
        size = sum(len(data) for data in self.sent)
        rate = size / self.seconds / 1e6 if self.seconds else 0
        return (f"{self.stream:<10}{len(self.sent):>10}{self.durable:>10}{self.read:>10}"
                f"{size:>12}{rate:>10.2f}   {self.problem or 'same, in order'}")


class Quickstart:
    def __init__(self, options):
        self.options = options
        self.scratch = tempfile.mkdtemp(prefix="penstock-quickstart-")
        self.link = None
        self.node = None
        self.syslog, self.netflow, self.weather = Feed("syslog"), Feed("netflow"), Feed("weather")

    # -- Steps -------------------------------------------------------------------------------------

    def start(self):
        step("link: a veth pair, one end in a network namespace, the other for DPDK")
        self.link = lab.Link(f"{PEER_ADDRESS}/24")
        say(f"{self.link.host} (DPDK) <-> {self.link.peer} in namespace {self.link.namespace}")

        step("node: three replicas, one DPDK port, two doors")
        data = os.path.join(self.scratch, "data")
        os.mkdir(data)
        self.node = lab.Node(
            self.options.binary, data=data, log=os.path.join(self.scratch, "node.log"), signed="quickstart",
            arguments=["--port", f"net_af_packet0,iface={self.link.host}",
                       "--address", f"{NODE_ADDRESS}/24",
                       "--door", f"udp:{SYSLOG_PORT}=syslog,key=source,framing=datagram",
                       "--door", f"udp:{NETFLOW_PORT}=netflow,key=source,framing=datagram"])
        say(" ".join(self.node.command()))
        seconds = self.node.start()
        say(f"ready after {seconds:.2f} s, process {self.node.process.pid}, log "
            f"{self.node.log_path}")

        step("a credential, and streams, with the AWS CLI")
        say(self.credential_line("quickstart"))
        for stream, shards in (("syslog", 1), ("netflow", 1), ("weather", 4)):
            self.node.aws("create-stream", "--stream-name", stream, "--shard-count", str(shards))
            self.node.wait_active(stream)
            say(f"aws kinesis create-stream --stream-name {stream} --shard-count {shards} "
                f"--endpoint-url {self.node.url}")

    def credential_line(self, name):
        return (f'eval "$({self.options.binary} credentials make {name} --policy admin --env '
                f'--http 127.0.0.1:{self.node.http_port})"')

    def committed(self, stream):
        return int(self.node.metrics().get("penstock_records_committed_total", stream=stream))

    def wait_committed(self, feed):
        def done():
            if not self.node.alive():
                raise lab.LabError(f"the node died: {self.node.last_words()}")
            feed.durable = self.committed(feed.stream)
            return feed.durable >= len(feed.sent)
        try:
            lab.wait_for(done, f"{len(feed.sent)} records of {feed.stream} to be durable", 10)
        except lab.LabError as error:
            say(f"{error}: {feed.durable} are")

    def send_datagrams(self):
        messages = read_messages()
        step(f"syslog and NetFlow: {len(messages)} messages by {SENDERS} runs of logger, watched by "
             "softflowd")
        tap = lab.Tap(self.link, self.scratch)
        before = self.link.udp_sent()
        control = os.path.join(self.scratch, "softflowd.ctl")
        collector = self.link.popen(
            "softflowd", "-d", "-i", self.link.peer, "-v", "9", "-c", control,
            "-p", os.path.join(self.scratch, "softflowd.pid"),
            "-n", f"{NODE_ADDRESS}:{NETFLOW_PORT}",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lab.wait_for(lambda: os.path.exists(control), "softflowd to start")

        started = time.monotonic()
        part = os.path.join(self.scratch, "messages")
        for sender in range(SENDERS):
            with open(part, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in messages[sender::SENDERS])
            self.link.exec("logger", "-n", NODE_ADDRESS, "-P", str(SYSLOG_PORT), "-d",
                           "-t", "quickstart", "-f", part)
            if (sender + 1) % 100 == 0:
                say(f"logger: {sender + 1} of {SENDERS} runs done")
        syslog_seconds = time.monotonic() - started

        statistics = lab.run("softflowctl", "-c", control, "statistics").stdout
        say("softflowd: " + "; ".join(line.strip() for line in statistics.splitlines()
                                      if "active flows" in line or "processed" in line))
        started = time.monotonic()
        lab.run("softflowctl", "-c", control, "expire-all")
        lab.run("softflowctl", "-c", control, "shutdown")
        collector.wait(10)
        netflow_seconds = time.monotonic() - started

        datagrams = tap.finish()
        sent = self.link.udp_sent() - before
        for feed, port, seconds in ((self.syslog, SYSLOG_PORT, syslog_seconds),
                                    (self.netflow, NETFLOW_PORT, netflow_seconds)):
            feed.sent = [data for _, _, to_port, data in datagrams if to_port == port]
            feed.seconds = seconds
            self.wait_committed(feed)
        say(f"sent: {len(self.syslog.sent)} of syslog, {len(self.netflow.sent)} of NetFlow; the "
            f"kernel counted {sent} datagrams")
        if len(self.syslog.sent) != len(messages) or not self.netflow.sent or \
                sent != len(self.syslog.sent) + len(self.netflow.sent):
            raise lab.LabError(f"found {len(self.syslog.sent)} + {len(self.netflow.sent)} datagrams "
                               f"on the link; expected {len(messages)} of logger, some of softflowd "
                               f"and {sent} in all")

    def put_weather(self):
        entries = read_weather(self.options.weather)
        step(f"weather: {len(entries)} rows put with boto3, 500 at a time, on 4 shards")
        client = self.node.boto()
        started = time.monotonic()
        lab.put_all(client, "weather", entries)
        self.weather.seconds = time.monotonic() - started
        self.weather.sent = [data for _, data in entries]
        self.wait_committed(self.weather)

    def read_back(self):
        step("read everything back with boto3 and compare")
        client = self.node.boto()
        for feed in (self.syslog, self.netflow):
            shards = lab.read_stream(client, feed.stream)
            records = [record for shard in shards.values() for record in shard]
            feed.read = len(records)
            feed.problem = self.differs(
                [(PEER_ADDRESS, data) for data in feed.sent],
                [(record["PartitionKey"], record["Data"]) for record in records])
        entries = read_weather(self.options.weather)
        shards = lab.read_stream(client, "weather")
        self.weather.read = sum(len(records) for records in shards.values())
        self.weather.problem = self.differs_by_key(entries, shards)

    @staticmethod
    def differs(sent, read):
        """One link, one shard: the very order in which the datagrams were sent."""
        if sent == read:
            return None
        for i, (a, b) in enumerate(zip(sent, read)):
            if a != b:
                return f"record {i}: sent {a!r:.80}, read {b!r:.80}"
        return f"sent {len(sent)}, read {len(read)}"

    @staticmethod
    def differs_by_key(sent, shards):
        """A key lives in one shard, and keeps its order there."""
        wanted, found, home = {}, {}, {}
        for key, data in sent:
            wanted.setdefault(key, []).append(data)
        for shard, records in shards.items():
            for record in records:
                key = record["PartitionKey"]
                if home.setdefault(key, shard) != shard:
                    return f"key {key} stands in two shards"
                found.setdefault(key, []).append(record["Data"])
        for key in wanted.keys() | found.keys():
            if wanted.get(key) != found.get(key):
                return (f"key {key}: sent {len(wanted.get(key, []))} records, read "
                        f"{len(found.get(key, []))}, or another order")
        return None

    def report(self):
        metrics = self.node.metrics()
        drops = {reason: int(count) for reason, count in
                 metrics.by("penstock_dropped_total", "reason").items()}
        step("what happened")
        say(f"{'stream':<10}{'in':>10}{'durable':>10}{'read':>10}{'bytes':>12}{'MB/s':>10}   "
            "content")
        feeds = (self.syslog, self.netflow, self.weather)
        for feed in feeds:
            say(feed.row())
        say(f"\npackets received by the node: "
            f"{int(metrics.get('penstock_packets_received_total'))}")
        lost = {reason: count for reason, count in drops.items() if reason not in LOSES_NO_RECORD}
        say(f"records dropped, {len(lost)} reasons: {sum(lost.values())}"
            + "".join(f"\n    {reason}: {count}" for reason, count in sorted(lost.items()) if count))
        say("frames of the link itself, which carry no record: " + ", ".join(
            f"{reason} {drops.get(reason, 0)}" for reason in LOSES_NO_RECORD))
        latencies = metrics.by("penstock_commit_latency_quantile_seconds", "quantile")
        say("commit latency: " + ", ".join(
            f"{name} {latencies[q] * 1000:.3g} ms" if latencies.get(q) else f"{name} unknown"
            for name, q in (("p50", "0.5"), ("p99", "0.99"), ("p99.9", "0.999"))))
        good = all(feed.problem is None and feed.durable == len(feed.sent) == feed.read
                   for feed in feeds)
        return good and bool(drops) and not any(lost.values()) and all(latencies.values())

    # -- The end -----------------------------------------------------------------------------------

    def hand_over(self):
        """--keep: the node and the link stay; what to try and how to end it."""
        pid = self.node.process.pid
        name, space = self.node.url, self.link.namespace
        step("the node keeps running; four commands to try")
        say(f"1. {self.credential_line('me')}")
        say(f"2. {lab.AWS} kinesis list-streams --endpoint-url {name}")
        say(f"3. ip netns exec {space} logger -n {NODE_ADDRESS} -P {SYSLOG_PORT} -d "
            "'hello from the other side'")
        say('4. curl -s --aws-sigv4 aws:amz:us-east-1:kinesis '
            f'-u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" {name}/metrics | '
            'grep penstock_records_committed_total')
        say(f"to end it: kill {pid}; ip netns del {space}; rm -r {self.scratch}")
        self.node = None
        self.link = None

    def close(self, keep_files):
        if self.node is not None:
            self.node.kill()
        if self.link is not None:
            self.link.close()
        if not keep_files:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def run(self):
        kept = False
        try:
            self.start()
            self.send_datagrams()
            self.put_weather()
            self.read_back()
            good = self.report()
            if self.options.keep:
                self.hand_over()
                kept = True
            else:
                code = self.node.stop()
                if code != 0:
                    raise lab.LabError(f"the node ended with {code} on SIGTERM; expected 0")
            say("\nwhat went in came out" if good else "\nNOT all that went in came out")
            return 0 if good else 1
        except (lab.LabError, OSError) as error:
            print(f"quickstart: {error}", file=sys.stderr)
            if self.node is not None:
                print(f"quickstart: the node's last words: {self.node.last_words(10)}",
                      file=sys.stderr)
            return 1
        finally:
            self.close(kept)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--weather", required=True)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.binary = os.path.abspath(options.binary)
    started = time.monotonic()
    try:
        with lab.ending_on_signals():
            code = Quickstart(options).run()
    except KeyboardInterrupt as why:
        print(f"\nquickstart: ended by {why or 'the keyboard'}; everything is removed",
              file=sys.stderr)
        code = 130
    print(f"({time.monotonic() - started:.1f} s)")
    return code


if __name__ == "__main__":
    sys.exit(main())
