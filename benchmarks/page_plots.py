# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Pictures of the benchmark page; each carries a digest of what it shows, so that it can be checked."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench_rows import Result, Row, groups, label, varying
from node_tables import draw_peers
from scaling import pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGEST = 'dff_ros digest'
"""The text entry of a PNG that holds it."""

_DPI = 110


@dataclass(frozen=True, slots=True)
class Picture:
    """`data` is all that is drawn, as JSON has it."""

    file: str
    alt: str
    size: tuple[float, float]
    data: Any
    draw: Callable[[Figure, Any], None]

    @property
    def digest(self) -> str:
        """Of the data."""
        text = json.dumps([self.alt, self.data], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def png(self) -> bytes:
        """Drawn."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, layout='constrained')
        FigureCanvasAgg(figure)
        self.draw(figure, self.data)
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=_DPI, metadata={'Software': None, DIGEST: self.digest})
        return buffer.getvalue()


def pictures(result: Result) -> list[Picture]:
    """What a file can be shown as."""
    curves = {
        'intervals': _intervals(result.rows),
        'sizes': _sizes(result.rows),
        'minutes': [[row['minute'], row['ms_per_frame'], row['latency_ms']['p99']] for row in result.minutes],
    }
    found = [
        Picture(f'{result.slug}_{name}.png', _ALT[name], (7, 3.6), data, _DRAW[name])
        for name, data in curves.items()
        if data
    ]
    if 'dff_node_over_plain_node' in result.report:
        data = [[row['name'], row['fps'], row['latency_ms']] for row in result.report['rows']]
        found.append(Picture(f'{result.slug}.png', _ALT['peers'], (8, 2.4), data, draw_peers))
    return found


def _intervals(rows: Sequence[Row]) -> list[Any]:
    """For each configuration with several intervals: its name, and interval, speed-up and equation (7)."""
    names = [name for name in varying(rows) if name != 'interval']
    return [
        [
            label(found[0], names),
            sorted([row['interval'], row['speedup'], row['eq7']] for row in found),
        ]
        for found in groups(rows, ['interval']).values()
        if len({row['interval'] for row in found}) > 1
    ]


def _sizes(rows: Sequence[Row]) -> list[Any]:
    """For each configuration with several sizes: its name, and 10^6 pixels and ms of a frame, by DFF and per
    frame.
    """
    names = [name for name in varying(rows) if name != 'size']
    return [
        [
            label(found[0], names),
            sorted(
                [pixels(row) / 1e6, round(1e3 / row['dff_fps'], 3), round(1e3 / row['per_frame_fps'], 3)]
                for row in found
            ),
        ]
        for found in groups(rows, ['size']).values()
        if len({pixels(row) for row in found}) > 1
    ]


def _draw_intervals(figure: Figure, data: Sequence[Any]) -> None:
    axes = figure.subplots()
    for name, points in data:
        intervals, speedups, bounds = zip(*points, strict=True)
        (line,) = axes.plot(intervals, speedups, 'o-', label=f'{name}, measured'.lstrip(', '))
        axes.plot(intervals, bounds, '--', color=line.get_color(), label=f'{name}, equation (7)'.lstrip(', '))
    axes.set(xlabel='frames from key frame to key frame', ylabel='times per-frame inference', ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')


def _draw_sizes(figure: Figure, data: Sequence[Any]) -> None:
    axes = figure.subplots()
    for name, points in data:
        millions, dff_ms, per_frame_ms = zip(*points, strict=True)
        (line,) = axes.plot(millions, dff_ms, 'o-', label=f'{name}, DFF'.lstrip(', '))
        colour = line.get_color()
        axes.plot(
            millions, per_frame_ms, 's-', mfc='none', color=colour, label=f'{name}, per frame'.lstrip(', ')
        )
        straight = [dff_ms[0] * each / millions[0] for each in millions]
        axes.plot(millions, straight, ':', color=colour, label=f'{name}, as the pixels grow'.lstrip(', '))
    axes.set(xlabel='10$^6$ pixels', ylabel='ms of a frame', xscale='log', yscale='log')
    axes.grid(alpha=0.3, which='both')
    axes.legend(fontsize='small')


def _draw_minutes(figure: Figure, data: Sequence[Any]) -> None:
    axes = figure.subplots()
    minutes, means_ms, p99_ms = zip(*data, strict=True)
    axes.plot(minutes, means_ms, 'o-', label='a frame')
    axes.plot(minutes, p99_ms, 's--', label='p99')
    axes.set(xlabel='minute', ylabel='ms', ylim=(0, None))
    axes.locator_params(axis='x', integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')


_ALT = {
    'intervals': 'speed-up against the key interval, beside equation (7)',
    'sizes': 'cost of a frame against its pixels',
    'minutes': 'cost of a frame in each minute',
    'peers': 'frames per second and latency of each',
}
_DRAW: Mapping[str, Callable[[Figure, Any], None]] = {
    'intervals': _draw_intervals,
    'sizes': _draw_sizes,
    'minutes': _draw_minutes,
}
