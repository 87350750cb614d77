# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff data`: check a data set, render the simulated street as one, find boxes in video with a teacher."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.config import replace
from dff_ros.data.street_config import RenderConfig
from dff_ros.data.teacher_config import TeacherConfig
from dff_ros.flags import add_flags, given_flags
from dff_ros.training.joint_data_config import JointDataConfig

if TYPE_CHECKING:
    from rich.console import Console

    from dff_ros.data.check import CheckReport

SUMMARY = 'Check a data set, render the simulated street as one, or find boxes with a teacher.'

_CHECK = 'Find what is wrong with the files of a data set and say how to mend it.'
_RENDER = 'Write the simulated street as a data set of the folder layout.'
_TEACH = 'Write what a YOLOX detector (ONNX) finds in a video: boxes of cars and pedestrians to train with.'

_EXIT_FINDINGS = 1
_SHOWN_EXAMPLES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    tasks = parser.add_subparsers(dest='task', metavar='TASK', required=True)
    check = tasks.add_parser('check', help=_CHECK, description=_CHECK)
    check.add_argument('root', metavar='ROOT', type=Path, help='folder of the data set')
    check.add_argument(
        '--layout',
        choices=('folder', 'camvid', 'cityscapes', 'mot', 'vid'),
        help='how its files lie (default: recognised by them)',
    )
    check.add_argument('--json', action='store_true', help='print the report as JSON')
    render = tasks.add_parser('render-street', help=_RENDER, description=_RENDER)
    render.add_argument('root', metavar='ROOT', type=Path, help='folder to make')
    add_flags(render.add_argument_group('settings'), RenderConfig)
    teach = tasks.add_parser('teach-boxes', help=_TEACH, description=_TEACH)
    teach.add_argument(
        'video',
        metavar='VIDEO',
        help='video file, folder of images, or folder of such; VIDEO#FIRST-LAST: some frames (from 1)',
    )
    teach.add_argument(
        '--teacher', metavar='FILE', type=Path, required=True, help='YOLOX of the COCO classes, .onnx'
    )
    teach.add_argument('--out', metavar='FILE', type=Path, required=True, help='file to write, .json')
    teach.add_argument(
        '--video-cache',
        metavar='DIR',
        type=Path,
        default=Path(JointDataConfig().video_cache),
        help='folder for unpacked video files (default: %(default)s)',
    )
    add_flags(teach.add_argument_group('settings'), TeacherConfig)


def run(args: argparse.Namespace) -> int:
    """Check (exit code 1 where something must be mended), render, or find boxes."""
    return {'check': _check, 'render-street': _render, 'teach-boxes': _teach}[args.task](args)


def _check(args: argparse.Namespace) -> int:
    from rich.console import Console

    from dff_ros.data.check import check
    from dff_ros.training.progress import progress_bar

    with progress_bar('checking') as bar:
        report = check(args.root, args.layout, None if args.json else bar.show)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print(Console(), report)
    return 0 if report.is_ok else _EXIT_FINDINGS


def _render(args: argparse.Namespace) -> int:
    from dff_ros.data.write_street import write_street
    from dff_ros.training.progress import progress_bar

    config = replace(RenderConfig(), given_flags(args))
    with progress_bar('rendering') as bar:
        write_street(args.root, config, bar.show)
    print(f'wrote {args.root}; check it with: dff data check {args.root}')
    return 0


def _teach(args: argparse.Namespace) -> int:
    from dff_ros.data.box_table import SUFFIX, write_box_table
    from dff_ros.data.teach_boxes import teach_boxes, teacher_facts
    from dff_ros.data.teacher import Teacher
    from dff_ros.data.unlabelled import parse_request
    from dff_ros.output_files import check_outputs
    from dff_ros.training.progress import progress_bar

    config = replace(TeacherConfig(), given_flags(args))
    request = parse_request(args.video, 'VIDEO')
    check_outputs([request.path, args.teacher], {'--out': args.out}, {'--out': (SUFFIX,)})
    teacher = Teacher(args.teacher, config)
    with progress_bar('finding boxes') as bar:
        table = teach_boxes(request, teacher, args.video_cache, bar.show)
    write_box_table(args.out, table, teacher_facts(args.teacher, config))
    found = [boxes for video in table.videos for boxes in video.frames.values()]
    num_ignored = sum(int(boxes.is_ignored_N.sum()) for boxes in found)
    num_boxes = sum(len(boxes.is_ignored_N) for boxes in found) - num_ignored
    print(
        f'wrote {args.out}: {num_boxes} boxes and {num_ignored} to be ignored in {len(found)} frames; train '
        f'with them: --data.unlabelled "{request.path}={args.out}"'
    )
    return 0


def _print(console: Console, report: CheckReport) -> None:
    from rich.table import Table

    table = Table(title=f'{report.root}, layout {report.layout}', title_justify='left')
    for name in ('split', 'sequences', 'frames', 'labelled', 'boxes', 'ignored boxes', 'sizes'):
        table.add_column(name, justify='left' if name in ('split', 'sizes') else 'right')
    for split, found in report.splits.items():
        sizes = ', '.join(f'{width}x{height}' for height, width in sorted(found.sizes))
        counts = (found.num_sequences, found.num_frames, found.num_labelled)
        boxes = (found.num_boxes, found.num_ignored_boxes)
        table.add_row(split, *map(str, counts), *map(str, boxes), sizes)
    console.print(table)
    if any(found.num_labelled for found in report.splits.values()):
        _print_shares(console, report)
    _print_findings(console, report)


def _print_shares(console: Console, report: CheckReport) -> None:
    from rich.table import Table

    table = Table(title='share of the labelled pixels', title_justify='left', caption_justify='left')
    table.add_column('class')
    labelled = {split: found for split, found in report.splits.items() if found.num_labelled}
    for split in labelled:
        table.add_column(f'{split} %', justify='right')
    shares = [found.class_shares() for found in labelled.values()]
    for row, name in enumerate(next(iter(labelled.values())).class_names):
        table.add_row(name, *(f'{share[row]:.2f}' for share in shares))
    table.add_section()
    table.add_row('unlabelled, of all', *(f'{found.unlabelled_share():.2f}' for found in labelled.values()))
    console.print(table)


def _print_findings(console: Console, report: CheckReport) -> None:
    from dff_ros.data.findings import KINDS

    for kind, group in report.groups():
        word = 'must be fixed' if KINDS[kind].is_error else 'note'
        _line(console, f'{word}: {KINDS[kind].title} ({len(group)})')
        for finding in group[:_SHOWN_EXAMPLES]:
            _line(console, f'    {finding}')
        if len(group) > _SHOWN_EXAMPLES:
            _line(console, f'    ... and {len(group) - _SHOWN_EXAMPLES} more')
        _line(console, f'  fix: {KINDS[kind].fix}' if KINDS[kind].is_error else f'  {KINDS[kind].fix}')
    if report.is_ok:
        _line(console, 'nothing must be fixed')


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
