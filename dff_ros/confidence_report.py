# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A calibration, or how far confidence can be believed, in words and as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dff_ros.output_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

DPI = 120
_LEAST_SHARE = 1e-5
"""Of pixels: bins with fewer are not drawn, for their accuracy says nothing."""

_NAMES = {'head': "the head's probability", 'uncalibrated': 'the rule alone', 'calibrated': 'calibrated'}

Report = Mapping[str, object]
Row = Mapping[str, object]
Figures = Mapping[str, object]


def print_report(console: Console, report: Report) -> None:
    """The numbers of the calibration; with those of a measurement a table of the intervals, in percent."""
    from rich.table import Table

    numbers = cast('Mapping[str, float] | None', report['confidence'])
    words = 'none' if numbers is None else ', '.join(f'{name} {value:g}' for name, value in numbers.items())
    console.print(f'{report["bundle"]}: confidence: {words}', highlight=False, soft_wrap=True)
    if 'rows' not in report:
        return
    rows = _rows(report)
    table = Table(title=_title(report), title_justify='left')
    table.add_column('percent')
    for row in rows:
        table.add_column(_interval(row), justify='right')
    heads = [cast(Figures, row['head']) for row in rows]
    table.add_row('accuracy', *(_percent(found['accuracy']) for found in heads))
    for value, words in (('error', 'calibration error'), ('mean', 'mean confidence')):
        for name, what in _NAMES.items():
            cells = (_percent(cast(Figures, row[name])[value]) for row in rows)
            table.add_row(f'{words}, {what}', *cells)
    for value, words in (
        ('unknown_share', 'pixels without an answer'),
        ('unknown_accuracy', 'of these right'),
    ):
        table.add_row(words, *(_percent(row[value], 3) for row in rows))
    for value, words in (('miou', 'mIoU'), ('miou_with_unknown', 'mIoU, those without an answer missed')):
        table.add_row(words, *('-' if row[value] is None else str(row[value]) for row in rows))
    console.print(table)


def plot(report: Report, path: Path) -> None:
    """Write a PNG of reliability diagrams, one for each interval: accuracy against confidence, and how many
    pixels have it. DffError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _rows(report)
    figure = Figure(figsize=(1 + 3.3 * len(rows), 4.6), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        2, len(rows), sharex=True, sharey='row', squeeze=False, gridspec_kw={'height_ratios': (3, 1)}
    )
    for index, row in enumerate(rows):
        _draw(panels[0, index], panels[1, index], row)
        panels[1, index].set_xlabel('confidence')
    panels[0, 0].set_ylabel('accuracy')
    panels[1, 0].set_ylabel('share of pixels')
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc='outside lower center', ncols=3, fontsize='small'
    )
    figure.suptitle(_title(report), fontsize='small')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI)
    write_whole(path, buffer.getvalue())


def _draw(above: Axes, below: Axes, row: Row) -> None:
    above.plot((0, 1), (0, 1), color='grey', lw=1)
    for name, marker, dashes in (('head', 'o', '--'), ('calibrated', 's', '-')):
        found = cast(Figures, row[name])
        bins = [values for values in cast('list[list[float]]', found['bins']) if values[2] > _LEAST_SHARE]
        told, right, share = zip(*bins, strict=True)
        above.plot(told, right, marker=marker, ms=4, ls=dashes, label=_NAMES[name])
        below.plot(told, share, marker=marker, ms=3, ls=dashes)
    errors = ' to '.join(_percent(cast(Figures, row[name])['error']) for name in ('head', 'calibrated'))
    above.set_title(f'{_interval(row)}: error {errors} %', fontsize='small')
    above.set(xlim=(0, 1), ylim=(0, 1))
    below.set_yscale('log')
    for axes in (above, below):
        axes.grid(alpha=0.3)


def _rows(report: Report) -> Sequence[Row]:
    return cast('Sequence[Row]', report['rows'])


def _interval(row: Row) -> str:
    return 'per frame' if row['interval'] == 1 else f'l = {row["interval"]}'


def _title(report: Report) -> str:
    split = f':{report["split"]}' if report['split'] else ''
    where = f'{report["data"]}{split}, {report["num_labelled"]} labelled frames'
    return f'confidence of {report["bundle"]} on {where}'


def _percent(value: object, digits: int = 2) -> str:
    return '-' if value is None else f'{100 * cast(float, value):.{digits}f}'
