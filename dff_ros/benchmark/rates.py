# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Latency of an engine that is fed at a camera's rate: every frame counts from when it was due."""

from __future__ import annotations

import math
import os
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import available_cores
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig, replace
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.evaluation.metrics import percentiles
from dff_ros.opening import open_engine
from dff_ros.sources import FrameSource
from dff_ros.stream import DEADLINE
from dff_ros.types import Frame, StepResult

SUPERSEDED = 'superseded'
"""Why a frame was missed: a newer one had come when the engine was free. DEADLINE: the engine skipped it."""

_RANKS = (50, 90, 99, 100)
_NUM_IMAGES = 150
_ROUND_S = 2.0
_NS_PER_S = 10**9


class Clock(Protocol):
    """What passes for time."""

    def now_s(self) -> float:
        """Seconds since any moment."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Wait."""
        ...


class WallClock:
    """The real one."""

    def now_s(self) -> float:
        """See Clock."""
        return time.perf_counter()

    def sleep(self, duration_s: float) -> None:
        """See Clock."""
        time.sleep(duration_s)


@dataclass
class Contender:
    """An engine under test and its figures; its camera has given `num_given` frames so far.

    `latencies_ms` run from when a frame was due to its answer, `ages_s` are the key frame's at the frame.
    """

    refresh: str
    engine: Engine[Any, Any]
    num_given: int = 0
    num_refreshes: int = 0
    latencies_ms: array[float] = field(default_factory=lambda: array('d'))
    ages_s: array[float] = field(default_factory=lambda: array('d'))
    missed: Counter[str] = field(default_factory=lambda: Counter({SUPERSEDED: 0, DEADLINE: 0}))

    def prepare(self, images: Sequence[NDArray[np.uint8]], rate_hz: float) -> None:
        """Warm up and make the first key frame, neither of which counts."""
        self.engine.warm_up((images[0].shape[0], images[0].shape[1]))
        self.answer(images, rate_hz, self.num_given)
        self.num_given += 1

    def play(
        self, images: Sequence[NDArray[np.uint8]], rate_hz: float, num_frames: int, clock: Clock
    ) -> None:
        """Answer the next frames of the camera; where several have come meanwhile, the newest."""
        start_s, index = clock.now_s(), 0
        while index < num_frames:
            clock.sleep(max(0.0, start_s + index / rate_hz - clock.now_s()))
            newest = math.floor((clock.now_s() - start_s) * rate_hz + 1e-6)
            newest = max(index, min(newest, num_frames - 1))
            self.missed[SUPERSEDED] += newest - index
            result = self.answer(images, rate_hz, self.num_given + newest)
            self._count(result, 1e3 * (clock.now_s() - start_s - newest / rate_hz))
            index = newest + 1
        self.num_given += num_frames
        if self.engine.worker is not None:
            self.engine.worker.wait()  # what it still computes would take time from the next contender

    def answer(self, images: Sequence[NDArray[np.uint8]], rate_hz: float, number: int) -> StepResult:
        """Answer a frame, by its number. The images run forward and backward, so none is a cut."""
        turn = 2 * (len(images) - 1) or 1
        place = min(number % turn, turn - number % turn) if len(images) > 1 else 0
        stamp_ns = _NS_PER_S + round(number * _NS_PER_S / rate_hz)
        return self.engine.step(Frame(image_HW3=images[place], stamp_ns=stamp_ns))

    def _count(self, result: StepResult, latency_ms: float) -> None:
        self.num_refreshes += result.is_refreshed
        if result.is_skipped:
            self.missed[DEADLINE] += 1
            return
        self.latencies_ms.append(latency_ms)
        self.ages_s.append(result.age_s)

    def row(self, rate_hz: float) -> dict[str, object]:
        """The figures; None where nothing was answered."""
        found = percentiles(self.latencies_ms, _RANKS)
        p50, p90, p99, longest = (found[f'p{rank}'] for rank in _RANKS)
        mean_age_s = sum(self.ages_s) / len(self.ages_s) if self.ages_s else None
        worker = self.engine.worker
        return {
            'refresh': self.refresh,
            'num_threads': self.engine.backend.info.num_threads,
            'refresh_threads': None if worker is None else worker.info.num_threads,
            'frames': len(self.latencies_ms) + self.missed.total(),
            'answered': len(self.latencies_ms),
            'missed': dict(self.missed),
            'key_frames': self.num_refreshes,
            'latency_ms': {
                'p50': _rounded(p50), 'p90': _rounded(p90), 'p99': _rounded(p99), 'max': _rounded(longest),
            },
            'p99_over_p50': _rounded(p99 / p50) if p99 and p50 else None,
            'age_frames_mean': None if mean_age_s is None else _rounded(mean_age_s * rate_hz),
            'age_ms_mean': None if mean_age_s is None else _rounded(1e3 * mean_age_s),
        }  # fmt: skip


def take_images(source: FrameSource) -> list[NDArray[np.uint8]]:
    """The first frames of a source, at most 150: what is read or rendered while time is measured would count.

    ConfigError where there are none, or of different sizes.
    """
    images = [frame.image_HW3 for frame in islice(source, _NUM_IMAGES)]
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        found = ', '.join(f'{width}x{height}' for height, width in sorted(sizes)) or 'no frame'
        raise ConfigError(f'{source.name} has frames of {found}: give a source with frames of one size')
    return images


def measure(
    contenders: Sequence[Contender],
    images: Sequence[NDArray[np.uint8]],
    rate_hz: float,
    seconds: float,
    clock: Clock,
) -> None:
    """Feed each contender for so many seconds of its camera, in turns of two: what disturbs the machine
    meets all alike.
    """
    rounds = max(1, round(seconds / _ROUND_S))
    num_frames = max(1, round(seconds * rate_hz / rounds))
    for _ in range(rounds):
        for contender in contenders:
            contender.play(images, rate_hz, num_frames, clock)


def run_bench(
    config: DffConfig, refreshes: Iterable[str], source: FrameSource, rate_hz: float, seconds: float
) -> dict[str, object]:
    """Measure each kind of refresh, all in one run; raises the errors of bundle, backend and source."""
    bundle = open_bundle(config.bundle)
    images = take_images(source)
    contenders: list[Contender] = []
    load_before = os.getloadavg()[0]
    try:
        for refresh in refreshes:
            engine = open_engine(bundle, replace(config, {'refresh': refresh}))
            contenders.append(Contender(refresh, engine))
        for contender in contenders:
            contender.prepare(images, rate_hz)
        measure(contenders, images, rate_hz, seconds, WallClock())
        info = contenders[0].engine.backend.info
    finally:
        for contender in contenders:
            contender.engine.close()
    return {
        'bundle': config.bundle,
        'source': source.name,
        'size': [images[0].shape[1], images[0].shape[0]],
        'rate': rate_hz,
        'seconds': seconds,
        'scheduler': config.keyframe.scheduler,
        'interval': config.keyframe.fixed_interval,
        'key_frames': config.keyframe.in_words,
        'budget_ms': config.budget_ms,
        'runtime': info.runtime,
        'device': info.device,
        'cores': available_cores(),
        'load_average': round(load_before, 2),
        'rows': [contender.row(rate_hz) for contender in contenders],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
