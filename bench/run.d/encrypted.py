"""An encrypted stream beside one that is not, of the same node in the same run: PutRecords and GetRecords."""

import os
import shutil
import subprocess

from control import cpu_seconds
from http_put import CONNECTIONS, RECORDS, RECORD_BYTES, SHARDS, write_space_once
from machine import HugePages, run_json
from node import Node, call, delete_stream, make_stream, wait_active
from replay import consume
from report import Row, mb, median

READ_MIB = 64     # read again and again
WARM_SECONDS = 1


def put(settings, port, more):
    command = [settings.program('bench/http_put'), '--port', str(port), '--stream', 'bench', '--connections',
               str(CONNECTIONS), '--records', str(RECORDS), '--record-bytes', str(RECORD_BYTES), *more]
    result = run_json(command, timeout=600)
    if result['failed_requests'] or result['failed_records']:
        raise RuntimeError(f"the node refused {result['failed_requests']} requests and "
                           f"{result['failed_records']} records")
    return result, ' '.join(command)


def make_keys(settings, path):
    subprocess.run([settings.penstock, 'keys', 'make', '--file', path], stdout=subprocess.DEVNULL, check=True)
    return ['--keys-file', path]


def make(node, shards, encrypted):
    make_stream(node.port, 'bench', shards)
    if encrypted:
        call(node.port, 'StartStreamEncryption',
             {'StreamName': 'bench', 'EncryptionType': 'KMS', 'KeyId': 'alias/aws/kinesis'})
        wait_active(node.port, 'bench')


def puts(settings, node, encrypted):
    make(node, SHARDS, encrypted)
    result, command = put(settings, node.port, ['--seconds', str(settings.seconds), '--warm', str(WARM_SECONDS)])
    delete_stream(node.port, 'bench')
    return result, command


def gets(settings, node, encrypted):
    make(node, 1, encrypted)
    put(settings, node.port, ['--warm', '0', '--bytes', str(READ_MIB << 20)])
    consume(node.port, WARM_SECONDS)
    before = cpu_seconds(node.process)
    rate, calls = consume(node.port, settings.seconds)
    took = cpu_seconds(node.process) - before
    delete_stream(node.port, 'bench')
    return {'records_per_s': rate, 'calls': calls, 'records_per_core_s': rate * settings.seconds / took}


def row(name, sealed, clear, key, commands):
    rates = median([one[key] for one in sealed]), median([one[key] for one in clear])
    return Row(name, f'{rates[0]:,.0f} records/s, {mb(rates[0] * RECORD_BYTES)}',
               f'not encrypted {rates[1]:,.0f} records/s, {mb(rates[1] * RECORD_BYTES)}',
               median([a[key] / b[key] for a, b in zip(sealed, clear)]), '', None, commands,
               {'encrypted': sealed, 'clear': clear})


def rows_encrypted(settings, say):
    place = os.path.join(settings.directory, 'encrypted')
    data = os.path.join(place, 'data')
    log = os.path.join(settings.directory, 'programs.log')
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(data)
    written, read, commands = {True: [], False: []}, {True: [], False: []}, []
    try:
        with HugePages(160):
            keys = make_keys(settings, os.path.join(place, 'keys'))
            with Node(settings, data, log, keys) as node:
                node.until_ready()
                say(f'encrypted: writing {settings.ready_gib} GiB once')
                write_space_once(settings, node.port)
            for turn in range(settings.rounds):
                with Node(settings, data, log, keys) as node:
                    node.until_ready()
                    # The first is another one in each round: what comes later finds the drive busier.
                    for encrypted in (turn % 2 == 0, turn % 2 != 0):
                        result, command = puts(settings, node, encrypted)
                        written[encrypted].append(result)
                        read[encrypted].append(gets(settings, node, encrypted))
                    commands = [' '.join(node.command), command]
                say(f"encrypted, round {turn + 1}: put {written[True][-1]['records_per_s']:,.0f} records/s and "
                    f"{written[False][-1]['records_per_s']:,.0f} in clear; read "
                    f"{read[True][-1]['records_per_s']:,.0f} and {read[False][-1]['records_per_s']:,.0f}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return [row(f'PutRecords {RECORDS} × 1 KiB into an encrypted stream, {CONNECTIONS} connections', written[True],
                written[False], 'records_per_s', commands),
            row('GetRecords of an encrypted stream, 1 KiB records, 1 consumer', read[True], read[False],
                'records_per_s', commands[:1]),
            row('the same per core of the HTTP threads', read[True], read[False], 'records_per_core_s', [])]
