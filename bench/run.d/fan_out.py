"""Enhanced fan-out: how long after a put a subscriber has the record, and how much goes to many of them."""

import itertools
import os
import shutil

from machine import HugePages, run_json
from node import Node, call
from report import Row, mb, median

RECORD_BYTES = 1023          # a multiple of three: base64 without padding
SUBSCRIBERS = (1, 10, 100)
DELAY_GOAL_MS = 5
# Of the requests that were answered, once for each subscriber: the rest is on its way when a run ends.
TIMED_PART_MIN = 0.9
ARN = 'arn:aws:kinesis:us-east-1:000000000000:stream/bench'


def subscribe(settings, node, count, load, rate, records, writers):
    path = os.path.join(settings.directory, f'consumers-{count}-{load}')
    command = [settings.program('bench/fan_out'), '--port', str(node.port), '--stream', 'bench', '--consumers', path,
               '--record-bytes', str(RECORD_BYTES), '--records', str(records), '--writers', str(writers), '--rate',
               str(rate), '--seconds', str(settings.seconds), '--warm', '1']
    result = run_json(command)
    # A subscription that gave nothing has no delay, and not a small one.
    if result['records_put'] == 0 or result['records_seen'] == 0 or result['delays'] == 0:
        raise RuntimeError(f"{' '.join(command)}: {result['records_put']} records were put, "
                           f"{result['records_seen']} seen, {result['delays']} of them timed")
    if result['delays'] < TIMED_PART_MIN * result['delays_expected']:
        raise RuntimeError(f"{' '.join(command)}: {result['delays']} delays were timed, expected "
                           f"{result['delays_expected']}: one of each request and subscriber")
    return result, ' '.join(command)


def prepare(settings, node):
    """An ON_DEMAND stream, since a consumer of a PROVISIONED one has 2 MiB/s; all records go to one shard."""
    call(node.port, 'CreateStream', {'StreamName': 'bench', 'StreamModeDetails': {'StreamMode': 'ON_DEMAND'}})
    while call(node.port, 'DescribeStreamSummary', {'StreamName': 'bench'})[
            'StreamDescriptionSummary']['StreamStatus'] != 'ACTIVE':
        pass
    # Others for each measurement: a consumer is not let in again while its last connection is closing.
    for count, load in itertools.product(SUBSCRIBERS, ('most', 'half')):
        path = os.path.join(settings.directory, f'consumers-{count}-{load}')
        with open(path, 'w', encoding='ascii') as file:
            for i in range(count):
                made = call(node.port, 'RegisterStreamConsumer',
                            {'StreamARN': ARN, 'ConsumerName': f'app-{count}-{load}-{i}'})
                file.write(made['Consumer']['ConsumerARN'] + '\n')


def rows_fan_out(settings, say):
    data = os.path.join(settings.directory, 'fan_out')
    log = os.path.join(settings.directory, 'programs.log')
    most = {count: [] for count in SUBSCRIBERS}
    half = {count: [] for count in SUBSCRIBERS}
    commands = {}
    with HugePages(160):
        for turn in range(settings.rounds):
            shutil.rmtree(data, ignore_errors=True)
            os.makedirs(data)
            with Node(settings, data, log, ['--consumers-max', '300']) as node:
                node.until_ready()
                prepare(settings, node)
                for count in SUBSCRIBERS:
                    result, commands[count, 'most'] = subscribe(settings, node, count, 'most', 0, 50, 4)
                    most[count].append(result)
                    rate = result['records_put'] / (settings.seconds + 1) / 2
                    # In small requests, as producers of live data send them.
                    result, commands[count, 'half'] = subscribe(settings, node, count, 'half', f'{rate:.0f}', 10, 8)
                    half[count].append(result)
                    delay = result['answer_to_callback_ms']
                    say(f"fan-out, {count} subscribers, round {turn + 1}: {mb(most[count][-1]['payload_bytes_per_s'])}, "
                        f"at half load {delay['p50']:.2f} / {delay['p99']:.2f} ms after the answer")
    shutil.rmtree(data, ignore_errors=True)
    rows = []
    for count in SUBSCRIBERS:
        name = f"{count} subscriber{'s' if count > 1 else ''} of one shard"
        sent = median([one['payload_bytes_per_s'] for one in most[count]])
        taken = median([one['records_put'] * RECORD_BYTES / (settings.seconds + 1) for one in most[count]])
        rows.append(Row(f'fan-out, {name}: to all of them', mb(sent), f'put into the shard {mb(taken)}',
                        sent / taken if taken else None, '', None, [commands[count, 'most']],
                        {'ours': most[count]}))
        times = {key: median([one['answer_to_callback_ms'][key] for one in half[count]]) for key in ('p50', 'p99')}
        whole = {key: median([one['put_to_callback_ms'][key] for one in half[count]]) for key in ('p50', 'p99')}
        answer = {key: median([one['put_to_answer_ms'][key] for one in half[count]]) for key in ('p50', 'p99')}
        rows.append(Row(
            f'fan-out, {name}, half load: from the answer of a put to the subscriber, p50 / p99',
            f"{times['p50']:.2f} / {times['p99']:.2f} ms (from the put {whole['p50']:.2f} / {whole['p99']:.2f})",
            f"from the put to its answer {answer['p50']:.2f} / {answer['p99']:.2f} ms", None,
            f'p99 < {DELAY_GOAL_MS} ms', times['p99'] < DELAY_GOAL_MS, [commands[count, 'half']],
            {'ours': half[count]}))
    return rows
