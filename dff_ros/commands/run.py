# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff run`: answer a video, a folder, a data set or the simulated street, without ROS."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.flags import add_config_flags, config_from_flags, positive, seed

if TYPE_CHECKING:
    from dff_ros.runner import Runner

SUMMARY = 'Segment and detect in a video, folder of images, CamVid split, camera or the simulated street.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        'source', metavar='SOURCE', help='video file, folder of images, CamVid folder, /dev/videoN, or street'
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument(
        '--seed', type=seed, default=0, metavar='N', help='seed of the simulated street (default: 0)'
    )
    parser.add_argument('--num-frames', type=positive, metavar='N', help='stop after N frames')
    parser.add_argument('--out', type=Path, metavar='FILE', help='annotated video: image | overlay')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON instead of a table')
    parser.add_argument('--report', type=Path, metavar='FILE', help='save the figures as JSON')
    parser.add_argument('--labels-out', type=Path, metavar='DIR', help='label maps as PNG of class ids')
    parser.add_argument(
        '--boxes',
        type=Path,
        metavar='FILE',
        help='detections: .jsonl, a line for each frame; .json, the results that COCO tools read',
    )
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Answer every frame in order, then report; what was done before Ctrl-C or a damaged frame is kept."""
    from dff_ros.runner import Runner
    from dff_ros.sources import open_source

    _check_outputs(args)
    config = config_from_flags(args)
    source = open_source(args.source, split=args.split, seed=args.seed)
    failure: BaseException | None = None
    runner = Runner(config, source, video=args.out, labels_folder=args.labels_out, boxes=args.boxes)
    try:
        with runner:
            _answer_all(runner, args.num_frames)
    except (Exception, KeyboardInterrupt) as error:
        failure = error
    report = runner.report()
    try:
        if report['processed']:
            _show(args, report, runner.written())
    finally:
        if failure is not None:
            raise failure
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    from dff_ros import box_file
    from dff_ros.made_sources import source_paths
    from dff_ros.output_files import check_outputs
    from dff_ros.video import SUFFIXES

    inputs = [*source_paths(args.source), *([] if args.config is None else [args.config])]
    outputs = {
        '--out': args.out,
        '--report': args.report,
        '--labels-out': args.labels_out,
        '--boxes': args.boxes,
    }
    suffixes = {'--out': SUFFIXES, '--report': ('.json',), '--boxes': box_file.SUFFIXES}
    check_outputs(inputs, outputs, suffixes)


def _show(args: argparse.Namespace, report: dict[str, object], written: list[Path]) -> None:
    from rich.console import Console

    from dff_ros.report import print_report, write_json

    if args.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(Console(), 'dff run', report)
        for path in written:
            print(f'wrote {path}')
    if args.report is not None:
        write_json(args.report, report)
        if not args.json:
            print(f'wrote {args.report}')


def _answer_all(runner: Runner, num_frames: int | None) -> None:
    from rich.console import Console
    from rich.progress import track

    total = min((n for n in (num_frames, runner.source.num_frames) if n is not None), default=None)
    for _ in track(runner.answers(num_frames), 'frames', total, console=Console(stderr=True)):
        pass
