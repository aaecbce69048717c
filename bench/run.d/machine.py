"""What the machine is, and what a measurement takes from it and gives back: huge pages, CPUs."""

import json
import os
import platform
import subprocess
import time

HUGE_PAGES_FILE = '/proc/sys/vm/nr_hugepages'


def first_line(path, key):
    try:
        with open(path, encoding='utf-8') as lines:
            for line in lines:
                if line.startswith(key):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return ''


def file_system(directory):
    """The type and options of the mount that holds `directory`, and its device."""
    best = ('', '', '')
    directory = os.path.realpath(directory)
    with open('/proc/self/mounts', encoding='utf-8') as lines:
        for line in lines:
            device, place, kind = line.split()[:3]
            inside = directory == place or directory.startswith(place.rstrip('/') + '/')
            if inside and len(place) >= len(best[0]):
                best = (place, kind, device)
    return best[1], best[2]


def describe(directory):
    kind, device = file_system(directory)
    memory_kib = int(first_line('/proc/meminfo', 'MemTotal').split()[0])
    try:
        write_cache = open(f'/sys/block/{os.path.basename(device)}/queue/write_cache',
                           encoding='utf-8').read().strip()
    except OSError:
        write_cache = 'unknown'
    return {
        'cpu': first_line('/proc/cpuinfo', 'model name'),
        'cores': len(os.sched_getaffinity(0)),
        'memory_gib': round(memory_kib / 2**20, 1),
        'kernel': platform.release(),
        'file_system': kind,
        'device': device,
        'write_cache': write_cache,
        'date': time.strftime('%Y-%m-%d %H:%M:%S %Z'),
        'load_before': round(os.getloadavg()[0], 2),
    }


def lane_cpu():
    """The CPU that both we and fio are pinned to: the last one we may use."""
    return max(os.sched_getaffinity(0))


class HugePages:
    """Reserves 2 MiB pages while it is entered; without root it finds what is there."""

    def __init__(self, count):
        self.count = count
        self.before = None
        self.free = 0

    def __enter__(self):
        try:
            with open(HUGE_PAGES_FILE, encoding='utf-8') as file:
                reserved = int(file.read())
            free = int(first_line('/proc/meminfo', 'HugePages_Free') or 0)
            if free < self.count:
                with open(HUGE_PAGES_FILE, 'w', encoding='utf-8') as file:
                    file.write(str(reserved + self.count - free))
                self.before = reserved
        except (OSError, ValueError):
            pass
        self.free = int(first_line('/proc/meminfo', 'HugePages_Free') or 0)
        return self

    def __exit__(self, *_):
        if self.before is not None:
            with open(HUGE_PAGES_FILE, 'w', encoding='utf-8') as file:
                file.write(str(self.before))

    @property
    def enough(self):
        return self.free >= self.count


def run_json(command, timeout=900, env=None):
    """Runs a program that prints JSON on its standard output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, check=False, env=env)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: "
                           f"{(done.stderr or done.stdout).strip()[-800:]}")
    at = done.stdout.find('{')
    return json.loads(done.stdout[at:])


def drop_page_cache():
    """Makes start-up read from the drive. Needs root; returns whether it was done."""
    try:
        os.sync()
        with open('/proc/sys/vm/drop_caches', 'w', encoding='utf-8') as file:
            file.write('1')
        return True
    except OSError:
        return False
