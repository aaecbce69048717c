"""PutRecords over HTTP/1.1 against the emulator, with the same client and the same requests."""

import os
import shutil

from machine import HugePages, run_json
from node import Kinesalite, Node, delete_stream, make_stream
from report import Row, mb, median

CONNECTIONS = 8
RECORDS = 500
RECORD_BYTES = 1024
SHARDS = 4
GOAL = 20


def put(settings, port):
    command = [settings.program('bench/http_put'), '--port', str(port), '--stream', 'bench',
               '--connections', str(CONNECTIONS), '--records', str(RECORDS),
               '--record-bytes', str(RECORD_BYTES), '--seconds', str(settings.seconds), '--warm', '2']
    result = run_json(command)
    if result['failed_requests'] or result['failed_records']:
        raise RuntimeError(f"the server refused {result['failed_requests']} requests and "
                           f"{result['failed_records']} records")
    return result, ' '.join(command)


def write_space_once(settings, port):
    """Fills the node and deletes the stream again: a node pays once for space never written before,
    and what is measured is the state after that."""
    make_stream(port, 'filler', SHARDS)
    run_json([settings.program('bench/http_put'), '--port', str(port), '--stream', 'filler', '--warm', '0',
              '--bytes', str(settings.ready_gib << 30)], timeout=1800)
    delete_stream(port, 'filler')


def rows_http(settings, say):
    ours, peers, commands = [], [], []
    log = os.path.join(settings.directory, 'programs.log')
    data = os.path.join(settings.directory, 'http')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    with HugePages(160):
        with Node(settings, data, log) as node:
            node.until_ready()
            say(f'http: writing {settings.ready_gib} GiB once')
            write_space_once(settings, node.port)
        for turn in range(settings.rounds):
            with Node(settings, data, log) as node:
                node.until_ready()
                make_stream(node.port, 'bench', SHARDS)
                result, command = put(settings, node.port)
                ours.append(result)
                commands = [' '.join(node.command), command]
                delete_stream(node.port, 'bench')
            with Kinesalite(settings, log) as peer:
                peer.until_ready()
                make_stream(peer.port, 'bench', SHARDS)
                peers.append(put(settings, peer.port)[0])
                commands.append(' '.join(peer.command))
            say(f"http, round {turn + 1}: ours {ours[-1]['records_per_s']:,.0f} records/s, "
                f"kinesalite {peers[-1]['records_per_s']:,.0f}")
    shutil.rmtree(data, ignore_errors=True)
    rates = median([one['records_per_s'] for one in ours]), median([one['records_per_s'] for one in peers])
    ratio = median([a['records_per_s'] / b['records_per_s'] for a, b in zip(ours, peers)])
    return [Row(f'PutRecords {RECORDS} × 1 KiB, HTTP/1.1, {CONNECTIONS} connections, durable on 2 of 3',
                f'{rates[0]:,.0f} records/s, {mb(rates[0] * RECORD_BYTES)}',
                f'kinesalite (in memory) {rates[1]:,.0f} records/s, {mb(rates[1] * RECORD_BYTES)}',
                ratio, f'≥ {GOAL}', ratio >= GOAL, sorted(set(commands), key=commands.index)[:3],
                {'ours': ours, 'kinesalite': peers})]
