"""Resident memory of a node at rest: with defaults, of each further lane, of each further shard; beside
what --memory promises a lane."""

import os
import shutil
import time

from node import Node, make_stream
from report import Row

PROMISED_MIB = 128   # the default of --memory, per lane
SHARDS = 1000
SETTLE_S = 3         # what start-up left to do


def resident(process):
    """MiB: what the process holds of ordinary memory, its share of what it shares, of that what the
    kernel gave as large pages by itself, and reserved huge pages, which the kernel counts apart."""
    kib = {}
    with open(f'/proc/{process.pid}/smaps_rollup', encoding='utf-8') as lines:
        for line in lines:
            words = line.split()
            if len(words) == 3 and words[2] == 'kB':
                kib[words[0].rstrip(':')] = int(words[1])
    return {'rss': kib['Rss'] / 1024, 'pss': kib['Pss'] / 1024, 'anonymous': kib['Anonymous'] / 1024,
            'large_pages': kib['AnonHugePages'] / 1024,
            'reserved': (kib['Private_Hugetlb'] + kib['Shared_Hugetlb']) / 1024}


def at_rest(settings, log, shards, more=()):
    """A new node with one stream of so many shards, after some seconds in which nothing came."""
    data = os.path.join(settings.directory, 'memory')
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    try:
        with Node(settings, data, log, more) as node:
            node.until_ready()
            make_stream(node.port, 'bench', shards)
            time.sleep(SETTLE_S)
            node.check()
            return resident(node.process), ' '.join(node.command)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def total(sample):
    return sample['pss'] + sample['reserved']


def middle(samples):
    """The sample with the median total, whole, so that its parts add up."""
    return sorted(samples, key=total)[len(samples) // 2]


def mib(value):
    return f'{value:,.1f} MiB'


def rows_memory(settings, say):
    log = os.path.join(settings.directory, 'programs.log')
    cpus = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
    rounds = min(settings.rounds, 3)
    kinds = {'default': (1, []), 'shards': (SHARDS, [])}
    if len(cpus) > 1:
        kinds['lanes'] = (1, ['--lanes', ','.join(cpus[:2])])
    samples = {name: [] for name in kinds}
    commands = {}
    for _ in range(rounds):
        for name, (shards, more) in kinds.items():
            sample, commands[name] = at_rest(settings, log, shards, more)
            samples[name].append(sample)
    one = middle(samples['default'])
    say(f"memory: {mib(one['pss'])}, of it {mib(one['large_pages'])} in large pages, and {mib(one['reserved'])} reserved")
    promise = f'--memory {PROMISED_MIB} MiB a lane'

    def row(name, ours, limit, ratio, kind):
        return Row(name, ours, limit, ratio, '', None, [commands[kind]],
                   {'resident_mib': [total(sample) for sample in samples[kind]], 'parts_mib': samples[kind]})

    rows = [row('memory of a node at rest, 1 lane, 1 shard (RSS / PSS / reserved huge pages)',
                f"{mib(one['rss'])} / {mib(one['pss'])} / {mib(one['reserved'])}", promise,
                total(one) / PROMISED_MIB, 'default')]
    if 'lanes' in kinds:
        each = total(middle(samples['lanes'])) - total(one)
        rows.append(row('memory of each further lane', mib(each), promise, each / PROMISED_MIB, 'lanes'))
    each = (total(middle(samples['shards'])) - total(one)) / (SHARDS - 1)
    rows.append(row(f'memory of each further shard at rest, 1 to {SHARDS}', f'{1024 * each:,.1f} KiB',
                    f'{promise}, for all its shards', None, 'shards'))
    return rows
