"""A blank drive in a replica's place, filled by a node under load: beside fio copying on the same drive."""

import os
import shutil
import subprocess
import time
import urllib.request

from machine import run_json
from node import Node, make_stream
from report import Row, mb, median
from startup import GIB, fill

BLOCK_KIB = 2048      # refill_window
GOAL = 0.7
OUT_S = 30
WHOLE_S = 1800


def metrics(port):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f'http://127.0.0.1:{port}/metrics', timeout=10) as answer:
        return [line.rsplit(' ', 1) for line in answer.read().decode().splitlines() if not line.startswith('#')]


def value(port, name):
    return sum(float(number) for sample, number in metrics(port) if sample == name)


def until(condition, what, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f'waited {seconds} s for {what}, in vain')
        time.sleep(0.05)


def refilled(settings, node, data):
    """Bytes and seconds of one refill, from the blank directory being told of until three replicas vote."""
    place = os.path.join(data, 'replica-1')
    voting = 'penstock_replica_state{replica="1",state="voting"}'
    shutil.rmtree(place)
    until(lambda: value(node.port, voting) == 0, 'the replica to be out', OUT_S)
    os.mkdir(place)
    told = subprocess.run([settings.penstock, 'replica', 'replace', '--data', data, place],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if told.returncode != 0:
        raise RuntimeError(f'replica replace: {told.stdout}')
    total = 'penstock_replica_refill_total_bytes{replica="1"}'
    until(lambda: value(node.port, total) > 0, 'the refill to begin', OUT_S)
    begin, size = time.monotonic(), value(node.port, total)
    until(lambda: value(node.port, voting) == 1, 'the replica to vote', WHOLE_S)
    return size, time.monotonic() - begin


def fio_copy(settings):
    """Reading and writing alternate, as a copy on one drive has to."""
    path = os.path.join(settings.directory, 'refill-fio')
    command = ['fio', '--output-format=json', '--name=copy', f'--filename={path}', '--size=1G', '--rw=rw',
               '--rwmixread=50', '--ioengine=io_uring', '--direct=1', f'--bs={BLOCK_KIB}k', '--iodepth=1',
               '--time_based=1', f'--runtime={settings.seconds}']
    try:
        job = run_json(command)['jobs'][0]
        return min(job['read']['bw_bytes'], job['write']['bw_bytes']), ' '.join(command)
    finally:
        if os.path.exists(path):
            os.remove(path)


def rows_refill(settings, say):
    data = os.path.join(settings.directory, 'refill')
    log = os.path.join(settings.directory, 'programs.log')
    rounds = min(settings.rounds, 3)
    rows = []
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    try:
        with Node(settings, data, log, ['--scrub', 'off']) as node:
            node.until_ready()
            make_stream(node.port, 'bench', 4)
            make_stream(node.port, 'load', 4)
            fill(settings, node.port, settings.replay_gib * GIB)
            for loaded in (False, True):
                rates, limits, sizes, commands = [], [], [], []
                for turn in range(rounds):
                    load = None
                    if loaded:
                        load = subprocess.Popen(
                            [settings.program('bench/http_put'), '--port', str(node.port), '--stream', 'load',
                             '--seconds', '3600', '--warm', '0', '--connections', '4', '--rate', '40'],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    try:
                        size, seconds = refilled(settings, node, data)
                    finally:
                        if load is not None:
                            load.terminate()
                            load.wait()
                    limit, fio_command = fio_copy(settings)
                    rates.append(size / seconds)
                    limits.append(limit)
                    sizes.append(size)
                    commands = [' '.join(node.command), fio_command]
                    say(f"refill{' under load' if loaded else ''}, round {turn + 1}: {size / 1e9:.2f} GB in {seconds:.1f} s, "
                        f'{mb(size / seconds)}, fio {mb(limit)}')
                ratio = median([a / b for a, b in zip(rates, limits)])
                rows.append(Row(f"refill of a blank replica, {median(sizes) / 1e9:.1f} GB, "
                                f"{'four writers beside it' if loaded else 'nothing else'}",
                                mb(median(rates)), f'fio copies {mb(median(limits))}', ratio,
                                '' if loaded else f'≥ {GOAL}', None if loaded else ratio >= GOAL, commands,
                                {'ours_bytes_per_s': rates, 'fio_bytes_per_s': limits, 'bytes': sizes}))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return rows
