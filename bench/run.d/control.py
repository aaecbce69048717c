"""What the control threads of a node take, nodes that want signatures or speak TLS, and the ceiling of
signed requests: SHA-256 on one core."""

import json
import os
import re
import subprocess
from pathlib import Path

from node import Node, free_port


def cpu_seconds(process, of='control'):
    """CPU time of the threads so called, so far; of '' of all."""
    ticks = os.sysconf('SC_CLK_TCK')
    total, found = 0, False
    for task in Path(f'/proc/{process.pid}/task').iterdir():
        if (task / 'comm').read_text(encoding='utf-8').startswith(of):
            fields = (task / 'stat').read_text(encoding='utf-8').rpartition(')')[2].split()
            total += int(fields[11]) + int(fields[12])
            found = True
    if not found:
        raise RuntimeError(f'no thread of the program is called {of}…')
    return total / ticks


def resident_bytes(process):
    with open(f'/proc/{process.pid}/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def sha256_bytes_per_s(size, cpu, seconds):
    """What OpenSSL hashes on one core, of messages of `size` bytes."""
    command = ['taskset', '-c', str(cpu), 'openssl', 'speed', '-elapsed', '-mr', '-evp', 'sha256', '-bytes',
               str(size), '-seconds', str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    found = re.search(r'^\+F:\d+:sha256:([\d.]+)', done.stdout, re.MULTILINE | re.IGNORECASE)
    if found is None:
        raise RuntimeError(f"{' '.join(command)} printed {done.stdout!r}")
    return float(found.group(1)), ' '.join(command)


class SignedNode(Node):
    """A node that takes signed requests only, and a credential that may do everything."""

    def __init__(self, settings, directory, log, more=()):
        self.settings = settings
        self.port = free_port()
        self.key_file = os.path.join(directory, '..', 'key')
        super().__init__(settings, directory, log, more)

    def signing(self):
        return ['--key-file', os.path.abspath(self.key_file)]

    def environment(self):
        """That of a client which signs."""
        made = json.loads(subprocess.run(
            [self.settings.penstock, 'credentials', 'make', f'bench-{self.process.pid}', '--policy', 'admin', '--json',
             '--http', f'127.0.0.1:{self.port}'], stdout=subprocess.PIPE, check=True, text=True).stdout)
        return {**os.environ, 'AWS_ACCESS_KEY_ID': made['access_key_id'],
                'AWS_SECRET_ACCESS_KEY': made['secret_access_key']}


def make_certificate(settings, directory):
    """Options of a node that speaks TLS, its port, and the file of whom to trust."""
    subprocess.run([settings.penstock, 'certificate', 'make', '--dir', directory, '--name', '127.0.0.1'],
                   stdout=subprocess.DEVNULL, check=True)
    port = free_port()
    return ['--https', f'127.0.0.1:{port}', '--tls-cert', os.path.join(directory, 'server.pem'), '--tls-key',
            os.path.join(directory, 'server-key.pem')], port, os.path.join(directory, 'ca.pem')
