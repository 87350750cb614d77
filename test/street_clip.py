# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Clips of the simulated street at changing speed, with cuts, and a backend that sees their exact motion.

`python test/street_clip.py` writes the traces that test_schedulers.py compares with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from fake_backend import FakeBackend
from numpy.typing import NDArray

from dff_ros.backends.flow import motion_px
from dff_ros.backends.photometric import cell_brightness, warp_residual
from dff_ros.config import SCHEDULERS, KeyframeConfig
from dff_ros.data.street import Street
from dff_ros.engine import Engine
from dff_ros.types import Frame, KeyFeature, Propagation

SIZE = (96, 128)
STRIDE = 16
FPS = 30
TRACES = Path(__file__).with_name('scheduler_traces.json')
SETTINGS = {'motion_px': 8.0, 'residual': 5.0, 'disagreement': 0.01, 'period_s': 0.25, 'max_interval': 20}
"""Of the traces: the pictures are small, and so is their motion."""

Place = tuple[int, int]
"""Street and frame number in it."""


@lru_cache(maxsize=8)
def street(seed: int) -> Street:
    return Street(seed, SIZE, fps=FPS)


@lru_cache(maxsize=512)
def view(place: Place) -> NDArray[np.uint8]:
    return street(place[0]).frame(place[1]).image_HW3


def drive(seed: int, *parts: tuple[int, float]) -> list[Place]:
    """A shot in a street: of each part so many frames at so many street frames per frame (0: held still)."""
    position, places = 0.0, []
    for num_frames, speed in parts:
        for _ in range(num_frames):
            places.append((seed, round(position)))
            position += speed
    return places


@dataclass
class Clip:
    """Frames at 30 Hz of shots one after the other, with sensor noise of 2 grey levels."""

    places: Sequence[Place]
    camera: str = ''
    frames: list[Frame] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.frames = []
        for number, place in enumerate(self.places):
            noisy = np.clip(view(place) + rng.normal(0, 2, (*SIZE, 3)), 0, 255).astype(np.uint8)
            stamp_ns = 10**9 + round(number * 1e9 / FPS)
            self.frames.append(Frame(image_HW3=noisy, stamp_ns=stamp_ns, camera=self.camera))

    @property
    def cuts(self) -> list[int]:
        """Numbers of the frames that begin another street."""
        pairs = zip(self.places, self.places[1:], strict=False)
        return [number for number, (before, now) in enumerate(pairs, 1) if before[0] != now[0]]


class StreetBackend(FakeBackend):
    """Flow as it is, everything measured from it as the real backends do. Features are places in a clip.

    Disagreement is made up: it grows with the residual.
    """

    def __init__(self, *clips: Clip) -> None:
        super().__init__()
        pairs = [pair for clip in clips for pair in zip(clip.frames, clip.places, strict=True)]
        self._places = {frame.image_HW3.tobytes(): place for frame, place in pairs}

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[int, object]:
        brightness = cell_brightness(image_HW3, SIZE, STRIDE)
        return KeyFeature(0, (self._places[image_HW3.tobytes()], brightness))

    def propagate(self, image_HW3: NDArray[np.uint8], key: KeyFeature[int, object]) -> Propagation[int]:
        place, brightness = key.context
        flow, validity = cell_flow(self._places[image_HW3.tobytes()], place)
        residual = warp_residual(cell_brightness(image_HW3, SIZE, STRIDE), brightness, flow, validity)
        return Propagation(
            0,
            validity,
            motion_px=motion_px(flow, STRIDE, SIZE, SIZE),
            coverage=float(validity.mean()),
            residual=residual,
            disagreement=min(1.0, residual / 255),
        )


@lru_cache(maxsize=4096)
def cell_flow(current: Place, key: Place) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Exact flow in cells at the cells' centres, and whether they are covered; none between streets."""
    grid = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)
    if current[0] != key[0]:
        return np.zeros((2, *grid), np.float32), np.ones(grid, np.float32)
    flow, is_seen = street(current[0]).flow(current[1], key[1])
    cells = np.ascontiguousarray(flow[:, ::STRIDE, ::STRIDE] / STRIDE, np.float32)
    return cells, is_seen[::STRIDE, ::STRIDE].astype(np.float32)


def recorded_clip() -> Clip:
    """Normal speed, held still, half speed, fast, very fast, and two cuts: 116 frames."""
    first = drive(0, (20, 1), (30, 0), (20, 0.5), (16, 2), (10, 4))
    return Clip([*first, *drive(1, (10, 1)), *drive(2, (10, 1))])


def trace(clip: Clip, backend: StreetBackend, scheduler: str) -> list[tuple[int, str]]:
    """Number and reason of each key frame of a clip, with `SETTINGS`."""
    engine = Engine(backend, KeyframeConfig(scheduler=scheduler, **SETTINGS))
    results = [engine.step(frame) for frame in clip.frames]
    return [(number, result.reason) for number, result in enumerate(results) if result.is_key]


def main() -> None:
    clip = recorded_clip()
    backend = StreetBackend(clip)
    rows = [f'  {json.dumps(name)}: {json.dumps(trace(clip, backend, name))}' for name in SCHEDULERS]
    TRACES.write_text('{\n' + ',\n'.join(rows) + '\n}\n', encoding='utf-8')


if __name__ == '__main__':
    main()
