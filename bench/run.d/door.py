"""Durable ingest of a whole node from packets: beside fio with the same CPUs occupied, and beside
brokers that keep the same records on one drive."""

import os
import shutil

from feed import (HUGE_PAGES, WINDOW_S, BusyCore, DoorNode, PacketSource, TestpmdSource, drops_text, feeder_cpu,
                  measure, median_drops, quantiles_text, sender_text, warn_if_grown,
                  write_space_once)
from ingest import BLOCK_KIB, DEPTH, Ingest
from peers import PEERS
from report import Row, mb, median

GOAL = 1.0
PEER_GOAL = 5.0
# Who sends, and how the door finds the partition key. testpmd has one source address, so its records
# are of one shard however many there are.
KINDS = {1: ('fixed:bench', TestpmdSource, 'testpmd txonly'), 4: ('source', PacketSource, 'packet_source')}


def window_of(settings, data, shards):
    """One measurement in a node of its own, and how that flushes its drives."""
    key, source, _ = KINDS[shards]
    with DoorNode(settings, data, key) as node:
        node.until_ready()
        window, sent, command = measure(settings, node, shards, source)
        return {**window.shown(), 'sent': sent}, [' '.join(node.command), command], node.flush()


def fio_row(shards, ours, limits, commands):
    ratio = median([3 * a['payload_bytes_per_s'] / b['bytes_per_s'] for a, b in zip(ours, limits)])
    payload = median([one['payload_bytes_per_s'] for one in ours])
    return Row(f'durable ingest from packets of 1 KiB, whole node, 1 lane, {shards} shard{"s" * (shards > 1)}',
               f'{mb(payload)} × 3 replicas; commit latency {quantiles_text(ours)} (p50 / p99 / p99.9); '
               f'{drops_text(median_drops(ours))}',
               f"fio {mb(median([one['bytes_per_s'] for one in limits]))} with a busy core beside it",
               ratio, f'≥ {GOAL}', ratio >= GOAL, commands, {'ours': ours, 'fio': limits})


def peer_rows(ours, theirs):
    """One stream of ours, which is one order and three copies, and one of the peer's."""
    payload = median([one['payload_bytes_per_s'] for one in ours])
    for name, found in theirs.items():
        label = f'the same records, 1 stream, beside {name}'
        if isinstance(found, str):
            yield Row(label, f'{mb(payload)} × 3 replicas, flushed', f'not measured: {found}', None, f'≥ {PEER_GOAL:g}')
            continue
        ratio = median([a['payload_bytes_per_s'] / b['payload_bytes_per_s'] for a, b in zip(ours, found['samples'])])
        rate = median([one['payload_bytes_per_s'] for one in found['samples']])
        yield Row(label, f'{mb(payload)} × 3 replicas, flushed', f"{mb(rate)}, one copy, {found['how']}", ratio,
                  f'≥ {PEER_GOAL:g}', ratio >= PEER_GOAL, found['commands'],
                  {'ours': ours, name: found['samples']})


def measure_peers(settings, say, theirs):
    for name, peer in PEERS.items():
        if isinstance(theirs.get(name), str):
            continue
        try:
            sample, how, commands = peer(settings)
        except FileNotFoundError as missing:
            theirs[name] = str(missing)
            say(f'{name}: {missing}')
            continue
        found = theirs.setdefault(name, {'samples': [], 'how': how, 'commands': commands})
        found['samples'].append(sample)
        say(f"{name}: {mb(sample['payload_bytes_per_s'])}, {how}")


def rows_door(settings, say):
    bench = Ingest(settings)
    data = os.path.join(settings.directory, 'door')
    shutil.rmtree(data, ignore_errors=True)
    ours, limits, commands = ({shards: [] for shards in KINDS} for _ in range(3))
    theirs = {}
    try:
        with bench.huge_pages(say, HUGE_PAGES):
            say(f'door: sender on CPU {feeder_cpu()}, windows of {min(settings.seconds, WINDOW_S)} s')
            with DoorNode(settings, data, 'source') as node:
                node.until_ready()
                say(f'door: writing {settings.door_gib} GiB once')
                write_space_once(settings, node, settings.door_gib)
            for turn in range(settings.rounds):
                for shards, (_, _, sender) in KINDS.items():
                    result, our_commands, bench.flush = window_of(settings, data, shards)
                    with BusyCore(feeder_cpu()):
                        limit, fio_command = bench.fio(BLOCK_KIB, DEPTH, 3, settings.seconds)
                    ours[shards].append(result)
                    limits[shards].append(limit)
                    commands[shards] = [*our_commands, ' '.join(fio_command)]
                    warn_if_grown(say, f'{shards} shards', result)
                    say(f"door, {shards} shards from {sender}, round {turn + 1}: ours "
                        f"{mb(result['payload_bytes_per_s'])} × 3, fio {mb(limit['bytes_per_s'])}; "
                        f"commit {quantiles_text([result])}; {drops_text(result['drops_per_s'])}; "
                        f"{sender_text(result['sent'])}")
                measure_peers(settings, say, theirs)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return [fio_row(shards, ours[shards], limits[shards], commands[shards]) for shards in KINDS] + \
        list(peer_rows(ours[1], theirs))
