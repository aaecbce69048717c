"""A node, a link and a tap to try them with: what the quickstart and the integration tests share.

Everything made here is removed by close(): processes by their id, namespaces and links by the unique
name they were given.
"""

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
AWS = "/usr/bin/aws"
PYTHON = "/usr/bin/python3"

_serial = itertools.count()


class LabError(Exception):
    """One line for people."""


# What clients of a node that asks for no signature say, since they say something.
ANYBODY = {"access_key_id": "local", "secret_access_key": "local"}


def client_environment(credential=None):
    """Environment in which AWS clients know this node only, whatever the user has configured."""
    credential = credential or ANYBODY
    kept = {k: v for k, v in os.environ.items()
            if not k.upper().endswith("_PROXY") and not k.startswith("AWS_")}
    if credential.get("session_token"):
        kept["AWS_SESSION_TOKEN"] = credential["session_token"]
    kept.update(AWS_ACCESS_KEY_ID=credential["access_key_id"],
                AWS_SECRET_ACCESS_KEY=credential["secret_access_key"], AWS_PAGER="",
                AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true",
                AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null",
                NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost", LC_ALL="C.UTF-8")
    return kept


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, check=True, **kwargs):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kwargs)
    if check and done.returncode != 0:
        raise LabError(f"'{' '.join(command)}' failed with {done.returncode}: "
                       f"{(done.stderr or done.stdout).strip()}")
    return done


def wait_for(condition, what, seconds=10.0, step=0.01):
    """Polls until condition() is true; its value is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:g} s for {what}, in vain")
        time.sleep(step)


# -- Metrics ---------------------------------------------------------------------------------------

SAMPLE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One scrape of /metrics."""

    def __init__(self, text):
        self.samples = []   # (name, labels, value)
        self.types = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.split()[2:4]
                self.types[name] = kind
            elif line and not line.startswith("#"):
                match = SAMPLE.match(line)
                if not match:
                    raise LabError(f"/metrics: cannot read the line '{line}'")
                labels = dict(LABEL.findall(match[2] or ""))
                self.samples.append((match[1], labels, float(match[3])))

    def get(self, name, **labels):
        """Sum over all samples that carry these labels; 0 if there is none."""
        return sum(value for found, has, value in self.samples
                   if found == name and all(has.get(k) == v for k, v in labels.items()))

    def by(self, name, label):
        out = {}
        for found, has, value in self.samples:
            if found == name:
                out[has.get(label)] = out.get(has.get(label), 0) + value
        return out

    def quantile(self, name, q, before=None):
        """Upper bound of the histogram bucket in which the quantile lies, in the metric's unit."""
        def buckets(metrics):
            return {float(k): v for k, v in metrics.by(name + "_bucket", "le").items()}
        counts = buckets(self)
        if before is not None:
            old = buckets(before)
            counts = {k: v - old.get(k, 0) for k, v in counts.items()}
        total = max(counts.values(), default=0)
        if total == 0:
            return None
        return min(bound for bound, count in counts.items() if count >= q * total)


# -- A node ----------------------------------------------------------------------------------------

class Node:
    """`penstock serve` on a directory of its own (or one given, which is then kept).

    With `signed` its requests are signed: it gets a key file beside its data, and start() makes a
    credential of that name that may do everything, which aws(), boto() and http() use. Without, it
    is --unsigned.
    """

    def __init__(self, binary, arguments=(), data=None, http_port=None, log=None, signed=None):
        self.binary = binary
        self.arguments = list(arguments)
        self.own = None
        if data is None:
            self.own = tempfile.mkdtemp(prefix="penstock-")
            data = [os.path.join(self.own, "data")]
            os.mkdir(data[0])
        self.data = [data] if isinstance(data, str) else list(data)
        self.key_file = os.path.join(os.path.dirname(self.data[0]), "key") if signed else None
        self.credential = None
        self.credential_name = signed
        self.http_port = http_port or free_port()
        self.log_path = log or os.path.join(self.own or tempfile.gettempdir(),
                                            f"penstock-{os.getpid()}-{next(_serial)}.log")
        self.own_log = log is None
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    def command(self, *more):
        line = [self.binary, "serve", "--http", f"127.0.0.1:{self.http_port}"]
        for directory in self.data:
            line += ["--data", directory]
        line += ["--key-file", self.key_file] if self.key_file else ["--unsigned"]
        if "--shard-quota" not in self.arguments and "--shard-quota" not in more:
            line += ["--shard-quota", "unlimited"]
        return line + self.arguments + list(more)

    def start(self, *more, seconds=15.0, ready=True):
        started = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(*more), stdin=subprocess.DEVNULL,
                                            start_new_session=True,
                                            stdout=log, stderr=log)
        if ready:
            self.wait_ready(seconds)
        took = time.monotonic() - started
        if ready and self.credential_name and self.credential is None:
            self.credential = self.make_credential(self.credential_name, "admin")
        return took

    def credentials(self, *words, **kwargs):
        """`penstock credentials` about this node."""
        return run(self.binary, "credentials", *words, "--http", f"127.0.0.1:{self.http_port}",
                   timeout=60, **kwargs)

    def make_credential(self, name, policy, *more):
        return json.loads(self.credentials("make", name, "--policy", policy, "--json", *more).stdout)

    def wait_ready(self, seconds=15.0):
        def look():
            if self.process.poll() is not None:
                raise LabError(f"the node ended with {self.process.returncode} before it was ready; "
                               f"its last words: {self.last_words()}")
            try:
                return self.http("/readyz", timeout=1)[0] == 200
            except OSError:
                return False
        wait_for(look, f"the node to be ready ({self.log_path})", seconds)

    def last_words(self, lines=3):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return " | ".join(log.read().splitlines()[-lines:]) or "(none)"
        except OSError:
            return "(none)"

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def signed_headers(self, method, path, data=None, headers=None, credential=None):
        """The headers that botocore sends with such a request."""
        import botocore.auth
        import botocore.awsrequest
        import botocore.credentials
        credential = credential or self.credential
        request = botocore.awsrequest.AWSRequest(method=method, url=self.url + path, data=data,
                                                 headers=headers or {})
        keys = botocore.credentials.Credentials(credential["access_key_id"],
                                                credential["secret_access_key"],
                                                credential.get("session_token"))
        botocore.auth.SigV4Auth(keys, "kinesis", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    def http(self, path, timeout=10, data=None, headers=None):
        """(status, body) of one request, signed if the node has a credential."""
        if self.credential is not None:
            headers = self.signed_headers("GET" if data is None else "POST", path, data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.url + path, data=data, headers=headers or {})
        try:
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metrics(self):
        status, body = self.http("/metrics")
        if status != 200:
            raise LabError(f"/metrics answered {status}")
        return Metrics(body.decode())

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, seconds=20.0):
        """SIGTERM; returns the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"the node did not end within {seconds:g} s of SIGTERM") from None
        self.process = None
        return code

    def kill(self):
        """SIGKILL, as a power switch for the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self):
        self.kill()
        if self.own_log:
            with contextlib.suppress(OSError):
                os.remove(self.log_path)
        if self.own is not None:
            shutil.rmtree(self.own, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    # -- Clients -----------------------------------------------------------------------------------

    def aws(self, *words, check=True, credential=None):
        """One AWS CLI call; its JSON answer, or the CompletedProcess with check=False."""
        done = run(AWS, "kinesis", *words, "--endpoint-url", self.url, "--output", "json",
                   "--no-cli-pager", check=check, timeout=60,
                   env=client_environment(credential or self.credential))
        if not check:
            return done
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def boto(self, credential=None, region="us-east-1", **config):
        import boto3
        from botocore.config import Config
        os.environ.update(client_environment())
        settings = dict(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30,
                        proxies={})
        settings.update(config)
        credential = credential or self.credential or ANYBODY
        return boto3.client("kinesis", endpoint_url=self.url, region_name=region,
                            aws_access_key_id=credential["access_key_id"],
                            aws_secret_access_key=credential["secret_access_key"],
                            aws_session_token=credential.get("session_token"),
                            config=Config(**settings))

    def create_stream(self, name, shards, client=None):
        client = client or self.boto()
        client.create_stream(StreamName=name, ShardCount=shards)
        self.wait_active(name, client)

    def wait_active(self, name, client=None, seconds=10.0):
        client = client or self.boto()
        wait_for(lambda: client.describe_stream_summary(StreamName=name)
                 ["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE",
                 f"stream {name} to be active", seconds)


def shard_ids(client, stream):
    ids, arguments = [], {"StreamName": stream}
    while True:
        answer = client.list_shards(**arguments)
        ids += [shard["ShardId"] for shard in answer["Shards"]]
        if "NextToken" not in answer:
            return ids
        arguments = {"NextToken": answer["NextToken"]}


def read_shard(client, stream, shard, limit=10000):
    """Every record of a shard from its oldest to its tip."""
    records = []
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=shard,
                                         ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    while iterator:
        answer = client.get_records(ShardIterator=iterator, Limit=limit)
        records += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if not answer["Records"] and answer["MillisBehindLatest"] == 0:
            break
    return records


def read_stream(client, stream):
    """{shard id: its records}; raises unless sequence numbers grow within each shard."""
    shards = {}
    for shard in shard_ids(client, stream):
        shards[shard] = read_shard(client, stream, shard)
        numbers = [int(record["SequenceNumber"]) for record in shards[shard]]
        for earlier, later in zip(numbers, numbers[1:]):
            if later <= earlier:
                raise LabError(f"{stream}/{shard}: sequence number {later} comes after {earlier}")
    return shards


def put_all(client, stream, entries, batch=500, retries=200):
    """PutRecords of (key, data) in order, retrying what was pushed back; returns results in order.

    A key whose record was pushed back could be overtaken by its next one in the same call, so what
    failed goes again together with everything after it of the same key.
    """
    results = [None] * len(entries)
    waiting = list(range(len(entries)))
    while waiting:
        now, waiting = waiting[:batch], waiting[batch:]
        answer = client.put_records(StreamName=stream, Records=[
            {"PartitionKey": entries[i][0], "Data": entries[i][1]} for i in now])
        again = []
        for i, result in zip(now, answer["Records"]):
            if "ErrorCode" in result:
                again.append(i)
            else:
                results[i] = result
        if again:
            retries -= 1
            if retries < 0:
                raise LabError(f"{stream}: {len(again)} records pushed back too often; last: "
                               f"{answer['Records'][-1]}")
            time.sleep(0.02)
        waiting = again + waiting
    return results


# -- A link ----------------------------------------------------------------------------------------

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17


def disable_tx_checksum(interface):
    """Makes the kernel finish UDP checksums itself: a veth has no hardware that would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
        request = struct.pack("16sQ", interface.encode(), ctypes.addressof(value))
        fcntl.ioctl(control, SIOCETHTOOL, request)


class Link:
    """A veth pair: `host` on this side for the node, `peer` in a network namespace for senders."""

    def __init__(self, address=None, ipv6=None, queues=1):
        # Interface names have 15 characters; pid and serial keep them unique on this machine.
        tag = f"{os.getpid()}x{next(_serial)}"
        self.namespace = f"penstock-{tag}"
        self.host, self.peer = f"ps{tag}a", f"ps{tag}b"
        self.processes = []
        self.made = []
        try:
            run("ip", "netns", "add", self.namespace)
            self.made.append(("ip", "netns", "del", self.namespace))
            # As many receive queues at the node's end as transmit queues at the other.
            each = ["numrxqueues", str(queues), "numtxqueues", str(queues)] if queues > 1 else []
            run("ip", "link", "add", "name", self.host, *each, "type", "veth",
                "peer", "name", self.peer, *each, "netns", self.namespace)
            self.made.append(("ip", "link", "del", self.host))
            # Neither end shall send anything of its own (router solicitations, group reports).
            self.write(f"/proc/sys/net/ipv6/conf/{self.host}/disable_ipv6", "1")
            if ipv6 is None:
                self.exec("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
            else:
                self.exec("sh", "-c", f"echo 0 > /proc/sys/net/ipv6/conf/{self.peer}/accept_dad")
            self.exec(PYTHON, os.path.join(HERE, "lab.py"), "no-tx-checksum", self.peer)
            run("ip", "link", "set", self.host, "up")
            self.exec("ip", "link", "set", "lo", "up")
            if address:
                self.exec("ip", "addr", "add", address, "dev", self.peer)
            if ipv6:
                self.exec("ip", "addr", "add", ipv6, "dev", self.peer, "nodad")
            self.exec("ip", "link", "set", self.peer, "up")
            wait_for(lambda: self.state() == "up", f"{self.host} to be up")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    def state(self):
        with open(f"/sys/class/net/{self.host}/operstate", encoding="ascii") as file:
            return file.read().strip()

    def inside(self, *command):
        return ["ip", "netns", "exec", self.namespace, *command]

    def exec(self, *command, check=True, **kwargs):
        return run(*self.inside(*command), check=check, **kwargs)

    def popen(self, *command, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.inside(*command), **kwargs)
        self.processes.append(process)
        return process

    def udp_sent(self):
        """UDP datagrams the namespace has sent, by the kernel's own count."""
        text = self.exec("cat", "/proc/net/snmp").stdout
        names, values = [line.split()[1:] for line in text.splitlines() if line.startswith("Udp: ")]
        return int(dict(zip(names, values))["OutDatagrams"])

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []
        while self.made:
            run(*self.made.pop(), check=False)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Tap:
    """Notes every UDP datagram the namespace sends, as it leaves on the link."""

    def __init__(self, link, directory):
        self.path = os.path.join(directory, f"tap-{next(_serial)}")
        self.process = link.popen(PYTHON, os.path.join(HERE, "lab.py"), "tap", link.peer, self.path,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise LabError("the tap on the link did not start")

    def finish(self):
        """[(source address, source port, destination port, payload)] in the order sent."""
        self.process.stdin.close()
        missed = self.process.stdout.readline().strip()
        self.process.wait()
        if missed != "0":
            raise LabError(f"the tap itself missed {missed or 'unknown'} packets")
        datagrams = []
        with open(self.path, "rb") as file:
            raw = file.read()
        offset = 0
        while offset < len(raw):
            length, source, from_port, to_port = struct.unpack_from("<I4sHH", raw, offset)
            offset += 12
            datagrams.append((socket.inet_ntoa(source), from_port, to_port,
                              raw[offset:offset + length]))
            offset += length
        return datagrams


def tap_main(interface, path):
    SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
    SO_RCVBUFFORCE = 33
    tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    tap.bind((interface, 3))
    tap.settimeout(0.2)
    closing = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closing.set()), daemon=True).start()
    print("ready", flush=True)
    with open(path, "wb") as out:
        while True:
            try:
                packet, address = tap.recvfrom(65536)
            except socket.timeout:
                if closing.is_set():
                    break   # told to end, and nothing more on the link
                continue
            if address[2] != PACKET_OUTGOING or address[1] != 0x0800:
                continue
            header = (packet[0] & 15) * 4
            if packet[9] != socket.IPPROTO_UDP:
                continue
            from_port, to_port, length = struct.unpack_from("!HHH", packet, header)
            payload = packet[header + 8:header + length]
            out.write(struct.pack("<I4sHH", len(payload), packet[12:16], from_port, to_port))
            out.write(payload)
    statistics = tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
    print(struct.unpack("II", statistics)[1], flush=True)


@contextlib.contextmanager
def ending_on_signals():
    """Turns SIGTERM and SIGHUP into an exception, so that what was made is removed."""
    def leave(number, _frame):
        raise KeyboardInterrupt(f"signal {number}")
    old = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    if sys.argv[1:2] == ["tap"]:
        tap_main(*sys.argv[2:4])
    elif sys.argv[1:2] == ["no-tx-checksum"]:
        disable_tx_checksum(sys.argv[2])
    else:
        sys.exit("lab.py: expected tap or no-tx-checksum")
