"""Durable ingest and commit latency of the storage layer alone, beside fio on the same files' drive
with the same CPU occupied."""

import os

from machine import HugePages, lane_cpu, run_json
from report import Row, mb, median, micro

BLOCK_KIB = 512      # what the storage layer writes at most in one piece
DEPTH = 4            # GroupOptions::writes_in_flight_enough
RECORD_BYTES = 1024
HUGE_PAGES = 160     # 128 MiB of frames, journal and refill buffers, or fio's 6 MiB


class Ingest:
    def __init__(self, settings):
        self.settings = settings
        self.cpu = lane_cpu()
        self.flush = None
        self.data = os.path.join(settings.directory, 'ingest')
        self.fio_files = os.path.join(settings.directory, 'fio')
        os.makedirs(self.data, exist_ok=True)
        os.makedirs(self.fio_files, exist_ok=True)

    def ours(self, shards=1, rate=0.0):
        command = [self.settings.program('bench/storage_ingest'), '--dir', self.data,
                   '--seconds', str(self.settings.seconds), '--shards', str(shards),
                   '--record-bytes', str(RECORD_BYTES), '--cpu', str(self.cpu),
                   '--in-flight', str(DEPTH), '--ready-gib', str(self.settings.ready_gib), '--retention-ms', '1000']
        if rate > 0:
            command += ['--rate', f'{rate:.0f}']
        result = run_json(command)
        # The measured choice may change between runs on a drive where both cost the same; fio has to
        # follow ours.
        self.flush = result['flush']
        return result, command

    def fio(self, block_kib, depth, jobs, seconds):
        """Overwrites files that were written before, as large as what we cycle through."""
        flush = ['--sync=dsync'] if self.flush != 'flush' else ['--fdatasync=1']
        command = ['fio', '--output-format=json', '--ioengine=io_uring', '--direct=1', '--rw=write',
                   f'--bs={block_kib}k', f'--iodepth={depth}', '--iomem=shmhuge', '--hugepage-size=2m',
                   '--fixedbufs=1', '--registerfiles=1', '--overwrite=1', '--time_based=1',
                   f'--runtime={seconds}', '--ramp_time=1', f'--size={self.settings.ready_gib}g',
                   f'--cpus_allowed={self.cpu}', f'--directory={self.fio_files}', '--group_reporting=1',
                   '--randrepeat=0', '--percentile_list=50:90:99:99.9'] + flush
        for number in range(jobs):
            command += [f'--name=replica-{number}', f'--filename=replica-{number}']
        result = run_json(command)
        written = result['jobs'][0]['write']
        percentiles = {key: ns / 1000 for key, ns in written['clat_ns'].get('percentile', {}).items()}
        return {'bytes_per_s': written['bw_bytes'], 'percentiles_us': percentiles}, command

    def huge_pages(self, say, count=HUGE_PAGES):
        pages = HugePages(count)
        pages.__enter__()
        if not pages.enough:
            pages.__exit__()
            raise RuntimeError(
                f'{count} huge pages of 2 MiB are needed and {pages.free} are free; run as root, '
                f'or: sysctl vm.nr_hugepages={count}')
        say(f'CPU {self.cpu}, {count} huge pages')
        return pages


def ingest_row(bench, say, shards, goal):
    ours, limits, commands = [], [], []
    for turn in range(bench.settings.rounds):
        result, our_command = bench.ours(shards)
        limit, fio_command = bench.fio(BLOCK_KIB, DEPTH, 3, bench.settings.seconds)
        ours.append(result)
        limits.append(limit)
        commands = [' '.join(our_command), ' '.join(fio_command)]
        if result['grown_bytes']:
            say(f"warning: space grew by {result['grown_bytes'] >> 20} MiB while measuring; use --keep and run again")
        say(f"ingest, {shards} shards, round {turn + 1}: ours {mb(result['payload_bytes_per_s'])} × 3, "
            f"fio {mb(limit['bytes_per_s'])}")
    payload = median([result['payload_bytes_per_s'] for result in ours])
    limit = median([one['bytes_per_s'] for one in limits])
    # Each pair is from the same minute: the median of their ratios, not the ratio of medians.
    ratio = median([3 * a['payload_bytes_per_s'] / b['bytes_per_s'] for a, b in zip(ours, limits)])
    name = 'durable ingest, 1 KiB records, 1 lane, ' + ('1 shard' if shards == 1 else f'{shards} shards')
    return Row(name, f'{mb(payload)} × 3 replicas', f'fio {mb(limit)}', ratio,
               '≥ 1.0' if goal else '', ratio >= 1.0 if goal else None, commands,
               {'ours': ours, 'fio': limits})


def rows_ingest(settings, say):
    bench = Ingest(settings)
    with bench.huge_pages(say):
        rows = [ingest_row(bench, say, 1, True)]
        for shards in settings.more_shards:
            rows.append(ingest_row(bench, say, shards, False))
    return rows


def rows_latency(settings, say):
    """Open loop at shares of the maximum found in the same run."""
    bench = Ingest(settings)
    rows = []
    with bench.huge_pages(say):
        full = median([bench.ours()[0]['records_per_s'] for _ in range(settings.rounds)])
        say(f'maximum: {full:,.0f} records/s')
        for share in (10, 50, 90):
            ours, limits, commands = [], [], []
            for _ in range(settings.rounds):
                result, our_command = bench.ours(rate=full * share / 100)
                limit, fio_command = bench.fio(4, 1, 1, settings.seconds)
                ours.append(result)
                limits.append(limit['percentiles_us'])
                commands = [' '.join(our_command), ' '.join(fio_command)]
            at = {p: median([result['latency_us'][p] for result in ours]) for p in ('p50', 'p99', 'p999')}
            drive = {'p50': median([one['50.000000'] for one in limits]),
                     'p99': median([one['99.000000'] for one in limits])}
            say(f"commit latency at {share} %: p50 {micro(at['p50'])}, p99 {micro(at['p99'])}")
            rows.append(Row(f'commit latency at {share} % of maximum, open loop (p50 / p99 / p99.9)',
                            f"{micro(at['p50'])} / {micro(at['p99'])} / {micro(at['p999'])}",
                            f"4 KiB flushed write {micro(drive['p50'])} / {micro(drive['p99'])}",
                            at['p50'] / drive['p50'], '', None, commands,
                            {'ours': ours, 'fio_us': limits, 'maximum_records_per_s': full}))
    return rows
