# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a frame costs: the stages, per-frame inference and the engine, in turns of one run.

Whatever else the machine does meets all of them alike, so their ratios hold where milliseconds do not.
"""

from __future__ import annotations

import statistics
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend
from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.evaluation.metrics import percentiles
from dff_ros.evaluation.speed import StageCost
from dff_ros.tasks import DETECTION, SEGMENTATION, TaskPlan
from dff_ros.types import Frame, StepResult

RANKS = (50, 90, 99, 100)
_NS_PER_S = 10**9
_FPS = 30
_WARM_UP_TURNS = 2

Image = NDArray[np.uint8]
Counter = Callable[[], float]


@dataclass(slots=True)
class Turns:
    """The frames of one contender: milliseconds of each, the mean of each turn, and joules."""

    frames_ms: array[float] = field(default_factory=lambda: array('d'))
    turns_ms: array[float] = field(default_factory=lambda: array('d'))
    joules: float = 0.0

    def add(self, frames_ms: Sequence[float], joules: float) -> None:
        """A turn."""
        self.frames_ms.extend(frames_ms)
        self.turns_ms.append(sum(frames_ms) / len(frames_ms))
        self.joules += joules

    @property
    def ms(self) -> float:
        """Of a frame: the median over the turns of their means."""
        return statistics.median(self.turns_ms)

    @property
    def fps(self) -> float:
        """Frames in a second."""
        return 1e3 / self.ms

    def latency_ms(self) -> dict[str, float | None]:
        """p50, p90, p99 and max of single frames."""
        found = percentiles(self.frames_ms, RANKS)
        return {
            name.replace('p100', 'max'): None if ms is None else round(ms, 3) for name, ms in found.items()
        }


@dataclass(slots=True)
class Bench:
    """One configuration under test.

    `engine` answers frames by Deep Feature Flow at each of `intervals`; `backend` is what per-frame inference
    and the stages run on: the engine's own, or of the same bundle, with all threads, where the engine's
    shares them with a worker. `warper`: where flow net and warp are one graph, a backend that moves features
    by flow made elsewhere, so that its `warp_ms` is that of the warp alone.
    """

    engine: Engine[Any, Any]
    backend: Backend[Any, Any]
    plan: TaskPlan
    keyframe: KeyframeConfig
    intervals: Sequence[int]
    images: Sequence[Image]
    warper: Backend[Any, Any] | None = None
    energy: Sequence[Counter] = ()
    stages_ms: dict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array('d')))
    per_frame: Turns = field(default_factory=Turns)
    dff: dict[int, Turns] = field(default_factory=dict)
    propagated_ms: array[float] = field(default_factory=lambda: array('d'))
    _number: int = 0
    _place: int = 0

    def warm_up(self) -> None:
        """Meet the image size; nothing of it counts."""
        size = self.images[0].shape[0], self.images[0].shape[1]
        self.engine.warm_up(size)
        for backend in (self.backend, self.warper):
            if backend is not None and backend is not self.engine.backend:
                backend.warm_up(size)
        for _ in range(_WARM_UP_TURNS):
            self.turn()
        self.stages_ms.clear()
        self.dff.clear()
        self.per_frame = Turns()
        self.propagated_ms = array('d')

    def turn(self) -> None:
        """A turn of each: as many images per frame as two key frames take, then a key interval of each
        length.
        """
        self._per_frame_turn()
        if self.warper is not None:
            self._warp_turn(self.warper)
        for interval in self.intervals:
            self.engine_turn(interval)

    def _per_frame_turn(self) -> None:
        before = self._joules()
        frames_ms = []
        for _ in range(2):
            start = time.perf_counter()
            key = self._timed('extract', lambda: self.backend.extract(self._next()))
            self._predict(key.feature)
            frames_ms.append(1e3 * (time.perf_counter() - start))
        self.per_frame.add(frames_ms, self._joules() - before)
        for _ in range(2):
            moved = self._timed('propagate', lambda: self.backend.propagate(self._next(), key))
            self.stages_ms['flow'].append(moved.flow_ms)
            self.stages_ms['correct'].append(moved.correct_ms)
            if self.warper is None:
                self.stages_ms['warp'].append(moved.warp_ms)
            self._predict(moved.feature)

    def _predict(self, feature: Any) -> None:
        size = self.images[0].shape[0], self.images[0].shape[1]
        if SEGMENTATION in self.plan.tasks:
            self._timed('predict_segmentation', lambda: self.backend.predict(feature, size, size))
        if DETECTION in self.plan.tasks:
            boxes = self.plan.detection
            self._timed(
                'predict_detection',
                lambda: self.backend.detect(feature, size, boxes.nms_iou, boxes.score_threshold),
            )

    def _warp_turn(self, warper: Backend[Any, Any]) -> None:
        key = warper.extract(self._next())
        self.stages_ms['warp_alone'].append(warper.propagate(self._next(), key).warp_ms)

    def engine_turn(self, interval: int) -> None:
        turns = self.dff.setdefault(interval, Turns())
        if self.engine.worker is None:
            self.engine.reset()
        self.engine.configure(replace(self.keyframe, interval=interval))
        before, frames_ms = self._joules(), []
        for index in range(interval):
            start = time.perf_counter()
            result = self._step()
            frames_ms.append(1e3 * (time.perf_counter() - start))
            self._check(result, index)
            if not result.is_key:
                self.propagated_ms.append(frames_ms[-1])
        turns.add(frames_ms, self._joules() - before)

    def _check(self, result: StepResult, index: int) -> None:
        """A schedule other than the one that is told would make the figures those of something else."""
        if self.engine.worker is None and result.is_key != (index == 0):
            raise ConfigError(
                f'frame {index} of a key interval is {"a" if result.is_key else "no"} key frame '
                f'({result.reason}): measure with keyframe.scheduler fixed, and a source without cuts'
            )

    def _step(self) -> StepResult:
        self._number += 1
        stamp_ns = _NS_PER_S + self._number * _NS_PER_S // _FPS
        return self.engine.step(Frame(image_HW3=self._next(), stamp_ns=stamp_ns))

    def _next(self) -> Image:
        """The images forward and backward, so that none is a cut."""
        turn = 2 * (len(self.images) - 1) or 1
        self._place = (self._place + 1) % turn
        return self.images[min(self._place, turn - self._place)]

    def _timed(self, stage: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = run()
        self.stages_ms[stage].append(1e3 * (time.perf_counter() - start))
        return answer

    def _joules(self) -> float:
        return sum(read() for read in self.energy)


def stage_medians(stages_ms: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Stages by name: medians in ms, None for a stage that does not run.

    Where flow net and warp are one graph, `flow` is that graph less the warp alone.
    """
    found = {name: statistics.median(values) for name, values in stages_ms.items() if len(values)}
    flow, warp, alone = found.get('flow'), found.get('warp'), found.get('warp_alone')
    if alone is not None and flow is not None:
        warp, flow = alone, max(0.0, flow - alone)
    stages = {
        'extract': found.get('extract'),
        'flow': flow,
        'warp': warp,
        'correct': found.get('correct'),
        'propagate': found.get('propagate'),
        'predict_segmentation': found.get('predict_segmentation'),
        'predict_detection': found.get('predict_detection'),
    }
    return {name: None if ms is None else round(ms, 3) for name, ms in stages.items()}


def stage_cost(stages: Mapping[str, float | None]) -> StageCost:
    """The three stages of equation (5) of `stage_medians`, all tasks in one."""
    predict = (stages['predict_segmentation'] or 0.0) + (stages['predict_detection'] or 0.0)
    return StageCost(stages['extract'] or 0.0, stages['propagate'] or 0.0, predict)
