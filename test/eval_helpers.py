# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Sources in memory and backends that tell what was asked of them, for tests of evaluations."""

from __future__ import annotations

import numpy as np
from fake_backend import FakeBackend

from dff_ros.config import DffConfig
from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.evaluator import Evaluator
from dff_ros.model_spec import ModelSpec
from dff_ros.sources import SourceFrame
from dff_ros.types import KeyFeature, Propagation

SPEC = ModelSpec(
    class_names=CAMVID_CLASSES,
    class_colours=tuple(tuple(colour) for colour in CAMVID_COLOURS.tolist()),
    nominal_size=(32, 48),
    flow_source='flownet_half',
)


class StaleBackend(FakeBackend):
    """As FakeBackend, but propagates the key's number plus its flow's error, within the 11 classes."""

    def __init__(self, flow: str, calls: list[str]) -> None:
        super().__init__(calls=calls)
        self.flow = flow
        self.error = {'bundle': 0, 'zero': 1, 'dis': 2, 'clockwork': 3}[flow]

    def propagate(self, image_HW3, key: KeyFeature[int, int]) -> Propagation[int]:
        self.calls.append(f'{self.flow} {key.feature}->{self._number(image_HW3)}')
        number = (key.feature + self.error) % 11
        return Propagation(number, np.ones((2, 3), np.float32), motion_px=0.0, coverage=1.0)


class Clip:
    """A source in memory: images, and label maps or None, 1/15 s apart unless `stamps_s` says otherwise.

    `boxes` and `box_class_names` can be set.
    """

    name, fps, is_rendered = 'clip', 15.0, False

    def __init__(self, images, labels=None, class_names=(), stamps_s=None):
        self.images, self.maps, self.class_names = images, labels, class_names
        self.stamps_s = stamps_s or [index / 15 for index in range(len(images))]
        self.size, self.num_frames = images[0].shape[:2], len(images)
        self.sequences = [''] * len(images)
        self.boxes, self.box_class_names = [None] * len(images), ()

    def __iter__(self):
        for index, image in enumerate(self.images):
            labels = self.maps[index] if self.maps else None
            stamp_ns = round(self.stamps_s[index] * 10**9)
            sequence, boxes = self.sequences[index], self.boxes[index]
            yield SourceFrame(image, stamp_ns, labels, f'{index}', sequence, boxes)

    def labels(self, index):
        return self.maps[index] if self.maps else None


def numbered_clip(numbers, **changes) -> Clip:
    """Images filled with their number; the label map has that class, and class 10 in the lower half."""
    images = [np.full((32, 48, 3), number, np.uint8) for number in numbers]
    maps = [np.full((32, 48), number, np.uint8) for number in numbers]
    for labels in maps:
        labels[16:] = 10
    return Clip(images, **{'labels': maps, 'class_names': CAMVID_CLASSES, **changes})


def evaluated(source, methods, intervals, config=None, **changes) -> dict[str, object]:
    with Evaluator(config or DffConfig(), source, methods=methods, intervals=intervals, **changes) as found:
        done = list(found.frames())
        assert done == list(range(1, len(done) + 1)) and found.num_frames in (None, len(done))
    return found.report()


def row(report, method, interval):
    (found,) = [r for r in report['rows'] if (r['method'], r['interval']) == (method, interval)]
    return found
