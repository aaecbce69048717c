"""Brokers that keep the same records: one server, one copy, on the same drive, as they come but for
their durability. Each is measured on both CPUs, with its client beside it."""

import os
import shutil
import subprocess
import time

from machine import run_json
from node import Program, free_port, listens

RECORD_BYTES = 1024


def needs(settings, program, package, client=None):
    if shutil.which(program) is None:
        raise FileNotFoundError(f'{program} is missing: apt-get install {package}')
    if client is not None and not os.path.exists(settings.program(client)):
        raise FileNotFoundError(f'{client} was not built: its library is missing; apt-get install {package}, then '
                                f'meson setup --reconfigure {settings.build}')


class Server(Program):
    """A broker on a directory of its own, which is removed."""

    def __init__(self, settings, name, command_of):
        self.port = free_port()
        self.data = os.path.join(settings.directory, name)
        shutil.rmtree(self.data, ignore_errors=True)
        os.makedirs(self.data)
        super().__init__(command_of(self.port, self.data), os.path.join(settings.directory, 'programs.log'))

    def until_ready(self):
        self.wait_until(lambda: listens(self.port), 30)
        return self

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.data, ignore_errors=True)


def client_of(settings, program, address, more):
    command = [settings.program(program), *address, '--record-bytes', str(RECORD_BYTES), '--seconds',
               str(settings.seconds), '--warm', '1', *more]
    return run_json(command), ' '.join(command)


def nats_takes_sync_always(directory):
    """2.10 and later can synchronise before they acknowledge; 2.9 knows no such option and refuses it."""
    config = os.path.join(directory, 'nats-probe.conf')
    with open(config, 'w', encoding='utf-8') as out:
        out.write('jetstream { store_dir: "/nonexistent", sync_interval: always }\n')
    done = subprocess.run(['nats-server', '-t', '-c', config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    os.remove(config)
    return done.returncode == 0


def nats(settings, always=False):
    needs(settings, 'nats-server', 'nats-server libnats-dev', 'bench/nats_put')
    if always and not nats_takes_sync_always(settings.directory):
        raise FileNotFoundError('this nats-server has no `sync_interval: always` (2.10 does): it cannot flush '
                                'before it acknowledges')

    def command_of(port, data):
        config = os.path.join(data, 'nats.conf')
        with open(config, 'w', encoding='utf-8') as out:
            out.write(f'host: 127.0.0.1\nport: {port}\njetstream {{\n  store_dir: "{data}"\n'
                      f'  max_file_store: 100GB\n{"  sync_interval: always" if always else ""}\n}}\n')
        return ['nats-server', '-c', config]

    with Server(settings, 'nats', command_of).until_ready() as server:
        # It listens a moment before its streams can be used.
        time.sleep(1)
        result, command = client_of(settings, 'bench/nats_put', ['--url', f'nats://127.0.0.1:{server.port}'], [])
    if result['failed_records']:
        raise RuntimeError(f"nats-server refused {result['failed_records']} records")
    version = subprocess.run(['nats-server', '--version'], stdout=subprocess.PIPE, text=True,
                             check=False).stdout.strip()
    how = f'{version}, ' + ('flushed before the answer' if always else
                            'answered before the flush (every 60 s or more, its default)')
    return result, how, [' '.join(server.command), command]


def nats_always(settings):
    return nats(settings, always=True)


def redis(settings):
    needs(settings, 'redis-server', 'redis-server')

    def command_of(port, data):
        # No snapshots and no rewrite of its file while it is measured: both would slow it down.
        return ['redis-server', '--port', str(port), '--bind', '127.0.0.1', '--dir', data, '--save', '',
                '--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0',
                '--daemonize', 'no']

    with Server(settings, 'redis', command_of).until_ready() as server:
        result, command = client_of(settings, 'bench/redis_put', ['--port', str(server.port)], [])
    return result, 'appendfsync always', [' '.join(server.command), command]


PEERS = {
    'NATS JetStream': nats,
    'NATS JetStream, sync_interval always': nats_always,
    'Redis streams': redis,
}
