"""Rows of the result and how they are shown: as a table, as JSON, as Markdown."""

import json
import statistics
from dataclasses import asdict, dataclass, field


@dataclass
class Row:
    name: str
    ours: str                      # for people, with its unit
    limit: str                     # the machine's or the peer's, measured in the same run
    ratio: float | None = None     # ours / limit, oriented so that the goal reads "at least"
    goal: str = ''
    met: bool | None = None        # None: no goal
    commands: list = field(default_factory=list)
    samples: dict = field(default_factory=dict)


def median(values):
    return statistics.median(values)


def mb(bytes_per_s):
    return f'{bytes_per_s / 1e6:,.0f} MB/s'


def micro(value_us):
    return f'{value_us:,.0f} µs' if value_us < 10000 else f'{value_us / 1000:,.1f} ms'


def cells(row):
    ratio = '–' if row.ratio is None else f'{row.ratio:.2f}'
    met = '–' if row.met is None else ('yes' if row.met else 'NO')
    return [row.name, row.ours, row.limit, ratio, row.goal or '–', met]


HEAD = ['row', 'ours', 'limit or peer', 'ratio', 'goal', 'met']


def table(rows):
    lines = [HEAD] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = []
    for number, line in enumerate(lines):
        text.append('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        if number == 0:
            text.append('  '.join('-' * width for width in widths))
    return '\n'.join(text)


def markdown(machine, rows):
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
             f"Linux {machine['kernel']}, {machine['file_system']} on {machine['device']} "
             f"({machine['write_cache']}); {machine['date']}; load before {machine['load_before']}",
             '', '| ' + ' | '.join(HEAD) + ' |', '|' + '---|' * len(HEAD)]
    lines += ['| ' + ' | '.join(cells(row)) + ' |' for row in rows]
    return '\n'.join(lines)


def as_json(machine, rows, settings):
    return json.dumps({'machine': machine, 'settings': settings, 'rows': [asdict(row) for row in rows]},
                      indent=2, ensure_ascii=False)
