"""fio writing what a node wrote: journal blocks, direct segment writes and moves, in the node's own
sizes and proportion, as fast as the drive and the CPU let it.

One job for each kind, over three files, one for each replica. Kinds are kept in proportion by rates:
the kind with most bytes runs free, the others at `scale` times the node's own rate, and `scale` is
what the free kind reached. fio's own `flow` would stop a job that is ahead with everything it has
under way, or let it spin on the CPU that the others need; both make the limit smaller than it is.
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
FITTING_RUNS = 4
FITTING_SECONDS = 2
TRIES = 3


class Kind:
    def __init__(self, name, writes):
        self.name = name
        self.per_s = 3 * writes['per_s']          # of all replicas
        self.bytes_per_s = 3 * writes['bytes_per_s']
        mean = writes['bytes_per_s'] / max(writes['per_s'], 1e-9)
        self.block_kib = max(4, 4 * round(mean / 4096))


class Mix:
    """Keeps the scale it found between rounds; the node's proportion is that of the last window."""

    def __init__(self, bench):
        self.bench = bench
        self.scale = 1.0
        self.fitted = False

    def follow(self, sample):
        total = sum(one['bytes_per_s'] for one in sample['writes'].values())
        self.kinds = [Kind(name, writes) for name, writes in sample['writes'].items()
                      if writes['bytes_per_s'] >= SHARE_MIN * total]
        self.ours_bytes_per_s = sum(kind.bytes_per_s for kind in self.kinds)
        moved = sample['writes']['moved']['per_s']
        self.moves_per_flush = max(1, round(moved / max(sample['segment_flushes_per_s'], 1e-9)))

    def command(self, seconds):
        settings = self.bench.settings
        free = max(self.kinds, key=lambda kind: kind.bytes_per_s)
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
            if kind is not free:
                command += [f'--rate_iops={max(1, round(self.scale * kind.per_s))}']
        return command, free

    def run(self, seconds):
        """Bytes per second of all kinds, and how far the proportion was off; learns the scale."""
        command, free = self.command(seconds)
        jobs = {job['jobname']: job['write'] for job in run_json(command)['jobs']}
        scales = {kind.name: jobs[kind.name]['iops'] / kind.per_s for kind in self.kinds}
        result = {'bytes_per_s': sum(job['bw_bytes'] for job in jobs.values()), 'scale': self.scale,
                  'scales': scales, 'off': max(scales.values()) / max(min(scales.values()), 1e-9) - 1,
                  'kinds': {kind.name: {'block_kib': kind.block_kib, 'bytes_per_s': jobs[kind.name]['bw_bytes']}
                            for kind in self.kinds}}
        behind = {name: scale for name, scale in scales.items()
                  if name != free.name and scale < 0.95 * self.scale}
        if behind:
            self.scale = min(behind.values())     # it cannot do more, whatever the others do
        else:
            # Half the way in the logarithm: more of the others leaves less for the free kind.
            self.scale = math.sqrt(self.scale * scales[free.name])
        return result, command

    def measure(self):
        """The first run whose proportion is ours, or the last of a few."""
        if not self.fitted and len(self.kinds) > 1:
            for _ in range(FITTING_RUNS):
                self.run(FITTING_SECONDS)
        self.fitted = True
        for _ in range(TRIES):
            result, command = self.run(self.bench.settings.seconds)
            if result['off'] <= OFF_MAX:
                break
        return result, command
