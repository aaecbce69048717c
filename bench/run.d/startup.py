"""Start-up after SIGKILL under load, with much and with nothing in the log."""

import os
import shutil
import subprocess
import time

from machine import drop_page_cache, run_json
from node import Node, make_stream
from report import Row, median

GIB = 1 << 30
GOAL = 1.5      # times an empty node's, at GOAL_GIB in the log
GOAL_GIB = 16


def fill(settings, port, target_bytes):
    run_json([settings.program('bench/http_put'), '--port', str(port), '--stream', 'bench',
              '--bytes', str(target_bytes), '--warm', '0'], timeout=3600)


def kill_under_load(settings, node):
    """SIGKILL while requests are under way, so that the journal and the tails hold something."""
    with subprocess.Popen([settings.program('bench/http_put'), '--port', str(node.port), '--stream', 'bench',
                           '--seconds', '60', '--warm', '0'],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        time.sleep(0.5)
        node.check()
        node.kill()
        client.wait()  # it ends when its connections break


def start(settings, data, log):
    """Starts the node as a supervisor would: again if it ends because the kernel has not yet let go of
    the killed one's locks. The time counts from the first try."""
    begin = time.monotonic()
    while True:
        node = Node(settings, data, log)
        try:
            node.until_ready()
            return time.monotonic() - begin, node
        except RuntimeError as error:
            node.__exit__()
            if 'held by another process' not in str(error) or time.monotonic() - begin > 30:
                raise
        time.sleep(0.05)


def measure(settings, say, gib, log):
    data = os.path.join(settings.directory, f'startup-{gib}')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    times = []
    try:
        node = Node(settings, data, log)
        with node:
            node.until_ready()
            make_stream(node.port, 'bench', 4)
            if gib:
                say(f'start-up: filling {gib} GiB')
                fill(settings, node.port, gib * GIB)
                kill_under_load(settings, node)
            else:
                node.kill()
        for _ in range(settings.startup_rounds):
            cold = drop_page_cache()
            seconds, node = start(settings, data, log)
            with node:
                times.append(seconds)
                if gib:
                    kill_under_load(settings, node)
                else:
                    node.kill()
        say(f'start-up with {gib} GiB{"" if cold else " (page cache warm)"}: '
            + ', '.join(f'{seconds * 1000:.0f} ms' for seconds in times))
        return times, ' '.join(node.command)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def rows_startup(settings, say):
    log = os.path.join(settings.directory, 'programs.log')
    empty, _ = measure(settings, say, 0, log)
    rows = []
    for gib in settings.startup_gib:
        full, command = measure(settings, say, gib, log)
        ratio = median(full) / median(empty)
        goal = gib == GOAL_GIB
        rows.append(Row(f'start-up after SIGKILL under load, {gib} GiB in the log',
                        f'{median(full) * 1000:,.0f} ms', f'nothing in the log {median(empty) * 1000:,.0f} ms',
                        ratio, f'≤ {GOAL}' if goal else '', ratio <= GOAL if goal else None, [command],
                        {'ours_s': full, 'empty_s': empty}))
    return rows
