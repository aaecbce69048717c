"""What a node that has nothing to do costs: the CPU of its lanes."""

import os
import shutil
import sys
import time
from pathlib import Path

from node import Node, make_stream
from report import Row, median

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'quickstart.d'))
from lab import Link  # noqa: E402

GOAL = 0.02  # of a core per lane


def lane_seconds(process):
    """CPU time of each lane's thread so far."""
    ticks = os.sysconf('SC_CLK_TCK')
    seconds = {}
    for task in Path(f'/proc/{process.pid}/task').iterdir():
        name = (task / 'comm').read_text(encoding='utf-8').strip()
        if name.startswith('lane'):
            fields = (task / 'stat').read_text(encoding='utf-8').rpartition(')')[2].split()
            seconds[name] = (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def idle_share(settings, more, log):
    """The busiest lane's share of a core while nothing comes."""
    data = os.path.join(settings.directory, 'idle')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    try:
        with Node(settings, data, log, more) as node:
            node.until_ready()
            make_stream(node.port, 'bench', 4)
            time.sleep(3)   # what start-up left to do
            before, begin = lane_seconds(node.process), time.monotonic()
            time.sleep(2 * settings.seconds)
            after, took = lane_seconds(node.process), time.monotonic() - begin
            if not before:
                raise RuntimeError('no thread of the node is called lane…')
            return max((after[name] - before[name]) / took for name in before), ' '.join(node.command)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def rows_idle(settings, say):
    log = os.path.join(settings.directory, 'programs.log')
    cpus = ','.join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[-2:])
    door = ['--door', 'udp:5514=bench']
    link = Link('192.0.2.2/24')
    try:
        kinds = {
            'no port': [],
            'kernel sockets': ['--port', 'kernel:127.0.0.1', *door],
            'a DPDK port that must be polled (net_af_packet)':
                ['--port', f'net_af_packet0,iface={link.host}', '--address', '192.0.2.1/24',
                 *door],
        }
        rows = []
        for name, port in kinds.items():
            shares, command = [], ''
            for _ in range(settings.rounds):
                share, command = idle_share(settings, ['--lanes', cpus, *port], log)
                shares.append(share)
            share = median(shares)
            say(f'idle, {name}: {100 * share:.2f} % of a core')
            rows.append(Row(f'CPU of an idle lane, {name}', f'{100 * share:.2f} % of a core',
                            f'{100 * GOAL:.0f} % of a core', None if share == 0 else GOAL / share, '≥ 1.0',
                            share <= GOAL, [command], {'shares': shares}))
        return rows
    finally:
        link.close()
