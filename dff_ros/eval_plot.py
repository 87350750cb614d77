# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Pictures of an evaluation: accuracy against offset and against speed."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dff_ros.eval_report import Report, Row, rows_of, title_of
from dff_ros.output_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 120
STYLES = (('o', '-'), ('s', '--'), ('^', ':'), ('D', '-.'), ('v', '--'), ('P', '-.'), ('X', ':'))
"""Marker and dashes of each method in turn."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Which entries of a row are drawn, what they are called, and that of per-frame inference, if any."""

    value: str
    by_offset: str
    words: str
    per_frame: str = ''


_MIOU = _Drawn('miou', 'by_offset', 'mIoU in %', 'per_frame_miou')
_AGREEMENT = _Drawn('agreement', 'agreement_by_offset', 'pixels labelled as per frame, in %')
_AP50 = _Drawn('ap50', 'by_offset', 'AP50 in %', 'per_frame_ap50')


def _drawn(report: Report) -> _Drawn:
    if report['task'] == 'detection':
        return _AP50
    return _MIOU if report['labelled'] else _AGREEMENT


def plot(report: Report, path: Path) -> None:
    """Write a PNG: accuracy by offset, and accuracy by speed-up with a point for each interval.

    Accuracy is AP50 or mIoU, or agreement with per-frame inference where there are no labels. Speed-up is
    over per-frame inference in the method's own runtime, so that all of them can be compared. DffError where
    the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, drawn = rows_of(report), _drawn(report)
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    FigureCanvasAgg(figure)
    by_offset, by_speed = figure.subplots(1, 2)
    # Another style for each method besides its colour: a bundle whose own flow is DIS has two equal curves.
    for method, style in zip(dict.fromkeys(row['method'] for row in rows), itertools.cycle(STYLES)):
        own = [row for row in rows if row['method'] == method]
        _draw_offsets(by_offset, own[-1], drawn, style)
        _draw_speed(by_speed, own, drawn, style)
    per_frame = report[drawn.per_frame] if drawn.per_frame else None
    if per_frame is not None:
        for axes in (by_offset, by_speed):
            axes.axhline(cast(float, per_frame), color='grey', ls='--', label='per frame')
    by_offset.locator_params(axis='x', integer=True)
    by_offset.set(xlabel='offset: frames since the key frame', ylabel=drawn.words)
    by_speed.set(
        xlabel='measured speed-up over per-frame inference (numbers: key interval)',
        ylabel=f'{drawn.words}, mean over the offsets',
    )
    for axes in (by_offset, by_speed):
        axes.grid(alpha=0.3)
    figure.legend(
        *by_offset.get_legend_handles_labels(), loc='outside lower center', ncols=8, fontsize='small'
    )
    figure.suptitle(title_of(report), fontsize='small')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI)
    write_whole(path, buffer.getvalue())


def _draw_offsets(axes: Axes, longest: Row, drawn: _Drawn, style: tuple[str, str]) -> None:
    """Add one method; the row of the longest interval has all offsets."""
    marker, dashes = style
    offsets = cast('Sequence[float | None]', longest[drawn.by_offset] or ())
    points = [(offset, value) for offset, value in enumerate(offsets) if value is not None]
    label = cast(str, longest['method'])
    axes.plot(*zip(*points, strict=True), marker=marker, ms=4, ls=dashes, label=label)


def _draw_speed(axes: Axes, rows: Sequence[Row], drawn: _Drawn, style: tuple[str, str]) -> None:
    marker, dashes = style
    speed = [
        (cast(float, row['speedup']), cast(float, row[drawn.value]), cast(int, row['interval']))
        for row in rows
        if row['speedup'] and row[drawn.value] is not None
    ]
    (line,) = axes.plot(
        [item[0] for item in speed], [item[1] for item in speed], marker=marker, ms=5, ls=dashes
    )
    for speedup, accuracy, interval in speed:
        if interval > 1:  # there all methods are per-frame inference
            axes.annotate(
                f'{interval}',
                (speedup, accuracy),
                (4, 3),
                textcoords='offset points',
                fontsize='small',
                color=line.get_color(),
            )
