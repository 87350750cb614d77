# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff calibrate`: fits a bundle's confidence to labelled data, or measures how far it can be believed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.config import DffConfig, replace
from dff_ros.errors import ConfigError
from dff_ros.flags import add_flags, given_flags, intervals, positive, seed

if TYPE_CHECKING:
    from dff_ros.bundle import Bundle
    from dff_ros.confidence import ConfidenceRule
    from dff_ros.confidence_pass import ConfidencePass
    from dff_ros.sources import FrameSource

SUMMARY = "Fit a bundle's confidence to labelled video, or measure how far it can be believed."

_SETTINGS = ('backend', 'device', 'provider', 'precision', 'num_threads', 'flow', 'correction')
_INTERVALS = (1, 5, 10, 20)
_MAX_AGE_S = 2.0
_MAX_OFFSET = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument('bundle', metavar='BUNDLE', help='a directory, or the name of a bundle in models/')
    parser.add_argument(
        '--data',
        required=True,
        metavar='SOURCE',
        help='labelled video: a data set (PATH, or LAYOUT:PATH as camvid:PATH) or street; frames that were '
        'trained on tell too much confidence',
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument(
        '--seed', type=seed, default=0, metavar='N', help='seed of the simulated street (default: 0)'
    )
    parser.add_argument(
        '--num-frames', type=positive, metavar='N', help='take the first N frames (needed for street)'
    )
    parser.add_argument(
        '--max-age',
        type=_age,
        default=_MAX_AGE_S,
        metavar='S',
        help='oldest key frame to fit to, in seconds; beyond it confidence falls fast (default: %(default)s)',
    )
    parser.add_argument(
        '--measure',
        action='store_true',
        help='write nothing into the bundle: measure its confidence on the data, which must not be what it '
        'was fitted to',
    )
    parser.add_argument(
        '--intervals',
        type=intervals,
        metavar='L,L,...',
        help=f'with --measure: key intervals (default: {",".join(map(str, _INTERVALS))})',
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON instead of a table')
    parser.add_argument('--out', type=Path, metavar='FILE', help='save the figures as JSON')
    parser.add_argument(
        '--plot', type=Path, metavar='FILE', help='with --measure: PNG of accuracy against confidence'
    )
    add_flags(parser.add_argument_group('settings'), DffConfig, _SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Fit and write the manifest, or measure; an interrupted run changes nothing."""
    from dff_ros.bundle import open_bundle
    from dff_ros.confidence import ConfidenceCalibration, ConfidenceRule
    from dff_ros.sources import open_source

    _check(args)
    bundle = open_bundle(args.bundle)
    source = open_source(args.data, split=args.split, seed=args.seed)
    rule = ConfidenceRule(
        bundle.spec.nominal_size, bundle.stride, bundle.confidence or ConfidenceCalibration()
    )
    facts = {'bundle': bundle.name, 'data': args.data, 'split': getattr(source, 'split', None)}
    found = (_measure if args.measure else _fit)(args, bundle, source, rule)
    _show(args, {**facts, **found})
    return 0


def _fit(
    args: argparse.Namespace, bundle: Bundle, source: FrameSource, rule: ConfidenceRule
) -> dict[str, object]:
    from dff_ros.bundle import write_manifest
    from dff_ros.confidence_pass import ConfidencePass, FitCollector

    collector = FitCollector(rule)
    with ConfidencePass(
        _config(args),
        source,
        collector,
        max_age_s=args.max_age,
        max_offset=_MAX_OFFSET,
        num_frames=args.num_frames,
    ) as frames:
        _take_all(frames, 'fitting')
        facts = frames.facts()
    calibration = collector.counts.fit()
    write_manifest(dataclasses.replace(bundle, confidence=calibration))
    return {'confidence': calibration.to_dict(), **facts}


def _measure(
    args: argparse.Namespace, bundle: Bundle, source: FrameSource, rule: ConfidenceRule
) -> dict[str, object]:
    from dff_ros.confidence_pass import ConfidencePass, ReliabilityCollector

    asked = args.intervals or _INTERVALS
    collector = ReliabilityCollector(rule, bundle.spec.num_classes, asked)
    with ConfidencePass(
        _config(args), source, collector, max_offset=max(asked) - 1, num_frames=args.num_frames
    ) as frames:
        _take_all(frames, 'measuring')
        facts = frames.facts()
    calibration = None if bundle.confidence is None else bundle.confidence.to_dict()
    return {'confidence': calibration, 'rows': collector.rows(), 'offsets': collector.offsets(), **facts}


def _take_all(frames: ConfidencePass, what: str) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=frames.num_frames)
        for num_done in frames.frames():
            progress.update(bar, completed=num_done)


def _show(args: argparse.Namespace, report: dict[str, object]) -> None:
    from rich.console import Console

    from dff_ros import confidence_report
    from dff_ros.report import write_json

    if args.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        confidence_report.print_report(Console(), report)
    for path, write in (
        (args.out, write_json),
        (args.plot, lambda path, facts: confidence_report.plot(facts, path)),
    ):
        if path is not None:
            write(path, report)
            if not args.json:
                print(f'wrote {path}')


def _config(args: argparse.Namespace) -> DffConfig:
    return replace(DffConfig(bundle=args.bundle, tasks='segmentation'), given_flags(args))


def _check(args: argparse.Namespace) -> None:
    import importlib.util

    from dff_ros.made_sources import source_paths
    from dff_ros.output_files import check_outputs

    if not args.measure and (args.plot is not None or args.intervals is not None):
        raise ConfigError('--plot and --intervals are for --measure')
    if args.plot is not None and importlib.util.find_spec('matplotlib') is None:
        raise ConfigError('--plot needs matplotlib: pip install "dff_ros[tools]"')
    outputs = {'--out': args.out, '--plot': args.plot}
    check_outputs(source_paths(args.data), outputs, {'--out': ('.json',), '--plot': ('.png',)})


def _age(text: str) -> float:
    try:
        age_s = float(text)
    except ValueError:
        age_s = 0.0
    if not 0.1 <= age_s <= 3600:
        raise argparse.ArgumentTypeError(f'got {text!r}, allowed is from 0.1 to 3600 s')
    return age_s
