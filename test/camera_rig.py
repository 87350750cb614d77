# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Cameras on an engine, driven by generated events, and a second opinion on what each answer must be.

The rig keeps its own books: which frames a camera may still use, which key frames were ready before a frame,
how old they are. It knows nothing of the engine's.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from unittest import mock

import numpy as np
import pytest
from camera_events import Event, Setup
from executors import ManualExecutor
from naming_backend import (
    NamedFeature,
    NamingBackend,
    Origin,
    named_image,
    origin_of,
    read_answer,
    read_boxes,
)
from numpy.typing import NDArray

from dff_ros.engine import Engine
from dff_ros.refresh import RefreshWorker
from dff_ros.types import Frame, ResetCause, StepResult, Timings

NAMES = ('front', 'left', 'right', 'rear')
REFRESH = ('inline', 'worker', 'instant worker')
SIZES = ((32, 48), (48, 32))
CLOCKS = ('time', 'time_ns', 'monotonic', 'monotonic_ns', 'perf_counter', 'perf_counter_ns')


@dataclass(eq=False)
class Camera:
    """What the rig knows of one camera. `frames` are those that it may use, with their stamps; `key` is the
    one in use and `ready` are those that the worker has finished. `failing` names the verb that fails on a
    frame.
    """

    index: int
    number: int = -1
    stamp_ns: int = 10**12
    size: int = 0
    scene: int = 0
    encoding: str = 'rgb8'
    frame_id: str = 'camera'
    last: Frame | None = None
    frames: dict[int, int] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    failing: dict[int, str] = field(default_factory=dict)
    key: int | None = None
    cause: ResetCause | None = None
    is_refresh_asked: bool = False

    def drop(self, cause: ResetCause | None) -> None:
        """What came before must not be used any more."""
        self.cause = cause
        self.frames.clear()
        self.ready.clear()
        self.key = self.last = None


class RigBackend(NamingBackend):
    """Tells the rig of every verb that begins."""

    def __init__(self, begin: Callable[[str, Origin], None]) -> None:
        super().__init__()
        self._begin = begin

    def extract(self, image_HW3):
        self._begin('extract', origin_of(image_HW3))
        return super().extract(image_HW3)

    def propagate(self, image_HW3, key):
        self._begin('propagate', origin_of(image_HW3))
        return super().propagate(image_HW3, key)

    def predict(self, feature: NamedFeature, source_size, output_size):
        self._begin('predict', feature.frame)
        return super().predict(feature, source_size, output_size)

    def detect(self, feature: NamedFeature, source_size, nms_iou, score_threshold):
        self._begin('detect', feature.frame)
        return super().detect(feature, source_size, nms_iou, score_threshold)


class Rig:
    """An engine with four cameras; `tick_ns` is what each reading of any clock adds to it."""

    def __init__(self, refresh: str = 'inline', setup: Setup | None = None, tick_ns: int = 1000) -> None:
        self.is_instant = refresh != 'worker'
        self.cameras = [Camera(index) for index in range(len(NAMES))]
        self.executor = ManualExecutor()
        self.setup = setup or Setup()
        self._now_ns, self._tick_ns = 10**15, tick_ns
        self._event = Event()
        self._has_failed = False
        worker = None
        if refresh != 'inline':
            worker = RefreshWorker(lambda: RigBackend(self._work), self.executor)
        self.executor.is_instant = self.is_instant
        setup = self.setup
        backend = RigBackend(self._begin)
        self.engine = Engine(backend, setup.config, setup.plan, worker=worker, budget_ms=setup.budget_ms)
        self.engine.spread(NAMES)

    def run(self, events: Sequence[Event]) -> list[StepResult | str]:
        """The checked answers, or errors, to the images of the events."""
        return [self.apply(event) for event in events]

    def apply(self, event: Event) -> StepResult | str:
        """The checked answer to the image of an event, or the error."""
        camera, self._event, self._has_failed = self.cameras[event.camera], event, False
        self.announce(event)
        for _ in range(event.num_done):
            self._finish_job()
        if event.is_begun:
            self.executor.begin_next()
        frame = self._frame(camera, event)
        expected, ready_keys = self._expect(camera, frame)
        try:
            with self._clock():
                result = self.engine.step(frame)
        except RuntimeError as error:
            self._check_error(camera, str(error))
            camera.drop(ResetCause.ERROR)
            return str(error)
        finally:
            frame.image_HW3[:] = 255  # its owner may write to it
            self._check_in_flight()
        assert not self._has_failed, 'a failure was passed over'
        assert result.reset_cause is expected
        self._check(camera, frame, result, ready_keys)
        return result

    def announce(self, event: Event) -> None:
        """What concerns more than the image: a reset, another setup."""
        if event.before == 'reset':
            self.engine.stream(NAMES[event.camera]).reset()
            self.cameras[event.camera].drop(ResetCause.REQUESTED)
        elif event.before == 'reset all':
            self.engine.reset()
            for camera in self.cameras:
                camera.drop(ResetCause.REQUESTED)
        elif event.before == 'refresh':
            self.engine.stream(NAMES[event.camera]).refresh()
            self.cameras[event.camera].is_refresh_asked = True
        elif event.before == 'refresh all':
            self.engine.refresh()
            for camera in self.cameras:
                camera.is_refresh_asked = True
        elif isinstance(event.before, Setup):
            self.setup = event.before
            self.engine.configure(self.setup.config, self.setup.plan, self.setup.budget_ms)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Every clock is the rig's."""

        def read(unit: float) -> float:
            self._now_ns += self._tick_ns
            return self._now_ns if unit == 1 else self._now_ns / unit

        with ExitStack() as stack:
            for name in CLOCKS:
                unit = 1 if name.endswith('_ns') else 1e9
                stack.enter_context(mock.patch.object(time, name, lambda unit=unit: read(unit)))
            yield

    def _begin(self, verb: str, origin: Origin) -> None:
        """A verb of the backend that answers."""
        if verb == self._event.during:
            self._finish_job()
        self._has_failed |= verb == self.cameras[origin.camera].failing[origin.number]
        self._work(verb, origin)

    def _work(self, verb: str, origin: Origin) -> None:
        """A verb of any backend takes its time, or fails."""
        self._now_ns += self._event.cost_ms * 1_000_000
        if verb == self.cameras[origin.camera].failing[origin.number]:
            raise RuntimeError(failure(verb, origin.camera, origin.number))

    def _finish_job(self) -> None:
        job = self.executor.run_next()
        if job is not None and job.future.exception() is None:
            origin = origin_of(job.args[0])
            camera = self.cameras[origin.camera]
            if origin.number in camera.frames:  # else it is of before a reset
                camera.ready.add(origin.number)

    def _frame(self, camera: Camera, event: Event) -> Frame:
        camera.number += 1
        camera.stamp_ns += event.tenths * 10**8
        if event.change == 'size':
            camera.size ^= 1
        elif event.change == 'encoding':
            camera.encoding = 'rgb8' if camera.encoding == 'bgr8' else 'bgr8'
        elif event.change == 'frame_id':
            camera.frame_id += "'"
        elif event.change == 'scene':
            camera.scene += 1
        size = SIZES[camera.size]
        image = scene(camera.scene, size).copy()
        image[0, 0] = named_image(event.camera, camera.number, (1, 1))
        camera.failing[camera.number] = event.fails_in
        return Frame(
            image_HW3=image,
            stamp_ns=camera.stamp_ns,
            frame_id=camera.frame_id,
            encoding=camera.encoding,
            camera=NAMES[event.camera],
        )

    def _expect(self, camera: Camera, frame: Frame) -> tuple[ResetCause | None, set[int]]:
        """Why the key frame must be dropped, if so, and the key frames there are before the frame."""
        last, cause = camera.last, None
        if last is not None:
            broken = {
                ResetCause.SIZE: frame.size != last.size,
                ResetCause.ENCODING: frame.encoding != last.encoding,
                ResetCause.FRAME_ID: frame.frame_id != last.frame_id,
                ResetCause.BACKWARD_STAMP: frame.stamp_ns < last.stamp_ns,
                ResetCause.GAP: frame.stamp_ns - last.stamp_ns > self.setup.config.max_gap_s * 1e9,
            }
            cause = next((cause for cause, is_broken in broken.items() if is_broken), None)
        expected = cause or camera.cause
        if cause is not None:
            camera.drop(cause)
        camera.cause, camera.last = None, frame
        camera.frames[camera.number] = frame.stamp_ns
        return expected, {*camera.ready} | ({camera.key} if camera.key is not None else set())

    def _check_error(self, camera: Camera, text: str) -> None:
        """It is of a frame of this camera since the last reset."""
        verbs = {number: camera.failing[number] for number in camera.frames}
        assert text in {failure(verb, camera.index, number) for number, verb in verbs.items() if verb}

    def _check_in_flight(self) -> None:
        """At most one refresh of each camera."""
        computed = [origin_of(job.args[0]).camera for job in self.executor.unfinished]
        assert len(computed) == len(set(computed))

    def _check(self, camera: Camera, frame: Frame, result: StepResult, ready_keys: set[int]) -> None:
        """One result of this frame, with what is due, from the newest key frame that there is, or itself."""
        assert (result.stamp_ns, result.frame_id) == (frame.stamp_ns, frame.frame_id)
        assert result.camera == frame.camera
        due = self.setup.plan.due(camera.number)
        if result.is_skipped:
            assert due and self.setup.budget_ms and result.reason == 'deadline'
            due = ()
        assert (result.segmentation is not None) == ('segmentation' in due)
        assert (result.detections is not None) == ('detection' in due)
        if result.segmentation is not None:
            no_class, no_confidence = (
                result.segmentation.label_map_HW == 255,
                result.segmentation.confidence_HW == 0,
            )
            np.testing.assert_array_equal(no_class, no_confidence)
        key = self._key_of(camera, result, ready_keys) if due else max(ready_keys, default=None)
        assert result.is_key == (bool(due) and key == camera.number)
        assert (result.reason == 'requested') == (bool(due) and camera.is_refresh_asked)
        if due and camera.is_refresh_asked:
            assert result.is_key
            camera.is_refresh_asked = False
        assert result.is_refreshed == (key != camera.key)
        camera.key = key
        if key is None:
            assert (result.age_frames, result.age_s) == (0, 0.0)
            return
        assert result.age_frames == camera.number - key
        assert result.age_s == pytest.approx((frame.stamp_ns - camera.frames[key]) / 1e9)
        if due:
            self._check_age(result)

    def _key_of(self, camera: Camera, result: StepResult, ready_keys: set[int]) -> int:
        answers = set()
        if result.segmentation is not None:
            answers.add(read_answer(result.segmentation.label_map_HW))
        if result.detections is not None:
            answers.add(read_boxes(result.detections))
        assert len(answers) == 1  # all tasks from one key frame, whatever ends between them
        (((key_camera, key), answered),) = answers
        assert answered == (camera.index, camera.number)
        assert key_camera == camera.index
        assert key in camera.frames
        assert key in (max(ready_keys, default=camera.number), camera.number)
        return key

    def _check_age(self, result: StepResult) -> None:
        """Of a frame that was answered."""
        config = self.setup.config
        assert result.age_s <= config.max_age_s
        rule = config.budget_over if config.scheduler == 'budget' else config.scheduler
        if self.is_instant and not self.setup.budget_ms:
            if config.scheduler == 'fixed':
                assert result.age_frames < config.interval
            elif rule not in ('fixed', 'period'):  # a budget may stretch these as far as the age cap
                assert result.age_frames < config.max_interval


def failure(verb: str, camera: int, number: int) -> str:
    return f'{verb} of frame {number} of camera {camera} fails'


@lru_cache(maxsize=64)
def scene(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture that has nothing of the others."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def facts(results: list[StepResult | str]) -> list[object]:
    """All there is but what was measured by a clock; arrays as bytes."""
    return [result if isinstance(result, str) else _facts(result) for result in results]


def _facts(result: StepResult) -> tuple[object, ...]:
    plain = dataclasses.replace(result, segmentation=None, detections=None, timings=Timings())
    label_map = result.segmentation and result.segmentation.label_map_HW.tobytes()
    return plain, label_map, result.detections and result.detections.boxes_xyxy.tobytes()
