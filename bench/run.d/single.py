"""PutRecord, one record a request: on connections that stay and on a fresh one for each request, in clear
text and over TLS, with full handshakes and with sessions resumed."""

import os
import shutil

from control import cpu_seconds, make_certificate
from machine import HugePages, run_json
from node import Kinesalite, Node, make_stream
from report import Row, median

CONNECTIONS = 64
RECORD_BYTES = 1024
SHARDS = 4
# Name, options, over TLS.
MODES = {
    'connections that stay, clear text': ([], False),
    'a fresh connection each, clear text': (['--fresh'], False),
    'connections that stay, TLS': (['--tls', 'full'], True),
    'a fresh connection each, TLS resumed': (['--fresh', '--tls', 'resumed'], True),
    'a fresh connection each, TLS in full': (['--fresh', '--tls', 'full'], True),
}


def ask(settings, port, operation, more, process=None):
    command = [settings.program('bench/http_put'), '--port', str(port), '--stream', 'bench', '--operation', operation,
               '--connections', str(CONNECTIONS), '--record-bytes', str(RECORD_BYTES), '--seconds',
               str(settings.seconds), '--warm', '0', *more]
    before = cpu_seconds(process) if process else 0
    result = run_json(command)
    if result['failed_requests'] or result['failed_records']:
        raise RuntimeError(f"{' '.join(command)}: {result['failed_requests']} requests failed")
    if 'resumed' in more and result['resumed'] < 0.9 * result['requests']:
        raise RuntimeError(f"only {result['resumed']} of {result['requests']} connections resumed a session")
    if process:
        result['per_core_s'] = result['requests'] / (cpu_seconds(process) - before)
    return result, ' '.join(command)


def rows_single(settings, say):
    data = os.path.join(settings.directory, 'single')
    log = os.path.join(settings.directory, 'programs.log')
    ours = {name: [] for name in MODES}
    limits = {name: [] for name in MODES}
    peers = {name: [] for name, (_, secure) in MODES.items() if not secure}
    commands = {}
    with HugePages(160):
        for turn in range(settings.rounds):
            shutil.rmtree(data, ignore_errors=True)
            os.makedirs(os.path.join(data, 'tls'))
            secure_options, secure_port, authority = make_certificate(settings, os.path.join(data, 'tls'))
            os.makedirs(os.path.join(data, 'data'))
            with Node(settings, os.path.join(data, 'data'), log, secure_options) as node:
                node.until_ready()
                make_stream(node.port, 'bench', SHARDS)
                for name, (more, secure) in MODES.items():
                    port = secure_port if secure else node.port
                    more = [*more, '--authority', authority] if secure else more
                    result, commands[name] = ask(settings, port, 'PutRecord', more, node.process)
                    ours[name].append(result)
                    limits[name].append(ask(settings, port, 'health', more, node.process)[0])
            with Kinesalite(settings, log) as peer:
                peer.until_ready()
                make_stream(peer.port, 'bench', SHARDS)
                for name in peers:
                    peers[name].append(ask(settings, peer.port, 'PutRecord', MODES[name][0])[0])
            say(f'PutRecord, round {turn + 1}: ' +
                ', '.join(f"{ours[name][-1]['requests_per_s']:,.0f}/s" for name in MODES))
    shutil.rmtree(data, ignore_errors=True)
    rows = []
    for name in MODES:
        rate = median([one['requests_per_s'] for one in ours[name]])
        each = median([one['per_core_s'] for one in ours[name]])
        delay = {key: median([one['latency_ms'][key] for one in ours[name]]) for key in ('p50', 'p99')}
        shown = (f"{rate:,.0f} requests/s, {each:,.0f} per control core and second; "
                 f"{delay['p50']:.2f} / {delay['p99']:.2f} ms (p50 / p99)")
        bare = median([one['requests_per_s'] for one in limits[name]])
        rows.append(Row(f'PutRecord of 1 KiB, {CONNECTIONS} at a time, {name}', shown,
                        f'/healthz the same way {bare:,.0f} requests/s',
                        median([a['requests_per_s'] / b['requests_per_s'] for a, b in zip(ours[name], limits[name])]),
                        '', None, [commands[name]], {'ours': ours[name], 'healthz': limits[name]}))
        if name in peers:
            other = median([one['requests_per_s'] for one in peers[name]])
            rows.append(Row('the same beside the emulator', f'{rate:,.0f} requests/s',
                            f'kinesalite (in memory) {other:,.0f} requests/s',
                            median([a['requests_per_s'] / b['requests_per_s']
                                    for a, b in zip(ours[name], peers[name])]),
                            '', None, [commands[name]], {'kinesalite': peers[name]}))
    return rows
