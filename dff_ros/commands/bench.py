# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bench`: latency of frames at a camera's rate, for each kind of refresh."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import cast

from dff_ros.config import REFRESHES, DffConfig, replace, walk
from dff_ros.flags import add_flags, given_flags, seed

SUMMARY = "Measure the latency of frames at a camera's rate, with key frames made inline and by a worker."

_SETTINGS = [
    parameter.name
    for parameter in walk(DffConfig)
    if parameter.name != 'refresh' and not parameter.name.startswith('overlay.')
]

_NAMES = (
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
"""Rows of the table, as `_cells` gives them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        '--rate',
        type=_above_zero,
        default=30.0,
        metavar='HZ',
        help='frames that the camera gives in a second (default: 30)',
    )
    parser.add_argument(
        '--refresh',
        type=_refreshes,
        default=REFRESHES,
        metavar='KINDS',
        help=f'kinds of refresh to compare, separated by commas (default: {",".join(REFRESHES)})',
    )
    parser.add_argument(
        '--seconds',
        type=_above_zero,
        default=20.0,
        metavar='S',
        help='time for each kind, in turns of 2 s (default: 20)',
    )
    parser.add_argument(
        '--data',
        default='street',
        metavar='SOURCE',
        help='what the camera sees, as in dff run (default: street)',
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument(
        '--size', type=_size, metavar='WIDTHxHEIGHT', help='size of the street (default: 480x360)'
    )
    parser.add_argument('--seed', type=seed, default=0, metavar='N', help='seed of the street (default: 0)')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON instead of a table')
    add_flags(parser.add_argument_group('settings'), DffConfig, _SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from dff_ros.bench import run_bench
    from dff_ros.sources import STREET, open_source

    config = replace(DffConfig(), given_flags(args))
    fps = args.rate if args.data == STREET else None
    source = open_source(args.data, split=args.split, seed=args.seed, size=args.size, fps=fps)
    report = run_bench(config, args.refresh, source, args.rate, args.seconds)
    if args.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        _print_table(report)
    return 0


def _print_table(report: Mapping[str, object]) -> None:
    from rich.console import Console
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
    for name, *cells in zip(_NAMES, *map(_cells, rows), strict=True):
        table.add_row(name, *cells)
    console = Console()
    console.print(title, soft_wrap=True, highlight=False)
    console.print(table)
    console.print(
        f'{report["runtime"]}, {report["cores"]} cores, load {report["load_average"]} before',
        highlight=False,
    )


def _cells(row: Mapping[str, object]) -> list[str]:
    latency = cast('Mapping[str, float | None]', row['latency_ms'])
    missed = cast('Mapping[str, int]', row['missed'])
    reasons = ', '.join(f'{number} {reason}' for reason, number in missed.items() if number)
    second = row['refresh_threads']
    figures = [*latency.values(), row['p99_over_p50'], row['age_frames_mean']]
    return [
        f'{row["num_threads"]}' + ('' if second is None else f' + {second}'),
        str(row['answered']),
        reasons or '0',
        str(row['key_frames']),
        *('-' if value is None else f'{value:.1f}' for value in figures),
    ]


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1e5:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected a number above 0, at most 100000')
    return value


def _refreshes(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(',')))
    unknown = [name for name in names if name not in REFRESHES]
    if unknown:
        raise argparse.ArgumentTypeError(f'got {unknown[0]!r}, known are {", ".join(REFRESHES)}')
    return names


def _size(text: str) -> tuple[int, int]:
    """(height, width) of WIDTHxHEIGHT."""
    found = re.fullmatch(r'([1-9]\d{1,4})x([1-9]\d{1,4})', text)
    if not found:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected WIDTHxHEIGHT, as 480x360')
    return int(found[2]), int(found[1])
