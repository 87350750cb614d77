# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A backend whose features and answers name camera and frame: what was computed from what can be read off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fake_backend import FakeBackend
from numpy.typing import NDArray

from dff_ros.types import Detections, KeyFeature, Propagation, Segmentation


@dataclass(frozen=True, slots=True)
class Origin:
    """The camera and number of a frame, and its size."""

    camera: int
    number: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class NamedFeature:
    """The feature of `frame`, made from the key frame `key`."""

    key: Origin
    frame: Origin


def named_image(camera: int, number: int, size: tuple[int, int] = (32, 48)) -> NDArray[np.uint8]:
    """An image that tells its camera (0..255) and number (0..65535)."""
    return np.full((*size, 3), (camera, number % 256, number // 256), np.uint8)


def origin_of(image_HW3: NDArray[np.uint8]) -> Origin:
    """What `named_image` wrote."""
    camera, low, high = (int(value) for value in image_HW3[0, 0])
    return Origin(camera, low + 256 * high, (image_HW3.shape[0], image_HW3.shape[1]))


def read_answer(label_map_HW: NDArray[np.uint8]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(camera, number) of the key frame and of the frame that a label map answers."""
    values = [int(value) for value in label_map_HW[0, :6]]
    key, frame = values[:3], values[3:]
    return (key[0], key[1] + 256 * key[2]), (frame[0], frame[1] + 256 * frame[2])


def read_boxes(found: Detections) -> tuple[tuple[int, int], tuple[int, int]]:
    """The same of boxes."""
    (values,) = found.boxes_xyxy.tolist()
    key_camera, key_number, camera, number = (int(value) for value in values)
    return (key_camera, key_number), (camera, number)


class NamingBackend(FakeBackend):
    """FakeBackend with NamedFeature as its features. Images come from `named_image`; it fails on those of
    which (camera, number) is in `failing`. What a propagation shows is made up from the two numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[tuple[int, int]] = set()

    def _see(self, image_HW3: NDArray[np.uint8]) -> Origin:
        origin = origin_of(image_HW3)
        if (origin.camera, origin.number) in self.failing:
            raise RuntimeError(f'frame {origin.number} of camera {origin.camera} fails')
        return origin

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[NamedFeature, Origin]:
        origin = self._see(image_HW3)
        return KeyFeature(NamedFeature(origin, origin), origin)

    def propagate(
        self, image_HW3: NDArray[np.uint8], key: KeyFeature[NamedFeature, Origin]
    ) -> Propagation[NamedFeature]:
        origin = self._see(image_HW3)
        assert key.context == key.feature.key and key.context.size == origin.size
        feature = NamedFeature(key.feature.key, origin)
        mixed = (37 * origin.number + 11 * key.feature.key.number) % 64
        return Propagation(
            feature,
            np.ones((2, 3), np.float32),
            motion_px=float(mixed),
            coverage=1 - mixed / 128,
            residual=mixed / 4,
            disagreement=mixed / 512,
        )

    def predict(
        self, feature: NamedFeature, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        label_map = np.zeros(output_size, np.uint8)
        origins = (feature.key, feature.frame)
        values = [(origin.camera, origin.number % 256, origin.number // 256) for origin in origins]
        label_map[0, :6] = np.ravel(values)
        return Segmentation(label_map, np.full(output_size, 200, np.uint8))

    def detect(
        self, feature: NamedFeature, source_size: tuple[int, int], nms_iou: float, score_threshold: float
    ) -> Detections:
        values = [
            value for origin in (feature.key, feature.frame) for value in (origin.camera, origin.number)
        ]
        return Detections(np.array([values], np.float32), np.zeros(1, np.int64), np.ones(1, np.float32))
