# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How a camera of the node is doing: figures over a window, and the rules that judge them. No rclpy."""

from __future__ import annotations

import enum
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from dff_ros.diagnostics_config import DiagnosticsConfig
from dff_ros.mailbox import Counts

WINDOW_S = 10.0
"""Rates, latencies, ages and shares are of the last so many seconds."""

EXPECTED_DROPS = frozenset({'superseded', 'deadline', 'disabled', 'inactive', 'closed'})
"""Drop reasons by which the node does what it was told; any other is a fault."""

MAX_DEGRADED = 0.5
"""A larger share of degraded answers is a warning."""

_WARN_PERIODS = 2.0
_ERROR_WARNS = 2.5
_MAX_ANSWERS = 4096


class Level(enum.IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus, the worst last but for STALE, which is that of silence."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the figures of a camera are judged by; a latency of inf is no limit."""

    latency_warn_ms: float
    latency_error_ms: float
    stale_s: float

    @classmethod
    def of(cls, config: DiagnosticsConfig, budget_ms: float, rate_in_hz: float) -> Limits:
        """Those of a config; where it gives 0, WARN above two budgets (two periods of the camera, where there
        is no budget) and ERROR above two and a half times what WARN takes.
        """
        period_ms = budget_ms or (1000 / rate_in_hz if rate_in_hz > 0 else math.inf)
        warn_ms = config.latency_warn_ms or _WARN_PERIODS * period_ms
        return cls(
            latency_warn_ms=warn_ms,
            latency_error_ms=config.latency_error_ms or _ERROR_WARNS * warn_ms,
            stale_s=config.stale_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one camera now. `silence_s`: since its last image; `unanswered_s`: since the first image that came
    after the last answer, 0 without one. `drops` are those of the last second, by reason. None where there
    was no answer in the window. Ratios are of the answered frames on which a task ran.
    """

    rate_in_hz: float
    rate_out_hz: float
    silence_s: float
    unanswered_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    key_ratio: float | None
    age_frames_mean: float | None
    age_s_mean: float | None
    degraded_ratio: float | None
    drops: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Answer:
    time_s: float
    state: str
    latency_ms: float | None
    age_frames: int
    age_s: float


class CameraHealth:
    """Collects what happens to one camera; thread-safe. `now_s` is a steady clock."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._answers: deque[_Answer] = deque(maxlen=_MAX_ANSWERS)
        self._samples: deque[tuple[float, Counts]] = deque()
        self._last_image_s = now_s()
        self._waiting_since_s: float | None = None

    def begin(self, counts: Counts) -> None:
        """Watch from now on: images are due."""
        with self._lock:
            self._answers.clear()
            self._samples = deque([(self._now_s(), counts)])
            self._last_image_s = self._now_s()
            self._waiting_since_s = None

    def arrived(self) -> None:
        """An image came."""
        with self._lock:
            self._last_image_s = self._now_s()
            if self._waiting_since_s is None:
                self._waiting_since_s = self._last_image_s

    def answered(self, state: str, latency_ms: float | None, age_frames: int, age_s: float) -> None:
        """An image was answered; `state` as in `dff/status`, no latency where no task was due on it."""
        with self._lock:
            self._answers.append(_Answer(self._now_s(), state, latency_ms, age_frames, age_s))
            self._waiting_since_s = None

    def figures(self, counts: Counts) -> Figures:
        """The figures now, by the camera's counts now; ask once a second."""
        with self._lock:
            now_s = self._now_s()
            while self._answers and self._answers[0].time_s < now_s - WINDOW_S:
                self._answers.popleft()
            before = self._samples[-1][1] if self._samples else counts
            while len(self._samples) > 1 and self._samples[1][0] <= now_s - WINDOW_S:
                self._samples.popleft()
            since_s, first = self._samples[0] if self._samples else (now_s, counts)
            self._samples.append((now_s, counts))
            answers, waiting_s = list(self._answers), self._waiting_since_s
            silence_s = now_s - self._last_image_s
        span_s = max(now_s - since_s, 1e-3)
        worked = [answer for answer in answers if answer.state != 'idle']
        p50, p99 = _percentiles(one.latency_ms for one in answers if one.latency_ms is not None)
        return Figures(
            rate_in_hz=(counts.received - first.received) / span_s,
            rate_out_hz=(counts.processed - first.processed) / span_s,
            silence_s=silence_s,
            unanswered_s=0.0 if waiting_s is None else now_s - waiting_s,
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            key_ratio=_mean(answer.state == 'key' for answer in worked),
            age_frames_mean=_mean(answer.age_frames for answer in worked),
            age_s_mean=_mean(answer.age_s for answer in worked),
            degraded_ratio=_mean(answer.state == 'degraded' for answer in worked),
            drops=dict(sorted((Counter(counts.dropped) - Counter(before.dropped)).items())),
        )


def _percentiles(values: Iterable[float]) -> tuple[float, float] | tuple[None, None]:
    sample = list(values)
    if not sample:
        return None, None
    p50, p99 = np.percentile(sample, (50, 99))
    return float(p50), float(p99)


def _mean(values: Iterable[float]) -> float | None:
    sample = list(values)
    return sum(sample) / len(sample) if sample else None


def judge(figures: Figures, limits: Limits) -> tuple[Level, str]:
    """The level of an active camera, and why: all that was found, the worst decides."""
    if figures.silence_s > limits.stale_s:
        return Level.STALE, f'no image for {figures.silence_s:.1f} s'
    found = [finding for finding in _findings(figures, limits) if finding is not None]
    if found:
        return max(level for level, _ in found), '; '.join(text for _, text in found)
    if figures.latency_p99_ms is None:
        return Level.OK, 'waiting for the first answer'
    return Level.OK, f'{figures.rate_out_hz:.1f} answers/s, latency p99 {figures.latency_p99_ms:.0f} ms'


def _findings(figures: Figures, limits: Limits) -> Iterable[tuple[Level, str] | None]:
    yield _unanswered(figures, limits)
    yield _latency(figures, limits)
    faults = {reason: number for reason, number in figures.drops.items() if reason not in EXPECTED_DROPS}
    if faults:
        told = ', '.join(f'{reason} {number}' for reason, number in faults.items())
        yield Level.WARN, f'dropped in the last second: {told}'
    if figures.degraded_ratio is not None and figures.degraded_ratio > MAX_DEGRADED:
        yield Level.WARN, f'{100 * figures.degraded_ratio:.0f} % of the answers are degraded'


def _unanswered(figures: Figures, limits: Limits) -> tuple[Level, str] | None:
    if figures.unanswered_s <= limits.stale_s:
        return None
    return Level.ERROR, f'images come, but none was answered for {figures.unanswered_s:.1f} s'


def _latency(figures: Figures, limits: Limits) -> tuple[Level, str] | None:
    p99_ms = figures.latency_p99_ms
    limits_ms = ((Level.ERROR, limits.latency_error_ms), (Level.WARN, limits.latency_warn_ms))
    for level, limit_ms in limits_ms:
        if p99_ms is not None and p99_ms > limit_ms:
            return level, f'latency p99 {p99_ms:.0f} ms is above {limit_ms:.0f} ms'
    return None
