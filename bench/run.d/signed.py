"""Signed PutRecords beside the ceiling that SigV4 sets: SHA-256 of the bodies, on one core."""

import os
import shutil

from control import SignedNode, cpu_seconds, sha256_bytes_per_s
from http_put import CONNECTIONS, RECORDS, RECORD_BYTES, SHARDS, write_space_once
from machine import HugePages, lane_cpu, run_json
from node import Node, delete_stream, make_stream
from report import Row, mb, median

GOAL = 0.5


def put(settings, node, environment, seconds):
    command = [settings.program('bench/http_put'), '--port', str(node.port), '--stream', 'bench', '--connections',
               str(CONNECTIONS), '--records', str(RECORDS), '--record-bytes', str(RECORD_BYTES), '--seconds',
               str(seconds), '--warm', '0']
    before = cpu_seconds(node.process)
    result = run_json(command, env=environment)
    result['control_cpu_s'] = cpu_seconds(node.process) - before
    if result['failed_requests'] or result['failed_records']:
        raise RuntimeError(f"the node refused {result['failed_requests']} requests and "
                           f"{result['failed_records']} records")
    result['records_per_core_s'] = result['records'] / result['control_cpu_s']
    return result, ' '.join(command)


def rows_signed(settings, say):
    data = os.path.join(settings.directory, 'signed', 'data')
    log = os.path.join(settings.directory, 'programs.log')
    shutil.rmtree(os.path.dirname(data), ignore_errors=True)
    os.makedirs(data)
    ours, unsigned, ceilings, commands = [], [], [], []
    try:
        with HugePages(160):
            with Node(settings, data, log) as node:
                node.until_ready()
                say(f'signed: writing {settings.ready_gib} GiB once')
                write_space_once(settings, node.port)
            for turn in range(settings.rounds):
                with Node(settings, data, log) as node:
                    node.until_ready()
                    make_stream(node.port, 'bench', SHARDS)
                    put(settings, node, None, 1)
                    unsigned.append(put(settings, node, None, settings.seconds)[0])
                    delete_stream(node.port, 'bench')
                    make_stream(node.port, 'bench', SHARDS)
                with SignedNode(settings, data, log) as node:
                    node.until_ready()
                    environment = node.environment()
                    put(settings, node, environment, 1)
                    result, command = put(settings, node, environment, settings.seconds)
                    ours.append(result)
                    commands = [' '.join(node.command), command]
                size = ours[-1]['body_bytes']
                rate, command = sha256_bytes_per_s(size, lane_cpu(), 2)
                ceilings.append(rate / (size / RECORDS))
                commands.append(command)
                with Node(settings, data, log) as node:
                    node.until_ready()
                    delete_stream(node.port, 'bench')
                say(f"signed, round {turn + 1}: {ours[-1]['records_per_core_s']:,.0f} records per control core and "
                    f"second, ceiling {ceilings[-1]:,.0f}, unsigned {unsigned[-1]['records_per_core_s']:,.0f}")
    finally:
        shutil.rmtree(os.path.dirname(data), ignore_errors=True)
    each = median([one['records_per_core_s'] for one in ours])
    wall = median([one['records_per_s'] for one in ours])
    ratio = median([one['records_per_core_s'] / ceiling for one, ceiling in zip(ours, ceilings)])
    plain = median([one['records_per_core_s'] for one in unsigned])
    samples = {'ours': ours, 'unsigned': unsigned, 'ceiling_records_per_s': ceilings}
    return [Row(f'signed PutRecords {RECORDS} × 1 KiB, per control core',
                f'{each:,.0f} records/s a core ({wall:,.0f} records/s, {mb(wall * RECORD_BYTES)} in all)',
                f'SHA-256 of the bodies, OpenSSL on one core: {median(ceilings):,.0f} records/s', ratio, f'≥ {GOAL}',
                ratio >= GOAL, commands[:3], samples),
            Row('the same beside unsigned ones', f'{each:,.0f} records/s a core',
                f'unsigned {plain:,.0f} records/s a core', median(
                    [a['records_per_core_s'] / b['records_per_core_s'] for a, b in zip(ours, unsigned)]),
                '', None, commands[:2], {})]
