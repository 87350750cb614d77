"""`dff run`: segment a video, a folder, a data set or the simulated street, without ROS."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.flags import add_config_flags, config_from_flags

if TYPE_CHECKING:
    from dff_ros.runner import Runner

SUMMARY = 'Segment a video, a folder of images, a CamVid split, a camera or the simulated street.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        'source', metavar='SOURCE', help='video file, folder of images, CamVid folder, /dev/videoN, or street'
    )
    parser.add_argument('--split', default='val', help='split of a CamVid folder (default: val)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the simulated street (default: 0)')
    parser.add_argument('--num-frames', type=_positive, metavar='N', help='stop after N frames')
    parser.add_argument('--out', type=Path, metavar='FILE', help='annotated video: image | overlay')
    parser.add_argument('--json', type=Path, metavar='FILE', help='all figures as JSON')
    parser.add_argument('--labels-out', type=Path, metavar='DIR', help='label maps as PNG of class ids')
    add_config_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Answer every frame in order, then report; what was done before Ctrl-C or a damaged frame is kept."""
    from rich.console import Console

    from dff_ros.report import print_report, write_json
    from dff_ros.runner import Runner
    from dff_ros.sources import open_source

    source = open_source(args.source, split=args.split, seed=args.seed)
    failure: BaseException | None = None
    with Runner(config_from_flags(args), source, video=args.out, labels_folder=args.labels_out) as runner:
        try:
            _answer_all(runner, args.num_frames)
        except (Exception, KeyboardInterrupt) as error:
            failure = error
    report = runner.report()
    if report['processed']:
        print_report(Console(), 'dff run', report)
        if args.json is not None:
            write_json(args.json, report)
        for path in (args.out, args.json, args.labels_out):
            if path is not None:
                print(f'wrote {path}')
    if failure is not None:
        raise failure
    return 0


def _answer_all(runner: Runner, num_frames: int | None) -> None:
    from rich.console import Console
    from rich.progress import track

    total = min((n for n in (num_frames, runner.source.num_frames) if n is not None), default=None)
    for _ in track(runner.answers(num_frames), 'segmenting', total, console=Console(stderr=True)):
        pass


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'got {number}, must be at least 1')
    return number
