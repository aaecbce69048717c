"""The price of adaptive polling: CPU of a lane at shares of the load it can take, and what each kind of
sleep adds to the time that a single datagram waits; beside a lane that spins."""

import os
import sys
from pathlib import Path

from machine import lane_cpu, run_json
from report import Row, median, micro

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tools' / 'quickstart.d'))
from lab import Link  # noqa: E402

IDLE_GOAL = 0.02
SHARES = [0, 0.01, 0.1, 0.5]
# What the lane does at the end of each: it spins, pauses, begins to sleep, sleeps long.
GAPS_US = [10, 100, 1000, 10_000, 1_000_000]
GAP_NAMES = ['10 µs', '100 µs', '1 ms', '10 ms', '1 s']


def measure(settings, poll, where, maximum=0.0):
    command = [settings.program('bench/polling'), '--poll', poll, '--cpu', str(lane_cpu()), '--sender-cpu',
               str(min(os.sched_getaffinity(0))), '--seconds', str(min(settings.seconds, 3)), '--gap-seconds',
               str(min(settings.seconds, 3)), '--shares', ','.join(str(share) for share in SHARES), '--gaps-us',
               ','.join(str(gap) for gap in GAPS_US), *where]
    if maximum:
        command += ['--maximum', f'{maximum:.0f}']
    return run_json(command), ' '.join(command)


def middle(results, part, index, key):
    """Median over the rounds; a datagram that never came has no time."""
    values = [one[part][index][key] for one in results if one[part][index][key] is not None]
    return median(values) if values else float('nan')


def rows_of(settings, say, name, where):
    busy, adaptive, commands = [], [], []
    for turn in range(settings.rounds):
        result, command = measure(settings, 'busy', where)
        busy.append(result)
        # The same loads for both: shares of what the spinning lane takes.
        result, other = measure(settings, 'adaptive', where, result['maximum_per_s'])
        adaptive.append(result)
        commands = [command, other]
        say(f"polling, {name}, round {turn + 1}: maximum {busy[-1]['maximum_per_s']:,.0f} datagrams/s")
    numbers = range(len(SHARES))
    cpu = [middle(adaptive, 'loads', i, 'cpu') for i in numbers]
    spun = [middle(busy, 'loads', i, 'cpu') for i in numbers]
    lacking = [i for i in numbers
               if middle(adaptive, 'loads', i, 'taken_per_s') < 0.98 * middle(busy, 'loads', i, 'taken_per_s')]
    for i in lacking:
        say(f'warning: at {100 * SHARES[i]:.0f} % the sleeping lane takes less than the spinning one')
    rows = [Row(f'polling, {name}: CPU at 0 / 1 / 10 / 50 % of '
                f"{median([one['maximum_per_s'] for one in busy]):,.0f} datagrams/s",
                ' / '.join(f'{100 * share:.1f}' for share in cpu) + ' % of a core',
                'spinning ' + ' / '.join(f'{100 * share:.0f}' for share in spun) + f' %, idle {100 * IDLE_GOAL:.0f} %',
                None if cpu[0] == 0 else IDLE_GOAL / cpu[0], '≥ 1.0', cpu[0] <= IDLE_GOAL, commands,
                {'adaptive': adaptive, 'busy': busy})]
    numbers = range(len(GAPS_US))
    waits = [(middle(adaptive, 'waits', i, 'p50_us'), middle(adaptive, 'waits', i, 'max_us')) for i in numbers]
    limits = [middle(busy, 'waits', i, 'p50_us') for i in numbers]
    rows.append(Row(f"polling, {name}: a datagram's wait after a silence of {' / '.join(GAP_NAMES)} (p50, largest)",
                    ' / '.join(f'{micro(half)}, {micro(most)}' for half, most in waits),
                    'spinning p50 ' + ' / '.join(micro(limit) for limit in limits),
                    None, '', None, commands,
                    {'adaptive_p50_us': [half for half, _ in waits], 'busy_p50_us': limits}))
    return rows


def rows_polling(settings, say):
    rows = rows_of(settings, say, 'kernel sockets', ['--device', 'kernel:127.0.0.1', '--target', '127.0.0.1'])
    link = Link('192.0.2.2/24')
    try:
        rows += rows_of(settings, say, 'net_af_packet',
                        ['--device', f'net_af_packet0,iface={link.host}', '--address', '192.0.2.1/24', '--target',
                         '192.0.2.1', '--netns', link.namespace])
    finally:
        link.close()
    return rows
