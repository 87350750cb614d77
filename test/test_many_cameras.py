"""Many cameras in one engine: whatever happens to any of them, none is answered from another's feature."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from executors import ManualExecutor
from hypothesis import given, settings
from hypothesis import strategies as st
from naming_backend import NamingBackend, named_image, read_answer

from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.refresh import RefreshWorker
from dff_ros.types import Frame, StepResult

NAMES = ('front', 'left', 'right', 'rear')
SIZES = ((32, 48), (48, 32))
EVENTS = [
    'frame',
    'frame',
    'frame',
    'work',
    'work',
    'fail',
    'resize',
    'backward',
    'reset',
    'reset all',
    'interval 3',
]


@dataclass
class Cameras:
    """Drives an engine by events, and knows since which frame each camera may use its key frames.

    `refresh` is `inline`, or `worker`: one for all cameras, which finishes a key frame at each event `work`.
    """

    refresh: str = 'inline'
    backend: NamingBackend = field(default_factory=NamingBackend)
    executor: ManualExecutor = field(default_factory=ManualExecutor)
    numbers: list[int] = field(default_factory=lambda: [0] * len(NAMES))
    stamps: list[int] = field(default_factory=lambda: [10**12] * len(NAMES))
    sizes: list[int] = field(default_factory=lambda: [0] * len(NAMES))
    oldest_usable: list[int] = field(default_factory=lambda: [0] * len(NAMES))
    """What came before a reset must not be used after it."""

    def __post_init__(self) -> None:
        second = NamingBackend()
        second.failing = self.backend.failing
        worker = RefreshWorker(lambda: second, self.executor) if self.refresh == 'worker' else None
        self.executor.is_instant = False
        self.engine = Engine(self.backend, KeyframeConfig(interval=5), worker=worker)
        self.engine.spread(NAMES)

    def apply(self, event: str, camera: int) -> None:
        """One event, then an image of the camera."""
        self.numbers[camera] += 1
        self.stamps[camera] += 10**8
        if event == 'resize':
            self.sizes[camera] ^= 1
        elif event == 'backward':
            self.stamps[camera] -= 3 * 10**8
        elif event == 'reset':
            self.engine.stream(NAMES[camera]).reset()
        elif event == 'reset all':
            self.engine.reset()
            self.oldest_usable = [number + 1 for number in self.numbers]
        elif event == 'interval 3':
            self.engine.configure(KeyframeConfig(interval=3))
        elif event == 'fail':
            self.backend.failing.add((camera, self.numbers[camera]))
        elif event == 'work':
            self.executor.run_next()
        if event in ('resize', 'backward', 'reset', 'reset all'):
            self.oldest_usable[camera] = self.numbers[camera]
        self.check(camera, self.step(camera))

    def step(self, camera: int) -> StepResult | None:
        image = named_image(camera, self.numbers[camera], SIZES[self.sizes[camera]])
        frame = Frame(image_HW3=image, stamp_ns=self.stamps[camera], frame_id='camera', camera=NAMES[camera])
        try:
            return self.engine.step(frame)
        except RuntimeError:
            self.oldest_usable[camera] = self.numbers[camera] + 1
            return None

    def check(self, camera: int, result: StepResult | None) -> None:
        number = self.numbers[camera]
        if result is None:
            assert (camera, number) in self.backend.failing
            return
        assert (result.camera, result.stamp_ns) == (NAMES[camera], self.stamps[camera])
        (key_camera, key_number), answered = read_answer(result.segmentation.label_map_HW)
        assert answered == (camera, number)
        assert key_camera == camera
        assert self.oldest_usable[camera] <= key_number <= number
        assert result.age_frames == number - key_number
        assert result.is_key == (key_number == number)


@pytest.mark.parametrize('refresh', ['inline', 'worker'])
@settings(deadline=None)
@given(events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, len(NAMES) - 1)), max_size=80))
def test_a_frame_is_answered_from_a_key_frame_of_its_own_camera_since_the_last_reset(refresh, events):
    cameras = Cameras(refresh)
    for event, camera in events:
        cameras.apply(event, camera)


def test_key_frames_of_all_cameras_come_from_one_worker_in_the_order_asked():
    cameras = Cameras('worker')
    for _ in range(6):
        for camera in range(len(NAMES)):
            cameras.apply('frame', camera)
    swapped = []
    while cameras.executor.run_next():
        for camera in range(len(NAMES)):
            cameras.numbers[camera] += 1
            cameras.stamps[camera] += 10**8
            result = cameras.step(camera)
            cameras.check(camera, result)
            swapped += [(NAMES[camera], result.age_frames)] if result.is_refreshed else []
        if len(swapped) == len(NAMES):
            break
    # First intervals 5, 4, 3, 2 from frame 1 on: asked for at frames 6, 5, 4 and 3.
    assert swapped == [('rear', 4), ('right', 4), ('left', 4), ('front', 4)]


@settings(deadline=None)
@given(
    order=st.lists(st.integers(0, len(NAMES) - 1), max_size=80),
    stopping=st.integers(0, len(NAMES) - 1),
    end=st.integers(0, 80),
)
def test_a_camera_that_stops_changes_nothing_for_the_others(order, stopping, end):
    def answers(order: list[int]) -> list[tuple[object, ...]]:
        cameras, found = Cameras(), []
        for camera in order:
            cameras.numbers[camera] += 1
            cameras.stamps[camera] += 10**8
            result = cameras.step(camera)
            if camera != stopping:
                key, frame = read_answer(result.segmentation.label_map_HW)
                found.append((key, frame, result.reason, result.age_frames, result.reset_cause))
        return found

    stopped = [camera for index, camera in enumerate(order) if camera != stopping or index < end]
    assert answers(stopped) == answers(order)
