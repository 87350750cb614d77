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
    config: AugmentConfig, rng: np.random.Generator, source: tuple[int, int], crop: tuple[int, int]
) -> Placement:
    """A random scale (log-uniform), position and flip. Sizes are (height, width).

    Along each axis the crop lies anywhere within the scaled source, or the source anywhere within the crop.
    """
    scale = math.exp(rng.uniform(math.log(config.scale_min), math.log(config.scale_max)))
    room = [side * scale - crop_side for side, crop_side in zip(source, crop, strict=True)]
    offset_y, offset_x = (round(rng.uniform(min(r, 0.0), max(r, 0.0))) for r in room)
    return Placement(scale, (float(offset_x), float(offset_y)), bool(rng.random() < config.flip))


def place(sample: Sample, placement: Placement, crop: tuple[int, int]) -> tuple[Image, Labels]:
    """Image (bilinear, mean colour outside) and labels (nearest, 255 outside) of a crop (height, width)."""
    height, width = crop
    matrix = placement.matrix(width)
    image = cv2.warpAffine(
        sample.image_HW3,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_PADDING_RGB,
    )
    labels = cv2.warpAffine(
        sample.labels_HW,
        matrix,
        (width, height),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(IGNORE_ID,),
    )
    return np.asarray(image, np.uint8), np.asarray(labels, np.uint8)


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


def change_colours(config: ColourConfig, rng: np.random.Generator, image_HW3: Image) -> Image:
    """Colour matrix, brightness curve, and sometimes blur and noise."""
    mean_grey = float(np.dot(cv2.mean(image_HW3)[:3], _LUMA))
    image = cv2.transform(image_HW3, draw_colour_matrix(config, rng, mean_grey))
    power = math.exp(rng.uniform(-1, 1) * math.log1p(config.gamma))
    if power != 1.0:
        curve = 255.0 * (np.arange(256) / 255.0) ** power
        image = cv2.LUT(image, np.round(curve).astype(np.uint8))
    if rng.random() < config.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < config.noise:
        grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2.0, 8.0))
        image = np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)
    return np.asarray(image, np.uint8)


def augment(
    config: AugmentConfig, rng: np.random.Generator, sample: Sample, crop: tuple[int, int]
) -> tuple[Image, Labels]:
    """A random crop (height, width) of a sample with changed colours: uint8 RGB image and labels."""
    placement = draw_placement(config, rng, sample.labels_HW.shape, crop)  # type: ignore[arg-type]
    image, labels = place(sample, placement, crop)
    return change_colours(config, rng, image), labels
