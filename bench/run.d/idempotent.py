"""Puts that may be repeated without a duplicate beside plain ones, into the same node in the same run."""

import os
import shutil

from http_put import CONNECTIONS, RECORDS, RECORD_BYTES, SHARDS, write_space_once
from machine import HugePages, run_json
from node import Node, delete_stream, make_stream
from report import Row, mb, median

SINGLE_CONNECTIONS = 64
WARM_SECONDS = 1
# Name, operation, connections, records a request.
MODES = {
    f'PutRecords {RECORDS} × 1 KiB, {CONNECTIONS} connections': ('PutRecords', CONNECTIONS, RECORDS),
    f'PutRecord of 1 KiB, {SINGLE_CONNECTIONS} at a time': ('PutRecord', SINGLE_CONNECTIONS, 1),
}


def put(settings, node, mode, more):
    operation, connections, records = MODES[mode]
    make_stream(node.port, 'bench', SHARDS)
    command = [settings.program('bench/http_put'), '--port', str(node.port), '--stream', 'bench', '--operation',
               operation, '--connections', str(connections), '--records', str(records), '--record-bytes',
               str(RECORD_BYTES), '--seconds', str(settings.seconds), '--warm', str(WARM_SECONDS), *more]
    result = run_json(command)
    if result['failed_requests'] or result['failed_records']:
        raise RuntimeError(f"{' '.join(command)}: the node refused {result['failed_requests']} requests and "
                           f"{result['failed_records']} records")
    delete_stream(node.port, 'bench')
    return result, ' '.join(command)


def rows_idempotent(settings, say):
    data = os.path.join(settings.directory, 'idempotent')
    log = os.path.join(settings.directory, 'programs.log')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    ours, plain = {mode: [] for mode in MODES}, {mode: [] for mode in MODES}
    commands = {}
    try:
        with HugePages(160):
            with Node(settings, data, log) as node:
                node.until_ready()
                say(f'idempotent: writing {settings.ready_gib} GiB once')
                write_space_once(settings, node.port)
            for turn in range(settings.rounds):
                with Node(settings, data, log) as node:
                    node.until_ready()
                    for mode in MODES:
                        # The first is another one in each round: what comes later finds the drive busier.
                        for marked in (turn % 2 == 0, turn % 2 != 0):
                            result, command = put(settings, node, mode, ['--idempotent'] if marked else [])
                            (ours if marked else plain)[mode].append(result)
                            if marked:
                                commands[mode] = [' '.join(node.command), command]
                say(f'idempotent, round {turn + 1}: ' + '; '.join(
                    f"{ours[mode][-1]['records_per_s']:,.0f} records/s, plain {plain[mode][-1]['records_per_s']:,.0f}"
                    for mode in MODES))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    rows = []
    for mode in MODES:
        rates = [median([one['records_per_s'] for one in of[mode]]) for of in (ours, plain)]
        rows.append(Row(f'idempotent {mode}', f'{rates[0]:,.0f} records/s, {mb(rates[0] * RECORD_BYTES)}',
                        f'plain {rates[1]:,.0f} records/s, {mb(rates[1] * RECORD_BYTES)}',
                        median([a['records_per_s'] / b['records_per_s'] for a, b in zip(ours[mode], plain[mode])]),
                        '', None, commands[mode], {'ours': ours[mode], 'plain': plain[mode]}))
    return rows
