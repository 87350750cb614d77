# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The table of a scheduler evaluation: each scheduler at each wanted mean key ratio, beside `fixed`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypedDict

import numpy as np

from dff_ros.config import KeyframeConfig, replace, walk
from dff_ros.errors import ConfigError
from dff_ros.evaluation.offsets import rounded
from dff_ros.evaluation.pair_table import Rows, oracle_signal, signal_of
from dff_ros.evaluation.schedules import (
    NUM_STARTS,
    Outcome,
    Schedule,
    fit,
    outcome,
    play,
)
from dff_ros.schedulers import make_scheduler

FIXED, LEARNED, ORACLE, BUDGET = 'fixed', 'learned', 'oracle', 'budget'

KNOBS = {
    FIXED: 'interval',
    'period': 'period_s',
    'motion': 'motion_px',
    'residual': 'residual',
    LEARNED: 'disagreement',
    ORACLE: 'disagreement',
}
"""The setting of each scheduler that decides how many key frames it makes; `budget` finds its own."""

SCHEDULERS = (*KNOBS, BUDGET)
"""What can be evaluated: those of `keyframe.scheduler`, and one that knows the true disagreement."""


_FAR = 0.1
"""Relative difference of the wanted and the achieved key ratio that is told."""


class SchedulerRow(TypedDict):
    """One scheduler at one wanted mean key ratio; accuracies in percent, None where unknown.

    `achieved` is its mean key ratio, with the setting `parameter` at `threshold`. `miou` is over all frames
    of all runs, `agreement` the share of pixels labelled as by per-frame inference. `fixed` is the accuracy
    (`miou`, or `agreement` without labels) of the scheduler `fixed` at the achieved ratio, interpolated
    between its intervals; `loss` what is lost against per-frame inference, and `recovered` how much of what
    `fixed` loses is not. `mean_age` in frames; `reasons`: shares of the key frames. `cut_recall`: percentage
    of hard cuts whose frame is a key frame; `num_false_cuts`: key frames made for a cut where none is.
    """

    method: str
    scheduler: str
    key_ratio: float
    achieved: float
    parameter: str
    threshold: float | None
    miou: float | None
    agreement: float | None
    loss: float | None
    fixed: float | None
    recovered: float | None
    mean_age: float
    reasons: dict[str, float]
    cut_recall: float | None
    num_false_cuts: int


class SchedulerTable(TypedDict):
    """All rows, and what they stand beside."""

    rows: list[SchedulerRow]
    per_frame_miou: float | None
    labelled: bool
    num_starts: int


class SchedulerRows:
    """Fits the schedulers to the key ratios over tables of pairs.

    ConfigError for an unknown scheduler, and for a key ratio outside of what `keyframe.max_interval` allows.
    """

    def __init__(
        self, config: KeyframeConfig, num_classes: int, schedulers: Sequence[str], key_ratios: Sequence[float]
    ) -> None:
        self._config, self._num_classes = config, num_classes
        self._schedulers, self._key_ratios = tuple(schedulers), tuple(key_ratios)
        for name in schedulers:
            if name not in SCHEDULERS:
                raise ConfigError(f'unknown scheduler {name!r}; known are {", ".join(SCHEDULERS)}')
        lowest = 1 / (config.max_interval + 1)
        for ratio in key_ratios:
            if not lowest <= ratio <= 1:
                raise ConfigError(
                    f'key ratio {ratio:g}: allowed is from {lowest:.3g}, which keyframe.max_interval '
                    f'{config.max_interval} leads to, to 1'
                )

    def report(self, tables: Mapping[str, Sequence[Rows]]) -> SchedulerTable:
        """`rows` of the table of every method (its sequences, none empty), and per-frame inference."""
        methods = [
            _Method(name, table, self._config, self._num_classes) for name, table in tables.items() if table
        ]
        direct = methods[0].by_interval[0].miou if methods else math.nan
        return {
            'rows': [
                self._row(method, name, ratio)
                for method in methods
                for name in self._schedulers
                for ratio in self._key_ratios
            ],
            'per_frame_miou': rounded(direct),
            'labelled': not math.isnan(direct),
            'num_starts': NUM_STARTS,
        }

    def _row(self, method: _Method, name: str, ratio: float) -> SchedulerRow:
        threshold, found = method.fitted(name, ratio)
        return {
            'method': method.name,
            'scheduler': name,
            'key_ratio': ratio,
            'achieved': round(found.key_ratio, 4),
            'parameter': KNOBS.get(name, 'key_ratio'),
            'threshold': float(f'{threshold:.5g}'),
            **method.beside_fixed(found),
            'mean_age': round(found.mean_age, 2),
            'reasons': {reason: round(share, 3) for reason, share in found.reason_shares.items()},
            'cut_recall': rounded(found.cut_recall),
            'num_false_cuts': found.num_false_cuts,
        }


def far_from_wanted(rows: Sequence[SchedulerRow]) -> list[str]:
    """A note on the key ratios that no setting of a scheduler comes near, if there are any."""
    far = [
        f'{row["scheduler"]} {row["key_ratio"]:g} ({row["achieved"]:.3g}, {row["method"]})'
        for row in rows
        if row['scheduler'] != BUDGET and abs(row['achieved'] / row['key_ratio'] - 1) > _FAR
    ]
    if not far:
        return []
    return [
        f'No setting comes near to these key ratios: {", ".join(far)}. The caps on age and interval, cuts '
        'and the first frames of sequences set the least; content is seen a frame late, which sets the most.'
    ]


class _Accuracies(TypedDict):
    miou: float | None
    agreement: float | None
    loss: float | None
    fixed: float | None
    recovered: float | None


class _Method:
    """The pairs of one method, and what `fixed` makes of them at every interval; the first is per frame."""

    def __init__(
        self, name: str, sequences: Sequence[Rows], config: KeyframeConfig, num_classes: int
    ) -> None:
        self.name, self.sequences = name, sequences
        self._config, self._num_classes = config, num_classes
        longest = max((len(row.pairs) for rows in sequences for row in rows), default=0)
        self.by_interval = [self._played(FIXED, interval) for interval in range(1, longest + 2)]

    def fitted(self, name: str, ratio: float) -> tuple[float, Outcome]:
        """The threshold that leads a scheduler nearest to a key ratio, and the outcome."""
        if name == BUDGET:
            return ratio, self._played(name, ratio)
        if name == FIXED:
            offs = [abs(found.key_ratio - ratio) for found in self.by_interval]
            index = offs.index(min(offs))
            return float(index + 1), self.by_interval[index]
        knob = KNOBS[name]
        (parameter,) = (found for found in walk(KeyframeConfig) if found.name == knob)
        low, high = parameter.minimum, parameter.maximum
        if low is None or high is None:
            raise ConfigError(f'{knob} has no range to look for a threshold in')
        best = fit(lambda threshold: self._schedule(name, threshold), low, high, ratio)
        return best.threshold, outcome(best.schedule, self._num_classes)

    def beside_fixed(self, found: Outcome) -> _Accuracies:
        """Accuracies of an outcome, and of `fixed` at the same key ratio."""
        direct = self.by_interval[0]
        is_labelled = not math.isnan(direct.miou)

        def accuracy(of: Outcome) -> float:
            return of.miou if is_labelled else of.agreement

        curve = sorted((of.key_ratio, accuracy(of)) for of in self.by_interval)
        ratios, accuracies = zip(*curve, strict=True)
        fixed = float(np.interp(found.key_ratio, ratios, accuracies))
        lost = accuracy(direct) - fixed
        recovered = 100 * (accuracy(found) - fixed) / lost if lost > 0 else math.nan
        return {
            'miou': rounded(found.miou),
            'agreement': rounded(found.agreement),
            'loss': rounded(accuracy(direct) - accuracy(found)),
            'fixed': rounded(fixed),
            'recovered': rounded(recovered, 1),
        }

    def _played(self, name: str, threshold: float) -> Outcome:
        return outcome(self._schedule(name, threshold), self._num_classes)

    def _schedule(self, name: str, threshold: float) -> Schedule:
        setting = 'key_ratio' if name == BUDGET else KNOBS[name]
        value = int(threshold) if name == FIXED else threshold
        config = replace(self._config, {'scheduler': LEARNED if name == ORACLE else name, setting: value})
        signals = oracle_signal if name == ORACLE else signal_of
        floor = self._config.disagreement_floor
        return play(self.sequences, lambda: make_scheduler(config), partial(signals, floor=floor))
