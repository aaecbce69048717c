"""Where the cycles of a packet go: each function's share of the lane's CPU while it takes datagrams from
memif, put together by stage; and beside it what each stage costs by itself, in the micro-benchmarks."""

import json
import os
import re
import shutil
import subprocess
import time

from machine import HugePages, first_line, lane_cpu, run_json
from packets import HUGE_PAGES, Sender, sender_command, until_there, without
from report import Row, median

# Stage of a function of the lane, by the first pattern that its name has.
STAGES = [
    ('waiting', r'Idler::pause'),
    ('receive', r'memif|rte_|DpdkQueue|DpdkPort|mempool|common_ring|ethdev'),
    ('decode', r'decode_|checksum'),
    ('door, hash, route', r'partition_hash|md5|MD5|Door|StreamRoute|RouteTable|take_datagram|take_record'),
    ('append: CRC', r'crc32'),
    ('append: copy, encode', r'memcpy|memmove|encode_record|record_bytes|GroupCore::append|ShardGroup::append|needed_units'
                             r'|append_from_door|receive_from|::find'),
    ('seal', r'seal|close_frame|close_buffer|go_direct'),
    ('write, commit, manifest', r'GroupCore|ShardGroup|NullEngine|FramePool|StateLog|JournalRing|Journal|GroupTable|'
                                r'ShardLog|memset|operator new|operator delete|malloc|free|mi_|_int_|Histogram'
                                r'|observe_commit'),
    ('the turn, the clock', r'Lane::|clock_gettime|SystemClock|vdso|RouteTable|Idler'),
    ('kernel', r'^\[k\]'),
]
# What the micro-benchmarks say of a stage: program, filter with the payload's size, items of that stage.
MICRO = [
    ('decode', 'micro_wire', 'decode_packets/{frame}$'),
    ('door, hash, route', 'micro_wire', 'take_at_door/source/{frame}$'),
    ('route', 'micro_wire', 'find_shard/16$'),
    ('append to commit', 'micro_storage', 'append_direct/{payload}$'),
    ('of it CRC', 'micro_storage', 'crc/{payload}$'),
]
HEADERS = 42


def stage_of(symbol):
    """A function without a name in its library is told by the library."""
    if symbol.startswith('[k]'):
        return 'kernel'
    for stage, pattern in STAGES:
        if re.search(pattern, symbol):
            return stage
    return 'other'


def tsc_ghz():
    """Cycles of the clock that the CPU's name or frequency tells of."""
    return float(first_line('/proc/cpuinfo', 'cpu MHz') or 0) / 1000


def profile(pid, seconds, place):
    """Samples of each function of the lane's thread. Needs perf."""
    lane = next(task for task in os.listdir(f'/proc/{pid}/task')
                if open(f'/proc/{pid}/task/{task}/comm', encoding='utf-8').read().strip() == 'lane-0')
    # The plain clock event works where a virtual machine has no counters of its own.
    done = subprocess.run(['perf', 'record', '-q', '-e', 'cpu-clock', '-F', '4000', '-t', lane, '-o', place, '--',
                           'sleep', str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f'perf record failed: {done.stdout.strip()[-300:]}; root or '
                           'kernel.perf_event_paranoid ≤ 1 is needed')
    report = subprocess.run(['perf', 'report', '-i', place, '--stdio', '--sort', 'dso,symbol', '--no-children', '-g',
                             'none', '--percent-limit', '0'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            text=True, check=True).stdout
    shares = {}
    for line in report.splitlines():
        found = re.match(r'\s*([\d.]+)%\s+(\S+)\s+(\[k\]|\[\.\])\s+(.*\S)', line)
        if found:
            share, library, space, name = found.groups()
            name = re.sub(r'(\s+-)+$', '', name)
            # What the kernel does on this CPU meanwhile is told apart.
            name = f'[k] {name}' if space == '[k]' else f'{library} {name}' if name.startswith('0x') else name
            shares[name] = shares.get(name, 0) + float(share) / 100
    if not shares:
        raise RuntimeError('perf saw no sample of the lane')
    return shares


def run_lane(settings, socket, payload, log):
    """One packet_path with its sender, profiled while it is saturated."""
    command = [settings.program('bench/packet_path'), '--device',
               f'net_memif0,role=server,socket={socket},socket-abstract=no', '--cpu', str(lane_cpu()),
               '--seconds', str(settings.seconds + 4)]   # longer than the profile
    without(socket)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lane:
        until_there(socket, lane)
        place = os.path.join(settings.directory, 'cycles.perf')
        try:
            with Sender(sender_command(socket, payload, min(os.sched_getaffinity(0))), log):
                time.sleep(2)   # the sender's start, and packet_path's time to warm
                shares = profile(lane.pid, min(settings.seconds, 3), place)
                out, err = lane.communicate(timeout=120)
        finally:
            lane.kill()
            if os.path.exists(place):
                os.remove(place)
            if os.path.exists(place + '.old'):
                os.remove(place + '.old')
    if lane.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {lane.returncode}: {err.strip()[-500:]}")
    return json.loads(out[out.index('{'):]), shares, ' '.join(command)


def micro(settings, payload):
    """Nanoseconds for one packet of each stage measured by itself."""
    costs = {}
    for stage, program, pattern in MICRO:
        wanted = pattern.format(frame=payload + HEADERS, payload=payload)
        result = run_json([settings.program('bench/' + program), '--benchmark_format=json', '--benchmark_min_time=0.2',
                           f'--benchmark_filter={wanted}'])
        if not result['benchmarks']:
            raise RuntimeError(f'{program} has no benchmark {wanted}')
        one = result['benchmarks'][0]
        costs[stage] = 1e9 / one['items_per_second'] if 'items_per_second' in one else one['cpu_time']
    return costs


def rows_cycles(settings, say):
    for program, package in (('dpdk-testpmd', 'dpdk'), ('perf', 'linux-perf')):
        if shutil.which(program) is None:
            raise RuntimeError(f'{program} is needed: apt-get install {package}')
    log = os.path.join(settings.directory, 'programs.log')
    socket = os.path.join(settings.directory, 'memif.sock')
    ghz = tsc_ghz()
    rows = []
    with HugePages(HUGE_PAGES):
        for payload in (1400, 100):
            whole, stages, functions, commands = [], [], [], []
            for _ in range(min(settings.rounds, 3)):
                result, shares, command = run_lane(settings, socket, payload, log)
                # Turns that found nothing are the sender's, not the packet's.
                whole.append(result['busy_ns_per_packet'])
                functions.append({name: share for name, share in sorted(shares.items(), key=lambda one: -one[1])[:40]})
                by_stage = {}
                for symbol, share in shares.items():
                    by_stage[stage_of(symbol)] = by_stage.get(stage_of(symbol), 0) + share
                stages.append({stage: share * 1e9 / result['records_per_s'] for stage, share in by_stage.items()})
                commands = [command]
            costs = micro(settings, payload)
            parts = {stage: median([one.get(stage, 0) for one in stages])
                     for stage in [name for name, _ in STAGES] + ['other']}
            alone = sum(cost for stage, cost in costs.items() if stage != 'of it CRC')
            took = median(whole)
            for stage, cost in parts.items():
                say(f'  {payload:5} B  {stage:26} {cost:7.1f} ns {cost * ghz:8.0f} cycles')
            for stage, cost in costs.items():
                say(f'  {payload:5} B  alone: {stage:19} {cost:7.1f} ns {cost * ghz:8.0f} cycles')
            say(f'  {payload:5} B  the whole packet           {took:7.1f} ns {took * ghz:8.0f} cycles')
            rest = took - parts['receive']
            shown = [stage for stage in parts if parts[stage] >= 0.5 and stage != 'waiting']
            rows.append(Row(f'cycles of a packet of {payload} B at {ghz:.2f} GHz: ' + '; '.join(shown),
                            ' + '.join(f'{parts[stage] * ghz:,.0f}' for stage in shown)
                            + f' = {sum(parts[stage] for stage in shown) * ghz:,.0f}',
                            f'whole in busy turns {took * ghz:,.0f}, without receiving {rest * ghz:,.0f}; '
                            f'its stages alone {alone * ghz:,.0f}',
                            alone / rest if rest > 0 else None, '', None, commands,
                            {'stages_ns': stages, 'functions': functions, 'alone_ns': [alone], 'whole_ns': whole,
                             'micro_ns': costs}))
    return rows
