# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bench`: what a frame costs, stage by stage, against per-frame inference and equation (7); the node;
latency at a camera's rate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dff_ros.config import BACKENDS, PRECISIONS, REFRESHES, DffConfig, replace, walk
from dff_ros.errors import ConfigError
from dff_ros.flags import above_zero, add_flags, given_flags, image_size, intervals, positive, seed

if TYPE_CHECKING:
    from dff_ros.benchmark.runs import Sweep

SUMMARY = 'Measure stages, engine and node: speed against per-frame inference and equation (7), latency.'

_LISTED = ('refresh', 'backend', 'precision')
"""Settings that take several values here."""

_SETTINGS = [
    parameter.name
    for parameter in walk(DffConfig)
    if parameter.name not in _LISTED and not parameter.name.startswith('overlay.')
]
_DEFAULT_SIZE = (360, 480)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    _add_choices(parser, '--backends', BACKENDS, 'runtimes')
    _add_choices(parser, '--precisions', PRECISIONS, 'precisions')
    _add_choices(parser, '--refresh', REFRESHES, 'kinds of refresh')
    parser.add_argument(
        '--intervals',
        type=intervals,
        metavar='L,L',
        help='key intervals, all in one run (default: keyframe.interval)',
    )
    parser.add_argument(
        '--size',
        '--sizes',
        dest='sizes',
        type=_sizes,
        metavar='WIDTHxHEIGHT,..',
        help='sizes of the street (default: 480x360)',
    )
    parser.add_argument(
        '--each_task', action='store_true', help='rows for each task of the bundle alone, too'
    )
    parser.add_argument(
        '--seconds',
        type=above_zero,
        default=20.0,
        metavar='S',
        help='time for each row or kind of refresh (default: 20)',
    )
    parser.add_argument(
        '--minutes', type=positive, metavar='N', help='run the engine so long: what a frame costs each minute'
    )
    parser.add_argument('--node', action='store_true', help='measure the running node over DDS too')
    parser.add_argument(
        '--rate',
        type=above_zero,
        metavar='HZ',
        help='latency of frames at this rate, for each kind of refresh, and nothing else',
    )
    parser.add_argument(
        '--data', default='street', metavar='SOURCE', help='images, as in dff run (default: street)'
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument('--seed', type=seed, default=0, metavar='N', help='seed of the street (default: 0)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the figures there, as JSON')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON instead of a table')
    add_flags(parser.add_argument_group('settings'), DffConfig, _SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from dff_ros.benchmark.report import make_room, print_report, write_json

    _check_mode(args)
    if args.out is not None:
        make_room(args.out)
    config = replace(DffConfig(), given_flags(args))
    if args.rate is not None:
        report = _run_rate(args, config)
    elif args.minutes is not None:
        report = _run_minutes(args, config)
    else:
        report = _run_rows(args, config)
    if args.out is not None:
        write_json(args.out, report)
    if args.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(report)
    return 0


def _check_mode(args: argparse.Namespace) -> None:
    """ConfigError where flags of several measurements are given: one would be left out silently."""
    modes = {'--rate': args.rate, '--minutes': args.minutes, '--node': args.node or None}
    given = [flag for flag, value in modes.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f'{" and ".join(given)} are measurements of their own: give one of them')
    if args.rate is not None and (args.intervals or args.each_task):
        raise ConfigError('--rate takes one interval (--interval) and one set of tasks (--tasks)')


def _run_rows(args: argparse.Namespace, config: DffConfig) -> dict[str, object]:
    """One configuration: its row, with the header. Several: the header, and `rows`."""
    from dff_ros.benchmark.runs import header, run_sweep

    told = header(_command())
    sweep = _sweep(args, config)
    with _bar() as tell:
        rows = run_sweep(sweep, tell)
    if args.node:
        _add_node(args, config, sweep, rows)
    return {**rows[0], **told} if len(rows) == 1 else {**told, 'rows': rows}


def _sweep(args: argparse.Namespace, config: DffConfig) -> Sweep:
    from dff_ros.benchmark.runs import Sweep

    listed = {name: _listed(args, name, (getattr(config, name),)) for name in _LISTED}
    configs = [
        replace(config, dict(zip(listed, values, strict=True)))
        for values in itertools.product(*listed.values())
    ]
    if args.each_task:
        configs = [
            replace(one, {'tasks': tasks}) for one in configs for tasks in (*_tasks_of(config), config.tasks)
        ]
    is_street = args.data == 'street'
    if args.sizes and not is_street:
        raise ConfigError(f'--sizes is for the street; {args.data} has a size of its own')
    sizes = (args.sizes or (_DEFAULT_SIZE,)) if is_street else ()
    chosen = args.intervals or (config.keyframe.interval,)
    return Sweep(configs, sizes, chosen, args.seconds, args.data, args.split, args.seed)


def _tasks_of(config: DffConfig) -> Sequence[str]:
    from dff_ros.benchmark.models import PREFIX
    from dff_ros.bundle import open_bundle

    is_untrained = config.bundle.startswith(PREFIX)
    tasks = () if is_untrained else open_bundle(config.bundle, verify=False).spec.tasks
    return tasks if len(tasks) > 1 else ()


def _run_minutes(args: argparse.Namespace, config: DffConfig) -> dict[str, object]:
    from dff_ros.benchmark.runs import header, run_minutes

    told = header(_command())
    sweep = _sweep(args, config)
    if len(sweep.configs) * max(1, len(sweep.sizes)) * len(sweep.intervals) != 1:
        raise ConfigError('--minutes takes one size, interval, backend, precision and refresh')
    chosen = replace(sweep.configs[0], {'keyframe.interval': sweep.intervals[0]})
    with _bar() as tell:
        return {**told, **run_minutes(chosen, sweep, args.minutes, tell)}


def _run_rate(args: argparse.Namespace, config: DffConfig) -> dict[str, object]:
    from dff_ros.benchmark.rates import run_bench
    from dff_ros.sources import STREET, open_source

    if args.sizes and len(args.sizes) > 1:
        raise ConfigError('--rate takes one of --sizes')
    size = args.sizes[0] if args.sizes else None
    fps = args.rate if args.data == STREET else None
    source = open_source(args.data, split=args.split, seed=args.seed, size=size, fps=fps)
    listed = {name: _listed(args, name, (getattr(config, name),)) for name in ('backend', 'precision')}
    if any(len(values) > 1 for values in listed.values()):
        raise ConfigError('--rate takes one of --backends and one of --precisions')
    config = replace(config, {name: values[0] for name, values in listed.items()})
    return run_bench(config, args.refresh or REFRESHES, source, args.rate, args.seconds)


def _add_node(
    args: argparse.Namespace, config: DffConfig, sweep: Sweep, rows: Sequence[dict[str, object]]
) -> None:
    """The node's figures go to the row of each configuration; it runs in a process of its own."""
    from dff_ros.benchmark.node import measure_node, node_arguments

    for row in rows:
        width, height = cast('list[int]', row['size'])
        settings = {
            **given_flags(args),
            'keyframe.interval': row['interval'],
            'refresh': row['refresh'],
            'backend': row['backend'],
            'precision': row['precision'],
            'tasks': ','.join(cast('list[str]', row['tasks'])),
        }
        size = (height, width) if args.data == 'street' else None
        words = node_arguments(settings, size, source=args.data, split=args.split, seed=args.seed)
        row.update(measure_node(words))


def _listed(args: argparse.Namespace, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a setting that takes several here."""
    values: tuple[str, ...] | None = getattr(args, name if name == 'refresh' else f'{name}s')
    return values or default


def _command() -> str:
    """How this was called; of absolute paths only the last name, the rest is one machine's."""
    words = [Path(word).name if word.startswith('/') else word for word in sys.argv[1:]]
    return f'dff {shlex.join(words)}'


@contextmanager
def _bar() -> Iterator[Callable[[str, float], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task('bench', total=1.0)
        yield lambda text, share: bars.update(task, description=text, completed=share)


def _add_choices(parser: argparse.ArgumentParser, flag: str, known: Sequence[str], what: str) -> None:
    def convert(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(',')))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f'got {unknown[0]!r}, known are {", ".join(known)}')
        return names

    parser.add_argument(
        flag, type=convert, metavar='A,B', help=f'{what} to compare, of {", ".join(known)} (default: one row)'
    )


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(image_size(part) for part in text.split(','))
