# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes from a label map that does not tell instances: one for each connected part of a class.

A part that may be several things that touch, a piece of one, or of a few pixels only, is marked as to be
ignored: `verdict` tells why. What a single thing looks like at most is judged by its outline and by where it
stands, for a camera that looks along a flat road: u rows below the horizon, things are `FOCAL` CAMERA_M / u
away, and each metre of them takes u / CAMERA_M pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import boxes_of
from dff_ros.data.video_set import Boxes

CAMERA_M = 1.3
"""Height of CamVid's camera: cars, 1.45 m high, are 1.1 times as tall as they stand below row 180 of 360."""
HORIZON = 0.5
"""Row of the horizon, as a share of the height; in CamVid's recordings it is there within a fifteenth."""
FOCAL = 1.05
"""Focal length as a share of the width."""

_MIN_ROWS = 0.03
"""Nearer to the horizon, as a share of the height, the row tells nothing."""
_MIN_AREA, _MIN_SIDE = 2.5e-4, 0.011
"""Smaller parts, as shares of the image's area and height, are too small: 43 px and 4 px of 480x360."""
_ROUGH_PX = 3.0
"""So far the lower edge of a label map is off."""
_ENDS = (8, 92)
"""Percentiles of the ground points that count: what is left out are mirrors, shadows and slips of the pen."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one thing of a class can look like.

    `aspect`: width / height, from and to. `solidity`: the least share of its convex hull that it fills.
    `notch`: how deep, as a share of the height, its upper edge dips between two peaks at most. `height_m`:
    its usual height. `ground_m`: the most metres of road that its lower edge spans, and `notch` then holds
    for that edge too; 0: not looked at.
    """

    aspect: tuple[float, float]
    solidity: float
    notch: float
    height_m: float
    ground_m: float = 0.0


SHAPES = {
    'car': Shape((0.5, 2.8), 0.8, 0.25, 1.45, 5.2),
    'pedestrian': Shape((0.15, 0.55), 0.55, 0.09, 1.65),
    'bicyclist': Shape((0.15, 1.15), 0.6, 0.2, 1.65),
}
_LEAST_OF_HEIGHT = 0.4
"""What is lower than this share of its usual height is a piece of a thing."""


def label_boxes(
    labels_HW: NDArray[np.uint8], class_names: tuple[str, ...], box_class_names: tuple[str, ...]
) -> Boxes:
    """The boxes of the classes `box_class_names`, all of SHAPES, with class ids of that order.

    `labels_HW` has ids of `class_names`; parts of a class touch where corners do.
    """
    edges, ids, is_ignored = [], [], []
    for number, name in enumerate(box_class_names):
        is_class = (labels_HW == class_names.index(name)).astype(np.uint8)
        num_parts, part_HW, facts, _ = cv2.connectedComponentsWithStats(is_class, connectivity=8)
        for part in range(1, num_parts):
            x, y, width, height = (int(value) for value in facts[part][:4])
            mask = part_HW[y : y + height, x : x + width] == part
            edges.append((x, y, x + width, y + height))
            ids.append(number)
            is_ignored.append(bool(verdict(mask, (x, y), part_HW.shape, SHAPES[name])))
    return boxes_of(edges, ids, is_ignored)


def verdict(mask: NDArray[np.bool_], at_xy: tuple[int, int], size: tuple[int, ...], shape: Shape) -> str:
    """Why a part is not to be taken for one thing; empty if it is.

    `mask` (h, w): its pixels, in its own box, whose upper left corner is at `at_xy` of an image of that size.
    """
    height, width = mask.shape
    is_cut = at_xy[0] == 0 or at_xy[0] + width == size[1]
    if mask.sum() < _MIN_AREA * size[0] * size[1] or min(mask.shape) < _MIN_SIDE * size[0]:
        return 'tiny'
    if width > shape.aspect[1] * height:
        return 'wide'
    if width < shape.aspect[0] * height and not is_cut:
        return 'thin'
    if _solidity(mask) < shape.solidity:
        return 'ragged'
    if _notch(mask) > shape.notch:
        return 'two peaks'
    rows_below = at_xy[1] + height - HORIZON * size[0]
    if rows_below > _MIN_ROWS * size[0]:
        if height < _LEAST_OF_HEIGHT * shape.height_m / CAMERA_M * rows_below:
            return 'piece'
        if shape.ground_m and _is_long(mask, at_xy, size, shape.ground_m):
            return 'long'
    return 'two feet' if shape.ground_m and _notch(mask[::-1]) > shape.notch else ''


def _solidity(mask: NDArray[np.bool_]) -> float:
    """The share of the pixels of its convex hull that it has."""
    points = np.ascontiguousarray(np.argwhere(mask)[:, ::-1].astype(np.int32))
    hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(points), (1,))
    return float(mask.sum() / hull.sum())


def _notch(mask: NDArray[np.bool_]) -> float:
    """How deep its upper edge dips between two peaks, as a share of its height."""
    top = np.argmax(mask, axis=0)
    left, right = np.minimum.accumulate(top), np.minimum.accumulate(top[::-1])[::-1]
    return float((top - np.maximum(left, right)).max() / mask.shape[0])


def _is_long(mask: NDArray[np.bool_], at_xy: tuple[int, int], size: tuple[int, ...], most_m: float) -> bool:
    """Whether its lower edge, as points on the road, spans more than so many metres and its uncertainty."""
    columns = at_xy[0] + 0.5 + np.arange(mask.shape[1])
    bottom = at_xy[1] + mask.shape[0] - np.argmax(mask[::-1], axis=0)
    rows_below = np.maximum(bottom - HORIZON * size[0], _MIN_ROWS * size[0])
    ahead_m = FOCAL * size[1] * CAMERA_M / rows_below
    aside_m = (columns - size[1] / 2) * CAMERA_M / rows_below
    first, last = np.percentile(np.stack([aside_m, ahead_m]), _ENDS, axis=1)
    off_m = float(np.median(_ROUGH_PX * ahead_m / rows_below))
    return bool(np.hypot(*(last - first)) > most_m + off_m)
