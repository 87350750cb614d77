# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a frame costs at a key interval, from the costs of the stages or from measured times."""

from __future__ import annotations

import math
import statistics
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.evaluation.offsets import mean


@dataclass(frozen=True, slots=True)
class StageCost:
    """Cost of the three stages on one frame in any one unit: milliseconds, 10^9 multiply-adds."""

    extract: float
    propagate: float
    predict: float

    @property
    def ratio(self) -> float:
        """r of equation (5): a propagated frame over a key frame."""
        return (self.propagate + self.predict) / (self.extract + self.predict)

    def per_frame(self, interval: int) -> float:
        """Mean cost of a frame when every `interval`-th is a key frame."""
        if interval == 1:
            return self.extract + self.predict
        return (self.extract + (interval - 1) * self.propagate) / interval + self.predict

    def speedup(self, interval: int) -> float:
        """Equation (7), s = l / (1 + (l - 1) r), against per-frame inference; 1 at l = 1."""
        return 1.0 if interval == 1 else interval / (1 + (interval - 1) * self.ratio)


class StageTimes:
    """Milliseconds of each stage of one method, and of whole frames by offset."""

    def __init__(self, num_offsets: int) -> None:
        self._stages = {stage: array('d') for stage in ('extract', 'propagate', 'predict')}
        self._sum_ms: NDArray[np.float64] = np.zeros(num_offsets)
        self._count: NDArray[np.int64] = np.zeros(num_offsets, np.int64)

    def add_key(self, extract_ms: float, predict_ms: float) -> None:
        """A key frame was answered."""
        self._add(0, 'extract', extract_ms, predict_ms)

    def add_propagated(self, offset: int, propagate_ms: float, predict_ms: float) -> None:
        """A frame `offset` frames after its key frame was answered."""
        self._add(offset, 'propagate', propagate_ms, predict_ms)

    def _add(self, offset: int, stage: str, feature_ms: float, predict_ms: float) -> None:
        self._stages[stage].append(feature_ms)
        self._stages['predict'].append(predict_ms)
        self._sum_ms[offset] += feature_ms + predict_ms
        self._count[offset] += 1

    def medians(self) -> StageCost:
        """Median of each stage; NaN for one that never ran."""
        return StageCost(*(statistics.median(ms) if ms else math.nan for ms in self._stages.values()))

    def mean_ms(self, interval: int) -> float:
        """Mean time of a frame at a key interval: over its offsets, each the mean of its frames."""
        sums_and_counts = zip(self._sum_ms[:interval], self._count[:interval], strict=True)
        return mean(float(total) / int(count) if count else math.nan for total, count in sums_and_counts)

    def speedup(self, interval: int) -> float:
        """Measured: the mean time of a key frame over that of a frame at the interval."""
        return self.mean_ms(1) / self.mean_ms(interval)
