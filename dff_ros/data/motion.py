# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Made image pairs with exact flow: layers of real images under random motion.

A background and patches of other images, each under its own homography (shift, zoom, rotation, perspective)
and smooth bending; patches move with the background and, most of them, on their own.
In the spirit of Flying Chairs (Dosovitskiy et al., "FlowNet", ICCV 2015), with magnitudes of driving.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.augment_config import ColourConfig
from dff_ros.data.layers import Layer, Motion, Texture, render
from dff_ros.data.motion_config import MotionConfig
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.paired_transforms import colour_pair
from dff_ros.errors import DataError


class Textures(Protocol):
    """Images to make pairs of, which may be read from several threads at once."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> Texture:
        """One of them."""
        ...


_BEND_CELLS = (3, 7)
"""Fewest and most control points of a bending along each axis."""
_PATCH_RADIUS = (0.03, 0.3)
"""Of the image's width."""
_MAX_STRETCH = 5.0
_NUM_SMOOTH_POINTS = 64


class LayeredPairs:
    """Pairs of (height, width) made of images, with labels if these have any. Pair `index` depends on seed,
    stream, index, settings and images only. Different streams of one seed have nothing in common. There is no
    last pair: `len` is what is said to be one epoch.
    """

    def __init__(
        self,
        images: Textures,
        size: tuple[int, int],
        motion: MotionConfig,
        colours: ColourConfig,
        seed: int,
        stream: int = 0,
        num_pairs: int = 1,
        independent_colour: bool = True,
    ) -> None:
        if not len(images):
            raise DataError('made pairs need at least one image for their textures')
        self._images = images
        self._size = size
        self._motion = motion
        self._colours = colours
        self._key = seed, stream
        self._num_pairs = num_pairs
        self._independent_colour = independent_colour

    def __len__(self) -> int:
        return self._num_pairs

    def __getitem__(self, index: int) -> PairSample:
        rng = np.random.default_rng((*self._key, index))
        pair = render(draw_layers(self._motion, rng, self._images, self._size), self._size)
        return colour_pair(self._colours, rng, pair, self._independent_colour)


def draw_layers(
    config: MotionConfig, rng: np.random.Generator, images: Textures, size: tuple[int, int]
) -> list[Layer]:
    """A random background and random patches, from back to front."""
    speed = 0.0 if rng.random() < config.still else rng.random()
    ground = _draw_homography(
        rng,
        size,
        speed * config.shift,
        speed * config.zoom,
        speed * config.rotation,
        speed * config.perspective,
    )
    layers = [_draw_layer(rng, images, size, Motion(ground, _draw_bend(rng, speed * config.bend)))]
    for _ in range(int(rng.integers(0, config.patches + 1))):
        own = 0.0 if rng.random() < config.patch_still else rng.random()
        outline_N2 = draw_outline(rng, size)
        relative = _draw_homography(
            rng,
            size,
            own * config.patch_shift,
            own * config.patch_zoom,
            own * config.patch_rotation,
            0.0,
            outline_N2.mean(axis=0),
        )
        motion = Motion(relative @ ground, _draw_bend(rng, own * config.bend))
        layers.append(_draw_layer(rng, images, size, motion, outline_N2))
    return layers


def draw_outline(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """A random polygon (N, 2), x then y, around a point of the image: a few corners, or a smooth curve."""
    height, width = size
    radius = width * math.exp(rng.uniform(*np.log(_PATCH_RADIUS)))
    if rng.random() < 0.5:
        angle = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 9)))
        reach = rng.uniform(0.5, 1.0, angle.size)
    else:
        angle = np.linspace(0, 2 * math.pi, _NUM_SMOOTH_POINTS, endpoint=False)
        order = np.arange(2, 6)[:, None]
        wave = np.sin(order * angle + rng.uniform(0, 2 * math.pi, order.shape))
        reach = 0.7 + (rng.uniform(0, 0.3, order.shape) / order * wave).sum(axis=0)
    stretch = _MAX_STRETCH ** rng.uniform(-0.5, 0.5)
    turn = rng.normal(0, 0.2)
    shape = radius * reach[:, None] * np.stack((np.cos(angle) * stretch, np.sin(angle) / stretch), axis=1)
    centre = rng.uniform((0, 0), (width, height))
    return shape @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) + centre


def _draw_homography(
    rng: np.random.Generator,
    size: tuple[int, int],
    shift: float,
    zoom: float,
    rotation: float,
    perspective: float,
    centre: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """A homography around a centre (a random point in the middle of the image); all zeros: the identity."""
    height, width = size
    drawn = rng.uniform((0.25 * width, 0.25 * height), (0.75 * width, 0.75 * height))
    centre_x, centre_y = drawn if centre is None else centre
    turn = math.radians(rng.uniform(-rotation, rotation))
    factor = math.exp(rng.uniform(-zoom, zoom))
    way, length = rng.uniform(0, 2 * math.pi), rng.uniform(0, shift)
    tilt = rng.uniform(-perspective, perspective, 2) / (0.5 * np.array([width, height]))
    cos, sin = factor * math.cos(turn), factor * math.sin(turn)
    middle = np.array([[cos, -sin, 0], [sin, cos, 0], [tilt[0], tilt[1], 1]])
    to_centre = np.array([[1, 0, -centre_x], [0, 1, -centre_y], [0, 0, 1]])
    shift_x, shift_y = length * math.cos(way), length * math.sin(way)
    back = np.array([[1, 0, centre_x + shift_x], [0, 1, centre_y + shift_y], [0, 0, 1]])
    return back @ middle @ to_centre


def _draw_bend(rng: np.random.Generator, most: float) -> NDArray[np.float32] | None:
    rows, columns = rng.integers(_BEND_CELLS[0], _BEND_CELLS[1] + 1, 2)
    grid = rng.uniform(-1, 1, (rows, columns, 2)) * most
    return grid.astype(np.float32) if most > 0 else None


def _draw_layer(
    rng: np.random.Generator,
    images: Textures,
    size: tuple[int, int],
    motion: Motion,
    outline_N2: NDArray[np.float64] | None = None,
) -> Layer:
    """A random image, magnified up to twice, flipped or not, at a random place under the key image."""
    texture = images[int(rng.integers(len(images)))]
    room = np.array(texture.image_HW3.shape[1::-1], np.float64)
    extent = np.array(size[::-1], np.float64)
    scale = float((room / extent).min()) * rng.uniform(0.5, 1.0)
    offset = rng.uniform((0, 0), np.maximum(room - scale * extent, 0))
    sign, start = (-1.0, offset[0] + scale * (extent[0] - 1)) if rng.random() < 0.5 else (1.0, offset[0])
    place = np.array([[sign * scale, 0, start], [0, scale, offset[1]]])
    return Layer(texture.image_HW3, place, motion, outline_N2, texture.labels_HW)
