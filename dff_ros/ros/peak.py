# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The highest rate of images that a node holds, by the method of ros2_benchmark: a search over rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

MAX_SHARE_MISSED = 0.05
"""Of the images sent, at a rate that is held."""

TOLERANCE = 0.03
"""The search ends where the lowest rate that is not held is above the highest that is by at most this."""

_MIN_SHARE_PLAYED = 0.95
_MIN_HZ, _MAX_HZ = 0.1, 1000.0
_STEP = 1.5


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of images at a rate. `played_hz` is the rate that the player reached."""

    rate_hz: float
    num_sent: int
    num_missed: int
    played_hz: float

    @property
    def is_held(self) -> bool:
        """At most MAX_SHARE_MISSED was missed, at the rate that was asked for."""
        is_played = self.played_hz >= _MIN_SHARE_PLAYED * self.rate_hz
        return is_played and self.num_missed <= MAX_SHARE_MISSED * self.num_sent

    @property
    def fps(self) -> float:
        """Images answered per second."""
        return self.played_hz * (1 - self.num_missed / self.num_sent)


def find_peak(
    probe: Callable[[float], Probe], low_hz: float, high_hz: float, tolerance: float = TOLERANCE
) -> Probe | None:
    """The last probe at the highest rate that is held; None where none is, down to 0.1 Hz.

    `low_hz` and `high_hz` are guesses: they are raised and lowered until the one is held and the other not.
    Then the range between is halved, in ratio. The rate that is left must be held once more, else the next
    lower one must, and so on: of many probes near the limit one is lucky.
    """
    is_held = False
    while high_hz <= _MAX_HZ and probe(high_hz).is_held:
        low_hz, high_hz, is_held = high_hz, _STEP * high_hz, True
    while not is_held and low_hz >= _MIN_HZ:
        is_held = probe(low_hz).is_held
        low_hz, high_hz = (low_hz, high_hz) if is_held else (low_hz / _STEP, low_hz)
    high_hz = min(high_hz, _MAX_HZ)
    while high_hz > low_hz * (1 + tolerance):
        middle_hz = math.sqrt(low_hz * high_hz)
        low_hz, high_hz = (middle_hz, high_hz) if probe(middle_hz).is_held else (low_hz, middle_hz)
    while low_hz >= _MIN_HZ:
        last = probe(low_hz)
        if last.is_held:
            return last
        low_hz /= 1 + tolerance
    return None
