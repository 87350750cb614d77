# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bag`: answer recordings (rosbag2) as the node would, into new recordings, without ROS."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.bag_job import PART_FRAMES, STORAGES, BagJob, BagOptions, Progress
from dff_ros.flags import add_config_flags, config_from_flags, positive

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from dff_ros.bag_jobs import Outcome

SUMMARY = 'Answer recordings (rosbag2: MCAP, sqlite3) as the node would, into new recordings.'
EXIT_SOME_FAILED = 1

_AUTO = 'auto'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        'bags',
        metavar='IN',
        nargs='+',
        type=Path,
        help='recording: its folder, or a .mcap or .db3 file; or a folder of recordings',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='OUT',
        help='new recording; of several, the folder for them',
    )
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='TOPIC',
        help='images to answer, each topic a camera; may be repeated, or all (default: the only one)',
    )
    parser.add_argument('--storage', choices=STORAGES, default='', help='of OUT (default: that of IN)')
    parser.add_argument('--outputs-only', action='store_true', help='leave the messages of IN out')
    parser.add_argument('--overlay', action='store_true', help='write dff/overlay too')
    parser.add_argument('--overwrite', action='store_true', help='begin anew, whatever is at OUT')
    parser.add_argument(
        '--part-frames',
        type=positive,
        default=PART_FRAMES,
        metavar='N',
        help='images in each file of OUT, and most that are answered again after a run was ended (default: '
        '%(default)s)',
    )
    spread = parser.add_mutually_exclusive_group()
    spread.add_argument(
        '--jobs', type=positive, metavar='N', help='recordings at a time (default: one for each core)'
    )
    spread.add_argument(
        '--cluster',
        nargs='?',
        const=_AUTO,
        metavar='ADDRESS',
        help='spread them over the machines of a Ray cluster (default address: auto)',
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON instead of a table')
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Answer them; 0, or 1 where some of several recordings failed."""
    from rich.console import Console

    from dff_ros.bag_jobs import find_bags, output_paths

    bags, are_many = find_bags(args.bags)
    jobs = _jobs(args, bags, output_paths(bags, args.out, are_many=are_many))
    console = Console(stderr=True)
    with _bars(console) as bars:
        tell = _teller(bars, console)
        if not are_many:
            summary = _answer_one(jobs[0], tell)
            outcomes: list[Outcome] = []
        else:
            outcomes = _answer_many(args, jobs, tell)
    if not are_many:
        _show([summary], args.json, summary)
        return 0
    return _show_many(outcomes, args.json)


def _jobs(args: argparse.Namespace, bags: Sequence[Path], outs: Sequence[Path]) -> list[BagJob]:
    options = BagOptions(
        topics=tuple(args.topic),
        storage=args.storage,
        outputs_only=args.outputs_only,
        overlay=args.overlay,
        part_frames=args.part_frames,
        overwrite=args.overwrite,
    )
    config = config_from_flags(args)
    return [BagJob(bag, out, config, options) for bag, out in zip(bags, outs, strict=True)]


def _answer_one(job: BagJob, tell: Callable[..., None]) -> dict[str, object]:
    from dff_ros.bag_run import answer_bag

    return answer_bag(job, lambda told: tell(job, told))


def _answer_many(args: argparse.Namespace, jobs: list[BagJob], tell: Callable[..., None]) -> list[Outcome]:
    from dff_ros.backends.base import available_cores
    from dff_ros.bag_jobs import answer_in_processes, answer_on_cluster, with_threads

    if args.cluster is not None:
        num_threads = jobs[0].config.num_threads or 1
        return answer_on_cluster(with_threads(jobs, num_threads), args.cluster, num_threads, tell)
    num_processes = min(args.jobs or available_cores(), len(jobs))
    num_threads = max(1, available_cores() // num_processes)
    return answer_in_processes(with_threads(jobs, num_threads), num_processes, tell)


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn('{task.fields[rate]}')
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    return Progress(*columns, console=console)


def _teller(bars: Bars, console: Console) -> Callable[..., None]:
    """Shows the progress of each recording, and warnings above it."""
    tasks: dict[Path, TaskID] = {}

    def tell(job: BagJob, told: Progress | str | Outcome) -> None:
        if isinstance(told, str):
            console.print(f'warning: {told}', soft_wrap=True, highlight=False, markup=False)
        elif isinstance(told, Progress):
            if job.source not in tasks:
                tasks[job.source] = bars.add_task(job.source.name, total=told.total, rate='')
            task = tasks[job.source]
            speed = next((t.speed for t in bars.tasks if t.id == task), None)
            rate = '' if speed is None else f'{speed:.0f} messages/s'
            bars.update(task, completed=told.done, total=told.total, rate=rate)
        elif job.source in tasks:  # its outcome: progress is not told of the last messages
            _end(bars, tasks[job.source], told)

    return tell


def _end(bars: Bars, task: TaskID, outcome: Outcome) -> None:
    if outcome.summary is None:
        bars.update(task, rate='failed')
    else:
        total = next(shown.total for shown in bars.tasks if shown.id == task)
        bars.update(task, completed=total)
    bars.stop_task(task)


def _show_many(outcomes: Sequence[Outcome], as_json: bool) -> int:
    failed = [outcome for outcome in outcomes if outcome.summary is None]
    rows = [
        outcome.summary
        or {'bag': str(outcome.job.source), 'out': str(outcome.job.out), 'error': outcome.failure}
        for outcome in outcomes
    ]
    _show(rows, as_json, {'bags': rows, 'failed': len(failed)})
    return EXIT_SOME_FAILED if failed else 0


def _show(rows: Sequence[dict[str, object]], as_json: bool, report: dict[str, object]) -> None:
    if as_json:
        print(json.dumps(report, indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    columns = ('messages', 'images', 'answered', 'key_frames', 'fps')
    done = Table('recording', *(column.replace('_', ' ') for column in columns), 'dropped')
    failed = Table('failed', 'reason')
    for row in rows:
        name = Path(str(row['bag'])).name
        if 'error' in row:
            failed.add_row(name, str(row['error']))
            continue
        dropped = row.get('dropped')
        told = dropped.items() if isinstance(dropped, dict) else ()
        drops = ', '.join(f'{reason} {number}' for reason, number in told)
        is_kept = row.get('finished_before')
        done.add_row(
            name, *(str(row.get(column, '')) for column in columns), 'finished before' if is_kept else drops
        )
    for table in (done, failed):
        if table.row_count:
            Console().print(table)
    for row in rows:
        if 'error' not in row:
            print(f'wrote {row["out"]}' if not row.get('finished_before') else f'kept {row["out"]}')
