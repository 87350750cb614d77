# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Seeded changes of an image and its label map: one affine map for both, then colours of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.augment_config import AugmentConfig, ColourConfig
from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.samples import Sample

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8]

_PADDING_RGB = (124, 116, 104)
"""The mean colour of ImageNet: about 0 once normalised."""

_LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True, slots=True)
class Placement:
    """How the source lies under a crop: scaled about pixel centres, moved left and up, then flipped."""

    scale: float
    offset_xy: tuple[float, float]
    is_flipped: bool

    def matrix(self, width: int) -> NDArray[np.float64]:
        """Affine map (2, 3) from source pixel indices to indices of a crop of that width."""
        shift = 0.5 * self.scale - 0.5
        x = np.array([self.scale, 0.0, shift - self.offset_xy[0]])
        y = np.array([0.0, self.scale, shift - self.offset_xy[1]])
        return np.stack([np.array([0.0, 0.0, width - 1.0]) - x if self.is_flipped else x, y])


def draw_placement(
    config: AugmentConfig,
    rng: np.random.Generator,
    source: tuple[int, int],
    crop: tuple[int, int],
    fit: bool = False,
    cover: bool = False,
) -> Placement:
    """A random scale (log-uniform), position and flip. Sizes are (height, width).

    Along each axis the crop lies anywhere within the scaled source, or the source anywhere within the crop.
    `fit`: a scale of 1 is that at which the source has the area of the crop. `cover`: the scale is at least
    so large that the source covers the crop.
    """
    scale = math.exp(rng.uniform(math.log(config.scale_min), math.log(config.scale_max)))
    if fit:
        scale *= math.sqrt(math.prod(crop) / math.prod(source))
    if cover:
        scale = max(scale, *(crop_side / side for side, crop_side in zip(source, crop, strict=True)))
    room = [side * scale - crop_side for side, crop_side in zip(source, crop, strict=True)]
    offset_y, offset_x = (round(rng.uniform(min(r, 0.0), max(r, 0.0))) for r in room)
    return Placement(scale, (float(offset_x), float(offset_y)), bool(rng.random() < config.flip))


def place(sample: Sample, placement: Placement, crop: tuple[int, int]) -> tuple[Image, Labels]:
    """Image and labels of a crop (height, width), as `place_image` and `place_labels` give them."""
    return place_image(sample.image_HW3, placement, crop), place_labels(sample.labels_HW, placement, crop)


def place_image(image_HW3: Image, placement: Placement, crop: tuple[int, int]) -> Image:
    """The image under a crop (height, width): bilinear, mean colour outside."""
    image = cv2.warpAffine(
        image_HW3,
        placement.matrix(crop[1]),
        crop[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_PADDING_RGB,
    )
    return np.asarray(image, np.uint8)


def place_labels(labels_HW: Labels, placement: Placement, crop: tuple[int, int]) -> Labels:
    """The labels under a crop (height, width): nearest, 255 outside."""
    labels = cv2.warpAffine(
        labels_HW,
        placement.matrix(crop[1]),
        crop[::-1],
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(IGNORE_ID,),
    )
    return np.asarray(labels, np.uint8)


def draw_colour_matrix(
    config: ColourConfig, rng: np.random.Generator, mean_grey: float
) -> NDArray[np.float64]:
    """Random hue, saturation, contrast (around `mean_grey`), brightness: one matrix (3, 4) on RGB 0..255."""
    turn = math.radians(rng.uniform(-config.hue, config.hue))
    cos, sin = math.cos(turn), math.sin(turn)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    hue = np.linalg.solve(_RGB_TO_YIQ, rotation @ _RGB_TO_YIQ)
    saturation = rng.uniform(1 - config.saturation, 1 + config.saturation)
    contrast = rng.uniform(1 - config.contrast, 1 + config.contrast)
    brightness = rng.uniform(1 - config.brightness, 1 + config.brightness)
    linear = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA) @ hue
    offset = np.full((3, 1), brightness * (1 - contrast) * mean_grey)
    return np.hstack([linear, offset])


@dataclass(frozen=True, slots=True)
class ColourChange:
    """A drawn change of colours: matrix (3, 4) on RGB 0..255, exponent, sigma of a blur (0: none), noise."""

    matrix: NDArray[np.float64]
    power: float
    blur: float
    is_noisy: bool

    def apply(self, rng: np.random.Generator, image_HW3: Image) -> Image:
        """The changed image; `rng` makes its grain."""
        image = cv2.transform(image_HW3, self.matrix)
        if self.power != 1.0:
            curve = 255.0 * (np.arange(256) / 255.0) ** self.power
            image = cv2.LUT(image, np.round(curve).astype(np.uint8))
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.is_noisy:
            grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2.0, 8.0))
            image = np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)
        return np.asarray(image, np.uint8)


def draw_colour_change(config: ColourConfig, rng: np.random.Generator, image_HW3: Image) -> ColourChange:
    """Random colour matrix and brightness curve, and sometimes blur and noise; contrast is around the mean
    grey of the image.
    """
    mean_grey = float(np.dot(cv2.mean(image_HW3)[:3], _LUMA))
    return ColourChange(
        matrix=draw_colour_matrix(config, rng, mean_grey),
        power=math.exp(rng.uniform(-1, 1) * math.log1p(config.gamma)),
        blur=rng.uniform(0.4, 1.2) if rng.random() < config.blur else 0.0,
        is_noisy=bool(rng.random() < config.noise),
    )


def change_colours(config: ColourConfig, rng: np.random.Generator, image_HW3: Image) -> Image:
    """The image with colours changed at random."""
    return draw_colour_change(config, rng, image_HW3).apply(rng, image_HW3)


def augment(
    config: AugmentConfig,
    rng: np.random.Generator,
    sample: Sample,
    crop: tuple[int, int],
    fit: bool = False,
) -> tuple[Image, Labels]:
    """A random crop (height, width) of a sample with changed colours: uint8 RGB image and labels; `fit` as
    `draw_placement` takes it.
    """
    placement = draw_placement(config, rng, sample.labels_HW.shape, crop, fit)  # type: ignore[arg-type]
    image, labels = place(sample, placement, crop)
    return change_colours(config, rng, image), labels
