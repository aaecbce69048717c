"""Reading history: the storage layer's read path beside fio's sequential read of the same files, with
the same CPU occupied; and the whole GetRecords over HTTP."""

import glob
import http.client
import json
import os
import re
import shutil
import time

from machine import HugePages, lane_cpu, run_json
from node import HEADERS, TARGET, Node, call, make_stream
from report import Row, mb, median

BLOCK_KIB = 512      # ReadAhead::piece_bytes
DEPTH = 8            # ReadAhead::under_way_max
GOAL = 0.9
HUGE_PAGES = 160
RECORD_BYTES = 1024


def ours(settings, data, readers):
    command = [settings.program('bench/replay'), '--dir', data, '--gib', str(settings.replay_gib), '--readers',
               str(readers), '--seconds', str(settings.seconds), '--cpu', str(lane_cpu()), '--keep']
    result = run_json(command)
    if result['bad_copies']:
        raise RuntimeError(f"{result['bad_copies']} frames could not be read intact from the first replica")
    return result, ' '.join(command)


def limit(settings, data, readers):
    """Each job reads the containers of one replica in order, from a place of its own on."""
    files = sorted(glob.glob(os.path.join(data, 'replica-0', 'segment-1-*')),
                   key=lambda name: int(name.rsplit('-', 1)[1]))
    command = ['fio', '--output-format=json', '--ioengine=io_uring', '--direct=1', '--rw=read', '--readonly',
               '--allow_file_create=0', f'--bs={BLOCK_KIB}k', f'--iodepth={DEPTH}', '--iomem=shmhuge',
               '--hugepage-size=2m', '--fixedbufs=1', '--registerfiles=1', '--time_based=1',
               f'--runtime={settings.seconds}', '--ramp_time=1', f'--cpus_allowed={lane_cpu()}',
               '--file_service_type=sequential', '--group_reporting=1']
    for number in range(readers):
        first = number * len(files) // readers
        command += [f'--name=reader-{number}', '--filename=' + ':'.join(files[first:] + files[:first])]
    return run_json(command)['jobs'][0]['read']['bw_bytes'], ' '.join(command)


def row(settings, say, data, readers):
    taken, limits, commands = [], [], []
    for turn in range(settings.rounds):
        result, our_command = ours(settings, data, readers)
        rate, fio_command = limit(settings, data, readers)
        taken.append(result)
        limits.append(rate)
        commands = [our_command, fio_command]
        say(f"replay, {readers} readers, round {turn + 1}: ours {mb(result['bytes_per_s'])}, fio {mb(rate)}")
    rate = median([one['bytes_per_s'] for one in taken])
    ratio = median([a['bytes_per_s'] / b for a, b in zip(taken, limits)])
    name = f'replay of history, 1 KiB records, {readers} reader' + ('s in turn' if readers > 1 else '')
    return Row(name, f"{mb(rate)}, {median([one['records_per_s'] for one in taken]):,.0f} records/s",
               f'fio {mb(median(limits))}', ratio, f'≥ {GOAL}', ratio >= GOAL, commands,
               {'ours': taken, 'fio_bytes_per_s': limits})


def consume(port, seconds):
    """Records a second that one consumer gets, and from how many calls."""
    shard = call(port, 'ListShards', {'StreamName': 'bench'})['Shards'][0]['ShardId']
    start = {'StreamName': 'bench', 'ShardId': shard, 'ShardIteratorType': 'TRIM_HORIZON'}
    iterator = call(port, 'GetShardIterator', start)['ShardIterator']
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
    records = calls = 0
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < seconds:
            connection.request('POST', '/', json.dumps({'ShardIterator': iterator}),
                               HEADERS | {'X-Amz-Target': TARGET + 'GetRecords'})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f'GetRecords: HTTP {answer.status}: {body[:300]!r}')
            records += body.count(b'"SequenceNumber"')
            calls += 1
            # Taken out by hand: parsing 14 MB of JSON here would measure the client.
            ends = body[:2000] + body[-2000:]   # the emulator has them first
            found = re.search(rb'"NextShardIterator":"([^"]+)"', ends)
            behind = re.search(rb'"MillisBehindLatest":(\d+)', ends)
            if found is None or behind is None:
                raise RuntimeError(f'GetRecords answered {body[-300:]!r}')
            if behind.group(1) == b'0':
                iterator = call(port, 'GetShardIterator', start)['ShardIterator']
            else:
                iterator = found.group(1).decode()
    finally:
        connection.close()
    return records / (time.monotonic() - begin), calls


def over_http(settings, say):
    """GetRecords as one client sees it; no goal."""
    data = os.path.join(settings.directory, 'replay-http')
    log = os.path.join(settings.directory, 'programs.log')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    try:
        with Node(settings, data, log) as node:
            node.until_ready()
            make_stream(node.port, 'bench', 1)
            run_json([settings.program('bench/http_put'), '--port', str(node.port), '--stream', 'bench', '--warm',
                      '0', '--bytes', str(1 << 30), '--record-bytes', str(RECORD_BYTES)], timeout=1800)
            rates = [consume(node.port, settings.seconds)[0] for _ in range(settings.rounds)]
            command = ' '.join(node.command)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    say('replay over HTTP: ' + ', '.join(f'{rate:,.0f} records/s' for rate in rates))
    return rates, command


def rows_replay(settings, say):
    data = os.path.join(settings.directory, 'replay')
    os.makedirs(data, exist_ok=True)
    try:
        with HugePages(HUGE_PAGES) as pages:
            if not pages.enough:
                raise RuntimeError(f'{HUGE_PAGES} huge pages of 2 MiB are needed and {pages.free} are free; run as '
                                   f'root, or: sysctl vm.nr_hugepages={HUGE_PAGES}')
            say(f'replay: a log of {settings.replay_gib} GiB, CPU {lane_cpu()}')
            rows = [row(settings, say, data, readers) for readers in (1, 10)]
    finally:
        if not settings.keep:
            shutil.rmtree(data, ignore_errors=True)
    rates, command = over_http(settings, say)
    storage = median([one['bytes_per_s'] for one in rows[0].samples['ours']])
    rows.append(Row('GetRecords over HTTP/1.1, 1 consumer of 1 shard',
                    f'{median(rates):,.0f} records/s, {mb(median(rates) * RECORD_BYTES)}',
                    f'the storage layer alone {mb(storage)}', median(rates) * RECORD_BYTES / storage, '', None,
                    [command], {'records_per_s': rates}))
    return rows
