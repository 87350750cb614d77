# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The flags of `dff eval` that are about key-frame schedulers."""

from __future__ import annotations

import argparse

from dff_ros.errors import ConfigError
from dff_ros.evaluation.scheduler_rows import SCHEDULERS
from dff_ros.model_spec import TASKS

KEY_RATIOS = (0.05, 0.1)
"""Where none are given."""


def add_scheduler_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        '--schedulers',
        type=_schedulers,
        metavar='NAME,...',
        help=f'evaluate key-frame schedulers instead of intervals: {", ".join(SCHEDULERS)} (oracle knows the '
        'true disagreement)',
    )
    parser.add_argument(
        '--key-ratios',
        type=_key_ratios,
        metavar='R,R,...',
        help='mean key frames per frame that the schedulers are brought to (default: '
        f'{",".join(map(str, KEY_RATIOS))})',
    )


def check_scheduler_flags(args: argparse.Namespace) -> None:
    """ConfigError for flags that do not go with each other."""
    if args.schedulers is None:
        if args.key_ratios is not None:
            raise ConfigError('--key-ratios are those of schedulers: name some (--schedulers)')
        return
    without = {
        '--intervals': args.intervals,
        '--all-frames': args.all_frames,
        '--task detection': args.task != TASKS[0],
    }
    for flag, value in without.items():
        if value:
            raise ConfigError(f'{flag} cannot be combined with --schedulers: leave it out')


def _schedulers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(',')))
    unknown = [name for name in names if name not in SCHEDULERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f'unknown scheduler {unknown[0]!r}; known are {", ".join(SCHEDULERS)}'
        )
    return names


def _key_ratios(text: str) -> tuple[float, ...]:
    ratios = []
    for part in text.split(','):
        try:
            ratio = float(part)
        except ValueError:
            ratio = 0.0
        if not 0 < ratio <= 1:
            raise argparse.ArgumentTypeError(f'got {part!r}, expected a number above 0 and at most 1')
        ratios.append(ratio)
    return tuple(sorted(set(ratios)))
