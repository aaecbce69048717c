"""A node that takes packets of many sources into 1 to 2048 shards: its largest durable rate beside fio
doing the same mix of writes, and its commit latency at half that rate beside that of one shard."""

import os
import shutil

from feed import (HUGE_PAGES, KEYS, WINDOW_S, BusyCore, DoorNode, PacketSource, drops_text, feeder_cpu, measure,
                  median_drops, quantiles_text, warn_if_grown, write_space_once)
from ingest import Ingest
from mix import OFF_MAX, Mix
from report import Row, mb, median, micro

RATE_GOAL = 0.8        # with the most shards
LATENCY_GOAL = 1.5     # times the p99 of one shard


def measure_shards(settings, data, shards):
    """At the largest rate and at half of it, in one node; how that flushes, and the commands."""
    with DoorNode(settings, data, 'source') as node:
        node.until_ready()
        full, sent, command = measure(settings, node, shards, PacketSource)
        full = {**full.shown(), 'sent': sent}
        rate = full['records_per_s'] / 2
        half, sent, half_command = measure(settings, node, shards,
                                           lambda settings, node: PacketSource(settings, node, rate))
        half = {**half.shown(), 'sent': sent}
        return full, half, node.flush(), [' '.join(node.command), command, half_command]


def written(sample):
    """Bytes per second that reach the three drives."""
    return 3 * sum(one['bytes_per_s'] for one in sample['writes'].values())


def writes_text(sample):
    return ', '.join(f"{name} {one['per_s']:,.0f}/s of {one['bytes_per_s'] / one['per_s'] / 1024:,.0f} KiB"
                     for name, one in sample['writes'].items() if one['per_s'] >= 1)


def named(shards):
    return f'{KEYS:,} keys, 1 KiB records, {shards} shard{"s" * (shards > 1)}'


def rate_row(shards, most, ours, limits, commands):
    ratio = median([written(a) / b['bytes_per_s'] for a, b in zip(ours, limits)])
    goal = shards == most
    kinds = ' + '.join(f"{name} of {one['block_kib']} KiB" for name, one in limits[-1]['kinds'].items())
    return Row(f'largest durable rate of a node from packets, {named(shards)}',
               f"{mb(median([one['payload_bytes_per_s'] for one in ours]))} × 3 replicas, "
               f'{mb(median([written(one) for one in ours]))} written; {drops_text(median_drops(ours))}',
               f"fio {mb(median([one['bytes_per_s'] for one in limits]))}, {kinds}", ratio,
               f'≥ {RATE_GOAL}' if goal else '', ratio >= RATE_GOAL if goal else None, commands,
               {'ours': ours, 'fio': limits, 'ours_written_bytes_per_s': [written(one) for one in ours]})


def latency_row(shards, most, ours, one_shard, commands):
    """The ratio says how much of one shard's speed is left: at least 1 / 1.5 is wanted."""
    def p99(samples):
        return [sample['latency_us']['p99'] for sample in samples]
    ratio = median([b / a for a, b in zip(p99(ours), p99(one_shard))])
    goal = 1 < shards == most
    return Row(f'commit latency at half that rate, {named(shards)} (p50 / p99 / p99.9)',
               f"{quantiles_text(ours)} at {mb(median([one['payload_bytes_per_s'] for one in ours]))}",
               f'1 shard, p99 {micro(median(p99(one_shard)))}' if shards > 1 else 'itself', ratio,
               f'≥ {1 / LATENCY_GOAL:.2f}' if goal else '', ratio >= 1 / LATENCY_GOAL if goal else None, commands,
               {'ours': ours, 'ours_p99_us': p99(ours), 'one_shard_p99_us': p99(one_shard)})


def rows_shards(settings, say):
    bench = Ingest(settings)
    data = os.path.join(settings.directory, 'shards')
    shutil.rmtree(data, ignore_errors=True)
    counts = settings.door_shards
    full, half, limits, commands = ({shards: [] for shards in counts} for _ in range(4))
    mixes = {shards: Mix(bench) for shards in counts}
    try:
        with bench.huge_pages(say, HUGE_PAGES):
            say(f'shards: sender on CPU {feeder_cpu()}, windows of {min(settings.seconds, WINDOW_S)} s')
            with DoorNode(settings, data, 'source') as node:
                node.until_ready()
                say(f'shards: writing {settings.door_gib} GiB once')
                write_space_once(settings, node, settings.door_gib)
            for turn in range(settings.rounds):
                for shards in counts:
                    ours, slow, bench.flush, our_commands = measure_shards(settings, data, shards)
                    mix = mixes[shards]
                    mix.follow(ours)
                    with BusyCore(feeder_cpu()):
                        limit, fio_command = mix.measure()
                    full[shards].append(ours)
                    half[shards].append(slow)
                    limits[shards].append(limit)
                    commands[shards] = [*our_commands, ' '.join(fio_command)]
                    warn_if_grown(say, f'{shards} shards', ours)
                    if limit['off'] > OFF_MAX:
                        say(f"warning: fio's proportion was off by {100 * limit['off']:.0f} %: {limit['scales']}")
                    say(f"shards, {shards}, round {turn + 1}: {mb(ours['payload_bytes_per_s'])} × 3, "
                        f"{mb(written(ours))} written ({writes_text(ours)}), fio {mb(limit['bytes_per_s'])}; "
                        f"at half commit {quantiles_text([slow])}; {drops_text(ours['drops_per_s'])}; "
                        f"lane busy {ours['lane_busy']:.2f}")
    finally:
        shutil.rmtree(data, ignore_errors=True)
    most = max(counts)
    rows = []
    for shards in counts:
        rows.append(rate_row(shards, most, full[shards], limits[shards], commands[shards]))
        rows.append(latency_row(shards, most, half[shards], half[min(counts)], commands[shards]))
    return rows
