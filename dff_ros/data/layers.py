# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Textured layers and their exact flow: the picture that two moments of moving layers give.

A layer is a texture on the key image's plane, `place`, and a motion that tells for every pixel of the current
image which position of the key image shows the same. Both images sample the texture itself, once, so neither
is a resampled copy of the other, and the flow is the motion itself rather than an inverse of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.pair_sample import PairSample

Image = NDArray[np.uint8]
"""RGB (H, W, 3), or a label map or mask (H, W)."""
Positions = tuple[NDArray[np.float32], NDArray[np.float32]]

_WHOLE = 0.999
"""A bilinear sample whose weights within a layer sum to this sees nothing else."""


@dataclass(frozen=True, slots=True)
class Texture:
    """An image to cut layers from; `labels_HW` (255: none) if it has any."""

    image_HW3: Image
    labels_HW: Image | None = None


@dataclass(frozen=True, slots=True)
class Motion:
    """Current -> key position: homography (3, 3), then a smooth displacement in pixels, whose control grid
    (gh, gw, 2) is spread over the image by cubic interpolation.
    """

    homography: NDArray[np.float64]
    bend_hw2: NDArray[np.float32] | None = None

    def positions(self, size: tuple[int, int]) -> Positions:
        """x and y, each (H, W), in the key image, of every pixel of the current one."""
        height, width = size
        m = self.homography.astype(np.float32)
        column = np.arange(width, dtype=np.float32)
        row = np.arange(height, dtype=np.float32)[:, None]
        depth = m[2, 0] * column + m[2, 1] * row + m[2, 2]
        x = (m[0, 0] * column + m[0, 1] * row + m[0, 2]) / depth
        y = (m[1, 0] * column + m[1, 1] * row + m[1, 2]) / depth
        if self.bend_hw2 is not None:
            bend = cv2.resize(self.bend_hw2, (width, height), interpolation=cv2.INTER_CUBIC)
            x, y = x + bend[..., 0], y + bend[..., 1]
        return x, y


@dataclass(frozen=True, slots=True)
class Layer:
    """`place` (2, 3): key position -> texture position, mirrored beyond the texture's border. `outline_N2`:
    the layer's polygon on the key image, x then y; None: it covers all. `labels_HW`: those of the texture.
    """

    texture_HW3: Image
    place: NDArray[np.float64]
    motion: Motion
    outline_N2: NDArray[np.float64] | None = None
    labels_HW: Image | None = None

    def sample(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Image:
        """The texture at key positions, bilinear."""
        at_x, at_y = self._texture_positions(x, y)
        return np.asarray(
            cv2.remap(self.texture_HW3, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        )

    def sample_labels(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Image:
        """Its labels at key positions, nearest; 255 beyond the texture's border, where it is mirrored, and
        where there are none.
        """
        if self.labels_HW is None:
            return np.full(x.shape, IGNORE_ID, np.uint8)
        at_x, at_y = self._texture_positions(x, y)
        return np.asarray(
            cv2.remap(
                self.labels_HW,
                at_x,
                at_y,
                cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(IGNORE_ID,),
            )
        )

    def _texture_positions(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Positions:
        m = self.place.astype(np.float32)
        return m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]


def render(layers: Sequence[Layer], size: tuple[int, int]) -> PairSample:
    """The pair that layers show, the first one furthest back (it must cover all). `size`: (height, width).

    Valid pixels are those whose key position is inside the key image and has nothing but the same layer
    around it: warping the key image bilinearly gives the current one there. Labels are those of the current
    image, None where no layer has any.
    """
    here = Motion(np.eye(3)).positions(size)
    moved = [layer.motion.positions(size) for layer in layers]
    canvases = [_canvas(layer.outline_N2, size) for layer in layers]
    current = _paint(layers, canvases, moved)
    key = _paint(layers, canvases, [here] * len(layers))
    flow = np.zeros((2, *size), np.float32)
    is_valid = np.zeros(size, bool)
    for number, (x, y) in enumerate(moved):
        is_own = current.owner_HW == number
        np.copyto(flow, np.stack((x - here[0], y - here[1])), where=is_own)
        seen = (key.owner_HW == number).astype(np.float32)
        share = cv2.remap(seen, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        is_valid |= is_own & (share >= _WHOLE)
    labels = (
        _paint_labels(layers, current.owner_HW, moved)
        if any(layer.labels_HW is not None for layer in layers)
        else None
    )
    return PairSample('made pair', current.image_HW3, key.image_HW3, labels, flow, is_valid)


@dataclass(frozen=True, slots=True)
class _Picture:
    """`owner_HW`: the number of the layer that is seen."""

    image_HW3: Image
    owner_HW: NDArray[np.uint8]


def _paint(
    layers: Sequence[Layer], canvases: Sequence[_Canvas | None], positions: Sequence[Positions]
) -> _Picture:
    """The picture at one moment; `positions`: key positions of its pixels, for each layer."""
    size = positions[0][0].shape
    image, owner = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    for number, (layer, canvas, (x, y)) in enumerate(zip(layers, canvases, positions, strict=True)):
        if canvas is None:
            image[:], owner[:] = layer.sample(x, y), number
            continue
        mask = canvas.at(x, y)
        left, top, width, height = cv2.boundingRect(mask)
        box = slice(top, top + height), slice(left, left + width)
        if width:
            is_inside = mask[box] > 0
            np.copyto(image[box], layer.sample(x[box], y[box]), where=is_inside[..., None])
            owner[box][is_inside] = number
    return _Picture(image, owner)


def _paint_labels(layers: Sequence[Layer], owner_HW: Image, positions: Sequence[Positions]) -> Image:
    """The labels of the layer that is seen."""
    labels = layers[0].sample_labels(*positions[0])
    for number, (layer, (x, y)) in enumerate(zip(layers[1:], positions[1:], strict=True), 1):
        mask = (owner_HW == number).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        box = slice(top, top + height), slice(left, left + width)
        if width:
            np.copyto(labels[box], layer.sample_labels(x[box], y[box]), where=mask[box] > 0)
    return labels


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A filled outline, on the key image and a margin around it."""

    mask: Image
    margin: int

    def at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> Image:
        """1 within the outline at key positions, else 0."""
        margin = np.float32(self.margin)
        return np.asarray(
            cv2.remap(
                self.mask,
                x + margin,
                y + margin,
                cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=0,
            )
        )


def _canvas(outline_N2: NDArray[np.float64] | None, size: tuple[int, int]) -> _Canvas | None:
    if outline_N2 is None:
        return None
    # Wide enough for what motion brings in from outside; what lies further out is cut off in both images.
    margin = max(size) // 4
    mask = np.zeros((size[0] + 2 * margin, size[1] + 2 * margin), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline_N2 + margin).astype(np.int32)], 1)
    return _Canvas(mask, margin)
