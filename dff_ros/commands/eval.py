# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff eval`: accuracy and speed of propagation at any key interval, beside its baselines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.commands.scheduler_flags import KEY_RATIOS, add_scheduler_flags, check_scheduler_flags
from dff_ros.config import DffConfig, replace
from dff_ros.errors import ConfigError
from dff_ros.evaluation.table import METHODS
from dff_ros.flags import add_flags, given_flags, intervals, positive, seed
from dff_ros.model_spec import TASKS

if TYPE_CHECKING:
    from dff_ros.evaluator import Evaluator
    from dff_ros.scheduler_evaluator import SchedulerEvaluator
    from dff_ros.sources import FrameSource
    from dff_ros.video_set_source import FrameRange

SUMMARY = 'Measure accuracy and speed of propagation at any key interval, beside its baselines.'

_SETTINGS = (
    'bundle', 'backend', 'device', 'provider', 'precision', 'num_threads', 'keyframe.max_gap_s',
    'keyframe.max_age_s', 'keyframe.max_interval', 'keyframe.min_coverage', 'keyframe.cut',
    'keyframe.disagreement_floor', 'keyframe.budget_over', 'detection.nms_iou',
)  # fmt: skip
_INTERVALS = (1, 2, 5, 10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        '--data',
        required=True,
        metavar='SOURCE',
        help='a data set (PATH, or LAYOUT:PATH as camvid:PATH; "dff data check" knows them), a video file, a '
        'folder of images or street; stopgo:SOURCE moves one at changing speed, cut:SOURCE,SOURCE... cuts '
        'between several; without labels there is agreement with per-frame inference',
    )
    parser.add_argument(
        '--task', choices=TASKS, default=TASKS[0], help=f'what to evaluate (default: {TASKS[0]})'
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument(
        '--seed', type=seed, default=0, metavar='N', help='seed of the simulated street (default: 0)'
    )
    parser.add_argument(
        '--num-frames', type=positive, metavar='N', help='take the first N frames (needed for street)'
    )
    parser.add_argument(
        '--frames',
        type=_frames,
        metavar='A-B',
        help='take frames A to B of the source, both included, counted from 1',
    )
    parser.add_argument(
        '--no-labels', action='store_true', help='ignore the labels: agreement with per-frame inference only'
    )
    parser.add_argument(
        '--all-frames',
        action='store_true',
        help='where some frames have labels, answer the others too (for agreement and consistency)',
    )
    parser.add_argument(
        '--intervals',
        type=intervals,
        metavar='L,L,...',
        help=f'key intervals (default: {",".join(map(str, _INTERVALS))})',
    )
    add_scheduler_flags(parser)
    parser.add_argument(
        '--methods',
        type=_methods,
        metavar='NAME,...',
        help=f'of {"; ".join(f"{name}: {what}" for name, what in METHODS.items())} (default: all but the '
        'last two, as far as they apply; with --schedulers dff)',
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON instead of a table')
    parser.add_argument('--out', type=Path, metavar='FILE', help='save the figures as JSON')
    parser.add_argument(
        '--plot',
        type=Path,
        metavar='FILE',
        help='PNG of accuracy against offset and speed, or with --schedulers against the mean key ratio',
    )
    add_flags(parser.add_argument_group('settings'), DffConfig, _SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Evaluate, then report; what was measured before Ctrl-C or a damaged frame is reported too."""
    from dff_ros.sources import open_source

    _check_task(args)
    check_scheduler_flags(args)
    _check_outputs(args)
    with_boxes = args.task == 'detection'
    whole = open_source(args.data, split=args.split, seed=args.seed, with_boxes=with_boxes)
    source = whole if args.frames is None else args.frames.of(whole)
    failure: BaseException | None = None
    with _open_evaluator(args, source) as evaluator:
        try:
            _score_all(evaluator)
        except (Exception, KeyboardInterrupt) as error:
            failure = error
    report = _report(evaluator)
    try:
        if report['num_frames']:
            split = getattr(whole, 'split', None)  # where the data has any
            _show(args, {**report, 'data': args.data, 'split': split, 'frames': _in_words(args.frames)})
    finally:
        if failure is not None:
            raise failure
    return 0


def _open_evaluator(args: argparse.Namespace, source: FrameSource) -> Evaluator | SchedulerEvaluator:
    from dff_ros.evaluator import Evaluator
    from dff_ros.scheduler_evaluator import SchedulerEvaluator

    config = replace(DffConfig(), given_flags(args))
    if args.schedulers is not None:
        return SchedulerEvaluator(
            config,
            source,
            schedulers=args.schedulers,
            key_ratios=args.key_ratios or KEY_RATIOS,
            methods=args.methods,
            num_frames=args.num_frames,
            use_labels=not args.no_labels,
        )
    return Evaluator(
        config,
        source,
        task=args.task,
        methods=args.methods,
        intervals=args.intervals or _INTERVALS,
        num_frames=args.num_frames,
        use_labels=not args.no_labels,
        answer_all=args.all_frames,
    )


def _score_all(evaluator: Evaluator | SchedulerEvaluator) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task('evaluating', total=evaluator.num_frames)
        for num_done in evaluator.frames():
            progress.update(bar, completed=num_done)


def _report(evaluator: Evaluator | SchedulerEvaluator) -> dict[str, object]:
    from rich.console import Console

    with Console(stderr=True).status('scoring'):  # average precision of many frames takes a while
        return evaluator.report()


def _show(args: argparse.Namespace, report: dict[str, object]) -> None:
    from rich.console import Console

    from dff_ros import eval_plot, eval_report, scheduler_report
    from dff_ros.report import write_json

    is_of_schedulers = args.schedulers is not None
    print_report = (scheduler_report if is_of_schedulers else eval_report).print_report
    plot = (scheduler_report if is_of_schedulers else eval_plot).plot
    if args.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(Console(), report)
    say = (lambda path: None) if args.json else (lambda path: print(f'wrote {path}'))
    if args.out is not None:
        write_json(args.out, report)
        say(args.out)
    if args.plot is not None:
        plot(report, args.plot)
        say(args.plot)


def _check_task(args: argparse.Namespace) -> None:
    import importlib.util

    if args.task != 'detection':
        return
    for flag, is_given in (('--no-labels', args.no_labels), ('--all-frames', args.all_frames)):
        if is_given:
            raise ConfigError(f'{flag} is for segmentation: of detection nothing is told without true boxes')
    if importlib.util.find_spec('pycocotools') is None:
        raise ConfigError('--task detection needs pycocotools: pip install "dff_ros[tools]"')


def _check_outputs(args: argparse.Namespace) -> None:
    import importlib.util

    from dff_ros.made_sources import source_paths
    from dff_ros.output_files import check_outputs

    if args.plot is not None and importlib.util.find_spec('matplotlib') is None:
        raise ConfigError('--plot needs matplotlib: pip install "dff_ros[tools]"')
    outputs = {'--out': args.out, '--plot': args.plot}
    check_outputs(source_paths(args.data), outputs, {'--out': ('.json',), '--plot': ('.png',)})


def _frames(text: str) -> FrameRange:
    from dff_ros.video_set_source import FrameRange

    first, _, last = text.partition('-')
    try:
        return FrameRange(positive(first), positive(last))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _in_words(frames: FrameRange | None) -> str | None:
    return None if frames is None else f'{frames.first}-{frames.last}'


def _methods(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(',')))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f'unknown method {unknown[0]!r}; known are {", ".join(METHODS)}')
    return names
