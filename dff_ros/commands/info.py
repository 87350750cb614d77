# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff info`: what a bundle contains and whether its files match its manifest, which itself is not signed."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from dff_ros.bundle import Bundle
    from dff_ros.model_spec import ModelSpec

SUMMARY = 'Show what a model bundle contains and check its files against its manifest.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument('bundle', metavar='BUNDLE', help='a directory, or the name of a bundle in models/')
    parser.add_argument('--json', action='store_true', help='print the manifest as JSON')


def run(args: argparse.Namespace) -> int:
    """Print the tables; BundleError (exit code 2) names a file that is not the one of the manifest.

    Who can change the files can change the manifest too: nothing here tells who made a bundle.
    """
    from dff_ros.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    if args.json:
        facts = {'path': str(bundle.path), 'files_match_manifest': True, **bundle.manifest()}
        print(json.dumps(facts, indent=2))
    else:
        _print(bundle)
    return 0


def _print(bundle: Bundle) -> None:
    from rich.console import Console

    console = Console()
    console.print(_model_table(bundle))
    if bundle.spec.class_names:
        console.print(_class_table(bundle))
    console.print(_file_table(bundle))
    if bundle.figures:
        console.print('figures')
        console.print_json(json.dumps(dict(bundle.figures)))


def _model_table(bundle: Bundle) -> Table:
    from rich.table import Table

    spec = bundle.spec
    table = Table(title=f'bundle {bundle.name}', show_header=False)
    rows = {
        'path': str(bundle.path),
        'feature net': f'{spec.feature_net}, stages 1 to {spec.last_stage}, {spec.channels} channels, '
        f'stride {bundle.stride}',
        'flow': spec.flow_source + (', down to stride 8' if 'fine' in spec.matched else ''),
        'light net': f'{spec.light_channels} channels, looks at every frame'
        if spec.light_channels
        else 'none',
        'detail': f'scores at stride {bundle.score_stride}' if spec.detail else 'none',
        'correction': f'{spec.correction_channels} channels; the setting correction switches it off'
        if spec.correction_channels
        else 'none: the setting correction has no effect',
        'quality net': f'{spec.quality_channels} channels; the scheduler learned can use it'
        if spec.quality_channels
        else 'none: the scheduler learned cannot be used',
        'tasks': ', '.join(spec.tasks),
        'detects': ', '.join(spec.box_class_names) or 'nothing',
        **_detection_rows(spec),
        'confidence': _confidence(bundle),
        'nominal size': f'{spec.nominal_size[1]}x{spec.nominal_size[0]} (width x height)',
        'graphs': ', '.join(bundle.graphs),
        'precisions on the CPU': f'fp32, int8 ({", ".join(bundle.int8)})' if bundle.int8 else 'fp32',
        'created by': bundle.created_by,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _confidence(bundle: Bundle) -> str:
    if bundle.confidence is None:
        return 'not calibrated (dff calibrate): gain 1, disagreement_weight 1, the rest 0'
    return ', '.join(f'{name} {value:g}' for name, value in bundle.confidence.to_dict().items())


def _detection_rows(spec: ModelSpec) -> dict[str, str]:
    if not spec.box_class_names:
        return {}
    sides, ratios = (
        ' '.join(f'{value:g}' for value in values)
        for values in ([scale * 16 for scale in spec.anchor_scales], spec.anchor_ratios)
    )
    seen = f'{spec.detection_channels} channels of its own' if spec.detection_channels else 'the feature'
    sight = ', sees every frame' if 'middle' in spec.head_light else ''
    return {
        'detection head': f'on {seen}{sight}; {spec.box_bins}x{spec.box_bins} bins',
        'pooling of boxes': spec.box_pooling,
        'anchors': f'{sides} px at the ratios {ratios}',
        'proposals': f'{spec.num_proposals} of {spec.proposals_before_nms}, at most {spec.max_boxes} boxes',
    }


def _class_table(bundle: Bundle) -> Table:
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text

    table = Table(title='classes of the label map')
    table.add_column('id', justify='right')
    table.add_column('name')
    table.add_column('colour')
    for index, (name, colour) in enumerate(
        zip(bundle.spec.class_names, bundle.spec.class_colours, strict=True)
    ):
        swatch = Text('    ', Style(bgcolor=f'rgb({",".join(map(str, colour))})'))
        table.add_row(str(index), name, swatch + Text(f'  {colour[0]:3} {colour[1]:3} {colour[2]:3}'))
    return table


def _file_table(bundle: Bundle) -> Table:
    from rich.table import Table

    table = Table(title='files match the manifest; the manifest itself is not signed')
    table.add_column('file')
    table.add_column('bytes', justify='right')
    table.add_column('SHA-256')
    for name, facts in bundle.files.items():
        table.add_row(name, f'{facts.size:,}', facts.sha256[:16] + '...')
    return table
