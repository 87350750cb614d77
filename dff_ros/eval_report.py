# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How an evaluation is shown on a terminal: accuracy and cost of each method and interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from rich import box
from rich.console import Console
from rich.table import Table

Report = Mapping[str, object]
Row = Mapping[str, object]

_COST = ('ms', 'speed', 'eq. 7', 'GMAC')
_STAGES = ('extract', 'propagate', 'predict')
_COST_LEGEND = (
    'ms: mean of a frame; speed: measured speed-up over per frame in the same runtime; '
    "eq. 7: the same from the stages' medians; GMAC: 10^9 multiply-adds of a frame"
)


@dataclass(frozen=True, slots=True)
class _Shown:
    """The accuracies of a task: their headers, of a row and of the per-frame line, and in words."""

    headers: tuple[str, ...]
    cells: Callable[[Row], list[str]]
    per_frame: Callable[[Report], list[str]]
    legend: str


def _segmentation_cells(row: Row) -> list[str]:
    names = ('agreement', 'consistency')
    return [*_accuracy_cells(row, 'miou'), *(number(row[name], 1) for name in names)]


def _detection_cells(row: Row) -> list[str]:
    return [*_accuracy_cells(row, 'ap50'), number(row['ap'], 1)]


def _accuracy_cells(row: Row, name: str) -> list[str]:
    offset = row['worst_offset']
    worst = '-' if offset is None else f'{number(row[f"worst_{name}"], 1)} @{offset}'
    return [number(row[name], 1), number(row['loss'], 1), worst]


_MEAN = (
    'mean over the offsets 0 to l-1, each frame as key frame in its turn; worst: the lowest, and at which '
    'offset'
)
_SHOWN = {
    'segmentation': _Shown(
        ('mIoU', 'loss', 'worst', 'agree', 'steady'),
        _segmentation_cells,
        lambda report: [
            number(report['per_frame_miou'], 1), '', '', '', number(report['per_frame_consistency'], 1)
        ],
        f'l: key interval; mIoU in %: {_MEAN}; agree: % of pixels labelled as per frame; steady: % that keep '
        f'their label along DIS flow; {_COST_LEGEND}',
    ),
    'detection': _Shown(
        ('AP50', 'loss', 'worst', 'AP'),
        _detection_cells,
        lambda report: [number(report['per_frame_ap50'], 1), '', '', number(report['per_frame_ap'], 1)],
        f'l: key interval; AP50 in %: {_MEAN}; AP: mean over IoU 0.50 to 0.95; slow, medium, fast: by motion '
        f'IoU, above 0.9, to 0.7, below; {_COST_LEGEND}',
    ),
}  # fmt: skip


def print_report(console: Console, report: Report) -> None:
    """Print the per-frame line and one for each method and interval above 1, then the stages' times."""
    rows, shown = rows_of(report), _SHOWN[cast(str, report['task'])]
    table = table_of(title_of(report), ('method', 'l'), (*shown.headers, *_COST))
    cost = [number(report['per_frame_ms'], 1), '', '', number(report['per_frame_gmac'], 2)]
    table.add_row('per frame', '1', *shown.per_frame(report), *cost)
    for method in dict.fromkeys(row['method'] for row in rows):
        table.add_section()
        for row in rows:
            if row['method'] == method and cast(int, row['interval']) > 1:
                table.add_row(cast(str, method), str(row['interval']), *shown.cells(row), *_cost_cells(row))
    console.print(table)
    console.print(shown.legend, style='dim', highlight=False)
    console.print()
    if report['task'] == 'detection':
        _print_parts(console, report)
    stages = table_of('Stages, medians in ms', ('method', 'flow', 'runtime', 'precision'), _STAGES)
    for row in {row['method']: row for row in rows}.values():
        cells = (number(row[f'ms_{stage}'], 2) for stage in _STAGES)
        stages.add_row(
            *(cast(str, row[name]) or '-' for name in ('method', 'flow', 'runtime', 'precision')), *cells
        )
    console.print(stages)
    for note in cast('list[str]', report['notes']):
        console.print(note, markup=False, highlight=False)


def _print_parts(console: Console, report: Report) -> None:
    """AP50 of each class, where there are several, and of slow, medium and fast objects."""

    def parts(row: Row, prefix: str = '') -> dict[str, object]:
        classes = cast('dict[str, object]', row[f'{prefix}ap50_per_class'])
        motions = cast('dict[str, object]', row[f'{prefix}ap50_by_motion'])
        return {**(classes if len(classes) > 1 else {}), **motions}

    per_frame = parts(report, 'per_frame_')
    table = table_of('AP50 in %', ('method', 'l'), tuple(per_frame))
    table.add_row('per frame', '1', *(number(value, 1) for value in per_frame.values()))
    for row in rows_of(report):
        if cast(int, row['interval']) > 1:
            cells = (number(value, 1) for value in parts(row).values())
            table.add_row(cast(str, row['method']), str(row['interval']), *cells)
    console.print(table)
    console.print()


def table_of(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=title, title_justify='left', box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )
    for name in names:
        table.add_column(name, no_wrap=bool(name))  # what has no header is running text
    for name in numbers:
        table.add_column(name, justify='right')
    return table


def title_of(report: Report) -> str:
    """What was measured on what, in one line."""
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


def _cost_cells(row: Row) -> list[str]:
    cost = [number(row['ms_per_frame'], 1), number(row['speedup'], 2), number(row['eq7'], 2)]
    return [*cost, number(row['gmac_per_frame'], 2)]


def rows_of(report: Report) -> list[Row]:
    """Of all methods and intervals."""
    return cast('list[Row]', report['rows'])


def number(value: object, digits: int) -> str:
    # adding 0 turns -0.0 into 0.0
    return '-' if value is None else f'{round(cast(float, value), digits) + 0:.{digits}f}'
