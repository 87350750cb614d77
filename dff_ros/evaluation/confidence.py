# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How far confidence can be believed: its expected calibration error, and the numbers that make it small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.confidence import MIN_DECAY_PER_S, MIN_GAIN, ConfidenceCalibration
from dff_ros.errors import ConfigError
from dff_ros.evaluation.offsets import rounded

NUM_BINS = 15
"""Equal bins of 0..1; each holds 17 of the values 0..255, the last one 18."""

MIN_PIXELS = 1000
"""Least pixels of which the head was right, and wrong, that a calibration is fitted to."""

_NUM_LEVELS = 64
"""Of disagreement, evenly spaced in its root: most of it is small."""
_AGES_PER_S = 100
_DIGITS = 4
_MAX_STEPS = 50
_LEAST_GAIN = 1e-9

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
Objective = Callable[[Values], tuple[float, Values, Values]]
"""Value, gradient and second derivatives at a point."""


class ConfidenceCounts:
    """Pixels by what the rule takes of them and whether their class is right: all that a fit needs.

    Of per-frame inference by the head's probability; of propagated frames also by the age of the key frame,
    to 10 ms, and by predicted disagreement.
    """

    def __init__(self) -> None:
        self.direct: Counts = np.zeros((256, 2), np.int64)
        self.by_age: dict[int, Counts] = {}

    def add_direct(self, probability_N: NDArray[np.uint8], is_right_N: NDArray[np.bool_]) -> None:
        """Pixels of a frame answered from its own feature: 255 x probability."""
        self.direct += _tally(probability_N, is_right_N, 256)

    def add_propagated(
        self,
        age_s: float,
        probability_N: NDArray[np.uint8],
        disagreement_N: NDArray[np.float32],
        is_right_N: NDArray[np.bool_],
    ) -> None:
        """Pixels of a frame whose key frame is `age_s` old."""
        root = np.sqrt(np.clip(disagreement_N, 0, 1))
        level = np.minimum((root * _NUM_LEVELS).astype(np.int64), _NUM_LEVELS - 1)
        counts = _tally(level << 8 | probability_N, is_right_N, _NUM_LEVELS << 8)
        age = round(age_s * _AGES_PER_S)
        if age not in self.by_age:
            self.by_age[age] = np.zeros_like(counts)
        self.by_age[age] += counts

    def fit(self) -> ConfidenceCalibration:
        """The numbers of the greatest likelihood: gain and offset by per-frame inference, then weight and
        decay, neither below its least value, by what was propagated.

        ConfigError where there is too little to fit to: fewer than MIN_PIXELS that were right, or wrong, per
        frame, and as many that were propagated; or where the head's probability tells nothing.
        """
        wrong, right = (int(number) for number in self.direct[1:].sum(0))
        if min(wrong, right) < MIN_PIXELS:
            raise ConfigError(
                f'{right} pixels are right per frame and {wrong} wrong: a calibration needs {MIN_PIXELS} of '
                'each'
            )
        num_propagated = sum(int(counts.sum()) for counts in self.by_age.values())
        if num_propagated < MIN_PIXELS:
            raise ConfigError(
                'no frame follows another one soon enough: what age and disagreement cost is seen on pairs '
                'of frames'
            )
        gain, offset = _round(_minimum(self._platt, np.array([1.0, 0.0])))
        if gain < MIN_GAIN:
            raise ConfigError(
                'where the head is surer it is no more often right: do classes and labels of the data fit '
                f'the bundle? (gain {gain:g}, needed is {MIN_GAIN:g})'
            )
        scaled = ConfidenceCalibration(gain=gain, offset=offset)
        weight, decay = _round(_minimum(self._fall(scaled), np.array([0.5, 0.0]), is_bounded=True))
        return ConfidenceCalibration(
            gain=gain,
            offset=offset,
            disagreement_weight=weight,
            decay_per_s=round(MIN_DECAY_PER_S + decay, 4),
            known_age_s=max(self.by_age) / _AGES_PER_S,
        )

    def _platt(self, point: Values) -> tuple[float, Values, Values]:
        """Negative log likelihood of per-frame inference at (gain, offset)."""
        share = ConfidenceCalibration.shares()[1:]
        x = np.stack([np.log(share / (1 - share)), np.ones(255)])
        wrong, right = self.direct[1:].T.astype(np.float64)
        eta = point @ x
        q = 1 / (1 + np.exp(-eta))
        value = float((right * np.logaddexp(0, -eta) + wrong * np.logaddexp(0, eta)).sum())
        error = (right + wrong) * q - right
        return value, x @ error, (x * ((right + wrong) * q * (1 - q))) @ x.T

    def _fall(self, scaled: ConfidenceCalibration) -> Objective:
        """The same of what was propagated at (weight, decay above the least one), in which the log of the
        confidence is linear.
        """
        levels = ((np.arange(_NUM_LEVELS) + 0.5) / _NUM_LEVELS) ** 2
        cost = np.repeat(-np.log(1 - levels), 256)
        start = np.tile(scaled.table_256.astype(np.float64) / 255, _NUM_LEVELS)
        is_used = start > 0
        ages = sorted(self.by_age)
        x = np.stack([np.tile(cost[is_used], len(ages)), np.repeat(ages, is_used.sum()) / _AGES_PER_S])
        log_start = np.tile(np.log(start[is_used]), len(ages)) - MIN_DECAY_PER_S * x[1]
        wrong, right = np.concatenate([self.by_age[age][is_used] for age in ages]).T.astype(np.float64)

        def objective(point: Values) -> tuple[float, Values, Values]:
            eta = point @ x - log_start
            odds = 1 / np.expm1(np.maximum(eta, 1e-9))
            value = float((right * eta - wrong * np.log(-np.expm1(-np.maximum(eta, 1e-9)))).sum())
            return value, x @ (right - wrong * odds), (x * (wrong * odds * (1 + odds))) @ x.T

        return objective


@dataclass(frozen=True, slots=True)
class ReliabilityFigures:
    """Of decided pixels, 0..1: expected calibration error, mean confidence, accuracy; and of each bin that is
    not empty its mean confidence, accuracy and share of the pixels. NaN of no pixels.
    """

    error: float
    mean: float
    accuracy: float
    bins: tuple[tuple[float, float, float], ...]

    def summary(self) -> dict[str, object]:
        """As JSON stores it."""
        facts = {'error': self.error, 'mean': self.mean, 'accuracy': self.accuracy}
        bins = [[round(value, 5) for value in row] for row in self.bins]
        return {**{name: rounded(value, 5) for name, value in facts.items()}, 'bins': bins}


class Reliability:
    """Confidence against accuracy, by offset (frames since the key frame)."""

    def __init__(self, num_offsets: int) -> None:
        self._counts: Counts = np.zeros((num_offsets, 256, 2), np.int64)

    def add(self, offset: int, confidence_N: NDArray[np.uint8], is_right_N: NDArray[np.bool_]) -> None:
        """Decided pixels of a frame."""
        self._counts[offset] += _tally(confidence_N, is_right_N, 256)

    def figures(self, first: int, stop: int) -> ReliabilityFigures:
        """Over the offsets from `first` to before `stop`, each counting the same."""
        counts = self._counts[first:stop].astype(np.float64)
        totals = counts.sum((1, 2))
        if not totals.all():
            return ReliabilityFigures(float('nan'), float('nan'), float('nan'), ())
        share_V2 = (counts / totals[:, None, None]).mean(0)
        value = np.arange(256)
        number = np.minimum(value // (255 // NUM_BINS), NUM_BINS - 1)
        share, right, told = (
            np.bincount(number, weights, NUM_BINS)
            for weights in (share_V2.sum(1), share_V2[:, 1], share_V2.sum(1) * value / 255)
        )
        is_used = share > 0
        rows = zip(
            told[is_used] / share[is_used], right[is_used] / share[is_used], share[is_used], strict=True
        )
        return ReliabilityFigures(
            error=float(np.abs(told - right).sum()),
            mean=float(told.sum()),
            accuracy=float(right.sum()),
            bins=tuple((float(mean), float(accuracy), float(part)) for mean, accuracy, part in rows),
        )


def _tally(values_N: NDArray[np.uint8] | Counts, is_right_N: NDArray[np.bool_], num_values: int) -> Counts:
    """Pixels by value, wrong and right ones: (num_values, 2)."""
    index = values_N.astype(np.int64) << 1 | is_right_N
    return np.bincount(index, minlength=2 * num_values).reshape(num_values, 2)


def _minimum(objective: Objective, start: Values, *, is_bounded: bool = False) -> Values:
    """The minimum of a convex function of two numbers by Newton's method; `is_bounded`: neither below 0."""
    point = start
    value, gradient, second = objective(point)
    for _ in range(_MAX_STEPS):
        is_free = ~((point <= 0) & (gradient > 0)) if is_bounded else np.ones(2, bool)
        step = np.zeros(2)
        if is_free.any():
            inner = second[np.ix_(is_free, is_free)]
            step[is_free] = np.linalg.lstsq(inner, gradient[is_free], rcond=1e-12)[0]
        gain = 0.0
        for halvings in range(30):
            tried = point - step * 0.5**halvings
            tried = np.maximum(tried, 0) if is_bounded else tried
            new = objective(tried)
            if new[0] < value:
                gain, point, (value, gradient, second) = value - new[0], tried, new
                break
        if gain <= _LEAST_GAIN * abs(value):
            break
    return point


def _round(point: Values) -> tuple[float, float]:
    first, second = (round(float(number), _DIGITS) + 0.0 for number in point)
    return first, second
