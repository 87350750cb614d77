# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff export`: a training run becomes a bundle."""

from __future__ import annotations

import argparse
import dataclasses
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.config import DffConfig, replace
from dff_ros.errors import ConfigError
from dff_ros.flags import add_flags, given_flags, image_size, positive

if TYPE_CHECKING:
    from dff_ros.bundle import Bundle
    from dff_ros.verification import ClipComparison

SUMMARY = (
    'Write a verified model bundle (graphs, weights, manifest) of a training run; build TensorRT engines.'
)

_NUM_FRAMES = 6
_ENGINE_SETTINGS = ('precision', 'engines', 'flow', 'correction', 'segmentation.output_size')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        'run_dir',
        type=Path,
        metavar='RUN_DIR',
        help='directory that `dff train` wrote; with --tensorrt and no --out a bundle: its directory or name',
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='the bundle, as models/NAME')
    parser.add_argument('--card', type=Path, metavar='FILE', help='model card to put into the bundle')
    parser.add_argument(
        '--frames',
        default='street',
        metavar='SOURCE',
        help='frames to compare torch and ONNX Runtime on: a video, a folder or street (%(default)s)',
    )
    parser.add_argument(
        '--num-frames', type=positive, default=_NUM_FRAMES, metavar='N', help='how many of them (%(default)s)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace a bundle of that name')
    parser.add_argument('--json', action='store_true', help='print the result as JSON')
    group = parser.add_argument_group('TensorRT engines, for the GPU of this machine')
    group.add_argument(
        '--tensorrt', action='store_true', help='build engines of the bundle, for provider tensorrt'
    )
    group.add_argument(
        '--size',
        type=image_size,
        action='append',
        metavar='WIDTHxHEIGHT',
        help="size of source images to build for; may be given again (default: the bundle's own)",
    )
    add_flags(group, DffConfig, _ENGINE_SETTINGS)


def run(args: argparse.Namespace) -> int:
    """Export, verify, report."""
    if args.out is None and not args.tensorrt:
        raise ConfigError('--out is missing: where the bundle is to be, as --out models/NAME')
    result = {} if args.out is None else _export(args)
    if args.tensorrt:
        result |= _build(args)
    if args.json:
        print(json.dumps(result, indent=2))
    return 0


def _export(args: argparse.Namespace) -> dict[str, object]:
    from rich.console import Console

    from dff_ros.export import export_run
    from dff_ros.sources import open_source

    source = open_source(args.frames)
    frames = (item.image_HW3 for item in islice(source, args.num_frames))
    console = Console(stderr=True)
    with console.status('exporting') as status:
        bundle, comparisons = export_run(
            args.run_dir, args.out, frames, card=args.card, overwrite=args.overwrite, report=status.update
        )
    if not args.json:
        _print(bundle, comparisons)
    return _as_json(bundle, comparisons)


def _build(args: argparse.Namespace) -> dict[str, object]:
    from rich.console import Console

    from dff_ros.bundle import open_bundle
    from dff_ros.engine_building import build_engines

    bundle = open_bundle(args.out or str(args.run_dir))
    config = replace(DffConfig(provider='tensorrt'), given_flags(args))
    with Console(stderr=True).status('building engines') as status:
        built = build_engines(bundle, config, args.size or [bundle.spec.nominal_size], status.update)
    if not args.json:
        for item in built:
            print(f'engines for {item.size[1]}x{item.size[0]} in {item.seconds:.0f} s: {item.folder}')
    engines = [{'size': [item.size[1], item.size[0]], 'seconds': round(item.seconds, 1)} for item in built]
    return {'engines': engines, 'folder': str(built[0].folder)}


def _as_json(bundle: Bundle, comparisons: list[ClipComparison]) -> dict[str, object]:
    return {
        'bundle': str(bundle.path),
        'bytes': sum(facts.size for facts in bundle.files.values()),
        'files': {name: dataclasses.asdict(facts) for name, facts in bundle.files.items()},
        'verification': [item.facts() for item in comparisons],
    }


def _print(bundle: Bundle, comparisons: list[ClipComparison]) -> None:
    for item in comparisons:
        print(
            f'{item.num_frames} frames of {item.size[1]}x{item.size[0]}'
            f'{" with correction" if item.correction else ""}: {_agreement(item)}features of torch and ONNX '
            f'Runtime within {item.feature_error:.1e}'
        )
    megabytes = sum(facts.size for facts in bundle.files.values()) / 1e6
    print(f'wrote {bundle.path} ({megabytes:.1f} MB)')


def _agreement(item: ClipComparison) -> str:
    labels = '' if item.agreement is None else f'{item.agreement:.4%} of labels agree, '
    return labels + (
        '' if item.box_agreement is None else f'{item.box_agreement:.2%} of {item.num_boxes} boxes agree, '
    )
