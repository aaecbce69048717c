"""GetRecords over HTTP/1.1 against the emulator: one consumer, the same records, as often as there is
time for."""

import os
import shutil

from control import cpu_seconds
from machine import run_json
from node import Kinesalite, Node, make_stream
from replay import consume
from report import Row, mb, median

RECORD_BYTES = 1024
PAYLOAD_MIB = 64     # of which the emulator keeps one copy in memory, and gives 10 MiB at a time
GOAL = 20


def fill(settings, port):
    run_json([settings.program('bench/http_put'), '--port', str(port), '--stream', 'bench', '--warm', '0',
              '--connections', '4', '--records', '100', '--record-bytes', str(RECORD_BYTES), '--bytes',
              str(PAYLOAD_MIB << 20)], timeout=600)


def measure(settings, program, threads):
    program.until_ready()
    make_stream(program.port, 'bench', 1)
    fill(settings, program.port)
    consume(program.port, 1)
    before = cpu_seconds(program.process, threads)
    rate, calls = consume(program.port, settings.seconds)
    took = cpu_seconds(program.process, threads) - before
    return {'records_per_s': rate, 'calls': calls, 'records_per_core_s': rate * settings.seconds / took}


def rows_get_records(settings, say):
    log = os.path.join(settings.directory, 'programs.log')
    data = os.path.join(settings.directory, 'get_records')
    ours, peers, commands = [], [], []
    for turn in range(settings.rounds):
        shutil.rmtree(data, ignore_errors=True)
        os.makedirs(data)
        with Node(settings, data, log) as node:
            ours.append(measure(settings, node, 'control'))
            commands = [' '.join(node.command)]
        with Kinesalite(settings, log) as peer:
            peers.append(measure(settings, peer, ''))
            commands.append(' '.join(peer.command))
        say(f"GetRecords, round {turn + 1}: ours {ours[-1]['records_per_core_s']:,.0f} records per core and second, "
            f"kinesalite {peers[-1]['records_per_core_s']:,.0f}")
    shutil.rmtree(data, ignore_errors=True)

    def row(name, key, goal):
        rates = median([one[key] for one in ours]), median([one[key] for one in peers])
        ratio = median([a[key] / b[key] for a, b in zip(ours, peers)])
        return Row(name, f'{rates[0]:,.0f} records/s, {mb(rates[0] * RECORD_BYTES)}',
                   f'kinesalite (in memory) {rates[1]:,.0f} records/s, {mb(rates[1] * RECORD_BYTES)}', ratio,
                   f'≥ {goal}' if goal else '', ratio >= goal if goal else None, commands,
                   {'ours': ours, 'kinesalite': peers})
    return [row('GetRecords of 1 KiB records, HTTP/1.1, 1 consumer', 'records_per_s', None),
            row('the same per core of the program\'s HTTP threads', 'records_per_core_s', GOAL)]
