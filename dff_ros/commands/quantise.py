# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff quantise`: graphs in 8 bits for a bundle, from images of where it will be used."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.config import DffConfig, replace
from dff_ros.flags import add_flags, given_flags, positive, seed

if TYPE_CHECKING:
    from dff_ros.bundle import Bundle
    from dff_ros.verification import ClipComparison

SUMMARY = 'Add graphs in 8 bits (precision int8) to a model bundle, calibrated on images, and verify them.'

_NUM_IMAGES = 64
_SETTINGS = ('num_threads',)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument('bundle', metavar='BUNDLE', help='a directory, or the name of a bundle in models/')
    parser.add_argument(
        '--data',
        default='street',
        metavar='SOURCE',
        help='images like those it will see, labels are not needed: a data set (as camvid:PATH), a video, a '
        'folder of images or street (%(default)s)',
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument(
        '--seed', type=seed, default=0, metavar='N', help='seed of the simulated street (default: 0)'
    )
    parser.add_argument(
        '--num-images',
        type=positive,
        default=_NUM_IMAGES,
        metavar='N',
        help='how many images to calibrate on, spread over the source (default: %(default)s)',
    )
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='write another bundle instead of changing this one'
    )
    parser.add_argument('--json', action='store_true', help='print the result as JSON')
    add_flags(parser.add_argument_group('settings'), DffConfig, _SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Calibrate, write, verify; an interrupted or failed run changes nothing."""
    from rich.console import Console
    from rich.progress import Progress

    from dff_ros.bundle import open_bundle
    from dff_ros.quantisation import Frames, check_target, quantise_bundle
    from dff_ros.sources import open_source

    bundle = open_bundle(args.bundle)
    out = check_target(bundle, args.out)
    source = open_source(args.data, split=args.split, seed=args.seed)
    split = getattr(source, 'split', None)
    frames = Frames((item.image_HW3 for item in source), source.num_frames, args.num_images)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task('calibrating', total=args.num_images)
        made, comparisons = quantise_bundle(
            bundle,
            frames,
            out,
            facts={'data': args.data, 'split': split},
            num_threads=replace(DffConfig(), given_flags(args)).num_threads,
            report=lambda stage, done, total: progress.update(
                bar, description=stage, completed=done, total=total
            ),
        )
    if args.json:
        print(json.dumps(_as_json(made), indent=2))
    else:
        _print(made, comparisons)
    return 0


def _as_json(bundle: Bundle) -> dict[str, object]:
    return {
        'bundle': str(bundle.path),
        'files': {file: bundle.files[file].size for file in bundle.int8.values()},
        **dict(bundle.figures['int8']),  # type: ignore[call-overload]
    }


def _print(bundle: Bundle, comparisons: list[ClipComparison]) -> None:
    for item in comparisons:
        labels = '' if item.agreement is None else f'{item.agreement:.3%} of labels agree, '
        print(
            f'{item.num_frames} frames of {item.size[1]}x{item.size[0]}'
            f'{" with correction" if item.correction else ""}: {labels}features of int8 and single precision '
            f'within {item.feature_error:.1e}'
        )
    kilobytes = sum(bundle.files[file].size for file in bundle.int8.values()) / 1e3
    print(f'added {", ".join(bundle.int8)} in 8 bits to {bundle.path} ({kilobytes:.0f} kB)')
