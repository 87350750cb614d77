# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Schedulers over a table of pairs: their key frames, and how good the labels are that they lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.evaluation.pair_table import Answer, Rows
from dff_ros.scheduling import KeyFrameScheduler, Signal
from dff_ros.types import Action

NUM_STARTS = 20
"""First frames that each sequence is answered from, one run each: the phases of a key interval of 20."""

BEYOND = 'beyond_table'
"""Reason of a key frame that no scheduler asked for: the table has no pair as old."""

SignalOf = Callable[[Rows, int, int], Signal]
"""The signal of a frame (its index) with a key frame (its index)."""

_PRECISION = 1e-4
"""Relative precision of a threshold."""

_LEAST = 1e-6
"""Below this share of its range a threshold counts as 0."""


@dataclass(frozen=True, slots=True)
class Run:
    """One stream: the age in frames of every frame's key frame, and the reason of each key frame."""

    rows: Rows
    ages: tuple[int, ...]
    reasons: tuple[str, ...]


Schedule = Sequence[Run]
"""All runs of a scheduler over a table."""


def play(sequences: Sequence[Rows], make: Callable[[], KeyFrameScheduler], signal_of: SignalOf) -> list[Run]:
    """A scheduler over every sequence, from each of its first frames in turn; a new one for each run.

    Of a sequence shorter than twice NUM_STARTS the frames of its first half are first frames.
    """
    return [
        _run(rows[start:], make(), signal_of)
        for rows in sequences
        for start in range(min(NUM_STARTS, (len(rows) + 1) // 2))
    ]


def _run(rows: Rows, scheduler: KeyFrameScheduler, signal_of: SignalOf) -> Run:
    ages: list[int] = []
    reasons: list[str] = []
    key = 0
    for now, row in enumerate(rows):
        decision = scheduler.decide(signal_of(rows, now, key) if now else None)
        if decision.action is not Action.PROPAGATE:
            reasons.append(decision.reason)
            key = now
        elif now - key > len(row.pairs):
            reasons.append(BEYOND)
            key = now
        ages.append(now - key)
    return Run(rows, tuple(ages), tuple(reasons))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a schedule, over the frames of all its runs.

    `miou` and `agreement` (pixels labelled as by per-frame inference) in percent, `miou` NaN without labels;
    `mean_age` in frames; `reasons` of the key frames; `cut_recall`, the percentage of cuts whose frame is a
    key frame, NaN without cuts; `num_false_cuts`, the key frames made for a cut elsewhere.
    """

    num_frames: int
    key_ratio: float
    miou: float
    agreement: float
    mean_age: float
    reasons: Counter[str]
    cut_recall: float
    num_false_cuts: int

    @property
    def reason_shares(self) -> dict[str, float]:
        """The share (0..1) of the key frames that each reason made, the most frequent first."""
        return {str(reason): number / self.reasons.total() for reason, number in self.reasons.most_common()}


def outcome(schedule: Schedule, num_classes: int) -> Outcome:
    """What a schedule amounts to."""
    confusion = ConfusionMatrix(num_classes)
    disagreement = 0.0
    for answer in _answers(schedule):
        disagreement += answer.disagreement
        if answer.counts_KK1 is not None:
            confusion.counts_KK1 += answer.counts_KK1
    num_frames, reasons = num_frames_of(schedule), Counter(r for run in schedule for r in run.reasons)
    found, is_false = _cuts(schedule)
    return Outcome(
        num_frames=num_frames,
        key_ratio=key_ratio(schedule),
        miou=confusion.miou(),
        agreement=100.0 * (1.0 - disagreement / num_frames),
        mean_age=sum(sum(run.ages) for run in schedule) / num_frames,
        reasons=reasons,
        cut_recall=100.0 * float(np.mean(found)) if found else float('nan'),
        num_false_cuts=is_false,
    )


def key_ratio(schedule: Schedule) -> float:
    """Key frames over frames. The first of every run is one of them."""
    return sum(len(run.reasons) for run in schedule) / num_frames_of(schedule)


def num_frames_of(schedule: Schedule) -> int:
    """Frames of all runs."""
    return sum(len(run.ages) for run in schedule)


def _answers(schedule: Schedule) -> Iterator[Answer]:
    for run in schedule:
        for row, age in zip(run.rows, run.ages, strict=True):
            yield row.pairs[age - 1].answer if age else row.direct


def _cuts(schedule: Schedule) -> tuple[list[bool], int]:
    """Whether each cut's frame is a key frame; and how many other frames became one for a cut."""
    found: list[bool] = []
    num_false = 0
    for run in schedule:
        reasons = iter(run.reasons)
        for index, (row, age) in enumerate(zip(run.rows, run.ages, strict=True)):
            reason = '' if age else next(reasons)
            if row.is_cut and index > 0:
                found.append(age == 0)
            elif reason == 'cut':
                num_false += 1
    return found, num_false


@dataclass(frozen=True, slots=True)
class Fitted:
    """A threshold and the schedule that it leads to."""

    threshold: float
    schedule: Schedule


def fit(play_at: Callable[[float], Schedule], low: float, high: float, wanted: float) -> Fitted:
    """The threshold from `low` to `high` that comes nearest to a wanted key ratio, by bisection.

    A higher threshold must lead to fewer key frames, as it does to a rounding.
    """
    best = min((_fitted(play_at, threshold) for threshold in (low, high)), key=_off(wanted))
    least = low + _LEAST * (high - low)
    while high - low > _PRECISION * max(high, least):
        middle = _fitted(play_at, (low + high) / 2)
        best = min(best, middle, key=_off(wanted))
        if key_ratio(middle.schedule) > wanted:
            low = middle.threshold
        else:
            high = middle.threshold
    return best


def _fitted(play_at: Callable[[float], Schedule], threshold: float) -> Fitted:
    return Fitted(threshold, play_at(threshold))


def _off(wanted: float) -> Callable[[Fitted], float]:
    return lambda fitted: abs(key_ratio(fitted.schedule) - wanted)
