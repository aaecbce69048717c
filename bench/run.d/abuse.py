"""The HTTP server under clients that mean harm: what it costs in memory, and what an honest client
beside them sees."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from control import make_certificate, resident_bytes
from machine import HugePages, run_json
from node import Node, call, make_stream
from report import Row

ATTACKS = Path(__file__).resolve().parents[2] / 'tests' / 'integration' / 'attacks.py'
HONEST_PER_S = 200
ARN = 'arn:aws:kinesis:us-east-1:000000000000:stream/fan'
FAN_SHARDS = 20
# Kind and connections at a time; --quick has a tenth of them.
KINDS = {
    'idle': 10_000, 'slow-heads': 2000, 'slow-heads-h2': 2000, 'slow-handshakes': 2000, 'slow-bodies': 2000,
    'slow-bodies-h2': 100, 'rapid-reset': 50, 'pings': 50, 'settings': 50, 'continuations': 50, 'hpack-bombs': 50,
    'long-heads': 50, 'many-headers': 50, 'too-long-bodies': 50, 'long-bodies': 20, 'subscribers': 2000,
}


def honest(settings, port, seconds):
    """A client that puts one record at a time, on a connection of its own each."""
    return run_json([settings.program('bench/http_put'), '--port', str(port), '--stream', 'bench', '--operation',
                     'PutRecord', '--connections', '16', '--fresh', '--rate', str(HONEST_PER_S), '--seconds',
                     str(seconds), '--warm', '1'])


def endings(port):
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    name = 'penstock_http_connections_closed_total{reason="'
    return {line[len(name):line.index('"', len(name))]: int(float(line.rpartition(' ')[2]))
            for line in lines if line.startswith(name)}


def kernel_socket_bytes():
    """What the kernel holds of all TCP connections of this machine."""
    with open('/proc/net/sockstat', encoding='ascii') as lines:
        words = next(line for line in lines if line.startswith('TCP:')).split()
    return int(words[words.index('mem') + 1]) * os.sysconf('SC_PAGE_SIZE')


def make_subscriptions(settings, port, count):
    """A file of consumers and shards, so many pairs."""
    make_stream(port, 'fan', FAN_SHARDS)
    path = os.path.join(settings.directory, 'subscriptions')
    shards = [one['ShardId'] for one in call(port, 'ListShards', {'StreamName': 'fan'})['Shards']]
    with open(path, 'w', encoding='ascii') as file:
        for i in range(count // FAN_SHARDS):
            made = call(port, 'RegisterStreamConsumer', {'StreamARN': ARN, 'ConsumerName': f'app-{i}'})
            for shard in shards:
                file.write(f"{made['Consumer']['ConsumerARN']} {shard}\n")
    return path


class Attack:
    def __init__(self, kind, port, count, seconds, targets):
        more = ['--targets', targets] if targets else []
        self.command = [sys.executable, '-B', str(ATTACKS), kind, '--port', str(port), '--count', str(count),
                        '--seconds', str(seconds), *more]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != 'ready\n':
            raise RuntimeError(f"{' '.join(self.command)} did not begin")
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
        self.result = json.loads(self.process.stdout.read() or '{}')
        self.process.wait(60)


def attack(settings, data, log, kind, count):
    os.makedirs(os.path.join(data, 'tls'))
    os.makedirs(os.path.join(data, 'data'))
    secure_options, secure_port, _ = make_certificate(settings, os.path.join(data, 'tls'))
    with Node(settings, os.path.join(data, 'data'), log, ['--consumers-max', '200', *secure_options]) as node:
        node.until_ready()
        make_stream(node.port, 'bench', 1)
        targets = make_subscriptions(settings, node.port, count) if kind == 'subscribers' else None
        alone = honest(settings, node.port, settings.seconds)
        before, kernel_before, ended = resident_bytes(node.process), kernel_socket_bytes(), endings(node.port)
        port = secure_port if kind == 'slow-handshakes' else node.port
        # Beyond the ten seconds that a head may take, so that the slow are replaced meanwhile.
        seconds = settings.seconds + (8 if kind.startswith('slow') or targets else 0)
        with Attack(kind, port, count, 300, targets) as under:
            feed = None
            if kind == 'subscribers':   # 4 MiB/s for them to read, or not to
                feed = subprocess.Popen(
                    [settings.program('bench/http_put'), '--port', str(node.port), '--stream', 'fan', '--connections',
                     '2', '--records', '40', '--rate', '100', '--seconds', str(seconds), '--warm', '0'],
                    stdout=subprocess.DEVNULL)
            try:
                beside = honest(settings, node.port, seconds)
                grown, kernel = resident_bytes(node.process) - before, kernel_socket_bytes() - kernel_before
            finally:
                if feed:
                    feed.wait(120)
        time.sleep(3)
        left = resident_bytes(node.process) - before
        now = endings(node.port)
        node.check()
        return {'alone': alone, 'beside': beside, 'attack': under.result, 'grown_bytes': grown, 'left_bytes': left,
                'kernel_bytes': kernel,
                'ended': {key: now[key] - ended.get(key, 0) for key in now if now[key] != ended.get(key, 0)}}, \
            ' '.join(under.command)


def rows_abuse(settings, say):
    data = os.path.join(settings.directory, 'abuse')
    log = os.path.join(settings.directory, 'programs.log')
    rows = []
    with HugePages(160):
        for kind, count in KINDS.items():
            count = count // 10 if settings.rounds == 1 and settings.seconds <= 2 else count
            shutil.rmtree(data, ignore_errors=True)
            found, command = attack(settings, data, log, kind, count)
            p99 = {key: found[key]['latency_ms']['p99'] for key in ('alone', 'beside')}
            reasons = ', '.join(f'{key} {value:,}' for key, value in found['ended'].items()
                                if key not in ('peer', 'served', 'stopping'))
            each = found['grown_bytes'] / count / 1024
            say(f"abuse, {kind}: p99 {p99['alone']:.2f} → {p99['beside']:.2f} ms, {found['grown_bytes'] / 2**20:,.0f} MiB")
            rows.append(Row(
                f'{count:,} × {kind}: an honest PutRecord beside it, p50 / p99',
                f"{found['beside']['latency_ms']['p50']:.2f} / {p99['beside']:.2f} ms, "
                f"{found['beside']['failed_requests']} of {found['beside']['requests']} failed; "
                f"memory +{found['grown_bytes'] / 2**20:,.1f} MiB ({each:,.1f} KiB each), afterwards "
                f"{found['left_bytes'] / 2**20:+,.1f}; sockets in the kernel +{found['kernel_bytes'] / 2**20:,.1f}; "
                f"ended: {reasons or 'none'}",
                f"alone {found['alone']['latency_ms']['p50']:.2f} / {p99['alone']:.2f} ms",
                p99['alone'] / p99['beside'] if p99['beside'] else None, 'no request fails',
                found['beside']['failed_requests'] == 0, [command], found))
    shutil.rmtree(data, ignore_errors=True)
    return rows
