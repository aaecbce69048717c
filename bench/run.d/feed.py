"""A node that takes packets from a memif port, who sends them, and what its metrics say of a while."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from machine import lane_cpu
from node import Node, Program, delete_stream, make_stream
from packets import sender_command
from report import median, micro

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'quickstart.d'))
from lab import Metrics  # noqa: E402

STREAM = 'bench'
DOOR = 9              # discard, where testpmd sends
RECORD_BYTES = 1024
KEYS = 131_072        # source addresses of packet_source
HUGE_PAGES = 320      # the node's frames, journals and packets (about 150), a sender's 32 or 64, fio's buffers
SETTLE_S = 0.7        # from the first record to the time measured
WINDOW_S = 3          # of one stream: what it keeps has to fit the space that was written before


def feeder_cpu():
    return min(os.sched_getaffinity(0))


class BusyCore:
    """Keeps a CPU busy while it is entered, as a sender does while ours is measured."""

    def __init__(self, cpu):
        self.cpu = cpu

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, '-c', f'import os\nos.sched_setaffinity(0, {{{self.cpu}}})\nwhile True: pass'])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class DoorNode(Node):
    """A node with one lane, one memif port and one door to the stream, on a directory that is kept."""

    def __init__(self, settings, directory, key):
        self.socket = os.path.join(settings.directory, 'door.sock')
        if os.path.exists(self.socket):
            os.remove(self.socket)
        os.makedirs(directory, exist_ok=True)
        log = os.path.join(settings.directory, 'door.log')
        Path(log).unlink(missing_ok=True)
        super().__init__(settings, directory, log, [
            '--lanes', str(lane_cpu()), '--port', f'net_memif0,role=server,socket={self.socket},socket-abstract=no',
            '--door', f'udp:{DOOR}={STREAM},key={key}'])

    def flush(self):
        """What the drives were measured to need, in fio's and storage_ingest's words."""
        found = re.findall(r'; using (O_DSYNC|fdatasync)', Path(self.log_path).read_text(encoding='utf-8'))
        if not found:
            raise RuntimeError(f'{self.log_path}: no line says how drives are flushed')
        return 'dsync' if found[0] == 'O_DSYNC' else 'flush'

    def metrics(self):
        """One scrape, and when it was taken."""
        begin = time.monotonic()
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/metrics', timeout=30) as answer:
            text = answer.read().decode()
        return Metrics(text), (begin + time.monotonic()) / 2


class PacketSource:
    """bench/packet_source, from the moment that it is entered until result()."""

    outlives_node = False

    def __init__(self, settings, node, rate=0.0):
        self.command = [settings.program('bench/packet_source'), '--device',
                        f'net_memif0,role=client,socket={node.socket},socket-abstract=no', '--cpu', str(feeder_cpu()),
                        '--udp-port', str(DOOR), '--record-bytes', str(RECORD_BYTES), '--keys', str(KEYS),
                        '--seconds', '600']
        if rate > 0:
            self.command += ['--rate', f'{rate:.0f}']

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def check(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}: "
                               f'{self.process.communicate()[1].strip()[-500:]}')

    def result(self):
        """Ends it; what it sent."""
        self.check()
        self.process.send_signal(signal.SIGTERM)
        said, error = self.process.communicate(timeout=30)
        if self.process.returncode != 0:
            raise RuntimeError(f"{' '.join(self.command)}: exit {self.process.returncode}: {error.strip()[-500:]}")
        return json.loads(said)


class TestpmdSource(Program):
    """dpdk-testpmd in txonly mode: one source address, and what the ring does not take is thrown away."""

    # net_memif crashes a receiver whose sender goes away in the midst of a copy (DPDK 22.11).
    outlives_node = True

    def __init__(self, settings, node):
        log = os.path.join(settings.directory, 'testpmd.log')
        Path(log).unlink(missing_ok=True)
        super().__init__(sender_command(node.socket, RECORD_BYTES, feeder_cpu()), log, stdin=subprocess.PIPE)

    def result(self):
        """Ends it as a person would, by Enter; then it says what it sent and threw away."""
        self.check()
        self.process.stdin.write(b'\n')
        self.process.stdin.flush()
        self.process.wait(30)
        text = Path(self.log_path).read_text(encoding='utf-8', errors='replace')
        last = {name: int(value) for name, value in re.findall(r'(TX-\w+):\s+(\d+)', text)}
        return {'records': last.get('TX-packets', 0), 'thrown_away': last.get('TX-dropped', 0)}


class Window:
    """What the node did between two scrapes."""

    def __init__(self, before, after, seconds):
        self.before, self.after, self.seconds = before, after, seconds

    def grew(self, name, **labels):
        return self.after.get(name, **labels) - self.before.get(name, **labels)

    def records_per_s(self):
        return self.grew('penstock_records_committed_total', stream=STREAM) / self.seconds

    def drops(self):
        """Per second and reason, on the node."""
        old = self.before.by('penstock_dropped_total', 'reason')
        return {reason: (count - old.get(reason, 0)) / self.seconds
                for reason, count in self.after.by('penstock_dropped_total', 'reason').items()
                if count > old.get(reason, 0)}

    def latency_us(self, share):
        """Interpolated within the histogram's bucket (ten buckets to a decade)."""
        def buckets(metrics):
            return {float(bound): count
                    for bound, count in metrics.by('penstock_commit_latency_seconds_bucket', 'le').items()}
        old = buckets(self.before)
        counts = sorted((bound, count - old.get(bound, 0)) for bound, count in buckets(self.after).items())
        total = counts[-1][1]
        if total <= 0:
            raise RuntimeError('the node committed nothing while it was measured')
        low, below = 0.0, 0.0
        for bound, count in counts:
            if count >= share * total:
                if bound == float('inf'):
                    break
                return 1e6 * (low + (bound - low) * (share * total - below) / max(count - below, 1))
            low, below = bound, count
        return 1e6 * low

    def writes(self):
        """Count and bytes per second of one replica's writes, by kind."""
        found = {'journal': (self.grew('penstock_journal_blocks_total'),
                             self.grew('penstock_journal_written_bytes_total'))}
        for kind in ('direct', 'moved'):
            found[kind] = (self.grew('penstock_segment_writes_total', kind=kind),
                           self.grew('penstock_segment_written_bytes_total', kind=kind))
        return {kind: {'per_s': count / self.seconds, 'bytes_per_s': size / self.seconds}
                for kind, (count, size) in found.items()}

    def shown(self):
        return {'seconds': self.seconds, 'records_per_s': self.records_per_s(),
                'payload_bytes_per_s': self.records_per_s() * RECORD_BYTES,
                'latency_us': {'p50': self.latency_us(0.5), 'p99': self.latency_us(0.99),
                               'p999': self.latency_us(0.999)},
                'drops_per_s': self.drops(), 'writes': self.writes(),
                'segment_flushes_per_s': self.grew('penstock_segment_flushes_total') / self.seconds,
                'lane_busy': self.grew('penstock_lane_busy_seconds_total') / self.seconds,
                'grown_bytes': int(self.grew('penstock_segment_size_bytes'))}


def committed(node):
    return node.metrics()[0].get('penstock_records_committed_total', stream=STREAM)


def until_records_come(node, source, counted, timeout_s=30):
    """`counted` were committed before, by a stream of the same name that is gone."""
    until = time.monotonic() + timeout_s
    while committed(node) <= counted:
        source.check()
        node.check()
        if time.monotonic() > until:
            raise RuntimeError(f'{STREAM}: no record within {timeout_s} s; the node dropped '
                               f'{node.metrics()[0].by("penstock_dropped_total", "reason")}')
        time.sleep(0.02)


def write_space_once(settings, node, gib):
    """Fills the node and deletes the stream again: a node pays once for space never written before,
    and what is measured is the state after that."""
    make_stream(node.port, STREAM, 4)
    until = time.monotonic() + 900
    with PacketSource(settings, node) as source:
        while node.metrics()[0].get('penstock_segment_size_bytes') < gib << 30:
            source.check()
            if time.monotonic() > until:
                raise RuntimeError(f'{gib} GiB were not written within 900 s')
            time.sleep(0.1)
        source.result()
    delete_stream(node.port, STREAM)


def measure(settings, node, shards, make_source):
    """One window of a stream made for it: what the node did, what was sent, the sender's command. Some
    senders end the node."""
    counted = committed(node)
    make_stream(node.port, STREAM, shards)
    with make_source(settings, node) as source:
        until_records_come(node, source, counted)
        time.sleep(SETTLE_S)
        before, begin = node.metrics()
        time.sleep(min(settings.seconds, WINDOW_S))
        after, end = node.metrics()
        if source.outlives_node:
            delete_stream(node.port, STREAM)
            node.__exit__()
            sent = source.result()
        else:
            sent = source.result()
            delete_stream(node.port, STREAM)
    return Window(before, after, end - begin), sent, ' '.join(source.command)


def drops_text(drops):
    """Where records went that the node received and did not keep."""
    if not drops:
        return 'none dropped'
    return 'dropped ' + ', '.join(f'{reason} {rate:,.0f}/s' for reason, rate in
                                  sorted(drops.items(), key=lambda one: -one[1]))


def median_drops(samples):
    reasons = {reason for sample in samples for reason in sample['drops_per_s']}
    return {reason: median([sample['drops_per_s'].get(reason, 0) for sample in samples]) for reason in reasons}


def quantiles_text(samples):
    return ' / '.join(micro(median([sample['latency_us'][p] for sample in samples])) for p in ('p50', 'p99', 'p999'))


def sender_text(sent):
    """That the sender could do more: how much it threw away, or how often the ring made it wait."""
    if 'thrown_away' in sent:
        return f"{sent['thrown_away']:,} more thrown away by the sender (also before and after)"
    return f"the ring was full {sent['refused_bursts']:,} times"


def warn_if_grown(say, name, sample):
    if sample['grown_bytes'] > 0:
        say(f"warning: {name}: space grew by {sample['grown_bytes'] >> 20} MiB while measuring: "
            'what was written then was never written before')
