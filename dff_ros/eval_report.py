"""How an evaluation is shown: a table for the terminal, and accuracy against offset and against speed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich import box
from rich.console import Console
from rich.table import Table

from dff_ros.evaluation.table import Row
from dff_ros.report import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, object]

_ACCURACY = ('mIoU', 'loss', 'worst', 'agree', 'steady')
_COST = ('ms', 'speed', 'eq. 7', 'GMAC')
_STAGES = ('extract', 'propagate', 'predict')
_LEGEND = (
    'l: key interval; mIoU in %: mean over the offsets 0 to l-1, each frame as key frame in its turn; worst: '
    'the lowest, and at which offset; agree: % of pixels labelled as per frame; steady: % that keep their '
    'label along DIS flow; ms: mean of a frame; speed: measured speed-up over per frame in the same runtime; '
    "eq. 7: the same from the stages' medians; GMAC: 10^9 multiply-adds of a frame"
)
_DPI = 120
_STYLES = (('o', '-'), ('s', '--'), ('^', ':'), ('D', '-.'), ('v', '--'), ('P', '-.'), ('X', ':'))
"""Marker and dashes of each method in turn."""


def print_report(console: Console, report: Report) -> None:
    """Print the per-frame line and one for each method and interval above 1, then the stages' times."""
    rows = _rows(report)
    table = _table(_title(report), ('method', 'l'), (*_ACCURACY, *_COST))
    table.add_row(*_per_frame_cells(report))
    for method in dict.fromkeys(row['method'] for row in rows):
        table.add_section()
        for row in rows:
            if row['method'] == method and row['interval'] > 1:
                table.add_row(*_cells(row))
    console.print(table)
    console.print(_LEGEND, style='dim', highlight=False)
    console.print()
    stages = _table('Stages, medians in ms', ('method', 'flow', 'runtime'), _STAGES)
    for row in {row['method']: row for row in rows}.values():
        times_ms = (row['ms_extract'], row['ms_propagate'], row['ms_predict'])
        cells = (_number(time_ms, 2) for time_ms in times_ms)
        stages.add_row(row['method'], row['flow'] or '-', row['runtime'], *cells)
    console.print(stages)
    for note in cast('list[str]', report['notes']):
        console.print(note, markup=False, highlight=False)


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify='left', box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )
    for name in names:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify='right')
    return table


def _title(report: Report) -> str:
    split = f', {report["split"]}' if report.get('split') else ''
    frames = f', {report["frames"]}' if report.get('frames') else ''
    state = '' if report['complete'] else ', not complete'
    answered = report['num_answered']
    count = f'{report["num_frames"]} frames'
    count += '' if answered == report['num_frames'] else f', {answered} of them answered'
    return (
        f'{report["bundle"]} on {report["data"]}{split}{frames}: {count}{state}; '
        f'{report["runtime"]}, {report["num_threads"]} threads, {cast(float, report["wall_s"]):.0f} s'
    )


def _per_frame_cells(report: Report) -> list[str]:
    accuracy = [_number(report['per_frame_miou'], 1), '', '', '', _number(report['per_frame_consistency'], 1)]
    cost = [_number(report['per_frame_ms'], 1), '', '', _number(report['per_frame_gmac'], 2)]
    return ['per frame', '1', *accuracy, *cost]


def _cells(row: Row) -> list[str]:
    worst = '-' if row['worst_offset'] is None else f'{_number(row["worst_miou"], 1)} @{row["worst_offset"]}'
    accuracy = [_number(row['miou'], 1), _number(row['loss'], 1), worst]
    likeness = [_number(row['agreement'], 1), _number(row['consistency'], 1)]
    cost = [_number(row['ms_per_frame'], 1), _number(row['speedup'], 2), _number(row['eq7'], 2)]
    return [
        row['method'], str(row['interval']), *accuracy, *likeness, *cost, _number(row['gmac_per_frame'], 2)
    ]  # fmt: skip


def plot(report: Report, path: Path) -> None:
    """Write a PNG: accuracy by offset, and accuracy by speed-up with a point for each interval.

    Accuracy is mIoU, or agreement with per-frame inference where there are no labels. Speed-up is over
    per-frame inference in the method's own runtime, so that all of them can be compared. DffError where the
    file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _rows(report)
    is_labelled = bool(report['labelled'])
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    FigureCanvasAgg(figure)
    by_offset, by_speed = figure.subplots(1, 2)
    # Another style for each method besides its colour: a bundle whose own flow is DIS has two equal curves.
    for method, style in zip(dict.fromkeys(row['method'] for row in rows), itertools.cycle(_STYLES)):
        _draw(by_offset, by_speed, [row for row in rows if row['method'] == method], is_labelled, style)
    accuracy = 'mIoU in %' if is_labelled else 'pixels labelled as per frame, in %'
    if is_labelled:
        for axes in (by_offset, by_speed):
            axes.axhline(cast(float, report['per_frame_miou']), color='grey', ls='--', label='per frame')
    by_offset.locator_params(axis='x', integer=True)
    by_offset.set(xlabel='offset: frames since the key frame', ylabel=accuracy)
    by_speed.set(
        xlabel='measured speed-up over per-frame inference (numbers: key interval)',
        ylabel=f'{accuracy}, mean over the offsets',
    )
    for axes in (by_offset, by_speed):
        axes.grid(alpha=0.3)
    figure.legend(
        *by_offset.get_legend_handles_labels(), loc='outside lower center', ncols=8, fontsize='small'
    )
    figure.suptitle(_title(report), fontsize='small')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=_DPI)
    write_whole(path, buffer.getvalue())


def _draw(
    by_offset: Axes, by_speed: Axes, rows: Sequence[Row], is_labelled: bool, style: tuple[str, str]
) -> None:
    """Add one method; the row of the longest interval has all offsets."""
    marker, dashes = style
    offsets = rows[-1]['by_offset' if is_labelled else 'agreement_by_offset'] or []
    points = [(offset, value) for offset, value in enumerate(offsets) if value is not None]
    by_offset.plot(*zip(*points, strict=True), marker=marker, ms=4, ls=dashes, label=rows[-1]['method'])
    speed = [
        (row['speedup'], accuracy, row['interval'])
        for row in rows
        if row['speedup'] and (accuracy := row['miou' if is_labelled else 'agreement']) is not None
    ]
    (line,) = by_speed.plot(
        [item[0] for item in speed], [item[1] for item in speed], marker=marker, ms=5, ls=dashes
    )
    for speedup, accuracy, interval in speed:
        if interval > 1:  # there all methods are per-frame inference
            by_speed.annotate(
                f'{interval}',
                (speedup, accuracy),
                (4, 3),
                textcoords='offset points',
                fontsize='small',
                color=line.get_color(),
            )


def _rows(report: Report) -> list[Row]:
    return cast('list[Row]', report['rows'])


def _number(value: object, digits: int) -> str:
    # adding 0 turns -0.0 into 0.0
    return '-' if value is None else f'{round(cast(float, value), digits) + 0:.{digits}f}'
