# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The table of an evaluation: what the rows of all tasks have in common, one for each method and interval."""

from __future__ import annotations

from typing import TypedDict

from dff_ros.evaluation.offsets import rounded
from dff_ros.evaluation.speed import StageCost, StageTimes

METHODS = {
    'dff': 'the bundle as it is',
    'dff-plain': 'without its correction branch',
    'copy': 'copied features',
    'dis': 'hand-made DIS flow',
    'clockwork': 'shallow stages of the frame with deep ones of the key frame, in torch',
    'copy-corrected': 'copied features, corrected',
    'dis-corrected': 'DIS flow, corrected',
}
"""What can be compared, in words. The paper's baselines, without the correction that it lacks, have the plain
names.
"""


class Name(TypedDict):
    """What a row is about: a method at a key interval, its flow (empty: none), and what ran it in which
    precision.
    """

    method: str
    flow: str
    runtime: str
    precision: str
    interval: int


class Cost(TypedDict):
    """What a frame costs; None where unknown.

    `ms_*` of stages are medians, `ms_per_frame` the mean time of a frame at the interval. `speedup` is
    measured from the means, `eq7` equation (7) with the stages' medians, `eq7_gmac` with multiply-adds.
    Times and speed-ups are those of the row's `runtime`, against per-frame inference in the same.
    """

    ms_extract: float | None
    ms_propagate: float | None
    ms_predict: float | None
    ms_per_frame: float | None
    speedup: float | None
    eq7: float | None
    gmac_per_frame: float | None
    eq7_gmac: float | None


def cost(times: StageTimes, gmac: StageCost | None, interval: int) -> Cost:
    """The figures at a key interval. `gmac`: multiply-adds of the stages, None where not counted."""
    stages_ms = times.medians()
    return {
        'ms_extract': rounded(stages_ms.extract, 3),
        'ms_propagate': rounded(stages_ms.propagate, 3),
        'ms_predict': rounded(stages_ms.predict, 3),
        'ms_per_frame': rounded(times.mean_ms(interval), 3),
        'speedup': rounded(times.speedup(interval), 3),
        'eq7': rounded(stages_ms.speedup(interval), 3),
        'gmac_per_frame': None if gmac is None else rounded(gmac.per_frame(interval), 3),
        'eq7_gmac': None if gmac is None else rounded(gmac.speedup(interval), 3),
    }
