# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The figures of `dff bench` as tables for people, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dff_ros.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, object]

_STAGES = {
    'extract': 'extract',
    'propagate': 'propagate',
    'flow': '- flow',
    'warp': '- warp',
    'correct': '- correct',
    'predict_segmentation': 'segmentation',
    'predict_detection': 'detection',
}
_RATE_NAMES = (
    'threads',
    'frames answered',
    'missed',
    'key frames',
    'latency p50, ms',
    'p90, ms',
    'p99, ms',
    'longest, ms',
    'p99 / p50',
    'age, mean frames',
)
"""Rows of the table of latencies at a rate, as `_rate_cells` gives them."""


def print_report(report: Row) -> None:
    """Any report of `dff bench`."""
    from rich.console import Console

    console = Console()
    if 'rate' in report:
        _print_rate(console, report)
    elif 'minutes' in report:
        _print_minutes(console, report)
    else:
        rows = cast('Sequence[Row]', report.get('rows', [report]))
        for row in rows:
            _print_row(console, row)


def _print_row(console: Console, row: Row) -> None:
    from rich.table import Table

    width, height = cast('list[int]', row['size'])
    kind = ' (untrained)' if row['is_untrained'] else ''
    title = f'{row["bundle"]}{kind}, {width}x{height}, {", ".join(cast("list[str]", row["tasks"]))}'
    table = Table('', 'ms', title=title, title_justify='left')
    table.columns[1].justify = 'right'
    stages = cast('Mapping[str, float | None]', row['stages_ms'])
    for name, shown in _STAGES.items():
        if stages[name] is not None:
            table.add_row(shown, f'{stages[name]:.2f}')
    latency = cast('Mapping[str, float]', row['latency_ms'])
    table.add_section()
    table.add_row('frame by frame', f'{1e3 / cast(float, row["per_frame_fps"]):.2f}')
    table.add_row(f'Deep Feature Flow, l = {row["interval"]}', f'{1e3 / cast(float, row["dff_fps"]):.2f}')
    table.add_row('- p50, p99, longest', ', '.join(f'{latency[name]:.1f}' for name in ('p50', 'p99', 'max')))
    console.print(table)
    print(
        f'{row["dff_fps"]} frames/s against {row["per_frame_fps"]}: {row["speedup"]} times; equation (7) '
        f'says {row["eq7"]}'
    )
    if 'peak_fps' in row:
        print(
            f'node: {row["peak_fps"]} frames/s at most, {row["node_overhead_ms"]} ms besides the engine, '
            f'{row["missed"]} missed'
        )
    print(
        f'{row["runtime"]} on {row["device"]}, {row["precision"]}, {row["threads"]} threads, '
        f'{row["cores"]} cores, {row["memory_mb"]} MB'
    )


def _print_minutes(console: Console, report: Row) -> None:
    from rich.table import Table

    table = Table('minute', 'frames', 'ms per frame', 'p50', 'p99', 'MB')
    for row in cast('Sequence[Row]', report['minutes']):
        latency = cast('Mapping[str, float]', row['latency_ms'])
        cells = row['minute'], row['frames'], row['ms_per_frame'], latency['p50'], latency['p99']
        table.add_row(*map(str, (*cells, row['memory_mb'])))
    console.print(table)
    print(f'last minute over first: {report["last_over_first"]}')


def _print_rate(console: Console, report: Row) -> None:
    from rich.table import Table

    width, height = cast('list[int]', report['size'])
    title = (
        f'{report["bundle"]}, {width}x{height} at {report["rate"]:g} Hz, key frames {report["key_frames"]}'
    )
    table = Table()
    rows = cast('list[dict[str, object]]', report['rows'])
    table.add_column('refresh')
    for row in rows:
        table.add_column(str(row['refresh']), justify='right')
    for name, *cells in zip(_RATE_NAMES, *map(_rate_cells, rows), strict=True):
        table.add_row(name, *cells)
    console.print(title, soft_wrap=True, highlight=False)
    console.print(table)
    console.print(
        f'{report["runtime"]}, {report["cores"]} cores, load {report["load_average"]} before',
        highlight=False,
    )


def _rate_cells(row: Row) -> list[str]:
    latency = cast('Mapping[str, float | None]', row['latency_ms'])
    missed = cast('Mapping[str, int]', row['missed'])
    reasons = ', '.join(f'{number} {reason}' for reason, number in missed.items() if number)
    second = row['refresh_threads']
    figures = cast('list[float | None]', [*latency.values(), row['p99_over_p50'], row['age_frames_mean']])
    return [
        f'{row["num_threads"]}' + ('' if second is None else f' + {second}'),
        str(row['answered']),
        reasons or '0',
        str(row['key_frames']),
        *('-' if value is None else f'{value:.1f}' for value in figures),
    ]


def make_room(path: Path) -> None:
    """Make the folder of `--out`, and see that the file can be written, before the work; else ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('a', encoding='utf-8'):
            pass
    except OSError as error:
        raise ConfigError(f'--out: cannot write {path}: {error.strerror}; give another name') from error


def write_json(path: Path, report: object) -> None:
    """Write a report where `--out` says; ConfigError where that is not possible."""
    text = json.dumps(report, indent=2, allow_nan=False) + '\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'--out: cannot write {path}: {error.strerror}') from error
