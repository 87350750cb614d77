# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a run or a demo tells at its end: statistics of the answered frames, tables, the JSON file, the live
view.
"""

from __future__ import annotations

import json
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import cast

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dff_ros.evaluation.metrics import percentiles
from dff_ros.output_files import write_whole

STAGES = ('extract', 'propagate', 'flow', 'warp', 'predict', 'predict_segmentation', 'predict_detection')
"""Stages with a time of their own; flow and warp are parts of propagate, the tasks' of predict."""

_ABOUT = ('source', 'bundle', 'backend', 'flow', 'refresh')
_PLAIN_PERIOD_S = 2.0
_LIVE_HZ = 4


class FrameStatistics:
    """Latencies, ages and stage times of the answered frames; a few bytes for each."""

    def __init__(self) -> None:
        self._latency_ms = {True: array('f'), False: array('f')}
        self._num_idle = self._num_refreshed = self._num_skipped = 0
        self._age_sum = 0
        self._num_boxes: list[int] = []
        self._stage_sum: Counter[str] = Counter()
        self._stage_count: Counter[str] = Counter()
        self.reset_causes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(
        self,
        *,
        is_key: bool,
        latency_ms: float,
        age_frames: int,
        stages_ms: Mapping[str, float],
        reason: str = '',
        reset_cause: str = '',
        num_boxes: int | None = None,
        is_idle: bool = False,
        is_refreshed: bool = False,
        is_skipped: bool = False,
    ) -> None:
        """Count one answered frame; a stage of 0 ms did not run. `num_boxes` is None where detection did not
        run; an idle frame, on which no task ran, has no part in latencies and ages. `is_refreshed`: a new key
        frame came into use; `is_skipped`: it is idle because there was no time for it.
        """
        self._num_refreshed += is_key or is_refreshed
        self._num_skipped += is_skipped
        if is_idle:
            self._num_idle += 1
        else:
            self._latency_ms[is_key].append(latency_ms)
            self._age_sum += age_frames
        if num_boxes is not None:
            self._num_boxes.append(num_boxes)
        for stage, spent_ms in stages_ms.items():
            if spent_ms > 0:
                self._stage_sum[stage] += spent_ms  # type: ignore[assignment]
                self._stage_count[stage] += 1
        if reset_cause:
            self.reset_causes[reset_cause] += 1
        if reason:
            self.reasons[reason] += 1

    @property
    def num_frames(self) -> int:
        """Frames answered, idle ones too."""
        return self._num_worked + self._num_idle

    @property
    def num_keys(self) -> int:
        """Key frames that came into use."""
        return self._num_refreshed

    @property
    def _num_worked(self) -> int:
        return len(self._latency_ms[True]) + len(self._latency_ms[False])

    def mean_latency_ms(self) -> float | None:
        """Over all frames, an idle one as 0; None before the first that is not idle."""
        total = sum(sum(values) for values in self._latency_ms.values())
        return total / self.num_frames if self._num_worked else None

    def latency_ms(self) -> dict[str, float | None]:
        """p50 and p99 over all frames but the idle ones."""
        return _rounded(percentiles(self._latency_ms[True] + self._latency_ms[False]))

    def age_frames_mean(self) -> float | None:
        """Mean number of frames since the key frame in use; a key frame's own is 0."""
        return round(self._age_sum / self._num_worked, 3) if self._num_worked else None

    def detection(self) -> dict[str, object] | None:
        """How many frames were searched for objects, and the mean number of boxes; None where none was."""
        if not self._num_boxes:
            return None
        mean = sum(self._num_boxes) / len(self._num_boxes)
        return {'frames': len(self._num_boxes), 'boxes_mean': round(mean, 3)}

    def summary(self) -> dict[str, object]:
        """The fields that a run and a demo have in common."""
        return {
            'processed': self.num_frames,
            'key_frames': self.num_keys,
            'idle_frames': self._num_idle - self._num_skipped,
            'skipped_frames': self._num_skipped,
            'latency_ms': self.latency_ms(),
            'latency_ms_key': _rounded(percentiles(self._latency_ms[True])),
            'latency_ms_propagated': _rounded(percentiles(self._latency_ms[False])),
            'age_frames_mean': self.age_frames_mean(),
            'stages_ms': {
                stage: round(self._stage_sum[stage] / self._stage_count[stage], 3)
                for stage in STAGES
                if self._stage_count[stage]
            },
            'detection': self.detection(),
            'reasons': dict(sorted(self.reasons.items())),
            'reset_causes': dict(sorted(self.reset_causes.items())),
        }


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


def write_json(path: Path, report: Mapping[str, object]) -> None:
    """Write a report as a whole or not at all; DffError names the file."""
    write_whole(path, (json.dumps(report, indent=2, allow_nan=False) + '\n').encode())


def print_report(console: Console, title: str, report: Mapping[str, object]) -> None:
    """Print the figures, then IoU per class where there is ground truth."""
    table = Table(title=title, title_justify='left', show_header=False)
    table.add_column(style='cyan')
    table.add_column()
    for name, value in _rows(report):
        table.add_row(name, value)
    console.print(table)
    per_class = cast('Mapping[str, float | None] | None', report.get('iou_per_class'))
    if not per_class:
        return
    accuracy = Table(title='Accuracy against the ground truth', title_justify='left')
    accuracy.add_column('class')
    accuracy.add_column('IoU %', justify='right')
    for name, iou in per_class.items():
        accuracy.add_row(name, 'not seen' if iou is None else f'{iou:.1f}')
    accuracy.add_section()
    accuracy.add_row('mean', _number(report['miou'], 1))
    console.print(accuracy)


def _rows(report: Mapping[str, object]) -> list[tuple[str, str]]:
    rows = [(name, str(report[name])) for name in _ABOUT if report.get(name)]
    if 'published' in report:
        dropped = cast('Mapping[str, int]', report['dropped'])
        reasons = ', '.join(f'{number} {reason}' for reason, number in dropped.items()) or 'none'
        rows += [('published', str(report['published'])), ('dropped', reasons)]
    processed, keys = cast(int, report['processed']), cast(int, report['key_frames'])
    ratio = f' ({100 * keys / processed:.1f} %)' if processed else ''
    decided = f'interval {report["interval"]}' if report['interval'] else f'scheduler {report["scheduler"]}'
    rows += [('processed', str(processed)), ('key frames', f'{keys}{ratio}, {decided}')]
    if decisions := cast('Mapping[str, int] | None', report.get('reasons')):
        counts = ', '.join(f'{number} {reason}' for reason, number in decisions.items())
        rows.append(('reasons', counts))
    if report.get('idle_frames'):
        rows.append(('idle, no task due', str(report['idle_frames'])))
    if report.get('skipped_frames'):
        rows.append(('skipped, over the budget', str(report['skipped_frames'])))
    rows += [('frames/s', _number(report['fps'], 1))]
    if 'camera_fps' in report:
        rows += [('frames/s of the camera', _number(report['camera_fps'], 1))]
    if 'engine_fps' in report:
        rows += [('frames/s, engine alone', _number(report['engine_fps'], 1))]
    for suffix, words in (('', ''), ('_key', ', key frames'), ('_propagated', ', propagated')):
        latency = cast('Mapping[str, float | None]', report[f'latency_ms{suffix}'])
        if latency['p50'] is not None:
            rows.append(
                (
                    f'latency{words}',
                    f'p50 {_number(latency["p50"], 1)} ms, p99 {_number(latency["p99"], 1)} ms',
                )
            )
    stages = cast('Mapping[str, float]', report['stages_ms'])
    rows.append(('stages, mean', ', '.join(f'{name} {value:.1f} ms' for name, value in stages.items())))
    rows.append(('age, mean', f'{_number(report["age_frames_mean"], 2)} frames'))
    if detection := cast('Mapping[str, object] | None', report.get('detection')):
        mean = _number(detection['boxes_mean'], 2)
        rows.append(('boxes, mean', f'{mean} on {detection["frames"]} frames'))
    return rows


def _number(value: object, digits: int) -> str:
    return '-' if value is None else f'{cast(float, value):.{digits}f}'


class LiveView:
    """A table that follows the run on a terminal, a line every two seconds elsewhere; a context manager."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._shown_s = 0.0

    def update(self, facts: Mapping[str, str]) -> None:
        """Show {name: value}; cheap when called more often than the view changes."""
        now_s = time.monotonic()
        if now_s - self._shown_s < (1 / _LIVE_HZ if self._live else _PLAIN_PERIOD_S):
            return
        self._shown_s = now_s
        if self._live is None:
            line = ', '.join(f'{name} {value}' for name, value in facts.items())
            self._console.print(line, soft_wrap=True, highlight=False)
            return
        table = Table(title=self._title, title_justify='left')
        for name in facts:
            table.add_column(name, justify='right')
        table.add_row(*facts.values())
        self._live.update(table, refresh=True)

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
