# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff complexity`: multiply-adds of the networks and the paper's table of 1/r."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from typing import TYPE_CHECKING

from dff_ros.errors import ConfigError

if TYPE_CHECKING:
    from dff_ros.evaluation.speed import StageCost
    from dff_ros.nets.complexity import Complexity, PartCost

SUMMARY = (
    'count the multiply-adds of the networks and print 1/r, the cost of a key frame over that of the flow'
)

PAPER_SIZE = (1024, 2048)
PAPER_CHANNELS = 1024
PAPER_FEATURE_NETS = ('resnet50', 'resnet101')
PAPER_FLOW_NETS = ('flownet_s', 'flownet_half', 'flownet_inception')
PAPER_INV_R = {
    ('resnet50', 'flownet_s'): 9.20,
    ('resnet50', 'flownet_half'): 33.56,
    ('resnet50', 'flownet_inception'): 68.97,
    ('resnet101', 'flownet_s'): 12.71,
    ('resnet101', 'flownet_half'): 46.30,
    ('resnet101', 'flownet_inception'): 95.24,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; the defaults are the paper's."""
    parser.add_argument(
        '--bundle', metavar='BUNDLE', help='count the parts of this model instead: a directory, or a name'
    )
    parser.add_argument(
        '--size',
        metavar='HEIGHTxWIDTH',
        help=f'image size ({"x".join(map(str, PAPER_SIZE))}, or the nominal size of the bundle)',
    )
    for flag, what, names in (
        ('--feature-nets', 'feature nets', PAPER_FEATURE_NETS),
        ('--flow-nets', 'flow nets', PAPER_FLOW_NETS),
    ):
        parser.add_argument(
            flag, nargs='+', metavar='NAME', default=names, help=f'{what} ({" ".join(names)})'
        )
    parser.add_argument(
        '--channels',
        type=int,
        default=PAPER_CHANNELS,
        help='channels of the feature and the scale map (%(default)s)',
    )
    parser.add_argument('--json', action='store_true', help='print a list of objects instead of a table')


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from dff_ros.nets.complexity import complexity_table

    size = PAPER_SIZE if args.size is None else _parse_size(args.size)
    if args.bundle is not None:
        return _run_bundle(args.bundle, None if args.size is None else size, args.json)
    rows = complexity_table(size, args.feature_nets, args.flow_nets, args.channels)
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows, size, args.channels)
    return 0


def _run_bundle(name: str, size: tuple[int, int] | None, as_json: bool) -> int:
    from dff_ros.bundle import open_bundle
    from dff_ros.geometry import network_size
    from dff_ros.nets.complexity import part_gmac, stage_gmac

    spec = open_bundle(name).spec
    network = network_size(size or spec.nominal_size, spec.nominal_size)
    parts, stages = part_gmac(spec, network), stage_gmac(spec, network)
    facts = {
        'size': list(network),
        'parts': dataclasses.asdict(parts),
        'stages': dataclasses.asdict(stages),
        'r': stages.ratio,
    }
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print_parts(name, network, parts, stages)
    return 0


def _print_parts(name: str, network: tuple[int, int], parts: PartCost, stages: StageCost) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f'{name} at {network[0]}x{network[1]} (height x width)')
    for column in ('part', 'GMAC', 'stage'):
        table.add_column(column, justify='right' if column == 'GMAC' else 'left')
    stage_of = {
        'feature': 'extract',
        'light': 'extract, propagate',
        'flow': 'propagate',
        'correction': 'propagate',
        'head': 'predict',
        'detection': 'predict',
        'quality': 'propagate',
    }
    for part, gmac in dataclasses.asdict(parts).items():
        table.add_row(part, f'{gmac:.4g}', stage_of[part])
    table.add_section()
    for stage, gmac in dataclasses.asdict(stages).items():
        table.add_row(stage, f'{gmac:.4g}', '')
    Console().print(table)
    print(f'(propagate + predict) / (extract + predict) = {stages.ratio:.3f}')


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if match is None:
        raise ConfigError(f'--size {text!r} is not HEIGHTxWIDTH, as in 1024x2048')
    return int(match[1]), int(match[2])


def _print_table(rows: list[Complexity], size: tuple[int, int], channels: int) -> None:
    from rich.console import Console
    from rich.table import Table

    is_paper = (size, channels) == (PAPER_SIZE, PAPER_CHANNELS)
    table = Table(title=f'Complexity at {size[0]}x{size[1]} (height x width), {channels} channels')
    for name in ('feature net', 'flow net'):
        table.add_column(name, no_wrap=True)
    columns = ['extract GMAC', 'flow GMAC', '1/r', *(['paper'] if is_paper else [])]
    for name in columns:
        table.add_column(name, justify='right')
    for row in rows:
        cells = [
            row.feature_net,
            row.flow_net,
            f'{row.extract_gmac:.4g}',
            f'{row.flow_gmac:.4g}',
            f'{row.inv_r:.2f}',
        ]
        if is_paper:
            paper = PAPER_INV_R.get((row.feature_net, row.flow_net))
            cells.append('' if paper is None else f'{paper:.2f}')
        table.add_row(*cells)
    Console().print(table)
