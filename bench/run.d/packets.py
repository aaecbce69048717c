"""The packet path with drives that cost nothing, beside dpdk-testpmd receiving the same packets."""

import json
import os
import re
import shutil
import subprocess
import time

from machine import HugePages, lane_cpu
from report import Row, median

GOAL = 0.6
HEADERS = 42   # Ethernet, IPv4, UDP
HUGE_PAGES = 256


def eal(name, cpu, vdev):
    """testpmd's main thread prints; its one other thread forwards."""
    return ['dpdk-testpmd', '--file-prefix', f'penstock-bench-{os.getpid()}-{name}', '--no-pci', '--no-telemetry',
            '--in-memory', '-m', '128', '--lcores', f'0@{cpu},1@{cpu}', '--vdev', vdev, '--']


def sender_command(socket, payload, cpu):
    return eal('tx', cpu, f'net_memif0,role=client,socket={socket},socket-abstract=no') + \
        ['--forward-mode=txonly', f'--txpkts={payload + HEADERS}', '--total-num-mbufs=4096', '--tx-ip=198.18.0.2,198.18.0.1',
         '--auto-start']


class Sender:
    """Sends to the memif socket from the moment that somebody serves it until the block ends."""

    def __init__(self, command, log):
        self.command, self.log_path = command, log

    def __enter__(self):
        with open(self.log_path, 'ab') as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=out, stderr=out)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def without(socket):
    if os.path.exists(socket):
        os.remove(socket)


def until_there(socket, server):
    until = time.monotonic() + 20
    while not os.path.exists(socket) and server.poll() is None and time.monotonic() < until:
        time.sleep(0.05)


def ours(settings, socket, payload, tx_cpu, log):
    command = [settings.program('bench/packet_path'), '--device',
               f'net_memif0,role=server,socket={socket},socket-abstract=no', '--cpu', str(lane_cpu()),
               '--seconds', str(settings.seconds)]
    sender = sender_command(socket, payload, tx_cpu)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lane:
        until_there(socket, lane)
        with Sender(sender, log):
            out, err = lane.communicate(timeout=120)
    if lane.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {lane.returncode}: {err.strip()[-500:]}")
    return json.loads(out[out.index('{'):]), [' '.join(command), ' '.join(sender)]


def limit(settings, socket, payload, tx_cpu, log):
    """Packets per second that testpmd takes from the same socket and throws away."""
    command = eal('rx', lane_cpu(), f'net_memif0,role=server,socket={socket},socket-abstract=no') + \
        ['--forward-mode=rxonly', '--total-num-mbufs=8192', '--stats-period=1', '--auto-start']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as receiver:
        try:
            until_there(socket, receiver)
            with Sender(sender_command(socket, payload, tx_cpu), log):
                time.sleep(3 + settings.seconds)
        finally:
            receiver.kill()
            said = receiver.communicate()[0]
    rates = [int(found) for found in re.findall(r'Rx-pps:\s+(\d+)', said)]
    rates = [rate for rate in rates if rate > 0][1:]
    if not rates:
        raise RuntimeError(f"{' '.join(command)}: no packet came: {said[-500:]}")
    return median(rates), ' '.join(command)


def rows_packets(settings, say):
    if shutil.which('dpdk-testpmd') is None:
        raise RuntimeError('dpdk-testpmd is needed: apt-get install dpdk')
    log = os.path.join(settings.directory, 'programs.log')
    tx_cpu = min(os.sched_getaffinity(0))
    socket = os.path.join(settings.directory, 'memif.sock')
    rows = []
    with HugePages(HUGE_PAGES) as pages:
        say(f'packets: lane on CPU {lane_cpu()}, sender on CPU {tx_cpu}, {pages.free} huge pages')
        for payload in (1400, 100):
            taken, limits, commands = [], [], []
            for turn in range(settings.rounds):
                without(socket)
                result, commands = ours(settings, socket, payload, tx_cpu, log)
                without(socket)
                rate, peer = limit(settings, socket, payload, tx_cpu, log)
                taken.append(result)
                limits.append(rate)
                say(f"packets of {payload} B, round {turn + 1}: ours {result['records_per_s']:,.0f}/s, "
                    f"testpmd {rate:,.0f}/s")
                commands.append(peer)
            records = median([one['records_per_s'] for one in taken])
            ratio = median([a['records_per_s'] / b for a, b in zip(taken, limits)])
            rows.append(Row(f'packet path, datagrams of {payload} B over memif, drives that cost nothing, 1 lane',
                            f'{records:,.0f} records/s, {records * payload * 8 / 1e9:.2f} Gbit/s',
                            f'testpmd rxonly {median(limits):,.0f} packets/s', ratio, f'≥ {GOAL}', ratio >= GOAL,
                            commands, {'ours': taken, 'testpmd_packets_per_s': limits}))
    return rows
