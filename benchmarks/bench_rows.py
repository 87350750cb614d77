# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Rows of `dff bench --json`: what each is about, and their tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_tables import number, table

Row = Mapping[str, Any]

_UNTRAINED = 'untrained'


def size_text(size: Sequence[int]) -> str:
    """(width, height) in words."""
    return f'{size[0]}x{size[1]}'


def _switch(value: object) -> str:
    return 'on' if value else 'off'


def _bundle(row: Row) -> str:
    name = str(row['bundle'])
    is_told = _UNTRAINED in name or not row.get('is_untrained')
    return name if is_told else f'{name} ({_UNTRAINED})'


FACTS: Mapping[str, Callable[[Row], str]] = {
    'bundle': _bundle,
    'size': lambda row: size_text(row['size']),
    'backend': lambda row: str(row['backend']),
    'runtime': lambda row: str(row['runtime']),
    'provider': lambda row: str(row['provider']),
    'device': lambda row: str(row['device']),
    'precision': lambda row: str(row['precision']),
    'tasks': lambda row: ' + '.join(row['tasks']) or 'none',
    'confidence': lambda row: _switch(row['confidence']),
    'refresh': lambda row: str(row['refresh']),
    'threads': lambda row: str(row['threads']),
    'cores': lambda row: str(row['cores']),
    'interval': lambda row: str(row['interval']),
}
"""What tells rows apart, in words; those that a row does not have are left out."""

STAGES = ('extract', 'flow', 'warp', 'correct', 'propagate', 'predict_segmentation', 'predict_detection')


@dataclass(frozen=True, slots=True)
class Result:
    """A file of figures; `name` is its path below benchmarks/."""

    name: str
    report: Row

    @classmethod
    def read(cls, path: Path, folder: Path) -> Result:
        """From a JSON file below a folder."""
        return cls(path.relative_to(folder).as_posix(), json.loads(path.read_text(encoding='utf-8')))

    @property
    def machine(self) -> str:
        """The folder it lies in."""
        return self.name.partition('/')[0]

    @property
    def slug(self) -> str:
        """For the names of its pictures."""
        return self.name.removesuffix('.json').replace('/', '_')

    @property
    def rows(self) -> list[Row]:
        """Those of `dff bench`; one configuration is a row without a list."""
        rows = self.report.get('rows', [self.report])
        return [row for row in rows if 'stages_ms' in row]

    @property
    def minutes(self) -> list[Row]:
        """Those of `dff bench --minutes`."""
        minutes = self.report.get('minutes')
        return minutes if isinstance(minutes, list) else []

    @property
    def nodes(self) -> list[Row]:
        """Reports of the node: the file's own, or those beside rows of `dff bench --node`."""
        rows = self.report.get('rows', [])
        return [row for row in (self.report, *rows) if 'node_overhead_ms' in row and 'node' in row]

    @property
    def rates(self) -> list[Row]:
        """Kinds of refresh at a camera's rate."""
        return [row for row in self.report.get('rows', []) if 'p99_over_p50' in row]


def fact(row: Row, name: str) -> str:
    """One of FACTS, empty where the row does not tell it."""
    return FACTS[name](row) if row.get(name) is not None else ''


def groups(rows: Sequence[Row], but: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Rows that differ in nothing `but` these facts."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = tuple(fact(row, name) for name in FACTS if name not in but)
        found.setdefault(key, []).append(row)
    return found


def setup(rows: Sequence[Row], but: Sequence[str] = ()) -> str:
    """The facts in which rows agree, as a line."""
    names = [name for name in FACTS if name not in but and name not in varying(rows)]
    return ', '.join(_phrase(name, fact(rows[0], name)) for name in names if fact(rows[0], name))


def varying(rows: Sequence[Row]) -> list[str]:
    """The facts in which they differ."""
    return [name for name in FACTS if len({fact(row, name) for row in rows}) > 1]


def label(row: Row, names: Sequence[str]) -> str:
    """Some facts of a row, as a line."""
    return ', '.join(_phrase(name, fact(row, name)) for name in names if fact(row, name))


def _phrase(name: str, text: str) -> str:
    if name in ('bundle', 'size', 'runtime', 'device', 'precision'):
        return text
    if name in ('threads', 'cores'):
        return f'{text} {name if text != "1" else name[:-1]}'
    return f'key frame every {text}' if name == 'interval' else f'{name} {text}'


def speed_table(rows: Sequence[Row]) -> str:
    """Frames per second, speed-up, equation (7), latency and what else was told."""
    names = varying(rows)
    columns: dict[str, Callable[[Row], str]] = {
        'per frame, frames/s': lambda row: number(row['per_frame_fps']),
        'DFF, frames/s': lambda row: number(row['dff_fps']),
        'speed-up': lambda row: f'{row["speedup"]:.2f}',
        'equation (7)': lambda row: f'{row["eq7"]:.2f}',
        'of it': lambda row: f'{row["speedup_over_eq7"]:.2f}',
        'p50, ms': lambda row: number(row['latency_ms']['p50']),
        'p90': lambda row: number(row['latency_ms']['p90']),
        'p99': lambda row: number(row['latency_ms']['p99']),
        'longest': lambda row: number(row['latency_ms']['max']),
        **{
            f'{name} per frame': lambda row, name=name: number(row['per_frame_latency_ms'][name])
            for name in ('p50', 'p99')
            if _told(rows, 'per_frame_latency_ms')
        },
        **{
            title: lambda row, name=name: number(row.get(name))
            for name, title in (
                ('engine_overhead_ms', 'engine adds, ms'),
                ('memory_mb', 'memory, MB'),
                ('device_memory_mb', 'on the device, MB'),
            )
            if _told(rows, name)
        },
    }
    if _told(rows, 'joules_per_frame'):
        columns['J per frame'] = lambda row: _joules(row, 'per_frame')
        columns['J by DFF'] = lambda row: _joules(row, 'dff')
    return _rows_table(rows, names, columns)


def stage_table(rows: Sequence[Row]) -> str:
    """Medians of the stages, and their multiply-adds; they are the same at each interval."""
    firsts = [found[0] for found in groups(rows, ['interval']).values()]
    columns: dict[str, Callable[[Row], str]] = {
        stage.replace('predict_', ''): lambda row, stage=stage: number(row['stages_ms'][stage])
        for stage in STAGES
    }
    if _told(rows, 'gmac'):
        for stage in ('extract', 'propagate', 'predict'):
            columns[f'{stage}, GMAC'] = lambda row, stage=stage: _gmac(row, stage)
    return _rows_table(firsts, varying(firsts), columns)


def minute_table(minutes: Sequence[Row]) -> str:
    """What a frame costs in each minute of a run."""
    columns: dict[str, Callable[[Row], str]] = {
        'minute': lambda row: str(row['minute']),
        'frames': lambda row: str(row['frames']),
        'ms per frame': lambda row: f'{row["ms_per_frame"]:.2f}',
        'p50, ms': lambda row: number(row['latency_ms']['p50']),
        'p99': lambda row: number(row['latency_ms']['p99']),
        'longest': lambda row: number(row['latency_ms']['max']),
    }
    if _told(minutes, 'memory_mb'):
        columns['memory, MB'] = lambda row: number(row.get('memory_mb'))
    return _rows_table(minutes, [], columns)


def rate_table(rows: Sequence[Row]) -> str:
    """Kinds of refresh at a camera's rate."""
    columns: dict[str, Callable[[Row], str]] = {
        'refresh': lambda row: str(row['refresh']),
        'answered': lambda row: f'{row["answered"]} of {row["frames"]}',
        'p50, ms': lambda row: number(row['latency_ms']['p50']),
        'p90': lambda row: number(row['latency_ms']['p90']),
        'p99': lambda row: number(row['latency_ms']['p99']),
        'longest': lambda row: number(row['latency_ms']['max']),
        'p99 / p50': lambda row: number(row['p99_over_p50']),
        'mean age, frames': lambda row: number(row['age_frames_mean']),
    }
    return _rows_table(rows, [], columns)


def _rows_table(
    rows: Sequence[Row], names: Sequence[str], columns: Mapping[str, Callable[[Row], str]]
) -> str:
    cells = [
        [*(fact(row, name) for name in names), *(make(row) for make in columns.values())] for row in rows
    ]
    return table([*names, *columns], cells)


def _told(rows: Sequence[Row], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _joules(row: Row, name: str) -> str:
    joules = row.get('joules_per_frame')
    return '-' if joules is None else f'{joules[name]:.2f}'


def _gmac(row: Row, stage: str) -> str:
    gmac = row.get('gmac')
    return '-' if gmac is None else f'{gmac[stage]:.3g}'
