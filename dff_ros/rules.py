# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The rules by which schedulers ask for a key frame: age, time, motion, photometric error, disagreement."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.errors import ConfigError
from dff_ros.scheduling import Limits, Pressure, Reason, Signal

_NOTHING_LEFT = 0.7
"""Difference of the thumbnails (0..1) of two pictures that show nothing in common."""

_TINY = 1e-6
"""In place of a limit of 0, which any figure above it breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRule:
    """A key frame every `interval` frames (l of equation 7)."""

    limits: Limits
    interval: int
    within: Reason = Reason.WITHIN_INTERVAL

    def pressure(self, signal: Signal) -> Pressure:
        """Frames since the key frame."""
        return Pressure(signal.frames_since_key / self.interval, Reason.INTERVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodRule:
    """A key frame every `period_s` seconds of image stamps; where stamps stand still (a source that gives
    none), every `max_interval` frames.
    """

    limits: Limits
    period_s: float
    max_interval: int
    within: Reason = Reason.WITHIN_PERIOD

    def pressure(self, signal: Signal) -> Pressure:
        """Seconds since the key frame."""
        if signal.seconds_since_key == 0:
            return Pressure(signal.frames_since_key / self.max_interval, Reason.MAX_INTERVAL)
        return Pressure(signal.seconds_since_key / self.period_s, Reason.PERIOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionRule:
    """A key frame where the flow of the frame before was too long, or left the key frame too far."""

    limits: Limits
    motion_px: float
    min_coverage: float
    within: Reason = Reason.WITHIN_LIMITS

    def pressure(self, signal: Signal) -> Pressure:
        """Length of the flow, or what it does not cover."""
        measured = signal.measured
        if measured is None:
            return Pressure(0.0, Reason.MOTION)
        motion = measured.motion_px / max(self.motion_px, _TINY)
        uncovered = (1 - measured.coverage) / max(1 - self.min_coverage, _TINY)
        return Pressure(uncovered, Reason.COVERAGE) if uncovered > motion else Pressure(motion, Reason.MOTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualRule:
    """A key frame where the warp of the frame before explained its picture badly, or where the thumbnails
    show, before any network has run, that this one has nothing of the key frame.
    """

    limits: Limits
    residual: float
    within: Reason = Reason.WITHIN_LIMITS

    def pressure(self, signal: Signal) -> Pressure:
        """Photometric error, or difference of the thumbnails."""
        change = signal.key_change / _NOTHING_LEFT
        residual = signal.measured.residual / max(self.residual, _TINY) if signal.measured else 0.0
        # Below its limit the thumbnail says less than the residual does.
        is_changed = change >= 1 and change > residual
        return Pressure(change, Reason.KEY_CHANGE) if is_changed else Pressure(residual, Reason.RESIDUAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRule:
    """A key frame where the bundle's net predicted that too many pixels were labelled otherwise than per
    frame, in all frames since the last one together, beyond what differs anyway.

    What not refreshing has cost by now is weighed against what a refresh costs, as one who hires skis by the
    day should buy them once the hire has cost as much: that is never more than twice the least, whatever
    comes. A limit on the frame's own share would leave a stale key frame standing while the camera stops.
    """

    limits: Limits
    disagreement: float
    within: Reason = Reason.WITHIN_LIMITS

    def pressure(self, signal: Signal) -> Pressure:
        """Sum of the predictions; ConfigError where the bundle predicts none."""
        if signal.measured is not None and signal.measured.disagreement is None:
            raise ConfigError(
                'keyframe.scheduler learned: the bundle predicts no disagreement; take another scheduler'
            )
        return Pressure(signal.disagreement_sum / max(self.disagreement, _TINY), Reason.DISAGREEMENT)
