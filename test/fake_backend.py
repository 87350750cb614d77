# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A backend whose feature is the number of its image: what the engine did can be read off the label map."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import BackendInfo
from dff_ros.types import Detections, Frame, KeyFeature, Propagation, Segmentation


def numbered_frame(number: int, **changes: object) -> Frame:
    """A 32x48 frame, 1/10 s after the one before, whose pixels all hold its number."""
    size = changes.pop('size', (32, 48))
    values: dict[str, object] = {
        'image_HW3': np.full((*size, 3), number, np.uint8),  # type: ignore[misc]
        'stamp_ns': 1_000_000_000 + number * 100_000_000,
        'frame_id': 'camera',
    }
    return Frame(**{**values, **changes})  # type: ignore[arg-type]


def fake_boxes(feature: int) -> Detections:
    """Three boxes, as wide as the feature's number, of classes 0, 1, 0 and scores 0.9, 0.625, 0.25."""
    boxes = [(0, 4 + 8 * index, 1 + feature % 40, 10.5 + 8 * index) for index in range(3)]
    return Detections(
        np.array(boxes, np.float32), np.array([0, 1, 0]), np.array([0.9, 0.625, 0.25], np.float32)
    )


@dataclass
class FakeBackend:
    """Key feature: the number n of the image. Propagated: 100 + n of the key. Label map: filled with it.

    Boxes: those of `fake_boxes`, none of the features in `nothing_on`.
    """

    calls: list[str] = field(default_factory=list)
    fail_on: set[int] = field(default_factory=set)
    nothing_on: set[int] = field(default_factory=set)
    fail_to_detect: set[int] = field(default_factory=set)

    @property
    def info(self) -> BackendInfo:
        return BackendInfo('fake', 'cpu', 'none', 1, 'asked for by a test')

    def _number(self, image_HW3: NDArray[np.uint8]) -> int:
        number = int(image_HW3[0, 0, 0])
        if number in self.fail_on:
            raise RuntimeError(f'frame {number} fails')
        return number

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[int, int]:
        number = self._number(image_HW3)
        self.calls.append(f'extract {number}')
        return KeyFeature(number, number)

    def adopt(self, image_HW3: NDArray[np.uint8], key: KeyFeature[int, int]) -> KeyFeature[int, int]:
        return key

    def propagate(self, image_HW3: NDArray[np.uint8], key: KeyFeature[int, int]) -> Propagation[int]:
        self.calls.append(f'propagate {key.feature}->{self._number(image_HW3)}')
        return Propagation(100 + key.feature, np.ones((2, 3), np.float32), motion_px=4.0, coverage=0.5)

    def predict(
        self, feature: int, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        return Segmentation(np.full(output_size, feature, np.uint8), np.full(output_size, 200, np.uint8))

    def detect(
        self, feature: int, source_size: tuple[int, int], nms_iou: float, score_threshold: float
    ) -> Detections:
        self.calls.append(f'detect {feature} {source_size} iou {nms_iou:g} score {score_threshold:g}')
        if feature in self.fail_to_detect:
            raise RuntimeError(f'no boxes of feature {feature}')
        found = fake_boxes(feature)
        kept = found.scores_N > (2.0 if feature in self.nothing_on else score_threshold)
        return found.chosen(kept)

    def warm_up(self, size: tuple[int, int]) -> None:
        self.calls.append(f'warm_up {size}')

    def close(self) -> None:
        self.calls.append('close')
