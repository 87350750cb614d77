# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the tasks answered, over its image: class colours, and boxes with class name and score."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.draw import blend, mark_key, shown_at
from dff_ros.model_spec import ModelSpec
from dff_ros.types import Detections, StepResult

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MIN_FONT_SCALE = 0.35
_PIXELS_OF_SCALE_1 = 900
"""Shorter side of a picture whose labels are written at the font's own size."""

_HUE_STEP = 0.381966
"""Golden angle as a share of the circle: hues of any number of classes stay apart."""


class Overlay:
    """Draws the answers to frames of one model; `alpha` (0..1) is the weight of the class colours."""

    def __init__(self, spec: ModelSpec, alpha: float = 0.5) -> None:
        self.alpha = alpha
        self._spec = spec
        self._class_colours = np.array(spec.class_colours, np.uint8).reshape(-1, 3)
        self._box_colours = box_colours(spec)

    def draw(
        self,
        image_HW3: NDArray[np.uint8],
        label_map_HW: NDArray[np.uint8] | None,
        found: Detections | None = None,
    ) -> NDArray[np.uint8]:
        """A new picture of the image and of what there is: None where a task did not run on the frame. The
        label map may have another size.
        """
        if label_map_HW is None:
            picture = image_HW3.copy()
        else:
            size = image_HW3.shape[0], image_HW3.shape[1]
            picture = blend(image_HW3, shown_at(label_map_HW, size), self._class_colours, self.alpha)
        if found is not None:
            draw_boxes(picture, found, self._spec.box_class_names, self._box_colours)
        return picture

    def picture(self, image_HW3: NDArray[np.uint8], result: StepResult) -> NDArray[np.uint8]:
        """That of an engine's answer; key frames are marked."""
        label_map_HW = None if result.segmentation is None else result.segmentation.label_map_HW
        picture = self.draw(image_HW3, label_map_HW, result.detections)
        if result.is_key:
            mark_key(picture)
        return picture

    def legend(self) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        """The classes and their colours (N, 3); a box class of the same name has the same colour."""
        names, colours = list(self._spec.class_names), list(self._class_colours)
        for name, colour in zip(self._spec.box_class_names, self._box_colours, strict=True):
            if name not in self._spec.class_names:
                names.append(name)
                colours.append(colour)
        return tuple(names), np.array(colours, np.uint8)


def box_colours(spec: ModelSpec) -> NDArray[np.uint8]:
    """RGB (K, 3) of the box classes: that of the segmentation class of the same name, else one of its own."""
    known = dict(zip(spec.class_names, spec.class_colours, strict=True))
    colours = [known.get(name, _own_colour(index)) for index, name in enumerate(spec.box_class_names)]
    return np.array(colours, np.uint8).reshape(-1, 3)


def _own_colour(index: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(index * _HUE_STEP % 1.0, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    picture_HW3: NDArray[np.uint8],
    found: Detections,
    class_names: tuple[str, ...],
    colours_K3: NDArray[np.uint8],
) -> None:
    """Draw the boxes on their source image or a picture of its size, in place; the best ones on top.

    A line in the class colour between two thin ones, dark outside and light inside, is seen on any ground.
    """
    for box, class_id, score in reversed(
        list(zip(found.boxes_xyxy, found.class_ids_N.tolist(), found.scores_N.tolist(), strict=True))
    ):
        red, green, blue = (int(value) for value in colours_K3[class_id])
        corners = _pixels(box)
        _frame(picture_HW3, corners, (red, green, blue))
        _label(picture_HW3, corners, f'{class_names[class_id]} {score:.2f}', (red, green, blue))


def _pixels(box: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """First and last pixel of a box, as x1, y1, x2, y2: edges lie between pixels."""
    left, top, right, bottom = (round(float(edge)) for edge in box)
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _frame(
    picture_HW3: NDArray[np.uint8], corners: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    left, top, right, bottom = corners
    thickness = max(1, round(min(picture_HW3.shape[:2]) / 360))
    for offset, line, paint in ((-1, 1, _BLACK), (thickness, 1, _WHITE)):
        cv2.rectangle(
            picture_HW3, (left + offset, top + offset), (right - offset, bottom - offset), paint, line
        )
    for offset in range(thickness):
        cv2.rectangle(
            picture_HW3, (left + offset, top + offset), (right - offset, bottom - offset), colour, 1
        )


def _label(
    picture_HW3: NDArray[np.uint8],
    corners: tuple[int, int, int, int],
    text: str,
    colour: tuple[int, int, int],
) -> None:
    """The text on its colour above the box, or within where there is no room; never beyond the picture."""
    height, width = picture_HW3.shape[:2]
    scale = max(_MIN_FONT_SCALE, min(height, width) / _PIXELS_OF_SCALE_1)
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, 1)
    row = text_height + below + 1
    left = max(0, min(corners[0], width - text_width - 2))
    top = corners[1] - row if corners[1] >= row else corners[1]
    cv2.rectangle(picture_HW3, (left, top), (left + text_width + 1, top + row - 1), colour, cv2.FILLED)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = _BLACK if luminance > 128 else _WHITE
    cv2.putText(picture_HW3, text, (left + 1, top + text_height), _FONT, scale, ink, 1, cv2.LINE_AA)
