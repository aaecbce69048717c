"""Starts and stops the programs under test: a node, and the emulator it is compared with."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

TARGET = 'Kinesis_20131202.'
HEADERS = {
    'Content-Type': 'application/x-amz-json-1.1',
    'X-Amz-Date': '20260101T000000Z',
    'Authorization': 'AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/kinesis/aws4_request, '
                     'SignedHeaders=host;x-amz-date;x-amz-target, Signature=' + '0' * 64,
}


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def call(port, operation, body, timeout=30):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=timeout)
    try:
        connection.request('POST', '/', json.dumps(body), HEADERS | {'X-Amz-Target': TARGET + operation})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f'{operation}: HTTP {answer.status}: {text[:300]}')
        return json.loads(text) if text else {}
    finally:
        connection.close()


def make_stream(port, name, shards):
    call(port, 'CreateStream', {'StreamName': name, 'ShardCount': shards})
    wait_active(port, name)


def wait_active(port, name):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        summary = call(port, 'DescribeStreamSummary', {'StreamName': name})
        if summary['StreamDescriptionSummary']['StreamStatus'] == 'ACTIVE':
            return
        time.sleep(0.02)
    raise RuntimeError(f'stream {name} did not become ACTIVE within 30 s')


def delete_stream(port, name):
    call(port, 'DeleteStream', {'StreamName': name})
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if name not in call(port, 'ListStreams', {})['StreamNames']:
            return
        time.sleep(0.02)
    raise RuntimeError(f'stream {name} was not gone within 30 s')


class Program:
    """A child process whose output goes to a file, ended when the block ends."""

    def __init__(self, command, log, stdin=subprocess.DEVNULL):
        self.command = command
        self.log_path = log
        self.started = time.monotonic()
        with open(log, 'ab') as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=stdin)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def check(self):
        if self.process.poll() is not None:
            with open(self.log_path, encoding='utf-8', errors='replace') as log:
                end = log.read()[-800:]
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}: {end}")

    def wait_until(self, ready, timeout_s):
        """Seconds from the start of the process until `ready()`."""
        while not ready():
            self.check()
            if time.monotonic() - self.started > timeout_s:
                raise RuntimeError(f"{' '.join(self.command)}: not ready within {timeout_s} s")
            time.sleep(0.002)
        return time.monotonic() - self.started


def answers(port, path):
    try:
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=5)
        try:
            connection.request('GET', path)
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200
        finally:
            connection.close()
    except OSError:
        return False
    except http.client.HTTPException:
        return False


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(('127.0.0.1', port)) == 0


class Node(Program):
    def __init__(self, settings, directory, log, more=()):
        self.port = free_port()
        command = [settings.penstock, 'serve', '--data', directory, *self.signing(), '--shard-quota', 'unlimited',
                   '--http', f'127.0.0.1:{self.port}', *more]
        super().__init__(command, log)

    def signing(self):
        return ['--unsigned']

    def until_ready(self, timeout_s=120):
        return self.wait_until(lambda: answers(self.port, '/readyz'), timeout_s)


class Kinesalite(Program):
    """The emulator, with its default store, which is memory."""

    def __init__(self, settings, log):
        self.port = free_port()
        super().__init__(['node', kinesalite_script(settings), '--port', str(self.port), '--createStreamMs', '0',
                          '--deleteStreamMs', '0', '--updateStreamMs', '0', '--shardLimit', '100'], log)

    def until_ready(self, timeout_s=60):
        return self.wait_until(lambda: listens(self.port), timeout_s)


def kinesalite_script(settings):
    place = os.path.join(settings.build, 'bench', 'peers')
    script = os.path.join(place, 'node_modules', 'kinesalite', 'cli.js')
    if not os.path.exists(script):
        if shutil.which('npm') is None:
            raise RuntimeError('npm is needed for the emulator: apt-get install npm')
        os.makedirs(place, exist_ok=True)
        done = subprocess.run(['npm', 'install', '--no-audit', '--no-fund', '--prefix', place, 'kinesalite@3.3.3'],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if not os.path.exists(script):
            raise RuntimeError('npm install kinesalite failed: ' + done.stdout[-800:])
    return script
