"""Key-frame schedulers: pure functions of a signal, so a replay at any rate makes the same key frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dff_ros.config import KeyframeConfig
from dff_ros.types import Action, Decision


@dataclass(frozen=True, slots=True)
class Signal:
    """What a scheduler may look at: image stamps and content, never the clock."""

    frames_since_key: int
    seconds_since_key: float


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
