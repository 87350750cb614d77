# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a key-frame scheduler may look at and what it may answer.

Decisions depend on image stamps and content only, so a replay at any rate makes the same key frames.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from dff_ros.config import KeyframeConfig
from dff_ros.types import Action, Decision, FeatureT, Propagation


class Reason(enum.StrEnum):
    """Why a scheduler decided as it did."""

    # forced, whatever the scheduler
    NO_KEY = 'no_key'
    """There is no key frame: the first image, or the first after a reset."""
    CUT = 'cut'
    """The picture has nothing of the one before (`keyframe.cut`); not of `fixed` and `period`."""
    MAX_AGE = 'max_age'
    """The key frame is older than `keyframe.max_age_s`."""
    MAX_INTERVAL = 'max_interval'
    """`keyframe.max_interval` frames have passed; of `fixed` never, of `period` without stamps only."""
    # a limit of the scheduler is reached
    INTERVAL = 'interval'
    """`keyframe.interval` frames have passed."""
    PERIOD = 'period'
    """`keyframe.period_s` seconds have passed."""
    MOTION = 'motion'
    """The flow from the key frame is longer than `keyframe.motion_px`."""
    COVERAGE = 'coverage'
    """Less than `keyframe.min_coverage` of the picture comes from within the key frame."""
    RESIDUAL = 'residual'
    """The photometric error of the warp is above `keyframe.residual`."""
    KEY_CHANGE = 'key_change'
    """The picture has nothing of the key frame any more, by their thumbnails."""
    DISAGREEMENT = 'disagreement'
    """The predicted disagreement with per-frame inference, what of it is above `keyframe.disagreement_floor`
    and summed since the key frame, is above `keyframe.disagreement`.
    """
    SPARE_BUDGET = 'spare_budget'
    """No limit is reached, but the budget allows for more key frames."""
    # propagate
    WITHIN_INTERVAL = 'within_interval'
    """`fixed`: not yet."""
    WITHIN_PERIOD = 'within_period'
    """`period`: not yet."""
    WITHIN_LIMITS = 'within_limits'
    """Content-aware schedulers: the key frame still serves."""
    OVER_BUDGET = 'over_budget'
    """A limit is reached, but the budget is spent."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the last propagation from the present key frame showed; see Propagation.

    `motion_px`: source-image pixels. `coverage`: 0..1. `residual`: grey levels. `disagreement`: 0..1, None
    where the bundle has no net that predicts it.
    """

    motion_px: float
    coverage: float
    residual: float
    disagreement: float | None

    @classmethod
    def of(cls, propagation: Propagation[FeatureT]) -> Measured:
        """What a propagation showed."""
        return cls(
            propagation.motion_px, propagation.coverage, propagation.residual, propagation.disagreement
        )


def above(floor: float, disagreement: float | None) -> float:
    """What counts of a frame's disagreement, 0 where there is none."""
    return max(0.0, disagreement - floor) if disagreement is not None else 0.0


@dataclass(frozen=True, slots=True)
class Signal:
    """What a scheduler may look at: image stamps and content, never the clock.

    `change` is the difference of the thumbnails (dff_ros/thumbnails.py) of this frame and the one before,
    0..1: near 1 at a hard cut, small in fast motion; where frames were idle, the largest since the last
    decision. `key_change` is the same to the key frame. `measured` is None on the first frame after a key
    frame; `disagreement_sum` is what of its `disagreement` was above `keyframe.disagreement_floor`, summed
    over all frames propagated since the key frame came into use. `is_refreshing`: a key frame is being
    computed in the background. `key_number`: which frame of the stream the key frame is; `stamp_ns`: the
    stamp of this one.
    """

    frames_since_key: int
    seconds_since_key: float
    change: float = 0.0
    key_change: float = 0.0
    measured: Measured | None = None
    disagreement_sum: float = 0.0
    is_refreshing: bool = False
    key_number: int = 0
    stamp_ns: int = 0


class KeyFrameScheduler(Protocol):
    """Decides what to do with the next frame. One stream has one: `budget` has a state of its own."""

    def decide(self, signal: Signal | None) -> Decision:
        """The action for a frame and its Reason; `signal` is None where the stream holds no key frame."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What forces a key frame, whatever the scheduler. `max_interval` and `cut` are None where they do not
    apply.
    """

    max_age_s: float
    max_interval: int | None = None
    cut: float | None = None

    @classmethod
    def of(cls, config: KeyframeConfig) -> Limits:
        """Those of the schedulers that look at content."""
        return cls(max_age_s=config.max_age_s, max_interval=config.max_interval, cut=config.cut)

    def forced(self, signal: Signal) -> Decision | None:
        """A key frame that must be made; None where the scheduler is free."""
        if self.cut is not None and signal.change > self.cut:
            return Decision(Action.REFRESH_NOW, Reason.CUT)
        if signal.seconds_since_key > self.max_age_s:
            return Decision(Action.REFRESH_NOW, Reason.MAX_AGE)
        if self.max_interval is not None and signal.frames_since_key >= self.max_interval:
            return Decision(Action.REFRESH, Reason.MAX_INTERVAL)
        return None


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much a frame asks for a key frame: 1 where a scheduler's limit is reached, which `reason` names."""

    value: float
    reason: Reason


class Rule(Protocol):
    """A scheduler that is a limit on one figure of the signal."""

    @property
    def limits(self) -> Limits:
        """What forces a key frame besides."""
        ...

    @property
    def within(self) -> Reason:
        """Why a frame below the limit is propagated."""
        ...

    def pressure(self, signal: Signal) -> Pressure:
        """The figure, as a multiple of its limit."""
        ...


@dataclass(frozen=True, slots=True)
class RuleScheduler:
    """A key frame where the pressure of a rule reaches 1, and where its limits force one."""

    rule: Rule

    def decide(self, signal: Signal | None) -> Decision:
        """REFRESH_NOW without a key frame, in a cut or above the age cap; REFRESH at a limit."""
        if signal is None:
            return Decision(Action.REFRESH_NOW, Reason.NO_KEY)
        forced = self.rule.limits.forced(signal)
        if forced is not None:
            return forced
        pressure = self.rule.pressure(signal)
        if pressure.value >= 1:
            return Decision(Action.REFRESH, pressure.reason)
        return Decision(Action.PROPAGATE, self.rule.within)
