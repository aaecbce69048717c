"""fio writing what a node wrote: journal blocks, direct segment writes and moves, in the node's own
sizes and proportion, as fast as the drive and the CPU let it.

One job for each kind, over three files, one for each replica. Each has a rate, `scale` times the
node's own, so that the proportion is the node's; the largest `scale` is looked for at which all reach
theirs. A kind without a rate would take from the others what they need; fio's own `flow` would stop
a job that is ahead with everything it has under way, or let it spin on the CPU of the others.
"""

import math

from ingest import DEPTH
from machine import run_json

# Writes under way at each replica, as the node has them: journal_blocks_in_flight_max,
# GroupOptions::writes_in_flight_enough, and no bound for moves, which only the flush ends.
DEPTHS = {'journal': 2, 'direct': DEPTH, 'moved': 16}
JOURNAL_MIB = 64
SHARE_MIN = 0.01         # of the bytes: kinds below are left out
OFF_MAX = 0.1            # of the proportion
FITTING_RUNS = 8
FITTING_SECONDS = 2
FITTED = 1.08            # between a scale that is reached and one that is not


class Kind:
    def __init__(self, name, writes):
        self.name = name
        mean = writes['bytes_per_s'] / max(writes['per_s'], 1e-9)
        self.block_kib = max(4, 4 * round(mean / 4096))
        # Of all replicas, and of the bytes: the mean is seldom a whole number of pages.
        self.per_s = 3 * writes['bytes_per_s'] / (self.block_kib << 10)


class Mix:
    """Keeps the scale it found between rounds; the proportion is that of the node's last window."""

    def __init__(self, bench):
        self.bench = bench
        self.scale = None

    def follow(self, sample):
        total = sum(one['bytes_per_s'] for one in sample['writes'].values())
        self.kinds = [Kind(name, writes) for name, writes in sample['writes'].items()
                      if writes['bytes_per_s'] >= SHARE_MIN * total]
        moved = sample['writes']['moved']['per_s']
        self.moves_per_flush = max(1, round(moved / max(sample['segment_flushes_per_s'], 1e-9)))

    def command(self, seconds, scale):
        settings = self.bench.settings
        committing = ['--sync=dsync'] if self.bench.flush != 'flush' else ['--fdatasync=1']
        command = ['fio', '--output-format=json', '--ioengine=io_uring', '--direct=1', '--iomem=shmhuge',
                   '--hugepage-size=2m', '--fixedbufs=1', '--registerfiles=1', '--overwrite=1', '--time_based=1',
                   f'--runtime={seconds}', '--ramp_time=1', f'--cpus_allowed={self.bench.cpu}', '--randrepeat=0',
                   '--norandommap=1', f'--directory={self.bench.fio_files}', '--file_service_type=roundrobin']
        for kind in self.kinds:
            journal = kind.name == 'journal'
            names = [f'{"journal" if journal else "replica"}-{replica}' for replica in range(3)]
            size_mib = 3 * (JOURNAL_MIB if journal else settings.ready_gib << 10)
            command += [f'--name={kind.name}', f'--filename={":".join(names)}', f'--size={size_mib}m',
                        f'--rw={"write" if journal else "randwrite"}', f'--bs={kind.block_kib}k',
                        f'--iodepth={3 * DEPTHS[kind.name]}']
            command += [f'--fdatasync={self.moves_per_flush}'] if kind.name == 'moved' else committing
            if len(self.kinds) > 1:
                command += [f'--rate_iops={max(1, round(scale * kind.per_s))}']
        return command

    def run(self, seconds, scale):
        """Bytes per second of all kinds, and how far they were from the node's proportion."""
        command = self.command(seconds, scale)
        jobs = {job['jobname']: job['write'] for job in run_json(command)['jobs']}
        scales = {kind.name: jobs[kind.name]['iops'] / kind.per_s for kind in self.kinds}
        result = {'bytes_per_s': sum(job['bw_bytes'] for job in jobs.values()), 'scale': scale,
                  'scales': scales, 'off': max(scales.values()) / max(min(scales.values()), 1e-9) - 1,
                  'kinds': {kind.name: {'block_kib': kind.block_kib, 'bytes_per_s': jobs[kind.name]['bw_bytes']}
                            for kind in self.kinds}}
        # All as fast as was asked, within what a rate wavers.
        result['reached'] = min(scales.values()) >= (1 - OFF_MAX) * scale
        return result, command

    def fit(self):
        """The largest scale that is reached in short runs."""
        reached, missed, scale = None, None, 1.0
        for _ in range(FITTING_RUNS):
            if self.run(FITTING_SECONDS, scale)[0]['reached']:
                reached = scale
            else:
                missed = scale
            if reached is None:
                scale /= 2
            elif missed is None:
                scale *= 2
            elif missed / reached < FITTED:
                break
            else:
                scale = math.sqrt(reached * missed)
        return reached or scale

    def measure(self):
        """fio's best that kept the proportion; when the drive has become slower since, the nearest to it."""
        seconds = self.bench.settings.seconds
        if len(self.kinds) == 1:
            return self.run(seconds, 1.0)
        if self.scale is None:
            self.scale = self.fit()
        for step in (FITTED, 1, 1 / FITTED, FITTED ** -2):
            result, command = self.run(seconds, self.scale * step)
            if result['reached']:
                break
        self.scale = result['scale'] if result['reached'] else min(result['scales'].values())
        return result, command
