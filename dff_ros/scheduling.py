"""Key-frame schedulers: pure functions of a signal, so a replay at any rate makes the same key frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dff_ros.config import KeyframeConfig
from dff_ros.types import Action, Decision, FeatureT, Propagation


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


@dataclass(frozen=True, slots=True)
class Signal:
    """What a scheduler may look at: image stamps and content, never the clock.

    `change` is the difference of the thumbnails (dff_ros/thumbnails.py) of this frame and the one before,
    0..1: near 1 at a hard cut, small in fast motion; where frames were idle, the largest since the last
    decision. `key_change` is the same to the key frame. `measured` is None on the first frame after a key
    frame. `is_refreshing`: a key frame is being computed in the background.
    """

    frames_since_key: int
    seconds_since_key: float
    change: float = 0.0
    key_change: float = 0.0
    measured: Measured | None = None
    is_refreshing: bool = False


class KeyFrameScheduler(Protocol):
    """Decides what to do with the next frame."""

    def decide(self, signal: Signal | None) -> Decision:
        """The action for a frame; `signal` is None where the stream holds no key frame."""
        ...


@dataclass(frozen=True, slots=True)
class FixedScheduler:
    """A key frame every `interval` frames (l of equation 7), and where it is older than `max_age_s`."""

    interval: int
    max_age_s: float

    def decide(self, signal: Signal | None) -> Decision:
        """REFRESH_NOW without a key frame or above the age cap, REFRESH at the interval, else PROPAGATE."""
        if signal is None:
            return Decision(Action.REFRESH_NOW, 'no_key')
        if signal.seconds_since_key > self.max_age_s:
            return Decision(Action.REFRESH_NOW, 'max_age')
        if signal.frames_since_key >= self.interval:
            return Decision(Action.REFRESH, 'interval')
        return Decision(Action.PROPAGATE, 'within_interval')


def make_scheduler(config: KeyframeConfig) -> KeyFrameScheduler:
    """The scheduler a config asks for."""
    return FixedScheduler(config.interval, config.max_age_s)
