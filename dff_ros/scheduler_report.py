# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How an evaluation of schedulers is shown: a table for each method, and accuracy against key ratio."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console

from dff_ros.eval_plot import DPI, STYLES
from dff_ros.eval_report import Report, Row, number, rows_of, table_of, title_of
from dff_ros.output_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ('wanted', 'keys', 'setting', 'mIoU', 'agree', 'loss', 'fixed', 'back', 'age', 'cuts')
_LEGEND = (
    'keys: mean key ratio achieved with the setting; mIoU in %; agree: % of pixels labelled as per frame; '
    'loss: against per frame; fixed: the scheduler fixed at the achieved ratio; back: % of its loss that is '
    'recovered; age: mean, in frames; cuts: % of hard cuts that are key frames, and key frames made for a '
    'cut where none is'
)


def print_report(console: Console, report: Report) -> None:
    """Print a line for each scheduler and key ratio of every method, and the reasons of the key frames."""
    rows = rows_of(report)
    for method in dict.fromkeys(row['method'] for row in rows):
        own = [row for row in rows if row['method'] == method]
        table = table_of(f'{method}: {title_of(report)}', ('scheduler',), _COLUMNS)
        table.add_row('per frame', '', '1', '', number(report['per_frame_miou'], 2), '100.00')
        for name in dict.fromkeys(row['scheduler'] for row in own):
            table.add_section()
            for row in own:
                if row['scheduler'] == name:
                    table.add_row(cast(str, name), *_cells(row))
        console.print(table)
        console.print()
    console.print(_LEGEND, style='dim', highlight=False)
    console.print()
    reasons = table_of('Reasons of the key frames', ('method', 'scheduler', 'wanted', ''), ())
    for row in rows:
        shares = cast('Mapping[str, float]', row['reasons'])
        words = ', '.join(f'{reason} {100 * share:.0f} %' for reason, share in shares.items())
        reasons.add_row(cast(str, row['method']), cast(str, row['scheduler']), f'{row["key_ratio"]:g}', words)
    console.print(reasons)
    for note in cast('list[str]', report['notes']):
        console.print(note, markup=False, highlight=False)


def _cells(row: Row) -> list[str]:
    cuts = '' if row['cut_recall'] is None else f'{number(row["cut_recall"], 0)} +{row["num_false_cuts"]}'
    return [
        f'{row["key_ratio"]:g}',
        number(row['achieved'], 3),
        f'{cast(float, row["threshold"]):.4g}',
        *(number(row[name], 2) for name in ('miou', 'agreement', 'loss', 'fixed')),
        number(row['recovered'], 0),
        number(row['mean_age'], 1),
        cuts,
    ]


def plot(report: Report, path: Path) -> None:
    """Write a PNG: accuracy against achieved mean key ratio, a line for each scheduler; a panel for each
    method.

    Accuracy is mIoU, or agreement with per-frame inference where there are no labels. DffError where the file
    cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = rows_of(report)
    methods = list(dict.fromkeys(cast(str, row['method']) for row in rows))
    figure = Figure(figsize=(1 + 5.5 * len(methods), 4.8), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for method, axes in zip(methods, panels, strict=True):
        _draw(axes, [row for row in rows if row['method'] == method], report)
        axes.set_title(method, fontsize='small')
    is_labelled = report['labelled']
    panels[0].set_ylabel('mIoU in %' if is_labelled else 'pixels labelled as per frame, in %')
    handles, labels = panels[0].get_legend_handles_labels()
    num_columns = math.ceil(len(labels) / math.ceil(len(labels) / (4 * len(methods))))
    figure.legend(handles, labels, loc='outside lower center', ncols=num_columns, fontsize='small')
    figure.suptitle(textwrap.fill(title_of(report), 80 * len(methods)), fontsize='small')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI)
    write_whole(path, buffer.getvalue())


def _draw(axes: Axes, rows: list[Row], report: Report) -> None:
    value = 'miou' if report['labelled'] else 'agreement'
    names = dict.fromkeys(cast(str, row['scheduler']) for row in rows)
    for name, (marker, dashes) in zip(names, itertools.cycle(STYLES)):
        own = [row for row in rows if row['scheduler'] == name]
        points = sorted((cast(float, row['achieved']), cast(float, row[value])) for row in own)
        axes.plot(*zip(*points, strict=True), marker=marker, ms=5, ls=dashes, label=name)
    direct = report['per_frame_miou'] if report['labelled'] else 100.0
    axes.axhline(cast(float, direct), color='grey', ls='--', label='per frame')
    axes.set_xlabel('mean key ratio')
    axes.grid(alpha=0.3)
